package link

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

// copyBuffer is what one read or write of a bulk copy carries: one yamux message.
const copyBuffer = maxPiece

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

const (
	// A peer that keeps sending this much for this long after Close gets a reset: nobody will ever read it.
	lingerBytes = firstWindow
	lingerTime  = time.Second

	// maxClosing is how many closed streams of a link wait for the peer to close its end too.
	maxClosing = 256
)

// Stream is one stream of a link: a net.Conn whose two ways close apart. It ends with Close, Reset, or its link.
type Stream struct {
	l        *Link
	y        *yamux.Stream
	accepted bool

	rmu sync.Mutex // one reader
	eof bool       // guarded by rmu
	wmu sync.Mutex // one writer; keeps the end behind the data

	mu            sync.Mutex
	readDeadline  time.Time
	writeDeadline time.Time
	waiting       bool // Read waits in yamux
	armed         bool // yamux has a read deadline
	closed        bool
}

func newStream(l *Link, y *yamux.Stream, accepted bool) *Stream {
	return &Stream{l: l, y: y, accepted: accepted}
}

// Read reads what has come. It returns io.EOF after the peer's CloseWrite or Close, ErrReset after its Reset, os.ErrDeadlineExceeded
// after the read deadline, net.ErrClosed after Close, and the link's Err after its end.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.rmu.Lock()
	defer s.rmu.Unlock()
	if err := s.await(); err != nil {
		return 0, err
	}
	n, err := s.y.Read(p)
	if n > 0 {
		// The only error beside data is a timeout of a deadline that yamux would not clear
		// once the peer had closed its end: no window is needed any more, and the data is good.
		return n, nil
	}
	return 0, s.readError(err)
}

// await waits until there is something to read. yamux applies a read deadline to the window update after a read too,
// and then the peer never gets that window back; so the deadline is set while waiting only, and not while reading.
// s.rmu is held.
func (s *Stream) await() error {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return net.ErrClosed
	case s.expired():
		s.mu.Unlock()
		return os.ErrDeadlineExceeded
	}
	s.waiting = true
	if !s.readDeadline.IsZero() {
		s.armed = true
		_ = s.y.SetReadDeadline(s.readDeadline)
	}
	s.mu.Unlock()

	_, err := s.y.Read(nil)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	if s.armed {
		s.armed = false
		_ = s.y.SetReadDeadline(time.Time{})
	}
	if s.closed {
		return net.ErrClosed
	}
	err = s.readError(err)
	if err == os.ErrDeadlineExceeded && !s.expired() { //nolint:errorlint // streamError returns it as it is
		// The deadline was moved in the meantime, or belongs to an earlier Read and yamux kept it.
		return nil
	}
	return err
}

// expired reports whether the read deadline has passed. s.mu is held.
func (s *Stream) expired() bool { return !s.readDeadline.IsZero() && !s.readDeadline.After(time.Now()) }

// readError notes the end. s.rmu is held.
func (s *Stream) readError(err error) error {
	if err == io.EOF { //nolint:errorlint // see streamError
		s.eof = true
	}
	return s.l.streamError(err)
}

// Write writes p. While the peer does not read, or the link is cut, it waits until the write deadline; how much of p was taken
// by then is returned with the error.
func (s *Stream) Write(p []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if closed, _ := s.writeState(); closed {
		return 0, net.ErrClosed
	}
	total := 0
	for len(p) > 0 {
		if len(p) > smallWrite {
			if err := s.l.r.pace.wait(s); err != nil {
				return total, err
			}
		}
		n, err := s.y.Write(p[:piece(len(p))])
		s.l.r.pace.took(n)
		total += n
		p = p[n:]
		if err != nil {
			if closed, _ := s.writeState(); closed {
				return total, net.ErrClosed
			}
			return total, s.l.streamError(err)
		}
	}
	return total, nil
}

// piece is how many of n bytes make the next message. Several are of about one size, so that the last one is not some bytes.
func piece(n int) int {
	messages := (n + maxPiece - 1) / maxPiece
	return (n + messages - 1) / messages
}

// ReadFrom copies r into the stream in pieces that suit the link.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, (*b)[:64<<10])
}

// WriteTo copies the stream into w in pieces that suit the link.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s}, *b)
}

// CloseWrite ends this end's data, after a Write in progress: the peer reads io.EOF after it. Reading goes on.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if closed, _ := s.writeState(); closed {
		return net.ErrClosed
	}
	return s.l.streamError(s.y.CloseWrite())
}

// Close ends both ways: what was written still arrives, what the peer sends is discarded, and a Read or Write in progress
// returns net.ErrClosed. A peer that goes on sending gets a reset after a second. It does not wait.
func (s *Stream) Close() error {
	if !s.shut() {
		return nil
	}
	go s.finish() // ends when the peer has closed its end too, or with the link
	return nil
}

// Reset ends both ways at once, what was written but not read included; the peer gets ErrReset. It does not wait.
func (s *Stream) Reset() error {
	if s.shut() && s.accepted {
		s.l.incoming.Add(-1)
	}
	go func() { _ = s.y.Reset() }() // ends when yamux has taken the reset or the link ends
	return nil
}

// Broken reports whether the peer has reset the stream or the link has ended. An end that has read io.EOF and has nothing to
// write learns of it in no other way.
func (s *Stream) Broken() bool {
	if s.l.Err() != nil {
		return true
	}
	if !s.wmu.TryLock() {
		return false // a Write is at it, and will see
	}
	defer s.wmu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return true
	}
	// yamux looks at the stream's state first and at the deadline next, before it sends anything.
	_ = s.y.SetWriteDeadline(time.Unix(1, 0))
	_, err := s.y.Write([]byte{0})
	_ = s.y.SetWriteDeadline(s.writeDeadline)
	return errors.Is(err, yamux.ErrStreamReset)
}

// shut makes this end closed and wakes its readers and writers; it reports whether it was open.
func (s *Stream) shut() bool {
	defer s.l.r.pace.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.closed = true
	past := time.Unix(1, 0)
	if s.waiting {
		s.armed = true
		_ = s.y.SetReadDeadline(past)
	}
	_ = s.y.SetWriteDeadline(past)
	return true
}

// writeState is what a Write must heed while it waits.
func (s *Stream) writeState() (closed bool, deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed, s.writeDeadline
}

// finish sends the end and reads what the peer still sends, which yamux does not do by itself: a peer whose window was
// never opened again would wait for ever.
func (s *Stream) finish() {
	if s.accepted {
		defer s.l.incoming.Add(-1)
	}
	defer s.l.closing.Add(-1)
	crowded := s.l.closing.Add(1) > maxClosing

	s.wmu.Lock()
	err := s.y.CloseWrite()
	s.wmu.Unlock()
	s.rmu.Lock()
	defer s.rmu.Unlock()
	if s.eof || err != nil {
		return
	}
	if crowded {
		_ = s.y.Reset()
		return
	}
	since, discarded := time.Now(), 0
	for {
		if _, err := s.y.Read(nil); err != nil {
			return
		}
		b := copyBuffers.Get().(*[]byte)
		n, err := s.y.Read(*b)
		copyBuffers.Put(b)
		if n == 0 && err != nil {
			return
		}
		if discarded += n; discarded > lingerBytes && time.Since(since) > lingerTime {
			_ = s.y.Reset()
			return
		}
	}
}

// LocalAddr is this end's name on the link.
func (s *Stream) LocalAddr() net.Addr { return s.l.r.local }

// RemoteAddr is the peer's name on the link.
func (s *Stream) RemoteAddr() net.Addr { return s.l.r.remote }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read stops waiting; zero is never.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.readDeadline = t
	if s.waiting {
		s.armed = true
		return s.y.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline sets when Write stops waiting; zero is never.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	defer s.l.r.pace.wake()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.writeDeadline = t
	return s.y.SetWriteDeadline(t)
}

var (
	_ net.Conn      = (*Stream)(nil)
	_ io.ReaderFrom = (*Stream)(nil)
	_ io.WriterTo   = (*Stream)(nil)
)
