package dockerapi

import (
	"net/http"
	"slices"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
)

// usage is what `docker system df` is made of. The sizes are bytes of the backend's that a prune gives back: images stay
// in their registries and containers in the cloud, so there are none.
type usage struct {
	containers []*summary
	images     []*imageSummary
	volumes    []volume.Volume
}

// legacyUsage is the answer below 1.52, and a part of it below 1.53.
type legacyUsage struct {
	LayersSize int64
	Images     []*imageSummary
	Containers []*summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

func (a *api) diskUsage(w http.ResponseWriter, r *request) error {
	types := r.query["type"]
	if r.version.before(42) {
		types = nil // it came with 1.42
	}
	for _, t := range types {
		switch system.DiskUsageObject(t) {
		case system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject:
		default:
			return sockerless.Errorf(sockerless.EINVALID, "unknown object type: %s", t)
		}
	}
	wanted := func(t system.DiskUsageObject) bool { return len(types) == 0 || slices.Contains(types, string(t)) }
	u, err := a.usage(r, wanted)
	if err != nil {
		return err
	}
	verbose := r.flag("verbose")
	var legacy *legacyUsage
	if r.version.before(52) || r.version.before(53) && !verbose {
		legacy = &legacyUsage{Images: u.images, Containers: u.containers, Volumes: u.volumes}
		if wanted(system.BuildCacheObject) {
			legacy.BuildCache = []build.CacheRecord{}
		}
	}
	if r.version.before(52) {
		writeJSON(w, http.StatusOK, legacy)
		return nil
	}
	out := u.summarize(wanted, verbose)
	out.legacyUsage = legacy
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) usage(r *request, wanted func(system.DiskUsageObject) bool) (*usage, error) {
	u := &usage{}
	now := time.Now()
	if a.backend.Containers != nil && wanted(system.ContainerObject) {
		u.containers = []*summary{}
		for c, err := range a.backend.Containers.List(r.Context(), sockerless.ListOptions{All: true}) {
			if err != nil {
				return nil, err
			}
			u.containers = append(u.containers, summarize(c, now, r.version))
		}
	}
	if a.backend.Images != nil && wanted(system.ImageObject) {
		u.images = []*imageSummary{}
		for img, err := range a.backend.Images.List(r.Context(), sockerless.ImageListOptions{All: true}) {
			if err != nil {
				return nil, err
			}
			s := summarizeImage(img, r.version)
			s.Containers = int64(img.Containers)
			u.images = append(u.images, s)
		}
	}
	if a.backend.Volumes != nil && wanted(system.VolumeObject) {
		u.volumes = []volume.Volume{}
		for v, err := range a.backend.Volumes.List(r.Context(), nil) {
			if err != nil {
				return nil, err
			}
			u.volumes = append(u.volumes, shownVolume(v))
		}
	}
	return u, nil
}

// newUsage is the answer since 1.52.
type newUsage struct {
	*legacyUsage
	ImageUsage      *imageUsage      `json:",omitempty"`
	ContainerUsage  *containerUsage  `json:",omitempty"`
	VolumeUsage     *volumeUsage     `json:",omitempty"`
	BuildCacheUsage *build.DiskUsage `json:",omitempty"`
}

type (
	imageUsage struct {
		image.DiskUsage
		Items []*imageSummary `json:",omitempty"`
	}
	containerUsage struct {
		container.DiskUsage
		Items []*summary `json:",omitempty"`
	}
	volumeUsage struct {
		volume.DiskUsage
		Items []volume.Volume `json:",omitempty"`
	}
)

func (u *usage) summarize(wanted func(system.DiskUsageObject) bool, verbose bool) *newUsage {
	out := &newUsage{}
	if wanted(system.ImageObject) {
		out.ImageUsage = &imageUsage{DiskUsage: image.DiskUsage{TotalCount: int64(len(u.images))}}
		for _, i := range u.images {
			if i.Containers > 0 {
				out.ImageUsage.ActiveCount++
			}
		}
		if verbose {
			out.ImageUsage.Items = u.images
		}
	}
	if wanted(system.ContainerObject) {
		out.ContainerUsage = &containerUsage{DiskUsage: container.DiskUsage{TotalCount: int64(len(u.containers))}}
		for _, c := range u.containers {
			if c.State == container.StateRunning || c.State == container.StatePaused || c.State == container.StateRestarting {
				out.ContainerUsage.ActiveCount++
			}
		}
		if verbose {
			out.ContainerUsage.Items = u.containers
		}
	}
	if wanted(system.VolumeObject) {
		out.VolumeUsage = &volumeUsage{DiskUsage: volume.DiskUsage{TotalCount: int64(len(u.volumes))}}
		for _, v := range u.volumes {
			if v.UsageData != nil && v.UsageData.RefCount > 0 {
				out.VolumeUsage.ActiveCount++
			}
		}
		if verbose {
			out.VolumeUsage.Items = u.volumes
		}
	}
	if wanted(system.BuildCacheObject) {
		out.BuildCacheUsage = &build.DiskUsage{} // nothing is built here
	}
	return out
}
