package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// net/http's Hijack sets a deadline in the past and clears it: nothing that has come or comes may be lost to that, nor window.
func TestReadDeadlineSetAndCleared(t *testing.T) {
	const size = 2_000_000
	for _, c := range []struct {
		name string
		end  bool // the writer has closed its end before the deadline is touched
	}{{"before the end", false}, {"after the end", true}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, link.Options{}, nil)
			agent, backend := r.link()
			o, a := stream(t, backend, agent)
			n := size
			if c.end {
				n = 250_000 // fits into the window, so that its end is here before the first read
			}
			sent := make(chan error, 1)
			go func() {
				_, err := o.Write(make([]byte, n))
				if err == nil {
					err = o.CloseWrite()
				}
				sent <- err
			}()
			if c.end {
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				time.Sleep(50 * time.Millisecond)
			}
			got := 0
			b := make([]byte, 10_000)
			for {
				_ = a.SetReadDeadline(time.Unix(1, 0))
				if n, err := a.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("read %d, %v with a deadline in the past", n, err)
				}
				_ = a.SetReadDeadline(time.Time{})
				n, err := a.Read(b)
				got += n
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("after %d of %d bytes: %v", got, n, err)
				}
			}
			if got != n {
				t.Errorf("read %d of %d bytes", got, n)
			}
			if !c.end {
				if err := <-sent; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A deadline that passes while data flows must not cost window: the stream would stand still for ever.
func TestReadDeadlinesWhileDataFlows(t *testing.T) {
	const size = 8 << 20
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	o, a := stream(t, backend, agent)
	go func() {
		_, _ = o.Write(make([]byte, size))
		_ = o.CloseWrite()
	}()
	done := make(chan struct{})
	var poke sync.WaitGroup
	defer poke.Wait()
	defer close(done)
	poke.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			_ = a.SetReadDeadline(time.Now().Add(time.Duration(i%50-10) * time.Microsecond))
			runtime.Gosched()
		}
	})
	got := 0
	b := make([]byte, 64<<10)
	for late := time.Now().Add(2 * time.Minute); ; {
		n, err := a.Read(b)
		got += n
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(late) {
			t.Fatalf("after %d of %d bytes: %v", got, size, err)
		}
	}
	if got != size {
		t.Errorf("read %d of %d bytes", got, size)
	}
}

func TestDeadlines(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	o, a := stream(t, backend, agent)
	t.Run("read", func(t *testing.T) {
		begin := time.Now()
		_ = a.SetReadDeadline(begin.Add(50 * time.Millisecond))
		_, err := a.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if nerr, ok := errors.AsType[net.Error](err); !ok || !nerr.Timeout() {
			t.Errorf("%v is no timeout as package net has them", err)
		}
	})
	t.Run("a read in progress", func(t *testing.T) {
		_ = a.SetReadDeadline(time.Time{})
		time.AfterFunc(20*time.Millisecond, func() { _ = a.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		_ = a.SetReadDeadline(time.Time{})
	})
	t.Run("write", func(t *testing.T) {
		_ = o.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := o.Write(make([]byte, 32<<20)) // nobody reads
		if !errors.Is(err, os.ErrDeadlineExceeded) || n >= 32<<20 {
			t.Errorf("wrote %d, %v", n, err)
		}
		_ = o.SetWriteDeadline(time.Time{})
		go func() {
			_, _ = o.Write([]byte("end"))
			_ = o.CloseWrite()
		}()
		got, err := io.ReadAll(a)
		if err != nil || len(got) != n+3 || !bytes.HasSuffix(got, []byte("end")) {
			t.Errorf("read %d, %v; want %d", len(got), err, n+3)
		}
	})
}

func TestHalfCloseStaysHalfClosed(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	o, a := stream(t, backend, agent)
	if err := o.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("Read = %v, want EOF", err)
	}
	for i := range 5 {
		agent.Cut()
		if _, err := a.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		if _, err := io.ReadFull(o, b); err != nil || b[0] != byte(i) {
			t.Fatalf("%d: %v, %v", i, b, err)
		}
	}
	if _, err := o.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after CloseWrite = %v", err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read = %v, want EOF", err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	t.Run("what was written arrives", func(t *testing.T) {
		o, a := stream(t, backend, agent)
		_, _ = o.Write(make([]byte, 200_000))
		_ = o.Close()
		got, err := io.ReadAll(a)
		if err != nil || len(got) != 200_000 {
			t.Errorf("read %d, %v", len(got), err)
		}
	})
	t.Run("a read and a write in progress end", func(t *testing.T) {
		o, _ := stream(t, backend, agent)
		errs := make(chan error, 2)
		go func() { _, err := o.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := o.Write(make([]byte, 32<<20)); errs <- err }()
		time.Sleep(20 * time.Millisecond)
		_ = o.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		}
		for _, err := range []error{o.CloseWrite(), o.SetReadDeadline(time.Time{}), o.SetWriteDeadline(time.Time{})} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if err := o.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
	})
	t.Run("a peer that goes on writing gets a reset", func(t *testing.T) {
		o, a := stream(t, backend, agent)
		_ = o.Close()
		_ = a.SetWriteDeadline(time.Now().Add(time.Minute))
		b := make([]byte, 64<<10)
		for {
			if _, err := a.Write(b); err != nil {
				if !errors.Is(err, link.ErrReset) {
					t.Errorf("Write = %v, want ErrReset", err)
				}
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	t.Run("a peer that writes little is left in peace", func(t *testing.T) {
		o, a := stream(t, backend, agent)
		_, _ = o.Write([]byte("bye"))
		_ = o.Close()
		if _, err := a.Write([]byte("unwanted")); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(a)
		if err != nil || string(got) != "bye" {
			t.Errorf("read %q, %v", got, err)
		}
		_ = a.Close()
	})
	t.Run("reset", func(t *testing.T) {
		o, a := stream(t, backend, agent)
		_, _ = o.Write([]byte("lost"))
		_ = o.Reset()
		eventually(t, "the peer's reset", func() bool {
			_, err := a.Read(make([]byte, 10))
			return errors.Is(err, link.ErrReset)
		})
		if _, err := a.Write([]byte("x")); !errors.Is(err, link.ErrReset) {
			t.Errorf("Write = %v, want ErrReset", err)
		}
		if _, err := o.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Read = %v, want net.ErrClosed", err)
		}
	})
}

// Streams that the peer never closes cost those that come later nothing: what was written before a Close arrives.
func TestClosedStreamsMakeRoom(t *testing.T) {
	t.Parallel()
	const closing = 256
	r := newRig(t, link.Options{MaxStreams: 2 * closing}, nil)
	agent, backend := r.link()
	var first *link.Stream
	for range closing {
		o, a := stream(t, backend, agent)
		_ = o.Close()
		if first == nil {
			first = a
		}
	}
	for range 10 {
		o, a := stream(t, backend, agent)
		_, _ = o.Write(make([]byte, 100_000))
		_ = o.Close()
		eventually(t, "the oldest is reset", first.Broken)
		if n, err := io.Copy(io.Discard, a); n != 100_000 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
	}
}

// A half-closed stream whose peer resets it, or whose link ends, is found broken; one that is merely silent is not, and loses
// nothing to the question.
func TestBroken(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	o, a := stream(t, backend, agent)
	if err := o.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for range 3 {
		if a.Broken() || o.Broken() {
			t.Error("broken while it is only half-closed")
		}
		_, _ = a.Write([]byte("x"))
		b := make([]byte, 2)
		if n, err := o.Read(b); err != nil || string(b[:n]) != "x" {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
	_ = o.Reset()
	eventually(t, "the reset is seen", a.Broken)

	_, a = stream(t, backend, agent)
	if a.Broken() {
		t.Error("broken from the start")
	}
	_ = backend.Close()
	<-agent.Done()
	if !a.Broken() {
		t.Error("not broken after the link's end")
	}
}

func TestStreamLimit(t *testing.T) {
	r := newRig(t, link.Options{MaxStreams: 3}, nil)
	agent, backend := r.link()
	var open []*link.Stream
	for range 3 {
		_, a := stream(t, agent, backend)
		open = append(open, a)
	}
	// The fourth is reset behind an Accept that goes on waiting.
	type accepted struct {
		conn net.Conn
		err  error
	}
	next := make(chan accepted, 1)
	go func() {
		conn, err := backend.Accept()
		next <- accepted{conn, err}
	}()
	fourth, err := agent.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer fourth.Close()
	if _, err := fourth.Read(make([]byte, 1)); !errors.Is(err, link.ErrReset) {
		t.Fatalf("the fourth stream: %v, want ErrReset", err)
	}
	_ = open[0].Reset()
	fifth, err := agent.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer fifth.Close()
	got := <-next
	if got.err != nil {
		t.Fatal(got.err)
	}
	_ = got.conn.Close()
}

// Streams that nobody reads stall nobody else, and cost what the budget says.
func TestStall(t *testing.T) {
	const unread = 50
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	much, more := make([]byte, 8<<20), make([]byte, 1<<20)
	before := heap()
	for range unread {
		o, _ := stream(t, backend, agent)
		_ = o.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := o.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("filling a stream: %v", err)
		}
		// And its writer goes on waiting.
		_ = o.SetWriteDeadline(time.Time{})
		go func() { _, _ = o.Write(more) }() // ends when the test closes the stream
	}
	cost := int64(heap()-before) >> 20
	t.Logf("%d unread streams cost %d MiB", unread, cost)
	if cost > 64 {
		t.Errorf("%d unread streams cost %d MiB", unread, cost)
	}
	ping, pong := stream(t, backend, agent)
	go func() { _, _ = io.Copy(pong, pong) }() // ends with the stream
	var times []time.Duration
	b := make([]byte, 1)
	for range 200 {
		begin := time.Now()
		if _, err := ping.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ping, b); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	if p50 := times[len(times)/2]; p50 > time.Second {
		t.Errorf("a round trip takes %v beside unread streams", p50)
	}
	for _, way := range [][2]*link.Link{{backend, agent}, {agent, backend}} {
		o, a := stream(t, way[0], way[1])
		go func() {
			_, _ = o.Write(make([]byte, 16<<20))
			_ = o.CloseWrite()
		}()
		_ = a.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := io.Copy(io.Discard, a); err != nil || n != 16<<20 {
			t.Errorf("copied %d bytes beside unread streams, %v", n, err)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Ten thousand streams, with cuts among them, leave no goroutine, no memory of theirs and no budget behind.
func TestManyStreams(t *testing.T) {
	r := newRig(t, link.Options{}, nil)
	agent, backend := r.link()
	go func() { // ends with the link
		for {
			s, err := agent.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(s, s)
				_ = s.Close()
			}()
		}
	}()
	before := runtime.NumGoroutine()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 1250 {
				if i%200 == 100 {
					backend.Cut()
				}
				s, err := backend.Open(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = s.Write([]byte("hello"))
				if i%10 == 0 {
					_ = s.(*link.Stream).Reset()
					continue
				}
				_ = s.(*link.Stream).CloseWrite()
				if got, err := io.ReadAll(s); err != nil || string(got) != "hello" {
					t.Errorf("%q, %v", got, err)
					return
				}
				_ = s.Close()
			}
		})
	}
	wait.Wait()
	eventually(t, "all goroutines of the streams end", func() bool { return runtime.NumGoroutine() <= before+3 })
	if st := r.hub.Stats(); st.Window != 0 || st.Links != 1 || st.Handshakes != 0 {
		t.Errorf("left at the hub: %+v", st)
	}
	eventually(t, "every byte is acknowledged", func() bool { return agent.Stats().Unacked+backend.Stats().Unacked == 0 })
}
