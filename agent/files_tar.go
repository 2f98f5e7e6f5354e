package agent

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// treeWriter writes a tree as a tar.
type treeWriter struct {
	tar   *tar.Writer
	walk  *walk
	name  string // of the top; "" leaves the top out
	links map[inode]*linkName
	buf   []byte
}

// linkName is the first name of a file that has several, as long as not all of them are written.
type linkName struct {
	name string
	left uint32
}

// sendSize is how much of a tar is passed on at a time: see wire.CopyBulk.
const sendSize = 256 << 10

// writeTree writes what t names to w. It is called name there; without a name it has no entry itself.
func writeTree(w io.Writer, walk *walk, t *top, name string) error {
	out := bufio.NewWriterSize(w, sendSize)
	x := &treeWriter{tar: tar.NewWriter(out), walk: walk, name: name, links: map[inode]*linkName{}, buf: make([]byte, copySize)}
	if err := walk.visit(t, "", x.add); err != nil {
		return err
	}
	if err := x.tar.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// entry is the name of a file in the tar.
func (t *treeWriter) entry(f *file) string {
	switch {
	case f.rel == "":
		return t.name
	case t.name == "":
		return f.rel[1:]
	case t.name == "/":
		return f.rel
	}
	return t.name + f.rel
}

// add writes one entry.
func (t *treeWriter) add(at int, f *file) error {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: t.entry(f), Mode: int64(f.mode & 0o7777), Uid: int(f.uid), Gid: int(f.gid),
		// dockerd truncates to seconds too; more would cost a PAX record for every entry.
		ModTime: time.Unix(f.mtime.Sec, 0),
	}
	switch f.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.addDir(h)
	case unix.S_IFREG:
		return t.addFile(at, h, f)
	case unix.S_IFLNK:
		target, ok := readlink(at, f.base)
		if !ok {
			return nil // it has vanished, or is something else by now
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if f.mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(f.rdev[0]), int64(f.rdev[1])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil // a socket means nothing without the process behind it; dockerd leaves it out too
	}
	if t.linked(h, f) {
		h.Typeflag = tar.TypeLink
	}
	return t.tar.WriteHeader(h)
}

func (t *treeWriter) addDir(h *tar.Header) error {
	if h.Name == "" {
		return nil
	}
	h.Typeflag = tar.TypeDir
	if h.Name != "/" {
		h.Name += "/"
	}
	return t.tar.WriteHeader(h)
}

func (t *treeWriter) addFile(at int, h *tar.Header, f *file) error {
	h.Typeflag = tar.TypeReg
	if f.hidden {
		return t.tar.WriteHeader(h) // the file below the mount is empty, as those are that a runtime makes to mount on
	}
	if t.linked(h, f) {
		h.Typeflag = tar.TypeLink
		return t.tar.WriteHeader(h)
	}
	path := t.walk.path(f.rel)
	fd, err := unix.Openat(at, f.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		delete(t.links, f.inode)
		return gone(path, err)
	}
	in := os.NewFile(uintptr(fd), path)
	defer in.Close()
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return fileError(path, err)
	}
	if now.Mode&unix.S_IFMT != unix.S_IFREG {
		delete(t.links, f.inode)
		return nil // something else has taken its place
	}
	h.Size = now.Size
	addXattrs(h, fd)
	if now.Size <= copySize {
		// It may shrink as much as it likes before it is read: logs that are rotated do.
		n, err := io.ReadFull(in, t.buf[:now.Size])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fileError(path, err)
		}
		h.Size = int64(n)
		if err := t.tar.WriteHeader(h); err != nil {
			return err
		}
		_, err = t.tar.Write(t.buf[:n])
		return err
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	return t.content(in, now.Size, now.Blocks*512 < now.Size)
}

// content writes a file's content. A file that grows is cut at the size that the header tells; one that shrinks leaves
// nothing true to write. Holes are not read: they would cost time, and the page cache.
func (t *treeWriter) content(in *os.File, size int64, sparse bool) error {
	at := int64(0)
	for at < size {
		data, end := at, size
		if sparse {
			data, end = extent(int(in.Fd()), at, size)
		}
		for at < data {
			n, err := t.tar.Write(zeros[:min(data-at, copySize)])
			if at += int64(n); err != nil {
				return err
			}
		}
		for at < end {
			n, err := in.ReadAt(t.buf[:min(end-at, copySize)], at)
			if n == 0 && errors.Is(err, io.EOF) {
				return fmt.Errorf("cannot read %s: it became shorter while it was read", in.Name())
			}
			if n == 0 && err != nil {
				return fileError(in.Name(), err)
			}
			if _, err := t.tar.Write(t.buf[:n]); err != nil {
				return err
			}
			at += int64(n)
		}
	}
	return nil
}

// extent returns the next part of a file, from at on, that is no hole. Where the file system does not tell, all is data.
func extent(fd int, at, size int64) (data, end int64) {
	data, err := unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // a hole until the end
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Size >= size {
			return size, size
		}
		return at, size // it became shorter, as the reading finds
	case err != nil || data < at:
		return at, size
	}
	if end, err = unix.Seek(fd, data, unix.SEEK_HOLE); err != nil || end <= data {
		end = size
	}
	return min(data, size), min(end, size)
}

// linked reports whether the file is in the tar already, under another name, and notes that name in h.
func (t *treeWriter) linked(h *tar.Header, f *file) bool {
	if f.nlink < 2 {
		return false
	}
	first, ok := t.links[f.inode]
	if !ok {
		t.links[f.inode] = &linkName{h.Name, f.nlink - 1}
		return false
	}
	if first.left--; first.left == 0 {
		delete(t.links, f.inode)
	}
	h.Linkname, h.Devmajor, h.Devminor = first.name, 0, 0
	return true
}

// addXattrs adds what a copy must keep: capabilities, as dockerd does.
func addXattrs(h *tar.Header, fd int) {
	const name = "security.capability"
	value := make([]byte, 64)
	if n, err := unix.Fgetxattr(fd, name, value); err == nil && n > 0 {
		h.PAXRecords = map[string]string{xattrRecord + name: string(value[:n])}
	}
}

const xattrRecord = "SCHILY.xattr."
