package engine

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

// preview is what a container's file system will be at its first start: its image's files, the folders that Docker makes
// for it, and what was copied into it.
type preview struct {
	c    *container
	made []string // folders, clean, without a leading slash
}

func (c *container) preview() *preview {
	p := &preview{c: c}
	for _, dir := range c.folders() {
		p.made = append(p.made, strings.TrimPrefix(path.Clean("/"+string(dir)), "/"))
	}
	return p
}

// folders are what Docker makes in a new container, so that files can be copied there.
func (c *container) folders() []wire.Bytes {
	config := c.view.Load().Config
	var dirs []wire.Bytes
	if config.WorkingDir != "" {
		dirs = append(dirs, wire.Bytes(absolute(config.WorkingDir)))
	}
	for _, dir := range slices.Sorted(maps.Keys(config.Volumes)) {
		dirs = append(dirs, wire.Bytes(absolute(dir)))
	}
	return dirs
}

// maxLinks is the kernel's limit on links in one path.
const maxLinks = 40

// resolve returns the path with the links in it followed, and what is there, or nil. The last element is followed if it is
// to be a directory.
func (p *preview) resolve(ctx context.Context, name string, last bool) (string, *tar.Header, error) {
	last = last || strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	root := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
	for range maxLinks + 1 {
		files, err := p.along(ctx, rest)
		if err != nil {
			return "", nil, err
		}
		at, link := root, false
		for i := range rest {
			prefix := strings.Join(rest[:i+1], "/")
			if prefix == "" {
				continue
			}
			if at = files[prefix]; at == nil {
				break
			}
			if at.Typeflag == tar.TypeSymlink && (last || i < len(rest)-1) {
				target := at.Linkname
				if !path.IsAbs(target) {
					target = path.Join("/", path.Dir(prefix), target)
				}
				rest = strings.Split(path.Clean(path.Join(target, path.Join(rest[i+1:]...)))[1:], "/")
				link = true
				break
			}
		}
		if !link {
			return strings.Join(rest, "/"), at, nil
		}
	}
	return "", nil, sockerless.Errorf(sockerless.EINVALID, "%s: too many levels of symbolic links", name)
}

// along returns what is at a path and at each directory on its way.
func (p *preview) along(ctx context.Context, elements []string) (map[string]*tar.Header, error) {
	want := make(map[string]bool, len(elements))
	for i := range elements {
		want[strings.Join(elements[:i+1], "/")] = true
	}
	found := make(map[string]*tar.Header)
	for h, err := range p.c.e.opt.Images.Files(ctx, p.c.view.Load().ImageRef) {
		if err != nil {
			return nil, err
		}
		if want[h.Name] {
			found[h.Name] = h
		}
	}
	dir := func(name string) {
		for name = strings.TrimPrefix(path.Clean("/"+name), "/"); name != ""; name = strings.TrimPrefix(path.Dir("/"+name), "/") {
			if want[name] && found[name] == nil {
				found[name] = &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
			}
		}
	}
	for _, name := range p.made {
		dir(name)
	}
	files, err := p.c.e.copies.of(p.c.id)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		err := eachCopied(file, func(base string, h *tar.Header) {
			name := strings.TrimPrefix(path.Join("/", base, h.Name), "/")
			dir(path.Dir("/" + name))
			if want[name] {
				found[name] = h
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// eachCopied goes through the headers of an archive that was copied to base.
func eachCopied(file string, do func(base string, h *tar.Header)) error {
	head, _, f, err := openCopied(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for t := tar.NewReader(io.NewSectionReader(f, head.at, 1<<62)); ; { // it skips what it does not read
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		do(string(head.Path), h)
	}
}

// stat describes a path as it will be.
func (p *preview) stat(ctx context.Context, ref, name string) (*docker.PathStat, error) {
	_, h, err := p.resolve(ctx, name, false)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "Could not find the file %s in container %s", name, ref)
	}
	if h.Typeflag != tar.TypeDir && (strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")) {
		return nil, sockerless.Errorf(sockerless.EINVALID, "extraction point is not a directory")
	}
	st := &docker.PathStat{Name: path.Base(name), Size: h.Size, Mode: h.FileInfo().Mode(), Mtime: h.ModTime}
	if st.Mode&os.ModeSymlink != 0 {
		target, _, err := p.resolve(ctx, name, true)
		if err != nil {
			return nil, err
		}
		st.LinkTarget = "/" + target
	}
	return st, nil
}

// read returns a path as the image has it. What was copied into the container is not unpacked anywhere yet, so where it
// matters this is refused.
func (p *preview) read(ctx context.Context, ref, name string) (*docker.PathStat, io.ReadCloser, error) {
	st, err := p.stat(ctx, ref, name)
	if err != nil {
		return nil, nil, err
	}
	at, _, err := p.resolve(ctx, name, false)
	if err != nil {
		return nil, nil, err
	}
	body, err := p.tree(ctx, at, path.Base(name))
	if err != nil {
		return nil, nil, err
	}
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.c.event(events.ActionArchivePath, nil)
	return st, body, nil
}

func (p *preview) tree(ctx context.Context, at, name string) (io.ReadCloser, error) {
	files, err := p.c.e.copies.of(p.c.id)
	if err != nil {
		return nil, err
	}
	folders := map[string]string{} // that were copied to, without links
	for _, file := range files {
		touched := at == ""
		var failed error
		err := eachCopied(file, func(base string, h *tar.Header) {
			folder, known := folders[base]
			if !known && failed == nil {
				folder, _, failed = p.resolve(ctx, base, true)
				folders[base] = folder
			}
			into := strings.TrimPrefix(path.Join("/", folder, h.Name), "/")
			// What comes after a link in an archive may lead through it.
			link := h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink
			touched = touched || link || into == at || strings.HasPrefix(into, at+"/")
		})
		if err = errors.Join(err, failed); err != nil {
			return nil, err
		}
		if touched {
			return nil, sockerless.Errorf(sockerless.EUNSUPPORTED,
				"cannot copy /%s out of container %s: it was never started, and files that were copied into it are put in place then", at, p.c.id[:12])
		}
	}
	return p.c.e.opt.Images.ReadTree(ctx, p.c.view.Load().ImageRef, at, name)
}

// target refuses a path that files cannot be copied to. Where the image's files cannot be told now, the start finds out.
func (p *preview) target(ctx context.Context, ref, name string) error {
	if path.Clean("/"+name) == "/" {
		return nil
	}
	_, h, err := p.resolve(ctx, name, true)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		p.c.e.log.Info("cannot tell whether files can be copied there before the start", "container", p.c.id, "path", name, "reason", err)
		return nil
	case h == nil:
		return sockerless.Errorf(sockerless.ENOTFOUND, "Could not find the file %s in container %s", name, ref)
	case h.Typeflag != tar.TypeDir:
		return sockerless.Errorf(sockerless.EINVALID, "extraction point is not a directory")
	}
	return nil
}
