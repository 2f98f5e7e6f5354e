package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/sockerless/sockerless"
)

const (
	// pullTimeout bounds a pull, which moves no layers: some small requests.
	pullTimeout = 5 * time.Minute
	// configLimit is far above any config seen; it is read into memory.
	configLimit = 8 << 20
)

// Pull resolves ref in its registry and records what it means. No layer is moved: it is checked that the registry has
// each, and the progress says just that. A reference that is recorded with the same digest is up to date.
func (s *Service) Pull(ctx context.Context, ref string, opt sockerless.PullOptions) iter.Seq2[jsonstream.Message, error] {
	return stream(func(say func(jsonstream.Message) error) error {
		ctx, cancel := context.WithTimeout(ctx, pullTimeout)
		defer cancel()
		return s.pull(ctx, ref, opt, say)
	})
}

func (s *Service) pull(ctx context.Context, ref string, opt sockerless.PullOptions, say func(jsonstream.Message) error) error {
	named, err := parseRef(ref)
	if err != nil {
		return err
	}
	named = reference.TagNameOnly(named)
	want, err := parsePlatform(orDefault(opt.Platform))
	if err != nil {
		return err
	}
	auth, err := credentials(opt.Auth)
	if err != nil {
		return err
	}
	repo, err := s.repository(named.Name())
	if err != nil {
		return err
	}
	puller, err := remote.NewPuller(s.registryOptions(ctx, auth)...)
	if err != nil {
		return err
	}
	explain := func(err error) error { return pullError(ctx, named, auth != nil, err) }

	var target name.Reference
	var short string // what the first line is about
	if c, ok := named.(reference.Canonical); ok {
		short = c.Digest().String()
		target = repo.Digest(short)
	} else {
		short = named.(reference.Tagged).Tag()
		target = repo.Tag(short)
	}
	top, err := puller.Get(ctx, target)
	if err != nil {
		return explain(err)
	}
	if err := say(jsonstream.Message{ID: short, Status: "Pulling from " + reference.Path(named)}); err != nil {
		return err
	}
	desc, err := choose(ctx, puller, named, repo, top, want)
	if err != nil {
		return explain(err)
	}
	rec, err := s.fetch(named, desc, func(size int64, d v1.Hash) ([]byte, error) {
		blob, err := puller.Layer(ctx, repo.Digest(d.String()))
		if err != nil {
			return nil, err
		}
		data, err := readBlob(blob, size, d)
		if answer, ok := errors.AsType[*transport.Error](err); ok && answer.StatusCode == http.StatusNotFound {
			return nil, sockerless.Errorf(sockerless.ENOTFOUND, "its config %s is missing in the registry: blob unknown to registry", d)
		}
		return data, err
	})
	if err != nil {
		return explain(err)
	}
	if opt.Platform != "" && rec.Platform != platformString(want) {
		// An index was asked for the platform; a single manifest has what it has.
		if have, err := parsePlatform(rec.Platform); err != nil || have.OS != want.OS || have.Architecture != want.Architecture {
			return sockerless.Errorf(sockerless.ENOTFOUND,
				"image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
				reference.FamiliarString(named), rec.Platform, platformString(want))
		}
	}
	if err := checkLayers(ctx, puller, repo, rec.Sources[0].Layers, say); err != nil {
		return explain(err)
	}

	keep := s.keepLogin(named, auth)
	if keep == nil && auth != nil && reference.Domain(named) != s.opt.Registry {
		err := say(jsonstream.Message{Status: "The login is a token, which jobs cannot use: they pull with the backend's own identity"})
		if err != nil {
			return err
		}
	}
	refs := []string{named.Name() + "@" + top.Digest.String()}
	if tagged := key(named); isTag(tagged) {
		refs = append(refs, tagged)
	}
	news, err := s.add(ctx, addition{rec, refs, keep})
	if err != nil {
		return err
	}
	s.event(events.ActionPull, reference.FamiliarString(named), reference.FamiliarName(named), s.labelsOf(rec.ID))
	s.log.Info("image pulled", "ref", key(named), "image", rec.ID, "source", rec.Sources[0].Name, "new", news)
	status := "Status: Image is up to date for "
	if news {
		status = "Status: Downloaded newer image for "
	}
	if err := say(jsonstream.Message{Status: "Digest: " + top.Digest.String()}); err != nil {
		return err
	}
	return say(jsonstream.Message{Status: status + reference.FamiliarString(named)})
}

// keepLogin returns what jobs need of a user's credentials. The configured registry needs none: jobs pull from it with
// an identity. Tokens are of no use to a job's registry secret, which is a user name and a password.
func (s *Service) keepLogin(named reference.Named, auth *authn.AuthConfig) *login {
	if auth == nil || auth.Username == "" || auth.Password == "" || reference.Domain(named) == s.opt.Registry {
		return nil
	}
	return &login{auth.Username, auth.Password}
}

// fetch makes a record of an image's manifest and config; blob reads a small blob and verifies it.
func (s *Service) fetch(named reference.Named, desc *remote.Descriptor, blob func(int64, v1.Hash) ([]byte, error)) (record, error) {
	shown := reference.FamiliarString(named)
	if desc.MediaType.IsSchema1() {
		return record{}, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot pull %s: Docker Image manifest version 2, schema 1 is not supported any more", shown)
	}
	rec, err := describe(named.Name(), string(desc.MediaType), desc.Manifest, blob)
	if err != nil {
		return record{}, fmt.Errorf("cannot pull %s: %w", shown, err)
	}
	return rec, nil
}

// describe makes a record of a manifest in a repository. Whatever is wrong with it is EINVALID.
func describe(repo, media string, raw []byte, blob func(int64, v1.Hash) ([]byte, error)) (record, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return record{}, sockerless.Errorf(sockerless.EINVALID, "its manifest is no JSON: %w", err)
	}
	switch {
	case !isImageConfig(m.Config.MediaType):
		return record{}, sockerless.Errorf(sockerless.EINVALID, "it is no image of a container but %s", bounded(string(m.Config.MediaType)))
	case m.Config.Size <= 0 || m.Config.Size > configLimit:
		return record{}, sockerless.Errorf(sockerless.EINVALID, "its config has %d bytes", m.Config.Size)
	}
	cfgRaw, err := blob(m.Config.Size, m.Config.Digest)
	if err != nil {
		return record{}, err
	}
	cfg, err := parseConfig(cfgRaw)
	if err != nil {
		return record{}, sockerless.Errorf(sockerless.EINVALID, "its config is no JSON: %w", err)
	}
	if len(cfg.diffIDs) != len(m.Layers) {
		return record{}, sockerless.Errorf(sockerless.EINVALID, "its manifest has %d layers and its config %d", len(m.Layers), len(cfg.diffIDs))
	}
	platform := v1.Platform{OS: cfg.os, Architecture: cfg.architecture, Variant: cfg.variant}
	if platform.OS == "" {
		platform.OS = "linux" // images older than the field
	}
	if platform.Architecture == "" {
		platform.Architecture = "amd64"
	}
	now := time.Now().UTC()
	src := source{Name: repo + "@" + digest.FromBytes(raw).String(), Media: media, Pulled: now}
	for i, l := range m.Layers {
		src.Layers = append(src.Layers, sockerless.Layer{Digest: l.Digest.String(), DiffID: cfg.diffIDs[i].String(), Size: l.Size})
	}
	return record{
		ID: digest.FromBytes(cfgRaw).String(), Config: json.RawMessage(cfgRaw),
		Platform: platformString(normalize(platform)), Recorded: now, Sources: []source{src},
	}, nil
}

// readBlob reads a small blob whole and holds it to its size and digest.
func readBlob(blob partial.CompressedLayer, size int64, want v1.Hash) ([]byte, error) {
	r, err := blob.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != size || digest.NewDigestFromEncoded(digest.Algorithm(want.Algorithm), want.Hex) != digest.Algorithm(want.Algorithm).FromBytes(data) {
		return nil, sockerless.Errorf(sockerless.EINVALID, "blob %s is not what its digest says", want)
	}
	return data, nil
}

// checkLayers asks the registry for each layer, so that a job does not find out later that one is missing.
func checkLayers(ctx context.Context, puller *remote.Puller, repo name.Repository, layers []sockerless.Layer, say func(jsonstream.Message) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan sockerless.Layer, len(layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	check := func(l sockerless.Layer) error {
		blob, err := puller.Layer(ctx, repo.Digest(l.Digest))
		if err != nil {
			return err
		}
		there, err := partial.Exists(blob)
		if err != nil {
			return err
		}
		if !there {
			return sockerless.Errorf(sockerless.ENOTFOUND, "layer %s is missing in the registry: blob unknown to registry", l.Digest)
		}
		found <- l
		return nil
	}
	go func() { // ends with the requests, which end with ctx
		defer close(found)
		asked := map[string]bool{}
		for _, l := range layers {
			if !asked[l.Digest] {
				asked[l.Digest] = true
				group.Go(func() error { return check(l) })
			}
		}
		_ = group.Wait() // its error is asked for below
	}()
	var stopped error
	for l := range found {
		if stopped != nil {
			continue
		}
		stopped = say(jsonstream.Message{ID: shortDigest(l.Digest), Status: "Found in the registry, " + units.HumanSize(float64(l.Size))})
		if stopped != nil {
			cancel()
		}
	}
	if stopped != nil {
		return stopped
	}
	return group.Wait()
}

// errStopped says that nobody listens to the progress any more.
var errStopped = fmt.Errorf("nobody listens any more: %w", context.Canceled)

// stream makes a feed of work that tells its progress. When the listener stops, say fails and so should the work.
func stream(work func(say func(jsonstream.Message) error) error) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		stopped := false
		err := work(func(m jsonstream.Message) error {
			if stopped || !yield(m, nil) {
				stopped = true
				return errStopped
			}
			return nil
		})
		if err != nil && !stopped {
			yield(jsonstream.Message{}, err)
		}
	}
}

func shortDigest(d string) string {
	_, hex, _ := strings.Cut(d, ":")
	return hex[:min(12, len(hex))]
}

func orDefault(platform string) string {
	if platform == "" {
		return defaultPlatform
	}
	return platform
}
