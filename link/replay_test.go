package link

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/iotest"
)

// receiver is the peer of a replay: it takes frames in order, perhaps half of one, and nothing else.
type receiver struct {
	t   *testing.T
	got []byte
}

// take delivers the first n bytes of the frame.
func (r *receiver) take(b []byte, n int) {
	r.t.Helper()
	f, err := parseFrame(b)
	if err != nil {
		r.t.Fatal(err)
	}
	if f.seq != uint64(len(r.got)) || int(f.length) != len(b)-frameHeader {
		r.t.Fatalf("frame of %d bytes from byte %d, want from %d", f.length, f.seq, len(r.got))
	}
	r.got = append(r.got, b[frameHeader:][:min(n, int(f.length))]...)
}

// Whatever is appended arrives once, in order, over any number of carriers that break anywhere.
func TestReplay(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var q replay
		peer := &receiver{t: t}
		var all []byte
		for range 200 {
			switch rng.IntN(6) {
			case 0, 1: // append, now and then a lot
				p := make([]byte, 1+rng.IntN(3000))
				if rng.IntN(10) == 0 {
					p = make([]byte, 1+rng.IntN(200_000))
				}
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				head := p[:rng.IntN(min(len(p), messageHeader)+1)]
				q.add(head, p[len(head):])
				all = append(all, p...)
			case 2, 3: // a batch that arrives
				for _, b := range q.batch(nil, 0) {
					peer.take(b, len(b))
				}
				q.wroteAll()
			case 4: // an acknowledgement, perhaps of less than has come
				n := q.acked + uint64(rng.Int64N(int64(uint64(len(peer.got))-q.acked)+1))
				if err := q.ack(n); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			case 5: // a carrier that breaks inside a batch, and the next one
				frames := q.batch(nil, 0)
				whole := rng.IntN(len(frames) + 1)
				for i, b := range frames {
					if i < whole {
						peer.take(b, len(b))
					} else if i == whole {
						peer.take(b, rng.IntN(len(b)-frameHeader+1))
					}
				}
				if _, err := q.rewind(uint64(len(peer.got))); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if !bytes.Equal(peer.got, all[:len(peer.got)]) {
				t.Fatalf("seed %d: other bytes came than were sent", seed)
			}
		}
		for q.waiting() > 0 {
			for _, b := range q.batch(nil, 0) {
				peer.take(b, len(b))
			}
			q.wroteAll()
		}
		if !bytes.Equal(peer.got, all) {
			t.Fatalf("seed %d: %d of %d bytes came", seed, len(peer.got), len(all))
		}
		if err := q.ack(uint64(len(all))); err != nil || q.cost != 0 || len(q.segs) != 0 {
			t.Fatalf("seed %d: %d bytes in %d segments are kept after the last acknowledgement, %v", seed, q.cost, len(q.segs), err)
		}
	}
}

func TestReplayRefusesLies(t *testing.T) {
	var q replay
	q.add(nil, make([]byte, 100))
	if err := q.ack(1); !errors.Is(err, errFrame) {
		t.Errorf("an acknowledgement of what was not sent: %v", err)
	}
	q.batch(nil, 0)
	if err := q.ack(101); !errors.Is(err, errFrame) {
		t.Errorf("an acknowledgement of more than there is: %v", err)
	}
	// Acknowledged while the write is still reading it: kept until that is over.
	if err := q.ack(100); err != nil || len(q.segs) != 1 {
		t.Errorf("freed under the writer: %v, %d segments", err, len(q.segs))
	}
	q.wroteAll()
	if len(q.segs) != 0 {
		t.Error("not freed after the write")
	}
	if _, err := q.rewind(99); !errors.Is(err, errFrame) {
		t.Errorf("a resume before what was acknowledged: %v", err)
	}
	if _, err := q.rewind(101); !errors.Is(err, errFrame) {
		t.Errorf("a resume behind what was sent: %v", err)
	}
}

// foreign is a carrier that brings these bytes.
func foreign(t testing.TB, b []byte) *carrier {
	near, far := net.Pipe()
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return &carrier{raw: near, msgs: &messageConn{}, bytes: struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(b), io.Discard}}
}

// Whatever a peer sends, only in-order data frames are delivered, up to the first mistake.
func FuzzFrames(f *testing.F) {
	var b []byte
	say := func(m frame, payload string) {
		var h [frameHeader]byte
		m.length = uint32(len(payload))
		m.put(h[:])
		b = append(append(b, h[:]...), payload...)
	}
	say(frame{kind: frameData}, "hello")
	say(frame{kind: framePing, seq: 5}, "")
	say(frame{kind: frameData, seq: 5}, "world")
	f.Add(bytes.Clone(b))
	say(frame{kind: frameData, seq: 99}, "gap")
	f.Add(bytes.Clone(b))
	say(frame{kind: frameBye}, "")
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var want []byte
		for rest := b; len(rest) >= frameHeader; {
			m, err := parseFrame(rest)
			if err != nil || m.ack > 0 || m.kind == frameBye || m.kind == frameData && m.seq != uint64(len(want)) {
				break
			}
			rest = rest[frameHeader:]
			n := min(int(m.length), len(rest))
			want = append(want, rest[:n]...)
			rest = rest[n:]
		}
		r := newResumable(Options{}.withDefaults(Agent), Addr{}, Addr{})
		defer r.end(ErrClosed)
		if err := r.attach(foreign(t, b), 0); err != nil {
			t.Fatal(err)
		}
		go func() { // the carrier ends by itself, and then the stream, unless a bye has ended both
			select {
			case <-r.cut:
				r.end(ErrClosed)
			case <-r.done:
			}
		}()
		got, err := io.ReadAll(iotest.OneByteReader(bare{r}))
		if !errors.Is(err, ErrClosed) || !bytes.Equal(got, want) {
			t.Errorf("delivered %q, %v; want %q", got, err, want)
		}
	})
}
