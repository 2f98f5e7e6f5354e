package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/drivertest"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/link"
)

var agentBinary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "engine")
	if err == nil {
		agentBinary, err = drivertest.BuildAgent(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// pulled is the mem driver's images, with a credential for them.
type pulled struct {
	memdriver.Images
	mu    sync.Mutex
	inUse func(string) []string
}

func (p *pulled) Credential(string) *driver.Credential {
	return &driver.Credential{Server: "registry.test", Username: "u", Password: "p"}
}

func (p *pulled) SetInUse(f func(string) []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse = f
}

func (p *pulled) Auth(context.Context, registry.AuthConfig) (*registry.AuthResponse, error) {
	return &registry.AuthResponse{Status: "Login Succeeded"}, nil
}

// rig is an engine over the mem driver that can be closed and opened again.
type rig struct {
	t      *testing.T
	dir    string
	key    engine.Key
	opt    engine.Options
	driver driver.Driver
	hub    *link.Hub
	server *httptest.Server
	mu     sync.Mutex
	e      *engine.Engine
	b      *sockerless.Backend
}

type rigOptions struct {
	reverse bool                              // agents dial
	wrap    func(driver.Driver) driver.Driver // what the engine sees of the driver
	engine  engine.Options                    // Linger, StartWait...
	mem     memdriver.Options
}

// modes runs a test with agents that are dialled and with agents that dial.
func modes(t *testing.T, f func(t *testing.T, reverse bool)) {
	t.Run("forward", func(t *testing.T) { t.Parallel(); f(t, false) })
	t.Run("reverse", func(t *testing.T) { t.Parallel(); f(t, true) })
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), opt: o.engine}
	var err error
	if r.key, err = engine.LoadKey(r.dir); err != nil {
		t.Fatal(err)
	}
	o.mem.Agent = agentBinary
	var closer io.Closer
	if o.reverse {
		r.newHub()
		r.server = httptest.NewServer(hubHandler{r})
		o.mem.CallbackURL = r.server.URL
		d, err := memdriver.New(o.mem)
		if err != nil {
			t.Fatal(err)
		}
		r.driver, closer = d, d
	} else {
		d, err := memdriver.NewForward(o.mem)
		if err != nil {
			t.Fatal(err)
		}
		r.driver, closer = d, d
	}
	if o.wrap != nil {
		r.driver = o.wrap(r.driver)
	}
	t.Cleanup(func() {
		r.close()
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
		if r.server != nil {
			r.hub.Close()
			r.server.CloseClientConnections()
			r.server.Close()
		}
	})
	r.open()
	return r
}

func (r *rig) newHub() {
	hub := link.NewHub(link.Backend, r.key.Secret, link.Options{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hub = hub
}

func (r *rig) open() {
	r.t.Helper()
	opt := r.opt
	opt.Dir, opt.Driver, opt.Key, opt.Images, opt.Version = r.dir, r.driver, r.key, &pulled{}, "test"
	opt.Links = r.hub
	if os.Getenv("ENGINE_TEST_LOG") != "" {
		opt.Logger = slog.New(slog.NewTextHandler(r.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	e, err := engine.Open(r.t.Context(), opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.e, r.b = e, e.Backend()
}

func (r *rig) close() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.e.Close(ctx); err != nil {
		r.t.Error(err)
	}
}

// reopen is a restart of the backend: the hub is new too.
func (r *rig) reopen() {
	r.t.Helper()
	r.close()
	if r.hub != nil {
		r.hub.Close()
		r.newHub()
	}
	r.open()
}

func (r *rig) create(c docker.Config, more ...func(*sockerless.CreateRequest)) string {
	r.t.Helper()
	c.Image = "shell"
	req := sockerless.CreateRequest{Config: &c, HostConfig: &docker.HostConfig{}}
	for _, f := range more {
		f(&req)
	}
	res, err := r.b.Containers.Create(r.t.Context(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.ID
}

func sh(script string) docker.Config { return docker.Config{Cmd: []string{"sh", "-c", script}} }

func autoRemove(req *sockerless.CreateRequest) { req.HostConfig.AutoRemove = true }

func (r *rig) start(id string) {
	r.t.Helper()
	if err := r.b.Containers.Start(r.t.Context(), id); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) find(id string) *sockerless.Container {
	r.t.Helper()
	c, err := r.b.Containers.Find(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// wait begins a wait and returns what ends it.
func (r *rig) wait(id string, condition docker.WaitCondition) func() sockerless.WaitUpdate {
	r.t.Helper()
	next, stop := iter.Pull2(r.b.Containers.Wait(r.t.Context(), id, condition))
	if _, err, ok := next(); err != nil || !ok {
		r.t.Fatalf("the wait does not stand: %v", err)
	}
	return func() sockerless.WaitUpdate {
		r.t.Helper()
		defer stop()
		u, err, ok := next()
		if err != nil || !ok || !u.Exited {
			r.t.Fatalf("wait: %+v %v %v", u, err, ok)
		}
		return u
	}
}

// read reads a session to its end.
func (r *rig) read(s sockerless.Session, tty bool) (stdout, stderr string) {
	r.t.Helper()
	defer s.Close()
	var o, e bytes.Buffer
	var err error
	if tty {
		_, err = io.Copy(&o, s)
	} else {
		_, err = stdcopy.StdCopy(&o, &e, s)
	}
	if err != nil {
		r.t.Fatalf("session: %v (so far %q %q)", err, o.String(), e.String())
	}
	return o.String(), e.String()
}

func (r *rig) attach(id string, opt sockerless.AttachOptions) sockerless.Session {
	r.t.Helper()
	opt.Stream = true
	s, err := r.b.Containers.Attach(r.t.Context(), id, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) logs(id string, opt sockerless.LogOptions) string {
	r.t.Helper()
	opt.Stdout, opt.Stderr = true, true
	var b strings.Builder
	for rec, err := range r.b.Containers.Logs(r.t.Context(), id, opt) {
		if err != nil {
			r.t.Fatal(err)
		}
		b.Write(rec.Data)
	}
	return b.String()
}

// within receives what has to come: what hangs fails its test, and not the package.
func within[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(2 * time.Minute):
		t.Fatal("what has to come does not")
	}
	return v
}

// events are what has happened and what happens, without the word that it listens.
func (r *rig) events(opt sockerless.EventOptions) iter.Seq[events.Message] {
	return func(yield func(events.Message) bool) {
		r.t.Helper()
		for m, err := range r.b.System.Events(r.t.Context(), opt) {
			if err != nil {
				r.t.Fatal(err)
			}
			if m.Type != "" && !yield(m) {
				return
			}
		}
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("it does not come to this: %s", what)
}
