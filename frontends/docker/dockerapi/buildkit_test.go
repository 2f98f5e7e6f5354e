package dockerapi_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestBuildKit: a client of BuildKit's gets its connection, and on it the reason why nothing is built.
func TestBuildKit(t *testing.T) {
	d := start(t)
	const reason = "building an image is not supported by this version of Sockerless"
	for _, path := range []string{"/grpc", "/session", "/build", "/build/cancel"} {
		d.want("POST", path, nil, 501, reason)
	}
	if a := d.do("POST", "/session", nil, "Connection", "Upgrade", "Upgrade", "h2c"); a.status != 501 {
		t.Errorf("a session: %d %s", a.status, a.body)
	}

	tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
		conn := d.dial()
		if _, err := io.WriteString(conn, "POST /v1.51/grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
			return nil, err
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "h2c" {
			t.Errorf("the upgrade: %s %v", resp.Status, resp.Header)
		}
		return &ahead{conn, r}, nil
	}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://buildkit/moby.buildkit.v1.Control/ListWorkers", strings.NewReader("\x00\x00\x00\x00\x00"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if resp.ProtoMajor != 2 || resp.StatusCode != 200 || h.Get("Content-Type") != "application/grpc" || h.Get("Grpc-Status") != "12" || !strings.HasPrefix(h.Get("Grpc-Message"), reason) {
			t.Errorf("the answer to a call: %s %s %v", resp.Proto, resp.Status, h)
		}
	}
	// The rest of the API is not behind that door.
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://buildkit/containers/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Grpc-Status") != "12" {
		t.Errorf("the API on a builder's connection: %v", resp.Header)
	}

	// What is no HTTP/2 ends the connection, and no more.
	conn := d.dial()
	if _, err := io.WriteString(conn, "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || strings.Contains(string(b), "HTTP/1.1 200") {
		t.Errorf("after nonsense: %q, %v", b, err)
	}
	d.want("GET", "/_ping", nil, 200, "OK")
}

// ahead is a connection of which some was read already.
type ahead struct {
	net.Conn
	r io.Reader
}

func (a *ahead) Read(b []byte) (int, error) { return a.r.Read(b) }

func TestPluginsAndSwarm(t *testing.T) {
	d := start(t)
	d.want("GET", "/plugins", nil, 200, "[]")
	d.want("GET", "/plugins?filters="+escape(`{"capability":["volumedriver"]}`), nil, 200, "[]")
	d.want("GET", "/plugins?filters="+escape(`{"nonsense":["x"]}`), nil, 400, "invalid filter 'nonsense'")
	d.want("GET", "/plugins/vieux/sshfs:latest/json", nil, 404, `plugin "vieux/sshfs:latest" not found`)
	d.want("POST", "/plugins/x/enable?timeout=0", nil, 404, `plugin "x" not found`)
	d.want("DELETE", "/plugins/x", nil, 404, `plugin "x" not found`)
	d.want("POST", "/plugins/pull?remote=x", `[]`, 501, "plugins are not supported")
	d.want("GET", "/plugins/privileges?remote=x", nil, 501, "plugins are not supported")
	d.want("POST", "/swarm/init", `{}`, 501, "a swarm is not supported")
	d.want("POST", "/swarm/join", `{}`, 501, "a swarm is not supported")
	const noManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	for _, op := range []string{"GET /swarm", "POST /swarm/update", "POST /swarm/unlock", "GET /swarm/unlockkey", "GET /nodes", "GET /services/x/logs", "GET /tasks/x", "POST /secrets/create", "DELETE /configs/x"} {
		method, path, _ := strings.Cut(op, " ")
		d.want(method, path, nil, 503, noManager)
	}
	d.want("POST", "/swarm/leave", nil, 503, "This node is not part of a swarm")
}
