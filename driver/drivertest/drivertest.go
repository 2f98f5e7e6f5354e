// Package drivertest holds the obligations of a driver.Driver as tests. Every driver runs them with Run.
package drivertest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/link"
)

// Target is a driver under test. It stays open until the test of the open function ends.
type Target struct {
	Driver driver.Driver
	Image  string // repository@digest, with /bin/sh
	// Link waits for the agent of a run that dials in. It may be nil for a driver.Dialer.
	Link func(ctx context.Context, spec driver.Spec) (*link.Link, error)
}

// patience is for what comes by itself, over any cloud.
const patience = 2 * time.Minute

// Run tests what open returns. The tests share it, side by side, each with jobs of its own.
func Run(t *testing.T, open func(*testing.T) *Target) {
	target := open(t)
	for _, one := range []struct {
		name string
		f    func(*session)
	}{
		{"info makes sense", info},
		{"check makes no job", check},
		{"a run from start to removal", life},
		{"the agent of a run links under its id", agent},
		{"a job runs again", again},
		{"a start is not repeated", once},
		{"the end is told by status", ending},
		{"what is gone is not an error", gone},
		{"a cancelled start leaves nothing running", cancelled},
		{"several at a time", several},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.f(&session{T: t, Target: target})
		})
	}
}

// session is one test's use of the driver.
type session struct {
	*testing.T
	*Target
}

func (s *session) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	s.Cleanup(cancel)
	return ctx
}

// spec is a new container's.
func (s *session) spec() driver.Spec {
	b := make([]byte, 32+16+32)
	rand.Read(b) // it never fails
	id := hex.EncodeToString(b[:32])
	return driver.Spec{
		Container: id, Name: "test-" + id[:8], ID: hex.EncodeToString(b[32:48]), Secret: b[48:], Image: s.Image,
		MaxRuntime: time.Hour, Orphan: time.Minute,
	}
}

// start starts a run that is removed at the test's end.
func (s *session) start(spec driver.Spec) driver.Run {
	s.Helper()
	run, err := s.Driver.Start(s.ctx(), spec)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Driver.Remove(ctx, run); err != nil {
			s.Error(err)
		}
	})
	return run
}

func (s *session) status(run driver.Run) driver.Status {
	s.Helper()
	st, err := s.Driver.Status(s.ctx(), run)
	if err != nil {
		s.Fatal(err)
	}
	return st
}

// listed returns the runs of a container that the driver lists.
func (s *session) listed(container string) (runs []driver.Run) {
	s.Helper()
	for run, err := range s.Driver.Runs(s.ctx()) {
		if err != nil {
			s.Fatal(err)
		}
		if run.Container == container {
			runs = append(runs, run)
		}
	}
	return runs
}

// link returns a client of the run's agent.
func (s *session) link(spec driver.Spec, run driver.Run) (*protocol.Client, *link.Link) {
	s.Helper()
	var l *link.Link
	var err error
	if d, ok := driver.As[driver.Dialer](s.Driver); ok {
		l, err = Dial(s.ctx(), d, spec, run)
	} else {
		l, err = s.Link(s.ctx(), spec)
	}
	if err != nil {
		s.Fatal(err)
	}
	client := protocol.NewClient(l.Open)
	s.Cleanup(func() { client.Close(); _ = l.Close() })
	return client, l
}

// release tells an agent to end. It may be gone before its answer is here.
func (s *session) release(client *protocol.Client) {
	s.Helper()
	if err := client.Release(s.ctx()); err != nil && !errors.Is(err, link.ErrClosed) {
		s.Fatal(err)
	}
}

func (s *session) eventually(what string, f func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	s.Fatalf("it does not come to this: %s", what)
}

func info(s *session) {
	if i := s.Driver.Info(); i.Name == "" || i.Instance == "" || i.StartGrace <= 0 {
		s.Errorf("info %+v", i)
	}
}

func check(s *session) {
	spec := s.spec()
	if _, err := s.Driver.Check(spec); err != nil {
		s.Fatal(err)
	}
	if runs := s.listed(spec.Container); len(runs) != 0 {
		s.Errorf("check made %+v", runs)
	}
}

func life(s *session) {
	spec := s.spec()
	run := s.start(spec)
	if run.Container != spec.Container || run.ID != spec.ID || run.Job == "" || run.Execution == "" {
		s.Fatalf("run %+v of %s/%s", run, spec.Container, spec.ID)
	}
	if st := s.status(run); st.Phase != driver.PhaseStarting && st.Phase != driver.PhaseRunning {
		s.Errorf("status after the start: %+v", st)
	}
	s.eventually("it is listed", func() bool { runs := s.listed(spec.Container); return len(runs) == 1 && runs[0] == run })
	for range 2 {
		if err := s.Driver.Stop(s.ctx(), run); err != nil {
			s.Fatal(err)
		}
	}
	s.eventually("it has ended", func() bool { return s.status(run).Phase == driver.PhaseEnded })
	for range 2 {
		if err := s.Driver.Remove(s.ctx(), run); err != nil {
			s.Fatal(err)
		}
	}
	if st := s.status(run); st.Phase != driver.PhaseGone {
		s.Errorf("status after the removal: %+v", st)
	}
	s.eventually("it is not listed", func() bool { return len(s.listed(spec.Container)) == 0 })
}

func agent(s *session) {
	spec := s.spec()
	run := s.start(spec)
	client, l := s.link(spec, run)
	if l.ID() != spec.ID || l.Peer().Execution != run.Execution || l.Peer().BootID == "" {
		s.Errorf("link of %s says %+v, want execution %s", l.ID(), l.Peer(), run.Execution)
	}
	st, err := client.State(s.ctx())
	if err != nil || st.Phase != protocol.PhaseHeld {
		s.Errorf("state %+v, %v", st, err)
	}
}

func again(s *session) {
	spec := s.spec()
	first := s.start(spec)
	client, _ := s.link(spec, first)
	s.release(client)
	s.eventually("the first has ended", func() bool { return s.status(first).Phase == driver.PhaseEnded })
	more := s.spec()
	spec.ID, spec.Secret = more.ID, more.Secret
	second := s.start(spec)
	if second.Job != first.Job || second.Execution == first.Execution || second.ID != spec.ID {
		s.Errorf("runs %+v and %+v", first, second)
	}
	s.eventually("the latest is listed", func() bool { runs := s.listed(spec.Container); return len(runs) == 1 && runs[0] == second })
	if st := s.status(first); st.Phase != driver.PhaseEnded && st.Phase != driver.PhaseGone {
		s.Errorf("status of the first: %+v", st)
	}
	_, l := s.link(spec, second)
	if l.Peer().Execution != second.Execution {
		s.Errorf("the agent is of %s, want %s", l.Peer().Execution, second.Execution)
	}
}

func once(s *session) {
	spec := s.spec()
	s.start(spec)
	runs := s.listed(spec.Container)
	s.eventually("one run is listed", func() bool { runs = s.listed(spec.Container); return len(runs) == 1 })
	if runs[0].ID != spec.ID {
		s.Errorf("listed %+v", runs)
	}
}

func ending(s *session) {
	spec := s.spec()
	run := s.start(spec)
	client, l := s.link(spec, run)
	events, ctx := make(chan protocol.Event, 16), s.ctx()
	go func() { // ends with ctx or the link
		defer close(events)
		for ev, err := range client.Events(ctx, 0) {
			if err != nil {
				return
			}
			select {
			case events <- ev:
			case <-ctx.Done():
				return
			}
		}
	}()
	_, err := client.Start(s.ctx(), protocol.StartRequest{
		Key: "1", Linger: time.Minute, Process: protocol.Process{Args: []string{"sh", "-c", "exit 7"}, Env: []string{"PATH=/bin:/usr/bin"}, Dir: "/"},
	})
	if err != nil {
		s.Fatal(err)
	}
	var exit *protocol.Exit
	for ev := range events {
		if ev.Kind == protocol.EventExited {
			exit = ev.Exit
			break
		}
	}
	if exit == nil || exit.Code != 7 {
		s.Errorf("exit %+v", exit)
	}
	s.release(client)
	var st driver.Status
	s.eventually("the cloud says that it has ended", func() bool { st = s.status(run); return st.Phase == driver.PhaseEnded })
	if st.ExitCode != nil && *st.ExitCode != 7 {
		s.Errorf("the cloud says exit code %d", *st.ExitCode)
	}
	_ = l.Close()
}

func gone(s *session) {
	spec := s.spec()
	run := driver.Run{Container: spec.Container, ID: spec.ID, Job: "s-" + spec.Container[:20], Execution: "s-" + spec.Container[:20] + "-abcdefg"}
	if st := s.status(run); st.Phase != driver.PhaseGone {
		s.Errorf("status %+v", st)
	}
	if err := s.Driver.Stop(s.ctx(), run); err != nil {
		s.Errorf("stop: %v", err)
	}
	if err := s.Driver.Remove(s.ctx(), run); err != nil {
		s.Errorf("remove: %v", err)
	}
	if d, ok := driver.As[driver.Dialer](s.Driver); ok {
		ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
		defer cancel()
		if conn, err := d.Dial(ctx, run); err == nil {
			conn.Close()
			s.Error("dialled the agent of a run that is not there")
		}
	}
}

func cancelled(s *session) {
	spec := s.spec()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if run, err := s.Driver.Start(ctx, spec); err == nil {
		s.Errorf("started %+v with a context that has ended", run)
	}
	s.eventually("nothing is left", func() bool { return len(s.listed(spec.Container)) == 0 })
}

func several(s *session) {
	type result struct {
		run driver.Run
		err error
	}
	results := make(chan result, 4)
	for range cap(results) {
		spec := s.spec()
		go func() { // ends with Start
			run, err := s.Driver.Start(s.ctx(), spec)
			results <- result{run, err}
		}()
	}
	for range cap(results) {
		r := <-results
		if r.err != nil {
			s.Error(r.err)
			continue
		}
		if err := s.Driver.Remove(s.ctx(), r.run); err != nil {
			s.Error(err)
		}
	}
}

// Dial links to the agent of a run through a driver that dials.
func Dial(ctx context.Context, d driver.Dialer, spec driver.Spec, run driver.Run) (*link.Link, error) {
	conn := func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, run) }
	return link.Dial(ctx, link.Target{URL: "http://agent/agent", NetDial: conn},
		link.Identity{Role: link.Backend, ID: spec.ID, Secret: spec.Secret}, link.Options{})
}

// BuildAgent builds the agent's program into a folder and returns its path. Tests call it in TestMain: the go command
// must be there.
func BuildAgent(dir string) (string, error) {
	path := filepath.Join(dir, "sockerless-agent")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-o", path, "github.com/sockerless/sockerless/agent/cmd/sockerless-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does, which has compiled it then
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the agent: %w\n%s", err, out)
	}
	return path, nil
}
