package dockerapi_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

func (m memContainers) Stat(_ context.Context, ref, name string) (*container.PathStat, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	data, ok := c.files[name]
	if !ok {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "Could not find the file %s in container %s", name, ref)
	}
	return &container.PathStat{Name: path.Base(name), Size: int64(len(data)), Mode: 0o644, Mtime: time.Unix(1700000000, 0).UTC()}, nil
}

func (m memContainers) ReadTree(ctx context.Context, ref, name string) (*container.PathStat, io.ReadCloser, error) {
	stat, err := m.Stat(ctx, ref, name)
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: stat.Name, Size: stat.Size, Mode: 0o644})
	io.WriteString(w, c.files[name])
	w.Close()
	if name == "/cut" {
		return stat, io.NopCloser(io.MultiReader(&b, brokenReader{})), nil
	}
	return stat, io.NopCloser(&b), nil
}

// Size is the sum of the files of a container, and of a whole image of 1,000 bytes.
func (m memContainers) Size(_ context.Context, ref string) (*sockerless.ContainerSize, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	size := &sockerless.ContainerSize{}
	for _, content := range c.files {
		size.Written += int64(len(content))
	}
	size.Whole = 1000 + size.Written
	return size, nil
}

// Changes are the files of a container, as if it had made them; after /cut comes an error.
func (m memContainers) Changes(ctx context.Context, ref string) iter.Seq2[container.FilesystemChange, error] {
	return func(yield func(container.FilesystemChange, error) bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		c, err := m.find(ref)
		if err != nil {
			yield(container.FilesystemChange{}, err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(c.files)) {
			if !yield(container.FilesystemChange{Path: name, Kind: container.ChangeAdd}, nil) {
				return
			}
		}
		if _, cut := c.files["/cut"]; cut {
			yield(container.FilesystemChange{}, errors.New("the disk is on fire"))
		}
	}
}

// Commit is an image that is called after what was asked for.
func (m memContainers) Commit(_ context.Context, ref string, opt sockerless.CommitOptions) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.find(ref); err != nil {
		return "", err
	}
	config := "none"
	if opt.Config != nil {
		config = fmt.Sprint(opt.Config.Cmd)
	}
	return fmt.Sprintf("sha256:%s %q %q %q %v %s", opt.Ref, opt.Comment, opt.Author, opt.Changes, opt.Pause, config), nil
}

// Export is the files of a container; one that has /cut cannot be exported whole.
func (m memContainers) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		w.WriteHeader(&tar.Header{Name: name[1:], Size: int64(len(c.files[name])), Mode: 0o644})
		io.WriteString(w, c.files[name])
	}
	w.Close()
	if _, cut := c.files["/cut"]; cut {
		return io.NopCloser(io.MultiReader(&b, brokenReader{})), nil
	}
	return io.NopCloser(&b), nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

func (m memContainers) WriteTree(_ context.Context, ref, name string, opt sockerless.WriteOptions, r io.Reader) error {
	files := map[string]string{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		files[path.Join(name, h.Name)] = string(data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written = &opt
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	for k, v := range files {
		c.files[k] = v
	}
	return nil
}
