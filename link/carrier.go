package link

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// messageSize is how much one WebSocket message carries: a batch with what TLS adds to it. Smaller buffers
// make gorilla fragment, which halves the throughput of the masking end.
const messageSize = batchSize + 16<<10

// readBuffer is enough for a WebSocket header and small messages: larger reads bypass it.
const readBuffer = 4 << 10

// messageBuffers are the write buffers of all carriers, so that an idle one holds none.
var messageBuffers sync.Pool

// messageConn makes a byte stream of a WebSocket's binary messages, for crypto/tls to run on. What is written is
// gathered until flush, unless eager.
type messageConn struct {
	ws *websocket.Conn
	r  io.Reader // the rest of the message being read; touched by the reader alone

	mu    sync.Mutex // crypto/tls may answer a key update from the reader
	w     io.WriteCloser
	eager bool
}

func newMessageConn(ws *websocket.Conn) *messageConn {
	m := &messageConn{ws: ws, eager: true}
	// A ping of a proxy is answered off the reader, which must not wait for a writer: with gorilla's own handler two ends
	// that both write could stop each other. One answer at a time is enough.
	var answering sync.Mutex
	ws.SetPingHandler(func(data string) error {
		if answering.TryLock() {
			go func() { // ends with the write: at its deadline or with the carrier
				defer answering.Unlock()
				_ = ws.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Minute))
			}()
		}
		return nil
	})
	return m
}

var errText = errors.New("a text message on a link")

func (m *messageConn) Read(p []byte) (int, error) {
	for {
		if m.r == nil {
			kind, r, err := m.ws.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage {
				return 0, errText
			}
			m.r = r
		}
		n, err := m.r.Read(p)
		if errors.Is(err, io.EOF) {
			m.r, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

func (m *messageConn) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.w == nil {
		w, err := m.ws.NextWriter(websocket.BinaryMessage)
		if err != nil {
			return 0, err
		}
		m.w = w
	}
	n, err := m.w.Write(p)
	if err == nil && m.eager {
		err = m.flushLocked()
	}
	return n, err
}

// flush sends what was gathered as one message.
func (m *messageConn) flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.flushLocked()
}

// flushLocked is flush; m.mu is held.
func (m *messageConn) flushLocked() error {
	if m.w == nil {
		return nil
	}
	w := m.w
	m.w = nil
	return w.Close()
}

func (m *messageConn) gather() {
	m.mu.Lock()
	m.eager = false
	m.mu.Unlock()
}

func (m *messageConn) Close() error                       { return m.ws.Close() }
func (m *messageConn) LocalAddr() net.Addr                { return m.ws.LocalAddr() }
func (m *messageConn) RemoteAddr() net.Addr               { return m.ws.RemoteAddr() }
func (m *messageConn) SetDeadline(t time.Time) error      { return m.ws.NetConn().SetDeadline(t) }
func (m *messageConn) SetReadDeadline(t time.Time) error  { return m.ws.SetReadDeadline(t) }
func (m *messageConn) SetWriteDeadline(t time.Time) error { return m.ws.SetWriteDeadline(t) }

// carrier is one connection under a link, from its handshake to its cut.
type carrier struct {
	raw   net.Conn // the lowest connection there is, below every TLS: closing it never waits
	msgs  *messageConn
	bytes io.ReadWriter // msgs, or our TLS on it
	end   sync.Once

	// For the resumable's reader:
	head [frameHeader]byte
	left uint32 // bytes of the present frame's payload that have not been read
}

func newCarrier(ws *websocket.Conn) *carrier {
	c := &carrier{raw: lowest(ws.NetConn()), msgs: newMessageConn(ws)}
	c.bytes = c.msgs
	tune(c.raw)
	return c
}

// lowest returns the connection under every wrapper that tells it, as *tls.Conn does.
func lowest(conn net.Conn) net.Conn {
	for {
		w, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = w.NetConn()
	}
}

// secure runs our own TLS on the carrier and returns the exporter's value, which both ends' proofs cover.
func (c *carrier) secure(conn *tls.Conn) (exporter []byte, err error) {
	if err := conn.Handshake(); err != nil { //nolint:noctx // the caller closes the carrier when its time is over
		return nil, err
	}
	state := conn.ConnectionState()
	exporter, err = state.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return nil, err
	}
	c.bytes = conn
	return exporter, nil
}

// ready ends the handshake: from now on writes are gathered until flush.
func (c *carrier) ready() { c.msgs.gather() }

// send writes the pieces as one message.
func (c *carrier) send(pieces [][]byte) error {
	for _, p := range pieces {
		if _, err := c.bytes.Write(p); err != nil {
			return err
		}
	}
	return c.msgs.flush()
}

// next reads the next header, or p from the present frame's payload, or what is left of that; n bytes have come in spite of an
// error. The caller sets left from a data frame's header.
func (c *carrier) next(p []byte) (n int, f frame, err error) {
	if c.left > 0 {
		n, err = io.ReadFull(c.bytes, p[:min(len(p), int(c.left))])
		c.left -= uint32(n)
		return n, frame{}, err
	}
	if _, err := io.ReadFull(c.bytes, c.head[:]); err != nil {
		return 0, frame{}, err
	}
	f, err = parseFrame(c.head[:])
	return 0, f, err
}

// close ends the carrier at once; a read or write in progress returns.
func (c *carrier) close() { c.end.Do(func() { _ = c.raw.Close() }) }

// reset is close with a TCP reset, as a broken network path would give.
func (c *carrier) reset() {
	c.end.Do(func() {
		if t, ok := c.raw.(interface{ SetLinger(sec int) error }); ok {
			_ = t.SetLinger(0)
		}
		_ = c.raw.Close()
	})
}
