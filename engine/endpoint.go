package engine

import (
	"maps"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

// settleEndpoints puts into a container's record which networks it is a member of: those that its NetworkingConfig names,
// else that of its mode. Each goes by its network's name; one that does not exist, by what the user typed until a start
// asks for it.
func (e *Engine) settleEndpoints(rec *record) {
	said := map[string]*network.EndpointSettings(nil)
	if rec.NetworkingConfig != nil {
		said = rec.NetworkingConfig.EndpointsConfig
	}
	if len(said) == 0 {
		said = map[string]*network.EndpointSettings{modeNetwork(rec.HostConfig): nil}
	}
	settled := make(map[string]*network.EndpointSettings, len(said))
	for name, s := range said {
		endpoint := network.EndpointSettings{}
		if s != nil {
			endpoint = *s
		}
		if name == network.NetworkDefault {
			name = network.NetworkBridge
		}
		endpoint.NetworkID = ""
		if n, err := e.findNetwork(name); err == nil {
			name, endpoint.NetworkID = n.Name, n.ID
		}
		endpoint.EndpointID = newID(32)
		settled[name] = &endpoint
	}
	rec.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: settled}
}

// modeNetwork is the network that a container is in by its HostConfig alone.
func modeNetwork(h *docker.HostConfig) string {
	if h == nil || h.NetworkMode == "" || h.NetworkMode == network.NetworkDefault {
		return network.NetworkBridge
	}
	return string(h.NetworkMode)
}

// changeEndpoints stores what f makes of the container's memberships. c.mu is held.
func (c *container) changeEndpoints(f func(map[string]*network.EndpointSettings)) error {
	next := maps.Clone(c.rec.NetworkingConfig.EndpointsConfig)
	f(next)
	return c.change(func(rec *record) { rec.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: next} })
}

// joinNetworks looks for the networks of a container that is to start: one may be missing since its creation, and one of
// the same name may have taken its place. c.mu is held.
func (c *container) joinNetworks() error {
	moved := map[string]*network.EndpointSettings{}
	for name, endpoint := range c.rec.NetworkingConfig.EndpointsConfig {
		if _, ok := c.e.networks.get(endpoint.NetworkID); ok {
			continue
		}
		n, err := c.e.findNetwork(name)
		if err != nil {
			return sockerless.Errorf(sockerless.ErrorCode(err), "failed to set up container networking: %w", err)
		}
		now := *endpoint
		now.NetworkID = n.ID
		moved[name] = &now
	}
	if len(moved) == 0 {
		return nil
	}
	return c.changeEndpoints(func(m map[string]*network.EndpointSettings) {
		for name, endpoint := range moved {
			n, _ := c.e.networks.get(endpoint.NetworkID)
			delete(m, name)
			m[n.Name] = endpoint
		}
	})
}

// networkEvents tells of all the container's networks what its start or its exit means for them. c.mu is held.
func (c *container) networkEvents(action events.Action) {
	for _, name := range slices.Sorted(maps.Keys(c.rec.NetworkingConfig.EndpointsConfig)) {
		if n, ok := c.e.networks.get(c.rec.NetworkingConfig.EndpointsConfig[name].NetworkID); ok {
			c.e.networkEvent(n, action, map[string]string{"container": c.id})
		}
	}
}

// networkMatches is the filter network of `docker ps`: a name, an id, or the begin of one.
func networkMatches(f sockerless.Filters, c *sockerless.Container) bool {
	return slices.ContainsFunc(f["network"], func(want string) bool {
		for name, endpoint := range c.NetworkingConfig.EndpointsConfig {
			if name == want || want != "" && strings.HasPrefix(endpoint.NetworkID, want) {
				return true
			}
		}
		return false
	})
}
