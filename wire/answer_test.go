package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// answering is a connection whose other end says these bytes, whatever it is asked.
type answering struct {
	net.Conn // nil: nothing else is asked of it
	io.Reader
}

func (c answering) Read(b []byte) (int, error)       { return c.Reader.Read(b) }
func (c answering) Write(b []byte) (int, error)      { return len(b), nil }
func (c answering) Close() error                     { return nil }
func (c answering) SetDeadline(time.Time) error      { return nil }
func (c answering) SetReadDeadline(time.Time) error  { return nil }
func (c answering) SetWriteDeadline(time.Time) error { return nil }

// clientOf is a client whose other end says b to every request.
func clientOf(b []byte) *Client {
	return NewClient(func(context.Context) (net.Conn, error) { return answering{Reader: bytes.NewReader(b)}, nil }, nil)
}

// Whatever the other end answers, every shape comes to an end, in order or with an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 32\r\n\r\n{\"code\":\"notfound\",\"message\":\"x\"}"))
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sockerless\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nv\x00\x00\x00\x03{}\nz\x00\x00\x00\x00"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nv\xff\xff\xff\xff"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nSockerless-Result: e30\r\nTrailer: Sockerless-Error\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nSockerless-Error: !\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := clientOf(b)
		defer c.Close()
		var out map[string]any
		_ = c.Call(ctx, "/x", nil, &out)
		if s, err := c.Session(ctx, "/x", nil); err == nil {
			if !bytes.HasPrefix(b, []byte("HTTP/1.")) {
				t.Error("a session without a header")
			}
			_, _ = io.Copy(io.Discard, s)
			_ = s.Close()
		}
		if body, err := c.Download(ctx, "/x", nil, &out); err == nil {
			_, _ = io.Copy(io.Discard, body)
			_ = body.Close()
		}
		for _, err := range Feed[json.RawMessage](ctx, c, "/x", nil, nil) {
			if err != nil {
				break
			}
		}
		if ctx.Err() != nil {
			t.Error("it hangs")
		}
	})
}

// endless repeats a line without end.
type endless struct{ head, line *strings.Reader }

func (e endless) Read(b []byte) (int, error) {
	if n, err := e.head.Read(b); n > 0 {
		return n, err
	}
	n, err := e.line.Read(b)
	if errors.Is(err, io.EOF) {
		e.line.Reset("X-Header: endless\r\n")
		return e.Read(b)
	}
	return n, err
}

// An agent is foreign code's neighbour: headers without end are an error, and not the backend's memory.
func TestEndlessHeaders(t *testing.T) {
	c := NewClient(func(context.Context) (net.Conn, error) {
		return answering{Reader: endless{strings.NewReader("HTTP/1.1 200 OK\r\n"), strings.NewReader("")}}, nil
	}, nil)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Call(ctx, "/x", nil, nil); err == nil || ctx.Err() != nil {
		t.Errorf("call: %v", err)
	}
	if _, err := c.Session(ctx, "/x", nil); err == nil || ctx.Err() != nil {
		t.Errorf("session: %v", err)
	}
}

// Whatever is in the Args header is arguments or an error.
func FuzzArgs(f *testing.F) {
	f.Add("")
	f.Add("e30")
	f.Add("!")
	f.Add("eyJSZWYiOiJ4In0")
	f.Fuzz(func(t *testing.T, s string) {
		var v struct{ Ref string }
		if decodeHeader(s, &v) != nil {
			return
		}
		again, err := encodeHeader(v)
		if err != nil {
			t.Fatal(err)
		}
		w := v
		if err := decodeHeader(again, &w); err != nil || w != v {
			t.Errorf("%q became %q, %v", v, w, err)
		}
	})
}
