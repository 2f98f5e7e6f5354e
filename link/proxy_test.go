package link_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// proxyWith is the URL of a proxy that wants a user and a password.
func proxyWith(p *connectProxy, user string) func(*http.Request) (*url.URL, error) {
	u := *p.url
	u.User = url.UserPassword(user, "hunter2")
	return http.ProxyURL(&u)
}

// What a proxy answers is told with its name and the hub's, and never with its password; what no retry heals ends Dial.
func TestProxyAnswers(t *testing.T) {
	for _, c := range []struct {
		name      string
		answer    string
		permanent bool
		want      string
	}{
		{"wrong password", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", true, "it answers 407 Proxy Authentication Required; its URL needs the right user and password"},
		{"a rule", "HTTP/1.1 403 Forbidden\r\n\r\n", true, "it answers 403 Forbidden"},
		{"hub away", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!", false, "it answers 502 Bad Gateway"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", false, "cannot read the answer of the proxy at "},
		{"endless headers", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), false, "cannot read the answer of the proxy at "},
		{"speaks first", "HTTP/1.1 200 OK\r\n\r\nhello", false, "says more than its answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told bytes.Buffer
			var mu sync.Mutex
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			defer served.Wait()
			defer l.Close()
			asked, again := make(chan string, 1), make(chan struct{}, 2)
			served.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					served.Go(func() {
						defer conn.Close()
						b := make([]byte, 4096)
						n, _ := conn.Read(b)
						select {
						case asked <- string(b[:n]):
						default:
						}
						select {
						case again <- struct{}{}:
						default:
						}
						_, _ = io.WriteString(conn, c.answer)
					})
				}
			})
			proxy := &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("me", "hunter2")}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			go func() { // ends with Dial, which has read an answer once it asks again
				for n := 0; n < 2; n++ {
					select {
					case <-again:
					case <-ctx.Done():
						return
					}
				}
				cancel()
			}()
			_, err = link.Dial(ctx, link.Target{URL: "http://hub.example:9100/agent"}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, link.Options{
				Proxy: http.ProxyURL(proxy), MaxPause: 20 * time.Millisecond,
				Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &told}, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			if link.Permanent(err) != c.permanent || !strings.Contains(fmt.Sprint(err), c.want) || !strings.Contains(err.Error(), proxy.Host) {
				t.Errorf("Dial = %v, want %q, permanent %t", err, c.want, c.permanent)
			}
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(err.Error()+told.String(), "hunter2") {
				t.Errorf("the password is told: %v\n%s", err, &told)
			}
			var ask string
			select {
			case ask = <-asked:
			default:
			}
			if want := "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("me:hunter2")); !strings.HasPrefix(ask, "CONNECT hub.example:9100 HTTP/1.1\r\n") || !strings.Contains(ask, want) {
				t.Errorf("the proxy was asked %q", ask)
			}
		})
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// Settings that no retry heals are refused at once and do not show the password.
func TestProxySettings(t *testing.T) {
	for _, c := range []struct {
		name  string
		proxy func(*http.Request) (*url.URL, error)
		want  string
	}{
		{"malformed", func(*http.Request) (*url.URL, error) { return nil, errors.New("invalid proxy address me:hunter2@") }, "the URL of the proxy cannot be parsed"},
		{"another scheme", http.ProxyURL(&url.URL{Scheme: "socks5", Host: "p:1", User: url.UserPassword("me", "hunter2")}), `cannot use the proxy at p:1: its scheme is "socks5"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := link.Dial(ctx, link.Target{URL: "http://hub.example/"}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, link.Options{Proxy: c.proxy})
			if !link.Permanent(err) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Dial = %v, want %q", err, c.want)
			}
		})
	}
}

// A proxy that is silent holds nobody beyond the time for one connection, and a Dial that is given up not even that.
func TestSilentProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	_, err = link.Dial(ctx, link.Target{URL: "http://hub.example/"}, link.Identity{Role: link.Agent, ID: runID, Secret: secret}, link.Options{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()}), ConnectTimeout: 2 * time.Minute,
	})
	if !errors.Is(err, context.Canceled) || time.Since(begin) > time.Minute {
		t.Errorf("Dial = %v after %v", err, time.Since(begin))
	}
}

// An https proxy is verified, and carries an https link, whose own certificate is verified inside.
func TestSecureProxy(t *testing.T) {
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return secret, true }, link.Options{})
	defer hub.Close()
	s := httptest.NewTLSServer(hub)
	defer s.Close()
	p := &connectProxy{}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.server.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	p.server.StartTLS()
	defer p.close()
	var err error
	if p.url, err = url.Parse(p.server.URL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id := link.Identity{Role: link.Agent, ID: runID, Secret: secret}
	// Both servers have httptest's certificate.
	l, err := link.Dial(ctx, link.Target{URL: s.URL}, id, link.Options{RootCAs: pool(s), Proxy: proxyWith(p, "me")})
	if err != nil {
		t.Fatal(err)
	}
	if p.count.Load() != 1 {
		t.Errorf("%d tunnels", p.count.Load())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := link.Dial(ctx, link.Target{URL: s.URL}, id, link.Options{Proxy: proxyWith(p, "me")}); !link.Permanent(err) || !strings.Contains(err.Error(), "cannot trust the proxy at ") {
		t.Errorf("an unknown authority: %v", err)
	}
}
