package dockerapi

import (
	"net/http"

	"github.com/sockerless/sockerless"
)

func (a *api) attach(w http.ResponseWriter, r *request) error {
	// dockerode sends its options as a body too, which must not become the process's input.
	if r.ContentLength > 0 {
		if _, err := r.read(w); err != nil {
			return err
		}
	}
	c, err := a.backend.Containers.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	session, err := a.backend.Containers.Attach(r.Context(), c.ID, r.attachOptions())
	if err != nil {
		return err
	}
	return a.hijack(w, r, r.streamType(c.Config.Tty), session, nil)
}

func (r *request) attachOptions() sockerless.AttachOptions {
	return sockerless.AttachOptions{
		Stdin:      r.flag("stdin"),
		Stdout:     r.flag("stdout"),
		Stderr:     r.flag("stderr"),
		Logs:       r.flag("logs"),
		Stream:     r.flag("stream"),
		DetachKeys: r.query.Get("detachKeys"),
	}
}
