package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
)

// A resume may break at every byte of the upgrade, the TLS and the proof, either way, with data under way both ways.
func TestResumeBrokenAtEveryByte(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name   string
		onRead bool
	}{{"what the dialler sends", false}, {"what the hub answers", true}} {
		t.Run(way.name, func(t *testing.T) {
			var next atomic.Int64
			next.Store(-1)
			r := newRig(t, link.Options{MaxPause: time.Millisecond}, func(conn net.Conn) net.Conn {
				return linktest.Break{Kind: linktest.Close, OnRead: way.onRead, After: int(next.Swap(-1))}.Wrap(conn)
			})
			agent, backend := r.link()
			o, a := stream(t, backend, agent)
			var wait sync.WaitGroup
			defer wait.Wait()
			wait.Go(func() { _, _ = io.Copy(a, a); _ = a.CloseWrite() })
			defer o.Close()
			sent, got := make([]byte, 5000), make([]byte, 5000)
			const last, step = 2600, 29
			for at := 0; at < last; at += step {
				next.Store(int64(at))
				_, _ = rand.Read(sent)
				wait.Go(func() { _, _ = o.Write(sent) })
				agent.Cut()
				if _, err := io.ReadFull(o, got); err != nil || !bytes.Equal(sent, got) {
					t.Fatalf("broken at byte %d: %v, equal %t", at, err, bytes.Equal(sent, got))
				}
			}
			if n := r.dials.Load(); n < 2*last/step*3/4 {
				t.Errorf("only %d connections for %d cuts: the faults did not bite", n, last/step)
			}
		})
	}
}

// gate makes a path that can be closed for some time: new connections fail and old ones are cut.
type gate struct {
	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	if shut {
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.conns = nil
	}
}

// through lets target's connections pass the gate only.
func (g *gate) through(target link.Target) link.Target {
	dial := target.NetDial
	target.NetDial = func(ctx context.Context) (net.Conn, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.shut {
			return nil, linktest.ErrFault
		}
		conn, err := dial(ctx)
		if err == nil {
			g.conns = append(g.conns, conn)
		}
		return conn, err
	}
	return target
}

// A cut of some time with every buffer full, of sockets too: writers wait, nothing is lost, nobody times out. It is a minute
// with SOCKERLESS_SOAK; TestMinutesCutWithFullBuffers has minutes that cost no time.
func TestLongCutWithFullBuffers(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	r := newRig(t, link.Options{MaxPause: 20 * time.Millisecond}, nil)
	g := &gate{}
	r.target = g.through(r.target)
	agent, backend := r.link()
	type end struct{ from, to *link.Stream }
	var ends []end
	for i := range 4 {
		o, a := stream(t, backend, agent)
		if i%2 == 0 {
			ends = append(ends, end{o, a})
		} else {
			ends = append(ends, end{a, o})
		}
	}
	var wait sync.WaitGroup
	for i, e := range ends {
		data := linktest.NewSource(uint64(i), size/4, 1<<20)
		wait.Go(func() {
			_, err := e.from.ReadFrom(data)
			if err := errors.Join(err, e.from.CloseWrite()); err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	// Nobody reads: the windows are full. Then the first readers start, and the path breaks under them.
	time.Sleep(100 * time.Millisecond)
	for i, e := range ends {
		wait.Go(func() {
			got, err := io.ReadAll(e.to)
			all := linktest.NewSource(uint64(i), size/4, 1).Bytes()
			if err != nil || !bytes.Equal(got, all) {
				t.Errorf("read %d of %d bytes, %v", len(got), len(all), err)
			}
		})
	}
	g.set(true)
	cut := 1500 * time.Millisecond
	if os.Getenv("SOCKERLESS_SOAK") != "" {
		cut = time.Minute
	}
	eventually(t, "both are cut", func() bool { return !agent.Connected() && !backend.Connected() })
	time.Sleep(cut)
	if agent.Connected() || backend.Connected() {
		t.Error("connected through a closed gate")
	}
	g.set(false)
	wait.Wait()
}

func TestResumeWindow(t *testing.T) {
	t.Parallel()
	const window = 300 * time.Millisecond
	r := newRig(t, link.Options{ResumeWindow: window, MaxPause: 10 * time.Millisecond}, nil)
	g := &gate{}
	r.target = g.through(r.target)
	agent, backend := r.link()
	_, a := stream(t, backend, agent)
	begin := time.Now()
	g.set(true)
	for _, l := range []*link.Link{agent, backend} {
		<-l.Done()
		if took := time.Since(begin); took < window {
			t.Errorf("ended after %v, before the window has passed", took)
		}
		if err := l.Err(); !errors.Is(err, link.ErrLost) || link.Permanent(err) {
			t.Errorf("Err = %v, want ErrLost", err)
		}
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, link.ErrLost) {
		t.Errorf("Read = %v, want ErrLost", err)
	}
	eventually(t, "the hub forgets the link", func() bool { return r.hub.Stats().Links == 0 })
}

// A carrier on which nothing comes any more, without an error, is found and replaced.
func TestSilentCarrier(t *testing.T) {
	for _, onRead := range []bool{false, true} {
		t.Run(fmt.Sprintf("incoming %t", onRead), func(t *testing.T) {
			var dials atomic.Int64
			r := newRig(t, link.Options{KeepAlive: 50 * time.Millisecond}, func(conn net.Conn) net.Conn {
				if dials.Add(1) > 1 {
					return conn
				}
				return linktest.Break{Kind: linktest.Silent, OnRead: onRead, After: 20_000}.Wrap(conn)
			})
			agent, backend := r.link()
			for _, way := range [][2]*link.Link{{agent, backend}, {backend, agent}} {
				o, a := stream(t, way[0], way[1])
				go func() {
					_, _ = o.Write(make([]byte, 50_000))
					_ = o.CloseWrite()
				}()
				if n, err := io.Copy(io.Discard, a); err != nil || n != 50_000 {
					t.Errorf("copied %d, %v", n, err)
				}
			}
			if dials.Load() < 2 {
				t.Error("no second carrier")
			}
		})
	}
}

// An idle carrier is pinged, and an answered ping keeps it.
func TestIdleCarrierStays(t *testing.T) {
	var mu sync.Mutex
	var last time.Time
	watch := func(conn net.Conn) net.Conn {
		return &watchedConn{Conn: conn, wrote: func() {
			mu.Lock()
			defer mu.Unlock()
			last = time.Now()
		}}
	}
	inMemory(t, link.Options{KeepAlive: time.Second}, watch, func(t *testing.T, _ *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
		time.Sleep(10 * time.Minute)
		if a, b := agent.Stats().Carriers, backend.Stats().Carriers; a != 1 || b != 1 {
			t.Errorf("%d and %d carriers while idle", a, b)
		}
		mu.Lock()
		defer mu.Unlock()
		if ago := time.Since(last); ago > 3*time.Second {
			t.Errorf("nothing has been sent for %v", ago)
		}
	})
}

type watchedConn struct {
	net.Conn
	wrote func()
}

func (c *watchedConn) Write(p []byte) (int, error) {
	c.wrote()
	return c.Conn.Write(p)
}

// A hub that was restarted does not know the link: the dialling end is told at once.
func TestHubRestarted(t *testing.T) {
	r := newRig(t, link.Options{MaxPause: 10 * time.Millisecond}, nil)
	var current atomic.Pointer[link.Hub]
	current.Store(r.hub)
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { current.Load().ServeHTTP(w, req) })
	agent, backend := r.link()
	second := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{})
	defer second.Close()
	current.Store(second)
	begin := time.Now()
	backend.Cut()
	<-agent.Done()
	if err := agent.Err(); !errors.Is(err, link.ErrUnknownLink) || link.Permanent(err) {
		t.Errorf("Err = %v, want ErrUnknownLink", err)
	}
	if took := time.Since(begin); took > time.Minute { // the window is five
		t.Errorf("told after %v", took)
	}
	if st := second.Stats(); st.Unknown != 1 || st.Accepted != 0 {
		t.Errorf("counted as %+v", st)
	}
}

// A run that is forgotten while its agent is cut off is refused, and the agent stops asking.
func TestForgottenWhileCut(t *testing.T) {
	var forgotten atomic.Bool
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, !forgotten.Load() }, link.Options{})
	server := httptest.NewServer(hub)
	defer server.Close()
	defer hub.Close()
	id := link.Identity{Role: link.Agent, ID: runID, Secret: secret}
	agent, err := link.Dial(context.Background(), link.Target{URL: server.URL}, id, link.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	forgotten.Store(true)
	agent.Cut()
	<-agent.Done()
	if err := agent.Err(); !errors.Is(err, link.ErrRefused) || !link.Permanent(err) {
		t.Errorf("Err = %v, want ErrRefused", err)
	}
}

// A run that was started twice has two links; each is resumed for itself.
func TestTwoLinksOfOneID(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent1, backend1 := r.link()
	r.id.Hello.BootID = "b2"
	agent2, backend2 := r.link()
	if backend1.Peer().BootID != "b1" || backend2.Peer().BootID != "b2" {
		t.Fatalf("boot ids %q and %q", backend1.Peer().BootID, backend2.Peer().BootID)
	}
	for range 3 {
		agent1.Cut()
		agent2.Cut()
		for i, pair := range [][2]*link.Link{{backend1, agent1}, {backend2, agent2}} {
			o, a := stream(t, pair[0], pair[1])
			_, _ = a.Write([]byte{byte(i)})
			b := make([]byte, 1)
			if _, err := io.ReadFull(o, b); err != nil || b[0] != byte(i) {
				t.Fatalf("link %d: %v, %v", i, b, err)
			}
			_ = o.Close()
			_ = a.Close()
		}
	}
	_ = backend1.Close()
	<-agent1.Done()
	if agent2.Err() != nil || backend2.Err() != nil {
		t.Errorf("closing one ended the other: %v, %v", agent2.Err(), backend2.Err())
	}
}

func TestHubClose(t *testing.T) {
	r := newRig(t, link.Options{MaxPause: 10 * time.Millisecond}, nil)
	agent, _ := r.link()
	if err := r.hub.Close(); err != nil {
		t.Fatal(err)
	}
	<-agent.Done()
	if err := agent.Err(); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Err = %v, want ErrClosed", err)
	}
	if _, err := r.hub.Accept(context.Background()); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Accept = %v, want ErrClosed", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := link.Dial(ctx, r.target, r.id, r.opt); !errors.Is(err, context.DeadlineExceeded) || link.Permanent(err) {
		t.Errorf("Dial = %v, want a passing error", err)
	}
}

// A closed link whose peer is cut off ends there with the next attempt, not with the resume window.
func TestClosedWhileCut(t *testing.T) {
	r := newRig(t, link.Options{MaxPause: 10 * time.Millisecond}, nil)
	g := &gate{}
	r.target = g.through(r.target)
	agent, backend := r.link()
	g.set(true)
	eventually(t, "the cut", func() bool { return !backend.Connected() })
	_ = backend.Close()
	g.set(false)
	<-agent.Done()
	if err := agent.Err(); !errors.Is(err, link.ErrUnknownLink) {
		t.Errorf("Err = %v, want ErrUnknownLink", err)
	}
}

// A peer that does not read its socket any more cannot hold a Close.
func TestCloseBesideADeadPeer(t *testing.T) {
	t.Parallel()
	var stall atomic.Bool
	r := newRig(t, link.Options{KeepAlive: time.Hour}, func(conn net.Conn) net.Conn { return &stalledConn{Conn: conn, stall: &stall} })
	agent, backend := r.link()
	o, _ := stream(t, backend, agent)
	stall.Store(true)
	_ = o.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	_, _ = o.Write(make([]byte, 1<<20))
	closed := make(chan error, 1)
	go func() { closed <- backend.Close() }() // ends when the peer reads again at the latest
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Error("Close waits for the dead peer")
	}
	stall.Store(false)
}

// stalledConn reads nothing while stall is set.
type stalledConn struct {
	net.Conn
	stall *atomic.Bool
}

func (c *stalledConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for c.stall.Load() {
		time.Sleep(5 * time.Millisecond)
	}
	return n, err
}

func TestDialWaitsForTheHub(t *testing.T) {
	r := newRig(t, link.Options{MaxPause: 10 * time.Millisecond}, nil)
	g := &gate{shut: true}
	r.target = g.through(r.target)
	time.AfterFunc(100*time.Millisecond, func() { g.set(false) })
	r.link()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tried := 0
	r.target.NetDial = func(context.Context) (net.Conn, error) {
		if tried++; tried == 2 {
			cancel()
		}
		return nil, linktest.ErrFault
	}
	_, err := link.Dial(ctx, r.target, r.id, r.opt)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, linktest.ErrFault) {
		t.Errorf("Dial = %v, want both reasons", err)
	}
}

// The end of its context ends a Dial that waits for a silent host.
func TestDialIsGivenUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	_, err = link.Dial(ctx, link.Target{URL: "http://" + silent.Addr().String()}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, link.Options{
		ConnectTimeout: 2 * time.Minute, HandshakeTimeout: 2 * time.Minute,
	})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > time.Minute {
		t.Errorf("Dial = %v after %v", err, time.Since(begin))
	}
}
