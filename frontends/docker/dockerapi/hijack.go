package dockerapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

const (
	// headPause is what a client needs at most to read some headers; maxTaken bounds the wait for one that is seen not to.
	headPause = 5 * time.Millisecond
	maxTaken  = time.Second
)

// streamType says how the output of a process is framed, in the words that the client's version knows.
func (r *request) streamType(tty bool) string {
	if tty || r.version.before(42) {
		return rawStream
	}
	return multiplexedStream
}

// hijack accepts a session: from here on the connection carries the bytes of a process. It returns when the output has
// ended or the client has gone, and closes the session in any case. Only what the backend has accepted may come here,
// for a docker CLI takes an error after the upgrade for an "unrecognized stream". cut, which may be nil, is called when the
// output is cut off, before the client sees an end of it.
func (a *api) hijack(w http.ResponseWriter, r *request, contentType string, process sockerless.Session, cut func()) error {
	conn, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		process.Close()
		return err
	}
	client := wire.NewConn(conn, ahead.Reader)
	client.Cut = cut
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	}
	head += "Api-Version: " + maxVersion.String() + "\r\nOstype: linux\r\n\r\n"
	// A server that is shut down ends its requests' contexts; nothing else does after a hijack.
	defer context.AfterFunc(r.Context(), func() { client.Close(); process.Close() })()
	if err = conn.SetDeadline(time.Time{}); err == nil {
		_, err = io.WriteString(conn, head)
	}
	if err != nil {
		client.Close()
		process.Close()
		return nil // the client is gone; nobody is left to tell
	}
	taken(conn)
	if err := wire.Splice(client, process); err != nil {
		a.log.Debug("a session was cut", "path", r.URL.Path, "reason", err)
	}
	return nil
}
