package engine_test

import (
	"net/http"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine"
)

// hubHandler gives the rig's present hub to agents.
type hubHandler struct{ *rig }

func (h hubHandler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h.mu.Lock()
	hub := h.hub
	h.mu.Unlock()
	hub.ServeHTTP(w, req)
}

func TestRun(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
		id := r.create(sh("echo out; echo err >&2; exit 5"))
		s := r.attach(id, sockerless.AttachOptions{Stdout: true, Stderr: true})
		wait := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		if stdout, stderr := r.read(s, false); stdout != "out\n" || stderr != "err\n" {
			t.Errorf("stdout %q stderr %q", stdout, stderr)
		}
		if u := wait(); u.ExitCode != 5 || u.Error != "" {
			t.Errorf("exit %+v", u)
		}
		c := r.find(id)
		if c.State.Status != docker.StateExited || c.State.ExitCode != 5 || c.State.StartedAt.IsZero() || c.State.FinishedAt.IsZero() {
			t.Errorf("state %+v", c.State)
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "out\nerr\n" && got != "err\nout\n" {
			t.Errorf("logs %q", got)
		}
	})
}
