package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

func TestLifeOfAContainer(t *testing.T) {
	b := newBox(t, boxOptions{})
	s, err := b.State(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if s.Phase != protocol.PhaseHeld || s.Execution != "job-abc" || s.BootID == "" || s.Uid != os.Geteuid() {
		t.Errorf("state of a held agent: %+v", s)
	}
	if hello := b.link.Peer(); hello.BootID != s.BootID || hello.Execution != "job-abc" {
		t.Errorf("hello %+v", hello)
	}
	out, exit := b.run(protocol.StartRequest{Key: "k", Process: sh("echo one; echo two; exit 5")})
	if diff := cmp.Diff("one\ntwo\n", out); diff != "" {
		t.Error(diff)
	}
	if exit.Code != 5 || exit.Signal != 0 || exit.OOM {
		t.Errorf("exit %+v", exit)
	}
	if diff := cmp.Diff("one\ntwo\n", b.logs()); diff != "" {
		t.Error(diff)
	}
	if s, _ := b.State(b.ctx()); s.Phase != protocol.PhaseExited || s.Exit == nil || s.Exit.Code != 5 || s.LastLog != 2 || s.LastEvent != 2 {
		t.Errorf("state after the exit: %+v", s)
	}
	// The same key again is the same start; another one runs again, beside what the first left on disk and on the tape.
	again, err := b.Start(b.ctx(), protocol.StartRequest{Key: "k", Process: sh("echo wrong")})
	if err != nil || again.Incarnation != 1 {
		t.Errorf("a repeated start: %+v, %v", again, err)
	}
	out, exit = b.run(protocol.StartRequest{Key: "l", Process: sh("echo three; exit 6"), Linger: time.Minute})
	if out != "three\n" || exit.Code != 6 {
		t.Errorf("second run: %q, %+v", out, exit)
	}
	if diff := cmp.Diff("one\ntwo\nthree\n", b.logs()); diff != "" {
		t.Error(diff)
	}
	if err := b.Release(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if code := b.code(); code != 6 {
		t.Errorf("the agent's code is %d", code)
	}
	if diff := cmp.Diff("one\ntwo\nthree\n", b.stdout.String()); diff != "" {
		t.Error("the platform's log:", diff)
	}
}

func TestStartRefusals(t *testing.T) {
	b := newBox(t, boxOptions{})
	_, err := b.Start(b.ctx(), protocol.StartRequest{Process: protocol.Process{Args: []string{"nosuch"}, Env: []string{path}}})
	wantCode(t, err, protocol.CodeNoCommand)
	if s, _ := b.State(b.ctx()); s.Phase != protocol.PhaseHeld || s.Incarnation != 0 {
		t.Errorf("state after a failed start: %+v", s)
	}
	_, err = b.Start(b.ctx(), protocol.StartRequest{Process: sh("true"), Linger: -1})
	wantCode(t, err, protocol.CodeInvalid)
	for _, err := range []error{
		b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM"}), b.Signal(b.ctx(), protocol.SignalRequest{Signal: "TERM"}),
		b.Resize(b.ctx(), protocol.ResizeRequest{}),
	} {
		wantCode(t, err, protocol.CodeNotRunning)
	}
	b.start(protocol.StartRequest{Process: sh("exec sleep 1000")})
	_, err = b.Start(b.ctx(), protocol.StartRequest{Process: sh("true")})
	wantCode(t, err, protocol.CodeRunning)
	wantCode(t, b.Signal(b.ctx(), protocol.SignalRequest{Signal: "NOSUCH"}), protocol.CodeInvalid)
	wantCode(t, b.Signal(b.ctx(), protocol.SignalRequest{Signal: "0"}), protocol.CodeInvalid)
	wantCode(t, b.Resize(b.ctx(), protocol.ResizeRequest{}), protocol.CodeInvalid)
}

func TestWorkingDirectoryIsMade(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir() + "/a/b"
	p := sh("pwd")
	p.Dir = dir
	if out, _ := b.run(protocol.StartRequest{Process: p}); out != dir+"\n" {
		t.Errorf("%q", out)
	}
}

func TestStop(t *testing.T) {
	for _, test := range []struct {
		name, script string
		req          protocol.StopRequest
		want         protocol.Exit
	}{
		{"the signal ends it", "exec sleep 1000", protocol.StopRequest{Signal: "SIGTERM", Grace: time.Minute}, protocol.Exit{Code: 143, Signal: 15}},
		{"another signal", "exec sleep 1000", protocol.StopRequest{Signal: "QUIT", Grace: time.Minute}, protocol.Exit{Code: 131, Signal: 3}},
		{"it exits by itself", "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done", protocol.StopRequest{Signal: "15", Grace: time.Minute}, protocol.Exit{Code: 7}},
		{"it is killed after the grace", "trap '' TERM; echo up; while :; do sleep 0.01; done", protocol.StopRequest{Signal: "TERM", Grace: 50 * time.Millisecond}, protocol.Exit{Code: 137, Signal: 9, Killed: true}},
		{"no grace", "trap '' TERM; echo up; while :; do sleep 0.01; done", protocol.StopRequest{Signal: "TERM"}, protocol.Exit{Code: 137, Signal: 9, Killed: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t, boxOptions{})
			b.start(protocol.StartRequest{Process: sh(test.script)})
			if strings.Contains(test.script, "echo up") {
				for range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
					break // the trap is set
				}
			}
			if err := b.Stop(b.ctx(), test.req); err != nil {
				t.Fatal(err)
			}
			got := b.exited(1)
			if got.Code != test.want.Code || got.Signal != test.want.Signal || got.Killed != test.want.Killed {
				t.Errorf("exit %+v, want %+v", got, test.want)
			}
		})
	}
}

// The end of the process is the end of all that was started beside it and below it.
func TestNothingOutlivesTheProcess(t *testing.T) {
	b := newBox(t, boxOptions{})
	mark := fmt.Sprintf("7%d", time.Now().UnixNano()%1e9)
	b.start(protocol.StartRequest{Process: sh("setsid sleep " + mark + " & (sleep " + mark + " &) ; read x; exit 4"), OpenStdin: true})
	s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: "e", Process: sh("trap '' TERM HUP; echo up; sleep " + mark + "; sleep " + mark), Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	io.ReadFull(s, make([]byte, 11))
	in, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	io.WriteString(in, "go\n")
	if exit := b.exited(1); exit.Code != 4 {
		t.Errorf("exit %+v", exit)
	}
	if _, err := io.ReadAll(s); err != nil {
		t.Errorf("the exec's stream: %v", err)
	}
	if state, err := b.ExecState(b.ctx(), "e"); err != nil || state.Exit == nil || state.Exit.Code != 137 {
		t.Errorf("the exec: %+v, %v", state, err)
	}
	out, err := exec.Command("pgrep", "-f", "sleep "+mark).Output()
	if none, ok := errors.AsType[*exec.ExitError](err); !ok || none.ExitCode() != 1 {
		t.Errorf("still there: %s, %v", out, err)
	}
}

func TestReapsOrphans(t *testing.T) {
	b := sleeper(t)
	const orphans = 600
	out, _, code := b.exec(sh(fmt.Sprintf("i=0; while [ $i -lt %d ]; do (sleep 0.%02d &) ; i=$((i+1)); done; echo done", orphans, 10)), "")
	if out != "done\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
	pid := b.cmd.Process.Pid
	var children string
	if !comes(func() bool {
		out, _ := exec.Command("ps", "--ppid", strconv.Itoa(pid), "-o", "stat=,args=").Output()
		children = strings.TrimSpace(string(out))
		return !strings.Contains(children, "\n") && strings.Contains(children, "sleep 1000")
	}) {
		t.Errorf("children of the agent:\n%s", children)
	}
}

// The order on every stream of a short-lived process is: all output, the exit on record, the end.
func TestShortLivedProcessesLoseNothing(t *testing.T) {
	b := newBox(t, boxOptions{})
	for i := range 100 {
		s, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true, Stderr: true})
		if err != nil {
			t.Fatal(err)
		}
		res := b.start(protocol.StartRequest{Process: sh(fmt.Sprintf("echo line %d; exit %d", i, i))})
		data, err := io.ReadAll(s)
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		state, err := b.State(b.ctx())
		if err != nil || state.Phase != protocol.PhaseExited || state.Exit.Code != i || state.Incarnation != res.Incarnation {
			t.Fatalf("after the end of stream %d: %+v, %v", i, state, err)
		}
		out, _ := split(t, data)
		if want := fmt.Sprintf("line %d\n", i); string(out) != want {
			t.Fatalf("got %q, want %q", out, want)
		}
	}
}

func TestHeldAgentGivesUp(t *testing.T) {
	b := newBox(t, boxOptions{env: []string{"SOCKERLESS_HOLD=300ms"}, noLink: true})
	if code := b.code(); code != 125 {
		t.Errorf("code %d", code)
	}
	if diff := cmp.Diff("sockerless-agent: no backend told it to start within 300ms\n", b.stderr.String()); diff != "" {
		t.Error(diff)
	}
}

func TestHowLongTheAgentStays(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		req  protocol.StartRequest
		env  []string
		ack  bool
		min  time.Duration // the maximum is what is not to count: an hour
	}{
		{"no linger: it ends with the acknowledgement", protocol.StartRequest{Orphan: time.Hour}, nil, true, 0},
		{"a linger counts from the acknowledgement", protocol.StartRequest{Linger: time.Second, Orphan: time.Hour}, nil, true, time.Second},
		{"without one it is an orphan", protocol.StartRequest{Linger: time.Hour, Orphan: time.Second}, nil, false, time.Second},
		{"the platform says how long that is", protocol.StartRequest{Linger: time.Hour}, []string{"SOCKERLESS_ORPHAN=1s"}, false, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, boxOptions{env: test.env})
			test.req.Process = sh("echo x; exit 9")
			begin := time.Now()
			if _, err := b.Start(b.ctx(), test.req); err != nil {
				t.Fatal(err)
			}
			e := b.exitEvent(1)
			if test.ack {
				// Half of it is not enough.
				if err := b.Ack(b.ctx(), protocol.AckRequest{Event: e.Seq}); err != nil {
					t.Fatal(err)
				}
				begin = time.Now()
				if err := b.Ack(b.ctx(), protocol.AckRequest{Log: e.LastLog}); err != nil {
					t.Fatal(err)
				}
			}
			if code := b.code(); code != 9 {
				t.Errorf("code %d", code)
			}
			if d := time.Since(begin); d < test.min {
				t.Errorf("it stayed %v, want %v", d, test.min)
			}
		})
	}
}

func TestStartWithinTheLinger(t *testing.T) {
	t.Parallel()
	for linger := 500 * time.Millisecond; ; linger *= 2 {
		b := newBox(t, boxOptions{})
		dir := t.TempDir()
		b.start(protocol.StartRequest{Process: sh("echo kept > " + dir + "/file"), Linger: linger})
		e := b.exitEvent(1)
		begin := time.Now()
		b.Ack(b.ctx(), protocol.AckRequest{Event: e.Seq, Log: e.LastLog})
		p := sh(fmt.Sprintf("cat %s/file; sleep %g", dir, 2*linger.Seconds()))
		_, err := b.Start(b.ctx(), protocol.StartRequest{Process: p, Linger: time.Minute})
		if err != nil && time.Since(begin) > linger {
			continue // too busy a machine for so short a linger
		}
		if err != nil {
			t.Fatal(err)
		}
		if exit, logs := b.exited(2), b.logs(); exit.Code != 0 || logs != "kept\n" {
			t.Errorf("%+v, %q", exit, logs)
		}
		return
	}
}

func TestPlatformStop(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		code         int
	}{
		{"it has a handler", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done", 3},
		{"it has none", "echo up; exec sleep 1000", 143},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, boxOptions{})
			b.start(protocol.StartRequest{Process: sh(test.script), Linger: time.Hour, Orphan: time.Hour})
			for range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
				break
			}
			b.cmd.Process.Signal(syscall.SIGTERM)
			if exit := b.exited(1); exit.Code != test.code {
				t.Errorf("exit %+v", exit)
			}
			if code := b.code(); code != test.code { // it waits for neither the linger nor the orphan's time
				t.Errorf("code %d", code)
			}
		})
	}
	t.Run("held", func(t *testing.T) {
		t.Parallel()
		b := newBox(t, boxOptions{})
		b.cmd.Process.Signal(syscall.SIGTERM)
		if code := b.code(); code != 143 {
			t.Errorf("code %d", code)
		}
	})
}

// Nobody is attached to what an agent that ends will not run: whoever waits for the process goes where it runs.
func TestAttachToAnAgentThatEnds(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("true"), Linger: time.Minute, Orphan: time.Minute})
	b.exited(1)
	b.cmd.Process.Signal(syscall.SIGTERM) // it stays a moment, for the exit is not acknowledged
	eventually(t, "attach is refused", func() bool {
		s, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true})
		if err == nil {
			s.Close()
		}
		return err != nil
	})
	b.code()
}

func TestReleaseKillsWhatRuns(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("trap '' TERM; echo up; while :; do sleep 0.01; done")})
	var kinds []protocol.EventKind
	events := make(chan error, 1)
	seen := make(chan struct{})
	go func() { // ends with the agent
		for e, err := range b.Events(context.Background(), 0) {
			if err != nil {
				events <- err
				return
			}
			if kinds = append(kinds, e.Kind); len(kinds) == 1 {
				close(seen)
			}
		}
		events <- nil
	}()
	select {
	case <-seen:
	case err := <-events:
		t.Fatal(err)
	}
	if err := b.Release(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if code := b.code(); code != 137 {
		t.Errorf("code %d", code)
	}
	// The feed has told the end, and then ended by itself.
	if err := <-events; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]protocol.EventKind{protocol.EventStarted, protocol.EventExited}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestEventsAreKeptUntilAcknowledged(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.run(protocol.StartRequest{Process: sh("exit 1")})
	b.connect() // a backend that knows nothing
	read := func(after uint64, n int) (kinds []protocol.EventKind) {
		for e, err := range b.Events(b.ctx(), after) {
			if err != nil {
				t.Fatal(err)
			}
			if kinds = append(kinds, e.Kind); len(kinds) == n {
				break
			}
		}
		return kinds
	}
	if diff := cmp.Diff([]protocol.EventKind{protocol.EventStarted, protocol.EventExited}, read(0, 2)); diff != "" {
		t.Error(diff)
	}
	b.Ack(b.ctx(), protocol.AckRequest{Event: 1})
	if diff := cmp.Diff([]protocol.EventKind{protocol.EventExited}, read(0, 1)); diff != "" {
		t.Error(diff)
	}
	b.Ack(b.ctx(), protocol.AckRequest{Event: 1000}) // what is not there yet is not acknowledged
	b.run(protocol.StartRequest{Process: sh("exit 1")})
	if diff := cmp.Diff([]protocol.EventKind{protocol.EventStarted, protocol.EventExited}, read(2, 2)); diff != "" {
		t.Error(diff)
	}
}

// As in a container: the agent is pid 1 of a namespace.
func TestPidOne(t *testing.T) {
	needsRoot(t)
	b := newBox(t, boxOptions{wrap: []string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}})
	b.start(protocol.StartRequest{Process: sh("(sleep 0.1 &) ; (setsid sleep 0.1 &) ; exec sleep 1000"), Linger: time.Minute})
	out, _, code := b.exec(sh("readlink /proc/1/exe; ps -o pid= -p 1; exit 3"), "")
	if out != program+"\n      1\n" || code != 3 {
		t.Errorf("%q, %d", out, code)
	}
	eventually(t, "the agent and the process alone are there", func() bool {
		out, _, _ := b.exec(sh("ps -e -o stat=,args= | grep -v -e ps.-e -e 'grep ' -e sh.-c"), "")
		return strings.Count(out, "\n") == 2
	})
	if err := b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM", Grace: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if exit := b.exited(1); exit.Code != 143 {
		t.Errorf("exit %+v", exit)
	}
	if err := b.Release(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if code := b.code(); code != 143 {
		t.Errorf("code %d", code)
	}
}

// Whatever the platform ignores, the process does not.
func TestSignalsAreNotInherited(t *testing.T) {
	b := newBox(t, boxOptions{wrap: []string{"sh", "-c", `trap "" HUP INT QUIT TERM TSTP USR1 PIPE; exec "$0"`}})
	out, _ := b.run(protocol.StartRequest{Process: sh("exec grep SigIgn /proc/self/status")})
	if out := withoutOwnSignals(out); out != "SigIgn:\t0000000000000000\n" {
		t.Errorf("%q", out)
	}
}

// `kill -HUP 1` inside a container asks its process to read its configuration again. The process lives on, and may be
// started again after its end.
func TestHangUpIsTheProcesss(t *testing.T) {
	b := newBox(t, boxOptions{})
	res := b.start(protocol.StartRequest{Process: sh(`trap 'exit 3' HUP; echo ready; while :; do sleep 0.05; done`)})
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Data) == "ready\n" {
			break
		}
	}
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if exit := b.exited(res.Incarnation); exit.Code != 3 {
		t.Errorf("got %+v", exit)
	}
	if again := b.start(protocol.StartRequest{Process: sh("exit 0")}); again.Incarnation != 2 || b.exited(2).Code != 0 {
		t.Errorf("got %+v", again)
	}
}

// withoutOwnSignals clears signals 32 and 33 in masks of /proc/PID/status. They are glibc's own: its posix_spawn, with which
// make starts what it runs, leaves them ignored, and neither Go nor a shell can change that.
func withoutOwnSignals(status string) string {
	return ownSignals.ReplaceAllStringFunc(status, func(mask string) string {
		n, err := strconv.ParseUint(mask, 16, 64)
		if err != nil {
			return mask
		}
		return fmt.Sprintf("%016x", n&^(1<<31|1<<32))
	})
}

var ownSignals = regexp.MustCompile(`[0-9a-f]{16}`)
