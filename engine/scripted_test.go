package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"slices"
	"sync"
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

// scripted is an agent that says what a test wants, at the moment that it wants: what real ones do too, once in a while.
type scripted struct {
	*http.ServeMux
	t     *testing.T
	r     *rig
	f     *faulty
	store *noIntent
	spec  driver.Spec

	records chan tape.Record // what the process writes

	mu      sync.Mutex
	conns   []net.Conn
	isCut   bool
	events  []protocol.Event
	changed chan struct{}
}

// newScripted starts a container whose agent is scripted and not yet linked.
func newScripted(t *testing.T, o rigOptions, more ...func(*sockerless.CreateRequest)) (a *scripted, id string, started chan error) {
	t.Helper()
	o.reverse = true
	r, f := newFaulty(t, o)
	a = &scripted{ServeMux: http.NewServeMux(), t: t, r: r, f: f, records: make(chan tape.Record, 8), changed: make(chan struct{})}
	a.store = &noIntent{Store: withStore(r).Store}
	r.close()
	r.opt.Store = a.store
	r.open()
	specs := make(chan driver.Spec, 1)
	f.inject(func(f *faulty) {
		f.start = func(_ context.Context, spec driver.Spec) (driver.Run, error) {
			specs <- spec
			return driver.Run{Container: spec.Container, ID: spec.ID, Job: "job", Execution: "job-1"}, nil
		}
	})
	id = r.create(sh("true"), more...)
	started = make(chan error, 1)
	go func() { started <- r.b.Containers.Start(t.Context(), id) }() // ends with the start
	a.spec = within(t, specs)
	wire.HandleFeed(a.ServeMux, protocol.PathEvents, func(ctx context.Context, q protocol.EventsRequest, _ io.Reader) iter.Seq2[protocol.Event, error] {
		return func(yield func(protocol.Event, error) bool) { a.follow(ctx, q.After, yield) }
	})
	wire.HandleFeed(a.ServeMux, protocol.PathLogs, func(ctx context.Context, _ protocol.LogsRequest, _ io.Reader) iter.Seq2[tape.Record, error] {
		return func(yield func(tape.Record, error) bool) {
			for {
				select {
				case rec := <-a.records:
					if !yield(rec, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}
	})
	wire.HandleCall(a.ServeMux, protocol.PathAck, func(context.Context, protocol.AckRequest) (struct{}, error) { return struct{}{}, nil })
	wire.HandleCall(a.ServeMux, protocol.PathRelease, func(context.Context, struct{}) (struct{}, error) { return struct{}{}, nil })
	return a, id, started
}

// runs answers every start.
func (a *scripted) runs() {
	wire.HandleCall(a.ServeMux, protocol.PathStart, func(context.Context, protocol.StartRequest) (protocol.StartResult, error) {
		return protocol.StartResult{Pid: 1, Incarnation: 1, Started: time.Now()}, nil
	})
}

// link links to the backend, beside the links that there are. end ends the link.
func (a *scripted) link() (end func()) {
	a.t.Helper()
	l, err := link.Dial(a.t.Context(), link.Target{URL: a.r.server.URL + "/agent", NetDial: a.dial}, link.Identity{
		Role: link.Agent, ID: a.spec.ID, Secret: a.spec.Secret, Hello: link.Hello{Execution: "job-1", BootID: "b"},
	}, link.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Hour}
	go server.Serve(l) // ends with the link
	a.t.Cleanup(func() { server.Close() })
	return func() { l.Close() }
}

// dial connects until the cut.
func (a *scripted) dial(ctx context.Context) (net.Conn, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isCut {
		return nil, errors.New("no way")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.r.server.Listener.Addr().String())
	if err == nil {
		a.conns = append(a.conns, conn)
	}
	return conn, err
}

// cut cuts every link; none comes back, and none ends before it is given up.
func (a *scripted) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.isCut = true
	for _, conn := range a.conns {
		conn.Close()
	}
}

// tell adds events at once.
func (a *scripted) tell(events ...protocol.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ev := range events {
		ev.Seq, ev.Time = uint64(len(a.events)+1), time.Now()
		a.events = append(a.events, ev)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *scripted) follow(ctx context.Context, after uint64, yield func(protocol.Event, error) bool) {
	for {
		a.mu.Lock()
		all, changed := slices.Clone(a.events), a.changed
		a.mu.Unlock()
		for ; after < uint64(len(all)); after++ {
			if !yield(all[after], nil) {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// TestPauseThatIsOverAtOnce is answered: a signal that ends it came behind it, before the engine had heard of either.
func TestPauseThatIsOverAtOnce(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{})
	a.runs()
	wire.HandleCall(a.ServeMux, protocol.PathPause, func(context.Context, struct{}) (struct{}, error) {
		a.tell(protocol.Event{Kind: protocol.EventPaused, Incarnation: 1}, protocol.Event{Kind: protocol.EventUnpaused, Incarnation: 1})
		return struct{}{}, nil
	})
	a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := a.r.b.Containers.Pause(ctx, id)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		a.r.becomes(id, docker.StateRunning)
	}
}

// TestPolicyIsToldAgain when the agent did not answer, although its link never ended.
func TestPolicyIsToldAgain(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{})
	a.runs()
	told := make(chan protocol.RestartPolicy, 8)
	var hears atomic.Bool
	wire.HandleCall(a.ServeMux, protocol.PathRestart, func(_ context.Context, p protocol.RestartPolicy) (struct{}, error) {
		if !hears.Load() {
			panic(http.ErrAbortHandler) // the stream ends without an answer
		}
		told <- p
		return struct{}{}, nil
	})
	a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	warnings, err := a.r.b.Containers.Update(t.Context(), id, docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
	if err != nil || len(warnings) != 1 {
		t.Errorf("%q, %v", warnings, err)
	}
	hears.Store(true)
	select {
	case p := <-told:
		if p.Name != "always" {
			t.Errorf("%+v", p)
		}
	case <-time.After(20 * time.Second):
		t.Error("the agent was not told again")
	}
}

// TestExitThatIsToldTwice is one: the link ended, and another came, before the start behind the exit was answered.
func TestExitThatIsToldTwice(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{}, policy("always"))
	since := time.Now()
	exit := protocol.Event{
		Kind: protocol.EventExited, Incarnation: 1, Exit: &protocol.Exit{Code: 7, Time: time.Now()},
		Restart: &protocol.Restart{Count: 1, Pause: time.Minute},
	}
	heard := make(chan struct{})
	var starts atomic.Int64
	answer := http.NewServeMux()
	wire.HandleCall(answer, protocol.PathStart, func(context.Context, protocol.StartRequest) (protocol.StartResult, error) {
		time.Sleep(300 * time.Millisecond) // for the event on the second link
		return protocol.StartResult{Pid: 1, Incarnation: 1, Started: time.Now()}, nil
	})
	a.HandleFunc(protocol.PathStart, func(w http.ResponseWriter, req *http.Request) {
		if starts.Add(1) > 1 {
			answer.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // then the server sees the link's end
		a.tell(exit)
		time.Sleep(300 * time.Millisecond) // for the event on the first link
		close(heard)
		<-req.Context().Done()
	})
	end := a.link()
	within(t, heard)
	end()
	a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	a.r.becomes(id, docker.StateRestarting)
	a.tell(protocol.Event{Kind: protocol.EventStarted, Incarnation: 2, Pid: 2, Restarts: 1})
	a.r.becomes(id, docker.StateRunning)
	a.r.expect(id, since, []string{"start", "die 7", "start"})
}

// noIntent is a store that takes no new run, as if the process died before it.
type noIntent struct {
	store.Store
	on      atomic.Bool
	refused atomic.Int64
}

func (s *noIntent) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	if s.on.Load() && bytes.Contains(item.Value, []byte(`"Stage":"intent"`)) {
		s.refused.Add(1)
		return store.Item{}, errDead
	}
	return s.Store.Put(ctx, table, item)
}

// TestCrashBeforeAnotherExecution of a start that clients took for done: its replica had gone, and the cloud refuses the
// next one to the next backend. The container does not run then.
func TestCrashBeforeAnotherExecution(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{engine: engine.Options{StartWait: 300 * time.Millisecond, Linger: time.Minute}})
	r := a.r
	var starts atomic.Int64
	answer := http.NewServeMux()
	wire.HandleCall(answer, protocol.PathStart, func(context.Context, protocol.StartRequest) (protocol.StartResult, error) {
		return protocol.StartResult{Pid: 1, Incarnation: 1, Started: time.Now()}, nil
	})
	a.HandleFunc(protocol.PathStart, func(w http.ResponseWriter, req *http.Request) {
		if starts.Add(1) == 1 {
			answer.ServeHTTP(w, req)
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // then the server sees the link's end
		<-req.Context().Done()
	})
	end := a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	a.tell(protocol.Event{Kind: protocol.EventExited, Incarnation: 1, Exit: &protocol.Exit{Code: 7, Time: time.Now()}})
	r.becomes(id, docker.StateExited)
	r.start(id) // in place; it takes long
	if st := r.find(id).State; !st.Starting {
		t.Fatalf("%+v", st)
	}
	a.store.on.Store(true)
	end()
	eventually(t, "the next execution is to be placed", func() bool { return a.store.refused.Load() > 0 })
	r.close()
	a.store.on.Store(false)
	a.f.inject(func(f *faulty) {
		f.start = func(context.Context, driver.Spec) (driver.Run, error) {
			return driver.Run{}, sockerless.Errorf(sockerless.EFORBIDDEN, "cannot start job x: AuthorizationFailed")
		}
	})
	r.open()
	r.becomes(id, docker.StateExited)
	if st := r.find(id).State; st.ExitCode != 125 || st.Starting || st.Error != "cannot start job x: AuthorizationFailed" {
		t.Errorf("%+v", st)
	}
}

// TestEndWhileSomebodyAttaches over a link that is cut: the cloud's word is not waited with until the link is given up.
func TestEndWhileSomebodyAttaches(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{})
	joins := make(chan struct{})
	late := make(chan struct{})
	answer := http.NewServeMux()
	wire.HandleCall(answer, protocol.PathStart, func(context.Context, protocol.StartRequest) (protocol.StartResult, error) {
		return protocol.StartResult{Pid: 1, Incarnation: 1, Started: time.Now()}, nil
	})
	a.HandleFunc(protocol.PathStart, func(w http.ResponseWriter, req *http.Request) {
		a.r.attach(id, sockerless.AttachOptions{Stdout: true}) // behind those that are joined before the start
		close(late)
		answer.ServeHTTP(w, req)
	})
	a.HandleFunc(protocol.PathAttach, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		close(joins)
		<-req.Context().Done()
	})
	a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	within(t, late)
	within(t, joins)
	a.cut()
	a.r.becomes(id, docker.StateExited)
}

// TestStopOfWhoHasMuchToSay: an exit is told behind the process's output, and that takes as long as the link is slow.
func TestStopOfWhoHasMuchToSay(t *testing.T) {
	t.Parallel()
	a, id, started := newScripted(t, rigOptions{})
	a.runs()
	exit := protocol.Exit{Code: 7, Time: time.Now()}
	wire.HandleCall(a.ServeMux, protocol.PathStop, func(context.Context, protocol.StopRequest) (struct{}, error) {
		a.tell(protocol.Event{Kind: protocol.EventExited, Incarnation: 1, Exit: &exit, LastLog: 2})
		return struct{}{}, nil
	})
	wire.HandleCall(a.ServeMux, protocol.PathState, func(context.Context, struct{}) (protocol.State, error) {
		return protocol.State{Phase: protocol.PhaseExited, Incarnation: 1, Exit: &exit, LastLog: 2, LastEvent: 1}, nil
	})
	a.link()
	if err := within(t, started); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() {
		stopped <- a.r.b.Containers.Stop(t.Context(), id, sockerless.StopOptions{Grace: new(time.Duration)})
	}() // ends with the exit
	a.records <- tape.Record{Seq: 1, Stream: tape.Stdout, Time: time.Now(), Data: []byte("one\n")}
	time.Sleep(12 * time.Second) // longer than an agent may be silent
	a.records <- tape.Record{Seq: 2, Stream: tape.Stdout, Time: time.Now(), Data: []byte("two\n")}
	if err := within(t, stopped); err != nil {
		t.Error(err)
	}
	if st := a.r.find(id).State; st.ExitCode != 7 || st.Error != "" {
		t.Errorf("%+v", st)
	}
	if got := a.r.logs(id, sockerless.LogOptions{Tail: -1}); got != "one\ntwo\n" {
		t.Errorf("logs %q", got)
	}
}
