package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine"
)

// faulty is a driver with faults: a field that is set is asked instead.
type faulty struct {
	driver.Driver
	mu     sync.Mutex
	start  func(context.Context, driver.Spec) (driver.Run, error)
	remove func(context.Context, driver.Run) error
	dial   func(context.Context, driver.Run) (net.Conn, error)
	runs   func(context.Context) iter.Seq2[driver.Run, error]
	status func(context.Context, driver.Run) (driver.Status, error)
	calls  struct{ start, status, stop, runs atomic.Int64 }
}

func (f *faulty) Unwrap() driver.Driver { return f.Driver }

// inject sets faults.
func (f *faulty) inject(set func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set(f)
}

func (f *faulty) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	f.calls.start.Add(1)
	f.mu.Lock()
	fault := f.start
	f.mu.Unlock()
	if fault != nil {
		return fault(ctx, spec)
	}
	return f.Driver.Start(ctx, spec)
}

func (f *faulty) Status(ctx context.Context, run driver.Run) (driver.Status, error) {
	f.calls.status.Add(1)
	f.mu.Lock()
	fault := f.status
	f.mu.Unlock()
	if fault != nil {
		return fault(ctx, run)
	}
	return f.Driver.Status(ctx, run)
}

func (f *faulty) Stop(ctx context.Context, run driver.Run) error {
	f.calls.stop.Add(1)
	return f.Driver.Stop(ctx, run)
}

func (f *faulty) Remove(ctx context.Context, run driver.Run) error {
	f.mu.Lock()
	fault := f.remove
	f.mu.Unlock()
	if fault != nil {
		return fault(ctx, run)
	}
	return f.Driver.Remove(ctx, run)
}

func (f *faulty) Runs(ctx context.Context) iter.Seq2[driver.Run, error] {
	f.calls.runs.Add(1)
	f.mu.Lock()
	fault := f.runs
	f.mu.Unlock()
	if fault != nil {
		return fault(ctx)
	}
	return f.Driver.Runs(ctx)
}

// faultyDialer is faulty over a driver whose agents are dialled.
type faultyDialer struct{ *faulty }

func (f faultyDialer) Dial(ctx context.Context, run driver.Run) (net.Conn, error) {
	f.mu.Lock()
	fault := f.dial
	f.mu.Unlock()
	if fault != nil {
		return fault(ctx, run)
	}
	d, _ := driver.As[driver.Dialer](f.Driver)
	return d.Dial(ctx, run)
}

func newFaulty(t *testing.T, o rigOptions) (*rig, *faulty) {
	t.Helper()
	f := &faulty{}
	o.wrap = func(d driver.Driver) driver.Driver {
		f.Driver = d
		if _, ok := d.(driver.Dialer); ok {
			return faultyDialer{f}
		}
		return f
	}
	return newRig(t, o), f
}

// jobs lists what is in the cloud.
func (f *faulty) jobs(t *testing.T) (all []driver.Run) {
	t.Helper()
	for run, err := range f.Driver.Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, run)
	}
	return all
}

// ends says whether the latest execution of a container's job has ended, or there is no job.
func (f *faulty) ends(t *testing.T, id string) bool {
	for _, run := range f.jobs(t) {
		if run.Container == id {
			st, err := f.Driver.Status(t.Context(), run)
			return err == nil && (st.Phase == driver.PhaseEnded || st.Phase == driver.PhaseGone)
		}
	}
	return true
}

func refused(t *testing.T, err error, code sockerless.Code) {
	t.Helper()
	if got := sockerless.ErrorCode(err); got != code {
		t.Errorf("code %q, want %q: %v", got, code, err)
	}
}

func TestStartRefusedByTheCloud(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	f.inject(func(f *faulty) {
		f.start = func(context.Context, driver.Spec) (driver.Run, error) {
			return driver.Run{}, sockerless.Errorf(sockerless.EFORBIDDEN, "cannot start job x: AuthorizationFailed")
		}
	})
	id := r.create(sh("true"))
	s := r.attach(id, sockerless.AttachOptions{Stdout: true})
	wait := r.wait(id, docker.WaitConditionNextExit)
	refused(t, r.b.Containers.Start(t.Context(), id), sockerless.EFORBIDDEN)
	if out, _ := r.read(s, false); out != "" {
		t.Errorf("output %q", out)
	}
	if u := wait(); u.ExitCode != 125 {
		t.Errorf("wait: %+v", u)
	}
	if st := r.find(id).State; st.Status != docker.StateCreated || st.ExitCode != 125 || st.Error != "cannot start job x: AuthorizationFailed" {
		t.Errorf("state: %+v", st)
	}
	rm := r.create(sh("true"), autoRemove)
	gone := r.wait(rm, docker.WaitConditionRemoved)
	refused(t, r.b.Containers.Start(t.Context(), rm), sockerless.EFORBIDDEN)
	if u := gone(); u.ExitCode != 125 {
		t.Errorf("wait: %+v", u)
	}
	f.inject(func(f *faulty) { f.start = nil })
	r.start(id)
}

// TestCancelledStart ends a start while the cloud has not answered it yet.
func TestCancelledStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(*rig, string) error
		code int
		gone bool
	}{
		{"by a signal", func(r *rig, id string) error { return r.b.Containers.Signal(r.t.Context(), id, "INT") }, 130, false},
		{"by stop", func(r *rig, id string) error {
			return r.b.Containers.Stop(r.t.Context(), id, sockerless.StopOptions{})
		}, 143, false},
		{"by rm -f", func(r *rig, id string) error {
			return r.b.Containers.Remove(r.t.Context(), id, sockerless.RemoveOptions{Force: true})
		}, 137, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{})
			asked, answer := make(chan struct{}), make(chan struct{})
			f.inject(func(f *faulty) {
				f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
					close(asked)
					<-answer
					return f.Driver.Start(ctx, spec)
				}
			})
			id := r.create(sh("sleep 600"))
			s := r.attach(id, sockerless.AttachOptions{Stdout: true, Stderr: true})
			wait := r.wait(id, docker.WaitConditionNextExit)
			started := make(chan error, 1)
			go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the cancellation
			within(t, asked)
			// What a terminal sends by itself must not cancel anything.
			if err := r.b.Containers.Signal(t.Context(), id, "WINCH"); err != nil {
				t.Error(err)
			}
			if err := r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{}); sockerless.ErrorCode(err) != sockerless.ECONFLICT {
				t.Errorf("rm of a starting container: %v", err)
			}
			if err := c.end(r, id); err != nil {
				t.Fatal(err)
			}
			refused(t, within(t, started), sockerless.ECONFLICT)
			r.read(s, false)
			if u := wait(); u.ExitCode != c.code {
				t.Errorf("exit code %d, want %d", u.ExitCode, c.code)
			}
			close(answer)
			eventually(t, "nothing runs", func() bool { return f.calls.start.Load() == 1 && f.ends(t, id) })
			if c.gone {
				eventually(t, "no job is left", func() bool { return len(f.jobs(t)) == 0 })
				return
			}
			f.inject(func(f *faulty) { f.start = nil })
			r.start(id)
		})
	}
}

// TestSlowStart answers before clients give up.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{StartWait: 50 * time.Millisecond}})
	blocked := make(chan struct{})
	f.inject(func(f *faulty) {
		f.dial = func(ctx context.Context, run driver.Run) (net.Conn, error) {
			return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "not yet")
		}
	})
	id := r.create(sh("echo up; sleep 600"))
	r.start(id)
	if st := r.find(id).State; st.Status != docker.StateRunning || !st.Starting {
		t.Errorf("state: %+v", st)
	}
	refused(t, r.b.Containers.Start(t.Context(), id), sockerless.ENOTMODIFIED)
	x, err := r.b.Execs.Create(t.Context(), id, sockerless.ExecConfig{Cmd: []string{"echo", "exec"}, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the read
		defer close(blocked)
		s, err := r.b.Execs.Start(t.Context(), x, sockerless.ExecStartOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		if out, _ := r.read(s, false); out != "exec\n" {
			t.Errorf("exec: %q", out)
		}
	}()
	time.Sleep(50 * time.Millisecond)
	f.inject(func(f *faulty) { f.dial = nil })
	within(t, blocked)
	if st := r.find(id).State; st.Starting || st.Pid == 0 {
		t.Errorf("state: %+v", st)
	}
}

// TestClientLeavesDuringStart: the start goes on without it.
func TestClientLeavesDuringStart(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	asked, answer := make(chan struct{}), make(chan struct{})
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			close(asked)
			<-answer
			return f.Driver.Start(ctx, spec)
		}
	})
	id := r.create(sh("sleep 600"))
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- r.b.Containers.Start(ctx, id) }() // ends when the client leaves
	within(t, asked)
	leave()
	if err := within(t, left); !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	joined := make(chan error, 1)
	go func() { joined <- r.b.Containers.Start(t.Context(), id) }() // ends with the start
	close(answer)
	if err := within(t, joined); err != nil && sockerless.ErrorCode(err) != sockerless.ENOTMODIFIED {
		t.Errorf("a second client that joins the start: %v", err)
	}
	if st := r.find(id).State; st.Status != docker.StateRunning || f.calls.start.Load() != 1 {
		t.Errorf("state %+v after %d starts", st, f.calls.start.Load())
	}
}

// TestNoAgent gives up on an execution whose agent does not come, and says so.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		o := rigOptions{mem: memdriver.Options{StartGrace: 300 * time.Millisecond}}
		if late { // by far, also where a timer of 50 ms is late
			o.mem.StartGrace, o.engine.StartWait = 4*time.Second, 50*time.Millisecond
		}
		r, f := newFaulty(t, o)
		f.inject(func(f *faulty) {
			f.dial = func(context.Context, driver.Run) (net.Conn, error) {
				return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "not yet")
			}
		})
		id := r.create(sh("true"))
		wait := r.wait(id, docker.WaitConditionNextExit)
		err := r.b.Containers.Start(t.Context(), id)
		if late && err != nil {
			t.Errorf("a start that takes long: %v", err)
		}
		if !late {
			refused(t, err, sockerless.EINTERNAL)
		}
		want := fmt.Sprint("its agent did not answer within ", o.mem.StartGrace)
		if u := wait(); u.ExitCode != 125 || strings.Contains(u.Error, want) != late {
			t.Errorf("wait: %+v", u)
		}
		if st := r.find(id).State; st.ExitCode != 125 || !strings.Contains(st.Error, want) || st.Status != map[bool]docker.ContainerState{false: docker.StateCreated, true: docker.StateExited}[late] {
			t.Errorf("state: %+v", st)
		}
		eventually(t, "the execution is stopped", func() bool { return f.calls.stop.Load() > 0 && f.ends(t, id) })
	}
}

// TestAgentKilled learns from the cloud what an agent cannot tell any more.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, _ := newFaulty(t, rigOptions{reverse: reverse})
		gated, open := gate(t)
		id := r.create(counter(t, gated+"[ $n = 1 ] && kill -9 $PPID; exec sleep 600"))
		wait := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		eventually(t, "it has begun", func() bool { return r.logs(id, sockerless.LogOptions{Tail: -1}) != "" })
		open()
		if u := wait(); u.ExitCode != 137 {
			t.Errorf("wait: %+v", u)
		}
		if st := r.find(id).State; !strings.Contains(st.Error, "the agent's word on the exit did not come") {
			t.Errorf("state: %+v", st)
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "run 1\n" {
			t.Errorf("logs %q", got)
		}
		r.start(id) // in a new execution
	})
}

// TestSilentAgent stops an execution whose agent does not answer.
func TestSilentAgent(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{mem: memdriver.Options{StopGrace: 100 * time.Millisecond}})
	gated, open := gate(t)
	id := r.create(sh(gated + "kill -STOP $PPID; sleep 600"))
	r.start(id)
	agent := r.agentOf(id)
	open()
	eventually(t, "the agent stands still", func() bool { return processState(agent) == "T" })
	grace := 100 * time.Millisecond
	if err := r.b.Containers.Stop(t.Context(), id, sockerless.StopOptions{Grace: &grace}); err != nil {
		t.Fatal(err)
	}
	if st := r.find(id).State; st.ExitCode != 137 || !strings.Contains(st.Error, "the agent did not answer") {
		t.Errorf("state: %+v", st)
	}
	eventually(t, "the execution is stopped", func() bool { return f.ends(t, id) })
}

// TestDeletionIsTriedAgain, after a restart of the backend too.
func TestDeletionIsTriedAgain(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	var tries atomic.Int64
	f.inject(func(f *faulty) {
		f.remove = func(context.Context, driver.Run) error {
			tries.Add(1)
			return sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot delete job: 503")
		}
	})
	id := r.create(sh("sleep 600"))
	r.start(id)
	if err := r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is tried again", func() bool { return tries.Load() >= 2 })
	r.reopen()
	if _, err := r.b.Containers.Find(t.Context(), id); sockerless.ErrorCode(err) != sockerless.ENOTFOUND {
		t.Errorf("a removed container came back: %v", err)
	}
	f.inject(func(f *faulty) { f.remove = nil })
	eventually(t, "no job is left", func() bool { return len(f.jobs(t)) == 0 })
}

// TestLinkedAreNotPolled: what is linked costs no call.
func TestLinkedAreNotPolled(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, f := newFaulty(t, rigOptions{reverse: reverse, engine: engine.Options{SweepEvery: 20 * time.Millisecond, Linger: time.Minute}})
		for range 10 {
			r.start(r.create(sh("sleep 600")))
		}
		status, runs := f.calls.status.Load(), f.calls.runs.Load()
		time.Sleep(400 * time.Millisecond)
		if s, l := f.calls.status.Load()-status, f.calls.runs.Load()-runs; s != 0 || l != 0 {
			t.Errorf("%d status calls and %d listings for linked containers", s, l)
		}
	})
}

// TestLateExecution stops what comes to life after everybody has given it up, and deletes what nobody knows.
func TestLateExecution(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{SweepEvery: 20 * time.Millisecond}})
	lost := make(chan struct{})
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			if _, err := f.Driver.Start(ctx, spec); err != nil {
				return driver.Run{}, err
			}
			close(lost)
			<-ctx.Done()
			return driver.Run{}, ctx.Err()
		}
		f.runs = func(context.Context) iter.Seq2[driver.Run, error] {
			return func(func(driver.Run, error) bool) {} // the list does not have it yet
		}
	})
	id := r.create(sh("sleep 600"))
	go r.b.Containers.Start(t.Context(), id) // ends with the engine
	within(t, lost)
	r.reopen()
	eventually(t, "the start is given up", func() bool { return r.find(id).State.Error != "" })
	if f.ends(t, id) {
		t.Fatal("the late execution is not there")
	}
	// A job that is not in the store at all, by a request of a backend that was lost with its data.
	stranger := driver.Spec{Container: "ab" + id[2:], ID: "0123456789abcdef0123456789abcdef", Secret: make([]byte, 32), Image: "x"}
	if _, err := f.Driver.Start(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	f.inject(func(f *faulty) { f.start, f.runs = nil, nil })
	if err := r.b.Containers.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stranger is gone", func() bool { return len(f.jobs(t)) == 1 })
	if st := r.find(id).State; st.Status != docker.StateRunning {
		t.Errorf("state: %+v", st)
	}
}
