package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/system"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUsage(t *testing.T) {
	t.Setenv("SOCKERLESS_DATA_DIR", t.TempDir())
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no backend", nil, 2, "-backend is missing"},
		{"an unknown flag", []string{"-nosuch"}, 2, "flag provided but not defined: -nosuch"},
		{"an argument", []string{"-backend", "http://localhost:1", "extra"}, 2, `unexpected argument "extra"`},
		{"an address that is none", []string{"-backend", "localhost:9100"}, 2, `-backend: cannot use "localhost:9100" as the backend's address`},
		{"no address to listen on", []string{"-backend", "http://localhost:1", "-addr", ""}, 2, "-addr is empty"},
		{"a CA that is not there", []string{"-backend", "https://localhost:1", "-ca-file", "/nosuch"}, 2, "-ca-file: open /nosuch"},
		{"an address for everybody", []string{"-backend", "http://localhost:1", "-addr", "tcp://0.0.0.0:2375"}, 1, "cannot listen on tcp://0.0.0.0:2375: the Docker API has no password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			m := Main{Args: c.args, Stdout: &stdout, Stderr: &stderr}
			code := m.Run(t.Context())
			if code != c.code || !strings.Contains(stderr.String(), c.want) || strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0 {
				t.Errorf("%d, stdout %q, stderr %q", code, &stdout, &stderr)
			}
		})
	}
	for _, c := range []struct{ flag, want string }{{"--help", "-token-file"}, {"-h", "Usage:"}, {"--version", "sockerless-frontend-docker devel"}} {
		var stdout, stderr bytes.Buffer
		m := Main{Args: []string{c.flag}, Stdout: &stdout, Stderr: &stderr}
		if code := m.Run(t.Context()); code != 0 || !strings.Contains(stdout.String(), c.want) || stderr.Len() > 0 {
			t.Errorf("%s: %d, stdout %q, stderr %q", c.flag, code, &stdout, &stderr)
		}
	}
}

// locked is a log that may be read while it is written.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

// TestRun: the program starts before its backend, serves it once it is there, and leaves nothing behind.
func TestRun(t *testing.T) {
	dir, err := os.MkdirTemp("", "frontend") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("SOCKERLESS_DATA_DIR", dir)
	var l net.Listener
	for range 100 { // below the ports that others are given, so that it is free when the backend comes
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	socket := filepath.Join(dir, "docker.sock")
	args := []string{"-backend", fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port), "-addr", "unix://" + socket}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan int, 1)
	var stderr locked
	m := Main{Args: args, Stdout: io.Discard, Stderr: &stderr, Ready: func(addr string) { ready <- addr }}
	go func() { ended <- m.Run(ctx) }() // ends with stop
	select {
	case <-ready:
	case code := <-ended:
		t.Fatalf("it ended with %d: %s", code, &stderr)
	}
	get := func(path string) (int, string) {
		t.Helper()
		tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("http://docker" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, body := get("/_ping"); status != 200 || body != "OK" {
		t.Errorf("ping without a backend: %d %s", status, body)
	}
	if status, body := get("/info"); status != 503 || !strings.Contains(body, "cannot reach the backend at http://localhost") || !strings.Contains(body, "is it running?") {
		t.Errorf("info without a token: %d %s", status, body)
	}
	token, err := remote.CreateToken(remote.TokenFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := get("/info"); status != 503 || !strings.Contains(body, "connection refused: is it running?") {
		t.Errorf("info without a backend: %d %s", status, body)
	}
	backend := remote.NewServer(&sockerless.Backend{System: systemService{}}, remote.ServerOptions{Token: token})
	defer backend.Close()
	server := httptest.NewUnstartedServer(backend)
	server.Listener.Close()
	if server.Listener, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server.Start()
	defer server.Close()
	if status, body := get("/info"); status != 200 || !strings.Contains(body, `"Name":"here"`) {
		t.Errorf("info: %d %s", status, body)
	}

	second := Main{Args: args, Stdout: io.Discard, Stderr: io.Discard}
	if code := second.Run(t.Context()); code != 1 {
		t.Errorf("a second one on the same socket: %d", code)
	}
	stop()
	select {
	case code := <-ended:
		if code != 0 {
			t.Errorf("it ended with %d: %s", code, &stderr)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) && runtime.GOOS != "windows" {
		t.Errorf("the socket is left behind: %v", err)
	}
}

type systemService struct{ sockerless.SystemService }

func (systemService) Info(context.Context) (*system.Info, error) {
	return &system.Info{Name: "here"}, nil
}
