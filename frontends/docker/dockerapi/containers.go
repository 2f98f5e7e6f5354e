package dockerapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// createRequest is the body of a create. Docker takes a command and an entrypoint that are one string, too.
type createRequest struct {
	container.CreateRequest
	Cmd, Entrypoint words
}

func (a *api) createContainer(w http.ResponseWriter, r *request) error {
	var in createRequest
	raw, err := r.required(w, &in)
	if err != nil {
		return err
	}
	if in.Config == nil && (len(in.Cmd) > 0 || len(in.Entrypoint) > 0) {
		in.Config = &container.Config{}
	}
	if in.Config == nil {
		return sockerless.Errorf(sockerless.EINVALID, "Config cannot be empty in order to create a container")
	}
	in.Config.Cmd, in.Config.Entrypoint = in.Cmd, in.Entrypoint
	if in.HostConfig == nil {
		in.HostConfig = &container.HostConfig{}
	}
	// The CLI says -1 where nothing was asked for, which is nothing in inspect.
	if n := in.HostConfig.MemorySwappiness; n != nil && *n == -1 {
		in.HostConfig.MemorySwappiness = nil
	}
	if r.version.before(44) && in.NetworkingConfig != nil && len(in.NetworkingConfig.EndpointsConfig) > 1 {
		names := slices.Sorted(maps.Keys(in.NetworkingConfig.EndpointsConfig))
		return sockerless.Errorf(sockerless.EINVALID, "container cannot be connected to network endpoints: %s", strings.Join(names, ", "))
	}
	if raw, err = leftOver(raw, in.Config, in.HostConfig); err != nil {
		return err
	}
	out, err := a.backend.Containers.Create(r.Context(), sockerless.CreateRequest{
		Name:             r.query.Get("name"),
		Platform:         r.query.Get("platform"),
		Config:           in.Config,
		HostConfig:       in.HostConfig,
		NetworkingConfig: in.NetworkingConfig,
		Raw:              raw,
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, container.CreateResponse{ID: out.ID, Warnings: orEmpty(out.Warnings)})
	return nil
}

func (a *api) listContainers(w http.ResponseWriter, r *request) error {
	opt := sockerless.ListOptions{All: r.flag("all")}
	var err error
	if opt.Filters, err = r.filters(); err != nil {
		return err
	}
	if opt.Limit, err = r.number("limit", 0); err != nil {
		return err
	}
	opt.Limit = max(opt.Limit, 0) // -1 is how clients say none
	out := []*summary{}
	now := time.Now()
	for c, err := range a.backend.Containers.List(r.Context(), opt) {
		if err != nil {
			return err
		}
		out = append(out, summarize(c, now, r.version))
	}
	if r.flag("size") {
		for _, s := range out {
			size, err := a.backend.Containers.Size(r.Context(), s.ID)
			if sockerless.ErrorCode(err) == sockerless.ENOTFOUND {
				continue // it was removed meanwhile
			}
			if err != nil {
				return err
			}
			s.SizeRw, s.SizeRootFs = size.Written, size.Whole
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) inspectContainer(w http.ResponseWriter, r *request) error {
	c, err := a.backend.Containers.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	out, err := inspect(c, r.version)
	if err != nil {
		return err
	}
	if r.flag("size") {
		size, err := a.backend.Containers.Size(r.Context(), c.ID)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &size.Written, &size.Whole
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) startContainer(w http.ResponseWriter, r *request) error {
	// Until v1.24 a start could bring a HostConfig; dockerd refuses it since, in these words.
	if r.ContentLength > 7 || r.ContentLength == -1 {
		if raw, err := r.read(w); err != nil {
			return err
		} else if len(raw) > 7 { // "null" or "{}", with what may stand around it
			return sockerless.Errorf(sockerless.EINVALID, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
		}
	}
	for _, key := range []string{"checkpoint", "checkpoint-dir"} {
		if r.query.Get(key) != "" {
			return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --%s: there are no checkpoints here", key)
		}
	}
	if err := a.backend.Containers.Start(r.Context(), r.name); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) stopContainer(w http.ResponseWriter, r *request) error {
	opt, err := r.stopOptions()
	if err != nil {
		return err
	}
	if err := a.backend.Containers.Stop(r.Context(), r.name, opt); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) restartContainer(w http.ResponseWriter, r *request) error {
	opt, err := r.stopOptions()
	if err != nil {
		return err
	}
	if err := a.backend.Containers.Restart(r.Context(), r.name, opt); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (r *request) stopOptions() (sockerless.StopOptions, error) {
	opt := sockerless.StopOptions{Signal: r.query.Get("signal")}
	if r.query.Get("t") != "" {
		seconds, err := r.number("t", 0)
		if err != nil {
			return opt, err
		}
		grace := time.Duration(seconds) * time.Second
		opt.Grace = &grace
	}
	return opt, nil
}

func (a *api) killContainer(w http.ResponseWriter, r *request) error {
	signal := r.query.Get("signal")
	if signal == "" {
		signal = "SIGKILL"
	}
	if err := a.backend.Containers.Signal(r.Context(), r.name, signal); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) renameContainer(w http.ResponseWriter, r *request) error {
	name := r.query.Get("name")
	if name == "" {
		return sockerless.Errorf(sockerless.EINVALID, "Neither old nor new names may be empty")
	}
	if err := a.backend.Containers.Rename(r.Context(), r.name, name); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) updateContainer(w http.ResponseWriter, r *request) error {
	var in container.UpdateConfig
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	warnings, err := a.backend.Containers.Update(r.Context(), r.name, in)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, container.UpdateResponse{Warnings: orEmpty(warnings)})
	return nil
}

func (a *api) resizeContainer(w http.ResponseWriter, r *request) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	if err := a.backend.Containers.Resize(r.Context(), r.name, size); err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

func (a *api) removeContainer(w http.ResponseWriter, r *request) error {
	if r.flag("link") {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --link: there are no links between containers here")
	}
	err := a.backend.Containers.Remove(r.Context(), r.name, sockerless.RemoveOptions{Force: r.flag("force"), Volumes: r.flag("v")})
	if err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) pruneContainers(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	report, err := a.backend.Containers.Prune(r.Context(), filters)
	if err != nil {
		return err
	}
	report.ContainersDeleted = orEmpty(report.ContainersDeleted)
	writeJSON(w, http.StatusOK, report)
	return nil
}

func (a *api) waitContainer(w http.ResponseWriter, r *request) error {
	condition := container.WaitCondition(r.query.Get("condition"))
	if r.version.before(30) {
		condition = "" // it came with 1.30
	}
	switch condition {
	case "":
		condition = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return sockerless.Errorf(sockerless.EINVALID, "invalid condition: %q", condition)
	}
	var out container.WaitResponse
	standing := false
	for u, err := range a.backend.Containers.Wait(r.Context(), r.name, condition) {
		switch {
		case err != nil && (!standing || r.Context().Err() != nil):
			return err
		case err != nil:
			// The status is out; a client takes this for "it cannot be known", as it should.
			out = container.WaitResponse{StatusCode: 125, Error: &container.WaitExitError{Message: err.Error()}}
		case !u.Exited && !standing:
			// A docker CLI does not start the container before these headers have come.
			standing = true
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		case u.Exited:
			out.StatusCode = int64(u.ExitCode)
			if u.Error != "" {
				out.Error = &container.WaitExitError{Message: u.Error}
			}
		}
	}
	if !standing {
		w.Header().Set("Content-Type", "application/json")
	}
	return json.NewEncoder(w).Encode(out)
}
