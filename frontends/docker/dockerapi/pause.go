package dockerapi

import "net/http"

func (a *api) pauseContainer(w http.ResponseWriter, r *request) error {
	if err := a.backend.Containers.Pause(r.Context(), r.name); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) unpauseContainer(w http.ResponseWriter, r *request) error {
	if err := a.backend.Containers.Unpause(r.Context(), r.name); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}
