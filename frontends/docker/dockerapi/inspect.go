package dockerapi

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/sockerless/sockerless"
)

// storageDriver is what inspect calls the driver of a container's file system, which is the cloud's.
const storageDriver = "sockerless"

// inspected is a container as `docker inspect` wants it.
type inspected struct {
	container.InspectResponse
	// These hold the fields of create's body that no type here knows.
	Config          any
	HostConfig      any
	NetworkSettings any
}

// networkSettings has what API versions below 1.52 know at its top: the default network's endpoint.
type networkSettings struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	Ports                  network.PortMap
	EndpointID             string
	Gateway                string
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	MacAddress             string
	Networks               map[string]*network.EndpointSettings
}

func inspect(c *sockerless.Container, v version) (*inspected, error) {
	path, args := command(c.Config)
	s := c.State
	out := &inspected{
		InspectResponse: container.InspectResponse{
			ID:      c.ID,
			Created: c.Created.UTC().Format(time.RFC3339Nano),
			Path:    path,
			Args:    args,
			State: &container.State{
				Status:     s.Status,
				Running:    runs(c),
				Paused:     s.Status == container.StatePaused,
				Restarting: s.Status == container.StateRestarting,
				OOMKilled:  s.OOMKilled,
				Dead:       s.Status == container.StateDead,
				Pid:        s.Pid,
				ExitCode:   s.ExitCode,
				Error:      s.Error,
				StartedAt:  s.StartedAt.UTC().Format(time.RFC3339Nano),
				FinishedAt: s.FinishedAt.UTC().Format(time.RFC3339Nano),
				Health:     s.Health,
			},
			Image:        c.Image,
			Name:         "/" + c.Name,
			RestartCount: c.RestartCount,
			ExecIDs:      c.Execs,
			Driver:       storageDriver,
			Platform:     "linux",
			GraphDriver:  &storage.DriverData{Name: storageDriver, Data: map[string]string{}},
			Mounts:       []container.MountPoint{},
		},
		NetworkSettings: shownNetworks(c, v),
	}
	var err error
	out.Config, out.HostConfig, err = withUnknown(c.Raw, c.Config, shownHostConfig(c))
	return out, err
}

// shownNetworks is the NetworkSettings of a container, as a version knows them.
func shownNetworks(c *sockerless.Container, v version) any {
	networks := endpoints(c)
	if !v.before(52) {
		return container.NetworkSettings{Ports: ports(c), Networks: networks}
	}
	n := networkSettings{Ports: ports(c), Networks: networks}
	if e := networks[network.NetworkBridge]; e != nil {
		n.EndpointID, n.IPPrefixLen, n.GlobalIPv6PrefixLen, n.MacAddress = e.EndpointID, e.IPPrefixLen, e.GlobalIPv6PrefixLen, e.MacAddress.String()
		if e.IPAddress.IsValid() {
			n.IPAddress = e.IPAddress.String()
		}
		if e.Gateway.IsValid() {
			n.Gateway = e.Gateway.String()
		}
	}
	return n
}

// runs says whether a container has what Docker gives to one that runs.
func runs(c *sockerless.Container) bool {
	switch c.State.Status {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	}
	return false
}

// ports are those that a container exposes while it runs. None is published.
func ports(c *sockerless.Container) network.PortMap {
	out := network.PortMap{}
	if runs(c) {
		for p := range c.Config.ExposedPorts {
			out[p] = nil
		}
	}
	return out
}

// shownHostConfig is a container's HostConfig with the words that dockerd gives to what was left open.
func shownHostConfig(c *sockerless.Container) *container.HostConfig {
	shown := container.HostConfig{}
	if c.HostConfig != nil {
		shown = *c.HostConfig
	}
	shown.NetworkMode = container.NetworkMode(networkMode(c))
	if shown.LogConfig.Type == "" {
		shown.LogConfig.Type = "json-file" // what `docker logs` can read
	}
	shown.LogConfig.Config = orEmptyMap(shown.LogConfig.Config)
	if shown.CgroupnsMode == "" {
		shown.CgroupnsMode = container.CgroupnsModePrivate
	}
	return &shown
}

func networkMode(c *sockerless.Container) string {
	if c.HostConfig == nil || c.HostConfig.NetworkMode == "" || c.HostConfig.NetworkMode == network.NetworkDefault {
		return network.NetworkBridge
	}
	return string(c.HostConfig.NetworkMode)
}

// endpoints returns the networks that a container is in. Docker gives it an endpoint of each while it runs.
func endpoints(c *sockerless.Container) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	if c.NetworkingConfig == nil {
		return out
	}
	for name, e := range c.NetworkingConfig.EndpointsConfig {
		shown := *e
		if !runs(c) {
			shown.EndpointID = ""
		}
		out[name] = &shown
	}
	return out
}
