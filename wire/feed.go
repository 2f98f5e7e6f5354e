package wire

import (
	"bufio"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// feedDelay is how long a record may wait for others before it is flushed.
const feedDelay = 2 * time.Millisecond

// feedBuffer is how much of a feed goes out, or is read, at once.
const feedBuffer = 64 << 10

var feedWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, feedBuffer) }}

// feedWriter batches frames: a record after a pause goes out at once, records in a burst go out together.
type feedWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	list    bool // nobody waits for a record: none is flushed before the end

	mu      sync.Mutex
	buf     *bufio.Writer // nil after stop
	sent    int           // what was written to buf
	started bool
	armed   bool
	last    time.Time // of the last flush
	timer   *time.Timer
	err     error
}

func newFeedWriter(w http.ResponseWriter) *feedWriter {
	buf := feedWriters.Get().(*bufio.Writer)
	buf.Reset(w)
	return &feedWriter{w: w, control: http.NewResponseController(w), buf: buf}
}

func (f *feedWriter) write(kind byte, v any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	frame, err := appendFrame(f.buf.AvailableBuffer(), kind, v)
	if err != nil {
		return err
	}
	f.start()
	f.sent += len(frame)
	if _, f.err = f.buf.Write(frame); f.err != nil || f.armed || f.list {
		return f.err
	}
	if wait := feedDelay - time.Since(f.last); wait > 0 && kind == frameValue {
		f.armed = true
		f.timer = time.AfterFunc(wait, f.late) // stop waits for it
		return nil
	}
	return f.flush()
}

func (f *feedWriter) late() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	if f.buf != nil && f.err == nil {
		f.flush() // kept in f.err
	}
}

// start and flush: f.mu is held.
func (f *feedWriter) start() {
	if !f.started {
		f.started = true
		f.w.Header().Set("Content-Type", "application/octet-stream")
	}
}

func (f *feedWriter) flush() error {
	if f.err = f.buf.Flush(); f.err == nil {
		f.err = f.control.Flush()
	}
	f.last = time.Now()
	return f.err
}

func (f *feedWriter) fail(err error) {
	f.mu.Lock()
	started := f.started
	f.mu.Unlock()
	if !started {
		writeError(f.w, err)
		return
	}
	f.write(frameError, asError(err)) //nolint:errcheck // the peer is gone; nobody is left to tell
}

func (f *feedWriter) end() { f.write(frameEnd, nil) } //nolint:errcheck // as above

// stop passes on what is left, and makes sure that no timer touches the response after the handler has returned.
func (f *feedWriter) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.err == nil && f.started {
		if f.buf.Buffered() == f.sent { // all of it: it needs no chunks
			f.w.Header().Set("Content-Length", strconv.Itoa(f.sent))
		}
		f.err = f.buf.Flush() // and net/http flushes the rest when the handler has returned
	}
	f.buf.Reset(nil)
	feedWriters.Put(f.buf)
	f.buf = nil
}
