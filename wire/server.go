package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
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
		out := newFeedWriter(w)
		defer out.stop()
		if r.ContentLength != 0 && r.Header.Get(argsHeader) != "" { // else the body was the arguments, and is read
			FullDuplex(w)
		}
		feed(out, f(r.Context(), in, r.Body))
	})
}

// HandleList serves a feed whose records need not be waited for: they go out when there are many, or at the end.
func HandleList[In, T any](m *http.ServeMux, path string, f func(context.Context, In) iter.Seq2[T, error]) {
	handle(m, path, func(w http.ResponseWriter, r *http.Request, in In) {
		out := newFeedWriter(w)
		out.list = true
		defer out.stop()
		feed(out, f(r.Context(), in))
	})
}

// feed sends records. The first one decides between an answer and a refusal, so it is asked for before the status goes out.
func feed[T any](out *feedWriter, records iter.Seq2[T, error]) {
	for v, err := range records {
		if err != nil {
			out.fail(err)
			return
		}
		if err := out.write(frameValue, v); err != nil {
			out.fail(err) // or the client is gone; leaving the loop ends what gives the records
			return
		}
	}
	out.end()
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
	b, err := appendJSON(nil, out)
	if err == nil && len(b) > MaxMessage {
		err = fmt.Errorf("cannot send an answer of %d bytes: at most %d", len(b), MaxMessage)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b) //nolint:errcheck // the peer is gone; nobody is left to tell
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
