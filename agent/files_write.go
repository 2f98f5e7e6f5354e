package agent

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
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

	unfolded int64 // the sizes of sparse files so far

	parent place // of the last entry; the next one often has the same
	name   string
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
		if err := x.date(d); err != nil && !tolerable(err) {
			return fileError(x.path(d.name), err)
		}
	}
	return nil
}

// date sets the time of a directory.
func (x *unpacker) date(d madeDir) error {
	parent, base, err := x.open(d.name, false)
	if err != nil {
		return err
	}
	fd, err := openDir(parent.fd, base)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return setTimes(fd, d.time, time.Time{})
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
