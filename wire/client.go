package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// Client asks the other end. It is safe for concurrent use.
type Client struct {
	dial   func(context.Context) (net.Conn, error)
	header func() (http.Header, error)
	http   *http.Transport
}

// maxIdle is how many connections are kept for the next call. One that is not costs another to be made, just when there is
// much to do.
const maxIdle = 64

// fewArgs is how many bytes of arguments go in a header even if they could be the body, which costs both ends more.
const fewArgs = 1 << 10

// NewClient returns a client whose connections come from dial. header is asked for every request what goes with it; it
// may be nil. Close it to close the connections that are kept for the next call.
func NewClient(dial func(context.Context) (net.Conn, error), header func() (http.Header, error)) *Client {
	return &Client{
		dial:   dial,
		header: header,
		http: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			MaxIdleConnsPerHost: maxIdle,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
			ReadBufferSize:      64 << 10,
			WriteBufferSize:     64 << 10,

			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// Close closes the idle connections. Calls that run go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call sends in and reads the answer into out. Either may be nil.
func (c *Client) Call(ctx context.Context, path string, in, out any) error {
	resp, err := c.do(ctx, path, in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return drain(resp.Body)
	}
	if err := readJSON(resp.Body, out); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w", path, err)
	}
	return nil
}

// Upload is a call that sends bytes along. It reads body to its end unless the other end refuses it sooner.
func (c *Client) Upload(ctx context.Context, path string, in any, body io.Reader, out any) error {
	resp, err := c.do(ctx, path, in, upload{body})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return drain(resp.Body)
	}
	return readJSON(resp.Body, out)
}

// Download is a call whose answer has bytes with it. The caller closes them; a Read that fails says why.
func (c *Client) Download(ctx context.Context, path string, in, out any) (io.ReadCloser, error) {
	resp, err := c.do(ctx, path, in, nil)
	if err != nil {
		return nil, err
	}
	if out != nil {
		if err := decodeHeader(resp.Header.Get(resultHeader), out); err != nil {
			resp.Body.Close()
			return nil, fmt.Errorf("cannot read the answer of %s: %w", path, err)
		}
	}
	return &download{resp}, nil
}

// download turns the error trailer into the error of the Read that would have been the last.
type download struct{ resp *http.Response }

func (d *download) Read(b []byte) (int, error) {
	n, err := d.resp.Body.Read(b)
	if err == io.EOF {
		if t := d.resp.Trailer.Get(errorTrailer); t != "" {
			var e Error
			if decodeHeader(t, &e) != nil {
				return n, io.ErrUnexpectedEOF
			}
			return n, &e
		}
	}
	return n, err
}

func (d *download) Close() error { return d.resp.Body.Close() }

var feedReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, feedBuffer) }}

// Feed asks for records and yields them as they come. body, if not nil, is sent along. Leaving the loop ends the feed.
func Feed[T any](ctx context.Context, c *Client, path string, in any, body io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		resp, err := c.do(ctx, path, in, body)
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		r := feedReaders.Get().(*bufio.Reader)
		r.Reset(resp.Body)
		defer func() { r.Reset(nil); feedReaders.Put(r) }()
		var buf []byte
		for {
			var kind byte
			kind, buf, err = readFrame(r, buf)
			if err != nil {
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				yield(zero, err)
				return
			}
			switch kind {
			case frameValue:
				var v T
				if err := decodeRecord(buf, &v); err != nil {
					yield(zero, fmt.Errorf("cannot read a record of %s: %w", path, err))
					return
				}
				if !yield(v, nil) {
					return
				}
			case frameError:
				var e Error
				if err := json.Unmarshal(buf, &e); err != nil {
					yield(zero, fmt.Errorf("cannot read the error of %s: %w", path, err))
					return
				}
				yield(zero, &e)
				return
			case frameEnd:
				_, _ = r.ReadByte() // the answer's end, after which the connection takes another request
				return
			default:
				yield(zero, fmt.Errorf("cannot read a frame of kind %q", kind))
				return
			}
		}
	}
}

// Session opens a session. It returns once the other end has accepted it; ctx bounds that and no more.
func (c *Client) Session(ctx context.Context, path string, in any) (*Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := c.upgrade(conn, path, in)
	if !stop() {
		// ctx ended while the answer came: what we have, if anything, is closed already.
		return nil, context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (c *Client) upgrade(conn net.Conn, path string, in any) (*Conn, error) {
	req, err := c.request(context.Background(), path, in, nil, true)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocolName)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	// The other end may be anybody's by now: its headers are bounded as the Transport's are.
	br := bufio.NewReaderSize(io.LimitReader(conn, maxHeader), 4<<10)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return NewConn(conn, br), nil
}

// do sends a request and returns an answer that is not a refusal; the caller closes its body.
func (c *Client) do(ctx context.Context, path string, in any, body io.Reader) (*http.Response, error) {
	req, err := c.request(ctx, path, in, body, body != nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

func (c *Client) request(ctx context.Context, path string, in any, body io.Reader, argsInHeader bool) (*http.Request, error) {
	var args string
	switch {
	case argsInHeader && body != nil:
		var err error
		if args, err = encodeHeader(in); err != nil {
			return nil, err
		}
	case argsInHeader || in != nil:
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		if argsInHeader && len(b) <= maxArgs || len(b) <= fewArgs {
			args = base64.RawURLEncoding.EncodeToString(b)
			break
		}
		if len(b) > MaxMessage {
			return nil, fmt.Errorf("cannot send %d bytes of arguments: at most %d", len(b), MaxMessage)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sockerless"+path, body)
	if err != nil {
		return nil, err
	}
	if c.header != nil {
		header, err := c.header()
		if err != nil {
			return nil, err
		}
		maps.Copy(req.Header, header)
	}
	if args != "" {
		req.Header.Set(argsHeader, args)
	}
	return req, nil
}

func readError(resp *http.Response) error {
	var e Error
	if err := readJSON(resp.Body, &e); err != nil || e.Message == "" {
		return fmt.Errorf("the other end answered %s", resp.Status)
	}
	return &e
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, io.LimitReader(r, MaxMessage))
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
