package images

import (
	"context"
	"encoding/json"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless"
)

// Resolve asks a registry what ref means there: the descriptor of an index or a manifest, and the platforms in it. Nothing
// is recorded.
func (s *Service) Resolve(ctx context.Context, ref string, login *registry.AuthConfig) (*registry.DistributionInspect, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	named, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	named = reference.TagNameOnly(named)
	auth, err := credentials(login)
	if err != nil {
		return nil, err
	}
	repo, err := s.repository(named.Name())
	if err != nil {
		return nil, err
	}
	var target name.Reference
	if c, ok := named.(reference.Canonical); ok {
		target = repo.Digest(c.Digest().String())
	} else {
		target = repo.Tag(named.(reference.Tagged).Tag())
	}
	desc, err := remote.Get(target, s.registryOptions(ctx, auth)...)
	if err != nil {
		return nil, pullError(ctx, named, auth != nil, err)
	}
	platforms, err := platformsOf(desc)
	if err != nil {
		return nil, pullError(ctx, named, auth != nil, err)
	}
	out := &registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: string(desc.MediaType), Digest: digest.Digest(desc.Digest.String()), Size: desc.Size},
		Platforms:  []ocispec.Platform{},
	}
	for _, p := range platforms {
		out.Platforms = append(out.Platforms, ocispec.Platform{
			Architecture: p.Architecture, OS: p.OS, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures, Variant: p.Variant,
		})
	}
	return out, nil
}

func platformsOf(desc *remote.Descriptor) (out []v1.Platform, err error) {
	if desc.MediaType.IsIndex() {
		var index v1.IndexManifest
		if err := json.Unmarshal(desc.Manifest, &index); err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "its manifest list is no JSON: %w", err)
		}
		for _, m := range index.Manifests {
			if m.Platform != nil {
				out = append(out, *m.Platform)
			}
		}
		return out, nil
	}
	if !desc.MediaType.IsImage() {
		return nil, nil // an artifact has no platform
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	if !isImageConfig(m.Config.MediaType) {
		return nil, nil
	}
	if m.Config.Size <= 0 || m.Config.Size > configLimit {
		return nil, sockerless.Errorf(sockerless.EINVALID, "its config has %d bytes", m.Config.Size)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	return []v1.Platform{{Architecture: cfg.Architecture, OS: cfg.OS, OSVersion: cfg.OSVersion, OSFeatures: cfg.OSFeatures, Variant: cfg.Variant}}, nil
}
