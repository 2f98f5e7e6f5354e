package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// maxPending is how many new links wait for Accept before more are told to come later.
const maxPending = 1024

// HubStats is what a hub has done so far.
type HubStats struct {
	Handshakes int    // in flight now
	Window     int    // what the windows of its links have grown by now, in bytes
	Links      int    // established now
	Accepted   uint64 // new links
	Resumed    uint64 // carriers that came back to their link
	Refused    uint64 // proofs with an unknown id, a wrong secret or wrong roles
	Unknown    uint64 // right proofs for links that there are not
	Failed     uint64 // handshakes without a proof: they broke, timed out, or came too late
	Busy       uint64 // answered 503, or told to come later
}

// Hub accepts links: an http.Handler that upgrades. A new link comes out of Accept; a returning carrier goes
// to its link. It is safe for concurrent use.
type Hub struct {
	role     Role
	secret   func(id string) ([]byte, bool)
	opt      Options
	hello    []byte
	decoy    [secretSize]byte // stands in for the secret of an unknown id, so that both take the same work
	upgrader websocket.Upgrader
	tls      func() (*tls.Config, error)
	windows  *windowBudget // of all links
	pending  chan *Link
	done     chan struct{} // closed by Close

	mu       sync.Mutex
	closed   bool
	waiting  []*handshake // in flight, the oldest first
	links    map[token]*member
	byID     map[string]int // links of each id
	stats    HubStats
	warned   time.Time // when a refusal was last logged
	unlogged int       // refusals since then
}

// handshake is one that is in flight.
type handshake struct {
	begun time.Time
	cut   func()
}

// handshakeGrace is what a handshake has at least when others wait for its place.
const handshakeGrace = time.Second

// warnEvery is how often refusals are logged: whoever is refused can come again as often as he likes.
const warnEvery = 10 * time.Second

// member is a link at a hub. turn is held by the handshake that gives it a carrier.
type member struct {
	*Link
	turn  sync.Mutex
	epoch uint64 // the highest seen; guarded by turn
	live  bool   // it has had a carrier; guarded by turn
}

// NewHub makes a hub for an end of this role. secret looks up the 32-byte secret of an id and is called from many goroutines;
// to the peer an unknown id is the same as a wrong secret. Which role the peer must have is in opt.Peer.
func NewHub(role Role, secret func(id string) ([]byte, bool), opt Options) *Hub {
	h := &Hub{
		role:    role,
		secret:  secret,
		opt:     opt.withDefaults(role),
		pending: make(chan *Link, maxPending),
		done:    make(chan struct{}),
		links:   make(map[token]*member),
		byID:    make(map[string]int),
		tls:     sync.OnceValues(ephemeral),
	}
	h.windows = &windowBudget{limit: h.opt.HubBudget}
	if err := checkPair(role, h.opt.Peer); err != nil {
		panic(err)
	}
	var err error
	if h.hello, err = h.opt.Hello.marshal(); err != nil {
		panic(err)
	}
	_, _ = rand.Read(h.decoy[:])
	h.upgrader = websocket.Upgrader{
		HandshakeTimeout: h.opt.HandshakeTimeout,
		ReadBufferSize:   readBuffer,
		WriteBufferSize:  messageSize,
		WriteBufferPool:  &messageBuffers,
		Subprotocols:     []string{protocolTLS, protocolPlain},
		// No agent, backend or frontend is a browser.
		CheckOrigin: func(r *http.Request) bool { return r.Header.Get("Origin") == "" },
	}
	return h
}

// ephemeral makes a TLS configuration with a certificate that nobody verifies: see the package comment.
func ephemeral() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		// A resumed session would save little, and this way every connection has its own keys.
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}, nil
}

// ServeHTTP upgrades the request and goes through the handshake. It returns when that has ended.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	place, err := h.enter()
	if err != nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer h.leave(place)
	offered := websocket.Subprotocols(r)
	if !slices.Contains(offered, protocolTLS) && !slices.Contains(offered, protocolPlain) {
		h.count(func(s *HubStats) { s.Failed++ })
		w.Header().Set(versionHeader, "1")
		http.Error(w, "this is the route of a link", http.StatusBadRequest)
		return
	}
	ws, err := h.upgrader.Upgrade(w, r, nil)
	if err != nil {
		h.count(func(s *HubStats) { s.Failed++ }) // the upgrader has answered
		return
	}
	c := newCarrier(ws)
	h.mu.Lock()
	place.cut = c.close
	h.mu.Unlock()
	// Nothing below has a deadline of its own.
	late := time.AfterFunc(h.opt.HandshakeTimeout, c.close)
	defer late.Stop()
	if err := h.handshake(c, ws.Subprotocol() == protocolTLS); err != nil {
		c.close()
		h.opt.Logger.Debug("link handshake", "remote", r.RemoteAddr, "error", err)
		if !errors.Is(err, errAnswered) {
			h.count(func(s *HubStats) { s.Failed++ })
		}
	}
}

// enter takes a place among the handshakes in flight. When there is none left, the oldest has to go if it has had its time:
// a real one is over within some round trips, and a few silent connections must not keep everybody out.
func (h *Hub) enter() (*handshake, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("closing")
	}
	now := time.Now()
	if len(h.waiting) >= h.opt.MaxHandshakes {
		oldest := h.waiting[0]
		if now.Sub(oldest.begun) < handshakeGrace {
			h.stats.Busy++
			return nil, errors.New("too many handshakes")
		}
		oldest.cut()
		h.waiting = h.waiting[1:]
	}
	place := &handshake{begun: now, cut: func() {}}
	h.waiting = append(h.waiting, place)
	return place, nil
}

func (h *Hub) leave(place *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.waiting, place); i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	}
}

// refused counts a wrong proof and logs it, but not each one of many.
func (h *Hub) refused(id, remote string) {
	if count := h.countRefused(); count > 0 {
		h.opt.Logger.Warn("link refused: unknown id, or wrong secret or role", "id", id, "remote", remote, "count", count)
	}
}

// countRefused returns how many refusals are to be logged now.
func (h *Hub) countRefused() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Refused++
	h.unlogged++
	now := time.Now()
	if !h.warned.IsZero() && now.Sub(h.warned) < warnEvery {
		return 0
	}
	defer func() { h.warned, h.unlogged = now, 0 }()
	return h.unlogged
}

// errAnswered marks a handshake that ended with an answer and is counted as such.
var errAnswered = errors.New("not accepted")

// handshake proves both ends to each other and gives the carrier to its link. inner says that the TLS is ours.
func (h *Hub) handshake(c *carrier, inner bool) error {
	t := transcript{inner: inner, dialler: h.opt.Peer, hub: h.role}
	if t.inner {
		conf, err := h.tls()
		if err != nil {
			return fmt.Errorf("cannot make a certificate: %w", err)
		}
		if t.exporter, err = c.secure(tls.Server(c.msgs, conf)); err != nil {
			return err
		}
	}
	b, err := readMessage(c.bytes)
	if err != nil {
		return err
	}
	open, err := parseOpening(b)
	if err != nil {
		return err
	}
	ch := challenge{nonce: newNonce()}
	if err := writeMessage(c.bytes, ch.marshal()); err != nil {
		return err
	}
	if b, err = readMessage(c.bytes); err != nil {
		return err
	}
	cl, err := parseClaim(b)
	if err != nil {
		return err
	}
	t.id, t.nonces = open.id, [2][nonceSize]byte{open.nonce, ch.nonce}
	secret, ok := h.secret(open.id)
	if !ok || len(secret) != secretSize {
		ok, secret = false, h.decoy[:]
	}
	if !same(cl.mac, t.proof(secret, labelDialler, cl.body())) || !ok {
		h.refused(open.id, c.raw.RemoteAddr().String())
		_ = writeMessage(c.bytes, answer{status: statusRefused}.marshal())
		return errAnswered
	}
	hello, err := parseHello(cl.hello)
	if err != nil {
		return err
	}
	say := func(st status, received uint64) error {
		ans := answer{status: st, received: received, hello: h.hello}
		ans.mac = t.proof(secret, labelHub, cl.body(), ans.body())
		return writeMessage(c.bytes, ans.marshal())
	}
	return h.join(open.id, cl, hello, c, say)
}

// join finds or makes the link that the claim names and gives it the carrier.
func (h *Hub) join(id string, cl claim, hello Hello, c *carrier, say func(status, uint64) error) error {
	m, st := h.member(id, cl, hello)
	if st != statusOK {
		_ = say(st, 0)
		return errAnswered
	}
	m.turn.Lock()
	defer m.turn.Unlock()
	if cl.epoch <= m.epoch {
		h.count(func(s *HubStats) { s.Failed++ })
		_ = say(statusStale, 0)
		return errAnswered
	}
	m.epoch = cl.epoch
	// Everything that the old carrier has brought is delivered and counted before the new one is answered.
	received, err := m.r.detach()
	if err != nil {
		h.count(func(s *HubStats) { s.Unknown++ })
		_ = say(statusUnknown, 0)
		return errAnswered
	}
	if err := say(statusOK, received); err != nil {
		if !m.live {
			m.r.end(ErrLost) // nobody has seen it, and its dialler starts afresh
		}
		return err
	}
	if err := m.r.attach(c, cl.received); err != nil {
		return err
	}
	if m.live {
		h.count(func(s *HubStats) { s.Resumed++ })
		h.opt.Logger.Debug("link resumed", "link", id, "epoch", cl.epoch)
		return nil
	}
	m.live = true
	h.count(func(s *HubStats) { s.Accepted++ })
	select {
	case h.pending <- m.Link:
	case <-h.done:
	default:
		m.r.end(ErrLost)
	}
	return nil
}

// member returns the link that the claim names, a new one if the claim is fresh, or why there is none.
func (h *Hub) member(id string, cl claim, hello Hello) (*member, status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.links[cl.token]; m != nil {
		if m.id != id {
			// Tokens are random: this is a dialler of another id that was told this one.
			h.stats.Unknown++
			return nil, statusUnknown
		}
		return m, statusOK
	}
	switch {
	case !cl.fresh:
		h.stats.Unknown++
		return nil, statusUnknown
	case cl.epoch == 0:
		// It is no higher than what a new link has seen: that would stay for ever without a carrier.
		h.stats.Failed++
		return nil, statusStale
	case h.closed || h.byID[id] >= h.opt.MaxLinks || len(h.pending) == cap(h.pending):
		h.stats.Busy++
		return nil, statusBusy
	}
	m := &member{Link: newLink(h.role, id, cl.token, hello, h.opt, false, h.windows)}
	h.links[cl.token] = m
	h.byID[id]++
	go func() { // ends with the link
		<-m.Done()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.links, cl.token)
		if h.byID[id]--; h.byID[id] == 0 {
			delete(h.byID, id)
		}
	}()
	return m, statusOK
}

// Accept returns the next new link, after both proofs; the caller closes it. After Close it returns ErrClosed.
func (h *Hub) Accept(ctx context.Context) (*Link, error) {
	select {
	case <-h.done:
		return nil, ErrClosed
	default:
	}
	select {
	case l := <-h.pending:
		return l, nil
	case <-h.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stats returns what the hub has done so far.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Handshakes, s.Links, s.Window = len(h.waiting), len(h.links), h.windows.now()
	return s
}

// Close refuses further connections and closes every link of the hub, saying goodbye.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	close(h.done)
	var all []*Link
	for _, m := range h.links {
		all = append(all, m.Link)
	}
	h.mu.Unlock()
	var wait sync.WaitGroup
	for _, l := range all {
		wait.Go(func() { _ = l.Close() })
	}
	wait.Wait()
	return nil
}

func (h *Hub) count(add func(*HubStats)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	add(&h.stats)
}
