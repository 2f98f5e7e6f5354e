package dockerapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
)

// patience is for what must come, and bounds what hangs.
const patience = 2 * time.Minute

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to this: %s", what)
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is the API on a socket, over a memory, every answer held to Docker's specification.
type daemon struct {
	*memory
	t      *testing.T
	socket string
	log    *bytes.Buffer // read it after the end
}

// spec is loaded once; it takes a second.
var specOf = func() func(t *testing.T) *schematest.Spec {
	var spec *schematest.Spec
	return func(t *testing.T) *schematest.Spec {
		if spec != nil {
			return spec
		}
		dir, err := schematest.Dir()
		if err != nil {
			t.Logf("answers are not held to Docker's specification: %v", err)
			return nil
		}
		if spec, err = schematest.Load(dir, "1.56"); err != nil {
			t.Fatal(err)
		}
		return spec
	}
}()

func start(t *testing.T) *daemon {
	m := newMemory(t)
	return serve(t, m, m.backend())
}

func serve(t *testing.T, m *memory, backend *sockerless.Backend) *daemon {
	if runtime.GOOS == "windows" {
		t.Skip("the memory's containers are a Unix's children")
	}
	d := &daemon{memory: m, t: t, socket: filepath.Join(shortDir(t), "s"), log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(d.log, nil))
	h := dockerapi.New(backend, dockerapi.Options{Version: "1.2.3", Logger: log})
	if spec := specOf(t); spec != nil {
		h = spec.Handler(h, func(err error) { t.Errorf("not as specified: %v", err) })
	}
	l, err := dockerapi.Listen(t.Context(), "unix://"+d.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- dockerapi.Serve(ctx, l, h, log) }()
	t.Cleanup(func() {
		end()
		if err := <-served; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return d
}

// shortDir is a t.TempDir whose path is not too long for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (d *daemon) dial() net.Conn {
	d.t.Helper()
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// client is moby's own.
func (d *daemon) client() *client.Client {
	d.t.Helper()
	c, err := client.New(client.WithHost("unix://" + d.socket))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends one request. body may be nil, a string, or something that marshals.
func (d *daemon) do(method, path string, body any, headers ...string) answer {
	d.t.Helper()
	var in io.Reader
	header := http.Header{}
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
		header.Set("Content-Type", "application/json")
	default:
		j, err := json.Marshal(b)
		if err != nil {
			d.t.Fatal(err)
		}
		in = bytes.NewReader(j)
		header.Set("Content-Type", "application/json")
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, in)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header = header
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	// Not DisableKeepAlives: with Connection: close, net/http's server hangs up on a body that it did not read.
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", d.socket) }}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// json is do for an answer of this status whose body is read into v.
func (d *daemon) json(method, path string, body any, status int, v any) {
	d.t.Helper()
	a := d.do(method, path, body)
	if a.status != status {
		d.t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		d.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
	}
}

// create creates a container and returns its id.
func (d *daemon) create(name string, body string) string {
	d.t.Helper()
	var out struct{ ID string }
	d.json("POST", "/containers/create?name="+name, body, 201, &out)
	return out.ID
}

func (d *daemon) want(method, path string, body any, status int, message string) {
	d.t.Helper()
	a := d.do(method, path, body)
	got := a.body
	var e struct{ Message string }
	if json.Unmarshal([]byte(a.body), &e) == nil && e.Message != "" {
		got = e.Message
	}
	if a.status != status || !strings.Contains(got, message) {
		d.t.Errorf("%s %s: %d %s, want %d %s", method, path, a.status, a.body, status, message)
	}
}

func TestPing(t *testing.T) {
	d := start(t)
	for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.51/_ping"} {
		for _, method := range []string{"GET", "HEAD"} {
			a := d.do(method, path, nil)
			got := map[string]string{"body": a.body}
			for _, h := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server", "Builder-Version", "Swarm", "Cache-Control", "Content-Type"} {
				got[h] = a.header.Get(h)
			}
			want := map[string]string{
				"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Sockerless/1.2.3 (linux)", "Builder-Version": "1",
				"Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Content-Type": "text/plain; charset=utf-8", "body": "OK",
			}
			if method == "HEAD" {
				want["body"] = ""
			}
			if diff := cmp.Diff(want, got); diff != "" || a.status != 200 {
				t.Errorf("%s %s: %d\n%s", method, path, a.status, diff)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	d := start(t)
	d.want("GET", "/v1.99/info", nil, 400, "client version 1.99 is too new. Maximum supported API version is 1.56")
	d.want("GET", "/v2.0/info", nil, 400, "client version 2.0 is too new. Maximum supported API version is 1.56")
	d.want("GET", "/v1.23/info", nil, 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version")
	d.want("GET", "/v1.x/info", nil, 404, `page not found`)
	d.want("GET", "/v1.24/info", nil, 200, "memory")
	d.want("GET", "/v1.51/nosuch", nil, 404, "page not found")
	d.want("GET", "/", nil, 404, "page not found")
	d.want("PATCH", "/info", nil, 404, "page not found")
	d.want("GET", "/containers//json", nil, 404, "page not found")
}

// TestOperations holds the table to the newest list of Docker's: everything there is known here, and what is not served says
// why. A name that is nothing's is told so, and a page that is none is nowhere.
func TestOperations(t *testing.T) {
	specs, err := schematest.Open()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	spec, version, err := specs.Newest()
	if err != nil {
		t.Fatal(err)
	}
	full := start(t)
	for _, op := range spec.Operations() {
		method, path, _ := strings.Cut(op, " ")
		if path == "/events" {
			path += "?until=1" // else it goes on
		}
		a := full.do(method, strings.ReplaceAll(path, "{name}", "nosuch"), nil)
		if strings.Contains(a.body, "page not found") || a.status >= 500 && a.status != 501 && a.status != 503 {
			t.Errorf("%s of %s: %d %s", op, version, a.status, a.body)
		}
	}
	d := serve(t, newMemory(t), &sockerless.Backend{})
	all := spec.Operations()
	if len(all) != 108 {
		t.Errorf("%d operations, want 108", len(all))
	}
	counts := map[int]int{}
	for _, op := range all {
		method, path, _ := strings.Cut(op, " ")
		a := d.do(method, strings.ReplaceAll(path, "{name}", "x/y"), nil)
		counts[a.status]++
		ping := path == "/_ping"
		switch {
		case ping && a.status == 200:
		case a.status == 501 && (strings.Contains(a.body, "not supported") || method == "HEAD"):
		case a.status == 503 && strings.Contains(a.body, "This node is not"):
		case path == "/plugins" && a.status == 200:
		case strings.HasPrefix(path, "/plugins/{name}") && a.status == 404 && strings.Contains(a.body, `plugin \"x/y\" not found`):
		default:
			t.Errorf("%s: %d %s", op, a.status, a.body)
		}
	}
	if diff := cmp.Diff(map[int]int{200: 3, 404: 7, 501: 69, 503: 29}, counts); diff != "" {
		t.Errorf("without any service:\n%s", diff)
	}
}

func TestBodies(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name, body, contentType string
		length                  int64
		status                  int
		message                 string
	}{
		{"cut JSON", `{"Image":`, "application/json", 0, 400, "invalid JSON: unexpected EOF"},
		{"no JSON", `hello`, "application/json", 0, 400, "invalid JSON: invalid character 'h' looking for beginning of value"},
		{"blank", ` `, "application/json", 0, 400, "invalid JSON: got EOF while reading request body"},
		{"two values", `{"Image":"busybox:latest"}{}`, "application/json", 0, 400, "unexpected content after JSON"},
		{"wrong type", `{"Image":3}`, "application/json", 0, 400, "invalid JSON: json: cannot unmarshal number"},
		{"a form", `Image=busybox`, "application/x-www-form-urlencoded", 0, 400, "unsupported Content-Type header (application/x-www-form-urlencoded): must be 'application/json'"},
		{"no type", `{}`, "", 0, 400, "malformed Content-Type header ()"},
		{"nothing", ``, "application/json", 0, 400, "invalid JSON: got EOF while reading request body"},
		{"an empty object", `{}`, "application/json", 0, 400, "Config cannot be empty in order to create a container"},
		{"only a HostConfig", `{"HostConfig":{}}`, "application/json", 0, 400, "Config cannot be empty in order to create a container"},
		{"too large", `{"Image":"` + strings.Repeat("x", 5<<20) + `"}`, "application/json", 0, 400, "body is larger than"},
		{"a charset", `{"Image":"busybox:latest"}`, "application/json; charset=utf-8", 0, 201, "Id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := d.do("POST", "/containers/create", c.body, "Content-Type", c.contentType)
			if a.status != c.status || !strings.Contains(a.body, c.message) {
				t.Errorf("%d %s, want %d %s", a.status, a.body, c.status, c.message)
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

func TestHugeHeader(t *testing.T) {
	d := start(t)
	conn := d.dial()
	go func() { // ends when the server hangs up
		fmt.Fprintf(conn, "GET /_ping HTTP/1.1\r\nHost: docker\r\nX: %s\r\n\r\n", strings.Repeat("x", 2<<20))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestWebPagesAreRefused(t *testing.T) {
	d := start(t)
	if a := d.do("POST", "/containers/x/kill", nil, "Origin", "https://example.com"); a.status != 403 {
		t.Errorf("with an Origin: %d %s", a.status, a.body)
	}
	h := dockerapi.New(d.backend(), dockerapi.Options{})
	l, err := dockerapi.Listen(t.Context(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- dockerapi.Serve(ctx, l, h, nil) }()
	defer func() { end(); <-served }()
	for host, want := range map[string]int{
		"rebound.example.com:80": 403, "localhost:2375": 200, "docker": 200, "127.0.0.1": 200, "[::1]:2375": 200, "my.localhost": 200,
	} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/_ping", nil)
		req.Host = host
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// TestPanic: a panic is a 500 and a log line, and the next request is served.
func TestPanic(t *testing.T) {
	m := newMemory(t)
	b := m.backend()
	b.Images = nil
	b.System = panicking{}
	d := serve(t, m, b)
	d.want("GET", "/info", nil, 500, "internal error: of all things")
	d.want("GET", "/images/json", nil, 501, "not supported: this backend offers no images")
	d.want("GET", "/_ping", nil, 200, "OK")
	if !strings.Contains(d.log.String(), "of all things") {
		t.Errorf("nothing in the log: %s", d.log)
	}
}

type panicking struct{ memSystem }

func (panicking) Info(context.Context) (*system.Info, error) { panic("of all things") }

func TestUnreachable(t *testing.T) {
	m := newMemory(t)
	b := m.backend()
	b.System = away{}
	d := serve(t, m, b)
	d.want("GET", "/info", nil, 503, "cannot reach the backend at http://localhost:9100")
	d.want("GET", "/_ping", nil, 200, "OK")
}

type away struct{ memSystem }

func (away) Info(context.Context) (*system.Info, error) {
	return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot reach the backend at http://localhost:9100: connection refused: is it running?")
}

func TestFilters(t *testing.T) {
	d := start(t)
	for _, c := range []struct {
		name, filters string
		want          sockerless.Filters
	}{
		{"today's encoding", `{"label":{"a=b":true,"c":true}}`, sockerless.Filters{"label": {"a=b", "c"}}},
		{"the old encoding", `{"label":["a=b","c"]}`, sockerless.Filters{"label": {"a=b", "c"}}},
		{"none", `{}`, sockerless.Filters{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if a := d.do("GET", "/containers/json?limit=3&filters="+escape(c.filters), nil); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if diff := cmp.Diff(c.want, d.filters); diff != "" {
				t.Error(diff)
			}
			if d.limit != 3 {
				t.Errorf("limit %d", d.limit)
			}
		})
	}
	for _, bad := range []string{"x", `[]`, `{"label":3}`, `{"label":"x"}`} {
		d.want("GET", "/containers/json?filters="+escape(bad), nil, 400, "invalid filter")
	}
	d.want("GET", "/containers/json?filters="+escape(`{"nosuch":["x"]}`), nil, 400, "invalid filter 'nosuch'")
	d.want("GET", "/containers/json?limit=x", nil, 400, "invalid value for limit")
}

func TestSystem(t *testing.T) {
	d := start(t)
	c := d.client()
	v, err := c.ServerVersion(t.Context(), client.ServerVersionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, component := range v.Components {
		names = append(names, component.Name)
	}
	got := []string{v.APIVersion, v.MinAPIVersion, v.Os, v.Arch, v.Version, v.Platform.Name, strings.Join(names, ",")}
	if diff := cmp.Diff([]string{"1.56", "1.24", "linux", "amd64", "1.0", "Sockerless", "Engine,memory,sockerless-frontend-docker"}, got); diff != "" {
		t.Error(diff)
	}
	info, err := c.Info(t.Context(), client.InfoOptions{})
	if err != nil || info.Info.OSType != "linux" || info.Info.MemTotal == 0 {
		t.Errorf("%+v, %v", info.Info, err)
	}
	d.want("POST", "/auth", `{"username":"u","password":"right","serveraddress":"r"}`, 200, "Login Succeeded")
	d.want("POST", "/auth", `{"username":"u","password":"wrong","serveraddress":"r"}`, 401, "incorrect username or password")
}

// TestEnd: the server ends while a log is followed, an attach is open and a wait stands.
func TestEnd(t *testing.T) {
	m := newMemory(t)
	l, err := dockerapi.Listen(t.Context(), "unix://"+filepath.Join(shortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{memory: m, t: t, socket: l.Addr().String()}
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- dockerapi.Serve(ctx, l, dockerapi.New(m.backend(), dockerapi.Options{}), nil) }()
	d.create("c", `{"Image":"busybox:latest","Cmd":["sleep","1000"]}`)
	d.want("POST", "/containers/c/start", nil, 204, "")
	var conns []net.Conn
	for _, req := range []string{
		"GET /containers/c/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n",
		"POST /containers/c/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
		"POST /containers/c/wait HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /events HTTP/1.1\r\nHost: d\r\n\r\n",
	} {
		conn := d.dial()
		io.WriteString(conn, req)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatalf("%q was not answered: %v", req, err)
		}
		conns = append(conns, conn)
	}
	end()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
	for _, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("a stream did not end: %v", err)
		}
	}
	if _, err := net.Dial("unix", d.socket); err == nil {
		t.Error("the socket is still there")
	}
}

func escape(s string) string {
	return strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", "[", "%5B", "]", "%5D", " ", "%20", "=", "%3D").Replace(s)
}
