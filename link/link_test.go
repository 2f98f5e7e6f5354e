package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/link"
)

// hubVariable makes this program a hub, for BenchmarkHubIdle.
const hubVariable = "LINK_TEST_HUB"

// runHub is a hub in a process of its own: it tells its URL, and ends with its input.
func runHub() {
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{MaxHandshakes: 1024})
	s := httptest.NewServer(hub)
	go func() { // ends with the program
		for {
			if _, err := hub.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
	fmt.Println(s.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestMain(m *testing.M) {
	if os.Getenv(hubVariable) != "" {
		runHub()
		return
	}
	// net/http's server waits half a second after an error answer, and nobody can wait for it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const runID = "run-1"

var secret = bytes.Repeat([]byte{7}, 32)

// rig is a backend's hub behind a real http.Server on loopback, and what an agent dials it with.
type rig struct {
	t      testing.TB
	hub    *link.Hub
	server *httptest.Server
	target link.Target
	id     link.Identity
	opt    link.Options
	dials  atomic.Int64
}

// newRig starts a hub. wrap, when not nil, comes between the dialling end and its connections.
func newRig(t testing.TB, opt link.Options, wrap func(net.Conn) net.Conn) *rig {
	t.Helper()
	if testing.Verbose() && os.Getenv("LINK_LOG") != "" {
		opt.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r := &rig{t: t, opt: opt}
	hubOpt := opt
	hubOpt.Hello = link.Hello{Version: "hub"}
	if hubOpt.MaxStreams == 0 {
		hubOpt.MaxStreams = 256 // a backend takes none of an agent's; this one is to
	}
	r.hub = link.NewHub(link.Backend, func(id string) ([]byte, bool) { return secret, strings.HasPrefix(id, "run-") }, hubOpt)
	r.server = httptest.NewServer(r.hub)
	r.target = link.Target{URL: r.server.URL + "/agent", NetDial: func(ctx context.Context) (net.Conn, error) {
		r.dials.Add(1)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.server.Listener.Addr().String())
		if err == nil && wrap != nil {
			conn = wrap(conn)
		}
		return conn, err
	}}
	r.id = link.Identity{Role: link.Agent, ID: runID, Secret: secret, Hello: link.Hello{Execution: "job-1-abc", BootID: "b1", Version: "test"}}
	t.Cleanup(func() {
		_ = r.hub.Close()
		r.server.Close()
	})
	return r
}

// bound closes a link that is there after so long: what waits on it fails then, and says where. Benchmarks take what they take.
func bound(t testing.TB, l *link.Link) {
	if _, ok := t.(*testing.T); !ok {
		return
	}
	late := time.AfterFunc(4*time.Minute, func() { _ = l.Close() })
	t.Cleanup(func() { late.Stop() })
}

// link makes one link and returns the dialling end and the hub's.
func (r *rig) link() (agent, backend *link.Link) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	agent, err := link.Dial(ctx, r.target, r.id, r.opt)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = agent.Close() })
	backend, err = r.hub.Accept(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	bound(r.t, agent)
	bound(r.t, backend)
	return agent, backend
}

// stream opens a stream from one end and accepts it at the other.
func stream(t testing.TB, from, to *link.Link) (opened, accepted *link.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := from.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, err := to.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = o.Close()
		_ = a.Close()
	})
	return o.(*link.Stream), a.(*link.Stream)
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}

func TestLink(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	if got := backend.Peer(); got != r.id.Hello {
		t.Errorf("the hub was told %+v, want %+v", got, r.id.Hello)
	}
	if got := agent.Peer().Version; got != "hub" {
		t.Errorf("the agent was told version %q, want hub", got)
	}
	if agent.ID() != runID || backend.ID() != runID {
		t.Errorf("ids %q and %q, want %q", agent.ID(), backend.ID(), runID)
	}
	if got := backend.Addr().String(); got != "backend/run-1" {
		t.Errorf("address %q", got)
	}
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	for _, way := range []struct {
		name     string
		from, to *link.Link
	}{{"dialler to hub", agent, backend}, {"hub to dialler", backend, agent}} {
		t.Run(way.name, func(t *testing.T) {
			o, a := stream(t, way.from, way.to)
			go func() {
				_, _ = io.Copy(o, bytes.NewReader(data))
				_ = o.CloseWrite()
			}()
			got, err := io.ReadAll(a)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read %d bytes, %v; want %d", len(got), err, len(data))
			}
			// The other way is still open.
			go func() {
				_, _ = a.Write([]byte("late"))
				_ = a.Close()
			}()
			got, err = io.ReadAll(o)
			if err != nil || string(got) != "late" {
				t.Fatalf("read %q, %v; want late", got, err)
			}
		})
	}
}

func TestGoodbye(t *testing.T) {
	for _, c := range []struct {
		name  string
		close func(agent, backend *link.Link) (closed, other *link.Link)
	}{
		{"the dialler closes", func(a, b *link.Link) (*link.Link, *link.Link) { return a, b }},
		{"the hub closes", func(a, b *link.Link) (*link.Link, *link.Link) { return b, a }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, link.Options{}, nil)
			a, b := r.link()
			closed, other := c.close(a, b)
			o, s := stream(t, closed, other)
			begin := time.Now()
			if err := closed.Close(); err != nil {
				t.Fatal(err)
			}
			<-other.Done()
			if took := time.Since(begin); took > time.Minute { // a link that is lost ends after five
				t.Errorf("the goodbye took %v", took)
			}
			for _, l := range []*link.Link{closed, other} {
				if err := l.Err(); !errors.Is(err, link.ErrClosed) || !errors.Is(err, net.ErrClosed) {
					t.Errorf("Err = %v, want ErrClosed", err)
				}
				if _, err := l.Open(context.Background()); !errors.Is(err, link.ErrClosed) {
					t.Errorf("Open = %v, want ErrClosed", err)
				}
				if _, err := l.Accept(); !errors.Is(err, link.ErrClosed) {
					t.Errorf("Accept = %v, want ErrClosed", err)
				}
			}
			for _, s := range []*link.Stream{o, s} {
				if _, err := s.Read(make([]byte, 1)); !errors.Is(err, link.ErrClosed) {
					t.Errorf("Read = %v, want ErrClosed", err)
				}
				if _, err := s.Write(make([]byte, 1)); !errors.Is(err, link.ErrClosed) {
					t.Errorf("Write = %v, want ErrClosed", err)
				}
			}
			eventually(t, "the hub forgets the link", func() bool { return r.hub.Stats().Links == 0 })
		})
	}
}

func TestCutAndResume(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	o, a := stream(t, backend, agent)
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() { _, _ = io.Copy(a, a); _ = a.CloseWrite() })
	for i := range 20 {
		if i%2 == 0 {
			agent.Cut()
		} else {
			backend.Cut()
		}
		if _, err := o.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(o, b[:]); err != nil || b[0] != byte(i) {
			t.Fatalf("after cut %d: %v, %v", i, b, err)
		}
	}
	_ = o.CloseWrite()
	if got := agent.Stats().Carriers; got < 20 {
		t.Errorf("%d carriers after 20 cuts", got)
	}
}

// net/http runs on a link as on TCP, upgrades with half-close included.
func TestHTTP(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	mux.HandleFunc("POST /session", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		in, err := io.ReadAll(rw)
		if err != nil {
			t.Errorf("the session's input: %v", err)
		}
		_, _ = conn.Write(bytes.ToUpper(in))
	})
	server := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- server.Serve(agent) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return backend.Open(ctx) }}
	client := &http.Client{Transport: transport}
	defer transport.CloseIdleConnections()

	body := make([]byte, 1<<20)
	_, _ = rand.Read(body)
	for range 3 {
		resp, err := client.Post("http://agent/echo", "", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("echo: %d bytes, %v", len(got), err)
		}
	}

	req, _ := http.NewRequest(http.MethodPost, "http://agent/session", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	session, ok := resp.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("status %d, body %T without CloseWrite", resp.StatusCode, resp.Body)
	}
	input := strings.Repeat("half-close ", 40_000)
	if _, err := io.WriteString(session, input); err != nil {
		t.Fatal(err)
	}
	if err := session.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(session)
	if err != nil || string(got) != strings.ToUpper(input) {
		t.Fatalf("session: %d of %d bytes, %v", len(got), len(input), err)
	}
	_ = agent.Close()
	if err := <-served; !errors.Is(err, link.ErrClosed) {
		t.Errorf("Serve = %v, want ErrClosed", err)
	}
}
