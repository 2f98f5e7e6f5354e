package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless"
)

// Load pushes the images of an archive of `docker save`, or of an OCI image layout, into the configured registry, and
// records each under the tags that the archive gives it. The archive may be compressed (gzip, bzip2, zstd); it is held on
// disk, not in memory. An image is recorded once all of it is in the registry; those before a bad one stay.
func (s *Service) Load(ctx context.Context, archive io.Reader) iter.Seq2[jsonstream.Message, error] {
	return stream(func(say func(jsonstream.Message) error) error { return s.load(ctx, archive, say) })
}

// saved is one image of an archive.
type saved struct {
	config   []byte
	tags     []reference.Named
	layers   []savedLayer
	manifest *rawManifest // nil if the archive has none: it is Docker's
}

type savedLayer struct {
	at   extent
	blob *v1.Descriptor // what an OCI manifest says of it; nil: nothing does
}

func (s *Service) load(ctx context.Context, archive io.Reader, say func(jsonstream.Message) error) error {
	p, err := s.newPush(ctx, "load", say)
	if err != nil {
		return err
	}
	sp, err := newSpool(ctx, s.opt.SpoolDir, s.opt.SpoolLimit, archive)
	if err != nil {
		return err
	}
	defer sp.close()
	var list []saved
	if _, ok := sp.find("manifest.json"); ok { // newer versions of docker save write both
		list, err = dockerArchive(sp)
	} else if _, ok := sp.find("index.json"); ok {
		list, err = ociLayout(sp)
	} else {
		err = sockerless.Errorf(sockerless.EINVALID,
			"cannot load: the archive has no manifest.json and no index.json; for the archive of a file system use docker import")
	}
	if err != nil {
		return err
	}
	for _, img := range list {
		if err := s.loadOne(ctx, p, sp, img); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) loadOne(ctx context.Context, p *push, sp *spool, img saved) error {
	id := digest.FromBytes(img.config).String()
	cfg, err := parseConfig(img.config)
	if err != nil {
		return sockerless.Errorf(sockerless.EINVALID, "cannot load: the config of an image is no JSON: %w", err)
	}
	if len(cfg.diffIDs) != len(img.layers) {
		return sockerless.Errorf(sockerless.EINVALID, "cannot load image %s: it has %d layers and its config %d", shortDigest(id), len(img.layers), len(cfg.diffIDs))
	}
	var first reference.Named
	tag := "image"
	if len(img.tags) > 0 {
		first = img.tags[0]
		tag = first.(reference.Tagged).Tag()
	}
	repo, err := p.home(first, id)
	if err != nil {
		return err
	}
	var layers []*layer
	for i, from := range img.layers {
		var l *layer
		var count atomic.Int64
		err := p.watch(ctx, shortDigest(cfg.diffIDs[i].String()), "Loading layer", from.at.size, &count, func(ctx context.Context) error {
			var err error
			l, err = readyLayer(ctx, sp, from, cfg.diffIDs[i], s.opt.SpoolDir, s.opt.SpoolLimit, &count)
			return err
		})
		if err != nil {
			return err
		}
		err = p.layer(ctx, repo, l)
		l.close()
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	rec, err := p.image(ctx, repo, tag, img.config, img.manifest, layers)
	if err != nil {
		return err
	}
	var refs []string
	for _, t := range img.tags {
		refs = append(refs, key(t))
	}
	renamed := s.meansAnother(refs, id)
	if _, err := s.add(ctx, addition{record: rec, refs: refs}); err != nil {
		return err
	}
	s.event(events.ActionLoad, rec.ID, rec.ID, s.labelsOf(rec.ID))
	s.log.Info("image loaded", "image", id, "tags", refs, "source", rec.Sources[0].Name)
	for _, r := range renamed {
		err := p.say(jsonstream.Message{Stream: fmt.Sprintf("The image %s already exists, renaming the old one with ID %s to empty string\n", familiar(r.Ref), r.Image)})
		if err != nil {
			return err
		}
	}
	if len(refs) == 0 {
		return p.say(jsonstream.Message{Stream: "Loaded image ID: " + id + "\n"})
	}
	for _, r := range refs {
		if err := p.say(jsonstream.Message{Stream: "Loaded image: " + familiar(r) + "\n"}); err != nil {
			return err
		}
	}
	return nil
}

// meansAnother returns what those of refs mean now that do not mean image id.
func (s *Service) meansAnother(refs []string, id string) []refRecord {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []refRecord
	for _, ref := range refs {
		if r, ok := s.refs[ref]; ok && r.value.Image != id {
			out = append(out, r.value)
		}
	}
	return out
}

// dockerArchive reads the list in an archive of docker save.
func dockerArchive(sp *spool) ([]saved, error) {
	raw, err := sp.read("manifest.json", configLimit)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot load: manifest.json is no JSON of docker save: %w", err)
	}
	var list []saved
	for _, e := range entries {
		img := saved{}
		if img.config, err = sp.read(e.Config, configLimit); err != nil {
			return nil, err
		}
		for _, t := range e.RepoTags {
			if img.tags, err = addTag(img.tags, t); err != nil {
				return nil, err
			}
		}
		for _, file := range e.Layers {
			at, err := sp.must(file)
			if err != nil {
				return nil, err
			}
			img.layers = append(img.layers, savedLayer{at: at})
		}
		list = append(list, img)
	}
	return list, nil
}

// The annotations that name an image in an OCI layout. containerd's has the full name; OCI's has it or just a tag.
const (
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

// ociLayout reads the images for linux/amd64 in an OCI image layout.
func ociLayout(sp *spool) ([]saved, error) {
	index, err := readIndex(sp, "index.json")
	if err != nil {
		return nil, err
	}
	var list []saved
	for _, desc := range index.Manifests {
		tag := desc.Annotations[annotationName]
		if ref := desc.Annotations[annotationRef]; tag == "" && strings.ContainsAny(ref, "/:") {
			tag = ref
		}
		for range maxIndexDepth {
			if !desc.MediaType.IsIndex() {
				break
			}
			inner, err := readIndex(sp, blobPath(desc.Digest))
			if err != nil {
				return nil, err
			}
			want, _ := parsePlatform(defaultPlatform)
			next, ok := match(inner.Manifests, want)
			if !ok {
				return nil, sockerless.Errorf(sockerless.ENOTFOUND, "cannot load: no matching manifest for %s in the manifest list entries", defaultPlatform)
			}
			desc = next
		}
		if !desc.MediaType.IsImage() {
			return nil, sockerless.Errorf(sockerless.EINVALID, "cannot load: the archive has a manifest of type %s, which is no image's", bounded(string(desc.MediaType)))
		}
		img, err := ociImage(sp, desc)
		if err != nil {
			return nil, err
		}
		if tag != "" {
			if img.tags, err = addTag(nil, tag); err != nil {
				return nil, err
			}
		}
		list = append(list, img)
	}
	return list, nil
}

func ociImage(sp *spool, desc v1.Descriptor) (saved, error) {
	raw, err := readVerified(sp, desc.Digest, manifestLimit)
	if err != nil {
		return saved{}, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return saved{}, sockerless.Errorf(sockerless.EINVALID, "cannot load: a manifest is no JSON: %w", err)
	}
	if !isImageConfig(m.Config.MediaType) {
		return saved{}, sockerless.Errorf(sockerless.EINVALID, "cannot load: it is no image of a container but %s", bounded(string(m.Config.MediaType)))
	}
	img := saved{manifest: &rawManifest{raw: raw, media: desc.MediaType}}
	if img.config, err = readVerified(sp, m.Config.Digest, configLimit); err != nil {
		return saved{}, err
	}
	for _, l := range m.Layers {
		at, err := sp.must(blobPath(l.Digest))
		if err != nil {
			return saved{}, err
		}
		img.layers = append(img.layers, savedLayer{at, &l})
	}
	return img, nil
}

func readIndex(sp *spool, name string) (*v1.IndexManifest, error) {
	raw, err := sp.read(name, manifestLimit)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot load: %s is no JSON of an image index: %w", bounded(name), err)
	}
	return &index, nil
}

// readVerified returns a small blob of an OCI layout, held to its digest.
func readVerified(sp *spool, want v1.Hash, limit int64) ([]byte, error) {
	raw, err := sp.read(blobPath(want), limit)
	if err != nil {
		return nil, err
	}
	if want.Algorithm != "sha256" || digest.FromBytes(raw).String() != want.String() {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot load: blob %s is not what its digest says", want)
	}
	return raw, nil
}

func blobPath(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// addTag adds a name that an archive gives to an image.
func addTag(tags []reference.Named, name string) ([]reference.Named, error) {
	named, err := parseRef(name)
	if err != nil {
		return nil, err
	}
	if _, ok := named.(reference.Canonical); ok {
		return tags, nil // docker save of a digest: the image comes without a name
	}
	named = reference.TagNameOnly(named)
	if slices.ContainsFunc(tags, func(t reference.Named) bool { return key(t) == key(named) }) {
		return tags, nil
	}
	return append(tags, named), nil
}
