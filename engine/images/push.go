package images

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless"
)

const (
	progressEvery = 250 * time.Millisecond
	// stallTimeout is how long a registry may take no byte of a layer, or think about one, before the push is given up.
	stallTimeout = 5 * time.Minute
)

// push brings images into a registry: the configured one, or that of the name of an image that a user pushes. What it has
// pushed when it fails stays there, without a name, and nothing is recorded here.
type push struct {
	s      *Service
	pusher *remote.Pusher
	host   string
	say    func(jsonstream.Message) error
}

// newPush refuses, saying what to set, if there is no registry to push to. what is the command.
func (s *Service) newPush(ctx context.Context, what string, say func(jsonstream.Message) error) (*push, error) {
	if s.opt.Registry == "" {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot %s: images go to a registry that Container Apps pulls from, and none is configured: set SOCKERLESS_ACA_ACR", what)
	}
	pusher, err := remote.NewPusher(s.registryOptions(ctx, nil)...)
	if err != nil {
		return nil, err
	}
	return &push{s, pusher, s.opt.Registry, say}, nil
}

// home returns the repository that an image is pushed to. All are below loaded/, so that no load can overwrite what
// somebody has pushed there by hand; below it they are called as people call them.
func (p *push) home(named reference.Named, id string) (name.Repository, error) {
	path := shortDigest(id)
	if named != nil {
		domain := reference.Domain(named)
		path = reference.Path(named)
		switch domain {
		case p.s.opt.Registry:
		case "docker.io":
			path = strings.TrimPrefix(path, "library/")
		default:
			path = asComponent(domain) + "/" + path
		}
		if len(path) > 200 { // registries take 255 with the rest
			path = shortDigest(id)
		}
	}
	return p.s.repository(p.s.opt.Registry + "/loaded/" + path)
}

// asComponent makes a part of a repository's name of a registry's: localhost:5000 is localhost-5000.
func asComponent(domain string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(domain)), "-.")
}

// image pushes what parts of an image are not in repo yet, then the manifest, and returns the record to keep. A manifest
// of nil is made here.
func (p *push) image(ctx context.Context, repo name.Repository, tag string, cfg []byte, manifest *rawManifest, layers []*layer) (record, error) {
	explain := func(err error) error { return registryError(ctx, p.host, err) }
	if err := p.pusher.Upload(ctx, repo, static.NewLayer(cfg, types.OCIConfigJSON)); err != nil {
		return record{}, explain(err)
	}
	if manifest == nil {
		var err error
		if manifest, err = makeManifest(cfg, layers); err != nil {
			return record{}, err
		}
	}
	// The tag names the manifest's digest, so it never moves: registries may delete manifests that no tag names
	// (Azure: "retention policy for untagged manifests"), and containers still run them.
	full := tag[:min(len(tag), 100)] + "-" + shortDigest(digest.FromBytes(manifest.raw).String())
	if err := p.pusher.Put(ctx, repo.Tag(full), manifest); err != nil {
		return record{}, explain(err)
	}
	return describe(p.s.opt.Registry+"/"+repo.RepositoryStr(), string(manifest.media), manifest.raw, func(int64, v1.Hash) ([]byte, error) { return cfg, nil })
}

// layer pushes one layer, telling the progress under the id of what is inside.
func (p *push) layer(ctx context.Context, repo name.Repository, l *layer) error {
	id := shortDigest(l.diffID.String())
	var sent atomic.Int64
	err := p.watch(ctx, id, "Pushing", l.size, &sent, func(ctx context.Context) error {
		blob, err := l.blob(ctx, &sent)
		if err != nil {
			return err
		}
		if err := p.pusher.Upload(ctx, repo, blob); err != nil {
			return registryError(ctx, p.host, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	status := "Pushed"
	if sent.Load() == 0 && l.size > 0 {
		status = "Layer already exists"
	}
	return p.say(jsonstream.Message{ID: id, Status: status})
}

// watch does some work and tells every now and then how far it is. It returns when the work has ended, and ends it early
// if nobody listens any more or nothing moves.
func (p *push) watch(ctx context.Context, id, status string, total int64, count *atomic.Int64, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- work(ctx) }() // ends with its work, which ends with ctx
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var failed error
	last, moved := int64(-1), time.Now()
	for {
		select {
		case err := <-ended:
			if failed != nil {
				return failed
			}
			return err
		case now := <-tick.C:
			n := count.Load()
			switch {
			case failed != nil:
				continue
			case n != last:
				last, moved = n, now
				failed = p.say(jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{Current: n, Total: total}})
			case now.Sub(moved) > stallTimeout:
				failed = sockerless.Errorf(sockerless.ETIMEOUT, "registry %s takes no more of layer %s", p.host, id)
			}
			if failed != nil {
				cancel()
			}
		}
	}
}

// rawManifest is a manifest as it goes to the registry.
type rawManifest struct {
	raw   []byte
	media types.MediaType
}

// RawManifest implements remote.Taggable.
func (m *rawManifest) RawManifest() ([]byte, error) { return m.raw, nil }

// MediaType tells go-containerregistry how to label it.
func (m *rawManifest) MediaType() (types.MediaType, error) { return m.media, nil }

// makeManifest describes layers as Docker does, or as OCI does if one is of a kind that only OCI has.
func makeManifest(cfg []byte, layers []*layer) (*rawManifest, error) {
	out, cfgMedia := &rawManifest{media: types.DockerManifestSchema2}, types.DockerConfigJSON
	for _, l := range layers {
		if l.media != types.DockerLayer {
			out.media, cfgMedia = types.OCIManifestSchema1, types.OCIConfigJSON
		}
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: out.media}
	m.Config = v1.Descriptor{MediaType: cfgMedia, Size: int64(len(cfg))}
	var err error
	if m.Config.Digest, err = v1.NewHash(digest.FromBytes(cfg).String()); err != nil {
		return nil, fmt.Errorf("cannot describe an image: %w", err)
	}
	for _, l := range layers {
		h, err := v1.NewHash(l.digest.String())
		if err != nil {
			return nil, fmt.Errorf("cannot describe a layer: %w", err)
		}
		media := l.media
		if out.media == types.OCIManifestSchema1 && media == types.DockerLayer {
			media = types.OCILayer
		}
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: media, Size: l.size, Digest: h})
	}
	if out.raw, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("cannot describe an image: %w", err)
	}
	return out, nil
}
