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

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/tape"
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
		return dialer.DialContext(ctx, network, l.Addr().String())
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
		for deadline := time.Now().Add(5 * time.Second); closed.Load() != 5; time.Sleep(time.Millisecond) {
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

func TestFeed(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		ended := make(chan error, 10)
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleFeed(m, "/count", func(ctx context.Context, in args, body io.Reader) iter.Seq2[*args, error] {
				return func(yield func(*args, error) bool) {
					defer func() { ended <- ctx.Err() }()
					for i := range in.N {
						if !yield(&args{in.Text, i}, nil) {
							return
						}
					}
					switch in.Text {
					case "error":
						yield(nil, coded{errors.New("in the middle")})
					case "cut":
						panic(http.ErrAbortHandler)
					case "wait":
						<-ctx.Done()
					case "read":
						b, err := io.ReadAll(body)
						yield(&args{N: len(b)}, err)
					}
				}
			})
			wire.HandleFeed(m, "/records", func(context.Context, struct{}, io.Reader) iter.Seq2[tape.Record, error] {
				return func(yield func(tape.Record, error) bool) {
					_ = yield(tape.Record{Seq: 1, Time: time.Unix(1, 2), Stream: tape.Stderr, Partial: true, Data: []byte("x")}, nil) &&
						yield(tape.Record{Seq: 2, Time: time.Unix(3, 4), Stream: tape.Gap, Data: []byte{}}, nil)
				}
			})
		})
		collect := func(in args, body io.Reader) (n int, err error) {
			for v, e := range wire.Feed[*args](t.Context(), c, "/count", in, body) {
				if e != nil {
					return n, e
				}
				if in.Text != "read" && (v.Text != in.Text || v.N != n) {
					t.Fatalf("record %d is %v", n, v)
				}
				if in.Text == "read" {
					n = v.N
					continue
				}
				n++
			}
			return n, nil
		}
		if n, err := collect(args{"x", 10000}, nil); n != 10000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := collect(args{"none", 0}, nil); n != 0 || err != nil {
			t.Errorf("an empty one: %d, %v", n, err)
		}
		if n, err := collect(args{"error", 3}, nil); n != 3 || !hasCode(err, "conflict", "in the middle") {
			t.Errorf("an error after 3: %d, %v", n, err)
		}
		if n, err := collect(args{"error", 0}, nil); n != 0 || !hasCode(err, "conflict", "in the middle") {
			t.Errorf("an error at once: %d, %v", n, err)
		}
		if n, err := collect(args{"cut", 100}, nil); n > 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut: %d, %v", n, err)
		}
		// The answer begins before the body is read, and the body still comes whole.
		if n, err := collect(args{"read", 1}, io.LimitReader(zeros{}, 5<<20)); n != 5<<20 || err != nil {
			t.Errorf("with a body: %d, %v", n, err)
		}
		for range 6 {
			<-ended
		}
		// Leaving the loop, and the end of the caller's ctx, end it at the other end.
		for range wire.Feed[*args](t.Context(), c, "/count", args{"wait", 1}, nil) {
			break
		}
		if err := <-ended; err == nil {
			t.Error("the other end's context goes on after the loop was left")
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range wire.Feed[*args](ctx, c, "/count", args{"wait", 1}, nil) {
			last = err
			cancel()
		}
		if err := <-ended; err == nil || !errors.Is(last, context.Canceled) {
			t.Errorf("after the end of ctx: %v, and there %v", last, err)
		}
		var got []tape.Record
		for rec, err := range wire.Feed[tape.Record](t.Context(), c, "/records", struct{}{}, nil) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, rec)
		}
		want := []tape.Record{
			{Seq: 1, Time: time.Unix(1, 2), Stream: tape.Stderr, Partial: true, Data: []byte("x")},
			{Seq: 2, Time: time.Unix(3, 4), Stream: tape.Gap, Data: nil},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestFeedThatEndsBeforeItsBody: the next request is none the worse for what was not read of the last one's.
func TestFeedThatEndsBeforeItsBody(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleFeed(m, "/deaf", func(context.Context, struct{}, io.Reader) iter.Seq2[int, error] {
				return func(yield func(int, error) bool) { yield(1, nil) }
			})
		})
		for _, size := range []int64{1, 100 << 10, 300 << 10, 5 << 20} {
			for range 3 {
				n := 0
				for v, err := range wire.Feed[int](t.Context(), c, "/deaf", struct{}{}, io.LimitReader(zeros{}, size)) {
					if err != nil {
						t.Fatalf("%d bytes: %v", size, err)
					}
					n += v
				}
				if n != 1 {
					t.Errorf("%d bytes: %d records", size, n)
				}
			}
		}
	})
}

// TestList: records that are all there come whole, in order, and with the error that ends them, whatever their size.
func TestList(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		c := serve(t, network, func(m *http.ServeMux) {
			wire.HandleList(m, "/list", func(_ context.Context, in args) iter.Seq2[*args, error] {
				return func(yield func(*args, error) bool) {
					for i := range in.N {
						if !yield(&args{in.Text, i}, nil) {
							return
						}
					}
					if in.Text == "error" {
						yield(nil, coded{errors.New("at the end")})
					}
				}
			})
			wire.HandleList(m, "/large", func(_ context.Context, size int) iter.Seq2[string, error] {
				return func(yield func(string, error) bool) { _ = yield("x", nil) && yield(strings.Repeat("x", size), nil) }
			})
		})
		collect := func(in args) (n int, err error) {
			for v, e := range wire.Feed[*args](t.Context(), c, "/list", in, nil) {
				if e != nil {
					return n, e
				}
				if v.Text != in.Text || v.N != n {
					t.Fatalf("record %d is %v", n, v)
				}
				n++
			}
			return n, nil
		}
		for _, in := range []args{{"", 0}, {"x", 1}, {"x", 10000}, {strings.Repeat("x", 100<<10), 3}} {
			if n, err := collect(in); n != in.N || err != nil {
				t.Errorf("%d of %d, %v", n, in.N, err)
			}
		}
		for _, n := range []int{0, 1, 10000} {
			if got, err := collect(args{"error", n}); got != n || !hasCode(err, "conflict", "at the end") {
				t.Errorf("an error after %d: %d, %v", n, got, err)
			}
		}
		for _, size := range []int{60 << 10, 70 << 10, wire.MaxMessage - 2, wire.MaxMessage - 1} {
			n, whole := 0, size <= wire.MaxMessage-2 // and its quotes
			var last error
			for v, err := range wire.Feed[string](t.Context(), c, "/large", size, nil) {
				if n += len(v); err != nil {
					last = err
				}
			}
			if whole && (n != size+1 || last != nil) || !whole && !hasCode(last, "internal", fmt.Sprintf("cannot send a record of %d bytes: at most %d", size+2, wire.MaxMessage)) {
				t.Errorf("%d bytes of %d: %v", n, size, last)
			}
		}
	})
}

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
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// TestFeedFlushes: the first record, and one after a pause, come at once; nobody waits for a buffer to fill.
func TestFeedFlushes(t *testing.T) {
	next := make(chan bool)
	c := serve(t, "tcp", func(m *http.ServeMux) {
		wire.HandleFeed(m, "/slow", func(ctx context.Context, _ struct{}, _ io.Reader) iter.Seq2[int, error] {
			return func(yield func(int, error) bool) {
				for i := 0; ; i++ {
					if !yield(i, nil) {
						return
					}
					select {
					case <-next:
					case <-ctx.Done():
						return
					}
				}
			}
		})
	})
	n := 0
	timeout := time.AfterFunc(10*time.Second, func() { panic("a record did not come") })
	defer timeout.Stop()
	for i, err := range wire.Feed[int](t.Context(), c, "/slow", nil, nil) {
		if err != nil || i != n {
			t.Fatalf("%d, %v", i, err)
		}
		if n++; n == 5 {
			break
		}
		next <- true // only what has arrived asks for more
	}
}

// TestSlowConsumer: a consumer that does not read stops the producer rather than filling memory.
func TestSlowConsumer(t *testing.T) {
	var sent atomic.Int64
	record := strings.Repeat("x", 64<<10)
	c := serve(t, "unix", func(m *http.ServeMux) {
		wire.HandleFeed(m, "/flood", func(context.Context, struct{}, io.Reader) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for range 1024 {
					if !yield(record, nil) {
						return
					}
					sent.Add(1)
				}
			}
		})
	})
	n := 0
	for _, err := range wire.Feed[string](t.Context(), c, "/flood", nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			time.Sleep(300 * time.Millisecond)
			if got := sent.Load(); got > 256 {
				t.Errorf("%d records were sent to one that has read 1", got)
			}
		}
	}
	if n != 1024 {
		t.Errorf("%d records", n)
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
	for _, err := range wire.Feed[int](t.Context(), c, "/x", nil, nil) {
		if !hasCode(err, "forbidden", "who are you?") {
			t.Errorf("feed: %v", err)
		}
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
	entered, left := make(chan bool), make(chan error)
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
	<-left
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

func BenchmarkFeed(b *testing.B) {
	line := bytes.Repeat([]byte("x"), 100)
	c := serve(b, "unix", func(m *http.ServeMux) {
		wire.HandleFeed(m, "/records", func(_ context.Context, n int, _ io.Reader) iter.Seq2[tape.Record, error] {
			return func(yield func(tape.Record, error) bool) {
				for i := range n {
					if !yield(tape.Record{Seq: uint64(i), Stream: tape.Stdout, Data: line}, nil) {
						return
					}
				}
			}
		})
	})
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	b.ResetTimer()
	for _, err := range wire.Feed[tape.Record](b.Context(), c, "/records", b.N, nil) {
		if err != nil {
			b.Fatal(err)
		}
	}
}
