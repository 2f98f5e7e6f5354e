package engine

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
)

// volumeTable has one volume.Volume a name.
const volumeTable = "volumes"

// anonymousLabel is how Docker marks the volumes whose names it made up.
const anonymousLabel = "com.docker.volume.anonymous"

const localDriver = "local"

var validVolume = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// volumeService is the engine's VolumeService. A volume is a name with labels so far: no container can have one.
type volumeService struct{ *Engine }

// Create makes a volume: one write to the store.
func (s volumeService) Create(ctx context.Context, req volume.CreateRequest) (*volume.Volume, error) {
	if err := checkVolume(&req); err != nil {
		return nil, err
	}
	s.volumes.change.Lock()
	defer s.volumes.change.Unlock()
	if v, ok := s.volumes.get(req.Name); ok {
		return clone(&v), nil
	}
	v := *clone(&volume.Volume{
		Name: req.Name, Driver: localDriver, Labels: req.Labels, Options: req.DriverOpts, Scope: "local",
		CreatedAt: time.Now().UTC().Format(time.RFC3339),
	})
	if v.Name == "" {
		v.Name = newID(32)
		v.Labels = union(map[string]string{anonymousLabel: ""}, v.Labels)
	}
	if err := s.volumes.put(ctx, v.Name, v); err != nil {
		return nil, err
	}
	s.volumeEvent(v, events.ActionCreate)
	return clone(&v), nil
}

// checkVolume refuses what Docker refuses, in its words, and what cannot be here, by name.
func checkVolume(req *volume.CreateRequest) error {
	switch {
	case req.ClusterVolumeSpec != nil:
		return sockerless.Errorf(sockerless.EUNAVAILABLE, "This node is not a swarm manager. "+
			`Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	case req.Driver != "" && req.Driver != localDriver:
		return sockerless.Errorf(sockerless.ENOTFOUND, "create %s: error looking up volume plugin %s: plugin %q not found", req.Name, req.Driver, req.Driver)
	case req.Name != "" && !validVolume.MatchString(req.Name):
		if len(req.Name) == 1 {
			return sockerless.Errorf(sockerless.EINVALID, "create %s: volume name is too short, names should be at least two alphanumeric characters", req.Name)
		}
		return sockerless.Errorf(sockerless.EINVALID, "create %s: %q includes invalid characters for a local volume name, only %q are allowed. "+
			"If you intended to pass a host directory, use absolute path", req.Name, req.Name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	if len(req.DriverOpts) == 0 {
		return nil
	}
	keys := slices.Sorted(maps.Keys(req.DriverOpts))
	for _, key := range keys {
		if !slices.Contains([]string{"type", "o", "device", "size"}, key) {
			return sockerless.Errorf(sockerless.EINVALID, "create %s: invalid option: %q", req.Name, key)
		}
	}
	return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --opt %s: there is no host that could mount it", strings.Join(keys, ", "))
}

func (e *Engine) findVolume(name string) (volume.Volume, error) {
	v, ok := e.volumes.get(name)
	if !ok {
		return v, sockerless.Errorf(sockerless.ENOTFOUND, "get %s: no such volume", name)
	}
	return v, nil
}

// Find returns one volume.
func (s volumeService) Find(ctx context.Context, name string) (*volume.Volume, error) {
	v, err := s.findVolume(name)
	if err != nil {
		return nil, err
	}
	return clone(&v), ctx.Err()
}

// List yields volumes. UsageData tells how many containers use each; no byte is in any, since none can have one.
func (s volumeService) List(ctx context.Context, f sockerless.Filters) iter.Seq2[*volume.Volume, error] {
	return func(yield func(*volume.Volume, error) bool) {
		list, err := s.listVolumes(f)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, v := range list {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			if !yield(clone(&v), nil) {
				return
			}
		}
	}
}

func (s volumeService) listVolumes(f sockerless.Filters) ([]volume.Volume, error) {
	if err := known(f, "dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	dangling, isSet, err := boolean(f, "dangling")
	if err != nil {
		return nil, err
	}
	list := s.volumes.all()
	for i, v := range list {
		list[i].UsageData = &volume.UsageData{RefCount: int64(len(s.volumeUsers(v.Name)))}
	}
	list = slices.DeleteFunc(list, func(v volume.Volume) bool {
		return isSet && dangling == (v.UsageData.RefCount > 0) || !exact(f, "driver", v.Driver) ||
			!matching(f, "name", v.Name) || !labelled(f, "label", v.Labels)
	})
	slices.SortFunc(list, func(a, b volume.Volume) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// volumeUsers lists the containers that a volume is for, whether they run or not.
func (e *Engine) volumeUsers(name string) []string {
	var ids []string
	for _, c := range e.all() {
		if slices.Contains(namedVolumes(c.HostConfig), name) {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// namedVolumes lists the volumes that a HostConfig mounts, without the paths of the host.
func namedVolumes(h *docker.HostConfig) []string {
	var names []string
	for _, bind := range h.Binds {
		if source, _, ok := strings.Cut(bind, ":"); ok && !strings.HasPrefix(source, "/") {
			names = append(names, source)
		}
	}
	for _, m := range h.Mounts {
		if m.Type == mount.TypeVolume {
			names = append(names, m.Source)
		}
	}
	return names
}

// Remove deletes a volume.
func (s volumeService) Remove(ctx context.Context, name string, force bool) error {
	s.volumes.change.Lock()
	defer s.volumes.change.Unlock()
	v, err := s.findVolume(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	return s.removeVolume(ctx, v)
}

// removeVolume: s.volumes.change is held.
func (s volumeService) removeVolume(ctx context.Context, v volume.Volume) error {
	if users := s.volumeUsers(v.Name); len(users) > 0 {
		return sockerless.Errorf(sockerless.ECONFLICT, "remove %s: volume is in use - [%s]", v.Name, strings.Join(users, ", "))
	}
	if err := s.volumes.delete(ctx, v.Name); err != nil {
		return err
	}
	s.volumeEvent(v, events.ActionDestroy)
	return nil
}

// Prune removes the volumes that no container uses.
func (s volumeService) Prune(ctx context.Context, f sockerless.Filters) (*volume.PruneReport, error) {
	if len(f["until"]) > 0 {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'until'") // volumes have none
	}
	match, err := pruneFilter(f, "all")
	if err != nil {
		return nil, err
	}
	all, _, err := boolean(f, "all")
	if err != nil {
		return nil, err
	}
	s.volumes.change.Lock()
	defer s.volumes.change.Unlock()
	report := &volume.PruneReport{VolumesDeleted: []string{}}
	list := s.volumes.all()
	slices.SortFunc(list, func(a, b volume.Volume) int { return cmp.Compare(a.Name, b.Name) })
	for _, v := range list {
		if _, anonymous := v.Labels[anonymousLabel]; !anonymous && !all || !match(v.Labels, time.Time{}) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch err := s.removeVolume(ctx, v); sockerless.ErrorCode(err) {
		case "":
			report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		case sockerless.ECONFLICT: // it is in use
		default:
			return nil, err
		}
	}
	s.pruned(events.VolumeEventType, report.SpaceReclaimed)
	return report, nil
}

// volumeEvent tells what happened to a volume.
func (e *Engine) volumeEvent(v volume.Volume, action events.Action) {
	e.tell(events.VolumeEventType, action, v.Name, map[string]string{"driver": v.Driver})
}
