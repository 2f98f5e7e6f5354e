package dockerapi

import "net/http"

func (a *api) topContainer(w http.ResponseWriter, r *request) error {
	out, err := a.backend.Containers.Top(r.Context(), r.name, r.query.Get("ps_args"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
