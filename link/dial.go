package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Target is where a hub can be reached.
type Target struct {
	// URL is the hub's route: http, https, ws or wss. It holds no user or password.
	URL string

	// NetDial, when set, gives a new connection to the hub each time it is called, instead of one to the URL's
	// host, and no proxy is asked. It must heed its context.
	NetDial func(ctx context.Context) (net.Conn, error)

	// Header is added to the upgrade request.
	Header http.Header
}

// firstPause is the pause after the first failed attempt; each further one doubles it.
const firstPause = 50 * time.Millisecond

// Dial connects to the hub at target and proves id there. It tries again, with growing pauses, until it succeeds,
// the error is Permanent, or ctx is done; then the last attempt's error is returned with ctx's. ctx bounds the first connection only: the link
// connects again by itself after a cut, within Options.ResumeWindow.
func Dial(ctx context.Context, target Target, id Identity, opt Options) (*Link, error) {
	d, err := newDialler(target, id, opt)
	if err != nil {
		return nil, &configError{fmt.Errorf("cannot dial link: %w", err)}
	}
	var last error
	for attempt := 0; ; attempt++ {
		l, err := d.first(ctx)
		if err != nil && last != nil && over(ctx) {
			err = last // this attempt failed because its time was over, which says nothing
		}
		last = err
		switch {
		case err == nil:
			return l, nil
		case untrusted(err), turnedAway(err):
			return nil, &configError{fmt.Errorf("cannot link to %s: %w", d.name, err)}
		case Permanent(err):
			return nil, fmt.Errorf("cannot link to %s: %w", d.name, err)
		}
		d.opt.Logger.Debug("link not made yet", "url", d.name, "reason", err)
		select {
		case <-time.After(d.pause(attempt)):
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot link to %s: %w (%w)", d.name, err, ctx.Err())
		}
	}
}

// over reports whether ctx has ended, or would have if its timer had been as quick as a connection's deadline.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// pause is how long to wait after this many failures: doubling, and spread so that many ends do not come at once.
func (d *dialler) pause(attempt int) time.Duration {
	p := min(firstPause<<min(attempt, 10), d.opt.MaxPause)
	return p/2 + rand.N(p)
}

// untrusted reports whether the hub's https certificate was refused. On the first connection that is a
// wrong setting; later it may pass.
func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// dialler is the dialling end of one link.
type dialler struct {
	url    string // ws or wss
	name   string // for people, without a query
	inner  bool   // TLS of our own
	target Target
	id     Identity
	hello  []byte
	opt    Options
	ws     websocket.Dialer
	token  token
	fresh  bool // no answer has come yet
	epoch  uint64
}

func newDialler(target Target, id Identity, opt Options) (*dialler, error) {
	opt = opt.withDefaults(id.Role)
	if err := checkPair(id.Role, opt.Peer); err != nil {
		return nil, err
	}
	if id.ID == "" || len(id.ID) > maxID {
		return nil, fmt.Errorf("id of %d bytes: want 1 to %d", len(id.ID), maxID)
	}
	if len(id.Secret) != secretSize {
		return nil, fmt.Errorf("secret of %d bytes: want %d", len(id.Secret), secretSize)
	}
	hello, err := id.Hello.marshal()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target.URL)
	if err != nil {
		// url.Error repeats the URL, which may hold what nobody should log.
		return nil, errors.New("the URL cannot be parsed")
	}
	if u.User != nil {
		return nil, errors.New("the URL holds a user: a link has its own proof")
	}
	d := &dialler{target: target, id: id, hello: hello, opt: opt, token: newToken(), fresh: true}
	switch strings.ToLower(u.Scheme) {
	case "http", "ws":
		u.Scheme, d.inner = "ws", true
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("URL scheme %q: want http, https, ws or wss", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("the URL has no host")
	}
	u.Fragment = ""
	d.url, d.name = u.String(), u.Host+u.Path
	d.ws = websocket.Dialer{
		HandshakeTimeout: opt.ConnectTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  messageSize,
		WriteBufferPool:  &messageBuffers,
		Subprotocols:     []string{protocolPlain},
		TLSClientConfig:  &tls.Config{RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
	}
	if d.inner {
		d.ws.Subprotocols = []string{protocolTLS}
	}
	return d, nil
}

// first makes the link over its first carrier.
func (d *dialler) first(ctx context.Context) (*Link, error) {
	c, ans, err := d.connect(ctx, 0)
	if err != nil {
		return nil, err
	}
	hello, err := parseHello(ans.hello)
	if err != nil {
		c.close()
		return nil, err
	}
	l := newLink(d.id.Role, d.id.ID, d.token, hello, d.opt, true, nil)
	if err := l.r.attach(c, ans.received); err != nil {
		c.close()
		l.r.end(err)
		return nil, err
	}
	go d.keep(l) // ends with the link
	return l, nil
}

// keep connects again after each cut until the link ends.
func (d *dialler) keep(l *Link) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failures, before := 0, uint64(0)
	for {
		select {
		case <-l.r.done:
			return
		case <-l.r.cut:
		}
		stop := make(chan struct{})
		go func() { // ends with this resume
			select {
			case <-l.r.done:
				cancel()
			case <-stop:
			}
		}()
		// A path that takes connections and cuts them before a byte has passed deserves pauses too.
		if now := l.r.progress(); now != before {
			failures, before = 0, now
		}
		for !d.resume(ctx, l, &failures) {
		}
		close(stop)
	}
}

// resume tries once to go on over a new carrier, after a pause that grows with failures. It reports whether there is
// nothing left to do: the link has a carrier or has ended.
func (d *dialler) resume(ctx context.Context, l *Link, failures *int) bool {
	received, err := l.r.detach()
	if err != nil {
		return true
	}
	if *failures > 0 {
		select {
		case <-time.After(d.pause(*failures - 1)):
		case <-ctx.Done():
			return true
		}
	}
	*failures++
	c, ans, err := d.connect(ctx, received)
	switch {
	case err == nil:
		if err := l.r.attach(c, ans.received); err != nil {
			c.close()
		} else {
			d.opt.Logger.Debug("link resumed", "link", d.id.ID, "attempts", *failures)
		}
		return true
	case Permanent(err) || errors.Is(err, ErrUnknownLink):
		l.r.end(err)
		return true
	case ctx.Err() != nil:
		return true
	}
	d.opt.Logger.Debug("link not resumed yet", "link", d.id.ID, "reason", err)
	return false
}

// connect makes a carrier and goes through the handshake; received is how much of the stream has come here.
func (d *dialler) connect(ctx context.Context, received uint64) (*carrier, answer, error) {
	d.epoch++
	ctx, cancel := context.WithTimeout(ctx, d.opt.ConnectTimeout+d.opt.HandshakeTimeout)
	defer cancel()
	ws, err := d.upgrade(ctx)
	if err != nil {
		return nil, answer{}, err
	}
	c := newCarrier(ws)
	// What is too slow, or not wanted any more, is closed: nothing below has a deadline of its own.
	ctx, late := context.WithTimeout(ctx, d.opt.HandshakeTimeout)
	defer late()
	stop := context.AfterFunc(ctx, c.close)
	ans, err := d.handshake(c, received)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.close()
		return nil, answer{}, err
	}
	return c, ans, nil
}

// upgrade makes a connection and turns it into a WebSocket.
func (d *dialler) upgrade(ctx context.Context) (*websocket.Conn, error) {
	dialer := d.ws
	stop := func() bool { return true }
	defer func() { stop() }()
	dialer.NetDialContext = func(dialCtx context.Context, _, addr string) (net.Conn, error) {
		var conn net.Conn
		var err error
		if d.target.NetDial != nil {
			conn, err = d.target.NetDial(dialCtx)
		} else {
			conn, err = d.reach(dialCtx, addr)
		}
		if err != nil {
			return nil, err
		}
		// gorilla heeds the context's deadline only, and not its end before; it cancels its own when it has succeeded.
		stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		return conn, nil
	}
	ws, resp, err := dialer.DialContext(ctx, d.url, d.target.Header) //nolint:bodyclose // gorilla has read what there is of it
	if err != nil {
		return nil, upgradeError(resp, err)
	}
	return ws, nil
}

// upgradeError tells why there was no upgrade.
func upgradeError(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	if resp.StatusCode == http.StatusBadRequest && resp.Header.Get(versionHeader) != "" {
		return fmt.Errorf("%w: it speaks %q", ErrVersion, resp.Header.Get(versionHeader))
	}
	return fmt.Errorf("%w: %w: HTTP status %s", ErrNoHub, err, resp.Status)
}

// handshake proves both ends to each other.
func (d *dialler) handshake(c *carrier, received uint64) (answer, error) {
	if c.msgs.ws.Subprotocol() != d.ws.Subprotocols[0] {
		return answer{}, fmt.Errorf("%w: it upgraded to %q", ErrVersion, c.msgs.ws.Subprotocol())
	}
	t := transcript{inner: d.inner, dialler: d.id.Role, hub: d.opt.Peer, id: d.id.ID}
	if d.inner {
		exporter, err := c.secure(tls.Client(c.msgs, &tls.Config{
			MinVersion: tls.VersionTLS13,
			// Nobody vouches for the hub's ephemeral certificate: the proof covers the exporter's value of
			// this very connection, which a middleman cannot have with both ends.
			InsecureSkipVerify:          true,
			DynamicRecordSizingDisabled: true,
		}))
		if err != nil {
			return answer{}, err
		}
		t.exporter = exporter
	}
	open := opening{nonce: newNonce(), id: d.id.ID}
	if err := writeMessage(c.bytes, open.marshal()); err != nil {
		return answer{}, err
	}
	b, err := readMessage(c.bytes)
	if err != nil {
		return answer{}, err
	}
	ch, err := parseChallenge(b)
	if err != nil {
		return answer{}, err
	}
	t.nonces = [2][nonceSize]byte{open.nonce, ch.nonce}
	cl := claim{fresh: d.fresh, token: d.token, epoch: d.epoch, received: received, hello: d.hello}
	cl.mac = t.proof(d.id.Secret, labelDialler, cl.body())
	if err := writeMessage(c.bytes, cl.marshal()); err != nil {
		return answer{}, err
	}
	if b, err = readMessage(c.bytes); err != nil {
		return answer{}, err
	}
	ans, err := parseAnswer(b)
	if err != nil {
		return answer{}, err
	}
	if ans.status == statusRefused {
		return answer{}, ErrRefused
	}
	if !same(ans.mac, t.proof(d.id.Secret, labelHub, cl.body(), ans.body())) {
		return answer{}, ErrImpostor
	}
	switch ans.status {
	case statusOK:
		d.fresh = false
		return ans, nil
	case statusUnknown:
		return answer{}, ErrUnknownLink
	case statusBusy:
		return answer{}, errors.New("the hub is busy")
	default:
		return answer{}, errors.New("a newer connection has come before this one")
	}
}
