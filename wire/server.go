package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// HandleCall serves a call.
func HandleCall[In, Out any](m *http.ServeMux, path string, f func(context.Context, In) (Out, error)) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		out, err := f(r.Context(), in)
		answer(w, out, err)
	})
}

// HandleUpload serves a call that brings bytes along. f need not read them to their end.
func HandleUpload[In, Out any](m *http.ServeMux, path string, f func(context.Context, In, io.Reader) (Out, error)) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		out, err := f(r.Context(), in, r.Body)
		answer(w, out, err)
	})
}

// HandleDownload serves a call whose answer has bytes with it. The body that f returns is closed here; an error of its
// Send reaches the client as that of a Read.
func HandleDownload[In, Out any](m *http.ServeMux, path string, f func(context.Context, In) (Out, Body, error)) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		out, body, err := f(r.Context(), in)
		if err != nil {
			writeError(w, err)
			return
		}
		defer body.Close()
		result, err := encodeHeader(out)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set(resultHeader, result)
		w.Header().Set("Trailer", errorTrailer)
		w.Header().Set("Content-Type", "application/octet-stream")
		if err := body.Send(onlyWriter{w}); err != nil {
			if text, encErr := encodeHeader(asError(err)); encErr == nil {
				w.Header().Set(errorTrailer, text)
			}
		}
	})
}

// HandleFeed serves a feed. The request's body, if it has one beside the arguments, is given to f.
func HandleFeed[In, T any](m *http.ServeMux, path string, f func(context.Context, In, io.Reader) iter.Seq2[T, error]) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		// The first record decides between an answer and a refusal, so f is asked for it before the status goes out.
		out := newFeedWriter(w)
		defer out.stop()
		if r.ContentLength != 0 {
			FullDuplex(w)
		}
		for v, err := range f(r.Context(), in, r.Body) {
			if err != nil {
				out.fail(err)
				return
			}
			if out.write(frameValue, v) != nil {
				return // the client is gone; leaving the loop ends f
			}
		}
		out.end()
	})
}

// FullDuplex lets an answer begin while the request's body still comes; net/http would else drop the rest of the body. The
// connection has no further request: net/http panics in that if it is itself that finds the end of a body which was not read.
func FullDuplex(w http.ResponseWriter) {
	http.NewResponseController(w).EnableFullDuplex() //nolint:errcheck // a writer that cannot do it has read the body
	w.Header().Set("Connection", "close")
}

// HandleSession serves a session. f calls accept once it has decided that the session can be; an error before that is
// the refusal. The Conn is closed when f returns.
func HandleSession[In any](m *http.ServeMux, path string, f func(ctx context.Context, in In, accept func() (*Conn, error)) error) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		var conn *Conn
		err := f(r.Context(), in, func() (*Conn, error) {
			var err error
			conn, err = hijack(w)
			return conn, err
		})
		switch {
		case conn != nil:
			conn.Close()
		case err != nil:
			writeError(w, err)
		default:
			writeError(w, errors.New("the session was not accepted"))
		}
	})
}

func handle[In any](m *http.ServeMux, path string, f func(http.ResponseWriter, *http.Request, In)) {
	m.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		var err error
		if args := r.Header.Get(argsHeader); args != "" {
			err = decodeHeader(args, &in)
		} else {
			err = readJSON(r.Body, &in)
		}
		if err != nil {
			writeError(w, Errorf("invalid", "cannot read the arguments of %s: %v", path, err))
			return
		}
		f(w, r, in)
	})
}

func answer(w http.ResponseWriter, out any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	b, err := appendFrame(nil, frameValue, jsonOnly{out})
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)-5))
	w.Write(b[5:]) //nolint:errcheck // the peer is gone; nobody is left to tell
}

func hijack(w http.ResponseWriter) (*Conn, error) {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		nc.Close()
		return nil, err
	}
	if _, err := io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocolName+"\r\n\r\n"); err != nil {
		nc.Close()
		return nil, err
	}
	return NewConn(nc, rw.Reader), nil
}

// feedDelay is how long a record may wait for others before it is flushed.
const feedDelay = 2 * time.Millisecond

// feedWriter batches frames: a record after a pause goes out at once, records in a burst go out together.
type feedWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu      sync.Mutex
	buf     *bufio.Writer
	scratch []byte
	started bool
	armed   bool
	last    time.Time // of the last flush
	timer   *time.Timer
	stopped bool
	err     error
}

func newFeedWriter(w http.ResponseWriter) *feedWriter {
	return &feedWriter{w: w, control: http.NewResponseController(w), buf: bufio.NewWriterSize(w, 64<<10)}
}

func (f *feedWriter) write(kind byte, v any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.start()
	var err error
	if f.scratch, err = appendFrame(f.scratch[:0], kind, v); err != nil {
		return err
	}
	if _, f.err = f.buf.Write(f.scratch); f.err != nil {
		return f.err
	}
	if f.armed {
		return nil
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
	if !f.stopped && f.err == nil {
		f.flush() // kept in f.err
	}
}

// start and flush: f.mu is held.
func (f *feedWriter) start() {
	if !f.started {
		f.started = true
		f.w.Header().Set("Content-Type", "application/octet-stream")
		f.w.WriteHeader(http.StatusOK)
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

// stop flushes and makes sure that no timer touches the response after the handler has returned.
func (f *feedWriter) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.err == nil && f.started {
		f.flush() // kept in f.err
	}
	f.stopped = true
}
