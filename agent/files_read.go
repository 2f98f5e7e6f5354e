package agent

import (
	"archive/tar"
	"bufio"
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
	return statPath(req.Path)
}

func statPath(path string) (protocol.FileStat, error) {
	if err := checkPath(path); err != nil {
		return protocol.FileStat{}, err
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return protocol.FileStat{}, fileError(path, err)
	}
	s := protocol.FileStat{Name: filepath.Base(path), Size: fi.Size(), Mode: uint32(fi.Mode()), ModTime: fi.ModTime()}
	if fi.Mode()&os.ModeSymlink != 0 {
		s.LinkTarget = follow(path)
	}
	return s, nil
}

// read returns a path as a tar whose top entry has the path's last element as its name, as dockerd has it. A link is
// itself; a path that ends in a slash or a dot is what is behind it.
func (a *Agent) read(_ context.Context, req protocol.FileRequest) (protocol.FileStat, io.ReadCloser, error) {
	s, err := statPath(req.Path)
	if err != nil {
		return s, nil, err
	}
	if os.FileMode(s.Mode).IsRegular() {
		// So that what cannot be read at all is a refusal, not a stream that breaks off.
		f, err := os.OpenFile(req.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return s, nil, fileError(req.Path, err)
		}
		f.Close()
	}
	r, w := io.Pipe()
	done := a.busy()
	go func() { // ends with the tree, or when r is closed
		defer done()
		w.CloseWithError(writeTree(w, req.Path, a.settings.Dir))
	}()
	return s, r, nil
}

// treeWriter writes a tree as a tar.
type treeWriter struct {
	tar   *tar.Writer
	skip  string           // the agent's own folder
	links map[inode]string // the first names of files that have several
	buf   []byte
}

type inode struct{ dev, ino uint64 }

// writeTree writes path as a tar to w.
func writeTree(w io.Writer, path, skip string) error {
	out := bufio.NewWriterSize(w, copySize)
	t := &treeWriter{tar: tar.NewWriter(out), skip: skip, links: map[inode]string{}, buf: make([]byte, copySize)}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileError(path, err)
	}
	if err := t.add(path, filepath.Base(path), &st, st.Dev); err != nil {
		return err
	}
	if err := t.tar.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// add writes a path, and what is below it. dev is where the directory is that it was found in.
func (t *treeWriter) add(path, name string, st *unix.Stat_t, dev uint64) error {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		// dockerd truncates to seconds too; more would cost a PAX record for every entry.
		ModTime: time.Unix(st.Mtim.Sec, 0),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.addDir(path, h, st, dev)
	case unix.S_IFREG:
		return t.addFile(path, h, st)
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return vanished(fileError(path, err))
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil // a socket means nothing without the process behind it; dockerd leaves it out too
	}
	if t.linked(h, st) {
		h.Typeflag = tar.TypeLink
	}
	return t.tar.WriteHeader(h)
}

func (t *treeWriter) addDir(path string, h *tar.Header, st *unix.Stat_t, dev uint64) error {
	if filepath.Clean(path) == t.skip {
		return nil
	}
	h.Typeflag = tar.TypeDir
	prefix := h.Name
	if prefix == "/" {
		prefix = ""
	}
	h.Name = prefix + "/"
	addXattrs(h, path)
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	if st.Dev != dev && virtual(path) {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return vanished(fileError(path, err))
	}
	for _, e := range entries {
		below := filepath.Join(path, e.Name())
		var child unix.Stat_t
		err := unix.Lstat(below, &child)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fileError(below, err)
		}
		if err := t.add(below, prefix+"/"+e.Name(), &child, st.Dev); err != nil {
			return err
		}
	}
	return nil
}

func (t *treeWriter) addFile(path string, h *tar.Header, st *unix.Stat_t) error {
	if t.linked(h, st) {
		h.Typeflag = tar.TypeLink
		return t.tar.WriteHeader(h)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return vanished(fileError(path, err))
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return fileError(path, err)
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("cannot read %s: it was replaced while it was read", path)
	}
	h.Typeflag, h.Size = tar.TypeReg, now.Size
	addXattrs(h, path)
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows is cut at the size that the header tells; one that shrinks leaves nothing true to write.
	n, err := io.CopyBuffer(t.tar, io.LimitReader(f, now.Size), t.buf)
	if err != nil {
		return fileError(path, err)
	}
	if n < now.Size {
		return fmt.Errorf("cannot read %s: it became shorter while it was read", path)
	}
	return nil
}

// linked reports whether the file is in the tar already, under another name, and notes that name in h.
func (t *treeWriter) linked(h *tar.Header, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	key := inode{st.Dev, st.Ino}
	first, ok := t.links[key]
	if !ok {
		t.links[key] = h.Name
		return false
	}
	h.Linkname, h.Devmajor, h.Devminor = first, 0, 0
	return true
}

// addXattrs adds what a copy must keep: capabilities, as dockerd does.
func addXattrs(h *tar.Header, path string) {
	const name = "security.capability"
	value := make([]byte, 64)
	if n, err := unix.Lgetxattr(path, name, value); err == nil && n > 0 {
		h.PAXRecords = map[string]string{xattrRecord + name: string(value[:n])}
	}
}

const xattrRecord = "SCHILY.xattr."

// virtual says whether a mount point is the kernel's or the platform's, which Docker's view of a container's files does not have.
func virtual(path string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return false
	}
	switch fs.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.BINFMTFS_MAGIC, mqueueMagic:
		return true
	case unix.TMPFS_MAGIC:
		return filepath.Clean(path) == "/dev"
	}
	return false
}

const mqueueMagic = 0x19800202 // linux/ipc/mqueue.c; x/sys has no name for it

// vanished takes the error away from what was deleted between the listing and the reading.
func vanished(err error) error {
	if protocol.HasCode(err, protocol.CodeNoPath) {
		return nil
	}
	return err
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
