package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/tape"
)

// program is the agent, built once.
var (
	built      = flag.String("agent", "", "use this agent's `program`, instead of building one")
	program    string
	buildFlags []string
)

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "agent-test-")
	if err != nil {
		panic(err)
	}
	os.Chmod(dir, 0o755) // other users run it too
	if program = *built; program == "" {
		program = filepath.Join(dir, "sockerless-agent")
		build(program)
	}
	code := m.Run()
	os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// build builds the agent as the tests are built.
func build(to string) {
	build := exec.Command("go", append(append([]string{"build", "-o", to}, buildFlags...), "./cmd/sockerless-agent")...)
	if len(buildFlags) == 0 {
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the agent: %v\n%s", err, out)
		os.Exit(1)
	}
}

// box is an agent in a child process and a client linked to it.
type box struct {
	*protocol.Client
	*credentials
	t      testing.TB
	dir    string
	cmd    *exec.Cmd
	link   *link.Link
	stdout *bytes.Buffer // complete once ended is closed
	stderr *bytes.Buffer
	ended  chan struct{}
}

type boxOptions struct {
	env        []string
	credential *syscall.Credential
	noLink     bool
	wrap       []string     // a program that starts the agent
	who        *credentials // by default new ones
	root       string       // the agent's root file system, with the program in it; mounts are its own
}

// credentials are those of a run.
type credentials struct {
	runID  string
	secret []byte
}

func newCredentials() *credentials {
	id, secret := make([]byte, 16), make([]byte, 32)
	rand.Read(id)
	rand.Read(secret)
	return &credentials{hex.EncodeToString(id), secret}
}

// newBox starts an agent. It and all that it started are gone at the test's end.
func newBox(t testing.TB, opt boxOptions) *box {
	t.Helper()
	parent, inside := opt.root, "/.sockerless"
	dir := opt.root + inside
	if opt.root == "" {
		var err error
		if parent, err = os.MkdirTemp("", "agent-box-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(parent) })
		dir = filepath.Join(parent, "a")
		inside = dir
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(parent, 0o755)
	os.Chmod(dir, 0o777)
	if err := os.Mkdir(filepath.Join(dir, "spool"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(filepath.Join(dir, "spool"), 0o777)
	if opt.who == nil {
		opt.who = newCredentials()
	}
	b := &box{credentials: opt.who, t: t, dir: dir, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, ended: make(chan struct{})}
	argv := append(slices.Clone(opt.wrap), program)
	b.cmd = exec.Command(argv[0], argv[1:]...)
	b.cmd.Env = append([]string{
		"SOCKERLESS_RUN_ID=" + b.runID,
		"SOCKERLESS_RUN_SECRET=" + base64.RawURLEncoding.EncodeToString(b.secret),
		"SOCKERLESS_AGENT_LISTEN=unix:" + inside + "/s",
		"SOCKERLESS_DIR=" + inside,
		"CONTAINER_APP_JOB_EXECUTION_NAME=job-abc",
	}, opt.env...)
	b.cmd.Stdout, b.cmd.Stderr = b.stdout, b.stderr
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: opt.credential, Pdeathsig: syscall.SIGTERM} // if the test's time is over
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the agent, which the cleanup ends
		b.cmd.Wait()
		close(b.ended)
	}()
	t.Cleanup(b.close)
	if !opt.noLink {
		b.connect()
	}
	return b
}

func (b *box) socket() string { return filepath.Join(b.dir, "s") }

// connect makes a new link, as a new backend would.
func (b *box) connect() {
	b.t.Helper()
	b.disconnect()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := link.Dial(ctx, b.target(), link.Identity{Role: link.Backend, ID: b.runID, Secret: b.secret}, link.Options{Peer: link.Agent})
	if err != nil {
		b.t.Fatal(err)
	}
	b.linked(l)
}

// linked takes a link. It is closed after a while, so that what waits on it for something that does not come fails.
func (b *box) linked(l *link.Link) {
	b.link = l
	b.Client = protocol.NewClient(l.Open)
	if _, ok := b.t.(*testing.T); ok && os.Getenv("SOCKERLESS_SOAK") == "" {
		late := time.AfterFunc(5*time.Minute, func() { l.Close() })
		go func() { // ends with the link
			<-l.Done()
			late.Stop()
		}()
	}
}

func (b *box) target() link.Target {
	return link.Target{URL: "http://agent/agent", NetDial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", b.socket())
	}}
}

func (b *box) disconnect() {
	if b.link != nil {
		b.Client.Close()
		b.link.Close()
		b.link = nil
	}
}

func (b *box) close() {
	if b.link != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		b.Release(ctx)
		cancel()
	}
	b.disconnect()
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(time.Minute):
		b.t.Error("the agent does not end")
		b.cmd.Process.Kill()
		<-b.ended
	}
	if strings.Contains(b.stderr.String(), "DATA RACE") {
		b.t.Error("the race detector has found something in the agent")
	}
	if b.t.Failed() && b.stderr.Len() > 0 {
		b.t.Logf("agent's stderr: %.2000s", b.stderr)
	}
}

// code waits for the agent's end.
func (b *box) code() int {
	b.t.Helper()
	select {
	case <-b.ended:
		return b.cmd.ProcessState.ExitCode()
	case <-time.After(2 * time.Minute):
		b.t.Fatal("the agent does not end")
		return -1
	}
}

var path = "PATH=/usr/local/bin:/usr/bin:/bin"

// sh is a process that runs a script.
func sh(script string) protocol.Process {
	return protocol.Process{Args: []string{"/bin/sh", "-c", script}, Env: []string{path}}
}

func (b *box) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	b.t.Cleanup(cancel)
	return ctx
}

// start starts the container's process.
func (b *box) start(req protocol.StartRequest) protocol.StartResult {
	b.t.Helper()
	if req.Linger == 0 {
		req.Linger = time.Minute
	}
	res, err := b.Start(b.ctx(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// run starts a process, attached, and returns its output and exit.
func (b *box) run(req protocol.StartRequest) (out string, exit *protocol.Exit) {
	b.t.Helper()
	s, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true, Stderr: true})
	if err != nil {
		b.t.Fatal(err)
	}
	defer s.Close()
	res := b.start(req)
	data, err := io.ReadAll(s)
	if err != nil {
		b.t.Fatal(err)
	}
	if !req.Process.Tty {
		o, e := split(b.t, data)
		data = append(o, e...)
	}
	return string(data), b.exited(res.Incarnation)
}

// exited waits for the exit of an incarnation.
func (b *box) exited(n int) *protocol.Exit {
	b.t.Helper()
	return b.exitEvent(n).Exit
}

func (b *box) exitEvent(n int) protocol.Event {
	b.t.Helper()
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Kind == protocol.EventExited && e.Incarnation == n {
			return e
		}
	}
	b.t.Fatal("no exit event")
	return protocol.Event{}
}

// exec runs a process to its end and returns its output and exit code.
func (b *box) exec(p protocol.Process, stdin string) (out, errs string, code int) {
	b.t.Helper()
	out, errs, code, err := b.tryExec(p, stdin)
	if err != nil {
		b.t.Fatal(err)
	}
	return out, errs, code
}

func (b *box) tryExec(p protocol.Process, stdin string) (out, errs string, code int, err error) {
	id := make([]byte, 8)
	rand.Read(id)
	req := protocol.ExecRequest{ID: hex.EncodeToString(id), Process: p, Stdin: stdin != "", Stdout: true, Stderr: true}
	s, err := b.Exec(b.ctx(), req)
	if err != nil {
		return "", "", -1, err
	}
	defer s.Close()
	if stdin != "" {
		go func() { // ends with the process's input
			io.WriteString(s, stdin)
			s.CloseWrite()
		}()
	}
	data, err := io.ReadAll(s)
	if err != nil {
		return "", "", -1, err
	}
	state, err := b.ExecState(b.ctx(), req.ID)
	if err != nil {
		return "", "", -1, err
	}
	if state.Exit == nil {
		return "", "", -1, errors.New("the stream ended before the exit was recorded")
	}
	if p.Tty {
		return string(data), "", state.Exit.Code, nil
	}
	o, e, err := frames(data)
	return string(o), string(e), state.Exit.Code, err
}

// split takes stdcopy frames apart.
func split(t testing.TB, data []byte) (out, errs []byte) {
	t.Helper()
	out, errs, err := frames(data)
	if err != nil {
		t.Fatal(err)
	}
	return out, errs
}

// frames is split for any goroutine.
func frames(data []byte) (out, errs []byte, err error) {
	for len(data) > 0 {
		if len(data) < 8 {
			return nil, nil, fmt.Errorf("half a frame header: %q", data)
		}
		n := int(binary.BigEndian.Uint32(data[4:]))
		if len(data) < 8+n {
			return nil, nil, fmt.Errorf("half a frame: want %d bytes, got %d", n, len(data)-8)
		}
		switch tape.Stream(data[0]) {
		case tape.Stdout:
			out = append(out, data[8:8+n]...)
		case tape.Stderr:
			errs = append(errs, data[8:8+n]...)
		default:
			return nil, nil, fmt.Errorf("a frame of stream %d", data[0])
		}
		data = data[8+n:]
	}
	return out, errs, nil
}

// logs returns the kept records' data, streams together.
func (b *box) logs() string {
	b.t.Helper()
	var all strings.Builder
	next := uint64(1)
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		if r.Stream != tape.Gap && r.Seq != next {
			b.t.Fatalf("record %d after %d", r.Seq, next-1)
		}
		next = r.Seq + 1
		all.Write(r.Data)
	}
	return all.String()
}

// sleeper starts a process that does nothing, for execs beside it.
func sleeper(t *testing.T) *box {
	t.Helper()
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("exec sleep 1000")})
	return b
}

// comes waits for something that comes by itself. False: it does not.
func comes(f func() bool) bool {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}

// eventually fails a test in which something does not come.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	if !comes(f) {
		t.Fatalf("it does not come to this: %s", what)
	}
}

// exists says whether there is such a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if !protocol.HasCode(err, code) {
		t.Fatalf("want refusal %q, got %v", code, err)
	}
}
