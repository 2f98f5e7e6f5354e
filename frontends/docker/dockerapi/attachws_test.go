package dockerapi_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/moby/api/types/container"
)

// webSocket dials an attach.
func (d *daemon) webSocket(path string) *websocket.Conn {
	d.t.Helper()
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return d.dial(), nil }}
	conn, _, err := dialer.Dial("ws://d"+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	return conn
}

// messages reads to the goodbye.
func messages(t *testing.T, conn *websocket.Conn, kind int) string {
	t.Helper()
	var all bytes.Buffer
	for {
		k, b, err := conn.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return all.String()
		}
		if err != nil || k != kind {
			t.Fatalf("message of kind %d, %v", k, err)
		}
		all.Write(b)
	}
}

func TestAttachWebSocket(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name, version, tty string
		kind               int
	}{
		{"frames are taken off", "", "false", websocket.BinaryMessage},
		{"a terminal", "/v1.51", "true", websocket.BinaryMessage},
		{"before 1.28", "/v1.27", "false", websocket.TextMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			big := strings.Repeat("0123456789abcdef", 20000)
			id := d.create("", `{"Image":"busybox:latest","Cmd":["sh","-c","head -c 4; echo err >&2; head -c 320000; sleep .1; printf end"],"OpenStdin":true,"Tty":`+c.tty+`}`)
			conn := d.webSocket(c.version + "/containers/" + id + "/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
			d.want("POST", "/containers/"+id+"/start", nil, 204, "")
			go func() { // ends with the connection; what comes back may be more than the sockets on the way hold
				conn.WriteMessage(websocket.TextMessage, []byte("one\n"))
				conn.WriteMessage(websocket.PingMessage, nil)
				conn.WriteMessage(websocket.BinaryMessage, []byte(big))
			}()
			got := messages(t, conn, c.kind)
			// The streams are two pipes: how they interleave is the kernel's to say.
			if want := "one\n" + big + "end"; strings.Replace(got, "err\n", "", 1) != want || len(got) != len(want)+4 {
				t.Errorf("%d bytes, want %d: %.20q...", len(got), len(want)+4, got)
			}
		})
	}
	t.Run("a client that leaves", func(t *testing.T) {
		id := d.create("", `{"Image":"busybox:latest","Cmd":["cat"],"OpenStdin":true}`)
		conn := d.webSocket("/containers/" + id + "/attach/ws?stream=1&stdin=1&stdout=1")
		d.want("POST", "/containers/"+id+"/start", nil, 204, "")
		conn.WriteMessage(websocket.BinaryMessage, []byte("x"))
		if _, b, err := conn.ReadMessage(); string(b) != "x" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(5*time.Second))
		eventually(t, "it ends, for its only input is over", func() bool { return d.state(id) == container.StateExited })
		if _, _, err := conn.ReadMessage(); err == nil {
			t.Error("there is more")
		}
	})
	d.want("GET", "/containers/nosuch/attach/ws?stream=1", nil, 404, "No such container: nosuch")
	id := d.create("", `{"Image":"busybox:latest","Cmd":["cat"]}`)
	d.want("GET", "/containers/"+id+"/attach/ws?stream=1", nil, 400, "not websocket protocol")
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return d.dial(), nil }}
	_, resp, err := dialer.Dial("ws://d/containers/nosuch/attach/ws", nil)
	if !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != 404 {
		t.Errorf("of none: %v", err)
	}
	_, resp, err = dialer.Dial("ws://d/containers/"+id+"/attach/ws?stream=1&stdout=1", http.Header{"Origin": {"http://evil.example"}})
	if err == nil || resp.StatusCode != 403 {
		t.Errorf("of a web page: %v", err)
	}
	resp, _, _ = d.hijacked("GET /containers/" + id + "/attach/ws?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\n\r\n")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 400 || !bytes.Contains(b, []byte("unsupported version")) {
		t.Errorf("of another version: %s %s", resp.Status, b)
	}
}

func (d *daemon) state(id string) container.ContainerState {
	var c container.InspectResponse
	d.json("GET", "/containers/"+id+"/json", nil, 200, &c)
	return c.State.Status
}
