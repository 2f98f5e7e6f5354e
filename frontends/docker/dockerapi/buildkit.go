package dockerapi

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless"
)

// noBuild is what who wants to build is told.
const noBuild = "building an image is not supported by this version of Sockerless: build where there is a builder and push, " +
	"or name one with docker buildx create --driver remote"

const (
	grpcIdle    = time.Minute // a connection to no builder may be kept
	grpcStreams = 16          // calls at once on it
)

// refuseBuildKit takes the connection on which a client speaks gRPC to BuildKit, and answers every call on it with the
// reason why there is none. A refusal of the connection itself would be the end of the reason: clients print its status
// alone, and buildx then goes and pulls a builder to run it here as a privileged container.
func (a *api) refuseBuildKit(w http.ResponseWriter, r *request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "h2c") {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, noBuild)
	}
	conn, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err = conn.SetDeadline(time.Time{}); err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	}
	if err != nil {
		return nil // the client is gone; nobody is left to tell
	}
	one := newOneConn(conn, ahead.Reader)
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "application/grpc")
			h.Set("Grpc-Status", "12") // UNIMPLEMENTED
			h.Set("Grpc-Message", noBuild)
		}),
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: grpcStreams},
		ReadHeaderTimeout: grpcIdle,
		IdleTimeout:       grpcIdle,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				one.Close()
			}
		},
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	// A server that is shut down ends its requests' contexts; nothing else does after a hijack.
	defer context.AfterFunc(r.Context(), func() { server.Close() })()
	if err := server.Serve(one); err != nil {
		a.log.Debug("a builder's connection has ended", "reason", err)
	}
	return nil
}

// oneConn is a listener that accepts one connection and ends with it.
type oneConn struct {
	net.Conn
	ahead *bufio.Reader // with what was read already
	given chan net.Conn
	ended chan struct{}
	end   func()
}

func newOneConn(conn net.Conn, ahead *bufio.Reader) *oneConn {
	c := &oneConn{Conn: conn, ahead: ahead, given: make(chan net.Conn, 1), ended: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.ended) })
	c.given <- c
	return c
}

// Read reads what was read ahead first.
func (c *oneConn) Read(b []byte) (int, error) { return c.ahead.Read(b) }

// Accept returns the connection, then waits for its end.
func (c *oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-c.given:
		return conn, nil
	case <-c.ended:
		return nil, net.ErrClosed
	}
}

// Close closes connection and listener, which are one.
func (c *oneConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// Addr is the server's side.
func (c *oneConn) Addr() net.Addr { return c.LocalAddr() }
