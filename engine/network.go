package engine

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/fields"
)

// networkTable has one network.Network an id. Who is a member of it is in the containers' records.
const networkTable = "networks"

// predefined are the networks that are always there, and the drivers that Docker gives them.
var predefined = map[string]string{network.NetworkBridge: "bridge", network.NetworkHost: "host", network.NetworkNone: "null"}

// networkService is the engine's NetworkService.
type networkService struct{ *Engine }

// openNetworks reads the networks, and makes those that are always there.
func (e *Engine) openNetworks(ctx context.Context) error {
	var err error
	if e.networks, err = openShelf[network.Network](ctx, e.store, networkTable); err != nil {
		return err
	}
	e.networks.change.Lock()
	defer e.networks.change.Unlock()
	for name, driver := range predefined {
		if _, ok := e.networkNamed(name); ok {
			continue
		}
		n := newNetwork(network.CreateRequest{Name: name})
		n.Driver = driver
		if err := e.networks.put(ctx, n.ID, n); err != nil {
			return err
		}
	}
	return nil
}

func newNetwork(req network.CreateRequest) network.Network {
	n := network.Network{
		Name: req.Name, ID: newID(32), Created: time.Now().UTC(), Scope: "local", Driver: "bridge",
		EnableIPv4: true, EnableIPv6: req.EnableIPv6 != nil && *req.EnableIPv6, Attachable: req.Attachable,
		IPAM:    network.IPAM{Driver: "default", Options: map[string]string{}, Config: []network.IPAMConfig{}},
		Options: req.Options, Labels: req.Labels,
	}
	if req.IPAM != nil {
		n.IPAM = network.IPAM{Driver: cmp.Or(req.IPAM.Driver, "default"), Options: req.IPAM.Options, Config: req.IPAM.Config}
	}
	if n.Options == nil {
		n.Options = map[string]string{}
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	return n
}

// Create makes a network: one write to the store.
func (s networkService) Create(ctx context.Context, req network.CreateRequest) (*network.CreateResponse, error) {
	warnings, err := checkNetwork(&req)
	if err != nil {
		return nil, err
	}
	s.networks.change.Lock()
	defer s.networks.change.Unlock()
	if _, taken := s.networkNamed(req.Name); taken {
		return nil, sockerless.Errorf(sockerless.ECONFLICT, "network with name %s already exists", req.Name)
	}
	n := newNetwork(*clone(&req))
	if err := s.networks.put(ctx, n.ID, n); err != nil {
		return nil, err
	}
	s.networkEvent(n, events.ActionCreate, nil)
	return &network.CreateResponse{ID: n.ID, Warning: strings.Join(warnings, "; ")}, nil
}

// checkNetwork refuses what Docker refuses, in its words, and what cannot be here, by name.
func checkNetwork(req *network.CreateRequest) (warnings []string, err error) {
	_, isPredefined := predefined[req.Name]
	unsupported := func(option, why string) error {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use %s: %s", option, why)
	}
	const noSwarm = "there is no swarm here"
	switch {
	case strings.TrimSpace(req.Name) == "":
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid network name: name is empty")
	case isPredefined || req.Name == network.NetworkDefault:
		return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "operation is not permitted on predefined %s network", req.Name)
	case req.Driver == "overlay":
		return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "This node is not a swarm manager. "+
			`Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	case req.Driver == "host" || req.Driver == "null":
		return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "only one instance of %q network is allowed", req.Driver)
	case req.Driver == "macvlan" || req.Driver == "ipvlan":
		return nil, unsupported("--driver="+req.Driver, "Container Apps gives no host interfaces")
	case req.Driver != "" && req.Driver != "bridge":
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "could not find plugin %s in v1 plugin registry: plugin not found", req.Driver)
	case req.IPAM != nil && req.IPAM.Driver != "" && req.IPAM.Driver != "default":
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "could not find plugin %s in v1 plugin registry: plugin not found", req.IPAM.Driver)
	case req.Internal:
		return nil, unsupported("--internal", "a container always reaches the network of its Container Apps environment")
	case req.Ingress:
		return nil, unsupported("--ingress", noSwarm)
	case req.Scope != "" && req.Scope != "local":
		return nil, unsupported("--scope="+req.Scope, noSwarm)
	case req.ConfigOnly:
		return nil, unsupported("--config-only", "networks have no configuration that others could take")
	case req.ConfigFrom != nil && req.ConfigFrom.Network != "":
		return nil, unsupported("--config-from", "networks have no configuration that others could take")
	case req.EnableIPv4 != nil && !*req.EnableIPv4:
		return nil, unsupported("--ipv4=false", "Container Apps assigns the addresses")
	}
	if err := checkIPAM(req.IPAM); err != nil {
		return nil, err
	}
	warnings = append(warnings, "containers are listed in this network, and do not reach each other by it: "+
		"Container Apps has no networks between jobs")
	if req.EnableIPv6 != nil && *req.EnableIPv6 {
		warnings = append(warnings, "--ipv6 has no effect: Container Apps assigns the addresses")
	}
	if req.IPAM != nil && (len(req.IPAM.Config) > 0 || len(req.IPAM.Options) > 0) {
		warnings = append(warnings, "--subnet, --gateway, --ip-range and --aux-address have no effect: Container Apps assigns the addresses")
	}
	if len(req.Options) > 0 {
		warnings = append(warnings, "--opt has no effect: there is no bridge that could be set up")
	}
	return warnings, nil
}

// checkIPAM refuses addresses that are not in their network.
func checkIPAM(ipam *network.IPAM) error {
	if ipam == nil {
		return nil
	}
	for _, c := range ipam.Config {
		if c.Gateway.IsValid() && c.Subnet.IsValid() && !c.Subnet.Contains(c.Gateway) {
			return sockerless.Errorf(sockerless.EINVALID, "failed to allocate gateway (%s): Requested address is out of range", c.Gateway)
		}
	}
	return nil
}

// findNetwork returns the network that ref means: a whole id, a name, or an unambiguous prefix of an id.
func (e *Engine) findNetwork(ref string) (network.Network, error) {
	if n, ok := e.networks.get(ref); ok {
		return n, nil
	}
	if n, ok := e.networkNamed(ref); ok {
		return n, nil
	}
	var found []network.Network
	for _, n := range e.networks.all() {
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return network.Network{}, sockerless.Errorf(sockerless.ENOTFOUND, "network %s not found", ref)
	}
	return network.Network{}, sockerless.Errorf(sockerless.EINVALID, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

func (e *Engine) networkNamed(name string) (network.Network, bool) {
	for _, n := range e.networks.all() {
		if n.Name == name {
			return n, true
		}
	}
	return network.Network{}, false
}

// Find returns one network with the containers that run in it.
func (s networkService) Find(ctx context.Context, ref string) (*network.Inspect, error) {
	n, err := s.findNetwork(ref)
	if err != nil {
		return nil, err
	}
	return s.inspectNetwork(n, s.members()[n.ID]), ctx.Err()
}

func (s networkService) inspectNetwork(n network.Network, in map[string]network.EndpointResource) *network.Inspect {
	out := network.Inspect{Network: *clone(&n), Containers: in}
	if in == nil {
		out.Containers = map[string]network.EndpointResource{}
	}
	return &out
}

// members returns who runs in which network: by the network's id, then by the container's.
func (e *Engine) members() map[string]map[string]network.EndpointResource {
	out := map[string]map[string]network.EndpointResource{}
	for _, c := range e.all() {
		if !inNetworks(c.State.Status) {
			continue
		}
		for _, endpoint := range c.NetworkingConfig.EndpointsConfig {
			in := out[endpoint.NetworkID]
			if in == nil {
				in = map[string]network.EndpointResource{}
				out[endpoint.NetworkID] = in
			}
			in[c.ID] = network.EndpointResource{Name: c.Name, EndpointID: endpoint.EndpointID}
		}
	}
	return out
}

// inNetworks says whether a container in this state holds its networks: Docker takes its endpoints away when it exits.
func inNetworks(s docker.ContainerState) bool {
	return s == docker.StateRunning || s == docker.StatePaused || s == docker.StateRestarting
}

// List yields networks.
func (s networkService) List(ctx context.Context, f sockerless.Filters) iter.Seq2[*network.Inspect, error] {
	return func(yield func(*network.Inspect, error) bool) {
		list, err := s.listNetworks(f)
		if err != nil {
			yield(nil, err)
			return
		}
		members := s.members()
		for _, n := range list {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(s.inspectNetwork(n, members[n.ID]), nil) {
				return
			}
		}
	}
}

func (s networkService) listNetworks(f sockerless.Filters) ([]network.Network, error) {
	if err := known(f, "dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	dangling, isSet, err := boolean(f, "dangling")
	if err != nil {
		return nil, err
	}
	for _, t := range f["type"] {
		if t != "builtin" && t != "custom" {
			return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter: 'type'='%s'", t)
		}
	}
	members := s.members()
	list := slices.DeleteFunc(s.networks.all(), func(n network.Network) bool {
		kind, used := "custom", len(members[n.ID]) > 0
		if _, ok := predefined[n.Name]; ok {
			kind, used = "builtin", true
		}
		return isSet && dangling == used ||
			!exact(f, "type", kind) || !exact(f, "driver", n.Driver) || !exact(f, "scope", n.Scope) ||
			!idMatches(f, n.ID) || !matching(f, "name", n.Name) || !labelled(f, "label", n.Labels)
	})
	slices.SortFunc(list, func(a, b network.Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Remove deletes a network. Containers that do not run lose nothing by it until they are started, as in Docker.
func (s networkService) Remove(ctx context.Context, ref string) error {
	s.networks.change.Lock()
	defer s.networks.change.Unlock()
	n, err := s.findNetwork(ref)
	if err != nil {
		return err
	}
	return s.removeNetwork(ctx, n)
}

// removeNetwork: s.networks.change is held.
func (s networkService) removeNetwork(ctx context.Context, n network.Network) error {
	if _, ok := predefined[n.Name]; ok {
		return sockerless.Errorf(sockerless.EFORBIDDEN, "%s is a pre-defined network and cannot be removed", n.Name)
	}
	var in []string
	for _, m := range s.members()[n.ID] {
		in = append(in, `name:"`+m.Name+`" id:"`+m.EndpointID[:12]+`"`)
	}
	if len(in) > 0 {
		slices.Sort(in)
		return sockerless.Errorf(sockerless.EFORBIDDEN, "error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(in, ", "))
	}
	if err := s.networks.delete(ctx, n.ID); err != nil {
		return err
	}
	s.networkEvent(n, events.ActionDestroy, nil)
	return nil
}

// Prune removes all networks that no container runs in.
func (s networkService) Prune(ctx context.Context, f sockerless.Filters) (*network.PruneReport, error) {
	match, err := pruneFilter(f)
	if err != nil {
		return nil, err
	}
	s.networks.change.Lock()
	defer s.networks.change.Unlock()
	report := &network.PruneReport{NetworksDeleted: []string{}}
	list := s.networks.all()
	slices.SortFunc(list, func(a, b network.Network) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range list {
		if !match(n.Labels, n.Created) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch err := s.removeNetwork(ctx, n); sockerless.ErrorCode(err) {
		case "":
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		case sockerless.EFORBIDDEN: // it is in use, or always there
		default:
			return nil, err
		}
	}
	s.pruned(events.NetworkEventType, 0)
	return report, nil
}

// networkEvent tells what happened to a network.
func (e *Engine) networkEvent(n network.Network, action events.Action, more map[string]string) {
	attributes := map[string]string{"name": n.Name, "type": n.Driver}
	maps.Copy(attributes, more)
	e.tell(events.NetworkEventType, action, n.ID, attributes)
}

// Connect makes a container a member of a network.
func (s networkService) Connect(_ context.Context, ref, container string, endpoint *network.EndpointSettings) error {
	n, err := s.findNetwork(ref)
	if err != nil {
		return err
	}
	if endpoint == nil {
		endpoint = &network.EndpointSettings{}
	}
	endpoint = clone(endpoint)
	// What an endpoint may not have is what create refuses in one; that it does little was said when the network was made.
	if _, err := fields.Check(&sockerless.CreateRequest{
		Config: &docker.Config{},
		NetworkingConfig: &network.NetworkingConfig{
			EndpointsConfig: map[string]*network.EndpointSettings{network.NetworkDefault: endpoint},
		},
	}); err != nil {
		return err
	}
	switch n.Name {
	case network.NetworkHost:
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot connect to network host: a container has no host here")
	case network.NetworkNone:
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot connect to network none: Container Apps always gives a network")
	}
	c, err := s.locked(container)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, is := c.rec.NetworkingConfig.EndpointsConfig[n.Name]; is && c.running() {
		return sockerless.Errorf(sockerless.EFORBIDDEN, "endpoint with name %s already exists in network %s", c.rec.Name, n.Name)
	}
	endpoint.NetworkID, endpoint.EndpointID = n.ID, newID(32)
	err = c.changeEndpoints(func(m map[string]*network.EndpointSettings) { m[n.Name] = endpoint })
	if err == nil && inNetworks(c.rec.State.Status) {
		s.networkEvent(n, events.ActionConnect, map[string]string{"container": c.id})
	}
	return err
}

// Disconnect ends a container's membership. One that is gone is no member any more, whether it is forced or not.
func (s networkService) Disconnect(_ context.Context, ref, container string, force bool) error {
	n, err := s.findNetwork(ref)
	if err != nil {
		return err
	}
	c, err := s.locked(container)
	if err != nil {
		if force && sockerless.ErrorCode(err) == sockerless.ENOTFOUND {
			return sockerless.Errorf(sockerless.ENOTFOUND, "endpoint %s not found", container)
		}
		return err
	}
	defer c.mu.Unlock()
	if _, is := c.rec.NetworkingConfig.EndpointsConfig[n.Name]; !is {
		return sockerless.Errorf(sockerless.EINTERNAL, "container %s is not connected to network %s", c.id, n.Name) // dockerd's status, too
	}
	if err := c.changeEndpoints(func(m map[string]*network.EndpointSettings) { delete(m, n.Name) }); err != nil {
		return err
	}
	s.networkEvent(n, events.ActionDisconnect, map[string]string{"container": c.id})
	return nil
}
