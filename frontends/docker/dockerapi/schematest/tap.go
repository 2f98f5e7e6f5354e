package schematest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/sockerless/sockerless/wire"
)

// Tap stands between clients and the socket of a Docker API. It passes every byte on as it is and at once, and holds the
// answers that come by to the specification of the version that each was asked in. Upgraded connections pass unread.
type Tap struct {
	specs  *Specs
	to     string
	report func(error)
	l      net.Listener
	work   sync.WaitGroup // the accepting, and every connection

	mu      sync.Mutex
	open    map[net.Conn]bool
	closed  bool
	checked int
	older   int
}

// Listen starts a Tap on a unix socket, for the API at another. report is called for every answer that does not conform,
// from any goroutine, and never after Close.
func Listen(specs *Specs, socket, to string, report func(error)) (*Tap, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, err
	}
	t := &Tap{specs: specs, to: to, report: report, l: l, open: map[net.Conn]bool{}}
	t.work.Go(t.accept) // ends with Close
	return t, nil
}

// Close cuts what goes on, and returns when everything that came by has been looked at.
func (t *Tap) Close() error {
	err := t.l.Close()
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		c.Close()
	}
	t.mu.Unlock()
	t.work.Wait()
	return err
}

// Checked returns how many answers were held to a specification, and how many were asked in a version that is older than
// all of them.
func (t *Tap) Checked() (checked, older int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.checked, t.older
}

func (t *Tap) accept() {
	for {
		c, err := t.l.Accept()
		if err != nil {
			return
		}
		t.work.Go(func() { // ends with the connection, which Close cuts
			defer c.Close()
			if err := t.pass(c.(*net.UnixConn)); err != nil {
				t.report(err)
			}
		})
	}
}

// pass serves one connection. What does not answer at the other socket is a connection that is closed at once.
func (t *Tap) pass(client *net.UnixConn) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", t.to) // a unix socket's takes no time
	if err != nil {
		return nil //nolint:nilerr // the client sees it, and whether that is right is for the test to say
	}
	api := conn.(*net.UnixConn)
	if !t.holds(client, api) {
		return api.Close()
	}
	defer t.drop(client, api)
	requests, asks := io.Pipe()
	answers, says := io.Pipe()
	asked := make(chan *http.Request, 16) // those whose answer has not come by
	var reading sync.WaitGroup
	reading.Go(func() { readRequests(requests, asked) }) // ends with the pipe
	var failed error
	reading.Go(func() { failed = t.readAnswers(answers, asked) }) // ends with the pipe
	_ = wire.Splice(client, &tapped{api, asks, says})             // how it ended is the two ends' business
	asks.Close()
	says.Close()
	reading.Wait()
	return failed
}

func (t *Tap) holds(conns ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range conns {
		t.open[c] = true
	}
	return !t.closed
}

func (t *Tap) drop(conns ...net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range conns {
		delete(t.open, c)
	}
}

// tapped gives what goes through a connection to two pipes. Their readers never stop before the end.
type tapped struct {
	*net.UnixConn
	wrote, read *io.PipeWriter
}

func (c *tapped) Write(b []byte) (int, error) {
	c.wrote.Write(b) //nolint:errcheck // its reader does not stop
	return c.UnixConn.Write(b)
}

func (c *tapped) Read(b []byte) (int, error) {
	n, err := c.UnixConn.Read(b)
	if n > 0 { // a pipe's Write of nothing waits for its reader, too
		c.read.Write(b[:n]) //nolint:errcheck // as above
	}
	return n, err
}

func readRequests(r io.Reader, asked chan<- *http.Request) {
	defer io.Copy(io.Discard, r) //nolint:errcheck // an upgraded connection's bytes, or nothing
	defer close(asked)
	for in := bufio.NewReader(r); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if req.Header.Get("Expect") != "" {
			return // nobody that tests use asks so, and the answer before the answer would have to be told apart
		}
		asked <- req
		if _, err := io.Copy(io.Discard, req.Body); err != nil || upgrades(req) {
			return
		}
	}
}

// upgrades says whether a connection may carry something else than HTTP after the answer to a request.
func upgrades(req *http.Request) bool {
	path := withoutVersion(req.URL.Path)
	return req.Header.Get("Upgrade") != "" || req.Method == http.MethodPost &&
		(strings.HasSuffix(path, "/attach") || strings.HasPrefix(path, "/exec/") && strings.HasSuffix(path, "/start"))
}

func (t *Tap) readAnswers(r io.Reader, asked <-chan *http.Request) error {
	defer io.Copy(io.Discard, r) //nolint:errcheck // as in readRequests
	in := bufio.NewReader(r)
	for req := range asked {
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			return nil //nolint:nilerr // the connection was cut before the answer
		}
		body, whole := readBody(resp)
		resp.Body.Close()
		if err := t.check(req, resp, body, whole); err != nil {
			return err
		}
		if resp.StatusCode == http.StatusSwitchingProtocols || resp.Close {
			return nil
		}
	}
	return nil
}

// readBody keeps JSON, which is looked at, and drops the rest. It says whether the body came to its end.
func readBody(resp *http.Response) (body []byte, whole bool) {
	var kept bytes.Buffer
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "application/json") || kind == "application/x-ndjson" {
		_, err = io.Copy(&kept, io.LimitReader(resp.Body, maxChecked))
		if err != nil {
			return kept.Bytes(), false
		}
	}
	dropped, err := io.Copy(io.Discard, resp.Body)
	return kept.Bytes(), err == nil && (kept.Len() == 0 || dropped == 0)
}

func (t *Tap) check(req *http.Request, resp *http.Response, body []byte, whole bool) error {
	version := versionOf(req.URL.Path)
	if version == "" {
		version = resp.Header.Get("Api-Version") // what the API takes such a path for
	}
	if version == "" {
		return fmt.Errorf("%s %s: %d: the answer tells no Api-Version", req.Method, req.URL.Path, resp.StatusCode)
	}
	spec, err := t.specs.For(version)
	t.mu.Lock()
	if errors.Is(err, errOlder) {
		t.older++
		err = nil
	} else {
		t.checked++
	}
	t.mu.Unlock()
	if err != nil || spec == nil {
		return err
	}
	return spec.check(answer{method: req.Method, path: req.URL.Path, status: resp.StatusCode, header: resp.Header, body: body, cut: !whole})
}
