package agent

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// place is an open directory below the base.
type place struct {
	fd  int
	rel string // resolved: without links
}

// open returns the directory of a clean name and the name's last element. With makeDirs it makes directories that are missing.
func (x *unpacker) open(name string, makeDirs bool) (place, string, error) {
	dir, base := path.Split(name)
	if x.parent.fd >= 0 && x.name == dir {
		return x.parent, base, nil
	}
	p, err := x.walk(dir, makeDirs)
	if err != nil {
		return place{}, "", err
	}
	x.forget()
	x.parent, x.name = p, dir
	return p, base, nil
}

// forget closes the parent that is kept: it may have been replaced.
func (x *unpacker) forget() {
	if x.parent.fd >= 0 {
		closeFD(x.parent.fd)
		x.parent.fd = -1
	}
}

// maxLinks is the kernel's limit on links in one path.
const maxLinks = 40

// walk opens a directory below the base. The caller closes its descriptor.
func (x *unpacker) walk(dir string, makeDirs bool) (place, error) {
	fd, err := unix.FcntlInt(uintptr(x.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return place{}, err
	}
	stack := []place{{fd, "."}}
	leave := func() {
		for _, p := range stack {
			closeFD(p.fd)
		}
	}
	todo := strings.Split(dir, "/")
	for links := 0; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		at := stack[len(stack)-1]
		switch next {
		case "", ".":
			continue
		case "..": // of a link
			if len(stack) > 1 {
				closeFD(at.fd)
				stack = stack[:len(stack)-1]
			} else if x.base != "/" {
				leave()
				return place{}, x.escape(dir)
			}
			continue
		}
		fd, err := openDir(at.fd, next)
		if err == unix.ENOENT && makeDirs { //nolint:errorlint // a bare errno
			if err = unix.Mkdirat(at.fd, next, 0o755); err == nil || err == unix.EEXIST { //nolint:errorlint // a bare errno
				fd, err = openDir(at.fd, next)
			}
		}
		if err == nil {
			stack = append(stack, place{fd, path.Join(at.rel, next)})
			if err := x.enterable(fd); err != nil {
				leave()
				return place{}, err
			}
			continue
		}
		target, isLink := readlink(at.fd, next)
		if !isLink {
			leave()
			return place{}, err
		}
		if links++; links > maxLinks {
			leave()
			return place{}, unix.ELOOP
		}
		if path.IsAbs(target) {
			rel, ok := below(x.base, path.Clean(target))
			if !ok {
				leave()
				return place{}, x.escape(dir)
			}
			for _, p := range stack[1:] {
				closeFD(p.fd)
			}
			stack, target = stack[:1], rel
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	last := stack[len(stack)-1]
	stack = stack[:len(stack)-1]
	leave()
	return last, nil
}

// enterable refuses directories that are not the container's.
func (x *unpacker) enterable(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch own := (inode{st.Dev, st.Ino}); {
	case own == x.agents:
		return wire.Errorf(protocol.CodePermission, "cannot write to Sockerless's own folder")
	case virtual(fd):
		return errKernels
	}
	return nil
}

var errKernels = wire.Errorf(protocol.CodePermission, "cannot write to what is the kernel's: /proc, /sys and the like")

// below returns p relative to base, if it is below it or the same.
func below(base, p string) (string, bool) {
	if base == "/" {
		return p[1:], true
	}
	if p == base {
		return ".", true
	}
	return strings.CutPrefix(p, base+"/")
}

// clear takes away what is in the way of an entry, and reports whether a directory stays that the entry is merged with.
func (x *unpacker) clear(parent place, base, name string, isDir bool) (exists bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT { //nolint:errorlint // a bare errno
		return false, nil
	}
	if err != nil {
		return false, fileError(x.path(name), err)
	}
	wasDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if wasDir {
		fd, err := openDir(parent.fd, base)
		if err != nil {
			return false, fileError(x.path(name), err)
		}
		err = x.enterable(fd)
		closeFD(fd)
		if err != nil {
			return true, err
		}
	}
	switch {
	case wasDir && isDir:
		return true, nil
	case x.req.NoOverwriteDirNonDir && wasDir:
		return false, wire.Errorf(protocol.CodeDirConflict, "cannot overwrite directory %q with non-directory %q", x.path(name), x.req.Path)
	case x.req.NoOverwriteDirNonDir && isDir:
		return false, wire.Errorf(protocol.CodeDirConflict, "cannot overwrite non-directory %q with directory %q", x.path(name), x.req.Path)
	case wasDir:
		err = x.rooted.RemoveAll(path.Join(parent.rel, base))
	default:
		err = unix.Unlinkat(parent.fd, base, 0)
	}
	if err != nil {
		return false, fileError(x.path(name), err)
	}
	return false, nil
}

func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func readlink(at int, name string) (string, bool) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buf)
	return string(buf[:max(n, 0)]), err == nil
}
