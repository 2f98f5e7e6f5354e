package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

var (
	goodSecret  = bytes.Repeat([]byte{1}, secretSize)
	wrongSecret = bytes.Repeat([]byte{2}, secretSize)
)

// newTestHub serves a backend's hub that knows run-1 and run-2.
func newTestHub(t *testing.T, opt Options) (*Hub, *httptest.Server) {
	t.Helper()
	h := NewHub(Backend, func(id string) ([]byte, bool) { return goodSecret, strings.HasPrefix(id, "run-") }, opt)
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		_ = h.Close()
		s.Close()
	})
	return h, s
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// byHand upgrades a connection to the server, for a handshake by hand.
func byHand(t *testing.T, server *httptest.Server, protocol string) *carrier {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{protocol}}
	ws, _, err := d.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := newCarrier(ws)
	t.Cleanup(c.close)
	_ = c.raw.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// exchange writes a message and reads the answer.
func exchange(t *testing.T, c *carrier, m []byte) []byte {
	t.Helper()
	if err := writeMessage(c.bytes, m); err != nil {
		t.Fatal(err)
	}
	b, err := readMessage(c.bytes)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// claimByHand goes through a plain handshake with this claim and returns the hub's answer and what the dialler's last message was.
func claimByHand(t *testing.T, c *carrier, id string, secret []byte, cl claim) (answer, []byte) {
	t.Helper()
	open := opening{nonce: newNonce(), id: id}
	ch, err := parseChallenge(exchange(t, c, open.marshal()))
	if err != nil {
		t.Fatal(err)
	}
	tr := transcript{dialler: Agent, hub: Backend, id: id, nonces: [2][nonceSize]byte{open.nonce, ch.nonce}}
	cl.hello = []byte("{}")
	cl.mac = tr.proof(secret, labelDialler, cl.body())
	ans, err := parseAnswer(exchange(t, c, cl.marshal()))
	if err != nil {
		t.Fatal(err)
	}
	if ans.status != statusRefused && !same(ans.mac, tr.proof(secret, labelHub, cl.body(), ans.body())) {
		t.Fatal("the hub's proof is wrong")
	}
	return ans, cl.marshal()
}

func TestProof(t *testing.T) {
	for _, c := range []struct {
		name string
		id   Identity
		peer Role
		want error
	}{
		{"right", Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Backend, nil},
		{"wrong secret", Identity{Role: Agent, ID: "run-1", Secret: wrongSecret}, Backend, ErrRefused},
		{"unknown id", Identity{Role: Agent, ID: "nobody", Secret: goodSecret}, Backend, ErrRefused},
		{"agent's secret as a frontend", Identity{Role: Frontend, ID: "run-1", Secret: goodSecret}, Backend, ErrRefused},
		{"backend to a backend's hub", Identity{Role: Backend, ID: "run-1", Secret: goodSecret}, Agent, ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := newTestHub(t, Options{})
			l, err := Dial(testContext(t), Target{URL: s.URL}, c.id, Options{Peer: c.peer})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("Dial = %v, want %v", err, c.want)
			}
			if c.want == nil {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !Permanent(err) {
				t.Errorf("%v is not permanent", err)
			}
			if st := h.Stats(); st.Refused != 1 || st.Links != 0 || st.Accepted != 0 {
				t.Errorf("counted as %+v", st)
			}
		})
	}
}

func TestDialRefusesItself(t *testing.T) {
	good := Identity{Role: Agent, ID: "run-1", Secret: goodSecret}
	for _, c := range []struct {
		name string
		url  string
		id   Identity
		opt  Options
	}{
		{"no scheme", "localhost:9100", good, Options{}},
		{"another scheme", "ftp://localhost/", good, Options{}},
		{"no host", "http:///agent", good, Options{}},
		{"a password in the URL", "http://a:b@localhost/", good, Options{}},
		{"a short secret", "http://localhost/", Identity{Role: Agent, ID: "run-1", Secret: goodSecret[1:]}, Options{}},
		{"no id", "http://localhost/", Identity{Role: Agent, Secret: goodSecret}, Options{}},
		{"a long id", "http://localhost/", Identity{Role: Agent, ID: strings.Repeat("x", maxID+1), Secret: goodSecret}, Options{}},
		{"a long hello", "http://localhost/", Identity{Role: Agent, ID: "r", Secret: goodSecret, Hello: Hello{Version: strings.Repeat("x", maxHello)}}, Options{}},
		{"two agents", "http://localhost/", good, Options{Peer: Agent}},
		{"no role", "http://localhost/", Identity{ID: "run-1", Secret: goodSecret}, Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Dial(testContext(t), Target{URL: c.url}, c.id, c.opt)
			if err == nil || !Permanent(err) {
				t.Fatalf("Dial = %v, want a permanent error", err)
			}
			if strings.Contains(err.Error(), "a:b") {
				t.Errorf("%q shows the password", err)
			}
		})
	}
}

// To whoever has no secret, an id that exists and one that does not are the same.
func TestUnknownAndWrongLookAlike(t *testing.T) {
	_, s := newTestHub(t, Options{})
	var answers [2][]byte
	for i, id := range []string{"run-1", "nobody"} {
		ans, _ := claimByHand(t, byHand(t, s, protocolPlain), id, wrongSecret, claim{fresh: true, token: newToken(), epoch: 1})
		answers[i] = ans.marshal()
	}
	if !bytes.Equal(answers[0], answers[1]) {
		t.Errorf("wrong secret: %x\nunknown id:   %x", answers[0], answers[1])
	}
}

// The decoy is no secret that opens an unknown id.
func TestUnknownIDWithTheDecoy(t *testing.T) {
	h, s := newTestHub(t, Options{})
	ans, _ := claimByHand(t, byHand(t, s, protocolPlain), "nobody", h.decoy[:], claim{fresh: true, token: newToken(), epoch: 1})
	if ans.status != statusRefused {
		t.Errorf("status %d, want refused", ans.status)
	}
}

func TestReplayedProof(t *testing.T) {
	h, s := newTestHub(t, Options{})
	ans, said := claimByHand(t, byHand(t, s, protocolPlain), "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	if ans.status != statusOK {
		t.Fatalf("status %d, want ok", ans.status)
	}
	c := byHand(t, s, protocolPlain)
	exchange(t, c, opening{nonce: newNonce(), id: "run-1"}.marshal())
	again, err := parseAnswer(exchange(t, c, said))
	if err != nil || again.status != statusRefused {
		t.Errorf("the replay got status %d, %v; want refused", again.status, err)
	}
	eventually(t, func() bool { st := h.Stats(); return st.Accepted == 1 && st.Refused == 1 })
}

// relay hands handshake messages on, as a middleman would who ends the TLS on both sides.
func relay(a, b io.ReadWriter) {
	for i := range 4 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		m, err := readMessage(from)
		if err != nil {
			return
		}
		if writeMessage(to, m) != nil {
			return
		}
	}
}

func TestMiddleman(t *testing.T) {
	for _, c := range []struct {
		name     string
		protocol string // towards the hub
	}{
		{"ends the TLS and makes a new one", protocolTLS},
		{"ends the TLS and goes on without", protocolPlain},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := newTestHub(t, Options{})
			conf, err := ephemeral()
			if err != nil {
				t.Fatal(err)
			}
			up := websocket.Upgrader{Subprotocols: []string{protocolTLS}}
			middle := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := up.Upgrade(w, r, nil)
				if err != nil {
					return
				}
				victim := newCarrier(ws)
				defer victim.close()
				if _, err := victim.secure(tls.Server(victim.msgs, conf)); err != nil {
					t.Error(err)
					return
				}
				hub := byHand(t, s, c.protocol)
				if c.protocol == protocolTLS {
					if _, err := hub.secure(tls.Client(hub.msgs, &tls.Config{InsecureSkipVerify: true})); err != nil { //nolint:gosec // a test
						t.Error(err)
						return
					}
				}
				relay(victim.bytes, hub.bytes)
			}))
			defer middle.Close()
			_, err = Dial(testContext(t), Target{URL: middle.URL}, Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Options{})
			if !errors.Is(err, ErrRefused) {
				t.Errorf("Dial = %v, want ErrRefused", err)
			}
			if st := h.Stats(); st.Refused != 1 || st.Accepted != 0 {
				t.Errorf("counted as %+v", st)
			}
		})
	}
}

// A hub that does not know the secret cannot be linked to, whatever it answers.
func TestImpostor(t *testing.T) {
	conf, err := ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []status{statusOK, statusUnknown, statusBusy} {
		up := websocket.Upgrader{Subprotocols: []string{protocolTLS}}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := up.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			c := newCarrier(ws)
			defer c.close()
			if _, err := c.secure(tls.Server(c.msgs, conf)); err != nil {
				t.Error(err)
			}
			_, _ = readMessage(c.bytes)
			_ = writeMessage(c.bytes, challenge{nonce: newNonce()}.marshal())
			_, _ = readMessage(c.bytes)
			_ = writeMessage(c.bytes, answer{status: st, mac: newNonce(), hello: []byte("{}")}.marshal())
		}))
		_, err := Dial(testContext(t), Target{URL: s.URL}, Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Options{})
		s.Close()
		if !errors.Is(err, ErrImpostor) || !Permanent(err) {
			t.Errorf("status %d: Dial = %v, want ErrImpostor", st, err)
		}
	}
}

// What a claim names decides: its own link, a new one, or none; never another's.
func TestClaims(t *testing.T) {
	h, s := newTestHub(t, Options{MaxLinks: 1})
	tok := newToken()
	claims := func(id string, cl claim, want status) {
		t.Helper()
		ans, _ := claimByHand(t, byHand(t, s, protocolPlain), id, goodSecret, cl)
		if ans.status != want {
			t.Errorf("status %d, want %d", ans.status, want)
		}
	}
	claims("run-1", claim{token: tok, epoch: 1}, statusUnknown) // not fresh
	claims("run-1", claim{token: newToken(), fresh: true}, statusStale)
	if n := h.Stats().Links; n != 0 {
		t.Errorf("%d links are left that no claim can ever take", n)
	}
	claims("run-1", claim{token: tok, epoch: 5, fresh: true}, statusOK)
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	claims("run-2", claim{token: tok, epoch: 9}, statusUnknown) // another id's
	claims("run-2", claim{token: tok, epoch: 9, fresh: true}, statusUnknown)
	claims("run-1", claim{token: tok, epoch: 5}, statusStale)
	claims("run-1", claim{token: tok, epoch: 4, fresh: true}, statusStale)
	if st := l.Stats(); st.Carriers != 1 || !l.Connected() {
		t.Errorf("a stale or foreign claim touched the link: %+v", st)
	}
	claims("run-1", claim{token: newToken(), epoch: 1, fresh: true}, statusBusy) // one link an id
	claims("run-1", claim{token: tok, epoch: 6, fresh: true}, statusOK)          // its first answer was lost
	eventually(t, func() bool {
		st := h.Stats()
		return st.Accepted == 1 && st.Resumed == 1 && st.Unknown == 3 && st.Busy == 1
	})
	// A peer that resumes at a byte that was never sent does not keep to the protocol.
	claims("run-1", claim{token: tok, epoch: 7, received: 1 << 40}, statusOK)
	<-l.Done()
	claims("run-1", claim{token: tok, epoch: 8}, statusUnknown)
}

func TestStaleCarrierIsFenced(t *testing.T) {
	h, s := newTestHub(t, Options{})
	tok := newToken()
	old := byHand(t, s, protocolPlain)
	claimByHand(t, old, "run-1", goodSecret, claim{fresh: true, token: tok, epoch: 1})
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	claimByHand(t, byHand(t, s, protocolPlain), "run-1", goodSecret, claim{token: tok, epoch: 2})
	eventually(t, func() bool { return l.Stats().Carriers == 2 })
	before := l.Stats().BytesIn
	// What still comes over the old one, here the first bytes of a message, is not taken.
	b := make([]byte, frameHeader+4)
	frame{kind: frameData, length: 4}.put(b)
	_ = old.send([][]byte{b})
	for {
		if _, err := old.raw.Read(make([]byte, 4096)); err != nil {
			if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
				t.Error("the old carrier was left open")
			}
			break
		}
	}
	if got := l.Stats().BytesIn; got != before {
		t.Errorf("the old carrier delivered %d bytes", got-before)
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not after a minute")
		}
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	h, s := newTestHub(t, Options{HandshakeTimeout: 10 * time.Minute, MaxHandshakes: 2})
	silent := byHand(t, s, protocolTLS)
	plain := byHand(t, s, protocolPlain)
	exchange(t, plain, opening{nonce: newNonce(), id: "run-1"}.marshal())
	h.mu.Lock()
	for _, w := range h.waiting { // young for as long as this takes
		w.begun = w.begun.Add(time.Hour)
	}
	h.mu.Unlock()
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || h.Stats().Busy != 1 {
		t.Errorf("status %d with %+v", resp.StatusCode, h.Stats())
	}
	silent.close()
	plain.close()
	eventually(t, func() bool { st := h.Stats(); return st.Failed == 2 && st.Handshakes == 0 })

	huge := byHand(t, s, protocolPlain)
	_, _ = huge.bytes.Write([]byte{0xff, 0xff})
	if !ends(huge) {
		t.Error("a message of 65535 bytes was not refused")
	}
	eventually(t, func() bool { return h.Stats().Failed == 3 })
}

// ends reports whether the hub ends the carrier before byHand's deadline does.
func ends(c *carrier) bool {
	_, err := io.Copy(io.Discard, c.raw)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestHandshakesHaveTheirTime(t *testing.T) {
	h, s := newTestHub(t, Options{HandshakeTimeout: 200 * time.Millisecond})
	silent := byHand(t, s, protocolTLS)
	plain := byHand(t, s, protocolPlain)
	_ = writeMessage(plain.bytes, opening{nonce: newNonce(), id: "run-1"}.marshal()) // which may come too late already
	for _, c := range []*carrier{silent, plain} {
		if !ends(c) {
			t.Error("a silent handshake goes on")
		}
	}
	eventually(t, func() bool { st := h.Stats(); return st.Failed == 2 && st.Handshakes == 0 })
}

// Connections that say nothing and take every place make room for those that do.
func TestSilentHandshakesMakeRoom(t *testing.T) {
	h, s := newTestHub(t, Options{HandshakeTimeout: time.Minute, MaxHandshakes: 2})
	silent := []*carrier{byHand(t, s, protocolTLS), byHand(t, s, protocolPlain)}
	time.Sleep(handshakeGrace)
	l, err := Dial(testContext(t), Target{URL: s.URL}, Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if !ends(silent[0]) {
		t.Error("the oldest was kept")
	}
	eventually(t, func() bool { st := h.Stats(); return st.Failed == 1 && st.Handshakes == 1 })
}

// Refusals are counted each and logged together: whoever is refused could otherwise fill the log.
func TestRefusalsAreTold(t *testing.T) {
	var mu sync.Mutex
	var told bytes.Buffer
	h, s := newTestHub(t, Options{Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return told.Write(p)
	}), nil))})
	for i := range 5 {
		claimByHand(t, byHand(t, s, protocolPlain), "run-1\nforged", wrongSecret, claim{fresh: true, token: newToken(), epoch: uint64(i)})
	}
	if st := h.Stats(); st.Refused != 5 {
		t.Errorf("counted as %+v", st)
	}
	h.mu.Lock()
	h.warned = h.warned.Add(-warnEvery)
	h.mu.Unlock()
	claimByHand(t, byHand(t, s, protocolPlain), "nobody", wrongSecret, claim{fresh: true, token: newToken(), epoch: 1})
	mu.Lock()
	defer mu.Unlock()
	lines := strings.Split(strings.TrimSpace(told.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "count=1") || !strings.Contains(lines[0], "link refused") || !strings.Contains(lines[0], "remote=127.0.0.1:") || !strings.Contains(lines[1], "count=5") {
		t.Errorf("the log says\n%s", &told)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestUpgradeRefusals(t *testing.T) {
	_, s := newTestHub(t, Options{})
	for _, c := range []struct {
		name     string
		protocol string
		origin   string
		want     int
	}{
		{"no protocol of ours", "chat", "", http.StatusBadRequest},
		{"another version", "link1.sockerless", "", http.StatusBadRequest},
		{"a browser", protocolTLS, "http://evil.example", http.StatusForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := websocket.Dialer{Subprotocols: []string{c.protocol}}
			header := http.Header{}
			if c.origin != "" {
				header.Set("Origin", c.origin)
			}
			_, resp, err := d.Dial("ws"+strings.TrimPrefix(s.URL, "http"), header)
			if err == nil || resp == nil || resp.StatusCode != c.want {
				t.Fatalf("%v, %v; want status %d", resp, err, c.want)
			}
			if got := resp.Header.Get(versionHeader); (c.want == http.StatusBadRequest) != (got == "1") {
				t.Errorf("version header %q", got)
			}
		})
	}
}

func TestVersionOfTheHub(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(versionHeader, "2")
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer s.Close()
	_, err := Dial(testContext(t), Target{URL: s.URL}, Identity{Role: Agent, ID: "run-1", Secret: goodSecret}, Options{})
	if !errors.Is(err, ErrVersion) || !Permanent(err) {
		t.Errorf("Dial = %v, want ErrVersion", err)
	}
}

func FuzzHandshakeMessages(f *testing.F) {
	f.Add(opening{id: "run-1"}.marshal())
	f.Add(challenge{}.marshal())
	f.Add(claim{fresh: true, epoch: 3, received: 9, hello: []byte(`{"version":"1"}`)}.marshal())
	f.Add(answer{status: statusBusy, received: 9, hello: []byte(`{}`)}.marshal())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Whatever is accepted means just these bytes.
		if m, err := parseOpening(b); err == nil && !bytes.Equal(m.marshal(), b) {
			t.Errorf("opening %x became %x", b, m.marshal())
		}
		if m, err := parseChallenge(b); err == nil && !bytes.Equal(m.marshal(), b) {
			t.Errorf("challenge %x became %x", b, m.marshal())
		}
		if m, err := parseClaim(b); err == nil && !bytes.Equal(m.marshal(), b) {
			t.Errorf("claim %x became %x", b, m.marshal())
		}
		if m, err := parseAnswer(b); err == nil && !bytes.Equal(m.marshal(), b) {
			t.Errorf("answer %x became %x", b, m.marshal())
		}
		_, _ = parseHello(b)
		if m, err := readMessage(bytes.NewReader(b)); err == nil {
			var w bytes.Buffer
			if err := writeMessage(&w, m); err != nil || !bytes.HasPrefix(b, w.Bytes()) {
				t.Errorf("message %x became %x, %v", b, w.Bytes(), err)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	b := make([]byte, frameHeader)
	frame{kind: frameData, length: 7, seq: 1 << 40, ack: 3}.put(b)
	f.Add(bytes.Clone(b))
	frame{kind: frameBye}.put(b)
	f.Add(bytes.Clone(b))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameHeader {
			return
		}
		m, err := parseFrame(b)
		if err != nil {
			return
		}
		var again [frameHeader]byte
		m.put(again[:])
		if !bytes.Equal(again[:], b[:frameHeader]) {
			t.Errorf("%x became %x", b[:frameHeader], again)
		}
	})
}
