package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// make makes one entry in an open directory. What is told of it besides its content is set on what was made, by descriptor:
// a process may have put something else under its name meanwhile.
func (x *unpacker) make(parent place, base string, h *tar.Header, content io.Reader, exists bool) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return x.makeDir(parent.fd, base, h, exists)
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
		fd, err := openMade(parent.fd, base, unix.S_IFLNK)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		if err := x.own(fd, h); err != nil {
			return err
		}
		return setTimes(fd, h.ModTime, h.AccessTime)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
		if err := unix.Mknodat(parent.fd, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
		fd, err := openMade(parent.fd, base, kind)
		if err != nil {
			return err
		}
		defer closeFD(fd)
		if err := x.dress(fd, h); err != nil {
			return err
		}
		return setTimes(fd, h.ModTime, h.AccessTime)
	}
	return wire.Errorf(protocol.CodeInvalid, "the archive's entry %q is of the unknown type %q", h.Name, h.Typeflag)
}

func (x *unpacker) makeDir(parent int, base string, h *tar.Header, exists bool) error {
	if !exists {
		if err := unix.Mkdirat(parent, base, 0o700); err != nil {
			return err
		}
	}
	fd, err := openDir(parent, base)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	err = x.dress(fd, h)
	if exists && tolerable(err) {
		return nil // another user's, to which the agent may add and no more
	}
	return err
}

func (x *unpacker) makeFile(parent int, base string, h *tar.Header, content io.Reader) error {
	if err := x.fits(parent, h); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if err := x.fill(f, content, h.Size); err != nil {
		return err
	}
	if err := x.dress(fd, h); err != nil {
		return err
	}
	if err := setTimes(fd, h.ModTime, h.AccessTime); err != nil {
		return err
	}
	return f.Close()
}

// openMade opens what was just made to set on it what it is to be. A link to another file, with which somebody has replaced it,
// is refused.
func openMade(parent int, base string, kind uint32) (int, error) {
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != kind || st.Nlink > 1) {
		err = unix.ELOOP
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

// fits bounds what archive/tar unfolds: some bytes of a sparse archive may tell of exabytes of nothing. All that such an archive
// tells of has to fit on the disk, as it has to with dockerd, which writes it out.
func (x *unpacker) fits(parent int, h *tar.Header) error {
	if !sparse(h) {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(parent, &st); err != nil {
		return err
	}
	if disk := int64(st.Blocks) * st.Bsize; h.Size > disk-x.unfolded {
		return unix.ENOSPC
	}
	x.unfolded += h.Size
	return nil
}

func sparse(h *tar.Header) bool {
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
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
func (x *unpacker) dress(fd int, h *tar.Header) error {
	if err := x.own(fd, h); err != nil {
		return err
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
func (x *unpacker) own(fd int, h *tar.Header) error {
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
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// setTimes sets the times of what is open, a link's own too.
func setTimes(fd int, modified, accessed time.Time) error {
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
	return unix.UtimesNanoAt(unix.AT_FDCWD, descriptor(fd), ts[:], 0) // by the descriptor itself only since Linux 5.8
}

// tolerable is true for what a user without rights meets on files of others.
func tolerable(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
