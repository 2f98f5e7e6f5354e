package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless"
)

// Commit makes an image of the image that a container was made of and a layer, a tar; nil adds none. opt.Config is what
// the new image says to its containers, complete; opt.Changes and opt.Pause are the engine's. The layers of the old image
// are mounted where they are in the same registry, and copied into the configured one from another.
func (s *Service) Commit(ctx context.Context, from *sockerless.Container, opt sockerless.CommitOptions, layer io.Reader) (string, error) {
	p, err := s.newPush(ctx, "commit", func(jsonstream.Message) error { return ctx.Err() })
	if err != nil {
		return "", err
	}
	var named reference.Named
	var refs []string
	tag := "image"
	if opt.Ref != "" {
		if named, err = parseRef(opt.Ref); err != nil {
			return "", err
		}
		if _, ok := named.(reference.Canonical); ok {
			return "", sockerless.Errorf(sockerless.EINVALID, "refusing to create a tag with a digest reference")
		}
		named = reference.TagNameOnly(named)
		tag = named.(reference.Tagged).Tag()
		refs = []string{key(named)}
	}
	base, at, err := s.open(ctx, from.ImageRef)
	if err != nil {
		return "", err
	}
	added, err := s.packed(ctx, layer)
	if err != nil {
		return "", err
	}
	if added != nil {
		defer added.close()
	}
	m, err := base.manifest(ctx)
	if err != nil {
		return "", err
	}
	config, err := base.childConfig(ctx, at.RegistryStr(), from, opt, added)
	if err != nil {
		return "", err
	}
	repo, err := p.home(named, from.ID)
	if err != nil {
		return "", err
	}
	if err := p.copyLayers(ctx, repo, at, base, m); err != nil {
		return "", err
	}
	if added != nil {
		if err := p.layer(ctx, repo, added); err != nil {
			return "", err
		}
	}
	manifest, err := childManifest(m, base.raw.media, config, added)
	if err != nil {
		return "", err
	}
	rec, err := p.image(ctx, repo, tag, config, manifest, nil)
	if err != nil {
		return "", err
	}
	rec.Parent = from.Image
	if _, err := s.add(ctx, addition{record: rec, refs: refs}); err != nil {
		return "", err
	}
	if named != nil {
		s.event(events.ActionTag, rec.ID, familiar(key(named)), s.labelsOf(rec.ID))
	}
	s.log.Info("container committed", "container", from.ID, "image", rec.ID, "tags", refs, "source", rec.Sources[0].Name)
	return rec.ID, nil
}

// packed compresses a layer; nil if there is none.
func (s *Service) packed(ctx context.Context, tar io.Reader) (*layer, error) {
	if tar == nil {
		return nil, nil
	}
	l, err := compressLayer(withContext(ctx, tar), s.opt.SpoolDir, s.opt.SpoolLimit, false)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return l, err
}

// copyLayers brings the layers of an image into a repository.
func (p *push) copyLayers(ctx context.Context, repo, from name.Repository, img *storedImage, m *v1.Manifest) error {
	puller, err := remote.NewPuller(p.s.registryOptions(ctx, nil)...)
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return registryError(ctx, from.RegistryStr(), err)
	}
	for i, l := range layers {
		if err := p.copyLayer(ctx, puller, repo, from, shortDigest(m.Layers[i].Digest.String()), l, m.Layers[i]); err != nil {
			return err
		}
	}
	return nil
}

// childConfig is the config of an image that a container of another one is made into, as dockerd makes it: what the parent
// says and Docker does not know of stays.
func (i *storedImage) childConfig(ctx context.Context, host string, from *sockerless.Container, opt sockerless.CommitOptions, added *layer) ([]byte, error) {
	m, err := i.manifest(ctx)
	if err != nil {
		return nil, err
	}
	if m.Config.Size <= 0 || m.Config.Size > configLimit {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot commit: the config of the container's image has %d bytes", m.Config.Size)
	}
	raw, err := i.RawConfigFile()
	if err != nil {
		return nil, registryError(ctx, host, err)
	}
	var whole map[string]json.RawMessage
	var parent dockerspec.DockerOCIImage
	if err := errors.Join(json.Unmarshal(raw, &whole), json.Unmarshal(raw, &parent)); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot commit: the config of the container's image is no JSON: %w", err)
	}
	now := time.Now().UTC()
	history := append(parent.History, ocispec.History{
		Created: &now, CreatedBy: strings.Join(from.Config.Cmd, " "), Author: opt.Author, Comment: opt.Comment, EmptyLayer: added == nil,
	})
	if added != nil {
		parent.RootFS.DiffIDs = append(parent.RootFS.DiffIDs, added.diffID)
	}
	for _, of := range []string{"author", "container", "container_config", "docker_version", "id", "parent"} { // the parent's
		delete(whole, of)
	}
	fields := map[string]any{"created": now, "config": imageConfig(opt.Config), "history": history, "rootfs": parent.RootFS}
	if opt.Author != "" {
		fields["author"] = opt.Author
	}
	for name, value := range fields {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("cannot describe an image: %w", err)
		}
		whole[name] = b
	}
	b, err := json.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("cannot describe an image: %w", err)
	}
	return b, nil
}

// imageConfig takes from a container's config what an image can say.
func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	out := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes, WorkingDir: c.WorkingDir,
		Labels: c.Labels, StopSignal: c.StopSignal, ArgsEscaped: c.ArgsEscaped, //nolint:staticcheck // what there was stays
	}}
	for port := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[port.String()] = struct{}{}
	}
	out.Healthcheck, out.OnBuild, out.Shell = c.Healthcheck, c.OnBuild, c.Shell
	return out
}

// childManifest is a manifest of the parent's kind with one layer more, if there is one.
func childManifest(parent *v1.Manifest, media types.MediaType, config []byte, added *layer) (*rawManifest, error) {
	m := v1.Manifest{SchemaVersion: 2, MediaType: media, Layers: parent.Layers}
	m.Config = v1.Descriptor{MediaType: parent.Config.MediaType, Size: int64(len(config))}
	var err error
	if m.Config.Digest, _, err = v1.SHA256(strings.NewReader(string(config))); err != nil {
		return nil, fmt.Errorf("cannot describe an image: %w", err)
	}
	if added != nil {
		desc := v1.Descriptor{MediaType: types.DockerLayer, Size: added.size}
		if media == types.OCIManifestSchema1 {
			desc.MediaType = types.OCILayer
		}
		if desc.Digest, err = v1.NewHash(added.digest.String()); err != nil {
			return nil, fmt.Errorf("cannot describe a layer: %w", err)
		}
		m.Layers = append(m.Layers, desc)
	}
	out := &rawManifest{media: media}
	if out.raw, err = json.Marshal(m); err != nil {
		return nil, fmt.Errorf("cannot describe an image: %w", err)
	}
	return out, nil
}
