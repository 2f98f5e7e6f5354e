package dockerapi

import (
	"net/http"

	"github.com/sockerless/sockerless"
)

// There are no plugins, and none can be installed: who asks for the list gets an empty one, who names one is told that it
// is not there.

func (a *api) listPlugins(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	for key := range filters {
		if key != "enabled" && key != "capability" {
			return sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", key)
		}
	}
	writeJSON(w, http.StatusOK, []struct{}{})
	return nil
}

func noPlugin(_ *api, _ http.ResponseWriter, r *request) error {
	return sockerless.Errorf(sockerless.ENOTFOUND, "plugin %q not found", r.name)
}
