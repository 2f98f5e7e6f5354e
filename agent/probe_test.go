package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

// check is a health check by a script, in quick succession.
func check(script string) *protocol.HealthCheck {
	return &protocol.HealthCheck{Process: sh(script), Interval: 10 * time.Millisecond, Timeout: 20 * time.Second, Retries: 1}
}

// awaitHealth returns the first health told that is as wanted.
func (b *box) awaitHealth(want func(*protocol.Health) bool) *protocol.Health {
	b.t.Helper()
	var last *protocol.Health
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			b.t.Fatalf("%v; last told: %+v", err, last)
		}
		if e.Kind != protocol.EventHealth {
			continue
		}
		if last = e.Health; want(last) {
			return last
		}
	}
	b.t.Fatalf("not told; last: %+v", last)
	return nil
}

func probed(n uint64) func(*protocol.Health) bool {
	return func(h *protocol.Health) bool { return h.Probes >= n }
}

func (b *box) probe(c *protocol.HealthCheck) protocol.ProbeResult {
	b.t.Helper()
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: c})
	h := b.awaitHealth(probed(1))
	return h.Log[0]
}

func TestProbeResults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		check *protocol.HealthCheck
		want  protocol.ProbeResult
	}{
		{"well", check("echo out; echo err >&2"), protocol.ProbeResult{Output: "out\nerr\n"}},
		{"not well", check("echo no; exit 3"), protocol.ProbeResult{ExitCode: 3, Output: "no\n"}},
		{"killed by itself", check("kill -9 $$"), protocol.ProbeResult{ExitCode: 137}},
		{"a command that is not there", &protocol.HealthCheck{Process: protocol.Process{Args: []string{"nope"}}, Interval: 1, Timeout: 1, Retries: 1}, protocol.ProbeResult{
			Refused: protocol.CodeNoCommand, Output: `exec: "nope": executable file not found in $PATH`,
		}},
		{"no command", &protocol.HealthCheck{Interval: 1, Timeout: 1, Retries: 1}, protocol.ProbeResult{Refused: protocol.CodeInvalid, Output: "no command specified"}},
		{"a user that is not there", &protocol.HealthCheck{
			Process: protocol.Process{Args: []string{"/bin/true"}, User: "nobody-knows"}, Interval: 1, Timeout: 1, Retries: 1,
		}, protocol.ProbeResult{Refused: protocol.CodeNoUser, Output: "unable to find user nobody-knows: no matching entries in passwd file"}},
		{"much output", check("head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2; exit 1"), protocol.ProbeResult{
			ExitCode: 1, Output: strings.Repeat("x", 4096), Truncated: true,
		}},
		{"bytes that are no text", check(`printf 'a\377b'`), protocol.ProbeResult{Output: "a\ufffdb"}},
		{"what stays in the background does not count", check("sleep 1000 & echo here"), protocol.ProbeResult{Output: "here\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := newBox(t, boxOptions{}).probe(tc.check)
			if got.Start.IsZero() || got.End.Before(got.Start) {
				t.Errorf("from %v to %v", got.Start, got.End)
			}
			// Two pipes have no common order.
			if got.Output == "err\nout\n" {
				got.Output = "out\nerr\n"
			}
			if tc.want.Truncated {
				got.Output = strings.Replace(got.Output, "end\n", "xxxx", 1)
			}
			got.Start, got.End = time.Time{}, time.Time{}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A probe has the user, environment and folder that it was given, and a session of its own.
func TestProbeIsAProcessLikeAnother(t *testing.T) {
	b := newBox(t, boxOptions{})
	c := check(`id -u; echo $A; pwd; cut -d' ' -f1,6 /proc/$$/stat; ulimit -n`)
	c.Process.Env = append(c.Process.Env, "A=b")
	c.Process.Dir = "/tmp"
	c.Process.Ulimits = []protocol.Ulimit{{Name: "nofile", Soft: 77, Hard: 77}}
	uid := os.Getuid()
	if uid == 0 {
		c.Process.User, uid = "12345:12345", 12345
	}
	var pid, session int
	out := b.probe(c).Output
	lines := strings.Split(out, "\n")
	if len(lines) < 5 {
		t.Fatal(out)
	}
	fmt.Sscan(lines[3], &pid, &session)
	if lines[0] != fmt.Sprint(uid) || lines[1] != "b" || lines[2] != "/tmp" || pid == 0 || pid != session || lines[4] != "77" {
		t.Errorf("the probe says %q", out)
	}
}

// The timeout kills a probe, what it has begun, and what ignores signals; the probes go on, and so does the process.
func TestProbeTimeout(t *testing.T) {
	b := newBox(t, boxOptions{})
	mark := filepath.Join(b.dir, "mark")
	c := check(`echo begun; trap '' TERM INT HUP; sh -c 'trap "" TERM; while :; do sleep 0.01; date >` + mark + `; done' & (sleep 1000; echo never) & wait; echo never`)
	c.Timeout = 300 * time.Millisecond
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: c})
	h := b.awaitHealth(func(h *protocol.Health) bool {
		_, err := os.Stat(mark)
		return h.Probes >= 2 && h.Log[len(h.Log)-1].Output != "" && err == nil
	})
	for _, r := range h.Log {
		if !r.Late || r.Output != "begun\n" && r.Output != "" || r.Healthy() { // a busy machine may not let it begin
			t.Errorf("result %+v", r)
		}
	}
	if h.Status != protocol.HealthUnhealthy {
		t.Error(h.Status)
	}
	if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	b.exited(1)
	if err := os.Remove(mark); err != nil {
		t.Fatal("the background never ran", err)
	}
	time.Sleep(200 * time.Millisecond)
	if _, err := os.Stat(mark); err == nil {
		t.Error("something of the probe lives on")
	}
}

// What a probe that was killed had begun is dead: at most the processes of one probe are there.
func TestProbesDoNotPileUp(t *testing.T) {
	b := newBox(t, boxOptions{})
	span := fmt.Sprint(100000 + os.Getpid())
	c := check("sleep " + span + " & sleep " + span + " & sleep " + span)
	c.Timeout = 50 * time.Millisecond
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: c})
	b.awaitHealth(probed(10))
	sleeping := func(names []string) (found []string) {
		for _, name := range names {
			if data, err := os.ReadFile(name); err == nil && string(data) == "sleep\x00"+span+"\x00" {
				found = append(found, name)
			}
		}
		return found
	}
	count := func() int {
		names, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		return len(sleeping(sleeping(names))) // looked at twice, they were there at the same time
	}
	seen := 0
	for i, end := 0, time.Now().Add(time.Minute); i < 20 || seen == 0 && time.Now().Before(end); i++ {
		n := count()
		seen += n
		if n > 6 { // of one probe, and of the next, should the first look be slow
			t.Fatalf("%d processes of probes", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if seen == 0 {
		t.Error("no probe was seen")
	}
}

// A probe that floods its output, or that nobody can end in time, delays neither an exec nor the exit.
func TestProbesDelayNobody(t *testing.T) {
	b := newBox(t, boxOptions{})
	c := check("exec yes")
	c.Timeout = time.Hour
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: c})
	time.Sleep(100 * time.Millisecond)
	if out, _, code := b.exec(sh("echo here"), ""); out != "here\n" || code != 0 {
		t.Error(out, code)
	}
	if err := b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM", Grace: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if exit := b.exited(1); exit.Signal != 15 {
		t.Errorf("%+v", exit)
	}
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == protocol.EventHealth {
			t.Errorf("a probe that was not over is told: %+v", e.Health)
		}
		if e.Kind == protocol.EventExited {
			break
		}
	}
}

// Each start begins anew; a start without a check has no health; a check that is not whole is refused.
func TestHealthOfEachIncarnation(t *testing.T) {
	b := newBox(t, boxOptions{})
	_, err := b.Start(b.ctx(), protocol.StartRequest{Process: sh("true"), Health: &protocol.HealthCheck{Process: sh("true")}})
	wantCode(t, err, protocol.CodeInvalid)

	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: check("exit 1")})
	if h := b.awaitHealth(probed(3)); h.FailingStreak < 3 || len(h.Log) < 3 {
		t.Errorf("%+v", h)
	}
	b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"})
	b.exited(1)
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: check("exit 0")})
	h := b.awaitHealth(func(h *protocol.Health) bool { return h.Status == protocol.HealthHealthy })
	if h.FailingStreak != 0 || h.Probes > 1 && len(h.Log) != int(min(h.Probes, 5)) {
		t.Errorf("%+v", h)
	}
	b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"})
	b.exited(2)
	last, _ := b.State(b.ctx())
	b.start(protocol.StartRequest{Process: sh("sleep 1; exit 0")})
	ctx, cancel := context.WithCancel(b.ctx())
	defer cancel()
	for e, err := range b.Events(ctx, last.LastEvent) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == protocol.EventHealth {
			t.Errorf("a process without a check has a health: %+v", e.Health)
		}
		if e.Kind == protocol.EventExited {
			break
		}
	}
}

// The probes go on while no backend is there; one that comes without memory is told the last health, acknowledged or not.
func TestHealthIsKeptForAnyBackend(t *testing.T) {
	b := newBox(t, boxOptions{})
	flag := filepath.Join(b.dir, "flag")
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: check("test ! -e " + flag)})
	h := b.awaitHealth(func(h *protocol.Health) bool { return h.Status == protocol.HealthHealthy })
	b.disconnect()
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	b.connect()
	h = b.awaitHealth(func(now *protocol.Health) bool {
		return now.Status == protocol.HealthUnhealthy && now.Probes > h.Probes
	})
	state, err := b.State(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ack(b.ctx(), protocol.AckRequest{Event: state.LastEvent}); err != nil {
		t.Fatal(err)
	}
	b.connect()
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind != protocol.EventHealth || e.Health.Status != protocol.HealthUnhealthy || e.Health.Probes < h.Probes {
			t.Errorf("the first event: %+v %+v", e, e.Health)
		}
		break
	}
}

// Probes of every kind leave no descriptor, no process and no memory behind.
func TestProbesLeaveNothing(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	c := check(`case $(($$ % 4)) in 0) echo well;; 1) head -c 100000 /dev/zero; exit 1;; 2) sleep 0.001 & exit 0;; 3) sleep 1000 & sleep 1000;; esac`)
	c.Interval, c.Timeout = time.Millisecond, 30*time.Millisecond
	b.start(protocol.StartRequest{Process: sh("sleep 1000"), Health: c})
	b.awaitHealth(probed(100))
	// A probe that is under way has three descriptors at most, and what it left in the background two more for a moment.
	fds, rss := b.footprint()
	last := b.awaitHealth(probed(400))
	var fdsAfter, rssAfter int
	if !comes(func() bool { fdsAfter, rssAfter = b.footprint(); return fdsAfter <= fds+10 }) {
		t.Errorf("%d descriptors after 100 probes, %d after %d", fds, fdsAfter, last.Probes)
	}
	if rssAfter > rss+8<<10 {
		t.Errorf("%d KiB after 100 probes, %d after %d", rss, rssAfter, last.Probes)
	}
	if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	b.exited(1)
}
