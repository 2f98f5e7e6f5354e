// Package backendtest holds the obligations of a sockerless.Backend as tests. The engine runs them, and so does the
// backend at the other end of package remote: the wire has no opinions.
package backendtest

import (
	"bytes"
	"context"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// Target is a backend under test. It stays open until the test of the open function ends.
type Target struct {
	Backend *sockerless.Backend
	// Image is known to the backend and made for Linux. It has /bin/sh, cat, echo, env, id, sleep and true, /tmp can be
	// written, and its config has a command and FROM_IMAGE=yes in its environment.
	Image string
	// Linger says that an exited container keeps its files for some seconds at least.
	Linger bool
}

// Run tests what open returns. The tests share it, side by side, each with containers of its own.
func Run(t *testing.T, open func(*testing.T) *Target) {
	target := open(t)
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"create", creating}, {"list", listing}, {"run", running}, {"failing start", failing}, {"stop", stopping}, {"restart policy", restarting},
		{"remove", removing}, {"wait", waiting}, {"attach", attaching}, {"exec", execs}, {"streams", streaming}, {"logs", logging},
		{"files", files}, {"top", tops}, {"pause", pausing}, {"stats", statistics}, {"health", health},
		{"networks", networking}, {"volumes", storing}, {"events", eventing}, {"system", system},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, one := range group.tests {
				t.Run(one.name, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					defer cancel()
					one.f(&session{T: t, Target: target, b: target.Backend, ctx: ctx})
				})
			}
		})
	}
}

type test struct {
	name string
	f    func(*session)
}

// session is one test's use of the backend.
type session struct {
	*testing.T
	*Target
	b   *sockerless.Backend
	ctx context.Context
}

// Context ends before a test that hangs keeps its package from telling what failed.
func (s *session) Context() context.Context { return s.ctx }

// patience is for what comes by itself, over any cloud; limit is for a whole test.
const (
	patience = 90 * time.Second
	limit    = 5 * time.Minute
)

func unique(prefix string) string {
	return prefix + "-" + strconv.FormatUint(rand.Uint64(), 36)
}

type option func(*sockerless.CreateRequest)

func name(n string) option                   { return func(r *sockerless.CreateRequest) { r.Name = n } }
func autoRemove(r *sockerless.CreateRequest) { r.HostConfig.AutoRemove = true }
func terminal(r *sockerless.CreateRequest)   { r.Config.Tty = true }
func interactive(r *sockerless.CreateRequest) {
	r.Config.OpenStdin, r.Config.StdinOnce = true, true
}
func env(kv ...string) option { return func(r *sockerless.CreateRequest) { r.Config.Env = kv } }
func label(k, v string) option {
	return func(r *sockerless.CreateRequest) { r.Config.Labels = map[string]string{k: v} }
}

func (s *session) request(cmd []string, options ...option) sockerless.CreateRequest {
	req := sockerless.CreateRequest{Config: &docker.Config{Image: s.Image, Cmd: cmd}, HostConfig: &docker.HostConfig{}}
	for _, f := range options {
		f(&req)
	}
	return req
}

// create makes a container that is removed at the test's end.
func (s *session) create(cmd []string, options ...option) string {
	s.Helper()
	res, err := s.b.Containers.Create(s.Context(), s.request(cmd, options...))
	if err != nil {
		s.Fatal(err)
	}
	s.cleanup(res.ID)
	return res.ID
}

func (s *session) cleanup(id string) {
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := s.b.Containers.Remove(ctx, id, sockerless.RemoveOptions{Force: true})
		if err != nil && sockerless.ErrorCode(err) != sockerless.ENOTFOUND {
			s.Error(err)
		}
	})
}

func script(text string) []string { return []string{"sh", "-c", text} }

// sleeper is a container that runs until it is told to stop, and then stops at once.
func (s *session) sleeper(options ...option) string {
	s.Helper()
	id := s.create(script("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"), options...)
	s.start(id)
	s.awaitLog(id, "ready")
	return id
}

func (s *session) start(id string) {
	s.Helper()
	if err := s.b.Containers.Start(s.Context(), id); err != nil {
		s.Fatal(err)
	}
}

func (s *session) find(ref string) *sockerless.Container {
	s.Helper()
	c, err := s.b.Containers.Find(s.Context(), ref)
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// wait begins a wait, which stands when it returns; what it returns waits.
func (s *session) wait(id string, condition docker.WaitCondition) func() sockerless.WaitUpdate {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	next, stop := iter.Pull2(s.b.Containers.Wait(ctx, id, condition))
	s.Cleanup(func() { stop(); cancel() })
	if u, err, ok := next(); err != nil || !ok || u.Exited {
		s.Fatalf("the wait does not stand: %+v, %v", u, err)
	}
	return func() sockerless.WaitUpdate {
		s.Helper()
		u, err, ok := next()
		if err != nil || !ok || !u.Exited {
			s.Fatalf("the wait ends with %+v, %v", u, err)
		}
		return u
	}
}

func (s *session) attach(id string, opt sockerless.AttachOptions) sockerless.Session {
	s.Helper()
	opt.Stream = true
	session, err := s.b.Containers.Attach(s.Context(), id, opt)
	if err != nil {
		s.Fatal(err)
	}
	s.bound(session)
	return session
}

// bound closes a session with its test, at the latest.
func (s *session) bound(session sockerless.Session) {
	stop := context.AfterFunc(s.ctx, func() { session.Close() })
	s.Cleanup(func() { stop(); session.Close() })
}

var bothStreams = sockerless.AttachOptions{Stdout: true, Stderr: true}

// read reads a session to its end, and closes it.
func (s *session) read(session sockerless.Session, tty bool) (stdout, stderr string) {
	s.Helper()
	var o, e bytes.Buffer
	done := make(chan error, 1)
	go func() { // ends with the session, which is closed below at the latest
		var err error
		if tty {
			_, err = io.Copy(&o, session)
		} else {
			_, err = stdcopy.StdCopy(&o, &e, session)
		}
		done <- err
	}()
	defer session.Close()
	select {
	case err := <-done:
		if err != nil {
			s.Fatalf("session: %v", err)
		}
	case <-time.After(patience):
		session.Close()
		err := <-done
		s.Fatalf("the session does not end; so far %q and %q (%v)", o.String(), e.String(), err)
	}
	return o.String(), e.String()
}

// run runs a container to its end, attached.
func (s *session) run(cmd []string, options ...option) (stdout, stderr string, code int) {
	s.Helper()
	req := s.request(cmd, options...)
	id := s.create(cmd, options...)
	attached := s.attach(id, bothStreams)
	exit := s.wait(id, docker.WaitConditionNextExit)
	s.start(id)
	stdout, stderr = s.read(attached, req.Config.Tty)
	return stdout, stderr, exit().ExitCode
}

func demux(session io.Reader) (stdout, stderr string, err error) {
	var o, e bytes.Buffer
	_, err = stdcopy.StdCopy(&o, &e, session)
	return o.String(), e.String(), err
}

func (s *session) logs(id string, opt sockerless.LogOptions) string {
	s.Helper()
	if !opt.Stdout && !opt.Stderr {
		opt.Stdout, opt.Stderr = true, true
	}
	var b strings.Builder
	for rec, err := range s.b.Containers.Logs(s.Context(), id, opt) {
		if err != nil {
			s.Fatal(err)
		}
		b.Write(rec.Data)
	}
	return b.String()
}

var everything = sockerless.LogOptions{Tail: -1}

// awaitLog waits until the container's log holds text.
func (s *session) awaitLog(id, text string) {
	s.Helper()
	s.eventually("the log holds "+text, func() bool { return strings.Contains(s.logs(id, everything), text) })
}

func (s *session) eventually(what string, f func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	s.Fatalf("it does not come to this: %s", what)
}

// refused checks an error's code and words.
func (s *session) refused(err error, code sockerless.Code, words ...string) {
	s.Helper()
	if err == nil {
		s.Fatalf("no error, want %s", code)
	}
	if got := sockerless.ErrorCode(err); got != code {
		s.Errorf("code %s, want %s: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.Errorf("the error is %q, and does not say %q", err, w)
		}
	}
}

// list returns the ids of the containers that match.
func (s *session) list(opt sockerless.ListOptions) []string {
	s.Helper()
	var ids []string
	for c, err := range s.b.Containers.List(s.Context(), opt) {
		if err != nil {
			s.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	return ids
}

func firstError[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) same(what string, got, want any) {
	s.Helper()
	g, okG := got.([]string)
	w, okW := want.([]string)
	if okG && okW {
		if !slices.Equal(g, w) {
			s.Errorf("%s: got %q, want %q", what, g, w)
		}
		return
	}
	if got != want {
		s.Errorf("%s: got %q, want %q", what, got, want)
	}
}
