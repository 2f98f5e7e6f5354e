package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

func (a *api) listNetworks(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	out := []any{}
	for n, err := range a.backend.Networks.List(r.Context(), filters) {
		if err != nil {
			return err
		}
		switch {
		case !r.version.before(52):
			out = append(out, network.Summary{Network: n.Network})
		case !r.version.before(28): // a list tells of no containers since
			out = append(out, network.Inspect{Network: n.Network, Containers: map[string]network.EndpointResource{}})
		default:
			out = append(out, n)
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) createNetwork(w http.ResponseWriter, r *request) error {
	var in network.CreateRequest
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	out, err := a.backend.Networks.Create(r.Context(), in)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, out)
	return nil
}

func (a *api) inspectNetwork(w http.ResponseWriter, r *request) error {
	n, err := a.backend.Networks.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	if scope := r.query.Get("scope"); scope != "" && scope != n.Scope {
		return sockerless.Errorf(sockerless.ENOTFOUND, "network %s not found", r.name)
	}
	writeJSON(w, http.StatusOK, n)
	return nil
}

func (a *api) connectNetwork(w http.ResponseWriter, r *request) error {
	var in network.ConnectRequest
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	if err := a.backend.Networks.Connect(r.Context(), r.name, in.Container, in.EndpointConfig); err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

func (a *api) disconnectNetwork(w http.ResponseWriter, r *request) error {
	var in network.DisconnectRequest
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	if err := a.backend.Networks.Disconnect(r.Context(), r.name, in.Container, in.Force); err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

func (a *api) removeNetwork(w http.ResponseWriter, r *request) error {
	if err := a.backend.Networks.Remove(r.Context(), r.name); err != nil {
		return err
	}
	return writeNothing(w, http.StatusNoContent)
}

func (a *api) pruneNetworks(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	report, err := a.backend.Networks.Prune(r.Context(), filters)
	if err != nil {
		return err
	}
	report.NetworksDeleted = orEmpty(report.NetworksDeleted)
	writeJSON(w, http.StatusOK, report)
	return nil
}
