package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/link"
)

// mortal is a store whose process dies after some writes: from then on nothing is written.
type mortal struct {
	store.Store
	left atomic.Int64 // writes that still succeed
}

var errDead = errors.New("the process is dead")

func (m *mortal) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	if m.left.Add(-1) < 0 {
		return store.Item{}, errDead
	}
	return m.Store.Put(ctx, table, item)
}

func (m *mortal) Delete(ctx context.Context, table, key, version string) error {
	if m.left.Add(-1) < 0 {
		return errDead
	}
	return m.Store.Delete(ctx, table, key, version)
}

// withStore makes the rig's engines share a store that can die.
func withStore(r *rig) *mortal {
	r.t.Helper()
	r.close()
	s, err := store.Open(filepath.Join(r.dir, "shared.db"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.close(); s.Close() })
	m := &mortal{Store: s}
	m.left.Store(1 << 40)
	r.opt.Store = m
	r.open()
	return m
}

// running counts the executions that have not ended.
func running(t *testing.T, f *faulty, starts []driver.Run) (n int) {
	for _, run := range starts {
		st, err := f.Driver.Status(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		if st.Phase == driver.PhaseRunning || st.Phase == driver.PhaseStarting {
			n++
		}
	}
	return n
}

// TestCrashWhileStarting dies after each write of a start. After the restart the container runs, or can be started, and
// exactly one execution does.
func TestCrashWhileStarting(t *testing.T) {
	t.Parallel()
	for writes := range 5 {
		modes(t, func(t *testing.T, reverse bool) {
			r, f := newFaulty(t, rigOptions{reverse: reverse})
			m := withStore(r)
			placed := make(chan driver.Run, 10)
			f.inject(func(f *faulty) {
				f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
					run, err := f.Driver.Start(ctx, spec)
					if err == nil {
						placed <- run
					}
					return run, err
				}
			})
			id := r.create(sh("echo up; sleep 600"))
			m.left.Store(int64(writes))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			b, started := r.b, make(chan error, 1)
			go func() { started <- b.Containers.Start(ctx, id) }() // ends with the start, or below
			if writes < 4 {
				eventually(t, "the store dies", func() bool { return m.left.Load() < 0 })
				cancel()
				<-started
			} else if err := within(t, started); err != nil {
				t.Errorf("a start has more writes than 4: %v", err)
			}
			r.close()
			m.left.Store(1 << 40)
			r.reopen()
			if err := r.b.Containers.Start(t.Context(), id); err != nil && sockerless.ErrorCode(err) != sockerless.ENOTMODIFIED {
				t.Fatal(err)
			}
			close(placed)
			var starts []driver.Run
			for run := range placed {
				starts = append(starts, run)
			}
			eventually(t, "exactly one execution runs", func() bool { return running(t, f, starts) == 1 })
			if st := r.find(id).State; st.Status != docker.StateRunning || st.Pid == 0 {
				t.Errorf("state: %+v", st)
			}
			if out := r.exec(id, "echo", "works"); out != "works\n" {
				t.Errorf("exec: %q", out)
			}
			eventually(t, "the process has run once", func() bool {
				return r.logs(id, sockerless.LogOptions{Tail: -1}) == "up\n"
			})
		})
	}
}

// TestCrashInTheCloudsAnswer dies while the cloud is asked to start: before it has heard, and before it is heard.
func TestCrashInTheCloudsAnswer(t *testing.T) {
	t.Parallel()
	for _, accepted := range []bool{false, true} {
		modes(t, func(t *testing.T, reverse bool) {
			r, f := newFaulty(t, rigOptions{reverse: reverse})
			asked := make(chan struct{})
			f.inject(func(f *faulty) {
				f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
					if accepted {
						if _, err := f.Driver.Start(ctx, spec); err != nil {
							t.Error(err)
						}
					}
					close(asked)
					<-ctx.Done()
					return driver.Run{}, ctx.Err()
				}
			})
			id := r.create(sh("echo up; sleep 600"))
			go r.b.Containers.Start(t.Context(), id) // ends with the engine
			within(t, asked)
			f.inject(func(f *faulty) { f.start = nil })
			r.reopen()
			if accepted {
				eventually(t, "the start goes on", func() bool { return r.find(id).State.Pid != 0 })
			} else {
				eventually(t, "the start is given up", func() bool { return r.find(id).State.Error != "" })
				if st := r.find(id).State; st.Status != docker.StateCreated {
					t.Errorf("state: %+v", st)
				}
				r.start(id)
			}
			if n := len(f.jobs(t)); n != 1 {
				t.Errorf("%d jobs", n)
			}
			if out := r.exec(id, "echo", "works"); out != "works\n" {
				t.Errorf("exec: %q", out)
			}
			eventually(t, "the process has run once", func() bool {
				return r.logs(id, sockerless.LogOptions{Tail: -1}) == "up\n"
			})
		})
	}
}

// exec runs a command in a container and returns its output.
func (r *rig) exec(id string, cmd ...string) string {
	r.t.Helper()
	x, err := r.b.Execs.Create(r.t.Context(), id, sockerless.ExecConfig{Cmd: cmd, Stdout: true, Stderr: true})
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := r.b.Execs.Start(r.t.Context(), x, sockerless.ExecStartOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	out, more := r.read(s, false)
	return out + more
}

// TestRestartOfTheBackend under everything that a container can be.
func TestRestartOfTheBackend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
		created := r.create(sh("echo created"))
		runs := r.create(sh("i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.005; done; sleep 600"))
		ends := r.create(sh("echo begin; sleep 0.5; echo end; exit 7"))
		ended := r.create(sh("exit 3"))
		removed := r.create(sh("echo gone; sleep 0.5; exit 4"), autoRemove)
		wait := r.wait(ended, docker.WaitConditionNextExit)
		for _, id := range []string{runs, ends, ended, removed} {
			r.start(id)
		}
		wait()
		r.close()
		time.Sleep(700 * time.Millisecond)
		r.reopen()

		if st := r.find(created).State; st.Status != docker.StateCreated {
			t.Errorf("created: %+v", st)
		}
		r.start(created)
		if u := r.wait(ends, docker.WaitConditionNotRunning)(); u.ExitCode != 7 {
			t.Errorf("exit code %d, want 7", u.ExitCode)
		}
		if got := r.logs(ends, sockerless.LogOptions{Tail: -1}); got != "begin\nend\n" {
			t.Errorf("logs %q", got)
		}
		if st := r.find(ended).State; st.Status != docker.StateExited || st.ExitCode != 3 {
			t.Errorf("ended: %+v", st)
		}
		if out := r.exec(runs, "echo", "works"); out != "works\n" {
			t.Errorf("exec: %q", out)
		}
		var want strings.Builder
		for i := range 200 {
			fmt.Fprintln(&want, i)
		}
		eventually(t, "the log has no hole", func() bool { return r.logs(runs, sockerless.LogOptions{Tail: -1}) == want.String() })
		eventually(t, "--rm is obeyed", func() bool {
			_, err := r.b.Containers.Find(t.Context(), removed)
			return sockerless.ErrorCode(err) == sockerless.ENOTFOUND
		})
		// In place, after a restart of the backend too.
		r.start(ended)
		if c := r.find(ended); c.Run.Incarnation != 2 {
			t.Errorf("incarnation %d, want 2", c.Run.Incarnation)
		}
		// And the same once more.
		r.reopen()
		if out := r.exec(runs, "echo", "again"); out != "again\n" {
			t.Errorf("exec: %q", out)
		}
	})
}

// TestCrashAtTheExit dies before the exit is stored, and learns it afterwards.
func TestCrashAtTheExit(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, _ := newFaulty(t, rigOptions{reverse: reverse})
		m := withStore(r)
		gated, open := gate(t)
		id := r.create(sh("echo words; " + gated + "exit 9"))
		r.start(id)
		m.left.Store(0)
		open()
		eventually(t, "the exit is to be stored", func() bool { return m.left.Load() < 0 })
		time.Sleep(100 * time.Millisecond) // for what must not come
		if st := r.find(id).State; st.Status != docker.StateRunning {
			t.Errorf("what is not stored is told: %+v", st)
		}
		r.close()
		m.left.Store(1 << 40)
		r.reopen()
		if u := r.wait(id, docker.WaitConditionNotRunning)(); u.ExitCode != 9 {
			t.Errorf("exit code %d, want 9", u.ExitCode)
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "words\n" {
			t.Errorf("logs %q", got)
		}
	})
}

// TestSecondAgentIsFenced: a repeated execution, or a replica that was run again, is told to end.
func TestSecondAgentIsFenced(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{reverse: true})
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return f.Driver.Start(ctx, spec)
		}
	})
	id := r.create(sh("sleep 600"))
	r.start(id)
	spec, execution := within(t, specs), r.find(id).Run.Execution
	for _, hello := range []link.Hello{
		{Execution: execution, BootID: "another boot"}, {Execution: "another-execution", BootID: "another boot"},
	} {
		l, err := link.Dial(t.Context(), link.Target{URL: r.server.URL + "/agent"},
			link.Identity{Role: link.Agent, ID: spec.ID, Secret: spec.Secret, Hello: hello}, link.Options{})
		if err != nil {
			t.Fatal(err)
		}
		released := make(chan string, 8)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			released <- req.URL.Path
		})}
		go server.Serve(l) // ends with the link
		if got := within(t, released); got != protocol.PathRelease {
			t.Errorf("the second agent is asked for %s", got)
		}
		within(t, l.Done())
		server.Close()
	}
	if out := r.exec(id, "echo", "works"); out != "works\n" {
		t.Errorf("exec in the first: %q", out)
	}
}

// TestReplicaRunAgain: the platform takes a replica away and runs another in the same execution. That one is not obeyed,
// and the container has ended.
func TestReplicaRunAgain(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{reverse: true})
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return f.Driver.Start(ctx, spec)
		}
	})
	gated, open := gate(t)
	id := r.create(sh(gated + "kill -9 $PPID; sleep 600"))
	wait := r.wait(id, docker.WaitConditionNextExit)
	r.start(id)
	spec, agent := within(t, specs), r.agentOf(id)
	f.inject(func(f *faulty) { // the execution goes on
		f.status = func(context.Context, driver.Run) (driver.Status, error) {
			return driver.Status{Phase: driver.PhaseRunning}, nil
		}
	})
	open()
	eventually(t, "the first replica is gone", func() bool { s := processState(agent); return s == "" || s == "Z" })
	l, err := link.Dial(t.Context(), link.Target{URL: r.server.URL + "/agent"}, link.Identity{
		Role: link.Agent, ID: spec.ID, Secret: spec.Secret, Hello: link.Hello{Execution: r.find(id).Run.Execution, BootID: "again"},
	}, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go server.Serve(l) // ends with the link
	if u := wait(); u.ExitCode != 137 {
		t.Errorf("wait: %+v", u)
	}
	if st := r.find(id).State; !strings.Contains(st.Error, "took the replica away and ran it again") {
		t.Errorf("state: %+v", st)
	}
	f.inject(func(f *faulty) { f.status = nil })
	eventually(t, "the execution is stopped", func() bool { return f.calls.stop.Load() == 1 })
	within(t, l.Done())
	server.Close()
}

// TestLingerEnds: then a start is a new execution, its log goes on, and what is new is told.
func TestLingerEnds(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, f := newFaulty(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: 200 * time.Millisecond}})
		since := time.Now()
		id := r.create(sh("echo run"))
		wait := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		wait()
		first := r.find(id).Run
		eventually(t, "the agent leaves", func() bool { return f.ends(t, id) })
		if f.calls.stop.Load() != 0 {
			t.Error("the cloud was asked to stop what ends by itself")
		}
		_, err := r.b.Containers.Stat(t.Context(), id, "/")
		refused(t, err, sockerless.EUNSUPPORTED)
		wait = r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		wait()
		second := r.find(id).Run
		if second.Execution == first.Execution || second.Job != first.Job || second.Incarnation != 1 {
			t.Errorf("runs %+v and %+v", first, second)
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "run\nrun\n" {
			t.Errorf("logs %q", got)
		}
		var fresh []string
		for m := range r.events(sockerless.EventOptions{
			Since: since, Until: time.Now(), Filters: sockerless.Filters{"container": {id}, "event": {"start"}},
		}) {
			fresh = append(fresh, m.Actor.Attributes["sockerless.filesystem"])
		}
		if len(fresh) != 2 || fresh[0] != "" || fresh[1] != "fresh" {
			t.Errorf("starts say %q", fresh)
		}
	})
}

// archive is a driver whose cloud keeps output.
type archive struct{ driver.Driver }

func (a archive) Unwrap() driver.Driver { return a.Driver }

func (a archive) Logs(_ context.Context, run driver.Run, _ time.Time) iter.Seq2[driver.Line, error] {
	return func(yield func(driver.Line, error) bool) {
		if run.Execution != "" || run.Job == "" {
			yield(driver.Line{}, fmt.Errorf("asked for execution %q of job %q alone", run.Execution, run.Job))
			return
		}
		for i, text := range []string{"one", "two", "three"} {
			stream := "stdout"
			if i == 1 {
				stream = "stderr"
			}
			if !yield(driver.Line{Time: time.Unix(int64(i), 0), Stream: stream, Text: text}, nil) {
				return
			}
		}
	}
}

// TestLogsFromTheCloud, where the engine has none.
func TestLogsFromTheCloud(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{
		mem: memdriver.Options{StartGrace: 200 * time.Millisecond},
		wrap: func(d driver.Driver) driver.Driver {
			f := &faulty{Driver: archive{d}}
			f.dial = func(context.Context, driver.Run) (net.Conn, error) {
				return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "not yet")
			}
			return faultyDialer{f}
		},
	})
	id := r.create(sh("true"))
	if err := r.b.Containers.Start(t.Context(), id); err == nil {
		t.Fatal("started without an agent")
	}
	if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "one\ntwo\nthree\n" {
		t.Errorf("logs %q", got)
	}
	if got := r.logs(id, sockerless.LogOptions{Tail: 1}); got != "three\n" {
		t.Errorf("logs %q", got)
	}
	if got := r.logs(id, sockerless.LogOptions{Tail: -1, Since: time.Unix(1, 0), Until: time.Unix(1, 0)}); got != "two\n" {
		t.Errorf("logs %q", got)
	}
}
