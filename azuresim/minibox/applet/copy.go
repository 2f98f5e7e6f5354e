package applet

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// intoFolder is where cp, mv and ln put the operand name: in the folder that the last operand is, or at it.
func (c *call) intoFolder() (sources []string, target func(string) string, ok bool) {
	if !c.need(2, -1) {
		return nil, nil, false
	}
	last := c.args[len(c.args)-1]
	sources = c.args[:len(c.args)-1]
	info, err := os.Stat(last)
	folder := err == nil && info.IsDir()
	if len(sources) > 1 && !folder {
		c.errorf("target '%s': Not a directory", last)
		return nil, nil, false
	}
	return sources, func(name string) string {
		if folder {
			return filepath.Join(last, filepath.Base(name))
		}
		return last
	}, true
}

func cp(c *call) {
	f, ok := c.flags("rRapfdLPT", map[string]byte{"recursive": 'r', "archive": 'a', "preserve": 'p', "force": 'f'})
	if !ok {
		return
	}
	if f.has('T') {
		c.usagef("unrecognized option '-T'")
		return
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	o := copyOptions{
		recursive: f.has('r') || f.has('R') || f.has('a'),
		preserve:  f.has('p') || f.has('a'),
		links:     (f.has('r') || f.has('R') || f.has('a') || f.has('d') || f.has('P')) && !f.has('L'),
		force:     f.has('f'),
	}
	for _, name := range sources {
		c.copyTree(name, target(name), o)
	}
}

type copyOptions struct{ recursive, preserve, links, force bool }

// copyTree copies name to dst, which is its full new name, and tells what it cannot copy.
func (c *call) copyTree(name, dst string, o copyOptions) bool {
	stat := os.Stat
	if o.links {
		stat = os.Lstat
	}
	info, err := stat(name)
	if err != nil {
		c.fail(name, err)
		return false
	}
	if there, err := os.Stat(dst); err == nil && os.SameFile(info, there) {
		c.errorf("'%s' and '%s' are the same file", name, dst)
		return false
	}
	ok := true
	switch mode := info.Mode(); {
	case mode.IsDir():
		if !o.recursive {
			c.errorf("-r not specified; omitting directory '%s'", name)
			return false
		}
		from, _ := filepath.Abs(name)
		if to, _ := filepath.Abs(dst); strings.HasPrefix(to+"/", from+"/") {
			c.errorf("cannot copy a directory, '%s', into itself, '%s'", name, dst)
			return false
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			c.fail(name, err)
			return false
		}
		if err := os.Mkdir(dst, mode.Perm()|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			c.fail(dst, err)
			return false
		}
		for _, e := range entries {
			ok = c.copyTree(filepath.Join(name, e.Name()), filepath.Join(dst, e.Name()), o) && ok
		}
	case mode&fs.ModeSymlink != 0:
		to, err := os.Readlink(name)
		if err == nil {
			_ = os.Remove(dst) // what stays there, Symlink tells
			err = os.Symlink(to, dst)
		}
		if err != nil {
			c.fail(dst, err)
			return false
		}
	case mode.IsRegular() || !o.recursive:
		if err := copyFile(name, dst, mode.Perm(), o.force); err != nil {
			c.fail(dst, err)
			return false
		}
	case mode&fs.ModeNamedPipe != 0:
		if err := unix.Mkfifo(dst, uint32(mode.Perm())); err != nil {
			c.fail(dst, err)
			return false
		}
	default:
		st := info.Sys().(*syscall.Stat_t)
		if err := unix.Mknod(dst, st.Mode, int(st.Rdev)); err != nil {
			c.fail(dst, err)
			return false
		}
	}
	if o.preserve {
		if err := preserve(dst, info); err != nil {
			c.fail(dst, err)
			return false
		}
	}
	return ok
}

func copyFile(name, dst string, perm fs.FileMode, force bool) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil && force {
		_ = os.Remove(dst) // as OpenFile tells
		out, err = os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func preserve(dst string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil && os.Geteuid() == 0 {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err := os.Chmod(dst, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(dst, info.ModTime(), info.ModTime())
}

func mv(c *call) {
	if _, ok := c.flags("fT", map[string]byte{"force": 'f'}); !ok {
		return
	}
	sources, target, ok := c.intoFolder()
	if !ok {
		return
	}
	for _, name := range sources {
		dst := target(name)
		err := os.Rename(name, dst)
		if errors.Is(err, unix.EXDEV) { // another file system: copy, then remove
			if c.copyTree(name, dst, copyOptions{recursive: true, preserve: true, links: true, force: true}) {
				err = os.RemoveAll(name)
			} else {
				err = nil // told by copyTree
			}
		}
		if err != nil {
			c.errorf("cannot move '%s' to '%s': %v", name, dst, reason(err))
		}
	}
}
