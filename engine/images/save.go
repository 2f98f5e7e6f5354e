package images

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sockerless/sockerless"
)

// Save returns images as one tar: an OCI image layout with the manifest.json of `docker save` beside it, as Docker Engine
// writes since version 25. The blobs come from their registries as they are there, compressed, and pass through without a
// copy on the way; each is in the tar once. The caller closes the stream; one that ends without tar's end mark was cut off,
// and its Read says why.
func (s *Service) Save(ctx context.Context, refs []string) (io.ReadCloser, error) {
	if len(refs) == 0 {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot save: no image is named")
	}
	list, err := s.toSave(refs)
	if err != nil {
		return nil, err
	}
	// What is missing or closed is a refusal, and not a stream that breaks off.
	for _, o := range list {
		if o.image, _, err = s.open(ctx, o.source); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() { // ends with the last image, or when r is closed
		defer cancel()
		w.CloseWithError(s.save(ctx, w, list))
	}()
	return &treeReader{r, cancel}, nil
}

// outgoing is an image that is to be saved, with the names that it was asked for by.
type outgoing struct {
	source string
	tags   []string // full
	image  *storedImage
}

// toSave finds the images that refs name, in their order, each once.
func (s *Service) toSave(refs []string) ([]*outgoing, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*outgoing
	add := func(r refRecord) {
		i := slices.IndexFunc(list, func(o *outgoing) bool { return o.source == r.Source })
		if i < 0 {
			i = len(list)
			list = append(list, &outgoing{source: r.Source})
		}
		if o := list[i]; r.Ref != "" && isTag(r.Ref) && !slices.Contains(o.tags, r.Ref) {
			o.tags = append(o.tags, r.Ref)
		}
	}
	for _, ref := range refs {
		all := s.allTags(ref)
		if len(all) == 0 {
			found, err := s.lookup(ref)
			if err != nil {
				return nil, err
			}
			all = []refRecord{found}
		}
		for _, r := range all {
			add(r)
		}
	}
	for _, o := range list {
		slices.Sort(o.tags)
	}
	return list, nil
}

// allTags returns the tags of the repository that ref is, if it has neither a tag nor a digest. s.mu is held.
func (s *Service) allTags(ref string) (all []refRecord) {
	if len(ref) > maxReference {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) {
		return nil
	}
	for tag, r := range s.refs {
		if isTag(tag) && repositoryOf(tag) == named.Name() {
			all = append(all, r.value)
		}
	}
	slices.SortFunc(all, func(a, b refRecord) int { return strings.Compare(a.Ref, b.Ref) })
	return all
}

// savedEntry is an image in manifest.json.
type savedEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (s *Service) save(ctx context.Context, w io.Writer, list []*outgoing) error {
	buffered := bufio.NewWriterSize(w, 64<<10)
	out := &layoutWriter{tar: tar.NewWriter(buffered), done: map[v1.Hash]bool{}}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	entries := []savedEntry{}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := out.header(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, o := range list {
		desc, entry, err := out.image(ctx, o)
		if err != nil {
			repo, _, _ := strings.Cut(o.source, "/")
			return registryError(ctx, repo, err)
		}
		entries = append(entries, entry)
		if len(o.tags) == 0 {
			index.Manifests = append(index.Manifests, desc)
		}
		for _, tag := range o.tags {
			desc.Annotations = map[string]string{annotationName: tag, annotationRef: tag[strings.LastIndex(tag, ":")+1:]}
			index.Manifests = append(index.Manifests, desc)
		}
	}
	for _, file := range []struct {
		name    string
		content any
	}{{"index.json", index}, {"manifest.json", entries}, {"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}}} {
		b, err := json.Marshal(file.content)
		if err == nil {
			err = out.file(file.name, b)
		}
		if err != nil {
			return err
		}
	}
	if err := out.tar.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// layoutWriter writes an OCI image layout.
type layoutWriter struct {
	tar  *tar.Writer
	done map[v1.Hash]bool
}

func (w *layoutWriter) header(h *tar.Header) error {
	h.ModTime = time.Unix(0, 0) // the same images make the same archive
	return w.tar.WriteHeader(h)
}

func (w *layoutWriter) file(name string, content []byte) error {
	if err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := w.tar.Write(content)
	return err
}

// image writes the blobs of an image that are not there yet.
func (w *layoutWriter) image(ctx context.Context, o *outgoing) (v1.Descriptor, savedEntry, error) {
	entry := savedEntry{RepoTags: []string{}, Layers: []string{}}
	for _, tag := range o.tags {
		entry.RepoTags = append(entry.RepoTags, familiar(tag))
	}
	m, err := o.image.manifest(ctx)
	if err != nil {
		return v1.Descriptor{}, entry, err
	}
	layers, err := o.image.Layers()
	if err != nil {
		return v1.Descriptor{}, entry, err
	}
	for i, l := range layers {
		entry.Layers = append(entry.Layers, blobPath(m.Layers[i].Digest))
		if err := w.layer(ctx, l, m.Layers[i]); err != nil {
			return v1.Descriptor{}, entry, err
		}
	}
	config, err := o.image.RawConfigFile()
	if err != nil {
		return v1.Descriptor{}, entry, err
	}
	entry.Config = blobPath(m.Config.Digest)
	if err := w.blob(m.Config.Digest, config); err != nil {
		return v1.Descriptor{}, entry, err
	}
	_, digest, _ := strings.Cut(o.source, "@")
	at, err := v1.NewHash(digest)
	if err != nil {
		return v1.Descriptor{}, entry, err
	}
	raw := o.image.raw
	return v1.Descriptor{MediaType: raw.media, Digest: at, Size: int64(len(raw.raw))}, entry, w.blob(at, raw.raw)
}

func (w *layoutWriter) blob(digest v1.Hash, content []byte) error {
	if w.done[digest] {
		return nil
	}
	w.done[digest] = true
	return w.file(blobPath(digest), content)
}

// layer copies a layer from its registry. That it is what its digest says is known at its end: what is not cuts the tar.
func (w *layoutWriter) layer(ctx context.Context, l v1.Layer, desc v1.Descriptor) error {
	if w.done[desc.Digest] {
		return nil
	}
	w.done[desc.Digest] = true
	blob, err := l.Compressed()
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: blobPath(desc.Digest), Mode: 0o644, Size: desc.Size}); err != nil {
		return err
	}
	n, err := io.Copy(w.tar, withContext(ctx, blob))
	if err == nil && n != desc.Size {
		err = fmt.Errorf("layer %s has %d bytes, not %d", desc.Digest, n, desc.Size)
	}
	return err
}
