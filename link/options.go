package link

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Role is what an end is, whoever dialled. The proof binds both ends' roles.
type Role string

// The three ends there are. A link is between a Backend and one of the others.
const (
	Agent    Role = "agent"
	Backend  Role = "backend"
	Frontend Role = "frontend"
)

// Hello is what an end says of itself in the handshake. It is covered by the proof.
// As JSON it has at most 2048 bytes.
type Hello struct {
	Execution string `json:"execution,omitempty"` // the execution that an agent runs in; empty for other ends
	BootID    string `json:"bootID,omitempty"`    // random for each start of an agent; empty for other ends
	Version   string `json:"version,omitempty"`   // of the program
}

// Identity is the dialling end's part in the proof.
type Identity struct {
	Role   Role
	ID     string // what the hub knows the secret by: a run id, or "frontend"; at most 256 bytes
	Secret []byte // 32 bytes
	Hello  Hello
}

// ResumeWindow is the default of Options.ResumeWindow. What has a deadline of its own on a stream needs a later one, or a cut ends it.
const ResumeWindow = 5 * time.Minute

// Options are the settings of a link or a hub. The zero value means the defaults.
type Options struct {
	// Peer is the only role that the other end may have. By default an agent and a frontend expect a
	// backend, and a backend expects an agent: a hub for frontends must say Peer: Frontend, so that
	// an agent's secret never opens a frontend's route.
	Peer Role

	// Hello is what a hub says of itself. Dial uses its Identity's.
	Hello Hello

	// ResumeWindow is how long a cut link waits for a new carrier before it ends; ResumeWindow by default.
	ResumeWindow time.Duration

	// MaxPause is the longest pause between two attempts to connect; 5 s by default. Pauses start at 50 ms and double.
	MaxPause time.Duration

	// KeepAlive is how long a carrier may be silent before it is cut, once a ping has been sent on it, and how long
	// it may take for one write of at most 192 KiB; pings go out after half of it. 20 s by default.
	KeepAlive time.Duration

	// ConnectTimeout bounds one attempt to connect and upgrade, before the handshake; 15 s by default.
	ConnectTimeout time.Duration

	// HandshakeTimeout bounds everything between the upgrade and the end of the proof; 5 s by default.
	HandshakeTimeout time.Duration

	// MaxHandshakes is how many handshakes a hub has in flight before it answers 503; 256 by default.
	MaxHandshakes int

	// MaxLinks is how many links one id may have at a hub; 64 by default.
	MaxLinks int

	// MaxStreams is how many streams the peer may have open at a time; one more is reset. Negative is none, which is the
	// default where the peer is an agent: it is asked and asks nothing, and what runs beside it is foreign code; one that opens
	// a stream all the same has ended its link. Else 4096.
	MaxStreams int

	// ReplayBuffer is how many sent bytes are kept for a replay until the peer acknowledges them;
	// 4 MiB by default. It bounds the speed on one link: ReplayBuffer / round trip.
	ReplayBuffer int

	// MaxWindow is how far one stream's receive window grows with the round trip; 8 MiB by default. A window is opened
	// again when half of it is read, so about half of it is under way at a time.
	// WindowBudget bounds the sum of what all windows of a link grow by beyond their first 384 KiB; 32 MiB by default.
	// HubBudget bounds the same for all links of a hub together; 512 MiB by default.
	MaxWindow    int
	WindowBudget int
	HubBudget    int

	// RootCAs verifies an https URL; nil means the system's.
	RootCAs *x509.CertPool

	// Proxy says which proxy leads to a URL; nil means the environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
	// It is not asked when Target.NetDial is set.
	Proxy func(*http.Request) (*url.URL, error)

	// Logger gets cuts, resumes and refusals; nil discards them.
	Logger *slog.Logger
}

// withDefaults returns o with every zero field replaced by its default for an end of this role.
func (o Options) withDefaults(role Role) Options {
	if o.Peer == "" {
		o.Peer = Backend
		if role == Backend {
			o.Peer = Agent
		}
	}
	def(&o.ResumeWindow, ResumeWindow)
	def(&o.MaxPause, 5*time.Second)
	def(&o.KeepAlive, 20*time.Second)
	def(&o.ConnectTimeout, 15*time.Second)
	def(&o.HandshakeTimeout, 5*time.Second)
	def(&o.MaxHandshakes, 256)
	def(&o.MaxLinks, 64)
	if o.Peer == Agent {
		def(&o.MaxStreams, -1)
	}
	def(&o.MaxStreams, 4096)
	def(&o.ReplayBuffer, 4<<20)
	def(&o.MaxWindow, 8<<20)
	def(&o.WindowBudget, 32<<20)
	def(&o.HubBudget, 512<<20)
	// A stream begins with the one, and a peer takes no more than the other.
	o.MaxWindow = min(max(o.MaxWindow, firstWindow), maxCredit)
	// What the peer acknowledges at once must fit, else each Write would wait for its timer.
	o.ReplayBuffer = max(o.ReplayBuffer, 2*ackBytes)
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// checkPair reports whether a link between these roles makes sense.
func checkPair(a, b Role) error {
	if (a == Backend) == (b == Backend) || !known(a) || !known(b) {
		return fmt.Errorf("cannot link %q with %q", a, b)
	}
	return nil
}

func known(r Role) bool { return r == Agent || r == Backend || r == Frontend }
