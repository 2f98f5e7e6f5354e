package dockerapi_test

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
)

type memNetworks struct{ *memory }

func (m memNetworks) Create(_ context.Context, req network.CreateRequest) (*network.CreateResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := &network.Inspect{Network: network.Network{
		Name: req.Name, ID: newID(), Created: time.Now(), Scope: "local", Driver: "bridge", EnableIPv4: true,
		IPAM: network.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: req.Labels,
	}, Containers: map[string]network.EndpointResource{}}
	if req.IPAM != nil {
		n.IPAM.Config = req.IPAM.Config
	}
	m.networks = append(m.networks, n)
	return &network.CreateResponse{ID: n.ID, Warning: "it is of little use"}, nil
}

// network: m.mu is held.
func (m *memory) network(ref string) (int, error) {
	i := slices.IndexFunc(m.networks, func(n *network.Inspect) bool { return n.Name == ref || n.ID == ref })
	if i < 0 {
		return i, sockerless.Errorf(sockerless.ENOTFOUND, "network %s not found", ref)
	}
	return i, nil
}

func (m memNetworks) Find(_ context.Context, ref string) (*network.Inspect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.network(ref)
	if err != nil {
		return nil, err
	}
	return m.networks[i], nil
}

func (m memNetworks) List(_ context.Context, f sockerless.Filters) iter.Seq2[*network.Inspect, error] {
	return func(yield func(*network.Inspect, error) bool) {
		m.mu.Lock()
		m.filters = f
		all := slices.Clone(m.networks)
		m.mu.Unlock()
		for _, n := range all {
			if !yield(n, nil) {
				return
			}
		}
	}
}

func (m memNetworks) Connect(_ context.Context, ref, container string, endpoint *network.EndpointSettings) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.network(ref)
	if err != nil {
		return err
	}
	c, err := m.find(container)
	if err != nil {
		return err
	}
	if endpoint == nil {
		endpoint = &network.EndpointSettings{}
	}
	endpoint.NetworkID, endpoint.EndpointID = m.networks[i].ID, newID()
	c.NetworkingConfig.EndpointsConfig[m.networks[i].Name] = endpoint
	m.networks[i].Containers[c.ID] = network.EndpointResource{Name: c.Name, EndpointID: endpoint.EndpointID}
	return nil
}

func (m memNetworks) Disconnect(_ context.Context, ref, container string, force bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.network(ref)
	if err != nil {
		return err
	}
	c, err := m.find(container)
	if err != nil {
		return err
	}
	if !force {
		return sockerless.Errorf(sockerless.EINTERNAL, "container %s is not connected to network %s", c.ID, m.networks[i].Name)
	}
	delete(m.networks[i].Containers, c.ID)
	return nil
}

func (m memNetworks) Remove(_ context.Context, ref string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.network(ref)
	if err != nil {
		return err
	}
	m.networks = slices.Delete(m.networks, i, i+1)
	return nil
}

func (m memNetworks) Prune(_ context.Context, f sockerless.Filters) (*network.PruneReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filters = f
	return &network.PruneReport{}, nil
}

type memVolumes struct{ *memory }

func (m memVolumes) Create(_ context.Context, req volume.CreateRequest) (*volume.Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &volume.Volume{Name: req.Name, Driver: "local", Scope: "local", CreatedAt: "2025-01-02T03:04:05Z", Labels: req.Labels}
	if v.Name == "" {
		v.Name = newID()
	}
	m.volumes = append(m.volumes, v)
	return v, nil
}

// volume: m.mu is held.
func (m *memory) volume(name string) (int, error) {
	i := slices.IndexFunc(m.volumes, func(v *volume.Volume) bool { return v.Name == name })
	if i < 0 {
		return i, sockerless.Errorf(sockerless.ENOTFOUND, "get %s: no such volume", name)
	}
	return i, nil
}

func (m memVolumes) Find(_ context.Context, name string) (*volume.Volume, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.volume(name)
	if err != nil {
		return nil, err
	}
	return m.volumes[i], nil
}

func (m memVolumes) List(_ context.Context, f sockerless.Filters) iter.Seq2[*volume.Volume, error] {
	return func(yield func(*volume.Volume, error) bool) {
		m.mu.Lock()
		m.filters = f
		all := slices.Clone(m.volumes)
		m.mu.Unlock()
		for _, v := range all {
			shown := *v
			shown.UsageData = &volume.UsageData{RefCount: 1}
			if !yield(&shown, nil) {
				return
			}
		}
	}
}

func (m memVolumes) Remove(_ context.Context, name string, force bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, err := m.volume(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	m.volumes = slices.Delete(m.volumes, i, i+1)
	return nil
}

func (m memVolumes) Prune(_ context.Context, f sockerless.Filters) (*volume.PruneReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filters = f
	return &volume.PruneReport{SpaceReclaimed: 42}, nil
}

func (m memImages) Prune(_ context.Context, f sockerless.Filters) (*image.PruneReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filters = f
	return &image.PruneReport{}, nil
}
