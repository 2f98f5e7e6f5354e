package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// networks are what the shapes run on beside the streams of a link; package remote tests those.
var networks = []string{"unix", "tcp"}

// serve serves a table and returns a client of it.
func serve(t testing.TB, network string, table func(*http.ServeMux)) *wire.Client {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(shortDir(t), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	table(m)
	base, cancel := context.WithCancel(context.Background())
	var complaints bytes.Buffer // package log writes one at a time
	s := &http.Server{Handler: m, BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: log.New(&complaints, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	var dialer net.Dialer
	c := wire.NewClient(func(ctx context.Context) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, l.Addr().String())
		if _, ok := t.(*testing.T); ok && err == nil { // so that what stands still fails
			conn.SetDeadline(time.Now().Add(3 * time.Minute))
		}
		return conn, err
	},
		func() (http.Header, error) { return http.Header{"X-Test": {"yes"}}, nil })
	t.Cleanup(func() {
		c.Close()
		cancel()
		s.Close()
		<-done
		s.ErrorLog.SetOutput(io.Discard) // of a connection that ends later
		if complaints.Len() > 0 {
			t.Errorf("the server complained: %s", &complaints)
		}
	})
	return c
}

// shortDir is a t.TempDir whose path is not too long for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func each(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

// coded is an error of another package that has a code.
type coded struct{ error }

func (coded) ErrorCode() string { return "conflict" }

type args struct {
	Text string
	N    int
}

func hasCode(err error, code, message string) bool {
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Code == code && e.Message == message
}

func TestCall(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleCall(m, "/echo", func(_ context.Context, in args) (*args, error) { return &in, nil })
			wire.HandleCall(m, "/fail", func(_ context.Context, in string) (string, error) {
				switch in {
				case "coded":
					return "", fmt.Errorf("while testing: %w", coded{errors.New("taken")})
				case "huge":
					return strings.Repeat("x", wire.MaxMessage), nil
				case "cannot marshal":
					return "", fmt.Errorf("x")
				}
				return "", errors.New("plain")
			})
		})
		want := args{strings.Repeat("äöü\x00", 100000), -7}
		var got args
		if err := c.Call(t.Context(), "/echo", want, &got); err != nil || got != want {
			t.Errorf("%d bytes, %v", len(got.Text), err)
		}
		if err := c.Call(t.Context(), "/echo", want, nil); err != nil {
			t.Errorf("without an answer: %v", err)
		}
		got = args{}
		if err := c.Call(t.Context(), "/echo", nil, &got); err != nil || got != (args{}) {
			t.Errorf("without arguments: %v, %v", got, err)
		}
		if err := c.Call(t.Context(), "/fail", "coded", nil); !hasCode(err, "conflict", "while testing: taken") {
			t.Errorf("a code: %#v", err)
		}
		if err := c.Call(t.Context(), "/fail", "", nil); !hasCode(err, "internal", "plain") {
			t.Errorf("no code: %#v", err)
		}
		if err := c.Call(t.Context(), "/fail", "huge", nil); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("a huge answer: %v", err)
		}
		if err := c.Call(t.Context(), "/echo", 3, nil); !hasCode(err, "invalid", "cannot read the arguments of /echo: json: cannot unmarshal number into Go value of type wire_test.args") {
			t.Errorf("wrong arguments: %v", err)
		}
		if err := c.Call(t.Context(), "/nosuch", nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("no such route: %v", err)
		}
	})
}

func TestHeader(t *testing.T) {
	var broken atomic.Bool
	c := wire.NewClient(func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") },
		func() (http.Header, error) {
			if broken.Load() {
				return nil, errors.New("no token")
			}
			return nil, nil
		})
	defer c.Close()
	if err := c.Call(t.Context(), "/x", nil, nil); err == nil || err.Error() != "nobody there" {
		t.Errorf("%v", err)
	}
	broken.Store(true)
	if err := c.Call(t.Context(), "/x", nil, nil); err == nil || err.Error() != "no token" {
		t.Errorf("%v", err)
	}
	if _, err := c.Session(t.Context(), "/x", nil); err == nil {
		t.Error("a session without a connection")
	}
}

// TestUpload: bytes go with the arguments, and a refusal that comes before they are read is heard.
func TestUpload(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleUpload(m, "/count", func(_ context.Context, in args, body io.Reader) (int64, error) {
				if in.Text == "refuse" {
					return 0, coded{errors.New("no room")}
				}
				n, err := io.Copy(io.Discard, body)
				return n + int64(in.N), err
			})
		})
		var n int64
		if err := c.Upload(t.Context(), "/count", args{N: 1}, io.LimitReader(zeros{}, 20<<20), &n); err != nil || n != 20<<20+1 {
			t.Errorf("%d, %v", n, err)
		}
		for i := range 20 {
			err := c.Upload(t.Context(), "/count", args{Text: "refuse"}, io.LimitReader(zeros{}, 20<<20), &n)
			if !hasCode(err, "conflict", "no room") {
				t.Fatalf("refusal %d: %v", i, err)
			}
		}
		err := c.Upload(t.Context(), "/count", args{}, io.MultiReader(strings.NewReader("some"), broken{}), &n)
		if err == nil || !strings.Contains(err.Error(), "on fire") {
			t.Errorf("a body that breaks: %v", err)
		}
		if err := c.Upload(t.Context(), "/count", args{Text: strings.Repeat("x", 600<<10)}, zeros{}, &n); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("too many arguments: %v", err)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is on fire") }

type closing struct {
	io.Reader
	closed *atomic.Int32
}

func (c closing) Close() error { c.closed.Add(1); return nil }

func TestDownload(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		var closed atomic.Int32
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleDownload(m, "/get", func(_ context.Context, in string) (args, wire.Body, error) {
				r := io.LimitReader(zeros{}, 10<<20)
				switch in {
				case "refuse":
					return args{}, nil, coded{errors.New("not now")}
				case "break":
					r = io.MultiReader(r, broken{})
				case "code":
					r = io.MultiReader(r, failing{coded{errors.New("gone meanwhile")}})
				case "cut":
					r = io.MultiReader(r, panicking{})
				}
				return args{in, 5}, wire.NewBody(closing{r, &closed}), nil
			})
		})
		for _, x := range []struct {
			in   string
			want func(error) bool
		}{
			{"whole", func(err error) bool { return err == nil }},
			{"break", func(err error) bool { return hasCode(err, "internal", "the disk is on fire") }},
			{"code", func(err error) bool { return hasCode(err, "conflict", "gone meanwhile") }},
			{"cut", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) || err != nil && network == "tcp" }},
		} {
			var got args
			body, err := c.Download(t.Context(), "/get", x.in, &got)
			if err != nil || got != (args{x.in, 5}) {
				t.Fatalf("%s: %v, %v", x.in, got, err)
			}
			n, err := io.Copy(io.Discard, body)
			if !x.want(err) || err == nil && n != 10<<20 {
				t.Errorf("%s: %d bytes, %v", x.in, n, err)
			}
			body.Close()
		}
		if closed.Load() != 4 {
			t.Errorf("%d readers of 4 were closed", closed.Load())
		}
		if _, err := c.Download(t.Context(), "/get", "refuse", nil); !hasCode(err, "conflict", "not now") {
			t.Errorf("a refusal: %v", err)
		}
		body, err := c.Download(t.Context(), "/get", "left", nil)
		if err != nil {
			t.Fatal(err)
		}
		body.Close() // without having read it
		for deadline := time.Now().Add(time.Minute); closed.Load() != 5; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the reader of a client that has left is not closed")
			}
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic(http.ErrAbortHandler) }

// TestOneConnection: calls, lists and feeds that have ended leave their connection to the next one.
func TestOneConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := http.NewServeMux()
	count := func(_ context.Context, n int) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := 0; i < n && yield(i, nil); i++ {
			}
		}
	}
	wire.HandleCall(m, "/call", func(_ context.Context, n int) (int, error) { return n, nil })
	wire.HandleList(m, "/list", count)
	wire.HandleFeed(m, "/feed", func(ctx context.Context, n int, _ io.Reader) iter.Seq2[int, error] { return count(ctx, n) })
	s := &http.Server{Handler: m}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	var dials atomic.Int32
	var dialer net.Dialer
	c := wire.NewClient(func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return dialer.DialContext(ctx, "tcp", l.Addr().String())
	}, nil)
	defer c.Close()
	for _, n := range []int{0, 1, 100, 100000} {
		var got int
		if err := c.Call(t.Context(), "/call", n, &got); err != nil || got != n {
			t.Errorf("%d, %v", got, err)
		}
		for _, path := range []string{"/list", "/feed"} {
			got := 0
			for _, err := range wire.Feed[int](t.Context(), c, path, n, nil) {
				if err != nil {
					t.Fatal(err)
				}
				got++
			}
			if got != n {
				t.Errorf("%s: %d of %d", path, got, n)
			}
		}
	}
	// net/http gives a connection up when a busy machine keeps it from seeing the request's end for 50 ms.
	if n := dials.Load(); n > 3 {
		t.Errorf("%d connections were made for 12 requests", n)
	}
}

func TestRefuse(t *testing.T) {
	c := serve(t, "tcp", func(m *http.ServeMux) {
		m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Test") != "yes" {
				t.Error("the header did not come along")
			}
			wire.Refuse(w, http.StatusUnauthorized, wire.Errorf("forbidden", "who are %s?", "you"))
		})
		m.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, "<html>a proxy</html>")
		})
	})
	if err := c.Call(t.Context(), "/x", nil, nil); !hasCode(err, "forbidden", "who are you?") {
		t.Errorf("call: %v", err)
	}
	yields := 0
	for _, err := range wire.Feed[int](t.Context(), c, "/x", nil, nil) {
		if yields++; !hasCode(err, "forbidden", "who are you?") {
			t.Errorf("feed: %v", err)
		}
	}
	if yields != 1 {
		t.Errorf("the feed yields %d times", yields)
	}
	if _, err := c.Session(t.Context(), "/x", nil); !hasCode(err, "forbidden", "who are you?") {
		t.Errorf("session: %v", err)
	}
	if err := c.Call(t.Context(), "/html", nil, nil); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
		t.Errorf("a proxy: %v", err)
	}
	if _, err := c.Session(t.Context(), "/html", nil); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
		t.Errorf("a proxy, session: %v", err)
	}
}

func TestCancelledCall(t *testing.T) {
	entered, left := make(chan bool), make(chan error, 1)
	c := serve(t, "tcp", func(m *http.ServeMux) {
		wire.HandleCall(m, "/hang", func(ctx context.Context, _ struct{}) (int, error) {
			entered <- true
			<-ctx.Done()
			left <- ctx.Err()
			return 0, nil
		})
	})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-entered; cancel(cause) }()
	if err := c.Call(ctx, "/hang", nil, nil); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Error("the other end goes on")
	}
}

func BenchmarkCall(b *testing.B) {
	for _, network := range networks {
		b.Run(network, func(b *testing.B) {
			c := serve(b, network, func(m *http.ServeMux) {
				wire.HandleCall(m, "/echo", func(_ context.Context, in args) (args, error) { return in, nil })
			})
			in := args{strings.Repeat("x", 1000), 1}
			b.ReportAllocs()
			for b.Loop() {
				var out args
				if err := c.Call(b.Context(), "/echo", in, &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
