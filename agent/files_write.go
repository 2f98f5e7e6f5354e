package agent

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// write unpacks a tar into a directory.
func (a *Agent) write(ctx context.Context, req protocol.WriteRequest, body io.Reader) (struct{}, error) {
	defer a.busy()()
	if err := checkPath(string(req.Path)); err != nil {
		return struct{}{}, err
	}
	for _, dir := range req.Dirs {
		if err := os.MkdirAll(string(dir), 0o755); err != nil {
			return struct{}{}, fileError(string(dir), err)
		}
	}
	x, err := newUnpacker(ctx, req)
	if err != nil {
		return struct{}{}, err
	}
	defer x.close()
	if err := x.keepOut(a); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, x.unpack(body)
}

// unpack reads the request's body to its end.
func (x *unpacker) unpack(body io.Reader) error {
	archive, err := decompress(body)
	if err != nil {
		return err
	}
	if err := x.run(archive); err != nil {
		return err
	}
	// What is behind the archive's end belongs to the request: its connection is used again.
	_, err = io.Copy(io.Discard, body)
	return err
}

// keepOut keeps the archive out of the agent's own folder, and out of what the kernel shows in files: writing there
// changes the machine, or the agent.
func (x *unpacker) keepOut(a *Agent) error {
	if virtual(x.root) {
		return errKernels
	}
	if err := a.foreign(string(x.req.Path), x.root, "."); err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Stat(a.settings.Dir, &st) == nil { // else there is nothing to keep out of
		x.agents = inode{st.Dev, st.Ino}
	}
	return nil
}

// decompress undoes what the Docker API allows an archive to be packed with, as far as the standard library can.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, copySize)
	magic, _ := b.Peek(6) // a short archive is told by the tar reader
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, wire.Errorf(protocol.CodeInvalid, "cannot read the archive: %v", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(b), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, wire.Errorf(protocol.CodeInvalid, "cannot read the archive: xz is not supported; gzip and bzip2 are")
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return nil, wire.Errorf(protocol.CodeInvalid, "cannot read the archive: zstd is not supported; gzip and bzip2 are")
	}
	return b, nil
}

// unpacker writes the entries of a tar below a directory and nowhere else. It walks every path by hand, one directory
// descriptor after the other without following links, so that neither the archive's links, nor those that are there,
// nor a process that changes them meanwhile can lead it out. A link that stays inside is followed, an absolute one too.
type unpacker struct {
	stopped <-chan struct{} // closed when the client is gone
	req     protocol.WriteRequest
	base    string // the directory, without links
	root    int    // its descriptor
	rooted  *os.Root
	uid     int // who owns what is written; -1: whom the archive says
	gid     int
	chown   bool // the agent may give files away
	dirs    []madeDir
	buf     []byte
	agents  inode // the agent's own folder, which is not touched

	parent place // of the last entry; the next one often has the same
	name   string
}

// place is an open directory below the base.
type place struct {
	fd  int
	rel string // resolved: without links
}

type madeDir struct {
	name string
	time time.Time
}

func newUnpacker(ctx context.Context, req protocol.WriteRequest) (*unpacker, error) {
	at := string(req.Path)
	root, err := openPath(at)
	if err != nil {
		return nil, fileError(at, err)
	}
	// Where that is now. Without a /proc the path tells, as long as nobody changes what it leads through.
	again := descriptor(root)
	base, ok := readlink(unix.AT_FDCWD, again)
	if !ok {
		if base, err = filepath.EvalSymlinks(at); err != nil {
			closeFD(root)
			return nil, fileError(at, err)
		}
		again = base
	}
	x := &unpacker{
		stopped: ctx.Done(), req: req, root: root, base: base, uid: -1, gid: -1, chown: hasCapability(unix.CAP_CHOWN),
		buf: make([]byte, copySize), parent: place{fd: -1},
	}
	if req.CopyUIDGID && req.User != "" {
		u, err := findUser(req.User, nil)
		if err != nil {
			closeFD(x.root)
			return nil, wire.Errorf(protocol.CodeNoUser, "%v", err)
		}
		x.uid, x.gid = u.Uid, u.Gid
	}
	if x.rooted, err = os.OpenRoot(again); err != nil {
		closeFD(x.root)
		return nil, fileError(at, err)
	}
	return x, nil
}

func (x *unpacker) close() {
	x.forget()
	closeFD(x.root)
	_ = x.rooted.Close() // nothing was written through it
}

func (x *unpacker) run(archive io.Reader) error {
	t := tar.NewReader(archive)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return wire.Errorf(protocol.CodeInvalid, "cannot read the archive: %v", err)
		}
		if err := x.entry(h, t); err != nil {
			return err
		}
	}
	// Last, because every file that is made in a directory changes its time.
	for _, d := range x.dirs {
		parent, base, err := x.open(d.name, false)
		if err == nil {
			err = setTimes(parent.fd, base, d.time, time.Time{})
		}
		if err != nil && !tolerable(err) {
			return fileError(x.path(d.name), err)
		}
	}
	return nil
}

// entry makes one entry.
func (x *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := x.inside(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the directory itself keeps what it is, as with dockerd
	}
	parent, base, err := x.open(name, true)
	if err != nil {
		return fileError(x.path(name), err)
	}
	isDir := h.Typeflag == tar.TypeDir
	exists, err := x.clear(parent, base, name, isDir)
	if isDir && exists && errors.Is(err, errKernels) {
		return nil // an archive of a whole root file system has a folder for each mount point
	}
	if err != nil {
		return err
	}
	if err := x.make(parent, base, h, content, exists); err != nil {
		if _, ok := errors.AsType[*wire.Error](err); ok {
			return err
		}
		return fileError(x.path(name), err)
	}
	if h.Typeflag == tar.TypeDir {
		x.dirs = append(x.dirs, madeDir{name, h.ModTime})
	}
	return nil
}

// inside cleans a name of the archive. One that leads out of the directory is refused.
func (x *unpacker) inside(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", wire.Errorf(protocol.CodeInvalid, "the archive holds the name %q with a NUL byte", name)
	}
	// The kernel takes no longer path; each element would cost a descriptor.
	if len(name) >= unix.PathMax {
		return "", wire.Errorf(protocol.CodeInvalid, "the archive holds a name of %d bytes, %.40q...: at most %d", len(name), name, unix.PathMax-1)
	}
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", x.escape(name)
	}
	return clean, nil
}

func (x *unpacker) escape(name string) error {
	return wire.Errorf(protocol.CodeInvalid, "the archive's entry %q leads out of %s", name, x.req.Path)
}

func (x *unpacker) path(name string) string { return filepath.Join(string(x.req.Path), name) }

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

// make makes one entry in an open directory.
func (x *unpacker) make(parent place, base string, h *tar.Header, content io.Reader, exists bool) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if !exists {
			if err := unix.Mkdirat(parent.fd, base, 0o700); err != nil {
				return err
			}
		}
		err := x.dress(parent.fd, base, h)
		if exists && tolerable(err) {
			return nil // another user's, to which the agent may add and no more
		}
		return err
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.makeFile(parent.fd, base, h, content)
	case tar.TypeLink:
		target, err := x.inside(h.Linkname)
		if err != nil {
			return err
		}
		dir, last := path.Split(target)
		from, err := x.walk(dir, false)
		if err != nil {
			return err
		}
		defer closeFD(from.fd)
		return unix.Linkat(from.fd, last, parent.fd, base, 0)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent.fd, base); err != nil {
			return err
		}
		if err := x.own(parent.fd, base, h); err != nil {
			return err
		}
		return setTimes(parent.fd, base, h.ModTime, h.AccessTime)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		mode := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		if err := unix.Mknodat(parent.fd, base, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
		if err := x.dress(parent.fd, base, h); err != nil {
			return err
		}
		return setTimes(parent.fd, base, h.ModTime, h.AccessTime)
	}
	return wire.Errorf(protocol.CodeInvalid, "the archive's entry %q is of the unknown type %q", h.Name, h.Typeflag)
}

func (x *unpacker) makeFile(parent int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := x.fill(f, content, h.Size); err != nil {
		return err
	}
	if err := x.dress(parent, base, h); err != nil {
		return err
	}
	if err := setTimes(parent, base, h.ModTime, h.AccessTime); err != nil {
		return err
	}
	return f.Close()
}

// zeros is what a hole reads as.
var zeros [copySize]byte

// fill writes a file's content. What is zero becomes a hole: an archive of some bytes may tell of terabytes of them.
func (x *unpacker) fill(f *os.File, content io.Reader, size int64) error {
	var at int64
	written := int64(0) // the file's size so far
	for {
		n, err := io.ReadFull(content, x.buf)
		if block := x.buf[:n]; !bytes.Equal(block, zeros[:n]) {
			if _, err := f.WriteAt(block, at); err != nil {
				return err
			}
			written = at + int64(n)
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF: // the latter for the last block, and for an archive that is cut off
			if at < size {
				return wire.Errorf(protocol.CodeInvalid, "cannot read the archive: %v", io.ErrUnexpectedEOF)
			}
			if at > written {
				return f.Truncate(at)
			}
			return nil
		default:
			return wire.Errorf(protocol.CodeInvalid, "cannot read the archive: %v", err)
		}
		select {
		case <-x.stopped:
			return context.Canceled
		default:
		}
	}
}

// dress gives what was made its owner, mode and attributes; in this order, for a change of the owner takes some of them away.
func (x *unpacker) dress(parent int, base string, h *tar.Header) error {
	if err := x.own(parent, base, h); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP // somebody has put a link there meanwhile
	}
	self := descriptor(fd) // chmod and setxattr of a descriptor need one that is open for more
	if err := unix.Chmod(self, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	for record, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(record, xattrRecord); ok {
			// As with dockerd, what the file system or the rights do not allow is left out.
			if err := unix.Setxattr(self, name, []byte(value), 0); err != nil && !tolerable(err) && err != unix.ENOTSUP {
				return fmt.Errorf("cannot set the attribute %s: %w", name, err)
			}
		}
	}
	return nil
}

// own gives what was made to whom it is to belong.
func (x *unpacker) own(parent int, base string, h *tar.Header) error {
	uid, gid := h.Uid, h.Gid
	if x.uid >= 0 {
		uid, gid = x.uid, x.gid
	}
	if !x.chown {
		if x.req.CopyUIDGID && (uid != os.Geteuid() || gid != os.Getegid()) {
			return wire.Errorf(protocol.CodePermission,
				"cannot give %s to uid %d, gid %d: the container runs as uid %d and may not change owners", x.path(h.Name), uid, gid, os.Geteuid())
		}
		return nil
	}
	return unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func setTimes(parent int, base string, modified, accessed time.Time) error {
	if accessed.Before(modified) {
		accessed = modified
	}
	var ts [2]unix.Timespec
	for i, t := range []time.Time{accessed, modified} {
		var err error
		if ts[i], err = unix.TimeToTimespec(t); err != nil {
			ts[i] = unix.Timespec{} // before 1901 or so on 32 bits, or nonsense
		}
	}
	return unix.UtimesNanoAt(parent, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

// tolerable is true for what a user without rights meets on files of others.
func tolerable(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func readlink(at int, name string) (string, bool) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buf)
	return string(buf[:max(n, 0)]), err == nil
}
