package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sockerless/sockerless"
)

// Bounds on the table of an archive's files, which is kept in memory.
const (
	maxFiles     = 200_000
	maxNameBytes = 16 << 20
	maxLinks     = 10
)

// spool is a tar archive on disk, so that its files can be read in any order. Its file has no name any more: it is gone
// with the process, however that ends.
type spool struct {
	file  *os.File
	files map[string]extent
	links map[string]string
}

type extent struct{ offset, size int64 }

// newSpool reads an archive, compressed or not, to its end. The caller closes it.
func newSpool(ctx context.Context, dir string, limit int64, r io.Reader) (*spool, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, archiveError(err)
	}
	defer plain.Close()
	file, err := tempFile(dir)
	if err != nil {
		return nil, err
	}
	sp := &spool{file: file, files: map[string]extent{}, links: map[string]string{}}
	if err := sp.fill(ctx, dir, limit, plain); err != nil {
		file.Close()
		return nil, err
	}
	return sp, nil
}

func (sp *spool) fill(ctx context.Context, dir string, limit int64, r io.Reader) error {
	if _, err := io.Copy(&bounder{w: sp.file, left: limit, limit: limit, dir: dir}, withContext(ctx, r)); err != nil {
		return archiveError(err)
	}
	if _, err := sp.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot read the archive in %s: %w", dir, err)
	}
	names := 0
	for tr := tar.NewReader(sp.file); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return archiveError(err)
		}
		name := clean(h.Name)
		if names += len(name) + len(h.Linkname); len(sp.files)+len(sp.links) >= maxFiles || names > maxNameBytes {
			return sockerless.Errorf(sockerless.EINVALID, "the archive has too many files to be an image's")
		}
		switch h.Typeflag {
		case tar.TypeReg:
			// archive/tar reads no further than the header, so the file is at the content now.
			at, err := sp.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return fmt.Errorf("cannot read the archive in %s: %w", dir, err)
			}
			sp.files[name] = extent{at, h.Size}
		case tar.TypeSymlink: // old versions of docker save share layers so
			sp.links[name] = clean(path.Join(path.Dir(name), h.Linkname))
		case tar.TypeLink:
			sp.links[name] = clean(h.Linkname)
		}
	}
}

// close gives the space back.
func (sp *spool) close() { sp.file.Close() }

// find returns where a file is, and whether it is there.
func (sp *spool) find(name string) (extent, bool) {
	name = clean(name)
	for range maxLinks {
		if e, ok := sp.files[name]; ok {
			return e, true
		}
		target, ok := sp.links[name]
		if !ok {
			break
		}
		name = target
	}
	return extent{}, false
}

// must is find for a file that the archive itself names.
func (sp *spool) must(name string) (extent, error) {
	e, ok := sp.find(name)
	if !ok {
		return e, sockerless.Errorf(sockerless.EINVALID, "the archive names %s and does not have it", bounded(name))
	}
	return e, nil
}

func (sp *spool) open(e extent) *io.SectionReader {
	return io.NewSectionReader(sp.file, e.offset, e.size)
}

// read returns a small file whole.
func (sp *spool) read(name string, limit int64) ([]byte, error) {
	e, err := sp.must(name)
	if err != nil {
		return nil, err
	}
	if e.size > limit {
		return nil, sockerless.Errorf(sockerless.EINVALID, "%s in the archive has %d bytes", bounded(name), e.size)
	}
	data, err := io.ReadAll(sp.open(e))
	if err != nil {
		return nil, archiveError(err)
	}
	return data, nil
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// tempFile makes a file that vanishes when it is closed.
func tempFile(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, "sockerless-*")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot hold the archive while it is pushed: %w", err)
	}
	return file, nil
}

// archiveError tells what is wrong with the archive from what is wrong here.
func archiveError(err error) error {
	if sockerless.ErrorCode(err) != sockerless.EINTERNAL || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
}

// bounder writes until a limit, and says so in words that help.
type bounder struct {
	w           io.Writer
	left, limit int64
	dir         string
}

// Write implements io.Writer.
func (b *bounder) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, sockerless.Errorf(sockerless.EINVALID, "the archive is larger than %d bytes unpacked", b.limit)
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	switch {
	case errors.Is(err, syscall.ENOSPC):
		err = sockerless.Errorf(sockerless.EUNAVAILABLE, "no space left in %s, where the archive is held while it is pushed; set TMPDIR to a larger place", b.dir)
	case err != nil:
		err = sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot hold the archive while it is pushed: %w", err)
	}
	return n, err
}

// withContext makes a reader stop between two reads when ctx is done.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The compressions that dockerd reads, by their first bytes.
var (
	magicGzip  = []byte{0x1f, 0x8b, 0x08}
	magicBzip2 = []byte("BZh")
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicXz    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
)

// compression names what the first bytes of a file are compressed with: gzip, bzip2, zstd, xz, or "" for none of these.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, magicGzip):
		return "gzip"
	case bytes.HasPrefix(head, magicBzip2):
		return "bzip2"
	case bytes.HasPrefix(head, magicZstd):
		return "zstd"
	case bytes.HasPrefix(head, magicXz):
		return "xz"
	}
	return ""
}

// zstdWindow bounds what a hostile stream may make the decoder keep; zstd --ultra needs this much.
const zstdWindow = 128 << 20

// decompress undoes the compression that r has, if any. The caller closes the answer; r stays open.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	head, err := buffered.Peek(len(magicXz))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch compression(head) {
	case "gzip":
		return gzip.NewReader(buffered)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	case "zstd":
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case "xz":
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot read an archive that xz has compressed: unpack it first, or use gzip or zstd")
	}
	return io.NopCloser(buffered), nil
}
