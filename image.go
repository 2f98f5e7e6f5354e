package sockerless

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
)

// Image is an image that was pulled, loaded or imported: its manifest and config are known here, its layers are in
// its registry.
type Image struct {
	ID          string          // sha256:<hex of the config>
	Tags        []string        // references such as docker.io/library/alpine:latest, in familiar form
	Digests     []string        // repository@digest, in familiar form
	Source      string          // what jobs run: the full repository@digest of the platform's manifest
	Config      json.RawMessage // the OCI image config, whole
	Defaults    *container.Config
	Manifest    string // the media type of the manifest
	Created     time.Time
	Size        int64 // compressed bytes of all layers
	Layers      []Layer
	Pulled      time.Time
	Author      string
	Platform    string // os/architecture[/variant]
	Parent      string
	LastTagTime time.Time
	Containers  int // how many are made of it; List alone tells
}

// Layer is one layer of an image.
type Layer struct {
	Digest string // of the compressed blob
	DiffID string // of the tar inside
	Size   int64  // compressed
}

// ImageService is what can be asked of images.
type ImageService interface {
	// Pull resolves ref in its registry and records what it found, telling the progress. The credentials are used for
	// this pull and for the jobs that run the image.
	Pull(ctx context.Context, ref string, opt PullOptions) iter.Seq2[jsonstream.Message, error]

	// Load pushes the images of a `docker save` archive into the configured registry and records them.
	Load(ctx context.Context, tar io.Reader) iter.Seq2[jsonstream.Message, error]

	// Import makes an image of one root file system, pushes it into the configured registry and records it.
	Import(ctx context.Context, opt ImportOptions, tar io.Reader) iter.Seq2[jsonstream.Message, error]

	// Push copies the image that ref names into ref's registry, telling the progress; what the registry has already is not
	// moved.
	Push(ctx context.Context, ref string, opt PushOptions) iter.Seq2[jsonstream.Message, error]

	// Save returns images as one tar, which Load takes: an OCI image layout that is an archive of `docker save` too. A ref
	// without a tag is all tags of its repository. The caller closes it; a stream that ends without tar's end mark was cut
	// off, and its Read says why.
	Save(ctx context.Context, refs []string) (io.ReadCloser, error)

	// Search asks the search of a registry, Docker Hub's if term names none.
	Search(ctx context.Context, term string, opt SearchOptions) ([]registry.SearchResult, error)

	// Resolve asks a registry what ref means there. Nothing is recorded.
	Resolve(ctx context.Context, ref string, auth *registry.AuthConfig) (*registry.DistributionInspect, error)

	// Find returns one image.
	Find(ctx context.Context, ref string) (*Image, error)

	// List yields images, the newest first. An unknown filter is EINVALID.
	List(ctx context.Context, opt ImageListOptions) iter.Seq2[*Image, error]

	// Tag adds a reference to an image.
	Tag(ctx context.Context, ref, target string) error

	// Remove takes a reference from an image, and forgets the image with its last one. ECONFLICT if a container uses
	// it and force is not set. Registries are left as they are.
	Remove(ctx context.Context, ref string, force bool) ([]image.DeleteResponse, error)

	// Prune forgets the images without a tag that no container uses; with the filter dangling=false all that none uses.
	Prune(ctx context.Context, filters Filters) (*image.PruneReport, error)
}

// PullOptions is how to pull.
type PullOptions struct {
	Platform string // empty: linux/amd64, what Container Apps runs
	Auth     *registry.AuthConfig
}

// PushOptions is how to push.
type PushOptions struct {
	All  bool // every tag of the repository that the reference names
	Auth *registry.AuthConfig
}

// SearchOptions is what to search for.
type SearchOptions struct {
	Limit   int // 0: 25
	Filters Filters
	Auth    *registry.AuthConfig
}

// ImportOptions is what to make of a root file system.
type ImportOptions struct {
	Ref      string // the tag to give; empty: none
	Message  string
	Changes  []string // Dockerfile instructions: CMD, ENV, USER...
	Platform string
}

// ImageListOptions selects images.
type ImageListOptions struct {
	All     bool
	Filters Filters
}
