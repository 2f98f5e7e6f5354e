package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// copySize is what one read or write of a file's content takes.
const copySize = 64 << 10

// stat describes a path. A link is described itself, with the end of its chain.
func (a *Agent) stat(_ context.Context, req protocol.FileRequest) (protocol.FileStat, error) {
	t, s, err := a.open(string(req.Path))
	if err != nil {
		return s, err
	}
	t.close()
	return s, nil
}

// read returns a path as a tar whose top entry has the path's last element as its name, as dockerd has it. A link is
// itself; a path that ends in a slash or a dot is what is behind it.
func (a *Agent) read(ctx context.Context, req protocol.FileRequest) (protocol.FileStat, wire.Body, error) {
	t, s, err := a.open(string(req.Path))
	if err != nil {
		return s, nil, err
	}
	r, err := a.send(ctx, t, filepath.Base(t.path), false)
	return s, r, err
}

// export returns the whole root file system as a tar, without what is mounted in it.
func (a *Agent) export(ctx context.Context, _ struct{}) (struct{}, wire.Body, error) {
	t, err := openTop("/")
	if err != nil {
		return struct{}{}, nil, err
	}
	r, err := a.send(ctx, t, "", true)
	return struct{}{}, r, err
}

// send returns a tree as a tar. What cannot be read at all is a refusal, where it can be told before, and not
// a stream that breaks off.
func (a *Agent) send(ctx context.Context, t *top, name string, whole bool) (wire.Body, error) {
	if !hasCapability(unix.CAP_DAC_READ_SEARCH) && !hasCapability(unix.CAP_DAC_OVERRIDE) {
		if err := a.readable(ctx, t, whole); err != nil {
			t.close()
			return nil, err
		}
	}
	return &tree{walk: a.walk(t, whole), top: t, name: name, done: a.busy()}, nil
}

// tree is a file tree that is to be sent.
type tree struct {
	walk *walk
	top  *top
	name string
	done func()
}

func (t *tree) Send(w io.Writer) error { return writeTree(w, t.walk, t.top, t.name) }

func (t *tree) Close() error {
	t.top.close()
	t.done()
	return nil
}

// readable looks for what this user may not read.
func (a *Agent) readable(ctx context.Context, t *top, whole bool) error {
	w := a.walk(t, whole)
	return w.visit(t, "", func(at int, f *file) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		want := uint32(unix.R_OK)
		switch {
		case f.hidden:
			return nil
		case f.isDir():
			want |= unix.X_OK
		case f.mode&unix.S_IFMT != unix.S_IFREG:
			return nil
		}
		err := unix.Faccessat2(at, f.base, want, unix.AT_EACCESS)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return wire.Errorf(protocol.CodePermission, "cannot read %s: the container runs as uid %d, which may not: %v",
				w.path(f.rel), os.Geteuid(), err)
		}
		return nil
	})
}

// top is an opened path: a directory and a name in it, which is "." if the path is to be a directory itself.
type top struct {
	path string
	at   int
	base string
}

func (t *top) close() { closeFD(t.at) }

// open opens a path that a user names and describes what is there. Docker's view of a container's files has no content
// in /proc and the like, and the agent's own folder is nobody's business.
func (a *Agent) open(path string) (*top, protocol.FileStat, error) {
	var s protocol.FileStat
	if err := checkPath(path); err != nil {
		return nil, s, err
	}
	t, err := openTop(path)
	if err != nil {
		return nil, s, err
	}
	f, err := lookup(t.at, t.base)
	switch {
	case err == nil && virtual(t.at) && (t.base != "." || f.mountKnown && !f.mount):
		err = wire.Errorf(protocol.CodeNoPath, "%s: %v", path, unix.ENOENT)
	case err == nil:
		err = a.foreign(path, t.at, t.base)
	default:
		err = fileError(path, err)
	}
	if err != nil {
		t.close()
		return nil, s, err
	}
	mode := fileMode(f.mode)
	s = protocol.FileStat{Name: filepath.Base(path), Size: f.size, Mode: uint32(mode), ModTime: f.modified()}
	if mode&os.ModeSymlink != 0 {
		s.LinkTarget = follow(path)
	}
	return t, s, nil
}

func openTop(path string) (*top, error) {
	dir, base := filepath.Split(path)
	if base == "" || base == "." || base == ".." {
		dir, base = path, "."
	}
	fd, err := openPath(dir)
	if err != nil {
		return nil, fileError(path, err)
	}
	return &top{path, fd, base}, nil
}

// openPath opens a directory by a path whose links are followed, but for those in /proc that lead anywhere.
func openPath(dir string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	switch err {
	case unix.ENOSYS, unix.EPERM: // before Linux 5.6, or under a filter that does not know the call
		return unix.Open(dir, flags, 0)
	case unix.ELOOP:
		if _, err := filepath.EvalSymlinks(dir); err == nil {
			return -1, unix.ENOENT
		}
	}
	return fd, err
}

// foreign refuses what is in the agent's own folder: it belongs neither to the image nor to the container.
func (a *Agent) foreign(path string, at int, base string) error {
	real, err := filepath.EvalSymlinks(a.settings.Dir)
	if err != nil {
		return fmt.Errorf("cannot find the agent's own folder: %w", err)
	}
	// Without a /proc nothing else says where a descriptor is; then the name has to.
	where := filepath.Clean(path)
	if dir, ok := readlink(unix.AT_FDCWD, descriptor(at)); ok {
		where = filepath.Join(dir, base)
	}
	if _, ok := below(real, where); ok {
		return wire.Errorf(protocol.CodePermission, "%s: it belongs to Sockerless", path)
	}
	return nil
}

// fileMode translates a mode to Go's, which Docker's API speaks.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK:
		m |= os.ModeDevice
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	}
	for bit, flag := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// follow returns the absolute path at the end of a chain of links, also where nothing is there.
func follow(path string) string {
	const limit = 255 // as filepath.EvalSymlinks
	done := "/"
	todo := strings.Split(path, "/")
	for n := 0; len(todo) > 0; {
		next := filepath.Join(done, todo[0])
		todo = todo[1:]
		target, err := os.Readlink(next)
		if n++; err != nil || n > limit {
			done = next
			continue
		}
		if filepath.IsAbs(target) {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done
}

func checkPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return wire.Errorf(protocol.CodeInvalid, "the path %q is not absolute", path)
	case strings.IndexByte(path, 0) >= 0:
		return wire.Errorf(protocol.CodeInvalid, "the path %q holds a NUL byte", path)
	}
	return nil
}

// fileError gives an error of the file system its code.
func fileError(path string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	var code string
	switch errno {
	case syscall.ENOENT:
		code = protocol.CodeNoPath
	case syscall.ENOTDIR:
		code = protocol.CodeNotDirectory
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		code = protocol.CodePermission
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		code = protocol.CodeNoSpace
	case syscall.ENAMETOOLONG, syscall.ELOOP:
		code = protocol.CodeInvalid
	default:
		return fmt.Errorf("%s: %w", path, errno)
	}
	return wire.Errorf(code, "%s: %v", path, errno)
}

// gone takes the error away from what was deleted between the listing and the reading, or whose place a link or another kind
// of file has taken.
func gone(path string, err error) error {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO} { // the last is a socket's, or a fifo's
		if errors.Is(err, e) {
			return nil
		}
	}
	return fileError(path, err)
}

func (f *file) modified() time.Time { return time.Unix(f.mtime.Sec, int64(f.mtime.Nsec)) }
