package backendtest

import (
	"context"
	"net/netip"
	"slices"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
)

// network makes a network that is removed at the test's end.
func (s *session) network(req network.CreateRequest) (name, id string) {
	s.Helper()
	if req.Name == "" {
		req.Name = unique("net")
	}
	res, err := s.b.Networks.Create(s.Context(), req)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.b.Networks.Remove(ctx, res.ID); err != nil && sockerless.ErrorCode(err) != sockerless.ENOTFOUND {
			s.Error(err)
		}
	})
	return req.Name, res.ID
}

func (s *session) inspectNetwork(ref string) *network.Inspect {
	s.Helper()
	n, err := s.b.Networks.Find(s.Context(), ref)
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *session) networks(f sockerless.Filters) []string {
	s.Helper()
	names := []string{}
	for n, err := range s.b.Networks.List(s.Context(), f) {
		if err != nil {
			s.Fatal(err)
		}
		names = append(names, n.Name)
	}
	return names
}

func inNetwork(names ...string) option {
	return func(r *sockerless.CreateRequest) {
		r.HostConfig.NetworkMode = docker.NetworkMode(names[0])
		r.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
		for _, n := range names {
			r.NetworkingConfig.EndpointsConfig[n] = &network.EndpointSettings{Aliases: []string{"alias"}}
		}
	}
}

var networking = []test{
	{"those that are always there", func(s *session) {
		s.same("builtin", s.networks(sockerless.Filters{"type": {"builtin"}}), []string{"bridge", "host", "none"})
		for name, driver := range map[string]string{"bridge": "bridge", "host": "host", "none": "null"} {
			n := s.inspectNetwork(name)
			if n.Driver != driver || n.Scope != "local" || len(n.ID) != 64 || n.Created.IsZero() {
				s.Errorf("network %+v", n)
			}
			s.refused(s.b.Networks.Remove(s.Context(), name), sockerless.EFORBIDDEN, name+" is a pre-defined network and cannot be removed")
			_, err := s.b.Networks.Create(s.Context(), network.CreateRequest{Name: name})
			s.refused(err, sockerless.EFORBIDDEN, "operation is not permitted on predefined "+name+" network")
		}
		s.same("mode", s.find(s.create(script("true"))).NetworkingConfig.EndpointsConfig["bridge"].NetworkID, s.inspectNetwork("bridge").ID)
	}},
	{"create, find, remove", func(s *session) {
		l := unique("label")
		name, id := s.network(network.CreateRequest{Labels: map[string]string{l: "1"}, Options: map[string]string{"o": "p"}, Attachable: true})
		for _, ref := range []string{name, id, id[:20]} {
			n := s.inspectNetwork(ref)
			if n.ID != id || n.Name != name || n.Driver != "bridge" || n.Labels[l] != "1" || n.Options["o"] != "p" || !n.Attachable || n.IPAM.Driver != "default" {
				s.Errorf("by %s: %+v", ref, n)
			}
		}
		_, err := s.b.Networks.Create(s.Context(), network.CreateRequest{Name: name})
		s.refused(err, sockerless.ECONFLICT, "network with name "+name+" already exists")
		_, err = s.b.Networks.Find(s.Context(), "no-such-network")
		s.refused(err, sockerless.ENOTFOUND, "network no-such-network not found")
		s.refused(s.b.Networks.Remove(s.Context(), "no-such-network"), sockerless.ENOTFOUND, "network no-such-network not found")
		if err := s.b.Networks.Remove(s.Context(), name); err != nil {
			s.Error(err)
		}
		_, err = s.b.Networks.Find(s.Context(), id)
		s.refused(err, sockerless.ENOTFOUND)
	}},
	{"what it will not do is said", func(s *session) {
		name := unique("net")
		res, err := s.b.Networks.Create(s.Context(), network.CreateRequest{Name: name})
		if err != nil || res.Warning == "" {
			s.Errorf("created %+v, %v", res, err)
		}
		if err := s.b.Networks.Remove(s.Context(), name); err != nil {
			s.Error(err)
		}
		off := false
		for _, c := range []struct {
			req   network.CreateRequest
			code  sockerless.Code
			words string
		}{
			{network.CreateRequest{Internal: true}, sockerless.EUNSUPPORTED, "cannot use --internal: "},
			{network.CreateRequest{Driver: "macvlan"}, sockerless.EUNSUPPORTED, "cannot use --driver=macvlan: "},
			{network.CreateRequest{Driver: "overlay"}, sockerless.EFORBIDDEN, "This node is not a swarm manager."},
			{network.CreateRequest{Driver: "host"}, sockerless.EFORBIDDEN, `only one instance of "host" network is allowed`},
			{network.CreateRequest{Driver: "weave"}, sockerless.ENOTFOUND, "plugin not found"},
			{network.CreateRequest{Scope: "swarm"}, sockerless.EUNSUPPORTED, "cannot use --scope=swarm: "},
			{network.CreateRequest{Ingress: true}, sockerless.EUNSUPPORTED, "cannot use --ingress: "},
			{network.CreateRequest{ConfigOnly: true}, sockerless.EUNSUPPORTED, "cannot use --config-only: "},
			{network.CreateRequest{IPAM: &network.IPAM{Config: []network.IPAMConfig{
				{Subnet: netip.MustParsePrefix("10.98.0.0/24"), Gateway: netip.MustParseAddr("10.99.0.1")},
			}}}, sockerless.EINVALID, "failed to allocate gateway (10.99.0.1): Requested address is out of range"},
			{network.CreateRequest{EnableIPv4: &off}, sockerless.EUNSUPPORTED, "cannot use --ipv4=false: "},
		} {
			c.req.Name = unique("net")
			_, err := s.b.Networks.Create(s.Context(), c.req)
			s.refused(err, c.code, c.words)
		}
		_, err = s.b.Networks.Create(s.Context(), network.CreateRequest{Name: " "})
		s.refused(err, sockerless.EINVALID, "invalid network name")
	}},
	{"filters", func(s *session) {
		l := unique("label")
		a, id := s.network(network.CreateRequest{Labels: map[string]string{l: "1"}})
		b, _ := s.network(network.CreateRequest{Labels: map[string]string{l: "2"}})
		both := []string{a, b}
		slices.Sort(both)
		none := []string{}
		for _, c := range []struct {
			key, value string
			want       []string
		}{
			{"label", l, both}, {"label", l + "=1", []string{a}}, {"driver", "bridge", both}, {"driver", "host", none}, {"scope", "local", both},
			{"scope", "swarm", none}, {"type", "custom", both}, {"type", "builtin", none}, {"id", id[:12], []string{a}}, {"name", b, []string{b}},
			{"dangling", "true", both}, {"dangling", "false", none},
		} {
			f := sockerless.Filters{"label": {l}}
			f[c.key] = append(f[c.key], c.value)
			s.same(c.key+"="+c.value, s.networks(f), c.want)
		}
		for filter, words := range map[string]string{"nonsense": "invalid filter 'nonsense'", "type": "invalid filter", "dangling": "invalid filter"} {
			s.refused(firstError(s.b.Networks.List(s.Context(), sockerless.Filters{filter: {"x"}})), sockerless.EINVALID, words)
		}
	}},
	{"who is in it", func(s *session) {
		a, idA := s.network(network.CreateRequest{})
		b, idB := s.network(network.CreateRequest{})
		res, err := s.b.Containers.Create(s.Context(), s.request(script("trap 'exit 0' TERM; while :; do sleep 0.05; done"), inNetwork(a, idB)))
		if err != nil {
			s.Fatal(err)
		}
		s.cleanup(res.ID)
		if len(res.Warnings) == 0 {
			s.Error("nothing says that names are not resolved")
		}
		c := s.find(res.ID)
		in := c.NetworkingConfig.EndpointsConfig
		if len(in) != 2 || in[a] == nil || in[b] == nil || in[a].NetworkID != idA || in[b].NetworkID != idB || in[a].Aliases[0] != "alias" {
			s.Fatalf("a member of %+v", in)
		}
		s.same("ps by name", s.list(sockerless.ListOptions{All: true, Filters: sockerless.Filters{"network": {a}}}), []string{res.ID})
		s.same("ps by id", s.list(sockerless.ListOptions{All: true, Filters: sockerless.Filters{"network": {idB}}}), []string{res.ID})
		if n := s.inspectNetwork(a); len(n.Containers) != 0 {
			s.Errorf("created, and in the network: %+v", n.Containers)
		}
		s.start(res.ID)
		for _, name := range []string{a, b} {
			got := s.inspectNetwork(name).Containers[res.ID]
			if got.Name != c.Name || got.EndpointID != in[name].EndpointID || len(got.EndpointID) != 64 {
				s.Errorf("in the network: %+v", got)
			}
			s.refused(s.b.Networks.Remove(s.Context(), name), sockerless.EFORBIDDEN, "error while removing network: network "+name+" has active endpoints", c.Name)
		}
		if err := s.b.Networks.Disconnect(s.Context(), b, res.ID, false); err != nil {
			s.Error(err)
		}
		err = s.b.Networks.Disconnect(s.Context(), b, res.ID, false)
		s.refused(err, sockerless.EINTERNAL, "container "+res.ID+" is not connected to network "+b)
		if err := s.b.Networks.Connect(s.Context(), b, c.Name, nil); err != nil {
			s.Error(err)
		}
		s.refused(s.b.Networks.Connect(s.Context(), idB, c.Name, nil), sockerless.EFORBIDDEN, "endpoint with name "+c.Name+" already exists in network "+b)
		if err := s.b.Containers.Stop(s.Context(), res.ID, sockerless.StopOptions{}); err != nil {
			s.Error(err)
		}
		if n := s.inspectNetwork(b); len(n.Containers) != 0 {
			s.Errorf("stopped, and in the network: %+v", n.Containers)
		}
		if err := s.b.Networks.Remove(s.Context(), b); err != nil {
			s.Error(err)
		}
		s.refused(s.b.Containers.Start(s.Context(), res.ID), sockerless.ENOTFOUND, "network "+b+" not found")
		// One of the same name takes its place.
		_, again := s.network(network.CreateRequest{Name: b})
		s.start(res.ID)
		if got := s.inspectNetwork(again).Containers[res.ID]; got.Name != c.Name {
			s.Errorf("in the new network: %+v", got)
		}
		if err := s.b.Containers.Remove(s.Context(), res.ID, sockerless.RemoveOptions{Force: true}); err != nil {
			s.Error(err)
		}
	}},
	{"connect what does not run", func(s *session) {
		name, id := s.network(network.CreateRequest{})
		c := s.create(script("true"))
		if err := s.b.Networks.Connect(s.Context(), name, c, &network.EndpointSettings{Aliases: []string{"x"}}); err != nil {
			s.Fatal(err)
		}
		in := s.find(c).NetworkingConfig.EndpointsConfig
		if in["bridge"] == nil || in[name].NetworkID != id || in[name].Aliases[0] != "x" {
			s.Errorf("a member of %+v", in)
		}
		for _, ref := range []string{"bridge", name} {
			if err := s.b.Networks.Disconnect(s.Context(), ref, c, false); err != nil {
				s.Error(err)
			}
		}
		if in := s.find(c).NetworkingConfig.EndpointsConfig; len(in) != 0 {
			s.Errorf("a member of %+v", in)
		}
		s.refused(s.b.Networks.Connect(s.Context(), "host", c, nil), sockerless.EUNSUPPORTED, "cannot connect to network host")
		s.refused(s.b.Networks.Connect(s.Context(), "none", c, nil), sockerless.EUNSUPPORTED, "cannot connect to network none")
		s.refused(s.b.Networks.Connect(s.Context(), name, "nobody", nil), sockerless.ENOTFOUND, "No such container: nobody")
		s.refused(s.b.Networks.Connect(s.Context(), "nowhere", c, nil), sockerless.ENOTFOUND, "network nowhere not found")
		s.refused(s.b.Networks.Disconnect(s.Context(), name, "nobody", true), sockerless.ENOTFOUND, "endpoint nobody not found")
		address := &network.EndpointSettings{MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}}
		s.refused(s.b.Networks.Connect(s.Context(), name, c, address), sockerless.EUNSUPPORTED, "cannot use --mac-address")
	}},
	{"one that never was is found out at the start", func(s *session) {
		id := s.create(script("true"), inNetwork("no-such-network"))
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.ENOTFOUND, "failed to set up container networking: network no-such-network not found")
	}},
	{"prune", func(s *session) {
		l := unique("label")
		free, _ := s.network(network.CreateRequest{Labels: map[string]string{l: "1"}})
		kept, _ := s.network(network.CreateRequest{Labels: map[string]string{l: "1", l + "keep": ""}})
		used, _ := s.network(network.CreateRequest{Labels: map[string]string{l: "1"}})
		s.sleeper(inNetwork(used))
		prune := func(f sockerless.Filters) []string {
			s.Helper()
			report, err := s.b.Networks.Prune(s.Context(), f)
			if err != nil {
				s.Fatal(err)
			}
			return report.NetworksDeleted
		}
		s.same("older than it is", prune(sockerless.Filters{"label": {l}, "until": {"1h"}}), []string{})
		s.same("pruned", prune(sockerless.Filters{"label": {l}, "label!": {l + "keep"}}), []string{free})
		s.same("left", s.networks(sockerless.Filters{"label": {l}, "name": {kept}}), []string{kept})
		_, err := s.b.Networks.Prune(s.Context(), sockerless.Filters{"nonsense": {"1"}})
		s.refused(err, sockerless.EINVALID, "invalid filter 'nonsense'")
	}},
	{"events", func(s *session) {
		since := time.Now()
		name, id := s.network(network.CreateRequest{})
		c := s.create(script("true"), inNetwork(name))
		exit := s.wait(c, docker.WaitConditionNextExit)
		s.start(c)
		exit()
		if err := s.b.Networks.Remove(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		opt := sockerless.EventOptions{Since: since, Filters: sockerless.Filters{"network": {id[:12]}, "type": {"network"}}}
		s.same("actions", s.tell(opt, events.ActionDestroy), []string{"create", "connect", "disconnect", "destroy"})
		opt.Filters, opt.Until = sockerless.Filters{"network": {name}, "event": {"connect"}}, time.Now()
		found := 0
		for m := range s.events(s.Context(), opt) {
			found++
			a := m.Actor.Attributes
			if m.Actor.ID != id || a["name"] != name || a["type"] != "bridge" || a["container"] != c {
				s.Errorf("event %+v", m)
			}
		}
		s.same("events by name", found, 1)
	}},
}

func (s *session) volume(req volume.CreateRequest) *volume.Volume {
	s.Helper()
	v, err := s.b.Volumes.Create(s.Context(), req)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.b.Volumes.Remove(ctx, v.Name, true); err != nil {
			s.Error(err)
		}
	})
	return v
}

func (s *session) volumes(f sockerless.Filters) []string {
	s.Helper()
	names := []string{}
	for v, err := range s.b.Volumes.List(s.Context(), f) {
		if err != nil {
			s.Fatal(err)
		}
		names = append(names, v.Name)
	}
	return names
}

var storing = []test{
	{"create, find, remove", func(s *session) {
		name := unique("vol")
		made := s.volume(volume.CreateRequest{Name: name, Labels: map[string]string{"a": "b"}})
		if made.Name != name || made.Driver != "local" || made.Scope != "local" || made.Labels["a"] != "b" {
			s.Errorf("made %+v", made)
		}
		if at, err := time.Parse(time.RFC3339, made.CreatedAt); err != nil || time.Since(at) > time.Hour {
			s.Errorf("made at %s", made.CreatedAt)
		}
		again := s.volume(volume.CreateRequest{Name: name, Driver: "local", Labels: map[string]string{"c": "d"}})
		if again.CreatedAt != made.CreatedAt || again.Labels["a"] != "b" {
			s.Errorf("made again: %+v", again)
		}
		v, err := s.b.Volumes.Find(s.Context(), name)
		if err != nil || v.Name != name || v.Labels["a"] != "b" {
			s.Errorf("found %+v, %v", v, err)
		}
		_, err = s.b.Volumes.Find(s.Context(), name[:5])
		s.refused(err, sockerless.ENOTFOUND, "get "+name[:5]+": no such volume")
		if err := s.b.Volumes.Remove(s.Context(), name, false); err != nil {
			s.Error(err)
		}
		s.refused(s.b.Volumes.Remove(s.Context(), name, false), sockerless.ENOTFOUND, "get "+name+": no such volume")
		if err := s.b.Volumes.Remove(s.Context(), name, true); err != nil {
			s.Error(err)
		}
	}},
	{"a name is made up", func(s *session) {
		v := s.volume(volume.CreateRequest{})
		if _, marked := v.Labels["com.docker.volume.anonymous"]; len(v.Name) != 64 || !marked {
			s.Errorf("made %+v", v)
		}
	}},
	{"what cannot be", func(s *session) {
		for _, c := range []struct {
			req   volume.CreateRequest
			code  sockerless.Code
			words string
		}{
			{volume.CreateRequest{Name: "a/b"}, sockerless.EINVALID, `create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
			{volume.CreateRequest{Name: "a"}, sockerless.EINVALID, "create a: volume name is too short"},
			{volume.CreateRequest{Driver: "rexray"}, sockerless.ENOTFOUND, `plugin "rexray" not found`},
			{volume.CreateRequest{DriverOpts: map[string]string{"type": "nfs"}}, sockerless.EUNSUPPORTED, "cannot use --opt type: "},
			{volume.CreateRequest{DriverOpts: map[string]string{"x": "y"}}, sockerless.EINVALID, `invalid option: "x"`},
			{volume.CreateRequest{ClusterVolumeSpec: &volume.ClusterVolumeSpec{}}, sockerless.EUNAVAILABLE, "This node is not a swarm manager."},
		} {
			_, err := s.b.Volumes.Create(s.Context(), c.req)
			s.refused(err, c.code, c.words)
		}
		name := s.volume(volume.CreateRequest{Name: unique("vol")}).Name
		_, err := s.b.Containers.Create(s.Context(), s.request(script("true"), func(r *sockerless.CreateRequest) { r.HostConfig.Binds = []string{name + ":/data"} }))
		s.refused(err, sockerless.EUNSUPPORTED, "cannot use --volume: ")
	}},
	{"filters", func(s *session) {
		l := unique("label")
		a := s.volume(volume.CreateRequest{Name: unique("vol"), Labels: map[string]string{l: "1"}}).Name
		b := s.volume(volume.CreateRequest{Name: unique("vol"), Labels: map[string]string{l: "2"}}).Name
		both := []string{a, b}
		slices.Sort(both)
		none := []string{}
		for _, c := range []struct {
			key, value string
			want       []string
		}{
			{"label", l, both}, {"label", l + "=2", []string{b}}, {"name", a, []string{a}}, {"driver", "local", both}, {"driver", "other", none},
			{"dangling", "true", both}, {"dangling", "false", none},
		} {
			f := sockerless.Filters{"label": {l}}
			f[c.key] = append(f[c.key], c.value)
			s.same(c.key+"="+c.value, s.volumes(f), c.want)
		}
		s.refused(firstError(s.b.Volumes.List(s.Context(), sockerless.Filters{"nonsense": {"1"}})), sockerless.EINVALID, "invalid filter 'nonsense'")
	}},
	{"prune", func(s *session) {
		l := unique("label")
		named := s.volume(volume.CreateRequest{Name: unique("vol"), Labels: map[string]string{l: "1"}}).Name
		made := s.volume(volume.CreateRequest{Labels: map[string]string{l: "1"}}).Name
		prune := func(f sockerless.Filters) []string {
			s.Helper()
			report, err := s.b.Volumes.Prune(s.Context(), f)
			if err != nil {
				s.Fatal(err)
			}
			return report.VolumesDeleted
		}
		s.same("anonymous ones", prune(sockerless.Filters{"label": {l}}), []string{made})
		s.same("not of that label", prune(sockerless.Filters{"label": {l}, "label!": {l + "=1"}, "all": {"true"}}), []string{})
		s.same("all", prune(sockerless.Filters{"label": {l}, "all": {"true"}}), []string{named})
		for _, bad := range []sockerless.Filters{{"until": {"1h"}}, {"nonsense": {"1"}}, {"all": {"x"}}} {
			_, err := s.b.Volumes.Prune(s.Context(), bad)
			s.refused(err, sockerless.EINVALID, "invalid filter")
		}
	}},
	{"events", func(s *session) {
		since := time.Now()
		name := s.volume(volume.CreateRequest{Name: unique("vol")}).Name
		if err := s.b.Volumes.Remove(s.Context(), name, false); err != nil {
			s.Fatal(err)
		}
		opt := sockerless.EventOptions{Since: since, Filters: sockerless.Filters{"volume": {name}}}
		s.same("actions", s.tell(opt, events.ActionDestroy), []string{"create", "destroy"})
	}},
}
