package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

func (a *api) listVolumes(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	for v, err := range a.backend.Volumes.List(r.Context(), filters) {
		if err != nil {
			return err
		}
		v.UsageData = nil // it is for the disk usage alone
		out.Volumes = append(out.Volumes, shownVolume(v))
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// shownVolume is a volume with the maps that clients expect to be there.
func shownVolume(v *volume.Volume) volume.Volume {
	shown := *v
	shown.Labels, shown.Options = orEmptyMap(v.Labels), orEmptyMap(v.Options)
	return shown
}

func (a *api) createVolume(w http.ResponseWriter, r *request) error {
	var in volume.CreateRequest
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	v, err := a.backend.Volumes.Create(r.Context(), in)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, shownVolume(v))
	return nil
}

func (a *api) inspectVolume(w http.ResponseWriter, r *request) error {
	v, err := a.backend.Volumes.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, shownVolume(v))
	return nil
}

func (a *api) removeVolume(w http.ResponseWriter, r *request) error {
	if err := a.backend.Volumes.Remove(r.Context(), r.name, r.flag("force")); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) pruneVolumes(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	if r.version.before(42) {
		if filters == nil {
			filters = map[string][]string{}
		}
		filters["all"] = []string{"true"} // there was no difference between named and anonymous ones
	}
	report, err := a.backend.Volumes.Prune(r.Context(), filters)
	if err != nil {
		return err
	}
	report.VolumesDeleted = orEmpty(report.VolumesDeleted)
	writeJSON(w, http.StatusOK, report)
	return nil
}
