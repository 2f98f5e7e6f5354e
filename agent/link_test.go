package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

// dialled starts an agent that dials, and returns it with the link that it made.
func dialled(t *testing.T, https, proxied bool, more ...string) *box {
	t.Helper()
	who := newCredentials()
	hub := link.NewHub(link.Backend, func(id string) ([]byte, bool) { return who.secret, id == who.runID }, link.Options{Peer: link.Agent})
	mux := http.NewServeMux()
	mux.Handle("/base/agent", hub)
	server := httptest.NewUnstartedServer(mux)
	var env []string
	if https {
		server.StartTLS()
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
		env = append(env, "SOCKERLESS_CA="+base64.StdEncoding.EncodeToString(ca))
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		hub.Close()
		server.Close()
	})
	url := server.URL
	if proxied {
		// Go's proxy settings leave loopback out, so the backend gets another name, which only the proxy knows.
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.Host, r.Host = server.Listener.Addr().String(), server.Listener.Addr().String()
			connect(w, r)
		}))
		t.Cleanup(proxy.Close)
		env = append(env, "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL)
		url = "https://example.com"
	}
	b := newBox(t, boxOptions{who: who, env: append(append(env, "SOCKERLESS_AGENT_LISTEN=", "SOCKERLESS_CALLBACK_URL="+url+"/base/"), more...), noLink: true})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := hub.Accept(ctx)
	if err != nil {
		t.Fatalf("%v; the agent says %q", err, b.stderr.String())
	}
	b.linked(l)
	return b
}

// connect is a proxy's CONNECT.
func connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
		return
	}
	var d net.Dialer
	out, err := d.DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(out, rw); out.Close() })
	io.Copy(in, out)
	in.Close()
	wg.Wait()
}

func TestReverseMode(t *testing.T) {
	for _, test := range []struct {
		name           string
		https, proxied bool
	}{{"http", false, false}, {"https with a private CA", true, false}, {"https through a proxy", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			b := dialled(t, test.https, test.proxied)
			if hello := b.link.Peer(); hello.Execution != "job-abc" || hello.BootID == "" {
				t.Errorf("hello %+v", hello)
			}
			out, exit := b.run(protocol.StartRequest{Process: sh("echo hi; exit 4")})
			if out != "hi\n" || exit.Code != 4 {
				t.Errorf("%q, %+v", out, exit)
			}
		})
	}
}

// The proxy may be told to the agent alone, with a user and a password that nothing in the container sees.
func TestProxyOfItsOwn(t *testing.T) {
	t.Parallel()
	who := newCredentials()
	hub := link.NewHub(link.Backend, func(id string) ([]byte, bool) { return who.secret, id == who.runID }, link.Options{Peer: link.Agent})
	defer hub.Close()
	server := httptest.NewServer(hub)
	defer server.Close()
	target := server.Listener.Addr().String()

	var authorized atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := basicProxyAuth(r); !ok || user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		authorized.Add(1)
		r.URL.Host, r.Host = target, target
		connect(w, r)
	}))
	defer proxy.Close()
	with := func(user string) string {
		return "SOCKERLESS_PROXY=" + strings.Replace(proxy.URL, "http://", "http://"+user+"@", 1)
	}

	const callback = "SOCKERLESS_CALLBACK_URL=http://backend.example"
	b := newBox(t, boxOptions{who: who, env: []string{"SOCKERLESS_AGENT_LISTEN=", callback, with("me:hunter2"), "HTTP_PROXY=http://127.0.0.1:1"}, noLink: true})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := hub.Accept(ctx)
	if err != nil {
		t.Fatalf("%v; the agent says %q", err, b.stderr.String())
	}
	b.linked(l)
	out, exit := b.run(protocol.StartRequest{Process: sh("env; cat /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'")})
	if exit.Code != 0 && exit.Code != 1 || strings.Contains(out, "hunter2") || authorized.Load() == 0 {
		t.Errorf("%d tunnels; %+v, %s", authorized.Load(), exit, out)
	}

	for _, test := range []struct {
		name string
		env  []string
		want string
	}{
		{"a wrong password", []string{callback, with("me:wrong")}, "it answers 407 Proxy Authentication Required"},
		{"none", []string{callback, "SOCKERLESS_PROXY=" + proxy.URL}, "it answers 407 Proxy Authentication Required"},
		{"a proxy that is away", []string{callback, "SOCKERLESS_PROXY=http://me:wrong@127.0.0.1:1", "SOCKERLESS_HOLD=3s"}, "no backend told it to start within 3s: cannot link to backend.example/agent: cannot reach the proxy: dial tcp 127.0.0.1:1"},
		{"no URL", []string{callback, "SOCKERLESS_PROXY=me:wrong@proxy"}, "SOCKERLESS_PROXY is neither an http or https URL nor direct"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t, boxOptions{env: append(test.env, "SOCKERLESS_AGENT_LISTEN="), noLink: true})
			if code := b.code(); code != 125 || !strings.Contains(b.stderr.String(), test.want) || strings.Contains(b.stderr.String(), "wrong") {
				t.Errorf("code %d, stderr %q", code, b.stderr)
			}
		})
	}
	t.Run("direct", func(t *testing.T) {
		dialled(t, false, false, "HTTP_PROXY=http://127.0.0.1:1", "SOCKERLESS_PROXY=direct")
	})
}

func basicProxyAuth(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

func TestBackendThatDoesNotKnowTheRun(t *testing.T) {
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return nil, false }, link.Options{Peer: link.Agent})
	defer hub.Close()
	server := httptest.NewServer(hub)
	defer server.Close()
	b := newBox(t, boxOptions{env: []string{"SOCKERLESS_AGENT_LISTEN=", "SOCKERLESS_CALLBACK_URL=" + server.URL}, noLink: true})
	if code := b.code(); code != 125 {
		t.Errorf("code %d", code)
	}
	if !strings.Contains(b.stderr.String(), "sockerless-agent: cannot link to ") || strings.Count(b.stderr.String(), "\n") != 1 {
		t.Errorf("stderr %q", b.stderr)
	}
}

func TestHubTakesTheRunsSecretOnly(t *testing.T) {
	b := newBox(t, boxOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := link.Dial(ctx, b.target(), link.Identity{Role: link.Backend, ID: b.runID, Secret: make([]byte, 32)}, link.Options{Peer: link.Agent})
	if !link.Permanent(err) {
		t.Errorf("a wrong secret: %v", err)
	}
	_, err = link.Dial(ctx, b.target(), link.Identity{Role: link.Backend, ID: strings.Repeat("0", 32), Secret: b.secret}, link.Options{Peer: link.Agent})
	if !link.Permanent(err) {
		t.Errorf("another run: %v", err)
	}
}

// Cuts of the carrier are nothing that a session, a copy or a feed notices.
func TestNothingNoticesCuts(t *testing.T) {
	t.Parallel()
	b := dialled(t, false, false)
	b.start(protocol.StartRequest{Process: sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000")})
	stop := make(chan struct{})
	var cutter, wg sync.WaitGroup
	cutter.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+rand.IntN(60)) * time.Millisecond):
				b.link.Cut()
			}
		}
	})
	random := make([]byte, 8<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(random))
	dir := t.TempDir()
	wg.Go(func() {
		for i := range 3 {
			out, _, code, err := b.tryExec(sh("cat; exit 9"), string(random))
			if got := fmt.Sprintf("%x", sha256.Sum256([]byte(out))); got != sum || code != 9 || err != nil {
				t.Errorf("exec %d: %d bytes, code %d, %v", i, len(out), code, err)
			}
		}
	})
	wg.Go(func() {
		for range 3 {
			body := makeTar(t, file("f", string(random)))
			if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(body)); err != nil {
				t.Errorf("write: %v", err)
				return
			}
			if got := list(t, b.readTar(dir+"/f")); len(got) != 1 || got[0] != "0 f "+string(random) {
				t.Error("what was read is not what was written")
			}
		}
	})
	wg.Go(func() {
		next := uint64(1)
		for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
			if err != nil || r.Seq != next || r.Stream != tape.Stdout || string(r.Data) != fmt.Sprintf("line %d\n", r.Seq-1) {
				t.Errorf("record %+v, %v", r, err)
				return
			}
			if next++; next > 20000 {
				return
			}
		}
	})
	wg.Wait()
	close(stop)
	cutter.Wait()
	if n := b.link.Stats().Carriers; n < 5 {
		t.Errorf("only %d carriers", n)
	}
}

// A backend that comes back knows nothing of streams, and asks by number.
func TestNewBackendMissesNothing(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 3"), Orphan: time.Minute})
	seen := uint64(0)
	for seen < 5000 {
		n := 0
		for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{After: seen, Follow: true}) {
			if err != nil || r.Seq != seen+1 || string(r.Data) != fmt.Sprintf("line %d\n", seen) {
				t.Fatalf("record %+v after %d, %v", r, seen, err)
			}
			seen = r.Seq
			if n++; n == 700 || seen == 5000 {
				break
			}
		}
		b.connect()
	}
	if exit := b.exited(1); exit.Code != 3 {
		t.Errorf("exit %+v", exit)
	}
}

// With no linger the agent ends as soon as the exit is stored. Who reads slowly still gets everything.
func TestEndOfTheAgentCutsNobodyOff(t *testing.T) {
	for range 10 {
		b := newBox(t, boxOptions{})
		s := b.attach(protocol.AttachRequest{Stdin: true, Stdout: true})
		const size = 200 << 10 // fits into the stream's first window
		if _, err := b.Start(b.ctx(), protocol.StartRequest{Process: sh(fmt.Sprintf("head -c %d /dev/zero; exit 2", size)), OpenStdin: true, StdinOnce: true}); err != nil {
			t.Fatal(err)
		}
		s.CloseWrite()
		e := b.exitEvent(1)
		if err := b.Ack(b.ctx(), protocol.AckRequest{Event: e.Seq, Log: e.LastLog}); err != nil {
			t.Fatal(err)
		}
		if code := b.code(); code != 2 {
			t.Fatalf("code %d", code)
		}
		data, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		if out, _ := split(t, data); len(out) != size {
			t.Fatalf("%d bytes of %d", len(out), size)
		}
	}
}

func TestProgram(t *testing.T) {
	good := map[string]string{
		"SOCKERLESS_RUN_ID": strings.Repeat("a", 32), "SOCKERLESS_RUN_SECRET": base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
		"SOCKERLESS_AGENT_LISTEN": "unix:/nonexistent/s",
	}
	for _, test := range []struct {
		name   string
		args   []string
		env    map[string]string
		code   int
		stderr string
	}{
		{"unknown flag", []string{"--nosuch"}, nil, 2, "flag provided but not defined: -nosuch"},
		{"unknown command", []string{"nosuch"}, nil, 2, `unknown command "nosuch"; see --help`},
		{"install without a folder", []string{"install"}, nil, 2, "install needs one folder; see --help"},
		{"install with a flag", []string{"install", "--help"}, nil, 2, "install needs one folder; see --help"},
		{"install where nothing can be made", []string{"install", "/proc/nosuch"}, nil, 1, "cannot make the agent's folder: mkdir /proc/nosuch: no such file or directory"},
		{"no settings", nil, map[string]string{"SOCKERLESS_RUN_ID": ""}, 125, "SOCKERLESS_RUN_ID is not 32 hexadecimal digits"},
		{"short id", nil, map[string]string{"SOCKERLESS_RUN_ID": "abc"}, 125, "SOCKERLESS_RUN_ID is not 32 hexadecimal digits"},
		{"short secret", nil, map[string]string{"SOCKERLESS_RUN_SECRET": "abc"}, 125, "SOCKERLESS_RUN_SECRET is not the base64url of 32 bytes"},
		{"nowhere to link to", nil, map[string]string{"SOCKERLESS_AGENT_LISTEN": ""}, 125, "neither SOCKERLESS_CALLBACK_URL nor SOCKERLESS_AGENT_LISTEN is set"},
		{"two ways", nil, map[string]string{"SOCKERLESS_CALLBACK_URL": "http://x"}, 125, "SOCKERLESS_CALLBACK_URL and SOCKERLESS_AGENT_LISTEN are both set: want one"},
		{"not a URL", nil, map[string]string{"SOCKERLESS_AGENT_LISTEN": "", "SOCKERLESS_CALLBACK_URL": "ftp://x"}, 125, "SOCKERLESS_CALLBACK_URL is not an http or https URL without user and query"},
		{"a URL with a password", nil, map[string]string{"SOCKERLESS_AGENT_LISTEN": "", "SOCKERLESS_CALLBACK_URL": "http://u:p@x"}, 125, "SOCKERLESS_CALLBACK_URL is not an http or https URL without user and query"},
		{"relative socket", nil, map[string]string{"SOCKERLESS_AGENT_LISTEN": "unix:s"}, 125, "SOCKERLESS_AGENT_LISTEN is not unix: and an absolute path"},
		{"no port", nil, map[string]string{"SOCKERLESS_AGENT_LISTEN": "localhost"}, 125, "SOCKERLESS_AGENT_LISTEN is neither host:port nor unix:/path"},
		{"bad CA", nil, map[string]string{"SOCKERLESS_CA": "!"}, 125, "SOCKERLESS_CA is not base64"},
		{"empty CA", nil, map[string]string{"SOCKERLESS_CA": "aGVsbG8="}, 125, "SOCKERLESS_CA holds no certificate in PEM form"},
		{"bad hold", nil, map[string]string{"SOCKERLESS_HOLD": "soon"}, 125, "SOCKERLESS_HOLD is not a positive duration like 10m"},
		{"negative orphan", nil, map[string]string{"SOCKERLESS_ORPHAN": "-1s"}, 125, "SOCKERLESS_ORPHAN is not a positive duration like 10m"},
		{"relative folder", nil, map[string]string{"SOCKERLESS_DIR": "x"}, 125, "SOCKERLESS_DIR is not an absolute path"},
		{"cannot listen", nil, nil, 125, "cannot listen for a backend: listen unix /nonexistent/s: bind: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(program, test.args...)
			for name, v := range good {
				if other, ok := test.env[name]; ok {
					v = other
				}
				cmd.Env = append(cmd.Env, name+"="+v)
			}
			for name, v := range test.env {
				if _, ok := good[name]; !ok {
					cmd.Env = append(cmd.Env, name+"="+v)
				}
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			cmd.Run()
			if diff := cmp.Diff("sockerless-agent: "+test.stderr+"\n", stderr.String()); diff != "" || cmd.ProcessState.ExitCode() != test.code {
				t.Errorf("code %d %s", cmd.ProcessState.ExitCode(), diff)
			}
		})
	}
	for _, arg := range []string{"--help", "--version"} {
		if out, err := exec.Command(program, arg).Output(); err != nil || len(out) == 0 {
			t.Errorf("%s: %q, %v", arg, out, err)
		}
	}
}

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "agent")
	for range 2 { // the second one replaces a program that may run
		if out, err := exec.Command(program, "install", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := exec.Command(dir+"/agent", "--version").Output()
		if err != nil || !strings.HasPrefix(string(out), "sockerless-agent ") {
			t.Errorf("%q, %v", out, err)
		}
	}
	if fi, err := os.Stat(dir + "/agent"); err != nil || fi.Mode() != 0o755 {
		t.Errorf("agent: %v, %v", fi.Mode(), err)
	}
	if fi, err := os.Stat(dir + "/spool"); err != nil || fi.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("spool: %v, %v", fi.Mode(), err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 {
		t.Errorf("it left %v", entries)
	}
}
