package engine

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// copies keeps the archives that are copied into containers which have not run yet: there is no file system for them
// before the start, and create makes nothing in the cloud. Each is one file, written whole or not at all, below a folder of
// its container's. Whenever a fresh file system is about to be used, they are unpacked into it in the order in which they
// came; they go with the container.
type copies struct {
	dir   string
	limit int64
	used  atomic.Int64
}

// copied is the first line of an archive's file; the rest is the archive.
type copied struct {
	Path    wire.Bytes
	Options sockerless.WriteOptions
	at      int64 // where the archive begins
}

const (
	copySuffix = ".tar"
	copyBuffer = 64 << 10
)

// openCopies opens the folder, and removes the archives that were on their way when an earlier process ended.
func openCopies(dir string, limit int64) (*copies, error) {
	s := &copies{dir: dir, limit: limit}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep copied files: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot keep copied files: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("cannot keep copied files: %w", err)
			}
			continue
		}
		files, err := s.of(e.Name())
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			fi, err := os.Stat(f)
			if err != nil {
				return nil, fmt.Errorf("cannot keep copied files: %w", err)
			}
			s.used.Add(fi.Size())
		}
	}
	return s, nil
}

// tidy removes what belongs to no container.
func (s *copies) tidy(known func(id string) bool) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("cannot keep copied files: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && !known(e.Name()) {
			if err := s.remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// of returns the files of a container in their order.
func (s *copies) of(id string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot find copied files: %w", err)
	}
	var files []string
	for _, e := range entries { // sorted, and so are the numbers in their names
		if strings.HasSuffix(e.Name(), copySuffix) {
			files = append(files, filepath.Join(s.dir, id, e.Name()))
		}
	}
	return files, nil
}

// remove forgets a container's.
func (s *copies) remove(id string) error {
	files, err := s.of(id)
	if err != nil {
		return err
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			s.used.Add(-fi.Size())
		}
	}
	return os.RemoveAll(filepath.Join(s.dir, id))
}

// spooled is an archive that has been received whole. It is discarded unless it is kept.
type spooled struct {
	store *copies
	copied
	path string // of its file; "" if it is kept
	size int64
}

// receive writes an archive to the disk. One that is no tar, or leads out of its folder, or has no place, is refused.
func (s *copies) receive(in copied, archive io.Reader) (_ *spooled, err error) {
	f, err := os.CreateTemp(s.dir, "new-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("cannot keep copied files: %w", err)
	}
	a := &spooled{store: s, copied: in, path: f.Name()}
	defer func() {
		f.Close()
		if err != nil {
			a.discard()
		}
	}()
	head, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(&bounded{a: a, w: f}, copyBuffer)
	out.Write(append(head, '\n')) //nolint:errcheck // a bufio.Writer's error is that of its Flush too
	if err := checkArchive(io.TeeReader(archive, out)); err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, diskError(err)
	}
	// What is behind the archive's end belongs to the request.
	if _, err := io.Copy(io.Discard, archive); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
	}
	return a, nil
}

// checkArchive reads a tar to its end. It leaves the contents to Next, which does not unfold sparse files: some bytes may tell
// of terabytes of nothing.
func checkArchive(r io.Reader) error {
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if e, ok := errors.AsType[*diskFailure](err); ok {
			return e.err
		}
		if err != nil {
			return sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
		}
		if name := path.Clean(strings.TrimLeft(h.Name, "/")); name == ".." || strings.HasPrefix(name, "../") {
			return sockerless.Errorf(sockerless.EINVALID, "the archive's entry %q leads out of the folder that it is for", h.Name)
		}
	}
}

// diskFailure is an error of the file, as seen by who reads the archive.
type diskFailure struct{ err error }

// Error returns the error's text.
func (e *diskFailure) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *diskFailure) Unwrap() error { return e.err }

// bounded is an archive's file that counts its bytes against the limit of all.
type bounded struct {
	a *spooled
	w io.Writer
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	s := b.a.store
	if used := s.used.Add(int64(len(p))); used > s.limit {
		s.used.Add(-int64(len(p)))
		return 0, &diskFailure{sockerless.Errorf(sockerless.EINTERNAL,
			"no space left on device: the files that are copied into containers before their start may take %d bytes in all", s.limit)}
	}
	b.a.size += int64(len(p))
	n, err := b.w.Write(p)
	if err != nil {
		err = &diskFailure{diskError(err)}
	}
	return n, err
}

func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return sockerless.Errorf(sockerless.EINTERNAL, "no space left on device: the backend's disk is full")
	}
	return fmt.Errorf("cannot keep copied files: %w", err)
}

// discard takes the archive away, unless it is kept.
func (a *spooled) discard() {
	if a.path != "" {
		os.Remove(a.path) // the next Open removes it
		a.store.used.Add(-a.size)
		a.path = ""
	}
}

// keep makes the archive one of a container's, and that last. It is not safe from a power cut before sync.
func (a *spooled) keep(id string) error {
	dir := filepath.Join(a.store.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return diskError(err)
	}
	files, err := a.store.of(id)
	if err != nil {
		return err
	}
	seq := 1
	if len(files) > 0 {
		if _, err := fmt.Sscanf(filepath.Base(slices.Max(files)), "%d", &seq); err != nil {
			return fmt.Errorf("cannot keep copied files: %w", err)
		}
		seq++
	}
	if err := os.Rename(a.path, filepath.Join(dir, fmt.Sprintf("%010d%s", seq, copySuffix))); err != nil {
		return diskError(err)
	}
	a.path = ""
	return nil
}

// sync makes what was kept of a container's last.
func (s *copies) sync(id string) error {
	for _, d := range []string{filepath.Join(s.dir, id), s.dir} {
		if err := syncDir(d); err != nil && !errors.Is(err, os.ErrNotExist) { // the container may be gone again
			return diskError(err)
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openCopied opens an archive's file. The caller closes it.
func openCopied(file string) (copied, io.Reader, *os.File, error) {
	var head copied
	f, err := os.Open(file)
	if err != nil {
		return head, nil, nil, fmt.Errorf("cannot read copied files: %w", err)
	}
	r := bufio.NewReaderSize(f, copyBuffer)
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &head)
	}
	if err != nil {
		f.Close()
		return head, nil, nil, fmt.Errorf("cannot read copied files of %s: %w", file, err)
	}
	head.at = int64(len(line))
	return head, r, f, nil
}

// unborn says whether the container has never run, nor is about to; it waits for the end of a start that came to nothing.
func (c *container) unborn(ctx context.Context) (bool, error) {
	for {
		c.mu.Lock()
		r, is := c.run, c.neverRan()
		c.mu.Unlock()
		if !is || r == nil {
			return is, nil
		}
		select {
		case <-r.over:
		case <-ctx.Done():
			return false, ctx.Err()
		case <-c.e.ctx.Done():
			return false, closing()
		}
	}
}

// neverRan: c.mu is held.
func (c *container) neverRan() bool {
	return c.attempt == nil && c.rec.State.Status == docker.StateCreated
}

// keepCopy takes an archive for a container that has not run yet. If it is started meanwhile, the archive goes into it
// at once.
func (c *container) keepCopy(ctx context.Context, ref, path string, opt sockerless.WriteOptions, archive io.Reader) error {
	if err := c.preview().target(ctx, ref, path); err != nil {
		return err
	}
	a, err := c.e.copies.receive(copied{Path: wire.Bytes(absolute(path)), Options: opt}, archive)
	if err != nil {
		return err
	}
	defer a.discard()
	for {
		unborn, err := c.unborn(ctx)
		if err != nil {
			return err
		}
		if !unborn {
			head, r, file, err := openCopied(a.path)
			if err != nil {
				return err
			}
			defer file.Close()
			return c.writeTree(ctx, ref, string(head.Path), opt, r)
		}
		c.mu.Lock()
		if c.removed {
			c.mu.Unlock()
			return sockerless.Errorf(sockerless.ENOTFOUND, "No such container: %s", ref)
		}
		if c.neverRan() && c.run == nil {
			var err error
			if !c.rec.Copied {
				err = c.change(func(rec *record) { rec.Copied = true })
			}
			if err == nil {
				err = a.keep(c.id)
			}
			if err == nil {
				c.event(events.ActionExtractToDir, nil)
			}
			c.mu.Unlock()
			if err != nil {
				return err
			}
			return c.e.copies.sync(c.id) // without the lock: a disk may take its time
		}
		c.mu.Unlock()
	}
}

// copyError is why what was copied into a container before its start cannot be there.
type copyError struct{ err error }

// Error says so.
func (e *copyError) Error() string {
	return "cannot start container: the files that were copied into it before cannot be put in place: " + e.err.Error()
}

// Unwrap returns the cause.
func (e *copyError) Unwrap() error { return e.err }

// putCopies unpacks into a held agent what was copied into the container before. It may be repeated.
func (r *run) putCopies(ctx context.Context, a *agent) error {
	r.c.mu.Lock()
	fresh, copied := r.c.rec.Run.Incarnation == 0, r.c.rec.Copied
	req := protocol.WriteRequest{User: r.c.rec.Config.User, Dirs: r.c.folders()}
	r.c.mu.Unlock()
	if !fresh {
		return nil // the file system has them already
	}
	files, err := r.e.copies.of(r.c.id)
	if err != nil {
		return &copyError{err}
	}
	if copied && len(files) == 0 {
		return &copyError{errors.New("they were in a data folder that the backend does not have any more")}
	}
	for _, file := range files {
		if err := putCopy(ctx, a, file, req); err != nil {
			return err
		}
	}
	return nil
}

func putCopy(ctx context.Context, a *agent, file string, req protocol.WriteRequest) error {
	head, content, closer, err := openCopied(file)
	if err != nil {
		return &copyError{err}
	}
	defer closer.Close()
	disk := &told{r: content}
	err = a.client.Write(ctx, head.request(req), disk)
	if disk.err != nil {
		return &copyError{fmt.Errorf("cannot read copied files: %w", disk.err)}
	}
	if _, refused := errors.AsType[*wire.Error](err); refused {
		return &copyError{fileError(err, string(head.Path), a.run.c.id[:12])}
	}
	return err
}

// request completes what an agent is asked.
func (c copied) request(req protocol.WriteRequest) protocol.WriteRequest {
	req.Path, req.NoOverwriteDirNonDir, req.CopyUIDGID = c.Path, c.Options.NoOverwriteDirNonDir, c.Options.CopyUIDGID
	return req
}

// told remembers why reading has failed.
type told struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (t *told) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}
