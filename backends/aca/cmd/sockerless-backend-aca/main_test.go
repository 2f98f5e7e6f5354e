package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/volume"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/remote"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is written by the program and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestCommandLine(t *testing.T) {
	good := map[string]string{
		"SOCKERLESS_ACA_SUBSCRIPTION_ID": "5c0c1e55-0000-4000-8000-000000000001", "SOCKERLESS_ACA_RESOURCE_GROUP": "rg",
	}
	with := func(name, value string) map[string]string {
		env := map[string]string{name: value}
		for k, v := range good {
			if k != name {
				env[k] = v
			}
		}
		return env
	}
	for _, c := range []struct {
		name   string
		args   []string
		env    map[string]string
		code   int
		stdout string
		stderr string
	}{
		{"help needs no setting", []string{"--help"}, nil, 0, "SOCKERLESS_ACA_SUBSCRIPTION_ID", ""},
		{"version", []string{"--version"}, nil, 0, "sockerless-backend-aca devel", ""},
		{"unknown flag", []string{"-subscriptoin", "x"}, good, 2, "", "-subscriptoin"},
		{"argument", []string{"run"}, good, 2, "", `unexpected argument "run"`},
		{"missing subscription", nil, nil, 2, "", "SOCKERLESS_ACA_SUBSCRIPTION_ID (flag -subscription) is not set"},
		{"missing group", nil, map[string]string{"SOCKERLESS_ACA_SUBSCRIPTION_ID": good["SOCKERLESS_ACA_SUBSCRIPTION_ID"]}, 2, "", "SOCKERLESS_ACA_RESOURCE_GROUP (flag -resource-group) is not set"},
		{"malformed duration", nil, with("SOCKERLESS_ACA_LINGER", "soon"), 2, "", `SOCKERLESS_ACA_LINGER (flag -linger) is "soon"`},
		{"negative duration", []string{"-linger", "-1s"}, good, 2, "", "SOCKERLESS_ACA_LINGER (flag -linger) is -1s"},
		{"address without a port", []string{"-addr", "localhost"}, good, 2, "", `-addr is "localhost"`},
		{"state that is none", nil, with("SOCKERLESS_STATE", "sqlite://x"), 2, "", `SOCKERLESS_STATE (flag -state) is "sqlite://x", which is neither table://ACCOUNT/TABLE nor the https URL of a table`},
		{"state over http", []string{"-state", "http://localhost:1/a/state"}, good, 2, "", "SOCKERLESS_STATE (flag -state) is"},
		{"state without a table", []string{"-state", "table://account"}, good, 2, "", "SOCKERLESS_STATE (flag -state) is"},
		{"state in a bad account", []string{"-state", "table://My-Account/state"}, good, 2, "", `"My-Account" is no name of a storage account`},
		{"state in a bad table", []string{"-state", "table://account/my-state"}, good, 2, "", `"my-state" is no name of a table`},
		{"CA file that is not there", nil, with("SOCKERLESS_CA_FILE", "/nowhere/ca.pem"), 2, "", "SOCKERLESS_CA_FILE (flag -ca-file) cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != nil {
				c.env["SOCKERLESS_DATA_DIR"] = t.TempDir()
			}
			var stdout, stderr buffer
			m := Main{Args: c.args, Getenv: func(name string) string { return c.env[name] }, Stdout: &stdout, Stderr: &stderr}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // for what would go on
			defer cancel()
			if code := m.Run(ctx); code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			if !strings.Contains(stdout.String(), c.stdout) || c.stdout == "" && stdout.String() != "" {
				t.Errorf("standard output is %q, want %q in it", stdout.String(), c.stdout)
			}
			if lines := strings.Count(stderr.String(), "\n"); !strings.Contains(stderr.String(), c.stderr) || c.stderr == "" && lines != 0 || c.code == 2 && lines != 1 {
				t.Errorf("standard error is %q, want one line with %q", stderr.String(), c.stderr)
			}
		})
	}
}

// running is the program against a simulated Azure.
type running struct {
	addr   string
	dir    string
	stderr *buffer
	stop   func() int // and wait for its exit status
}

func start(t *testing.T, sim *azuresim.Simulator, srv *azuresim.Server, dir string, args ...string) running {
	t.Helper()
	env := map[string]string{}
	for _, line := range sim.Environ(srv) {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
		if strings.HasPrefix(name, "AZURE_") {
			t.Setenv(name, value) // azidentity reads them itself
		}
	}
	env["SOCKERLESS_DATA_DIR"], env["SOCKERLESS_ACA_AGENT_IMAGE"] = dir, srv.LoginServer+"/agent:test"
	env["SOCKERLESS_CALLBACK_URL"] = "http://host.azuresim.internal:9100"
	ctx, cancel := context.WithCancel(t.Context())
	listening, ended := make(chan string, 1), make(chan int, 1)
	r := running{dir: dir, stderr: &buffer{}}
	m := Main{Args: append([]string{"-addr", "127.0.0.1:0"}, args...), Getenv: func(name string) string { return env[name] }, Stdout: &buffer{}, Stderr: r.stderr,
		Listening: func(a net.Addr) { listening <- a.String() }}
	go func() { ended <- m.Run(ctx) }() // ends with ctx
	r.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() { r.stop() })
	select {
	case r.addr = <-listening:
	case code := <-ended:
		ended <- code
	case <-time.After(2 * time.Minute):
		t.Fatalf("the backend is not ready after 2 minutes: %s", r.stderr)
	}
	return r
}

// calm serves a simulated Azure until the test ends.
func calm(t *testing.T) (*azuresim.Simulator, *azuresim.Server) {
	t.Helper()
	sim, err := azuresim.New(azuresim.Calm())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return sim, srv
}

func TestBackend(t *testing.T) {
	sim, srv := calm(t)
	dir := t.TempDir()
	b := start(t, sim, srv, dir)
	if b.addr == "" {
		t.Fatalf("the backend did not start: %s", b.stderr)
	}

	info, err := os.Stat(remote.TokenFile(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token's file is %v, error %v; want mode 0600", info, err)
	}
	client, err := remote.Dial("http://"+b.addr, remote.DialOptions{TokenFile: remote.TokenFile(dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	told, err := client.System.Info(t.Context())
	if err != nil || told.Containers != 0 {
		t.Errorf("info is %+v, error %v", told, err)
	}

	for path, want := range map[string]int{"/v1/system/info": http.StatusUnauthorized, "/agent": http.StatusBadRequest, "/link": http.StatusBadRequest} {
		resp, err := http.Post("http://"+b.addr+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s without the token: %s, want %d", path, resp.Status, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()

	second := start(t, sim, srv, dir)
	if code := second.stop(); code != 1 || !strings.Contains(second.stderr.String(), "cannot use data folder "+dir+": another backend runs on it") {
		t.Errorf("a second backend on the folder: status %d, %q", code, second.stderr)
	}
	if code := b.stop(); code != 0 {
		t.Errorf("after SIGTERM the status is %d, want 0: %s", code, b.stderr)
	}
	if sockerless.ErrorCode(firstError(client)) != sockerless.EUNAVAILABLE {
		t.Error("the ended backend still answers")
	}
	again := start(t, sim, srv, dir)
	if code := again.stop(); code != 0 {
		t.Errorf("a backend on the folder of an ended one: status %d: %s", code, again.stderr)
	}
	if strings.Contains(b.stderr.String(), sim.Operator().Secret) {
		t.Error("the log tells a secret")
	}
}

// TestRoll replaces a backend on tables by another on an empty folder, as a roll of revisions does: the second takes
// connections at once, answers when the first has ended, and knows the token and the objects of the first.
func TestRoll(t *testing.T) {
	sim, srv := calm(t)
	state := sim.TableURL(srv, "state")
	dir := t.TempDir()
	given := remote.Token{1, 2, 3} // put there by whoever deploys it
	if err := remote.WriteToken(remote.TokenFile(dir), given); err != nil {
		t.Fatal(err)
	}
	first := start(t, sim, srv, dir, "-state", state)
	a, err := remote.Dial("http://"+first.addr, remote.DialOptions{TokenFile: remote.TokenFile(first.dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	until := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s does not come; the first: %s", what, first.stderr)
			}
		}
	}
	until("the first", func() bool { return firstError(a) == nil })
	if _, err := a.Volumes.Create(t.Context(), volume.CreateRequest{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	second := start(t, sim, srv, t.TempDir(), "-state", state)
	resp, err := http.Get("http://" + second.addr + "/v1/system/info")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second answers %s while the first has the state", resp.Status)
	}
	until("the second's word that it waits", func() bool {
		return strings.Contains(second.stderr.String(), "another backend has the state")
	})
	if strings.Contains(second.stderr.String(), "backend is ready") || firstError(a) != nil {
		t.Error("two backends have one state")
	}
	if code := first.stop(); code != 0 {
		t.Errorf("the first ends with status %d: %s", code, first.stderr)
	}
	until("the second", func() bool { return strings.Contains(second.stderr.String(), "backend is ready") })
	before, err := remote.ReadToken(remote.TokenFile(first.dir))
	if err != nil || before != given {
		t.Fatalf("the token that was given is not used (%v)", err)
	}
	if after, err := remote.ReadToken(remote.TokenFile(second.dir)); err != nil || after != before {
		t.Errorf("the token has changed (%v)", err)
	}
	b, err := remote.Dial("http://"+second.addr, remote.DialOptions{TokenFile: remote.TokenFile(first.dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Volumes.Find(t.Context(), "kept"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(second.dir, "key")); !os.IsNotExist(err) {
		t.Errorf("the key is in the folder (%v)", err)
	}
	if !strings.Contains(second.stderr.String(), "the data folder is not the one") {
		t.Errorf("the second does not say what it has not: %s", second.stderr)
	}

	waiting := start(t, sim, srv, t.TempDir(), "-state", state)
	if code := waiting.stop(); code != 0 {
		t.Errorf("one that is told to end while it waits ends with status %d: %s", code, waiting.stderr)
	}
	if code := second.stop(); code != 0 {
		t.Errorf("the second ends with status %d: %s", code, second.stderr)
	}
	for _, text := range []string{first.stderr.String(), second.stderr.String()} {
		if strings.Contains(text, before.String()) {
			t.Error("the log tells the token")
		}
	}
}

// A state that cannot be had ends the program with one line.
func TestStateThatCannotBeHad(t *testing.T) {
	sim, srv := calm(t)
	role := azuresim.Assignment{Principal: sim.Operator().ObjectID, Role: "Storage Table Data Contributor", Scope: sim.World().StorageAccountID()}
	if !sim.Unassign(role) {
		t.Fatal("the operator does not have the role")
	}
	for name, c := range map[string]struct{ state, want string }{
		"no role":    {sim.TableURL(srv, "state"), "403 AuthorizationPermissionMismatch"},
		"no account": {"table://nosuchaccount/state", "nosuchaccount.table.core.azuresim.internal"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, sim, srv, t.TempDir(), "-state", c.state)
			for end := time.Now().Add(2 * time.Minute); !strings.Contains(b.stderr.String(), program+":"); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the program goes on: %s", b.stderr)
				}
			}
			code := b.stop()
			lines := strings.Split(strings.TrimSpace(b.stderr.String()), "\n")
			if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, program+": cannot use the state in "+c.state) || !strings.Contains(last, c.want) {
				t.Errorf("status %d: %s", code, b.stderr)
			}
		})
	}
}

// Containers in a data folder are not left behind in silence when the state moves to a table.
func TestFolderWithContainersBesideATable(t *testing.T) {
	sim, srv := calm(t)
	dir := t.TempDir()
	own, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = own.Put(t.Context(), "containers", store.Item{Key: strings.Repeat("ab", 32), Value: []byte("{}")})
	if err := errors.Join(err, own.Close()); err != nil {
		t.Fatal(err)
	}
	b := start(t, sim, srv, dir, "-state", sim.TableURL(srv, "state"))
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(b.stderr.String(), program+":") && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	if code := b.stop(); code != 2 || !strings.Contains(b.stderr.String(), "the data folder "+dir+" has containers of its own, such as abababababab: remove them first, or use another folder") {
		t.Errorf("status %d: %s", code, b.stderr)
	}
}

func firstError(c *remote.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := c.System.Info(ctx)
	return err
}
