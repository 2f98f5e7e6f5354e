package images

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless"
)

// Find returns the image that ref means: a tag, a digest, an id, or the beginning of an id that no other image has. Its
// Source is the place that ref names; with an id, the place where it was pulled from last.
func (s *Service) Find(_ context.Context, ref string) (*sockerless.Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	var refs []refRecord
	for _, r := range s.refs {
		if r.value.Image == found.Image {
			refs = append(refs, r.value)
		}
	}
	return s.view(found.Image, found.Source, refs)
}

// lookup finds what a reference means. Ref is empty in the answer if it was (the beginning of) an id. s.mu is held.
func (s *Service) lookup(ref string) (refRecord, error) {
	if len(ref) > maxReference {
		return refRecord{}, badReference(reference.ErrReferenceInvalidFormat)
	}
	missing := sockerless.Errorf(sockerless.ENOTFOUND, "No such image: %s", bounded(ref))
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return refRecord{}, badReference(err)
	}
	named, isNamed := parsed.(reference.Named)
	if isNamed {
		if r, ok := s.refs[key(named)]; ok {
			return r.value, nil
		}
		missing = sockerless.Errorf(sockerless.ENOTFOUND, "No such image: %s", reference.FamiliarString(reference.TagNameOnly(named)))
	}
	prefix := strings.TrimPrefix(ref, "sha256:")
	if prefix == "" || strings.Trim(prefix, "0123456789abcdef") != "" {
		return refRecord{}, missing
	}
	var found *record
	for id, img := range s.images {
		if strings.HasPrefix(id, "sha256:"+prefix) {
			if found != nil {
				return refRecord{}, missing // which of the two is not ours to guess; dockerd says the same
			}
			found = &img.value
		}
	}
	if found == nil {
		return refRecord{}, missing
	}
	return refRecord{Image: found.ID, Source: found.Sources[len(found.Sources)-1].Name}, nil
}

// view makes what callers see of an image, with one of its sources and the given references to it. s.mu is held.
func (s *Service) view(id, from string, refs []refRecord) (*sockerless.Image, error) {
	stored, ok := s.images[id]
	if !ok {
		return nil, fmt.Errorf("cannot find image %s, which a name in the store means", id)
	}
	rec := stored.value
	at := slices.IndexFunc(rec.Sources, func(o source) bool { return o.Name == from })
	if at < 0 {
		at = len(rec.Sources) - 1
	}
	src := rec.Sources[at]
	cfg, err := parseConfig(rec.Config)
	if err != nil {
		return nil, fmt.Errorf("cannot read the config of image %s: %w", id, err)
	}
	img := &sockerless.Image{
		ID: id, Source: src.Name, Manifest: src.Media, Pulled: src.Pulled, Layers: slices.Clone(src.Layers),
		Config: slices.Clone(rec.Config), Defaults: cfg.defaults, Created: cfg.created, Author: cfg.author, Platform: rec.Platform, Parent: rec.Parent,
	}
	for _, l := range src.Layers {
		img.Size += l.Size
	}
	for _, r := range refs {
		if isTag(r.Ref) {
			img.Tags = append(img.Tags, familiar(r.Ref))
			if r.Time.After(img.LastTagTime) {
				img.LastTagTime = r.Time
			}
		} else {
			img.Digests = append(img.Digests, familiar(r.Ref))
		}
	}
	slices.Sort(img.Tags)
	slices.Sort(img.Digests)
	return img, nil
}

// key is how a reference is stored: in full, with a digest or else with a tag, and never with both.
func key(named reference.Named) string {
	if c, ok := named.(reference.Canonical); ok {
		return c.Name() + "@" + c.Digest().String()
	}
	return reference.TagNameOnly(named).String()
}

func isTag(key string) bool { return !strings.Contains(key, "@") }

// familiar shortens a stored reference to what people write.
func familiar(key string) string {
	named, err := reference.ParseNormalizedNamed(key)
	if err != nil {
		return key
	}
	return reference.FamiliarString(named)
}

// maxReference is more than a name (255), a tag (128) and a digest take. Looking at a megabyte takes seconds.
const maxReference = 1024

// parseRef reads what a user gave as the name of an image.
func parseRef(ref string) (reference.Named, error) {
	if len(ref) > maxReference {
		return nil, badReference(reference.ErrReferenceInvalidFormat)
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, badReference(err)
	}
	if c, ok := named.(reference.Canonical); ok {
		if err := c.Digest().Validate(); err != nil {
			return nil, badReference(err)
		}
	}
	return named, nil
}

// badReference begins as clients expect it: `docker inspect` goes on to other kinds of objects after these words.
func badReference(err error) error {
	const words = "invalid reference format"
	text := bounded(err.Error())
	if !strings.HasPrefix(text, words) {
		text = words + ": " + text
	}
	return sockerless.Errorf(sockerless.EINVALID, "%s", text)
}

type config struct {
	defaults                  *container.Config
	created                   time.Time
	author                    string
	os, architecture, variant string
	diffIDs                   []digest.Digest
}

// parseConfig reads an image's config as leniently as dockerd does: a port that is none is left out.
func parseConfig(raw []byte) (config, error) {
	type settings container.Config
	var c struct {
		Created                   *time.Time
		Author                    string
		OS, Architecture, Variant string
		Config                    *struct {
			settings
			ExposedPorts map[string]struct{}
		}
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return config{}, err
	}
	out := config{
		defaults: &container.Config{}, author: c.Author,
		os: c.OS, architecture: c.Architecture, variant: c.Variant, diffIDs: c.RootFS.DiffIDs,
	}
	if c.Created != nil {
		out.created = *c.Created
	}
	if c.Config != nil {
		*out.defaults = container.Config(c.Config.settings)
		for p := range c.Config.ExposedPorts {
			port, err := network.ParsePort(p)
			if err != nil {
				continue
			}
			if out.defaults.ExposedPorts == nil {
				out.defaults.ExposedPorts = network.PortSet{}
			}
			out.defaults.ExposedPorts[port] = struct{}{}
		}
	}
	return out, nil
}

// bounded cuts what a message repeats of a request.
func bounded(s string) string {
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}
