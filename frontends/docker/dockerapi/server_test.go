package dockerapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"

	"github.com/sockerless/sockerless"
)

// told is a backend whose information is as long as it is told to be.
type told struct {
	sockerless.SystemService
	name string
}

func (t told) Info(context.Context) (*system.Info, error) { return &system.Info{Name: t.name}, nil }

func (told) Auth(context.Context, registry.AuthConfig) (*registry.AuthResponse, error) {
	return &registry.AuthResponse{Status: "Login Succeeded"}, nil
}

// impatient serves told with this patience, and returns how to connect and what tells that a request has ended.
func impatient(t *testing.T, p patience, name string) (dial func() net.Conn, ended <-chan struct{}) {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(&sockerless.Backend{System: told{name: name}}, Options{})
	a.patience = p
	done := make(chan struct{}, 10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		a.ServeHTTP(w, r)
	})
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- serve(ctx, l, h, nil, p) }() // ends with end
	t.Cleanup(func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return func() net.Conn {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		// A server that waits for ever fails the test, and does not hang it.
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return conn
	}, done
}

const short = 100 * time.Millisecond

func send(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// closed wants the server to hang up; what it says before is returned.
func closed(t *testing.T, conn net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the server does not hang up; so far %q", b)
	}
	return string(b)
}

func TestSlowClients(t *testing.T) {
	usually := patience{header: time.Minute, idle: time.Minute, body: time.Minute, answer: time.Minute}
	t.Run("headers", func(t *testing.T) {
		p := usually
		p.header = short
		dial, _ := impatient(t, p, "x")
		conn := dial()
		send(t, conn, "GET /info HTTP/1.1\r\nHost: doc")
		if got := closed(t, conn); strings.Contains(got, "200 OK") {
			t.Errorf("half a request is answered: %s", got)
		}
	})
	t.Run("between requests", func(t *testing.T) {
		p := usually
		p.idle = short
		dial, _ := impatient(t, p, "x")
		conn := dial()
		send(t, conn, "GET /info HTTP/1.1\r\nHost: docker\r\n\r\n")
		if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
			t.Errorf("the request before is answered with %s", got)
		}
	})
	t.Run("a body", func(t *testing.T) {
		p := usually
		p.body = short
		dial, _ := impatient(t, p, "x")
		conn := dial()
		send(t, conn, "POST /auth HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
		if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, "cannot read the request's body") {
			t.Errorf("half a body is answered with %s", got)
		}
	})
	t.Run("a body that nobody asked for", func(t *testing.T) {
		p := usually
		p.body = short
		dial, _ := impatient(t, p, "x")
		conn := dial()
		send(t, conn, "POST /nonsense HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000\r\n\r\n{")
		if got := closed(t, conn); !strings.HasPrefix(got, "HTTP/1.1 404") {
			t.Errorf("half a body is answered with %s", got)
		}
	})
	t.Run("an answer that nobody reads", func(t *testing.T) {
		p := usually
		p.answer = short
		dial, ended := impatient(t, p, strings.Repeat("x", 64<<20))
		conn := dial()
		send(t, conn, "GET /info HTTP/1.1\r\nHost: docker\r\n\r\n")
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("the request goes on")
		}
		if got := closed(t, conn); len(got) >= 64<<20 {
			t.Error("it was all answered")
		}
	})
	t.Run("a connection that is used again later", func(t *testing.T) {
		t.Parallel()
		p := usually
		p.answer, p.body = 5*time.Second, 5*time.Second // not short: this client is not slow, and its machine may be
		dial, _ := impatient(t, p, strings.Repeat("x", 1<<20))
		conn := dial()
		r := bufio.NewReader(conn)
		for round := range 2 {
			if round > 0 {
				time.Sleep(6 * time.Second)
			}
			send(t, conn, "POST /auth HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			send(t, conn, "GET /info HTTP/1.1\r\nHost: docker\r\n\r\n")
			for range 2 {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Fatal(resp.Status, err)
				}
				resp.Body.Close()
			}
		}
	})
}
