package dockerapi

import (
	"io"
	"net/http"
	"runtime"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"

	"github.com/sockerless/sockerless"
)

// ping is answered here alone: clients negotiate their version by it, and what is wrong with the backend they learn from
// the request that they meant to make.
func (a *api) ping(w http.ResponseWriter, r *request) error {
	h := w.Header()
	h.Set("Builder-Version", "1") // the classic builder: a client that asks for BuildKit must not wait for one
	h.Set("Swarm", "inactive")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return writeNothing(w, http.StatusOK)
	}
	h.Set("Content-Length", "2")
	w.WriteHeader(http.StatusOK)
	io.WriteString(w, "OK") //nolint:errcheck // the client is gone; nobody is left to tell
	return nil
}

func (a *api) showVersion(w http.ResponseWriter, r *request) error {
	v, err := a.backend.System.Version(r.Context())
	if err != nil {
		return err
	}
	if v.Version == "" {
		v.Version = a.version
	}
	v.APIVersion, v.MinAPIVersion = maxVersion.String(), minVersion.String()
	v.GoVersion = runtime.Version()
	// The platform of the containers, whatever this program runs on.
	v.Os, v.Arch = "linux", "amd64"
	// The CLI shows what it knows of the server from the component of this name.
	engine := system.ComponentVersion{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion":    v.APIVersion,
		"MinAPIVersion": v.MinAPIVersion,
		"GoVersion":     v.GoVersion,
		"GitCommit":     v.GitCommit,
		"BuildTime":     v.BuildTime,
		"KernelVersion": v.KernelVersion,
		"Os":            v.Os,
		"Arch":          v.Arch,
		"Experimental":  "false",
	}}
	components := []system.ComponentVersion{engine}
	for _, c := range v.Components {
		if c.Name == "Engine" {
			for k, detail := range c.Details {
				engine.Details[k] = detail
			}
			continue
		}
		components = append(components, c)
	}
	v.Components = append(components, system.ComponentVersion{Name: "sockerless-frontend-docker", Version: a.version, Details: map[string]string{
		"GoVersion": runtime.Version(),
		"Os":        runtime.GOOS,
		"Arch":      runtime.GOARCH,
	}})
	writeJSON(w, http.StatusOK, v)
	return nil
}

func (a *api) info(w http.ResponseWriter, r *request) error {
	info, err := a.backend.System.Info(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, info)
	return nil
}

func (a *api) auth(w http.ResponseWriter, r *request) error {
	var in registry.AuthConfig
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	out, err := a.backend.System.Auth(r.Context(), in)
	if err != nil {
		return err
	}
	if out == nil {
		return sockerless.Errorf(sockerless.EINTERNAL, "the backend gave no answer to the credentials")
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
