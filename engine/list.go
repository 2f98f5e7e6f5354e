package engine

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

// all returns the containers there are, the newest first. What it returns must not be changed.
func (e *Engine) all() []*sockerless.Container {
	e.mu.RLock()
	order := e.order
	e.mu.RUnlock()
	if order == nil {
		order = e.sort()
	}
	views := make([]*sockerless.Container, len(order))
	for i, c := range order {
		views[i] = c.view.Load()
	}
	return views
}

// sort returns the containers, the newest first, and keeps that until one comes or goes: when it was created never changes.
func (e *Engine) sort() []*container {
	e.mu.Lock()
	defer e.mu.Unlock()
	order := slices.SortedFunc(maps.Values(e.containers), func(a, b *container) int {
		if d := b.view.Load().Created.Compare(a.view.Load().Created); d != 0 {
			return d
		}
		return cmp.Compare(a.id, b.id)
	})
	e.order = order
	return order
}

// listed is a copy of what a list shows of a container.
func listed(v *sockerless.Container) *sockerless.Container {
	short := &sockerless.Container{
		ID: v.ID, Name: v.Name, Created: v.Created, Image: v.Image, NetworkingConfig: v.NetworkingConfig, State: v.State,
		Config: &docker.Config{
			Image: v.Config.Image, Entrypoint: v.Config.Entrypoint, Cmd: v.Config.Cmd,
			Labels: v.Config.Labels, ExposedPorts: v.Config.ExposedPorts,
		},
		HostConfig: &docker.HostConfig{NetworkMode: v.HostConfig.NetworkMode, Annotations: v.HostConfig.Annotations},
	}
	if v.State.Health != nil {
		health := *v.State.Health
		health.Log = nil
		short.State.Health = &health
	}
	return clone(short)
}

// List yields containers, the newest first.
func (s containerService) List(ctx context.Context, opt sockerless.ListOptions) iter.Seq2[*sockerless.Container, error] {
	return func(yield func(*sockerless.Container, error) bool) {
		match, err := s.listFilter(ctx, opt)
		if err != nil {
			yield(nil, err)
			return
		}
		n := 0
		for _, v := range s.all() {
			if opt.Limit > 0 && n == opt.Limit {
				return
			}
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			if !match(v) {
				continue
			}
			n++
			if !yield(listed(v), nil) {
				return
			}
		}
	}
}

// listFilter reads the options of a list.
func (e *Engine) listFilter(ctx context.Context, opt sockerless.ListOptions) (func(*sockerless.Container) bool, error) {
	f := opt.Filters
	if err := known(f, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name",
		"network", "publish", "since", "status", "volume"); err != nil {
		return nil, err
	}
	for _, status := range f["status"] {
		if docker.ValidateContainerState(docker.ContainerState(status)) != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'status=%s'", status)
		}
	}
	for _, health := range f["health"] {
		if docker.ValidateHealthStatus(docker.HealthStatus(health)) != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'health=%s'", health)
		}
	}
	var codes []int
	for _, code := range f["exited"] {
		n, err := strconv.Atoi(code)
		if err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'exited=%s'", code)
		}
		codes = append(codes, n)
	}
	isTask, isTaskSet, err := boolean(f, "is-task")
	if err != nil {
		return nil, err
	}
	ports, err := portFilter(f)
	if err != nil {
		return nil, err
	}
	before, err := e.bound(f, "before")
	if err != nil {
		return nil, err
	}
	since, err := e.bound(f, "since")
	if err != nil {
		return nil, err
	}
	ancestors, err := e.ancestors(ctx, f)
	if err != nil {
		return nil, err
	}
	// A filter on the state says itself whether stopped ones are wanted.
	all := opt.All || opt.Limit > 0 || len(f["status"]) > 0 || len(f["exited"]) > 0
	var asked []func(*sockerless.Container) bool // there may be thousands of containers, and one filter
	for key, match := range map[string]func(*sockerless.Container) bool{
		"status":  func(c *sockerless.Container) bool { return exact(f, "status", string(c.State.Status)) },
		"health":  func(c *sockerless.Container) bool { return exact(f, "health", string(health(c))) },
		"id":      func(c *sockerless.Container) bool { return idMatches(f, c.ID) },
		"name":    func(c *sockerless.Container) bool { return matching(f, "name", c.Name, "/"+c.Name) },
		"label":   func(c *sockerless.Container) bool { return labelled(f, "label", c.Config.Labels) },
		"network": func(c *sockerless.Container) bool { return networkMatches(f, c) },
		"volume":  func(c *sockerless.Container) bool { return exact(f, "volume", volumes(c)...) },
		"publish": ports,
		"expose":  ports,
	} {
		if len(f[key]) > 0 {
			asked = append(asked, match)
		}
	}
	return func(c *sockerless.Container) bool {
		running := slices.Contains([]docker.ContainerState{docker.StateRunning, docker.StatePaused, docker.StateRestarting}, c.State.Status)
		switch {
		case !all && !running,
			!before.IsZero() && !c.Created.Before(before),
			!since.IsZero() && !c.Created.After(since),
			isTaskSet && isTask, // there is no swarm, so nothing is a task
			codes != nil && (running || c.State.FinishedAt.IsZero() || !slices.Contains(codes, c.State.ExitCode)),
			ancestors != nil && !slices.Contains(ancestors, c.Image):
			return false
		}
		for _, match := range asked {
			if !match(c) {
				return false
			}
		}
		return true
	}, nil
}

func health(c *sockerless.Container) docker.HealthStatus {
	if c.State.Health == nil {
		return docker.NoHealthcheck
	}
	return c.State.Health.Status
}

func idMatches(f sockerless.Filters, id string) bool {
	if len(f["id"]) == 0 {
		return true
	}
	return slices.ContainsFunc(f["id"], func(p string) bool { return strings.HasPrefix(id, p) }) || matching(f, "id", id)
}

// bound is when the container that a before or since filter names was created.
func (e *Engine) bound(f sockerless.Filters, key string) (time.Time, error) {
	var at time.Time
	for _, ref := range f[key] {
		c, err := e.find(ref)
		if err != nil {
			return at, err
		}
		created := c.view.Load().Created
		if at.IsZero() || key == "before" && created.Before(at) || key == "since" && created.After(at) {
			at = created
		}
	}
	return at, nil
}

// ancestors returns the ids of the images that the filter names; nil without the filter. An image that is not known is
// nobody's ancestor.
func (e *Engine) ancestors(ctx context.Context, f sockerless.Filters) ([]string, error) {
	if len(f["ancestor"]) == 0 {
		return nil, nil
	}
	ids := []string{}
	for _, ref := range f["ancestor"] {
		img, err := e.opt.Images.Find(ctx, ref)
		switch {
		case err == nil:
			ids = append(ids, img.ID)
		case sockerless.ErrorCode(err) != sockerless.ENOTFOUND:
			return nil, err
		}
	}
	return ids, nil
}

func volumes(c *sockerless.Container) []string {
	var names []string
	for _, bind := range c.HostConfig.Binds {
		names = append(names, strings.Split(bind, ":")...)
	}
	for _, m := range c.HostConfig.Mounts {
		names = append(names, m.Source, m.Target)
	}
	for path := range c.Config.Volumes {
		names = append(names, path)
	}
	return names
}

// portFilter reads publish and expose: a port or a range, with or without a protocol.
func portFilter(f sockerless.Filters) (func(*sockerless.Container) bool, error) {
	want := map[string][]network.PortRange{}
	for _, key := range []string{"publish", "expose"} {
		for _, v := range f[key] {
			r, err := network.ParsePortRange(v)
			if err != nil {
				return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s=%s'", key, v)
			}
			want[key] = append(want[key], r)
		}
	}
	has := func(ranges []network.PortRange, p network.Port) bool {
		return slices.ContainsFunc(ranges, func(r network.PortRange) bool {
			return r.Start() <= p.Num() && p.Num() <= r.End() && r.Proto() == p.Proto()
		})
	}
	return func(c *sockerless.Container) bool {
		if ranges := want["expose"]; ranges != nil {
			ok := false
			for p := range c.Config.ExposedPorts {
				ok = ok || has(ranges, p)
			}
			if !ok {
				return false
			}
		}
		if ranges := want["publish"]; ranges != nil {
			for p, bindings := range c.HostConfig.PortBindings {
				if has(ranges, p) {
					return true
				}
				for _, b := range bindings {
					if host, err := network.ParsePort(b.HostPort + "/" + string(p.Proto())); err == nil && has(ranges, host) {
						return true
					}
				}
			}
			return false
		}
		return true
	}, nil
}
