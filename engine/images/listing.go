package images

import (
	"archive/tar"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sockerless/sockerless"
)

// A listing is what one layer says of files, without their content: sorted as a walk through the tree comes by them, and
// packed, since a walk's neighbours have most of their paths in common. Some 20 bytes a file on disk; to make one takes
// some 250 bytes a file in memory, to read one nothing that grows.

// listed is one line of a listing.
type listed struct {
	path string // clean, without a leading slash; "" is the root
	kind listedKind
	mode uint32 // a tar header's type flag << 16 and permissions
	uid  int
	gid  int
	size int64
	time time.Time
	link string // of a symbolic link its target; of a file that is a hard link the path, in its layer, of what it is one to

	layer int // which one has it, in what is seen of several
}

type listedKind byte

// The kinds, in their order at one path.
const (
	whiteout listedKind = iota + 1 // what lower layers have here is gone, and all below it
	opaque                         // what lower layers have below this directory is gone
	implied                        // a directory that the layer has no entry for, but something in it
	entry
	listingEnd listedKind = 0xff
)

const (
	listingMagic = "sockerless layer listing 1\n"
	// What a layer may have. The largest images that are known have some 500,000 files.
	maxListed      = 4 << 20
	maxListedBytes = 512 << 20
	maxPath        = 4095 // of Linux
)

// WalkOrder compares paths as a walk comes by them, names in the order of their bytes: a directory, then what is in it, then
// its next neighbour. It is the order of Files.
func WalkOrder(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			switch {
			case a[i] == '/':
				return -1
			case b[i] == '/':
				return 1
			case a[i] < b[i]:
				return -1
			}
			return 1
		}
	}
	return len(a) - len(b)
}

// readListing makes a listing of a layer's tar.
func readListing(r io.Reader) ([]listed, error) {
	var all []listed
	bytes := 0
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		l := listed{
			path: strings.TrimPrefix(path.Clean("/"+h.Name), "/"), kind: entry, mode: uint32(h.Typeflag)<<16 | uint32(h.Mode)&0o7777,
			uid: h.Uid, gid: h.Gid, size: h.Size, time: h.ModTime,
		}
		if h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink {
			l.link = h.Linkname
		}
		// image-spec, layer.md, "Whiteouts".
		dir, base := path.Split(l.path)
		if name, hides := strings.CutPrefix(base, ".wh."); hides {
			switch {
			case name == ".wh..opq":
				l = listed{path: strings.TrimSuffix(dir, "/"), kind: opaque}
			case strings.HasPrefix(name, ".wh.") || name == "":
				continue // of AUFS, for itself
			default:
				l = listed{path: dir + name, kind: whiteout}
			}
		}
		if len(l.path) > maxPath || len(l.link) > maxPath {
			return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot list a layer with a path of more than %d bytes: %.40q...", maxPath, h.Name)
		}
		if bytes += len(l.path) + len(l.link); len(all) >= maxListed || bytes > maxListedBytes {
			return nil, errLarge
		}
		all = append(all, l)
	}
	slices.SortStableFunc(all, compareListed)
	return complete(all)
}

var errLarge = sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot list a layer with more than %d files, or more than %d bytes of names", maxListed, maxListedBytes)

func compareListed(a, b listed) int {
	if c := WalkOrder(a.path, b.path); c != 0 {
		return c
	}
	return int(a.kind) - int(b.kind)
}

// complete adds the directories that are implied, leaves the last of several entries of a path, and gives hard links what
// they are links to.
func complete(all []listed) ([]listed, error) {
	out := make([]listed, 0, len(all))
	dirs := map[string]bool{"": true}
	for _, l := range all {
		if n := len(out); n > 0 && out[n-1].path == l.path && out[n-1].kind == l.kind {
			out[n-1] = l
			continue
		}
		if l.kind == entry {
			dirs[l.path] = true
		}
		dir := path.Dir(l.path)
		if l.kind == opaque && l.path != "" {
			dir = l.path // there at the latest with the mark
		}
		for ; dir != "." && !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
			if len(out) > maxListed {
				return nil, errLarge
			}
			out = append(out, listed{path: dir, kind: implied, mode: tar.TypeDir<<16 | 0o755})
		}
		out = append(out, l)
	}
	slices.SortStableFunc(out, compareListed)
	for i := range out {
		l := &out[i]
		if l.kind != entry || l.mode>>16 != tar.TypeLink {
			continue
		}
		target := listed{path: strings.TrimPrefix(path.Clean("/"+l.link), "/"), kind: entry}
		if at, ok := slices.BinarySearchFunc(out, target, compareListed); ok && out[at].mode>>16 != tar.TypeLink {
			t := out[at]
			l.mode, l.uid, l.gid, l.size, l.time, l.link = t.mode, t.uid, t.gid, t.size, t.time, target.path
		} else {
			l.mode, l.link = tar.TypeReg<<16|l.mode&0o7777, ""
		}
	}
	return out, nil
}

// writeListing writes a listing to a file.
func writeListing(f *os.File, all []listed) error {
	w := bufio.NewWriterSize(f, 64<<10)
	if _, err := w.WriteString(listingMagic); err != nil {
		return err
	}
	last := ""
	var b []byte
	for _, l := range all {
		common := 0
		for common < min(len(last), len(l.path)) && last[common] == l.path[common] {
			common++
		}
		b = append(b[:0], byte(l.kind))
		b = binary.AppendUvarint(b, uint64(common))
		b = appendString(b, l.path[common:])
		if l.kind == entry {
			b = binary.AppendUvarint(b, uint64(l.mode))
			b = binary.AppendVarint(b, int64(l.uid))
			b = binary.AppendVarint(b, int64(l.gid))
			b = binary.AppendVarint(b, l.size)
			b = binary.AppendVarint(b, l.time.Unix())
			b = binary.AppendUvarint(b, uint64(l.time.Nanosecond()))
			b = appendString(b, l.link)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		last = l.path
	}
	if err := w.WriteByte(byte(listingEnd)); err != nil {
		return err
	}
	return w.Flush()
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// listing reads a listing from a file.
type listing struct {
	f    *os.File
	r    *bufio.Reader
	next listed // valid unless over
	over bool
}

// openListing opens a listing at its first line. The caller closes it.
func openListing(name string) (*listing, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	l := &listing{f: f, r: bufio.NewReaderSize(f, 32<<10)}
	magic := make([]byte, len(listingMagic))
	if _, err := io.ReadFull(l.r, magic); err != nil || string(magic) != listingMagic {
		f.Close()
		return nil, fmt.Errorf("%s is no listing", name)
	}
	if err := l.advance(); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func (l *listing) close() { l.f.Close() }

// advance goes to the next line.
func (l *listing) advance() error {
	if l.over {
		return nil
	}
	err := l.read()
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", l.f.Name(), noEOF(err))
	}
	return nil
}

func (l *listing) read() error {
	kind, err := l.r.ReadByte()
	if err != nil {
		return err
	}
	if listedKind(kind) == listingEnd {
		l.over = true
		return nil
	}
	if listedKind(kind) < whiteout || listedKind(kind) > entry {
		return errBadListing
	}
	common, err := binary.ReadUvarint(l.r)
	if err != nil {
		return err
	}
	if common > uint64(len(l.next.path)) {
		return errBadListing
	}
	rest, err := l.string()
	if err != nil {
		return err
	}
	n := listed{path: l.next.path[:common] + rest, kind: listedKind(kind), mode: tar.TypeDir<<16 | 0o755}
	if n.kind == entry {
		var numbers [6]int64
		for i := range numbers {
			if i == 0 || i == 5 {
				var u uint64
				u, err = binary.ReadUvarint(l.r)
				numbers[i] = int64(u)
			} else {
				numbers[i], err = binary.ReadVarint(l.r)
			}
			if err != nil {
				return err
			}
		}
		n.mode, n.uid, n.gid, n.size = uint32(numbers[0]), int(numbers[1]), int(numbers[2]), numbers[3]
		n.time = time.Unix(numbers[4], numbers[5])
		if n.link, err = l.string(); err != nil {
			return err
		}
	}
	l.next = n
	return nil
}

func (l *listing) string() (string, error) {
	n, err := binary.ReadUvarint(l.r)
	if err != nil {
		return "", err
	}
	if n > maxPath {
		return "", errBadListing
	}
	b := make([]byte, n)
	_, err = io.ReadFull(l.r, b)
	return string(b), err
}

var errBadListing = errors.New("the listing is damaged")

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
