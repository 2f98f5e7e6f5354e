package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
)

// policy is an option of create: "always", "on-failure:3"...
func policy(p string) func(*sockerless.CreateRequest) {
	return func(req *sockerless.CreateRequest) {
		name, count, _ := strings.Cut(p, ":")
		req.HostConfig.RestartPolicy.Name = docker.RestartPolicyMode(name)
		fmt.Sscan(count, &req.HostConfig.RestartPolicy.MaximumRetryCount)
	}
}

// expect wants this history of a container. A state is seen a moment before its event.
func (r *rig) expect(id string, since time.Time, want []string) {
	r.t.Helper()
	var got []string
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if got = r.history(id, since); len(got) >= len(want) || time.Now().After(end) {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Error(diff)
	}
}

// history is a container's events since a time, without those of clients.
func (r *rig) history(id string, since time.Time) (all []string) {
	r.t.Helper()
	for m := range r.events(sockerless.EventOptions{
		Since: since, Until: time.Now(), Filters: sockerless.Filters{"container": {id}},
	}) {
		text := string(m.Action)
		if code := m.Actor.Attributes["exitCode"]; code != "" {
			text += " " + code
		}
		if m.Actor.Attributes["sockerless.filesystem"] != "" {
			text += " fresh"
		}
		all = append(all, text)
	}
	return all
}

func (r *rig) becomes(id string, status docker.ContainerState) {
	r.t.Helper()
	eventually(r.t, "it is "+string(status), func() bool { return r.find(id).State.Status == status })
}

// counter is a script that counts its runs in a file, and knows the number.
func counter(t *testing.T, script string) docker.Config {
	n := filepath.Join(t.TempDir(), "n")
	return sh("echo >>" + n + "; n=$(wc -l <" + n + "); echo run $n; " + script)
}

// gate is a file that a script waits for, and what makes it.
func gate(t *testing.T) (wait string, open func()) {
	path := filepath.Join(t.TempDir(), "gate")
	return "while [ ! -e " + path + " ]; do sleep 0.02; done; ", func() {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestartPolicy runs the process again in the same execution, and says so as dockerd does.
func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, f := newFaulty(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
		since := time.Now()
		id := r.create(counter(t, "exit 3"), policy("on-failure:2"))
		first := r.wait(id, docker.WaitConditionNextExit)
		s := r.attach(id, sockerless.AttachOptions{Stdout: true})
		r.start(id)
		if u := first(); u.ExitCode != 3 {
			t.Errorf("wait: %+v", u)
		}
		if out, _ := r.read(s, false); out != "run 1\n" {
			t.Errorf("attached: %q", out)
		}
		r.becomes(id, docker.StateExited)
		c := r.find(id)
		if c.RestartCount != 2 || c.State.ExitCode != 3 || c.Run.Incarnation != 3 || f.calls.start.Load() != 1 {
			t.Errorf("%d restarts, %+v, %+v, %d executions", c.RestartCount, c.State, c.Run, f.calls.start.Load())
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "run 1\nrun 2\nrun 3\n" {
			t.Errorf("logs %q", got)
		}
		r.expect(id, since, []string{"create", "attach", "start", "die 3", "start", "die 3", "start", "die 3"})
		// A start by hand counts from the beginning.
		r.start(id)
		eventually(t, "it is restarted twice again", func() bool {
			return r.find(id).RestartCount == 2 && r.find(id).State.Status == docker.StateExited
		})
		if got := r.logs(id, sockerless.LogOptions{Tail: 1}); got != "run 6\n" || f.calls.start.Load() != 1 {
			t.Errorf("logs %q, %d executions", got, f.calls.start.Load())
		}
	})
}

// untilRestarting waits until the pause before a restart is so long that much can be asked in it.
func (r *rig) untilRestarting(id string) {
	r.t.Helper()
	eventually(r.t, "it is restarting for long", func() bool {
		c := r.find(id)
		return c.State.Status == docker.StateRestarting && c.RestartCount >= 8 // 12.8 s
	})
}

// TestRestarting is what may be asked of a container in the pause before a restart.
func TestRestarting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(*rig, string) error
		want []string
		gone bool
	}{
		{"stop", func(r *rig, id string) error {
			return r.b.Containers.Stop(r.t.Context(), id, sockerless.StopOptions{})
		}, []string{"stop"}, false},
		{"kill", func(r *rig, id string) error { return r.b.Containers.Signal(r.t.Context(), id, "KILL") }, nil, false},
		{"any signal", func(r *rig, id string) error {
			err := r.b.Containers.Signal(r.t.Context(), id, "USR1")
			r.becomes(id, docker.StateExited)
			return err
		}, nil, false},
		{"rm -f", func(r *rig, id string) error {
			return r.b.Containers.Remove(r.t.Context(), id, sockerless.RemoveOptions{Force: true})
		}, []string{"destroy"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
			id := r.create(sh("exit 1"), policy("always"))
			r.start(id)
			r.untilRestarting(id)
			if _, err := r.b.Containers.Attach(t.Context(), id, sockerless.AttachOptions{Stream: true, Stdout: true}); err == nil ||
				!strings.Contains(err.Error(), "is restarting, wait until the container is running") {
				t.Errorf("attach: %v", err)
			}
			_, err := r.b.Execs.Create(t.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}})
			refused(t, err, sockerless.ECONFLICT)
			refused(t, r.b.Containers.Start(t.Context(), id), sockerless.ENOTMODIFIED)
			if err := r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{}); err == nil ||
				!strings.Contains(err.Error(), "container is restarting: stop the container before removing or force remove") {
				t.Errorf("rm: %v", err)
			}
			if _, err := r.b.Containers.Stat(t.Context(), id, "/"); err != nil {
				t.Errorf("its files: %v", err)
			}
			wait := r.wait(id, docker.WaitConditionNotRunning)
			since := time.Now()
			if err := c.end(r, id); err != nil {
				t.Fatal(err)
			}
			if u := wait(); u.ExitCode != 1 {
				t.Errorf("wait: %+v", u)
			}
			r.expect(id, since, c.want)
			if c.gone {
				eventually(t, "no job is left", func() bool { return len(f.jobs(t)) == 0 })
				return
			}
			if st := r.find(id).State; st.Status != docker.StateExited || st.ExitCode != 1 {
				t.Errorf("state %+v", st)
			}
			if n := r.find(id).RestartCount; n < 8 {
				t.Errorf("%d restarts", n)
			}
			r.start(id) // in place
			if n := f.calls.start.Load(); n != 1 {
				t.Errorf("%d executions", n)
			}
		})
	}
}

// TestStopOutlastsThePolicy: what a user has stopped stays stopped, over a restart of the backend too.
func TestStopOutlastsThePolicy(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"always", "unless-stopped", "on-failure"} {
		r, f := newFaulty(t, rigOptions{})
		id := r.create(sh("exec sleep 600"), policy(p))
		r.start(id)
		if err := r.b.Containers.Stop(t.Context(), id, sockerless.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the execution ends", func() bool { return f.ends(t, id) })
		r.reopen()
		time.Sleep(300 * time.Millisecond) // for what must not come
		if c := r.find(id); c.State.Status != docker.StateExited || c.State.ExitCode != 143 || c.RestartCount != 0 {
			t.Errorf("%s: %+v, %d restarts", p, c.State, c.RestartCount)
		}
		if n := f.calls.start.Load(); n != 1 {
			t.Errorf("%s: %d executions", p, n)
		}
	}
}

// TestRestartsWithoutTheBackend are all known when it is back.
func TestRestartsWithoutTheBackend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
		wait, open := gate(t)
		id := r.create(counter(t, wait+"[ $n = 4 ] && exec sleep 600; exit 5"), policy("always"))
		r.start(id)
		r.close()
		open()
		time.Sleep(1500 * time.Millisecond)
		since := time.Now()
		r.reopen()
		eventually(t, "it runs for the fourth time", func() bool {
			c := r.find(id)
			return c.RestartCount == 3 && c.State.Status == docker.StateRunning && c.Run.Incarnation == 4
		})
		eventually(t, "the log has all", func() bool {
			return r.logs(id, sockerless.LogOptions{Tail: -1}) == "run 1\nrun 2\nrun 3\nrun 4\n"
		})
		r.expect(id, since, []string{"die 5", "start", "die 5", "start", "die 5", "start"})
		if out := r.exec(id, "echo", "works"); out != "works\n" {
			t.Errorf("exec: %q", out)
		}
	})
}

// crashes lets things go on, and has the engine die with its store after so many writes and come again.
func (r *rig) crashes(m *mortal, writes int, goOn func()) {
	r.t.Helper()
	m.left.Store(int64(writes))
	goOn()
	eventually(r.t, "the store dies", func() bool { return m.left.Load() < 0 })
	r.close()
	m.left.Store(1 << 40)
	r.reopen()
}

// TestCrashWhileRestarting dies before each write of restarts. None is lost, and none is counted twice.
func TestCrashWhileRestarting(t *testing.T) {
	t.Parallel()
	for writes := range 5 {
		t.Run(fmt.Sprint("after write ", writes), func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
			m := withStore(r)
			wait, open := gate(t)
			id := r.create(counter(t, wait+"exit 1"), policy("on-failure:3"))
			r.start(id)
			r.crashes(m, writes, open)
			r.becomes(id, docker.StateExited)
			if c := r.find(id); c.RestartCount != 3 || c.Run.Incarnation != 4 || f.calls.start.Load() != 1 {
				t.Errorf("after %d writes: %d restarts, %+v", writes, c.RestartCount, c.Run)
			}
			if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "run 1\nrun 2\nrun 3\nrun 4\n" {
				t.Errorf("after %d writes: logs %q", writes, got)
			}
		})
	}
}

// TestRestartInANewExecution: the replica is killed, or told to end by the platform or from inside.
func TestRestartInANewExecution(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		end    func(*rig, *faulty, string)
		code   string
	}{
		"killed":           {"[ $n = 1 ] && kill -9 $PPID; exec sleep 600", nil, "137"},
		"stopped":          {"exec sleep 600", func(r *rig, f *faulty, id string) { f.Driver.Stop(r.t.Context(), f.jobs(r.t)[0]) }, "143"},
		"told from inside": {"[ $n = 1 ] && kill -TERM $PPID; exec sleep 600", nil, "143"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, reverse bool) {
				r, f := newFaulty(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
				since := time.Now()
				wait, open := gate(t)
				id := r.create(counter(t, wait+c.script), policy("unless-stopped"))
				r.start(id)
				first := r.find(id).Run
				eventually(t, "it has begun", func() bool { return r.logs(id, sockerless.LogOptions{Tail: -1}) != "" })
				open()
				if c.end != nil {
					c.end(r, f, id)
				}
				eventually(t, "it runs again", func() bool {
					return r.find(id).RestartCount == 1 && r.find(id).State.Status == docker.StateRunning
				})
				second := r.find(id).Run
				if second.Execution == first.Execution || second.Job != first.Job || second.Incarnation != 1 || f.calls.start.Load() != 2 {
					t.Errorf("%+v, then %+v, %d executions", first, second, f.calls.start.Load())
				}
				eventually(t, "the log goes on", func() bool {
					return r.logs(id, sockerless.LogOptions{Tail: -1}) == "run 1\nrun 2\n"
				})
				r.expect(id, since, []string{"create", "start", "die " + c.code, "start fresh"})
				if st := r.find(id).State; st.Error != "" || st.ExitCode != 0 {
					t.Errorf("state %+v", st)
				}
			})
		})
	}
}

// TestRestartInANewExecutionIsDurable: the engine dies while it waits to place one.
func TestRestartInANewExecutionIsDurable(t *testing.T) {
	t.Parallel()
	for writes := range 5 {
		t.Run(fmt.Sprint("after write ", writes), func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
			m := withStore(r)
			wait, open := gate(t)
			id := r.create(counter(t, wait+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
			r.start(id)
			eventually(t, "it has begun", func() bool { return r.logs(id, sockerless.LogOptions{Tail: -1}) != "" })
			r.crashes(m, writes, open)
			eventually(t, "it runs again", func() bool {
				return r.find(id).RestartCount >= 1 && r.find(id).State.Status == docker.StateRunning
			})
			eventually(t, "one execution runs", func() bool { return !f.ends(t, id) })
			// A start whose answer was not stored is given up and counts: that the process has not run twice is the point.
			eventually(t, "the log goes on", func() bool {
				return r.logs(id, sockerless.LogOptions{Tail: -1}) == "run 1\nrun 2\n"
			})
		})
	}
}

// TestRestartThatTheCloudRefuses is tried again, with pauses, unless the cloud will never have it.
func TestRestartThatTheCloudRefuses(t *testing.T) {
	t.Parallel()
	for _, final := range []bool{false, true} {
		r, f := newFaulty(t, rigOptions{})
		wait, open := gate(t)
		id := r.create(counter(t, wait+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
		r.start(id)
		var code = sockerless.EUNAVAILABLE
		if final {
			code = sockerless.EFORBIDDEN
		}
		tries := 0
		f.inject(func(f *faulty) {
			f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
				if tries++; tries < 3 {
					return driver.Run{}, sockerless.Errorf(code, "cannot start job x: no room")
				}
				return f.Driver.Start(ctx, spec)
			}
		})
		open()
		if final {
			r.becomes(id, docker.StateExited)
			if c := r.find(id); c.State.ExitCode != 137 || c.State.Error != "cannot start job x: no room" {
				t.Errorf("state %+v", c.State)
			}
			continue
		}
		eventually(t, "it runs again", func() bool {
			return r.find(id).State.Status == docker.StateRunning && r.find(id).RestartCount == 3
		})
	}
}

// TestStopWhileItWaitsForTheCloud ends a restart in a new execution.
func TestStopWhileItWaitsForTheCloud(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rig, string) error{
		"stop": func(r *rig, id string) error { return r.b.Containers.Stop(r.t.Context(), id, sockerless.StopOptions{}) },
		"kill": func(r *rig, id string) error { return r.b.Containers.Signal(r.t.Context(), id, "KILL") },
		"rm -f": func(r *rig, id string) error {
			return r.b.Containers.Remove(r.t.Context(), id, sockerless.RemoveOptions{Force: true})
		},
	} {
		for _, placed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asked %v", name, placed), func(t *testing.T) {
				t.Parallel()
				r, f := newFaulty(t, rigOptions{})
				gated, open := gate(t)
				id := r.create(counter(t, gated+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
				r.start(id)
				answer := make(chan struct{})
				if placed {
					var asked chan struct{}
					asked, answer = f.slowStart()
					open()
					within(t, asked)
				} else {
					f.inject(func(f *faulty) {
						f.start = func(context.Context, driver.Spec) (driver.Run, error) {
							return driver.Run{}, errors.New("cannot start job x: no answer")
						}
					})
					open()
					eventually(t, "the pause is long", func() bool { return r.find(id).RestartCount >= 5 })
				}
				wait := r.wait(id, docker.WaitConditionNotRunning)
				if err := end(r, id); err != nil {
					t.Fatal(err)
				}
				if u := wait(); u.ExitCode != 137 {
					t.Errorf("wait: %+v", u)
				}
				if placed {
					close(answer)
				}
				eventually(t, "nothing runs", func() bool { return f.ends(t, id) })
				if name == "rm -f" {
					return
				}
				starts := f.calls.start.Load()
				f.inject(func(f *faulty) { f.start = nil })
				r.start(id)
				if n := f.calls.start.Load(); n != starts+1 {
					t.Errorf("%d starts after %d", n, starts)
				}
			})
		}
	}
}

// TestRestartWhileThePolicyDoes: who restarts a container that its policy is bringing up in a new execution, which the cloud
// takes its time for, is told so, and not kept for as long as that takes.
func TestRestartWhileThePolicyDoes(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{StartWait: 2 * time.Second}})
	gated, open := gate(t)
	id := r.create(counter(t, gated+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
	r.start(id)
	asked, answer := f.slowStart()
	open()
	within(t, asked)
	err := r.b.Containers.Restart(t.Context(), id, sockerless.StopOptions{})
	if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.Contains(err.Error(), "it is being started, and that is not done after 2s") {
		t.Errorf("restart: %v", err)
	}
	close(answer)
	eventually(t, "it runs", func() bool { return r.find(id).State.Status == docker.StateRunning })
	f.inject(func(f *faulty) { f.start = nil })
	if err := r.b.Containers.Restart(t.Context(), id, sockerless.StopOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRestartIsRefusedByTheAgent: the program is gone when it is to run again. As with dockerd the exit code is the last
// run's, and the error says why there is no other.
func TestRestartIsRefusedByTheAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	// Not a file that is written here: a child that is being started may have it open still, and what is written cannot be run.
	prog := filepath.Join(t.TempDir(), "sh")
	if err := os.Symlink("/bin/sh", prog); err != nil {
		t.Fatal(err)
	}
	id := r.create(docker.Config{Cmd: []string{prog, "-c", "rm " + prog + "; exit 4"}}, policy("always"))
	r.start(id)
	r.becomes(id, docker.StateExited)
	st := r.find(id).State
	if st.ExitCode != 4 || !strings.Contains(st.Error, "OCI runtime create failed") || !strings.Contains(st.Error, "no such file or directory") {
		t.Errorf("state %+v", st)
	}
}

// TestStartAfterTheAgentWasToldToEnd from inside the container is a new execution, the first time.
func TestStartAfterTheAgentWasToldToEnd(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		for _, sig := range []string{"TERM", "KILL"} {
			for i := range 3 {
				t.Run(fmt.Sprint(sig, " ", i), func(t *testing.T) {
					t.Parallel()
					r, f := newFaulty(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
					gated, open := gate(t)
					id := r.create(counter(t, gated+"[ $n = 1 ] && { kill -"+sig+" $PPID; sleep 600; }; exec sleep 600"))
					wait := r.wait(id, docker.WaitConditionNextExit)
					r.start(id)
					open()
					wait()
					s := r.attach(id, sockerless.AttachOptions{Stdout: true})
					if err := r.b.Containers.Start(t.Context(), id); err != nil {
						t.Fatalf("after %s: %v", sig, err)
					}
					if c := r.find(id); c.State.Status != docker.StateRunning || f.calls.start.Load() != 2 {
						t.Errorf("after %s: %+v, %d executions", sig, c.State, f.calls.start.Load())
					}
					b := make([]byte, 8+len("run 2\n"))
					if _, err := io.ReadFull(s, b); err != nil || string(b[8:]) != "run 2\n" {
						t.Errorf("after %s: the attached client: %q, %v", sig, b, err)
					}
					s.Close()
				})
			}
		}
	})
}

// TestUpdate of the policy reaches a process that runs, also by way of a link that comes later. One of CPU and memory is
// a new execution at the next start.
func TestUpdate(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	update := func(id string, config docker.UpdateConfig) []string {
		t.Helper()
		warnings, err := r.b.Containers.Update(t.Context(), id, config)
		if err != nil {
			t.Fatal(err)
		}
		return warnings
	}
	onFailure := docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}}

	wait, open := gate(t)
	id := r.create(sh(wait + "exit 1"))
	r.start(id)
	if w := update(id, onFailure); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	open()
	eventually(t, "it was restarted twice", func() bool {
		return r.find(id).RestartCount == 2 && r.find(id).State.Status == docker.StateExited
	})
	if n := f.calls.start.Load(); n != 1 {
		t.Errorf("%d executions", n)
	}
	// What is stopped is not touched by a policy.
	update(id, docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
	if st := r.find(id).State; st.Status != docker.StateExited {
		t.Errorf("state %+v", st)
	}

	w := update(id, docker.UpdateConfig{Resources: docker.Resources{Memory: 1 << 30}, RestartPolicy: docker.RestartPolicy{Name: "no"}})
	if len(w) != 2 || !strings.Contains(w[1], "CPU and memory take effect at the next start, in a new job execution with a fresh file system") {
		t.Errorf("warnings %q", w)
	}
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return f.Driver.Start(ctx, spec)
		}
	})
	r.start(id)
	if spec := within(t, specs); spec.Memory != 1<<30 {
		t.Errorf("spec %+v", spec)
	}
	if c := r.find(id); c.Run.Incarnation != 1 || c.HostConfig.Memory != 1<<30 || c.HostConfig.RestartPolicy.Name != "no" {
		t.Errorf("%+v %+v", c.Run, c.HostConfig.RestartPolicy)
	}
}

// TestUpdateWithoutALink is told when there is one.
func TestUpdateWithoutALink(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	wait, open := gate(t)
	id := r.create(sh(wait + "exit 1"))
	r.start(id)
	f.inject(func(f *faulty) {
		f.dial = func(context.Context, driver.Run) (net.Conn, error) {
			return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "not yet")
		}
	})
	r.reopen()
	warnings, err := r.b.Containers.Update(t.Context(), id, docker.UpdateConfig{
		RestartPolicy: docker.RestartPolicy{Name: "on-failure", MaximumRetryCount: 1},
	})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "takes effect when the container's agent is linked again") {
		t.Errorf("%q, %v", warnings, err)
	}
	f.inject(func(f *faulty) { f.dial = nil })
	eventually(t, "the agent has heard of it", func() bool {
		warnings, err := r.b.Containers.Update(t.Context(), id, docker.UpdateConfig{})
		return err == nil && len(warnings) == 0
	})
	open()
	eventually(t, "it was restarted", func() bool {
		return r.find(id).RestartCount == 1 && r.find(id).State.Status == docker.StateExited
	})
}

// TestStartWhileItIsRestarted finds it running, as in dockerd: nobody waits for a cloud that has no room.
func TestStartWhileItIsRestarted(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	gated, open := gate(t)
	id := r.create(counter(t, gated+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
	r.start(id)
	asked, answer := f.slowStart()
	open()
	within(t, asked)
	started := make(chan error, 1)
	go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the answer, at the latest
	select {
	case err := <-started:
		refused(t, err, sockerless.ENOTMODIFIED)
	case <-time.After(30 * time.Second): // less than a start waits
		t.Error("a start waits for the policy's")
	}
	close(answer)
	r.becomes(id, docker.StateRunning)
	if n := f.calls.start.Load(); n != 2 {
		t.Errorf("%d executions", n)
	}
}

// TestExecsEndWithTheirExecution, also those that nobody asks about.
func TestExecsEndWithTheirExecution(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	gated, open := gate(t)
	id := r.create(counter(t, gated+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"), policy("always"))
	r.start(id)
	idle, err := r.b.Execs.Create(t.Context(), id, sockerless.ExecConfig{Cmd: []string{"echo", "later"}, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	x, err := r.b.Execs.Create(t.Context(), id, sockerless.ExecConfig{Cmd: []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.b.Execs.Start(t.Context(), x, sockerless.ExecStartOptions{Detach: true}); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	open()
	eventually(t, "it runs again", func() bool {
		return r.find(id).RestartCount == 1 && r.find(id).State.Status == docker.StateRunning
	})
	if diff := cmp.Diff([]string{idle}, r.find(id).Execs); diff != "" {
		t.Error(diff)
	}
	eventually(t, "its end is told", func() bool { return slices.Contains(r.history(id, since), "exec_die 137") })
	s, err := r.b.Execs.Start(t.Context(), idle, sockerless.ExecStartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := r.read(s, false); out != "later\n" {
		t.Errorf("exec: %q", out)
	}
}
