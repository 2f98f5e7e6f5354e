package engine_test

import (
	"testing"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// TestPausedOverRestart: a container stays paused when the backend ends and comes again, and is not told to be so twice.
func TestPausedOverRestart(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse})
		id := r.create(sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"))
		r.start(id)
		eventually(t, "its trap is set", func() bool { return r.logs(id, sockerless.LogOptions{Tail: -1}) == "ready\n" })
		for _, action := range []func() error{
			func() error { return r.b.Containers.Pause(t.Context(), id) },
			func() error { return r.b.Containers.Unpause(t.Context(), id) },
			func() error { return r.b.Containers.Pause(t.Context(), id) },
		} {
			if err := action(); err != nil {
				t.Fatal(err)
			}
		}
		r.reopen()
		if st := r.find(id).State; st.Status != docker.StatePaused || st.Pid == 0 {
			t.Errorf("after the restart: %+v", st)
		}
		if err := r.b.Containers.Unpause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if st := r.find(id).State; st.Status != docker.StateRunning {
			t.Errorf("unpaused: %+v", st)
		}
		if err := r.b.Containers.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		exit := r.wait(id, docker.WaitConditionNotRunning)
		if err := r.b.Containers.Signal(t.Context(), id, "TERM"); err != nil {
			t.Fatal(err)
		}
		if u := exit(); u.ExitCode != 3 {
			t.Errorf("%+v", u)
		}
	})
}

// TestPausedInACrash: the agent has paused the container, and the backend dies before it has stored that.
func TestPausedInACrash(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse})
		m := withStore(r)
		id := r.create(sh("exec sleep 1000"))
		r.start(id)
		m.left.Store(0)
		told := make(chan error, 1)
		b := r.b
		go func() { told <- b.Containers.Pause(t.Context(), id) }() // ends with the engine
		eventually(t, "the agent has paused it", func() bool {
			res, err := b.Containers.Top(t.Context(), id, "-eo pid,state")
			return err == nil && len(res.Processes) == 1 && res.Processes[0][1] == "T"
		})
		if st := r.find(id).State; st.Status != docker.StateRunning {
			t.Errorf("before it is stored: %+v", st)
		}
		r.close()
		if err := within(t, told); err == nil {
			t.Error("a pause that could not be stored was told as one")
		}
		m.left.Store(1 << 40)
		r.open()
		eventually(t, "the next backend hears of it", func() bool { return r.find(id).State.Status == docker.StatePaused })
		if err := r.b.Containers.Unpause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	})
}
