package images

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sockerless/sockerless"
)

// defaultPlatform is what Container Apps runs.
const defaultPlatform = "linux/amd64"

// parsePlatform reads a platform as users write it: linux/amd64, arm64, linux/arm/v7.
func parsePlatform(s string) (v1.Platform, error) {
	invalid := sockerless.Errorf(sockerless.EINVALID, "%q: unknown operating system or architecture: invalid argument", bounded(s))
	parts := strings.Split(strings.ToLower(s), "/")
	if slices.Contains(parts, "") || len(parts) > 3 {
		return v1.Platform{}, invalid
	}
	if len(parts) == 1 {
		if parts[0] == "linux" {
			parts = []string{"linux", "amd64"}
		} else {
			parts = []string{"linux", parts[0]}
		}
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	p = normalize(p)
	for _, part := range parts {
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return v1.Platform{}, invalid
		}
	}
	return p, nil
}

// normalize gives one name to what has several, and drops a variant that says nothing.
func normalize(p v1.Platform) v1.Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && p.Variant == "v8":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

func platformString(p v1.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// maxIndexDepth is how many indexes an index may be inside of.
const maxIndexDepth = 4

// choose follows indexes from what a tag means to the manifest of one platform.
func choose(ctx context.Context, puller *remote.Puller, ref reference.Named, repo name.Repository, desc *remote.Descriptor, want v1.Platform) (*remote.Descriptor, error) {
	for range maxIndexDepth {
		if !desc.MediaType.IsIndex() {
			return desc, nil
		}
		var index v1.IndexManifest
		if err := json.Unmarshal(desc.Manifest, &index); err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "cannot pull %s: its manifest list is no JSON: %w", reference.FamiliarString(ref), err)
		}
		next, ok := match(index.Manifests, want)
		if !ok {
			return nil, sockerless.Errorf(sockerless.ENOTFOUND, "no matching manifest for %s in the manifest list entries", platformString(want))
		}
		var err error
		if desc, err = puller.Get(ctx, repo.Digest(next.Digest.String())); err != nil {
			return nil, err
		}
	}
	return nil, sockerless.Errorf(sockerless.EINVALID, "cannot pull %s: its manifest lists are nested too deeply", reference.FamiliarString(ref))
}

// match picks the entry of a manifest list for a platform: the same variant, else one that names none. An entry without
// any platform comes last, for lists that were made by hand.
func match(entries []v1.Descriptor, want v1.Platform) (v1.Descriptor, bool) {
	var loose, bare *v1.Descriptor
	for i, e := range entries {
		if !e.MediaType.IsImage() && !e.MediaType.IsIndex() {
			continue
		}
		if e.Platform == nil {
			if bare == nil && want.OS == "linux" && want.Architecture == "amd64" {
				bare = &entries[i]
			}
			continue
		}
		have := normalize(*e.Platform)
		switch {
		case platformString(have) == platformString(want):
			return e, true
		case loose == nil && have.OS == want.OS && have.Architecture == want.Architecture && (have.Variant == "" || want.Variant == "" && want.Architecture != "amd64"):
			loose = &entries[i]
		}
	}
	switch {
	case loose != nil:
		return *loose, true
	case bare != nil:
		return *bare, true
	}
	return v1.Descriptor{}, false
}

// isImageConfig knows the media types that image configs have had; the last two were made by old registries, and dockerd
// takes them too.
func isImageConfig(t types.MediaType) bool {
	switch t {
	case types.DockerConfigJSON, types.OCIConfigJSON, "application/octet-stream", "text/html", "":
		return true
	}
	return false
}
