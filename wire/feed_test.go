package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

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
		end := func() (err error) {
			t.Helper()
			select {
			case err = <-ended:
			case <-time.After(time.Minute):
				t.Fatal("the other end goes on")
			}
			return err
		}
		for range 6 {
			end()
		}
		// Leaving the loop, and the end of the caller's ctx, end it at the other end.
		for range wire.Feed[*args](t.Context(), c, "/count", args{"wait", 1}, nil) {
			break
		}
		if err := end(); err == nil {
			t.Error("the other end's context goes on after the loop was left")
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range wire.Feed[*args](ctx, c, "/count", args{"wait", 1}, nil) {
			last = err
			cancel()
		}
		if err := end(); err == nil || !errors.Is(last, context.Canceled) {
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, err := range wire.Feed[int](ctx, c, "/slow", nil, nil) {
		if err != nil || i != n {
			t.Fatalf("%d, %v", i, err)
		}
		if n++; n == 5 {
			break
		}
		select {
		case next <- true: // only what has arrived asks for more
		case <-ctx.Done():
			t.Fatal("nobody waits for the question")
		}
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
