package sockerless

import (
	"context"
	"iter"

	"github.com/moby/moby/api/types/network"
)

// NetworkService is what can be asked of networks: objects that containers are members of. The networks bridge, host and
// none are always there.
type NetworkService interface {
	// Create makes a network and returns its id; Warning says what it will not do. ECONFLICT if the name is taken,
	// EUNSUPPORTED, naming the option, for what the cloud cannot do.
	Create(ctx context.Context, req network.CreateRequest) (*network.CreateResponse, error)

	// Find returns one network with the containers that run in it.
	Find(ctx context.Context, ref string) (*network.Inspect, error)

	// List yields networks as Find does, in the order of their names. An unknown filter is EINVALID.
	List(ctx context.Context, filters Filters) iter.Seq2[*network.Inspect, error]

	// Connect makes a container a member, with what endpoint, which may be nil, says of it. EFORBIDDEN if it runs and is
	// one already.
	Connect(ctx context.Context, ref, container string, endpoint *network.EndpointSettings) error

	// Disconnect ends a container's membership.
	Disconnect(ctx context.Context, ref, container string, force bool) error

	// Remove deletes a network. EFORBIDDEN if containers run in it, or if it is one of those that are always there.
	Remove(ctx context.Context, ref string) error

	// Prune removes all networks that no container runs in, and returns their names.
	Prune(ctx context.Context, filters Filters) (*network.PruneReport, error)
}
