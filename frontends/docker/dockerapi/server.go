package dockerapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless"
)

// patience is how long clients may take.
type patience struct {
	header time.Duration // to send a request's headers
	idle   time.Duration // between two requests of a connection
	body   time.Duration // to send a body of JSON
	answer time.Duration // to take an answer in JSON; a stream is taken at leisure
}

var usual = patience{header: time.Minute, idle: 10 * time.Minute, body: 30 * time.Second, answer: time.Minute}

const (
	maxHeader = 1 << 20
	// endGrace is how long Serve waits for requests that run, and again for those that it has cut.
	endGrace = 2 * time.Second
)

// Serve serves h on l, which it closes, until ctx is done. Then requests have two seconds to end; what goes on longer,
// as sessions and followed logs do, is cut. It returns nil after that, or why l could not be served.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	return serve(ctx, l, h, log, usual)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger, p patience) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var running sync.WaitGroup // handlers, those of hijacked connections too
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			if foreign(r) {
				writeError(w, sockerless.Errorf(sockerless.EFORBIDDEN, "the Docker API is not for web pages"))
				return
			}
			h.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: p.header,
		IdleTimeout:       p.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ends with Shutdown or Close
	select {
	case err := <-served:
		return errors.Join(err, server.Close())
	case <-ctx.Done():
	}
	end := func() error {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endGrace)
		defer cancel()
		return server.Shutdown(limited)
	}
	if end() != nil {
		cut()
		end() //nolint:errcheck // what is left is closed below
	}
	cut()
	if err := server.Close(); err != nil {
		log.Debug("cannot close a connection", "error", err)
	}
	<-served //nolint:errcheck // it says that the server was closed
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }() // ends with the last handler
	select {
	case <-done:
	case <-time.After(endGrace):
		log.Warn("requests did not end and are left behind")
	}
	return nil
}

// foreign says whether a web page may be behind a request: browsers send an Origin with what they let other sites post,
// and a page that has rebound its own name to this machine still names itself in Host.
func foreign(r *http.Request) bool {
	if r.Header.Get("Origin") != "" {
		return true
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || a.Network() != "tcp" {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Contains(host, ".") && net.ParseIP(host) == nil && !strings.HasSuffix(host, ".localhost")
}
