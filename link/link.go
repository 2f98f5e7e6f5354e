package link

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Why a link has ended, or a connection was not made. Permanent tells which of them are for ever.
var (
	// ErrClosed: one of the two ends closed the link. It is a net.ErrClosed too.
	ErrClosed = fmt.Errorf("link closed: %w", net.ErrClosed)
	// ErrLost: the link was cut and not resumed within the resume window.
	ErrLost = errors.New("link lost: not resumed in time")
	// ErrBroken: the peer does not keep to the protocol above the carrier.
	ErrBroken = errors.New("link broken: protocol violated")
	// ErrRefused: the peer does not know the id, or not with this secret and these roles.
	ErrRefused = errors.New("link refused: id, secret or role is wrong")
	// ErrUnknownLink: the peer has no such link any more; it was restarted, or the link has ended there.
	ErrUnknownLink = errors.New("link unknown to the peer")
	// ErrImpostor: the peer does not know the secret itself, or somebody is in the middle.
	ErrImpostor = errors.New("link refused: the peer cannot prove that it knows the secret")
	// ErrVersion: the peer speaks no version of the link that we do.
	ErrVersion = errors.New("link refused: the peer speaks another version")
	// ErrNoHub: what answers at the URL refuses the upgrade: it is no hub, or a proxy that lets none through.
	ErrNoHub = errors.New("no hub answers there")
	// ErrReset ends a stream that the peer has reset; the link goes on.
	ErrReset = errors.New("stream reset by the peer")
)

// Permanent reports whether an error of Dial or Link.Err says that trying again with the same Identity is of no use:
// the proof was refused, the versions or the configuration are wrong. After ErrLost, ErrUnknownLink and ErrClosed a new
// Dial may well succeed.
func Permanent(err error) bool {
	var c *configError
	return errors.Is(err, ErrRefused) || errors.Is(err, ErrImpostor) || errors.Is(err, ErrVersion) || errors.As(err, &c)
}

// configError is a setting that no retry heals.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// Stats is what a link has done so far.
type Stats struct {
	Carriers int    // connections that it has run on; all but the first are resumes
	BytesIn  uint64 // delivered, without what TLS, WebSocket and frames add
	BytesOut uint64 // accepted, likewise, replays not counted
	Replayed uint64 // sent a second time
	Unacked  uint64 // sent or waiting, not yet acknowledged
}

// Link is an established link. It is safe for concurrent use and survives cuts of its carrier until the
// resume window has passed. It is a net.Listener for the streams that the peer opens. Whoever got it closes it.
type Link struct {
	id       string
	role     Role
	peerRole Role
	peer     Hello
	token    token
	opt      Options
	r        *resumable
	mux      *mux
}

// newLink makes a link without a carrier. dialler says which of the two ends this is; all is the budget of the links
// beside it, or nil.
func newLink(role Role, id string, tok token, peer Hello, opt Options, dialler bool, all *windowBudget) *Link {
	l := &Link{id: id, role: role, peerRole: opt.Peer, peer: peer, token: tok, opt: opt}
	l.r = newResumable(opt, Addr{role, id}, Addr{opt.Peer, id})
	l.mux = newMux(l.r, opt, dialler, &windowBudget{limit: opt.WindowBudget, all: all})
	return l
}

// ID is the id that both ends authenticated for: a run id, or "frontend".
func (l *Link) ID() string { return l.id }

// Peer is what the other end said of itself, covered by the proof.
func (l *Link) Peer() Hello { return l.peer }

// PeerRole is the other end's role, which the proof covers.
func (l *Link) PeerRole() Role { return l.peerRole }

// Open opens a stream to the peer; the conn is a *Stream, the caller closes it. While the link is cut it succeeds at once or
// waits, and so do the stream's writes. After the link's end it returns Err.
func (l *Link) Open(ctx context.Context) (net.Conn, error) {
	s, err := l.mux.open(ctx)
	if err != nil {
		return nil, err // not a nil *Stream in a net.Conn
	}
	return s, nil
}

// Accept returns the next stream that the peer has opened, a *Stream; the caller closes it. After the link's end it returns Err.
func (l *Link) Accept() (net.Conn, error) {
	s, err := l.mux.accepted()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close says goodbye and waits until the peer has heard it, at most 2 s; while cut it does not wait. Both ends'
// streams end with it, what is on its way in them included. Err is ErrClosed at both ends.
func (l *Link) Close() error {
	l.r.goodbye()
	return nil
}

// Addr is this end's name, for net.Listener.
func (l *Link) Addr() net.Addr { return l.r.local }

// Done is closed when the link has ended; Err then says why.
func (l *Link) Done() <-chan struct{} { return l.r.done }

// Err is nil while the link goes on, then why it ended: ErrClosed after a goodbye of either end.
func (l *Link) Err() error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.err
}

// Cut resets the present carrier, as a broken network would; the link goes on over a new one.
func (l *Link) Cut() {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if c := l.r.carrier; c != nil {
		c.reset()
		l.r.lose(c, errCut)
	}
}

// Connected reports whether there is a carrier now.
func (l *Link) Connected() bool {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.r.carrier != nil
}

// Wait returns nil when there is a carrier. It returns Err after the link's end, and ctx's error when that is done first.
func (l *Link) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.r.mu.Lock() // not between the look at ctx and the wait
		defer l.r.mu.Unlock()
		l.r.changed.Broadcast()
	})
	defer stop()
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	for l.r.carrier == nil && l.r.err == nil && ctx.Err() == nil {
		l.r.changed.Wait()
	}
	switch {
	case l.r.err != nil:
		return l.r.err
	case l.r.carrier != nil:
		return nil
	}
	return ctx.Err()
}

// Stats returns what the link has done so far.
func (l *Link) Stats() Stats {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	s := l.r.stats
	s.Unacked = l.r.out.next - l.r.out.acked
	return s
}

// Addr is one end's name on a link.
type Addr struct {
	Role Role
	ID   string
}

// Network returns "link".
func (Addr) Network() string { return "link" }

// String returns role/id.
func (a Addr) String() string { return string(a.Role) + "/" + a.ID }

var _ net.Listener = (*Link)(nil)
