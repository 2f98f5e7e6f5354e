package link

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Stream is one stream of a link: a net.Conn whose two ways close apart. It ends with Close, Reset, or its link.
type Stream struct {
	m        *mux
	id       uint32
	accepted bool // opened by the peer

	reading sync.Mutex // one reader
	writing sync.Mutex // one writer: the pieces of two do not mix, and the end is behind the data

	// The link's lock guards the rest.

	readable      sync.Cond
	in            []*segment // what has come and was not read; the first is a reader's own between head and took
	window        window
	readDeadline  time.Time
	writable      sync.Cond
	credit        int // how much the peer takes
	writeDeadline time.Time

	endHeard bool  // the peer sends no more
	endSaid  bool  // nor does this end
	err      error // why the stream has ended but for that: ErrReset, or the link's end
	closed   bool  // by Close or Reset
	closedAt time.Time
	dropped  int // bytes that have come since
}

// Read reads what has come. It returns io.EOF after the peer's CloseWrite or Close, ErrReset after its Reset, os.ErrDeadlineExceeded
// after the read deadline, net.ErrClosed after Close, and the link's Err after its end.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	b, err := s.head()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	s.took(n)
	return n, nil
}

// WriteTo copies the stream into w, as the messages come.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	total := int64(0)
	for {
		b, err := s.head()
		if err == io.EOF { //nolint:errorlint // head returns it as it is
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		s.took(n)
		total += int64(n)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// head waits until something has come and returns the first of it, which stays as it is until took. s.reading is held.
func (s *Stream) head() ([]byte, error) {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	for {
		switch {
		case s.closed:
			return nil, net.ErrClosed
		case expired(s.readDeadline):
			return nil, os.ErrDeadlineExceeded
		case len(s.in) > 0:
			return s.in[0].payload(), nil
		case s.endHeard && s.err != ErrReset: //nolint:errorlint // it is set as it is
			return nil, io.EOF
		case s.err != nil:
			return nil, s.err
		}
		s.await(&s.readable, s.readDeadline)
	}
}

// took counts n bytes of the head as read. s.reading is held.
func (s *Stream) took(n int) {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	if len(s.in) == 0 {
		return // the stream was closed or reset in the meantime
	}
	first := s.in[0]
	if first.skip += n; first.skip == first.n {
		s.in = slices.Delete(s.in, 0, 1)
		first.free()
	}
	s.settle()
	s.tell(n)
}

// settle gives the window's growth back once nothing comes any more and nothing is left to read: unread data cost the memory that
// the budget bounds, whether or not the peer has closed its end behind them. The link's lock is held.
func (s *Stream) settle() {
	if len(s.in) == 0 && (s.endHeard || s.m.streams[s.id] != s) {
		s.window.end()
	}
}

// deliver takes what the peer has sent. The link's lock is held.
func (s *Stream) deliver(seg *segment) {
	// A message of some bytes must not cost a buffer of its own: the window counts only the bytes.
	if n := len(s.in); n > 0 && seg.n <= segmentSmall && s.in[n-1].room() >= seg.n {
		s.in[n-1].append(seg.payload())
		seg.free()
		return
	}
	s.in = append(s.in, seg)
	s.readable.Signal()
}

// tell counts n bytes as read or dropped, and tells the peer if it may send more. The link's lock is held.
func (s *Stream) tell(n int) {
	if s.endHeard {
		return
	}
	if more := s.window.took(n, s.m.r.roundTrip()); more > 0 {
		s.m.r.measure()
		s.m.say(messageWindow, s.id, more)
	}
}

// Write writes p. While the peer does not read, or the link is cut, it waits until the write deadline; how much of p was taken
// by then is returned with the error. While it is inside a carrier that has just got stuck, neither a deadline that is set then
// nor Close ends it, but that carrier's end does: see Options.KeepAlive.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	total := 0
	for {
		n, err := s.send(p[total:])
		total += n
		if err != nil || total == len(p) {
			return total, err
		}
	}
}

// send sends as much of p as one message takes. s.writing is held.
func (s *Stream) send(p []byte) (int, error) {
	r := s.m.r
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.leave(&s.writable)
	for {
		switch {
		case s.closed || s.endSaid:
			return 0, net.ErrClosed
		case s.err != nil:
			return 0, s.err
		case expired(s.writeDeadline):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case s.credit == 0:
		case !r.room(len(p)):
			r.queue(&s.writable)
		default:
			n := min(piece(len(p)), s.credit)
			s.credit -= n
			head := message{kind: messageData, stream: s.id, value: uint32(n)}.bytes()
			r.add(head[:], p[:n])
			if s.writeDeadline.IsZero() {
				r.push()
			} else {
				r.kick()
			}
			return n, nil
		}
		s.await(&s.writable, s.writeDeadline)
	}
}

// ReadFrom copies r into the stream in pieces that suit the link.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, *b)
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// CloseWrite ends this end's data, after a Write in progress: the peer reads io.EOF after it. Reading goes on.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.err != nil:
		return s.err
	}
	s.end()
	return nil
}

// end ends this end's data. The link's lock is held.
func (s *Stream) end() {
	if s.endSaid || s.err != nil {
		return
	}
	s.endSaid = true
	s.m.say(messageEnd, s.id, 0)
	if s.endHeard {
		s.m.remove(s)
	}
}

// Close ends both ways: what was written still arrives, what the peer sends is discarded, and a Read or Write in progress
// returns net.ErrClosed. A peer that goes on sending gets a reset after a second. It does not wait.
func (s *Stream) Close() error {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	if s.closed {
		return nil
	}
	s.end()
	unread := 0
	for _, seg := range s.in {
		unread += seg.n - seg.skip
	}
	if s.shut() {
		s.m.linger(s)
		s.tell(unread)
	}
	return nil
}

// Reset ends both ways at once, what was written but not read included; the peer gets ErrReset. It does not wait.
func (s *Stream) Reset() error {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	if !s.closed && s.shut() {
		s.m.reset(s)
	}
	return nil
}

// shut makes this end closed and wakes its reader and writer. It reports whether the peer still has its end open.
// The link's lock is held.
func (s *Stream) shut() bool {
	s.closed, s.closedAt = true, time.Now()
	s.in = nil // a reader may be at them: they are not used again
	s.settle()
	s.readable.Broadcast()
	s.writable.Broadcast()
	if s.m.streams[s.id] == s {
		return true
	}
	s.m.forget(s)
	return false
}

// fail ends the stream for both its users. The link's lock is held.
func (s *Stream) fail(err error) {
	s.err = err
	if err == ErrReset { //nolint:errorlint // as it is set
		s.in = nil // as in shut
	}
	s.readable.Broadcast()
	s.writable.Broadcast()
}

// Broken reports whether the peer has reset the stream or the link has ended. An end that has read io.EOF and has nothing to
// write learns of it in no other way.
func (s *Stream) Broken() bool {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	return s.closed || s.err != nil || s.m.r.err != nil
}

// await waits for c until the deadline. The link's lock is held.
func (s *Stream) await(c *sync.Cond, deadline time.Time) {
	if !deadline.IsZero() {
		late := time.AfterFunc(time.Until(deadline), func() {
			c.L.Lock() // not between the look at the clock and the wait
			defer c.L.Unlock()
			c.Broadcast()
		})
		defer late.Stop()
	}
	c.Wait()
}

// expired reports whether a deadline has passed.
func expired(deadline time.Time) bool { return !deadline.IsZero() && !deadline.After(time.Now()) }

// LocalAddr is this end's name on the link.
func (s *Stream) LocalAddr() net.Addr { return s.m.r.local }

// RemoteAddr is the peer's name on the link.
func (s *Stream) RemoteAddr() net.Addr { return s.m.r.remote }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read stops waiting; zero is never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.readDeadline = t
	s.readable.Broadcast()
	return nil
}

// SetWriteDeadline sets when Write stops waiting; zero is never.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.m.r.mu.Lock()
	defer s.m.r.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.writeDeadline = t
	s.writable.Broadcast()
	return nil
}

var (
	_ net.Conn      = (*Stream)(nil)
	_ io.ReaderFrom = (*Stream)(nil)
	_ io.WriterTo   = (*Stream)(nil)
)
