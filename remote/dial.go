package remote

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/link"
)

// linkID is what a backend's hub knows the token by.
const linkID = "frontend"

// connectTime bounds one attempt to reach the backend, so that a docker command fails while somebody still waits for it.
const connectTime = 5 * time.Second

// DialOptions are the settings of a connection to a backend.
type DialOptions struct {
	TokenFile string         // the backend's token; read when it is needed, so it may appear later
	RootCAs   *x509.CertPool // for https; nil: the system's
	Version   string         // of the program, told to the backend over a link
	Logger    *slog.Logger   // gets what the link tells; nil discards

	// NetDial, when set, gives the connections that a link runs on, and no proxy is asked.
	NetDial func(context.Context) (net.Conn, error)
}

// Dial prepares the connection to the backend at addr and makes none yet: a backend that is away is EUNAVAILABLE for
// every request until it is there. addr is unix:///path or http://host:port, on which, if the host is this machine, plain
// HTTP with the token is spoken; to any other host, and to every https://host[:port], goes a link.
func Dial(addr string, opt DialOptions) (*Client, error) {
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot use %q as the backend's address: %w", addr, err)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("cannot use %q as the backend's address: it may hold no user, query or fragment", u.Redacted())
	}
	token := &tokenFile{path: opt.TokenFile, addr: addr}
	var dialer net.Dialer
	switch {
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return NewClient(reach(addr, func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", u.Path)
		}), token.bearer), nil
	case u.Scheme == "http" && u.Host != "" && strings.Trim(u.Path, "/") == "" && loopback(u.Hostname()):
		port := u.Port()
		if port == "" {
			port = "80"
		}
		return NewClient(reach(addr, func(ctx context.Context) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		}), token.bearer), nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		l := &linked{
			token: token,
			to:    link.Target{URL: strings.TrimSuffix(addr, "/") + LinkPath, NetDial: opt.NetDial},
			hello: link.Hello{Version: opt.Version},
			// Somebody waits at the other end of a frontend, so a backend that is back is found soon.
			opt:  link.Options{RootCAs: opt.RootCAs, MaxPause: time.Second, Logger: opt.Logger},
			turn: make(chan struct{}, 1),
		}
		c := NewClient(reach(addr, l.Open), nil)
		c.link = l
		return c, nil
	}
	return nil, fmt.Errorf("cannot use %q as the backend's address: it must be unix:///path, http://host:port or https://host[:port]", addr)
}

// reach bounds connect and says in its errors what could not be reached.
func reach(addr string, connect func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		limited, cancel := context.WithTimeout(ctx, connectTime)
		defer cancel()
		conn, err := connect(limited)
		if err == nil || sockerless.ErrorCode(err) != sockerless.EINTERNAL {
			return conn, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot reach the backend at %s: %w: is it running?", addr, err)
	}
}

// linked is the link to a backend, made when it is needed and again when it has ended.
type linked struct {
	token *tokenFile
	to    link.Target
	hello link.Hello
	opt   link.Options

	turn   chan struct{} // has a token while what is below is in use: who waits for it can give up
	link   *link.Link    // nil before the first connection
	closed bool
}

// errCut is why nothing new is asked over a link that is there and cannot be used.
var errCut = errors.New("the connection is cut")

// Open opens a stream. What runs on a link outlives its cuts; what is new waits for a connection only as long as ctx says, since
// a backend that is gone must not keep anybody until the link is given up.
func (l *linked) Open(ctx context.Context) (net.Conn, error) {
	for {
		now, err := l.current(ctx)
		if err != nil {
			return nil, err
		}
		switch err := now.Wait(ctx); {
		case err == nil:
			return now.Open(ctx)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w (%w)", errCut, ctx.Err())
		}
		// It has ended in the meantime, as with a backend that was restarted: the next one.
	}
}

func (l *linked) current(ctx context.Context) (*link.Link, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.link != nil && l.link.Err() == nil {
		return l.link, nil
	}
	token, err := l.token.read()
	if err != nil {
		return nil, err
	}
	next, err := link.Dial(ctx, l.to, link.Identity{Role: link.Frontend, ID: linkID, Secret: token[:], Hello: l.hello}, l.opt)
	if link.Permanent(err) {
		return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "cannot link to the backend at %s with the token in %s: %w", l.token.addr, l.token.path, err)
	}
	if err != nil {
		return nil, err
	}
	l.link = next
	return next, nil
}

// Close ends the link and allows no other.
func (l *linked) Close() error {
	l.turn <- struct{}{} // at most for as long as one attempt to connect takes
	defer func() { <-l.turn }()
	l.closed = true
	if l.link == nil {
		return nil
	}
	return l.link.Close()
}

// tokenFile is where the token of the backend at addr is.
type tokenFile struct {
	path, addr string

	mu     sync.Mutex
	file   fs.FileInfo // what header was read from; nil before the first request
	header http.Header
}

func (t *tokenFile) read() (Token, error) {
	token, err := ReadToken(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return token, sockerless.Errorf(sockerless.EUNAVAILABLE,
			"cannot reach the backend at %s: its token is not in %s: is it running? (-token-file says where the token is)", t.addr, t.path)
	case err != nil:
		return token, &sockerless.Error{Code: sockerless.EFORBIDDEN, Message: err.Error(), Err: err}
	}
	return token, nil
}

// bearer returns the header that shows the token. The file is read when it is another one: a new token comes in a new file,
// see WriteToken, and a file that is written to has another time.
func (t *tokenFile) bearer() (http.Header, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := os.Stat(t.path)
	if err == nil && t.file != nil && os.SameFile(now, t.file) && now.ModTime().Equal(t.file.ModTime()) {
		return t.header, nil
	}
	token, err := t.read()
	if err != nil {
		return nil, err
	}
	t.file, t.header = now, http.Header{"Authorization": {"Bearer " + token.String()}}
	return t.header, nil
}

// loopback says whether host is this machine by its name alone: what DNS says of other names is not to be trusted with
// a token.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
