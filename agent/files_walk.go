package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// file is one of the files that a walk comes by: what lstat says, and whether something is mounted there.
type file struct {
	base string // in its directory
	rel  string // below the walk's top; "" is that itself

	mode, uid, gid uint32
	nlink          uint32
	inode          inode
	size, blocks   int64
	rdev           [2]uint32 // major, minor
	mtime, ctime   unix.StatxTimestamp
	mount          bool
	mountKnown     bool // mount is valid: the kernel says so, since Linux 5.8
	hidden         bool // the content is not the container's: it is left out
}

type inode struct{ dev, ino uint64 }

func (f *file) isDir() bool { return f.mode&unix.S_IFMT == unix.S_IFDIR }

// lookup describes a name in an open directory. A link is described itself.
func lookup(at int, base string) (*file, error) {
	var st unix.Statx_t
	const want = unix.STATX_BASIC_STATS
	for {
		err := unix.Statx(at, base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, want, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return nil, err
		}
	}
	return &file{
		base: base, mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, nlink: st.Nlink,
		inode: inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, size: int64(st.Size), blocks: int64(st.Blocks),
		rdev: [2]uint32{st.Rdev_major, st.Rdev_minor}, mtime: st.Mtime, ctime: st.Ctime,
		mount:      st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0,
		mountKnown: st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0,
	}, nil
}

// walk goes through a tree from directory to directory by descriptors, never by path: a process that changes the tree
// meanwhile cannot lead it out, and paths may be longer than the kernel takes. Of a directory it holds all names in memory,
// sorted.
type walk struct {
	top   string
	own   inode // the agent's own folder, which is left out
	whole bool  // what is mounted is left out too, as docker export does
}

func (a *Agent) walk(t *top, whole bool) *walk {
	w := &walk{top: t.path, whole: whole}
	var st unix.Stat_t
	if unix.Stat(a.settings.Dir, &st) == nil { // else there is nothing to leave out
		w.own = inode{st.Dev, st.Ino}
	}
	return w
}

func (w *walk) path(rel string) string { return filepath.Join(w.top, rel) }

// maxRel is how long a path below a walk's top may be: a walk holds one for each directory above it, and a descriptor. It is
// twice what the kernel takes in one call.
const maxRel = 2 * unix.PathMax

// visit calls do for what t names and for all that is below it: a directory before its content, names in the order of
// their bytes. at is the directory that has f.base. fs.SkipDir leaves a directory's content out. What vanishes meanwhile
// is not visited.
func (w *walk) visit(t *top, rel string, do func(at int, f *file) error) error {
	f, err := lookup(t.at, t.base)
	if err != nil {
		return fileError(t.path, err)
	}
	f.rel = rel
	f.hidden = f.isDir() && virtualAt(t.at, t.base, filepath.Clean(t.path) == "/dev")
	return w.enter(t.at, f, do)
}

func (w *walk) enter(at int, f *file, do func(at int, f *file) error) error {
	err := do(at, f)
	if err == fs.SkipDir { //nolint:errorlint // our own callers'
		return nil
	}
	if err != nil || !f.isDir() || f.hidden {
		return err
	}
	dir, err := openList(at, f.base)
	if err != nil {
		return gone(w.path(f.rel), err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return gone(w.path(f.rel), err)
	}
	slices.Sort(names)
	fd := int(dir.Fd())
	for _, name := range names {
		if len(f.rel)+1+len(name) > maxRel {
			return wire.Errorf(protocol.CodeInvalid, "cannot read %.100s...: the paths in it are longer than %d bytes", w.path(f.rel), maxRel)
		}
		child, err := lookup(fd, name)
		if err == unix.ENOENT { //nolint:errorlint // a bare errno
			continue
		}
		if err != nil {
			return fileError(w.path(f.rel+"/"+name), err)
		}
		child.rel = f.rel + "/" + name
		if child.inode == w.own {
			continue
		}
		if !child.mountKnown {
			child.mount = child.isDir() && child.inode.dev != f.inode.dev
		}
		child.hidden = child.mount && (w.whole || child.isDir() && virtualAt(fd, name, w.path(child.rel) == "/dev"))
		if err := w.enter(fd, child, do); err != nil {
			return err
		}
	}
	return nil
}

// openList opens a directory to list it.
func openList(at int, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR {
			return nil, err
		}
	}
}

// virtualAt is virtual for a mount point. A /dev of the platform's is a tmpfs.
func virtualAt(at int, name string, dev bool) bool {
	fd, err := openDir(at, name)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	var st unix.Statfs_t
	return virtual(fd) || dev && unix.Fstatfs(fd, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// virtual says whether a directory is in a file system of the kernel's, whose content Docker's view of a container's files
// does not have.
func virtual(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch st.Type {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.BINFMTFS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

const mqueueMagic = 0x19800202 // linux/ipc/mqueue.c; x/sys has no name for it

// descriptor is the path of an open descriptor.
func descriptor(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
