package sockerless

import (
	"context"
	"iter"

	"github.com/moby/moby/api/types/volume"
)

// VolumeService is what can be asked of volumes. They go by their names; there are no ids.
type VolumeService interface {
	// Create makes a volume, or returns the one that there is by that name; without a name one is made up. EUNSUPPORTED,
	// naming the option, for what the cloud cannot do.
	Create(ctx context.Context, req volume.CreateRequest) (*volume.Volume, error)

	// Find returns one volume.
	Find(ctx context.Context, name string) (*volume.Volume, error)

	// List yields volumes in the order of their names. An unknown filter is EINVALID.
	List(ctx context.Context, filters Filters) iter.Seq2[*volume.Volume, error]

	// Remove deletes a volume. ECONFLICT if a container uses it, whatever force is; with force, one that is not there is
	// no error.
	Remove(ctx context.Context, name string, force bool) error

	// Prune removes the anonymous volumes that no container uses; with the filter all=true the named ones too.
	Prune(ctx context.Context, filters Filters) (*volume.PruneReport, error)
}
