package images

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/sockerless/sockerless"
)

// Push copies the image that ref names from where it was pulled from into the registry that ref names. A layer that is
// there already is not moved, and one that the same registry has in another repository is mounted. What a failed push has
// moved stays in the registry, without a name.
func (s *Service) Push(ctx context.Context, ref string, opt sockerless.PushOptions) iter.Seq2[jsonstream.Message, error] {
	return stream(func(say func(jsonstream.Message) error) error { return s.publish(ctx, ref, opt, say) })
}

func (s *Service) publish(ctx context.Context, ref string, opt sockerless.PushOptions, say func(jsonstream.Message) error) error {
	named, err := parseRef(ref)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return sockerless.Errorf(sockerless.EINVALID, "cannot push a digest reference")
	}
	auth, err := credentials(opt.Auth)
	if err != nil {
		return err
	}
	repo, err := s.repository(named.Name())
	if err != nil {
		return err
	}
	options := s.registryOptions(ctx, auth)
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return err
	}
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return err
	}
	if err := say(jsonstream.Message{Status: "The push refers to repository [" + named.Name() + "]"}); err != nil {
		return err
	}
	tags, err := s.tagsOf(named, opt.All)
	if err != nil {
		return err
	}
	p := &push{s: s, pusher: pusher, host: reference.Domain(named), say: say}
	for _, tag := range tags {
		if err := p.publish(ctx, puller, repo, tag); err != nil {
			return err
		}
	}
	return nil
}

// tagsOf returns what a reference names, or all tags of its repository.
func (s *Service) tagsOf(named reference.Named, all bool) ([]refRecord, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var tags []refRecord
	for ref, r := range s.refs {
		if isTag(ref) && repositoryOf(ref) == named.Name() {
			tags = append(tags, r.value)
		}
	}
	if len(tags) == 0 {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	slices.SortFunc(tags, func(a, b refRecord) int { return strings.Compare(a.Ref, b.Ref) })
	if all {
		return tags, nil
	}
	i := slices.IndexFunc(tags, func(r refRecord) bool { return r.Ref == key(named) })
	if i < 0 {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "tag does not exist: %s", reference.FamiliarString(reference.TagNameOnly(named)))
	}
	return tags[i : i+1], nil
}

// publish copies what one tag means.
func (p *push) publish(ctx context.Context, puller *remote.Puller, repo name.Repository, r refRecord) error {
	img, from, err := p.s.open(ctx, r.Source)
	if err != nil {
		return err
	}
	m, err := img.manifest(ctx)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return registryError(ctx, from.RegistryStr(), err)
	}
	record := map[string]string{} // diff ids, which progress is told under as dockerd does
	p.s.mu.RLock()
	if rec := p.s.images[r.Image]; rec != nil {
		for _, l := range rec.value.Sources[len(rec.value.Sources)-1].Layers {
			record[l.Digest] = l.DiffID
		}
	}
	p.s.mu.RUnlock()
	for i, l := range layers {
		digest := m.Layers[i].Digest
		id := shortDigest(cmp.Or(record[digest.String()], digest.String()))
		if err := p.copyLayer(ctx, puller, repo, from, id, l, m.Layers[i]); err != nil {
			return err
		}
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return registryError(ctx, from.RegistryStr(), err)
	}
	if err := p.pusher.Upload(ctx, repo, config); err != nil {
		return pushError(ctx, p.host, err)
	}
	tag := r.Ref[strings.LastIndex(r.Ref, ":")+1:]
	if err := p.pusher.Put(ctx, repo.Tag(tag), img.raw); err != nil {
		return pushError(ctx, p.host, err)
	}
	_, digest, _ := strings.Cut(r.Source, "@")
	if err := p.s.published(ctx, r, digest); err != nil {
		return err
	}
	size := len(img.raw.raw)
	if err := p.say(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, digest, size)}); err != nil {
		return err
	}
	aux, err := json.Marshal(struct {
		Tag    string
		Digest string
		Size   int
	}{tag, digest, size})
	if err != nil {
		return err
	}
	return p.say(jsonstream.Message{Aux: (*json.RawMessage)(&aux)})
}

// published notes that a repository has an image now under its digest.
func (s *Service) published(ctx context.Context, r refRecord, digest string) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	_, there := s.images[r.Image]
	s.mu.RUnlock()
	if !there {
		return nil // it was removed meanwhile; the registry has it nevertheless
	}
	at := repositoryOf(r.Ref) + "@" + digest
	if _, err := s.point(context.WithoutCancel(ctx), refRecord{at, r.Image, r.Source, time.Now().UTC()}); err != nil {
		return err
	}
	s.event(events.ActionPush, familiar(r.Ref), familiar(r.Ref), s.labelsOf(r.Image))
	s.log.Info("image pushed", "image", r.Image, "ref", r.Ref, "digest", digest)
	return nil
}

// copyLayer brings one layer into a repository, and tells how.
func (p *push) copyLayer(ctx context.Context, puller *remote.Puller, repo, from name.Repository, id string, l v1.Layer, desc v1.Descriptor) error {
	there, err := puller.Layer(ctx, repo.Digest(desc.Digest.String()))
	if err == nil {
		if has, err := partial.Exists(there); err == nil && has {
			return p.say(jsonstream.Message{ID: id, Status: "Layer already exists"})
		}
	}
	if err := p.say(jsonstream.Message{ID: id, Status: "Preparing"}); err != nil {
		return err
	}
	var sent atomic.Int64
	err = p.watch(ctx, id, "Pushing", desc.Size, &sent, func(ctx context.Context) error {
		mountable := &remote.MountableLayer{Layer: &countedLayer{l, ctx, &sent}, Reference: from.Digest(desc.Digest.String())}
		return pushError(ctx, p.host, p.pusher.Upload(ctx, repo, mountable))
	})
	if err != nil {
		return err
	}
	if sent.Load() == 0 && desc.Size > 0 {
		return p.say(jsonstream.Message{ID: id, Status: "Mounted from " + strings.TrimPrefix(from.RepositoryStr(), "library/")})
	}
	return p.say(jsonstream.Message{ID: id, Status: "Pushed"})
}

// countedLayer counts what is sent of a layer.
type countedLayer struct {
	v1.Layer
	ctx   context.Context // of the push: go-containerregistry's layers take none
	count *atomic.Int64
}

// Compressed implements v1.Layer. It starts again each time, for the library's retries.
func (l *countedLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	l.count.Store(0)
	return struct {
		io.Reader
		io.Closer
	}{counted(withContext(l.ctx, r), l.count), r}, nil
}

// stored is an image in its registry.
type storedImage struct {
	v1.Image
	raw *rawManifest
}

// open returns the image of a source as its registry has it, and its repository. Nothing but the manifest is read yet;
// what is read of it is held to its digest.
func (s *Service) open(ctx context.Context, source string) (*storedImage, name.Repository, error) {
	full, digest, _ := strings.Cut(source, "@")
	repo, err := s.repository(full)
	if err != nil {
		return nil, repo, err
	}
	desc, err := remote.Get(repo.Digest(digest), s.pulling(ctx, source)...)
	if err != nil {
		return nil, repo, registryError(ctx, repo.RegistryStr(), gone(err, source))
	}
	img, err := desc.Image()
	if err != nil {
		return nil, repo, registryError(ctx, repo.RegistryStr(), err)
	}
	return &storedImage{img, &rawManifest{desc.Manifest, desc.MediaType}}, repo, nil
}

// gone says so if a registry does not have any more what a record names.
func gone(err error, source string) error {
	if answer, ok := errors.AsType[*transport.Error](err); ok && answer.StatusCode == http.StatusNotFound {
		return sockerless.Errorf(sockerless.ENOTFOUND, "%s is not in its registry any more", source)
	}
	return err
}

func (i *storedImage) manifest(ctx context.Context) (*v1.Manifest, error) {
	m, err := i.Manifest()
	if err != nil {
		return nil, fmt.Errorf("cannot read a manifest: %w", cmp.Or(ctx.Err(), err))
	}
	return m, nil
}

// pushError says in Docker's words why something could not be pushed.
func pushError(ctx context.Context, host string, err error) error {
	if err == nil {
		return nil
	}
	answer, ok := errors.AsType[*transport.Error](err)
	if !ok || answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden {
		return registryError(ctx, host, err)
	}
	_, message := diagnosis(answer)
	return sockerless.Errorf(sockerless.EFORBIDDEN, "denied: %s", cmp.Or(message, "requested access to the resource is denied"))
}
