package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

// TestExitBeforeTheStartIsAnswered: the answer of a start is lost on a link that goes on, and the process ends before the
// start is repeated.
func TestExitBeforeTheStartIsAnswered(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{reverse: true})
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(_ context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return driver.Run{Container: spec.Container, ID: spec.ID, Job: "job", Execution: "job-1"}, nil
		}
	})
	id := r.create(sh("exit 7"))
	wait := r.wait(id, docker.WaitConditionNextExit)
	started := make(chan error, 1)
	go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the start
	spec := within(t, specs)

	began := make(chan struct{})
	var starts atomic.Int64
	answer := http.NewServeMux()
	wire.HandleCall(answer, protocol.PathStart, func(context.Context, protocol.StartRequest) (protocol.StartResult, error) {
		return protocol.StartResult{Pid: 1, Incarnation: 1, Started: time.Now()}, nil
	})
	m := http.NewServeMux()
	m.HandleFunc(protocol.PathStart, func(w http.ResponseWriter, req *http.Request) {
		if starts.Add(1) > 1 {
			answer.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		close(began)
		panic(http.ErrAbortHandler) // the stream ends without an answer
	})
	wire.HandleFeed(m, protocol.PathEvents, func(ctx context.Context, q protocol.EventsRequest, _ io.Reader) iter.Seq2[protocol.Event, error] {
		return func(yield func(protocol.Event, error) bool) {
			select {
			case <-began:
			case <-ctx.Done():
				return
			}
			time.Sleep(300 * time.Millisecond) // into the pause before the start is repeated
			exit := protocol.Event{Seq: 1, Kind: protocol.EventExited, Incarnation: 1, Exit: &protocol.Exit{Code: 7, Time: time.Now()}}
			if q.After < 1 && !yield(exit, nil) {
				return
			}
			<-ctx.Done()
		}
	})
	wire.HandleFeed(m, protocol.PathLogs, func(ctx context.Context, _ protocol.LogsRequest, _ io.Reader) iter.Seq2[tape.Record, error] {
		return func(func(tape.Record, error) bool) { <-ctx.Done() }
	})
	wire.HandleCall(m, protocol.PathAck, func(context.Context, protocol.AckRequest) (struct{}, error) { return struct{}{}, nil })
	wire.HandleCall(m, protocol.PathRelease, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	l, err := link.Dial(t.Context(), link.Target{URL: r.server.URL + "/agent"}, link.Identity{
		Role: link.Agent, ID: spec.ID, Secret: spec.Secret, Hello: link.Hello{Execution: "job-1", BootID: "b"},
	}, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m}
	go server.Serve(l) // ends with the link
	defer server.Close()
	if err := within(t, started); err != nil {
		t.Error(err)
	}
	eventually(t, "the exit is told", func() bool { return r.find(id).State.Status == docker.StateExited })
	if u := wait(); u.ExitCode != 7 || starts.Load() != 2 {
		t.Errorf("wait: %+v after %d starts", u, starts.Load())
	}
}

// full is a store that does not take what has become of a start for a while, as on a full disk.
type full struct {
	store.Store
	on      atomic.Bool
	refused atomic.Int64
}

func (s *full) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	if s.on.Load() && bytes.Contains(item.Value, []byte(`"Stage":"placed"`)) {
		s.refused.Add(1)
		return store.Item{}, errors.New("no space left on device")
	}
	return s.Store.Put(ctx, table, item)
}

// TestStartIsAskedOnce, however long its answer cannot be stored.
func TestStartIsAskedOnce(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	s := &full{Store: withStore(r).Store}
	r.close()
	r.opt.Store = s
	r.open()
	id := r.create(sh("sleep 600"))
	s.on.Store(true)
	started := make(chan error, 1)
	go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the start
	eventually(t, "the store has refused it again", func() bool { return s.refused.Load() >= 2 })
	s.on.Store(false)
	if err := within(t, started); err != nil {
		t.Error(err)
	}
	if n := f.calls.start.Load(); n != 1 {
		t.Errorf("the driver was asked for %d executions", n)
	}
}

// TestStartWithoutAnAnswer: what the driver has started, and does not know of, is stopped.
func TestStartWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, listed := range []bool{true, false} {
		for _, remove := range []bool{false, true} {
			r, f := newFaulty(t, rigOptions{engine: engine.Options{SweepEvery: 100 * time.Millisecond}})
			f.inject(func(f *faulty) {
				f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
					if _, err := f.Driver.Start(ctx, spec); err != nil {
						return driver.Run{}, err
					}
					return driver.Run{}, errors.New("cannot start job: no answer; and its job is still there")
				}
				if !listed {
					f.runs = func(context.Context) iter.Seq2[driver.Run, error] {
						return func(func(driver.Run, error) bool) {} // not yet
					}
				}
			})
			var more []func(*sockerless.CreateRequest)
			if remove {
				more = append(more, autoRemove)
			}
			id := r.create(sh("sleep 600"), more...)
			refused(t, r.b.Containers.Start(t.Context(), id), sockerless.EINTERNAL)
			if !listed {
				time.Sleep(300 * time.Millisecond)
				f.inject(func(f *faulty) { f.runs = nil })
			}
			eventually(t, "nothing runs", func() bool { return f.ends(t, id) })
		}
	}
}

// TestLateExecutionOfAStartThatFailed is stopped, though nobody starts the container again.
func TestLateExecutionOfAStartThatFailed(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{SweepEvery: 100 * time.Millisecond}})
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
	r.reopen() // which forgets why it listed
	f.inject(func(f *faulty) { f.start, f.runs = nil, nil })
	eventually(t, "nothing runs", func() bool { return f.ends(t, id) })
}

// slowStart makes the cloud take its time for each start: asked tells of one, answer lets it go on.
func (f *faulty) slowStart() (asked, answer chan struct{}) {
	asked, answer = make(chan struct{}, 8), make(chan struct{})
	f.inject(func(f *faulty) {
		f.start = func(ctx context.Context, spec driver.Spec) (driver.Run, error) {
			asked <- struct{}{}
			<-answer
			return f.Driver.Start(ctx, spec)
		}
	})
	return asked, answer
}

// TestStopOfAStartIsTold to who has asked for it, also if nothing is left of the container.
func TestStopOfAStartIsTold(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*rig, string) error{
		"stop": func(r *rig, id string) error { return r.b.Containers.Stop(r.t.Context(), id, sockerless.StopOptions{}) },
		"kill": func(r *rig, id string) error { return r.b.Containers.Signal(r.t.Context(), id, "KILL") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{})
			asked, answer := f.slowStart()
			defer close(answer)
			id := r.create(sh("sleep 600"), autoRemove)
			started := make(chan error, 1)
			go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the cancellation
			within(t, asked)
			if err := end(r, id); err != nil {
				t.Fatal(err)
			}
			err := within(t, started)
			refused(t, err, sockerless.ECONFLICT)
			if err == nil || !strings.Contains(err.Error(), "it was stopped by SIG") {
				t.Errorf("the asker is told %v", err)
			}
		})
	}
}

// TestRestartJoinsAStart: it waits for it and restarts in place, so one execution is paid for.
func TestRestartJoinsAStart(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]func(*sockerless.CreateRequest){"kept": nil, "with --rm": {autoRemove}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
			asked, answer := f.slowStart()
			id := r.create(sh("echo up; exec sleep 600"), more...)
			started, restarted := make(chan error, 1), make(chan error, 1)
			go func() { started <- r.b.Containers.Start(t.Context(), id) }() // both end with the start
			within(t, asked)
			go func() { restarted <- r.b.Containers.Restart(t.Context(), id, sockerless.StopOptions{}) }()
			time.Sleep(100 * time.Millisecond) // for the restart to come
			close(answer)
			if err := within(t, started); err != nil {
				t.Errorf("the start: %v", err)
			}
			if err := within(t, restarted); err != nil {
				t.Errorf("the restart: %v", err)
			}
			if n := f.calls.start.Load(); n != 1 {
				t.Errorf("%d executions", n)
			}
			if c := r.find(id); c.State.Status != docker.StateRunning || c.Run.Incarnation != 2 {
				t.Errorf("%+v, %+v", c.State, c.Run)
			}
			if len(more) > 0 { // --rm is obeyed again
				gone := r.wait(id, docker.WaitConditionRemoved)
				if err := r.b.Containers.Signal(t.Context(), id, "KILL"); err != nil {
					t.Error(err)
				}
				gone()
			}
		})
	}
}

// TestLingerCountsFromTheExit, not from a restart of the backend.
func TestLingerCountsFromTheExit(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{engine: engine.Options{Linger: 24 * time.Hour}})
	m := withStore(r)
	id := r.create(sh("exit 1"))
	wait := r.wait(id, docker.WaitConditionNextExit)
	r.start(id)
	wait()
	r.close()
	for item, err := range m.List(t.Context(), "containers") { // it was a day ago
		if err != nil {
			t.Fatal(err)
		}
		var rec map[string]any
		if err := json.Unmarshal(item.Value, &rec); err != nil {
			t.Fatal(err)
		}
		rec["Run"].(map[string]any)["Exited"] = time.Now().Add(-25 * time.Hour)
		if item.Value, err = json.Marshal(rec); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Put(t.Context(), "containers", item); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	eventually(t, "the agent leaves", func() bool { return f.ends(t, id) })
}

// TestAttachUnderACancelledStart ends, also if the agent was being asked for the session at that moment.
func TestAttachUnderACancelledStart(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{reverse: true})
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(_ context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return driver.Run{Container: spec.Container, ID: spec.ID, Job: "job", Execution: "job-1"}, nil
		}
	})
	id := r.create(sh("true"))
	session := r.attach(id, sockerless.AttachOptions{Stdout: true})
	started := make(chan error, 1)
	go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the cancellation
	spec := within(t, specs)
	asked := make(chan struct{})
	m := http.NewServeMux()
	m.HandleFunc(protocol.PathAttach, func(_ http.ResponseWriter, req *http.Request) {
		close(asked)
		<-req.Context().Done() // no answer
	})
	wire.HandleFeed(m, protocol.PathEvents, func(ctx context.Context, _ protocol.EventsRequest, _ io.Reader) iter.Seq2[protocol.Event, error] {
		return func(func(protocol.Event, error) bool) { <-ctx.Done() }
	})
	wire.HandleFeed(m, protocol.PathLogs, func(ctx context.Context, _ protocol.LogsRequest, _ io.Reader) iter.Seq2[tape.Record, error] {
		return func(func(tape.Record, error) bool) { <-ctx.Done() }
	})
	wire.HandleCall(m, protocol.PathAck, func(context.Context, protocol.AckRequest) (struct{}, error) { return struct{}{}, nil })
	wire.HandleCall(m, protocol.PathRelease, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	l, err := link.Dial(t.Context(), link.Target{URL: r.server.URL + "/agent"}, link.Identity{
		Role: link.Agent, ID: spec.ID, Secret: spec.Secret, Hello: link.Hello{Execution: "job-1", BootID: "b"},
	}, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m}
	go server.Serve(l) // ends with the link
	defer server.Close()
	within(t, asked)
	if err := r.b.Containers.Signal(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	refused(t, within(t, started), sockerless.ECONFLICT)
	ended := make(chan error, 1)
	go func() { _, err := io.ReadAll(session); ended <- err }() // ends with the session
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the session ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the session goes on")
		session.Close()
	}
}
