package link

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The handshake's constants on the wire: see the package comment.
const (
	wireVersion   = 2
	protocolTLS   = "link2.tls.sockerless"
	protocolPlain = "link2.sockerless"
	versionHeader = "Sockerless-Link"
	exporterLabel = "EXPORTER-sockerless-link"

	labelDialler = "sockerless link 2 dialler"
	labelHub     = "sockerless link 2 hub"

	secretSize   = 32
	nonceSize    = 32
	macSize      = sha256.Size
	tokenSize    = 16
	maxID        = 256
	maxHello     = 2048
	maxHandshake = 4096
)

// status is the hub's answer to a proof.
type status uint8

const (
	statusOK      status = iota
	statusRefused        // unknown id or wrong proof
	statusUnknown        // no such link here
	statusStale          // a newer connection has come
	statusBusy
)

var errHandshake = errors.New("bad handshake message")

// token names a link between the two ends, apart from all others of its id.
type token [tokenSize]byte

// opening is message 1.
type opening struct {
	nonce [nonceSize]byte
	id    string
}

func (m opening) marshal() []byte {
	b := append([]byte{wireVersion}, m.nonce[:]...)
	return append(b, m.id...)
}

func parseOpening(b []byte) (m opening, err error) {
	if len(b) < 1+nonceSize+1 || len(b) > 1+nonceSize+maxID || b[0] != wireVersion {
		return opening{}, errHandshake
	}
	copy(m.nonce[:], b[1:])
	m.id = string(b[1+nonceSize:])
	return m, nil
}

// challenge is message 2.
type challenge struct{ nonce [nonceSize]byte }

func (m challenge) marshal() []byte { return append([]byte{wireVersion}, m.nonce[:]...) }

func parseChallenge(b []byte) (m challenge, err error) {
	if len(b) != 1+nonceSize || b[0] != wireVersion {
		return challenge{}, errHandshake
	}
	copy(m.nonce[:], b[1:])
	return m, nil
}

// claim is message 3.
type claim struct {
	mac      [macSize]byte
	fresh    bool
	token    token
	epoch    uint64
	received uint64
	hello    []byte // JSON, parsed only after the proof
}

func (m claim) marshal() []byte { return append(m.mac[:], m.body()...) }

// body is what of the message the mac covers.
func (m claim) body() []byte {
	b := make([]byte, 0, 1+tokenSize+8+8+len(m.hello))
	if m.fresh {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = append(b, m.token[:]...)
	b = binary.BigEndian.AppendUint64(b, m.epoch)
	b = binary.BigEndian.AppendUint64(b, m.received)
	return append(b, m.hello...)
}

func parseClaim(b []byte) (m claim, err error) {
	const fixed = macSize + 1 + tokenSize + 8 + 8
	if len(b) < fixed || len(b) > fixed+maxHello || b[macSize] > 1 {
		return claim{}, errHandshake
	}
	copy(m.mac[:], b)
	b = b[macSize:]
	m.fresh = b[0] == 1
	copy(m.token[:], b[1:])
	b = b[1+tokenSize:]
	m.epoch = binary.BigEndian.Uint64(b)
	m.received = binary.BigEndian.Uint64(b[8:])
	m.hello = bytes.Clone(b[16:])
	return m, nil
}

// answer is message 4.
type answer struct {
	status   status
	mac      [macSize]byte
	received uint64
	hello    []byte
}

func (m answer) marshal() []byte {
	b := append([]byte{byte(m.status)}, m.mac[:]...)
	return append(b, m.body()[1:]...)
}

// body is what of the message the mac covers.
func (m answer) body() []byte {
	b := append(make([]byte, 0, 1+8+len(m.hello)), byte(m.status))
	b = binary.BigEndian.AppendUint64(b, m.received)
	return append(b, m.hello...)
}

func parseAnswer(b []byte) (m answer, err error) {
	const fixed = 1 + macSize + 8
	if len(b) < fixed || len(b) > fixed+maxHello || b[0] > byte(statusBusy) {
		return answer{}, errHandshake
	}
	m.status = status(b[0])
	copy(m.mac[:], b[1:])
	m.received = binary.BigEndian.Uint64(b[1+macSize:])
	m.hello = bytes.Clone(b[fixed:])
	return m, nil
}

// transcript is what both ends' macs cover beside the message itself.
type transcript struct {
	inner    bool // TLS of our own
	dialler  Role
	hub      Role
	id       string
	nonces   [2][nonceSize]byte // dialler's, hub's
	exporter []byte
}

// proof returns the mac over the transcript and the bodies under secret.
func (t transcript) proof(secret []byte, label string, bodies ...[]byte) (mac [macSize]byte) {
	h := hmac.New(sha256.New, secret)
	field := func(b []byte) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	field([]byte(label))
	if t.inner {
		field([]byte{1})
	} else {
		field([]byte{0})
	}
	field([]byte(t.dialler))
	field([]byte(t.hub))
	field([]byte(t.id))
	field(t.nonces[0][:])
	field(t.nonces[1][:])
	field(t.exporter)
	for _, b := range bodies {
		field(b)
	}
	h.Sum(mac[:0])
	return mac
}

// same compares two macs in constant time.
func same(a, b [macSize]byte) bool { return hmac.Equal(a[:], b[:]) }

func newNonce() (n [nonceSize]byte) {
	_, _ = rand.Read(n[:]) // crypto/rand never returns an error
	return n
}

func newToken() (t token) {
	_, _ = rand.Read(t[:])
	return t
}

// writeMessage writes one handshake message.
func writeMessage(w io.Writer, body []byte) error {
	if len(body) > maxHandshake {
		return errHandshake
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...))
	return err
}

// readMessage reads one handshake message and nothing beyond it.
func readMessage(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint16(n[:])
	if size > maxHandshake {
		return nil, fmt.Errorf("%w: %d bytes", errHandshake, size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(r, body)
	return body, err
}

func (h Hello) marshal() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(b) > maxHello {
		return nil, fmt.Errorf("cannot say hello in %d bytes: at most %d fit", len(b), maxHello)
	}
	return b, nil
}

func parseHello(b []byte) (h Hello, err error) {
	if err := json.Unmarshal(b, &h); err != nil {
		return Hello{}, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return h, nil
}
