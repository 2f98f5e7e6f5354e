package link_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// route is a way to a hub, by URL alone.
type route struct {
	url   string
	opt   link.Options
	close func()
	used  func() bool // whether the way went where it should
}

// The same link over every way there is: it comes up, carries bytes, and resumes.
func TestRoutes(t *testing.T) {
	always := func() bool { return true }
	for _, c := range []struct {
		name string
		open func(t *testing.T, h http.Handler) route
	}{
		{"http", func(_ *testing.T, h http.Handler) route {
			s := httptest.NewServer(h)
			return route{url: s.URL, close: s.Close, used: always}
		}},
		{"https with a private CA", func(_ *testing.T, h http.Handler) route {
			s := httptest.NewTLSServer(h)
			return route{url: s.URL, opt: link.Options{RootCAs: pool(s)}, close: s.Close, used: always}
		}},
		{"https that a reverse proxy ends", func(t *testing.T, h http.Handler) route {
			inner := httptest.NewServer(h)
			to, err := url.Parse(inner.URL)
			if err != nil {
				t.Fatal(err)
			}
			var passed atomic.Bool
			proxy := httputil.NewSingleHostReverseProxy(to)
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				passed.Store(true)
				proxy.ServeHTTP(w, r)
			}))
			return route{url: s.URL, opt: link.Options{RootCAs: pool(s)}, close: func() { s.Close(); inner.Close() }, used: passed.Load}
		}},
		{"http through a forward proxy", func(t *testing.T, h http.Handler) route {
			s := httptest.NewServer(h)
			p := newConnectProxy(t)
			return route{url: s.URL, opt: link.Options{Proxy: http.ProxyURL(p.url)}, close: func() { s.Close(); p.close() }, used: p.used}
		}},
		{"https through a forward proxy", func(t *testing.T, h http.Handler) route {
			s := httptest.NewTLSServer(h)
			p := newConnectProxy(t)
			return route{url: s.URL, opt: link.Options{RootCAs: pool(s), Proxy: http.ProxyURL(p.url)}, close: func() { s.Close(); p.close() }, used: p.used}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{Peer: link.Frontend})
			way := c.open(t, hub)
			defer way.close()
			defer hub.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			front, err := link.Dial(ctx, link.Target{URL: way.url + "/link"}, link.Identity{Role: link.Frontend, ID: "frontend", Secret: secret}, way.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer front.Close()
			bound(t, front)
			back, err := hub.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if back.PeerRole() != link.Frontend || front.PeerRole() != link.Backend {
				t.Errorf("roles %s and %s", back.PeerRole(), front.PeerRole())
			}
			bound(t, back)
			o, a := stream(t, front, back)
			go func() { _, _ = io.Copy(a, a); _ = a.CloseWrite() }() // ends with the stream
			for range 3 {
				b := make([]byte, 200_000)
				go func() { _, _ = o.Write(b) }() // ends with the stream
				if _, err := io.ReadFull(o, b); err != nil {
					t.Fatal(err)
				}
				front.Cut()
			}
			if !way.used() {
				t.Error("the link went another way")
			}
		})
	}
}

func pool(s *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Certificate())
	return p
}

// An https hub whose certificate nobody vouches for is a setting that no retry heals.
func TestUntrustedCertificate(t *testing.T) {
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{})
	defer hub.Close()
	s := httptest.NewUnstartedServer(hub)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := link.Dial(ctx, link.Target{URL: s.URL}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, link.Options{})
	if !link.Permanent(err) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("Dial = %v, want a permanent error about the certificate", err)
	}
}

// connectProxy is a forward proxy that only knows CONNECT.
type connectProxy struct {
	url    *url.URL
	server *httptest.Server
	tunnel sync.WaitGroup
	count  atomic.Int64
}

func newConnectProxy(t *testing.T) *connectProxy {
	p := &connectProxy{}
	p.server = httptest.NewServer(p)
	u, err := url.Parse(p.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.url = u
	return p
}

func (p *connectProxy) used() bool { return p.count.Load() >= 2 }

func (p *connectProxy) close() {
	p.server.Close()
	p.tunnel.Wait()
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	to, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.count.Add(1)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	// Each way ends with either connection.
	p.tunnel.Go(func() { pipe(to, rw.Reader, conn) })
	p.tunnel.Go(func() { pipe(conn, bufio.NewReader(to), to) })
}

func pipe(to net.Conn, from *bufio.Reader, of net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = of.Close()
}

// recorder keeps what a hub's connections send.
type recorder struct {
	net.Listener
	mu   sync.Mutex
	sent bytes.Buffer
}

func (r *recorder) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return recordedConn{c, r}, nil
}

type recordedConn struct {
	net.Conn
	r *recorder
}

func (c recordedConn) Write(p []byte) (int, error) {
	c.r.mu.Lock()
	c.r.sent.Write(p)
	c.r.mu.Unlock()
	return c.Conn.Write(p)
}

// The link has a TLS of its own over an http URL, and none over an https one, whose TLS a proxy may end.
func TestTLSOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		https bool
		clear bool // what the hub's own connection shows
	}{{"http", false, false}, {"https that a proxy ends", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{})
			s := httptest.NewUnstartedServer(hub)
			wire := &recorder{Listener: s.Listener}
			s.Listener = wire
			s.Start()
			defer s.Close()
			defer hub.Close()
			to, opt := s.URL, link.Options{}
			if c.https {
				inner, err := url.Parse(s.URL)
				if err != nil {
					t.Fatal(err)
				}
				front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(inner))
				defer front.Close()
				to, opt.RootCAs = front.URL, pool(front)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			agent, err := link.Dial(ctx, link.Target{URL: to}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, opt)
			if err != nil {
				t.Fatal(err)
			}
			defer agent.Close()
			backend, err := hub.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			bound(t, agent)
			bound(t, backend)
			o, a := stream(t, backend, agent)
			const marker = "a marker that is long enough"
			if _, err := io.WriteString(o, marker); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(a, make([]byte, len(marker))); err != nil {
				t.Fatal(err)
			}
			wire.mu.Lock()
			defer wire.mu.Unlock()
			if clear := strings.Contains(wire.sent.String(), marker); clear != c.clear {
				t.Errorf("in the clear behind the URL's TLS: %t", clear)
			}
		})
	}
}
