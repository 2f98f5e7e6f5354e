package applet

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// tarCmd is tar c|x|t with v, z, f FILE, C FOLDER, p and --exclude PATTERN; the dash before the letters is optional.
func tarCmd(c *call) {
	if len(c.args) > 0 && c.args[0] != "" && c.args[0][0] != '-' {
		c.args[0] = "-" + c.args[0]
	}
	f, ok := c.flags("cxtvzf:C:pX:", map[string]byte{"create": 'c', "extract": 'x', "list": 't', "verbose": 'v', "gzip": 'z', "file": 'f', "directory": 'C', "exclude": 'X'})
	if !ok {
		return
	}
	modes := 0
	for _, letter := range []byte("cxt") {
		if f.has(letter) {
			modes++
		}
	}
	if modes != 1 {
		c.usagef("give one of -c, -x, -t")
		return
	}
	var file *os.File
	var err error
	name := f.last('f', "-")
	switch {
	case name == "-" && f.has('c'):
		file = os.Stdout
	case name == "-":
		file = os.Stdin
	case f.has('c'):
		file, err = os.Create(name)
	default:
		file, err = os.Open(name)
	}
	if err != nil {
		c.fail(name, err)
		return
	}
	defer file.Close()
	if dir := f.last('C', ""); dir != "" {
		if err := os.Chdir(dir); err != nil {
			c.fail(dir, err)
			return
		}
	}
	excluded := func(p string) bool {
		for _, pattern := range f['X'] {
			whole, _ := path.Match(pattern, p)
			base, _ := path.Match(pattern, path.Base(p))
			if whole || base {
				return true
			}
		}
		return false
	}
	if f.has('c') {
		if !c.need(1, -1) {
			return
		}
		c.tarCreate(file, f.has('z'), f.has('v'), name == "-", excluded)
		return
	}
	in := bufio.NewReaderSize(file, 64<<10)
	var r io.Reader = in
	if magic, _ := in.Peek(2); f.has('z') || len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		if r, err = gzip.NewReader(in); err != nil {
			c.fail(name, err)
			return
		}
	}
	wanted := func(p string) bool {
		if excluded(p) {
			return false
		}
		for _, a := range c.args {
			if a = strings.TrimSuffix(a, "/"); p == a || strings.HasPrefix(p, a+"/") {
				return true
			}
		}
		return len(c.args) == 0
	}
	c.tarRead(r, f.has('x'), f.has('v'), wanted)
}

func (c *call) tarCreate(file *os.File, zip, verbose, toStdout bool, excluded func(string) bool) {
	buf := bufio.NewWriterSize(file, 64<<10)
	var w io.Writer = buf
	var zw *gzip.Writer
	if zip {
		zw = gzip.NewWriter(buf)
		w = zw
	}
	tw := tar.NewWriter(w)
	links := map[[2]uint64]string{}
	log := io.Writer(c.out)
	if toStdout {
		log = os.Stderr
	}
	self, _ := file.Stat()
	for _, root := range c.args {
		_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				c.fail(p, err)
				return nil
			}
			name := strings.TrimLeft(p, "/")
			if excluded(p) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
			if err := c.tarAdd(tw, p, name, d, links, self); err != nil {
				c.fail(p, err)
			} else if verbose && name != "" {
				fmt.Fprintln(log, name)
			}
			return nil
		})
	}
	err := tw.Close()
	if zw != nil {
		err = errors.Join(err, zw.Close())
	}
	if err = errors.Join(err, buf.Flush()); err != nil {
		c.fail("", err)
	}
}

func (c *call) tarAdd(tw *tar.Writer, p, name string, d fs.DirEntry, links map[[2]uint64]string, self fs.FileInfo) error {
	info, err := d.Info()
	if err != nil || name == "" || info.Mode()&fs.ModeSocket != 0 || os.SameFile(info, self) {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name = strings.TrimSuffix(name, "/") + "/"
	}
	st := info.Sys().(*syscall.Stat_t)
	h.Uname, h.Gname = userName(st.Uid), groupName(st.Gid)
	if info.Mode().IsRegular() && st.Nlink > 1 {
		key := [2]uint64{st.Dev, st.Ino}
		if first, ok := links[key]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		} else {
			links[key] = name
		}
	}
	if h.Typeflag != tar.TypeReg {
		return tw.WriteHeader(h)
	}
	in, err := os.Open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.CopyN(tw, in, h.Size)
	return err
}

// tarRead lists or extracts. Extraction goes through os.Root: no name or link of the archive leads out of the folder.
func (c *call) tarRead(r io.Reader, extract, verbose bool, wanted func(string) bool) {
	root, err := os.OpenRoot(".")
	if err != nil {
		c.fail(".", err)
		return
	}
	defer func() { _ = root.Close() }()
	type late struct {
		name string
		h    *tar.Header
	}
	var folders []late // their modes and times last: they may forbid writing, and writing changes them
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.fail("", err)
			return
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if !wanted(strings.TrimSuffix(h.Name, "/")) && !wanted(name) {
			continue
		}
		if !extract {
			if verbose {
				fmt.Fprintf(c.out, "%s %s/%s %9d %s ", modeString(h.FileInfo().Mode()), h.Uname, h.Gname, h.Size, h.ModTime.Format("2006-01-02 15:04"))
			}
			fmt.Fprint(c.out, h.Name)
			if verbose && h.Linkname != "" {
				fmt.Fprintf(c.out, " -> %s", h.Linkname)
			}
			c.out.newline()
			continue
		}
		if name == "" {
			continue
		}
		if verbose {
			fmt.Fprintln(c.out, h.Name)
		}
		if err := tarExtract(root, tr, h, name); err != nil {
			c.fail(h.Name, err)
			continue
		}
		if h.Typeflag == tar.TypeDir {
			folders = append(folders, late{name, h})
		} else if h.Typeflag != tar.TypeLink {
			tarOwner(root, name, h)
		}
	}
	for i := len(folders) - 1; i >= 0; i-- {
		tarOwner(root, folders[i].name, folders[i].h)
	}
}

func tarExtract(root *os.Root, r io.Reader, h *tar.Header, name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeDir {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	}
	return fmt.Errorf("cannot extract an entry of type %q", h.Typeflag)
}

// tarOwner sets owner, mode and time as far as this user may.
func tarOwner(root *os.Root, name string, h *tar.Header) {
	if os.Geteuid() == 0 {
		_ = root.Lchown(name, h.Uid, h.Gid)
	}
	if h.Typeflag == tar.TypeSymlink {
		return
	}
	_ = root.Chmod(name, h.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
	_ = root.Chtimes(name, h.ModTime, h.ModTime)
}
