package dockerapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

// closeTime is how long a client may take to take the end of a WebSocket.
const closeTime = 5 * time.Second

// attachWebSocket attaches by WebSocket. As with dockerd, each message has bytes of either stream, without frames; it
// is binary from API 1.28 on, and text before. A client that closes the WebSocket leaves.
func (a *api) attachWebSocket(w http.ResponseWriter, r *request) error {
	c, err := a.backend.Containers.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	if !websocket.IsWebSocketUpgrade(r.Request) {
		return sockerless.Errorf(sockerless.EINVALID, "not websocket protocol")
	}
	process, err := a.backend.Containers.Attach(r.Context(), c.ID, r.attachOptions())
	if err != nil {
		return err
	}
	upgrader := websocket.Upgrader{Error: func(http.ResponseWriter, *http.Request, int, error) {}} // it is returned
	conn, err := upgrader.Upgrade(hijacker{w}, r.Request, http.Header{"Api-Version": {maxVersion.String()}, "Ostype": {"linux"}})
	if err != nil {
		process.Close()
		if _, ok := errors.AsType[websocket.HandshakeError](err); ok {
			return sockerless.Errorf(sockerless.EINVALID, "%w", err)
		}
		return nil // the client is gone; nobody is left to tell
	}
	client := &webSocket{conn: conn, kind: websocket.BinaryMessage}
	if r.version.before(28) {
		client.kind = websocket.TextMessage
	}
	if !c.Config.Tty {
		process = &unframing{Session: process}
	}
	// A server that is shut down ends its requests' contexts; nothing else does after a hijack.
	defer context.AfterFunc(r.Context(), func() { client.Close(); process.Close() })()
	if err := wire.Splice(client, process); err != nil {
		a.log.Debug("a session was cut", "path", r.URL.Path, "reason", err)
	}
	return nil
}

// hijacker finds the Hijacker below a ResponseWriter for a package that does not know how to.
type hijacker struct{ http.ResponseWriter }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// webSocket is a client's side of a session. One goroutine may read it and another one write.
type webSocket struct {
	conn    *websocket.Conn
	kind    int       // of the messages that are sent
	message io.Reader // that is being read
}

// Read gives the bytes of messages of either kind. It has no io.EOF: a WebSocket has no half-close.
func (s *webSocket) Read(b []byte) (int, error) {
	for {
		if s.message == nil {
			_, message, err := s.conn.NextReader()
			if err != nil {
				return 0, err
			}
			s.message = message
		}
		n, err := s.message.Read(b)
		if errors.Is(err, io.EOF) {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *webSocket) Write(b []byte) (int, error) {
	if err := s.conn.WriteMessage(s.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite says goodbye.
func (s *webSocket) CloseWrite() error {
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	return s.conn.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(closeTime))
}

// SetReadDeadline bounds the wait for the client's goodbye.
func (s *webSocket) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// Close cuts the connection.
func (s *webSocket) Close() error { return s.conn.Close() }
