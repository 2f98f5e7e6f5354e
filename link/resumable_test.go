package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lateConn has a last piece for its reader, which comes when it is released, closed or not.
type lateConn struct {
	piece   []byte
	entered chan struct{}
	release chan struct{}
}

func (c *lateConn) Read(p []byte) (int, error) {
	if len(c.piece) == 0 {
		return 0, io.EOF
	}
	close(c.entered)
	<-c.release
	n := copy(p, c.piece)
	c.piece = nil
	return n, nil
}

func (c *lateConn) Write(p []byte) (int, error) { return len(p), nil }

// bare is a resumable stream without messages.
type bare struct{ *resumable }

func (b bare) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait := sync.Cond{L: &b.mu}
	for b.queue(&wait); b.err == nil && !b.room(len(p)); {
		wait.Wait()
	}
	b.add(nil, p)
	b.leave(&wait)
	b.push()
	return len(p), b.err
}

func (b bare) Read(p []byte) (int, error) {
	if err := b.readFull(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// What a reader still gets out of a carrier that is being replaced is counted before the new one is told where to go on: else
// it would come twice.
func TestDetachWaitsForTheReader(t *testing.T) {
	late := &lateConn{piece: []byte("late"), entered: make(chan struct{}), release: make(chan struct{})}
	c := foreign(t, nil)
	c.bytes, c.left = late, 4
	r := newResumable(Options{}.withDefaults(Agent), Addr{}, Addr{})
	defer r.end(ErrClosed)
	if err := r.attach(c, 0); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() { // ends with the piece
		b := make([]byte, 4)
		_ = r.readFull(b)
		got <- b
	}()
	<-late.entered
	detached := make(chan uint64, 1)
	go func() { // ends when the reader is out
		n, _ := r.detach()
		detached <- n
	}()
	select {
	case n := <-detached:
		close(late.release)
		t.Fatalf("detached at byte %d while the reader was in the carrier", n)
	case <-time.After(50 * time.Millisecond):
	}
	close(late.release)
	if b := <-got; !bytes.Equal(b, []byte("late")) {
		t.Errorf("delivered %q", b)
	}
	if n := <-detached; n != 4 {
		t.Errorf("detached at byte %d of 4", n)
	}
}

// mute links a peer by hand that takes what comes and acknowledges nothing.
func mute(t *testing.T, h *Hub, s *httptest.Server) *Link {
	t.Helper()
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	_ = c.raw.SetDeadline(time.Time{})
	go func() { _, _ = io.Copy(io.Discard, c.bytes) }() // ends with the carrier
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A peer that takes everything and acknowledges nothing costs the replay buffer and no more.
func TestReplayIsBounded(t *testing.T) {
	const limit = 1 << 20
	h, s := newTestHub(t, Options{ReplayBuffer: limit})
	l := mute(t, h, s)
	var writers sync.WaitGroup
	var taken atomic.Int64
	var streams []net.Conn
	for range 40 { // 15 MiB of first windows
		o, err := l.Open(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		streams = append(streams, o)
	}
	for _, o := range streams {
		writers.Go(func() { // ends with the link
			for b := make([]byte, 16<<10); ; {
				n, err := o.Write(b)
				taken.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	eventually(t, func() bool { return l.Stats().Unacked > limit*3/4 })
	for before := int64(-1); before != taken.Load(); time.Sleep(300 * time.Millisecond) { // until nothing is taken any more
		before = taken.Load()
	}
	l.r.mu.Lock()
	cost, open := l.r.out.cost, len(l.mux.streams)
	l.r.mu.Unlock()
	if cost > limit+2*segmentBig {
		t.Errorf("%d bytes are kept for a replay: the limit is %d", cost, limit)
	}
	if most := int64(limit + 40*maxMessage); taken.Load() > most { // a message of each writer, at most, came behind the limit
		t.Errorf("%d bytes were taken, the bound is %d", taken.Load(), most)
	}
	// Nor is a stream opened then; one that was given up leaves nothing.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Open(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open = %v, want the context's end", err)
	}
	l.r.mu.Lock()
	if n := len(l.mux.streams); n != open {
		t.Errorf("%d streams are open, %d were", n, open)
	}
	l.r.mu.Unlock()
	l.r.end(ErrClosed)
	writers.Wait()
}

// Messages without data never wait. A peer that provokes them without end and acknowledges none has ended its link.
func TestAnswersAreBounded(t *testing.T) {
	h, s := newTestHub(t, Options{ReplayBuffer: 1 << 20, MaxStreams: 1})
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	_ = c.raw.SetDeadline(time.Now().Add(time.Minute))
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c.bytes) }() // ends with the carrier
	seq, id := uint64(0), uint32(1)
	for l.Err() == nil {
		b := make([]byte, frameHeader, frameHeader+1000*messageHeader)
		for range 1000 { // each but the first stream is refused
			head := message{kind: messageOpen, stream: id}.bytes()
			b, id = append(b, head[:]...), id+2
		}
		n := len(b) - frameHeader
		frame{kind: frameData, length: uint32(n), seq: seq}.put(b)
		seq += uint64(n)
		if c.send([][]byte{b}) != nil {
			break
		}
	}
	<-l.Done()
	if err := l.Err(); !errors.Is(err, ErrBroken) {
		t.Errorf("ended with %v, want ErrBroken", err)
	}
}

// Who is inside a carrier is let go even if the peer that reads nothing of it goes on talking.
func TestPeerThatOnlyTalks(t *testing.T) {
	h, s := newTestHub(t, Options{KeepAlive: 500 * time.Millisecond, ReplayBuffer: 64 << 20})
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	_ = c.raw.SetDeadline(time.Time{})
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.r.end(ErrClosed)
	o, err := l.Open(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var talk sync.WaitGroup
	defer talk.Wait()
	defer c.close()
	talk.Go(func() { // ends with the carrier
		window := message{kind: messageWindow, stream: 2, value: 1 << 29}.bytes()
		err := c.send([][]byte{framed(window[:])})
		for ; err == nil; time.Sleep(50 * time.Millisecond) {
			b := make([]byte, frameHeader)
			frame{kind: frameAck}.put(b)
			err = c.send([][]byte{b})
		}
	})
	wrote := make(chan error, 1)
	go func() { // ends when the carrier is cut
		_, err := o.Write(make([]byte, 32<<20))
		wrote <- err
	}()
	for before := uint64(0); before < 100_000 || before != l.Stats().BytesOut; time.Sleep(200 * time.Millisecond) { // until it is stuck
		before = l.Stats().BytesOut
	}
	_ = o.Close()
	select {
	case <-wrote:
	case <-time.After(30 * time.Second):
		t.Error("a write is held in a carrier whose peer reads nothing")
	}
}

// A stream that comes while the link ends is nobody's.
func TestOpenAsTheLinkEnds(t *testing.T) {
	open := message{kind: messageOpen, stream: 1}.bytes()
	for range 300 {
		l := newLink(Backend, "run-1", token{}, Hello{}, Options{MaxStreams: 8}.withDefaults(Backend), false, nil)
		if err := l.r.attach(foreign(t, framed(open[:])), 0); err != nil {
			t.Fatal(err)
		}
		for l.Err() == nil {
			l.r.mu.Lock()
			if l.r.received > 0 { // the receiver has the message, and perhaps not looked at it
				l.r.finish(ErrClosed)
			}
			l.r.mu.Unlock()
		}
	}
}

// A peer that has proved itself and sends what is no protocol ends its own link, at once.
func TestGarbageAfterTheProof(t *testing.T) {
	for _, c := range []struct {
		name string
		sent []byte // as payload of data frames
	}{
		{"no messages", bytes.Repeat([]byte("garbage!"), 1000)},
		{"an unknown type", []byte{9, 0, 0, 0, 1, 0, 0, 0, 0}},
		{"a stream of the hub's", []byte{1, 0, 0, 0, 2, 0, 0, 0, 0}},
		{"a stream twice", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0}},
		{"data for nobody", []byte{2, 0, 0, 0, 1, 0, 0, 0, 1, 'x'}},
		{"a window beyond all", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}},
		{"a window for nobody", []byte{3, 0, 0, 0, 2, 0, 0, 0, 1}},
		{"a window without end", append([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0}, bytes.Repeat([]byte{3, 0, 0, 0, 1, 0x30, 0, 0, 0}, 2)...)},
		{"a piece too large", append([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0, 65}, make([]byte, maxPiece+1)...)},
		{"two ends", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0}},
		{"data behind the end", []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 'x'}},
		{"more than a window", append([]byte{1, 0, 0, 0, 1, 0, 0, 0, 0}, bytes.Repeat(append([]byte{2, 0, 0, 0, 1, 0, 1, 0, 0}, make([]byte, 64<<10)...), 7)...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := newTestHub(t, Options{MaxStreams: 4})
			carrier := byHand(t, s, protocolPlain)
			claimByHand(t, carrier, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
			l, err := h.Accept(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			seq := uint64(0)
			for rest := c.sent; len(rest) > 0; {
				n := min(len(rest), 32<<10)
				b := make([]byte, frameHeader+n)
				frame{kind: frameData, length: uint32(n), seq: seq}.put(b)
				copy(b[frameHeader:], rest)
				if err := carrier.send([][]byte{b}); err != nil {
					break
				}
				seq, rest = seq+uint64(n), rest[n:]
			}
			select {
			case <-l.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the link goes on")
			}
			if err := l.Err(); !errors.Is(err, ErrBroken) {
				t.Errorf("Err = %v, want ErrBroken", err)
			}
			if c, err := l.Accept(); err == nil { // a stream that came before the mistake
				_, err := io.Copy(io.Discard, c)
				if !errors.Is(err, ErrBroken) {
					t.Errorf("Read = %v, want ErrBroken", err)
				}
				_ = c.Close()
			} else if !errors.Is(err, ErrBroken) {
				t.Errorf("Accept = %v, want ErrBroken", err)
			}
			_ = carrier.raw.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.Copy(io.Discard, carrier.raw); err != nil {
				if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
					t.Error("its carrier was left open")
				}
			}
		})
	}
}
