package link

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// Whatever a dialler says in the handshake, it is over when its bytes are, and without the secret there is no link.
func FuzzHandshake(f *testing.F) {
	message := func(b []byte) []byte {
		var w bytes.Buffer
		_ = writeMessage(&w, b)
		return w.Bytes()
	}
	open := message(opening{nonce: [nonceSize]byte{1}, id: "run-1"}.marshal())
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff})
	f.Add(open)
	f.Add(append(bytes.Clone(open), message(claim{fresh: true, epoch: 1, hello: []byte("{}")}.marshal())...))
	f.Add(append(bytes.Clone(open), message(claim{epoch: 1 << 63, received: 1 << 63, hello: []byte("[")}.marshal())...))
	f.Add(append(bytes.Clone(open), message(make([]byte, maxHandshake))...))
	h := NewHub(Backend, func(id string) ([]byte, bool) { return goodSecret, id == "run-1" }, Options{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var answers bytes.Buffer
		c := foreign(t, nil)
		c.bytes = struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(b), &answers}
		if err := h.handshake(c, false); err == nil || h.Stats().Links != 0 {
			t.Errorf("a link without a proof: %v", err)
		}
		if answers.Len() > 2*(2+maxHandshake) {
			t.Errorf("%d bytes of answer", answers.Len())
		}
	})
}

// Whatever a peer that has proved itself sends above the frames, the streams' layer ends or goes on and leaves nothing.
func FuzzStreams(f *testing.F) {
	f.Add([]byte("garbage"))
	open, end := []byte{1, 0, 0, 0, 1, 0, 0, 0, 0}, []byte{4, 0, 0, 0, 1, 0, 0, 0, 0}
	data := []byte{2, 0, 0, 0, 1, 0, 0, 0, 2, 'h', 'i'}
	window := []byte{3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}
	reset := []byte{5, 0, 0, 0, 1, 0, 0, 0, 0}
	f.Add(open)
	f.Add(bytes.Join([][]byte{open, data, data, end}, nil))
	f.Add(bytes.Join([][]byte{open, window, window}, nil)) // which overflow
	f.Add(bytes.Join([][]byte{open, reset, data, end, window}, nil))
	f.Add(bytes.Join([][]byte{open, end, data}, nil))
	f.Add(bytes.Join([][]byte{open, end, end}, nil))
	f.Add(bytes.Join([][]byte{open, open}, nil))
	f.Add(data)                                                                                     // for nobody
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 0})                                                        // by the wrong end
	f.Add(append([]byte{2, 0, 0, 0, 1, 0, 2, 0, 64}, make([]byte, maxPiece)...))                    // the largest piece, without its stream
	f.Add(append(bytes.Clone(open), bytes.Repeat([]byte{2, 0, 0, 0, 1, 0, 0, 0, 1, 'x'}, 1000)...)) // byte by byte
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := &windowBudget{limit: 1 << 20}
		l := newLink(Backend, "run-1", token{}, Hello{}, Options{MaxStreams: 8}.withDefaults(Backend), false, budget)
		if err := l.r.attach(foreign(t, framed(b)), 0); err != nil {
			t.Fatal(err)
		}
		var serve sync.WaitGroup
		serve.Go(func() {
			for {
				s, err := l.Accept()
				if err != nil {
					return
				}
				serve.Go(func() {
					_, _ = io.Copy(s, io.LimitReader(s, 1<<20))
					_ = s.Close()
				})
			}
		})
		select {
		case <-l.r.cut: // everything has been read
		case <-l.Done():
		case <-time.After(10 * time.Second):
			t.Error("it hangs")
		}
		l.r.end(ErrClosed)
		serve.Wait()
		if err := l.Err(); !errors.Is(err, ErrClosed) && !errors.Is(err, ErrBroken) && !errors.Is(err, errFrame) {
			t.Errorf("ended with %v", err)
		}
		if left := budget.now(); left != 0 {
			t.Errorf("%d bytes of the budget are used by nobody", left)
		}
	})
}

// framed is b in data frames.
func framed(b []byte) (all []byte) {
	for seq := uint64(0); len(b) > 0; {
		n := min(len(b), 1<<10)
		var head [frameHeader]byte
		frame{kind: frameData, length: uint32(n), seq: seq}.put(head[:])
		all = append(append(all, head[:]...), b[:n]...)
		seq, b = seq+uint64(n), b[n:]
	}
	return all
}
