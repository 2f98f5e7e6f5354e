//go:build linux

package clients_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/conformance/clients"
	"github.com/sockerless/sockerless/conformance/host"
)

var all = flag.Bool("clients", false, "run the clients: their packages are downloaded and built the first time")

// clientTime bounds what a client takes, its build included: that of compose takes minutes where nothing is cached. It is for
// what hangs.
const clientTime = 15 * time.Minute

// TestMain prints the summary after the last test.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if *all {
		fmt.Print(tally.summary())
	}
	os.Exit(code)
}

// open starts the host of one client and returns it with the environment that the client runs in, see [environment]. The
// test is skipped where nobody asked for clients.
func open(t *testing.T, flags ...string) (*host.Host, []string) {
	t.Helper()
	if !*all {
		t.Skip("`make conformance` runs it")
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	h, err := host.Sockerless(context.Background(), bin, dir, append([]string{"-sim-calm"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, h)
	return h, append(environment(t, h), "REGISTRY="+h.Registry, "IMAGE="+h.Registry+"/minibox:latest")
}

// stopAfter ends a host with the test.
func stopAfter(t *testing.T, h *host.Host) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.Log())
		}
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// folder is a new one with a short name: the path of a unix socket has 107 bytes at most.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "clients")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// environment is what a client of the host runs in: DOCKER_HOST and a HOME of its own. Clients also get REGISTRY, the
// simulator's, and IMAGE, which is minibox there.
func environment(t *testing.T, h *host.Host) []string {
	home := folder(t)
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C.UTF-8",
		"DOCKER_HOST=" + h.Addr, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"),
	}
}

// command is a client's program in the environment that open returned. It ends with its children when the test does.
func command(t *testing.T, env []string, dir, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), clientTime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// runTAP runs a client that speaks TAP, each of its cases a subtest; how tells what is special about this run.
func runTAP(t *testing.T, cmd *exec.Cmd, how string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = clients.TAP(out, func(o clients.Outcome) {
		check(t, how+": "+o.Name, func(t *testing.T) {
			if !o.OK {
				t.Fatal(o.Log)
			}
			if o.Skip != "" {
				wait(t, o.Skip)
			}
		})
	})
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
}

// check runs one case of the client that t tests, and counts it.
func check(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Cleanup(func() { tally.add(t) })
		f(t)
	})
}

// wait skips a case that waits for what Sockerless does not have yet. The caller has made sure that it is refused.
func wait(t *testing.T, reason string) {
	t.Helper()
	tally.wait(t.Name(), reason)
	t.Skip(reason)
}

// tally counts the cases of all clients.
var tally counts

type counts struct {
	mu      sync.Mutex
	order   []string
	clients map[string]*struct{ passed, failed int }
	waiting map[string]string // by the test's name: the reason
	waits   []string          // the lines
}

func (c *counts) wait(test, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = map[string]string{}
	}
	c.waiting[test] = reason
}

func (c *counts) add(t *testing.T) {
	client, name, _ := strings.Cut(strings.TrimPrefix(t.Name(), "Test"), "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clients == nil {
		c.clients = map[string]*struct{ passed, failed int }{}
	}
	n := c.clients[client]
	if n == nil {
		n = &struct{ passed, failed int }{}
		c.clients[client] = n
		c.order = append(c.order, client)
	}
	reason, waits := c.waiting[t.Name()]
	switch {
	case t.Failed():
		n.failed++
	case waits:
		c.waits = append(c.waits, fmt.Sprintf("  %s: %s: %s\n", client, name, reason))
	case t.Skipped():
		n.failed++ // nothing is skipped without being counted
		fmt.Printf("%s was skipped without a reason\n", t.Name())
	default:
		n.passed++
	}
}

func (c *counts) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, client := range c.order {
		n, waits := c.clients[client], 0
		for _, line := range c.waits {
			if strings.HasPrefix(line, "  "+client+": ") {
				waits++
			}
		}
		fmt.Fprintf(&b, "clients: %s: %d proved, %d failed, %d skipped\n", client, n.passed, n.failed, waits)
	}
	if len(c.waits) > 0 {
		b.WriteString("skipped, each seen to be refused:\n" + strings.Join(c.waits, ""))
	}
	return b.String()
}

// TestTAP: what a client says is what is counted.
func TestTAP(t *testing.T) {
	tests := []struct {
		name, said string
		want       []clients.Outcome
		err        string
	}{
		{name: "all of it", said: "TAP version 13\n1..4\nok 1 - first\n\nnot ok 2 - second\n# why\n  ---\nok 3 third # SKIP a reason\nok - fourth\n", want: []clients.Outcome{
			{Name: "first", OK: true, Log: "TAP version 13\n"},
			{Name: "second", Log: "# why\n  ---\n"},
			{Name: "third", OK: true, Skip: "a reason"},
			{Name: "fourth", OK: true},
		}},
		{name: "the plan comes last", said: "ok 1 - a\n1..1\n", want: []clients.Outcome{{Name: "a", OK: true}}},
		{name: "a skip without a reason fails", said: "1..1\nok 1 - a # SKIP\n", want: []clients.Outcome{{Name: "a", Log: "skipped without a reason\n"}}},
		{name: "it died", said: "1..2\nok 1 - a\nTraceback\n", want: []clients.Outcome{{Name: "a", OK: true, Log: "Traceback\n"}}, err: "it planned 2 cases and 1 ended: "},
		{name: "it died before", said: "Traceback\n", err: "it planned nothing (no line 1..N) and 0 cases ended: Traceback\n"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			var got []clients.Outcome
			err := clients.TAP(strings.NewReader(c.said), func(o clients.Outcome) { got = append(got, o) })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if text := fmt.Sprint(err); text != c.err && (err != nil || c.err != "") {
				t.Errorf("error %q, want %q", text, c.err)
			}
		})
	}
}
