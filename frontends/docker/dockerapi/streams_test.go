package dockerapi_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/tape"
)

func demux(t *testing.T, r io.Reader) (stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	if _, err := stdcopy.StdCopy(&o, &e, r); err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String()
}

func tarOf(t *testing.T, name, data string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600})
	io.WriteString(w, data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compress(t *testing.T, how string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	switch how {
	case "gzip":
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
	case "zstd":
		w, _ := zstd.NewWriter(&b)
		w.Write(data)
		w.Close()
	default: // the standard library has no writer for it
		path, err := exec.LookPath(how)
		if err != nil {
			t.Logf("sent plain: there is no %s to compress with", how)
			return data
		}
		cmd := exec.Command(path, "-c")
		cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &b
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// hijacked sends a request that upgrades, or asks for it in the old way, and returns what comes back.
func (d *daemon) hijacked(request string) (*http.Response, *bufio.Reader, io.ReadWriteCloser) {
	d.t.Helper()
	conn := d.dial()
	if _, err := io.WriteString(conn, request); err != nil {
		d.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: "POST"})
	if err != nil {
		d.t.Fatal(err)
	}
	return resp, r, conn
}

func TestAttachUpgrade(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name, path, headers, tty string
		status                   int
		kind                     string
	}{
		{"an upgrade", "", "Connection: Upgrade\r\nUpgrade: tcp\r\n", "false", 101, "application/vnd.docker.multiplexed-stream"},
		{"an upgrade with a terminal", "", "Connection: Upgrade\r\nUpgrade: tcp\r\n", "true", 101, "application/vnd.docker.raw-stream"},
		{"an upgrade before 1.42", "/v1.41", "Connection: Upgrade\r\nUpgrade: tcp\r\n", "false", 101, "application/vnd.docker.raw-stream"},
		{"the old way", "", "", "false", 200, "application/vnd.docker.multiplexed-stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := d.create("", `{"Image":"busybox:latest","Cmd":["sh","-c","cat"],"OpenStdin":true,"Tty":`+c.tty+`}`)
			resp, r, conn := d.hijacked("POST " + c.path + "/containers/" + id + "/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n" + c.headers + "Content-Length: 0\r\n\r\n")
			if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != c.kind {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
			d.want("POST", "/containers/"+id+"/start", nil, 204, "")
			io.WriteString(conn, "typed")
			conn.(interface{ CloseWrite() error }).CloseWrite()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			want := "\x01\x00\x00\x00\x00\x00\x00\x05typed"
			if c.tty == "true" {
				want = "typed"
			}
			if string(b) != want {
				t.Errorf("%q, want %q", b, want)
			}
		})
	}
	id := d.create("", `{"Image":"busybox:latest","Cmd":["sh","-c","cat"],"OpenStdin":true}`)
	_, r, conn := d.hijacked("POST /containers/" + id + "/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 15\r\n\r\n{\"stream\":true}")
	d.want("POST", "/containers/"+id+"/start", nil, 204, "")
	io.WriteString(conn, "typed")
	conn.(interface{ CloseWrite() error }).CloseWrite()
	if b, err := io.ReadAll(r); err != nil || string(b) != "\x01\x00\x00\x00\x00\x00\x00\x05typed" {
		t.Errorf("with a body: %q, %v", b, err)
	}
	resp, _, _ := d.hijacked("POST /containers/nosuch/attach?stream=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	if resp.StatusCode != 404 {
		t.Errorf("of none: %s", resp.Status)
	}
}

// TestExecFraming: who starts an exec says how its output is framed, whatever terminal it was created with.
func TestExecFraming(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["sleep","1000"]}`)
	d.want("POST", "/containers/c/start", nil, 204, "")
	for _, c := range []struct{ name, create, start, want string }{
		{"frames", `false`, `false`, "\x01\x00\x00\x00\x00\x00\x00\x03out\x02\x00\x00\x00\x00\x00\x00\x03err"},
		{"a terminal", `true`, `true`, "outerr"},
		{"a terminal, frames wanted", `true`, `false`, "outerr"},
		{"no terminal, no frames wanted", `false`, `true`, "outerr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e struct{ ID string }
			d.json("POST", "/containers/c/exec", `{"Cmd":["sh","-c","printf out; read x; printf err >&2"],"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":`+c.create+`}`, 201, &e)
			body := `{"Tty":` + c.start + `}`
			resp, r, conn := d.hijacked("POST /exec/" + e.ID + "/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n" + body)
			if resp.StatusCode != 101 {
				t.Fatal(resp.Status)
			}
			head := make([]byte, len("out"))
			if c.start == "false" {
				head = make([]byte, 8+len("out"))
			}
			if _, err := io.ReadFull(r, head); err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, "\n")
			all := io.MultiReader(bytes.NewReader(head), r)
			var got string
			if c.create == "true" && c.start == "false" {
				got, _ = demux(t, all) // how many frames is the kernel's to say
			} else {
				b, err := io.ReadAll(all)
				if err != nil {
					t.Fatal(err)
				}
				got = string(b)
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	d.want("DELETE", "/containers/c?force=1", nil, 204, "")
}

// TestExecCut: a session that is cut off looks like an end to a client on a unix socket, and an unknown exit code like 0. So
// who asks for it is told, once: whoever waits for the exec's end by asking again goes on.
func TestExecCut(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["sleep","1000"]}`)
	d.want("POST", "/containers/c/start", nil, 204, "")
	var e struct{ ID string }
	d.json("POST", "/containers/c/exec", `{"Cmd":["cut"],"AttachStdout":true}`, 201, &e)
	resp, r, _ := d.hijacked("POST /exec/" + e.ID + "/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
	if resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	io.Copy(io.Discard, r)
	d.want("GET", "/exec/"+e.ID+"/json", nil, 503, "the session of exec "+e.ID[:12]+" was cut off")
	d.want("GET", "/exec/"+e.ID+"/json", nil, 200, `"Running":true`)
	// The real CLI says so and fails.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", "-H", "unix://"+d.socket, "exec", "c", "cut")
	cmd.Env = append(cmd.Environ(), "DOCKER_CONFIG="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "was cut off") {
		t.Errorf("docker exec: %v: %s", err, out)
	}
	d.want("DELETE", "/containers/c?force=1", nil, 204, "")
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestLogs(t *testing.T) {
	d := start(t)
	id := d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	d.create("tty", `{"Image":"busybox:latest","Cmd":["true"],"Tty":true}`)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	log := []tape.Record{
		{Seq: 1, Time: at, Stream: tape.Stdout, Data: []byte("one\n")},
		{Seq: 2, Time: at, Stream: tape.Stdout, Partial: true, Data: []byte("long, ")},
		{Seq: 3, Time: at.Add(time.Second), Stream: tape.Stderr, Data: []byte("err\n")},
		{Seq: 4, Time: at, Stream: tape.Stdout, Later: true, Data: []byte("longer\n")},
		{Seq: 9, Time: at.Add(2 * time.Second), Stream: tape.Gap, Data: []byte("4 records lost")},
		{Seq: 10, Time: at.Add(2 * time.Second), Stream: tape.Stdout, Data: []byte("no newline")},
	}
	for _, c := range d.memory.containers {
		c.log = log
	}
	d.create("detailed", `{"Image":"busybox:latest","Cmd":["true"]}`)
	detailed := d.memory.containers[0] // the newest
	detailed.log, detailed.LogAttributes = log[:1], map[string]string{"b=": "x y,z", "a": "1", "Z": "é"}
	const t5, t6, t7 = "2026-01-02T02:04:05.000006000Z ", "2026-01-02T02:04:06.000006000Z ", "2026-01-02T02:04:07.000006000Z "
	const gap = "[sockerless: 4 records lost]\n"
	for _, c := range []struct{ name, query, stdout, stderr string }{
		{"both", "stdout=1&stderr=1", "one\nlong, longer\nno newline", "err\n" + gap},
		{"stdout alone", "stdout=1", "one\nlong, longer\nno newline", gap},
		{"times", "stdout=1&stderr=1&timestamps=1", t5 + "one\n" + t5 + "long, " + t5 + "longer\n" + t7 + "no newline", t6 + "err\n" + t7 + gap},
		{"details", "stdout=1&details=1&tail=all", " one\n long,  longer\n no newline", " " + gap},
		{"the last one", "stdout=1&tail=1", "no newline", ""},
		{"none", "stdout=1&tail=0", "", ""},
		{"no number of lines", "stdout=1&tail=x", "one\nlong, longer\nno newline", gap},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := d.do("GET", "/containers/c/logs?"+c.query, nil)
			stdout, stderr := demux(t, strings.NewReader(a.body))
			if diff := cmp.Diff([]string{c.stdout, c.stderr}, []string{stdout, stderr}); diff != "" {
				t.Error(diff)
			}
			if got := a.header.Get("Content-Type"); got != "application/vnd.docker.multiplexed-stream" {
				t.Errorf("Content-Type %s", got)
			}
		})
	}
	a := d.do("GET", "/containers/tty/logs?stdout=1&stderr=1", nil)
	if want := "one\nlong, err\nlonger\n" + gap + "no newline"; a.body != want || a.header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Errorf("with a terminal: %q %v", a.body, a.header)
	}
	if a := d.do("GET", "/v1.41/containers/c/logs?stdout=1", nil); a.header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		t.Errorf("before 1.42: %v", a.header)
	}
	d.want("GET", "/containers/c/logs", nil, 400, "Bad parameters: you must choose at least one stream")
	d.want("GET", "/containers/nosuch/logs?stdout=1&follow=1", nil, 404, "No such container: nosuch")
	d.want("GET", "/containers/c/logs?stdout=1&since=x", nil, 400, `invalid value for since: "x" is not a unix time`)
	d.want("GET", "/containers/c/logs?stdout=1&until=1.x", nil, 400, `invalid value for until: "1.x" is not a unix time`)
	stdout, _ := demux(t, strings.NewReader(d.do("GET", "/containers/detailed/logs?stdout=1&details=1&timestamps=1", nil).body))
	if want := t5 + "Z=%C3%A9,a=1,b%3D=x+y%2Cz one\n"; stdout != want {
		t.Errorf("with details %q, want %q", stdout, want)
	}
	d.want("GET", "/containers/"+id[:8]+"/logs?stdout=1&since=1700000000.5&until=0", nil, 200, "one")
}

// TestFollow: the headers come while the container says nothing, and lines as they are written.
func TestFollow(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","OpenStdin":true,"Cmd":["cat"]}`)
	_, _, in := d.hijacked("POST /containers/c/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	d.want("POST", "/containers/c/start", nil, 204, "")
	conn := d.dial()
	io.WriteString(conn, "GET /containers/c/logs?stdout=1&stderr=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"one\n", "two\n"} {
		io.WriteString(in, line)
		b := make([]byte, 8+len(line))
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b[8:]) != line {
			t.Fatalf("%q, %v", b, err)
		}
	}
	in.(interface{ CloseWrite() error }).CloseWrite()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

func TestEvents(t *testing.T) {
	d := start(t)
	d.want("GET", "/events?filters="+escape(`{"bad":["x"]}`), nil, 400, "invalid filter 'bad'")
	d.want("GET", "/events?since=x", nil, 400, "is not a unix time")
	result := d.client().Events(t.Context(), client.EventsListOptions{}) // back with the headers: it listens
	id := d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	select {
	case m := <-result.Messages:
		if m.Type != events.ContainerEventType || m.Action != events.ActionCreate || m.Actor.ID != id {
			t.Errorf("%+v", m)
		}
	case err := <-result.Err:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("no event")
	}
	for accept, kind := range map[string]string{
		"": "application/json", "application/json-seq": "application/json-seq", "application/jsonl, application/x-ndjson;q=0.9": "application/jsonl", "text/html": "application/json",
	} {
		for _, version := range []string{"/v1.51", ""} {
			a := d.do("GET", version+"/events?since=1&until=99999999999", nil, "Accept", accept)
			var e map[string]any
			if err := json.Unmarshal([]byte(strings.TrimPrefix(a.body, "\x1e")), &e); err != nil {
				t.Fatalf("%v in %q", err, a.body)
			}
			want, wantKind := [3]any{}, kind
			if version != "" { // there was one form, with more in it
				want, wantKind = [3]any{"create", id, "busybox:latest"}, "application/json"
			}
			if got := [3]any{e["status"], e["id"], e["from"]}; a.header.Get("Content-Type") != wantKind || got != want || e["Action"] != "create" {
				t.Errorf("%s %q: %v %v", version, accept, a.header, e)
			}
			if strings.HasPrefix(a.body, "\x1e") != (wantKind == "application/json-seq") {
				t.Errorf("%s %s: %q", version, wantKind, a.body)
			}
		}
	}
}
