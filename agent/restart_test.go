package agent_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// tell is an event as one line.
func tell(e protocol.Event) string {
	s := fmt.Sprintf("%s %d", e.Kind, e.Incarnation)
	if e.Exit != nil {
		s += fmt.Sprintf(" code %d", e.Exit.Code)
	}
	if e.Restart != nil {
		s += fmt.Sprintf(" again in %v", e.Restart.Pause)
	}
	if e.Refusal != nil {
		s += " " + e.Refusal.Code
	}
	if e.Leaving {
		s += " leaving"
	}
	return s + fmt.Sprintf(" restarts %d", e.Restarts)
}

// story returns the events until one that nothing but another start follows.
func (b *box) story() (lines []string) {
	b.t.Helper()
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			b.t.Fatalf("%v after %q", err, lines)
		}
		lines = append(lines, tell(e))
		if e.Kind == protocol.EventStays || e.Kind == protocol.EventExited && e.Restart == nil {
			return lines
		}
	}
	b.t.Fatalf("the events end: %q", lines)
	return nil
}

func (b *box) untilPause() {
	b.t.Helper()
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			b.t.Fatal(err)
		}
		if e.Restart != nil {
			return
		}
	}
}

// TestRestartInPlace keeps the file system, and the numbers of the log.
func TestRestartInPlace(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	p := sh("echo x >>" + b.dir + "/n; wc -l <" + b.dir + "/n; exit 3")
	b.start(protocol.StartRequest{Process: p, Restart: protocol.RestartPolicy{Name: "on-failure", Max: 2}})
	if diff := cmp.Diff([]string{
		"started 1 restarts 0", "exited 1 code 3 again in 100ms restarts 1",
		"started 2 restarts 1", "exited 2 code 3 again in 200ms restarts 2",
		"started 3 restarts 2", "exited 3 code 3 restarts 2",
	}, b.story()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("1\n2\n3\n", b.logs()); diff != "" {
		t.Error(diff)
	}
	if s, _ := b.State(b.ctx()); s.Phase != protocol.PhaseExited || s.LastLog != 3 || s.Incarnation != 3 {
		t.Errorf("state %+v", s)
	}
}

// TestRestartWhileNobodyIsLinked, and the backend that comes back misses nothing.
func TestRestartWhileNobodyIsLinked(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	flag := b.dir + "/up"
	b.start(protocol.StartRequest{
		Process: sh("if [ -e " + flag + " ]; then touch " + flag + "2; exit 0; fi; touch " + flag + "; sleep 0.2; exit 1"),
		Restart: protocol.RestartPolicy{Name: "on-failure"}, Restarts: 4, Backoff: 200 * time.Millisecond,
	})
	b.disconnect()
	eventually(t, "it has run twice", func() bool { return exists(flag + "2") })
	b.connect()
	if diff := cmp.Diff([]string{
		"started 1 restarts 4", "exited 1 code 1 again in 400ms restarts 5", "started 2 restarts 5", "exited 2 code 0 restarts 5",
	}, b.story()); diff != "" {
		t.Error(diff)
	}
}

// TestNoRestart: what ends a policy, and how it is told. A pause of a minute follows an exit with Backoff 30s.
func TestNoRestart(t *testing.T) {
	t.Parallel()
	always := protocol.RestartPolicy{Name: "always"}
	const begin, again = "started 1 restarts 0", "exited 1 code 1 again in 1m0s restarts 1"
	for _, c := range []struct {
		name, script string
		end          func(b *box) error
		want         []string
		ends         bool // the agent does
	}{
		{"stop", "exec sleep 1000", func(b *box) error {
			return b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM"})
		}, []string{begin, "exited 1 code 143 restarts 0"}, false},
		{"a final signal", "exec sleep 1000", func(b *box) error {
			return b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL", Final: true})
		}, []string{begin, "exited 1 code 137 restarts 0"}, false},
		{"stop in the pause", "exit 1", func(b *box) error {
			b.untilPause()
			return b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM"})
		}, []string{begin, again, "stays 1 restarts 1"}, false},
		{"a final signal in the pause", "exit 1", func(b *box) error {
			b.untilPause()
			wantCode(b.t, b.Signal(b.ctx(), protocol.SignalRequest{Signal: "HUP"}), protocol.CodeNotRunning)
			return b.Signal(b.ctx(), protocol.SignalRequest{Signal: "HUP", Final: true})
		}, []string{begin, again, "stays 1 restarts 1"}, false},
		{"the platform's signal in the pause", "exit 1", func(b *box) error {
			b.untilPause()
			return b.cmd.Process.Signal(syscall.SIGTERM)
		}, []string{begin, again, "stays 1 leaving restarts 1"}, true},
		{"the platform's signal", "exec sleep 1000", func(b *box) error {
			return b.cmd.Process.Signal(syscall.SIGTERM)
		}, []string{begin, "exited 1 code 143 leaving restarts 0"}, true},
		{"a policy that was taken back", "read x; exit 1", func(b *box) error {
			if err := b.SetRestart(b.ctx(), protocol.RestartPolicy{Name: "no"}); err != nil {
				return err
			}
			s := b.attach(protocol.AttachRequest{Stdin: true})
			defer s.Close()
			_, err := s.Write([]byte("x\n"))
			return err
		}, []string{begin, "exited 1 code 1 restarts 0"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, boxOptions{})
			b.start(protocol.StartRequest{Process: sh(c.script), OpenStdin: true, Restart: always, Backoff: 30 * time.Second})
			if err := c.end(b); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, b.story()); diff != "" {
				t.Error(diff)
			}
			if c.ends {
				b.code()
				return
			}
			// It can be started again, in place, and counts from the beginning.
			b.start(protocol.StartRequest{Key: "again", Process: sh("exit 0")})
			b.exited(2)
		})
	}
}

// TestRestartIsRefused: the program is gone when it is to run again.
func TestRestartIsRefused(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	// Not a file that is written here: a child that is being started may have it open still, and what is written cannot be run.
	prog := b.dir + "/sh"
	if err := os.Symlink("/bin/sh", prog); err != nil {
		t.Fatal(err)
	}
	p := sh("rm " + prog + "; exit 4")
	p.Args[0] = prog
	b.start(protocol.StartRequest{Process: p, Restart: protocol.RestartPolicy{Name: "always"}})
	if diff := cmp.Diff([]string{
		"started 1 restarts 0", "exited 1 code 4 again in 100ms restarts 1", "stays 1 no-command restarts 1",
	}, b.story()); diff != "" {
		t.Error(diff)
	}
}

// TestAttachEndsWithEachRun, as with dockerd: the next one has clients of its own.
func TestAttachEndsWithEachRun(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	out, exit := b.run(protocol.StartRequest{
		Process: sh("echo once; exit 1"), Restart: protocol.RestartPolicy{Name: "always"}, Backoff: time.Minute,
	})
	if out != "once\n" || exit.Code != 1 {
		t.Errorf("%q, %+v", out, exit)
	}
}

// TestStartAtTheLingersEnd either runs the process to its end or is refused by an agent that ends.
func TestStartAtTheLingersEnd(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		b := newBox(t, boxOptions{})
		linger := 30 * time.Millisecond
		b.start(protocol.StartRequest{Key: "a", Process: sh("exit 1"), Linger: linger})
		e := b.exitEvent(1)
		if err := b.Ack(b.ctx(), protocol.AckRequest{Event: e.Seq, Log: e.LastLog}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(linger - 3*time.Millisecond + time.Duration(i)*300*time.Microsecond)
		_, err := b.Start(b.ctx(), protocol.StartRequest{Key: "b", Process: sh("sleep 0.1; exit 7"), Linger: time.Minute})
		_, refused := errors.AsType[*wire.Error](err)
		switch {
		case refused:
			wantCode(t, err, protocol.CodeNotRunning)
		case err == nil:
			if exit := b.exited(2); exit.Code != 7 {
				t.Errorf("exit %+v", exit)
			}
		}
	}
}
