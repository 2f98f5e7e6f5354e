package schematest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
)

// specs are read once for all tests: that takes seconds a version.
var specs = sync.OnceValues(schematest.Open)

// tapped starts a Tap before an API, and returns its socket and what ends it and tells the findings.
func tapped(t *testing.T, h http.HandlerFunc) (socket string, end func() []string) {
	specs, err := specs()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	dir, err := os.MkdirTemp("", "tap") // t.TempDir's path may be too long for a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "api"))
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewUnstartedServer(h)
	api.Listener.Close()
	api.Listener = l
	api.Start()
	t.Cleanup(api.Close)
	var mu sync.Mutex
	var found []string
	tap, err := schematest.Listen(specs, filepath.Join(dir, "tap"), l.Addr().String(), func(err error) {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, err.Error())
	})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "tap"), func() []string {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
		if checked, older := tap.Checked(); checked == 0 && older == 0 {
			t.Error("no answer came by")
		}
		return found
	}
}

// ask sends raw requests on one connection, half-closes it, and returns all that is answered. It reads while it sends: an
// answer may be more than the sockets on the way hold.
func ask(t *testing.T, socket, requests string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { // ends with the connection
		_, err := io.WriteString(conn, requests)
		sent <- errors.Join(err, conn.(*net.UnixConn).CloseWrite())
	}()
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTap(t *testing.T) {
	for _, c := range []struct {
		name, request string
		answer        http.HandlerFunc
		want          string // in the finding; empty: there is none
	}{
		{"a good answer", "GET /v1.50/containers/json", say(200, "application/json", `[]`), ""},
		{"a wrong one", "GET /v1.50/containers/json", say(200, "application/json", `[{"State":3}]`), "State in body must be of type string"},
		{"of the version spoken", "GET /v1.44/images/json", say(200, "application/json", `[{"Id":"x","ParentId":"","RepoTags":[],"RepoDigests":[],"Created":1,"Size":1,"SharedSize":1,"Labels":{},"Containers":1,"Descriptor":3}]`), ""},
		{"of a version between two", "GET /v1.49/containers/json", say(200, "application/json", `{}`), "must be of type array"},
		{"of a later version", "GET /v1.50/images/json", say(200, "application/json", `[{"Id":"x","ParentId":"","RepoTags":[],"RepoDigests":[],"Created":1,"Size":1,"SharedSize":1,"Labels":{},"Containers":1,"Descriptor":3}]`), "Descriptor in body must be of type object"},
		{"of the version that the API tells", "GET /containers/json", say(200, "application/json", `{}`), "must be of type array"},
		{"older than all", "GET /v1.24/containers/json", say(200, "application/json", `{}`), ""},
		{"a refusal", "GET /v1.50/containers/x/json", say(404, "application/json", `{"message":"No such container: x"}`), ""},
		{"a refusal in text", "GET /v1.50/containers/x/json", say(404, "text/plain", `No such container: x`), "its Content-Type is text/plain"},
		{"an upgrade", "POST /v1.50/exec/x/start", upgrade, ""},
		{"an upgrade where none may be", "POST /v1.50/containers/x/start", upgrade, "does not have this status"},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket, end := tapped(t, c.answer)
			ask(t, socket, c.request+" HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\nbytes of a session")
			found := strings.Join(end(), "\n")
			if c.want == "" && found != "" || !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func say(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Api-Version", "1.50")
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// upgrade answers every byte of the session with itself.
func upgrade(w http.ResponseWriter, _ *http.Request) {
	conn, ahead, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	io.Copy(conn, ahead)
}

// TestTapPassesBytes: several answers on a connection are told apart, and a session's bytes and its half-close arrive.
func TestTapPassesBytes(t *testing.T) {
	socket, end := tapped(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			upgrade(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `[{"State":3}]`)
	})
	long := strings.Repeat("0123456789", 1<<18)
	list := "GET /v1.50/containers/json HTTP/1.1\r\nHost: docker\r\n\r\n"
	got := ask(t, socket, list+list+"POST /v1.50/exec/x/start HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"+long)
	if !strings.HasSuffix(got, "\r\n\r\n"+long) {
		t.Errorf("%d bytes came, which end in %q", len(got), got[max(0, len(got)-40):])
	}
	if found := end(); len(found) != 1 { // one a connection: it is not read on
		t.Errorf("found %q", found)
	}
}

// TestTapCut: what has come of a stream that the client has seen enough of is looked at, and the rest is not missed.
func TestTapCut(t *testing.T) {
	socket, end := tapped(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"Type":"container"}`+"\n"+`{"Type":"conta`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or it would tell that this was all
	})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // or the API waits for its request
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /v1.50/events HTTP/1.1\r\nHost: docker\r\n\r\n")
	if _, err := bufio.NewReader(conn).ReadString('}'); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if found := end(); len(found) != 0 {
		t.Errorf("found %q", found)
	}
}

// TestDefects: what is called a defect of Docker's specification is still one in the newest.
func TestDefects(t *testing.T) {
	specs, err := specs()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	newest, version, err := specs.Newest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range schematest.Defects() {
		if newest.Lists(d.Operation, d.Status) {
			t.Errorf("%s lists the status %d of %s: it is no defect", version, d.Status, d.Operation)
		}
	}
}
