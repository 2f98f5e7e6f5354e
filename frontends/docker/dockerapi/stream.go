package dockerapi

import (
	"bufio"
	"net/http"
	"sync"
	"time"
)

const (
	// flushDelay is how long a piece of a stream may wait for others before it is sent.
	flushDelay = 2 * time.Millisecond
	streamSize = 64 << 10
)

// stream writes an answer that comes in pieces: a piece after a pause goes out at once, pieces in a burst together.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu      sync.Mutex // guards all below, and w
	buf     *bufio.Writer
	started bool
	timer   *time.Timer // armed while something waits; nil before the first time
	armed   bool
	ended   bool
	last    time.Time // of the last flush
	err     error
}

// newStream returns a stream of this type. Nothing is sent before start or the first Write. End it before the handler
// returns.
func newStream(w http.ResponseWriter, contentType string) *stream {
	w.Header().Set("Content-Type", contentType)
	return &stream{w: w, control: http.NewResponseController(w), buf: bufio.NewWriterSize(w, streamSize)}
}

// start sends the headers, unless they are out.
func (s *stream) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked()
}

// startLocked: s.mu is held.
func (s *stream) startLocked() error {
	if s.started || s.ended {
		return s.err
	}
	s.started = true
	s.w.WriteHeader(http.StatusOK)
	return s.flushLocked()
}

// hasStarted says whether the headers are out.
func (s *stream) hasStarted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// Write sends a piece. A client that has gone is an error.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		s.w.WriteHeader(http.StatusOK)
	}
	if s.err != nil {
		return 0, s.err
	}
	if _, s.err = s.buf.Write(b); s.err != nil {
		return 0, s.err
	}
	if s.armed {
		return len(b), nil
	}
	wait := flushDelay - time.Since(s.last)
	if wait <= 0 {
		return len(b), s.flushLocked()
	}
	s.armed = true
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.late) // end stops it
	} else {
		s.timer.Reset(wait)
	}
	return len(b), nil
}

func (s *stream) late() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	if !s.ended && s.err == nil {
		s.flushLocked() //nolint:errcheck // kept in s.err
	}
}

// flushLocked: s.mu is held.
func (s *stream) flushLocked() error {
	if s.err = s.buf.Flush(); s.err == nil {
		s.err = s.control.Flush()
	}
	s.last = time.Now()
	return s.err
}

// end sends what waits. The response is not touched any more.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.started && !s.ended && s.err == nil {
		s.flushLocked() //nolint:errcheck // kept in s.err
	}
	s.ended = true
}
