package images

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"strings"
)

// ReadTree returns what an image, given as repository@digest, has at a path (clean, without a leading slash) and below it,
// as a tar in which the path is called name; without a name it has no entry itself. Folders come first, the rest in the
// order of the layers. Where the image has nothing it is an empty folder. The caller closes the stream; one that ends
// without tar's end mark was cut off, and its Read says why.
//
// The layers are read from the registry at every call. While it goes on, what is below the path takes some 200 bytes of
// memory a file; one tree is read at a time.
func (s *Service) ReadTree(ctx context.Context, source, at, name string) (io.ReadCloser, error) {
	digests, err := s.layersOf(ctx, source)
	if err != nil {
		return nil, err
	}
	layers, err := s.listings(ctx, source, digests)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() { // ends with the tree, or when r is closed
		defer cancel()
		defer func() {
			for _, l := range layers {
				l.close()
			}
		}()
		w.CloseWithError(s.writeTree(ctx, w, source, digests, layers, at, name))
	}()
	return &treeReader{r, cancel}, nil
}

type treeReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the reading.
func (t *treeReader) Close() error {
	t.cancel()
	return t.PipeReader.Close()
}

// part is what one layer has of a tree: the names in the tar of what is at a path in the layer, first the path's own.
type part map[string][]string

func (s *Service) writeTree(ctx context.Context, w io.Writer, source string, digests []string, layers []*listing, at, name string) error {
	select {
	case s.treeTurn <- struct{}{}:
		defer func() { <-s.treeTurn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	buffered := bufio.NewWriterSize(w, 64<<10)
	out := tar.NewWriter(buffered)
	parts := make([]part, len(layers))
	found := false
	var failed error
	folder := func(h *tar.Header, called string) bool {
		h.Name, h.Format = called+"/", tar.FormatPAX
		if called == "/" {
			h.Name = called
		}
		if called != "" {
			failed = out.WriteHeader(h)
		}
		return failed == nil
	}
	err := merge(layers, func(l *listed) bool {
		called, ok := renamed(l.path, at, name)
		if !ok {
			return ctx.Err() == nil
		}
		found = true
		if l.mode>>16 == tar.TypeDir {
			return folder(l.header(), called)
		}
		if parts[l.layer] == nil {
			parts[l.layer] = part{}
		}
		content := l.path
		if l.mode>>16 != tar.TypeSymlink && l.link != "" {
			content = l.link
		}
		parts[l.layer][content] = append(parts[l.layer][content], called)
		return true
	})
	if err == nil && failed == nil && !found {
		folder(&tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}, name)
	}
	if err = errors.Join(err, failed, ctx.Err()); err != nil {
		return err
	}
	for i, p := range parts {
		if p == nil {
			continue
		}
		err := s.readLayer(ctx, source, digests[i], func(content io.Reader) error { return p.copy(out, content) })
		if err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// renamed is what a path is called in the tar of a tree.
func renamed(p, at, name string) (string, bool) {
	rest, below := strings.CutPrefix(p, at+"/")
	switch {
	case at == "":
		rest = p
	case p == at:
		return name, true
	case !below:
		return "", false
	}
	if name == "" || name == "/" {
		return name + rest, true
	}
	return name + "/" + rest, true
}

// copy copies the files of a part from its layer.
func (p part) copy(out *tar.Writer, layer io.Reader) error {
	for t := tar.NewReader(layer); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		names := p[strings.TrimPrefix(path.Clean("/"+h.Name), "/")]
		if len(names) == 0 || h.Typeflag == tar.TypeLink || h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		for i, name := range names {
			one := &tar.Header{
				Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid,
				ModTime: h.ModTime, Devmajor: h.Devmajor, Devminor: h.Devminor, Format: tar.FormatPAX,
			}
			for key, value := range h.PAXRecords {
				if strings.HasPrefix(key, "SCHILY.xattr.") {
					if one.PAXRecords == nil {
						one.PAXRecords = map[string]string{}
					}
					one.PAXRecords[key] = value
				}
			}
			if one.Typeflag == tar.TypeGNUSparse {
				one.Typeflag = tar.TypeReg
			}
			if i > 0 {
				one.Typeflag, one.Linkname, one.Size = tar.TypeLink, names[0], 0
			}
			if err := out.WriteHeader(one); err != nil {
				return err
			}
			if i == 0 {
				if _, err := io.Copy(out, t); err != nil {
					return err
				}
			}
		}
	}
}
