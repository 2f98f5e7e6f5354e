package agent_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// states lists the states of the container's processes by their arguments.
func (b *box) states() map[string]string {
	b.t.Helper()
	_, rows := b.top("-eo pid,state,args")
	states := map[string]string{}
	for _, row := range rows {
		states[row[2]] += row[1]
	}
	return states
}

func (b *box) pause() {
	b.t.Helper()
	if err := b.Pause(b.ctx()); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) unpause() {
	b.t.Helper()
	if err := b.Unpause(b.ctx()); err != nil {
		b.t.Fatal(err)
	}
}

// TestPauseStopsWhatMultiplies: loops that fork all the time, in several generations, with sessions of their own. Each waits
// for what it has made, so that they do not take all of a busy machine's processes.
func TestPauseStopsWhatMultiplies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh(`cd ` + dir + `
		for i in 1 2 3; do (while :; do echo x >> loop$i; (true; (true) & wait); done) & done
		setsid sh -c 'while :; do /bin/true; echo x >> session; done' &
		exec sleep 1000`)})
	if _, err := b.ExecDetached(b.ctx(), protocol.ExecRequest{ID: "busy", Process: sh("cd " + dir + "; while :; do echo x >> exec; done")}); err != nil {
		t.Fatal(err)
	}
	sizes := func() string {
		var all []string
		for _, name := range []string{"loop1", "loop2", "loop3", "session", "exec"} {
			if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
				all = append(all, fmt.Sprint(name, " ", st.Size()))
			}
		}
		return strings.Join(all, ", ")
	}
	for range 20 {
		before := sizes()
		eventually(t, "all of them run", func() bool {
			now := sizes()
			if strings.Count(now, ",") != 4 {
				return false
			}
			for i, one := range strings.Split(now, ", ") {
				if old := strings.Split(before, ", "); len(old) > i && old[i] == one {
					return false
				}
			}
			return true
		})
		b.pause()
		b.pause() // may be repeated
		stopped := sizes()
		_, rows := b.top("-eo pid,stat,args")
		for _, row := range rows {
			if row[1][0] != 'T' && row[1][0] != 'Z' && row[1][0] != 'D' {
				t.Errorf("a process of a paused container: %q", row)
			}
		}
		time.Sleep(20 * time.Millisecond)
		if now := sizes(); now != stopped {
			t.Fatalf("it goes on while it is paused: %s, %s", stopped, now)
		}
		b.unpause()
		b.unpause()
	}
	n := map[protocol.EventKind]int{}
	last := b.lastEvent()
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n[e.Kind]++
		if e.Seq == last {
			break
		}
	}
	if n[protocol.EventPaused] != 20 || n[protocol.EventUnpaused] != 20 {
		t.Errorf("events: %v", n)
	}
}

func (b *box) lastEvent() uint64 {
	b.t.Helper()
	st, err := b.State(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	return st.LastEvent
}

func TestPauseLeavesWhatWasStopped(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh(`sleep 1001 & until grep -q sleep /proc/$!/comm; do :; done; kill -STOP $!; exec sleep 1002`)})
	eventually(t, "one is stopped by another", func() bool {
		s := b.states()
		return s["sleep 1001"] == "T" && s["sleep 1002"] == "S"
	})
	b.pause()
	if s := b.states(); s["sleep 1001"] != "T" || s["sleep 1002"] != "T" {
		t.Errorf("paused: %v", s)
	}
	b.unpause()
	eventually(t, "only the other goes on", func() bool {
		s := b.states()
		return s["sleep 1001"] == "T" && s["sleep 1002"] == "S"
	})
}

func TestPausedIsNotEntered(t *testing.T) {
	b := newBox(t, boxOptions{})
	wantCode(t, b.Pause(b.ctx()), protocol.CodeNotRunning)
	wantCode(t, b.Unpause(b.ctx()), protocol.CodeNotRunning)
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	b.pause()
	_, err := b.ExecDetached(b.ctx(), protocol.ExecRequest{ID: "x", Process: sh("true")})
	wantCode(t, err, protocol.CodePaused)
	_, err = b.Exec(b.ctx(), protocol.ExecRequest{ID: "y", Process: sh("true"), Stdout: true})
	wantCode(t, err, protocol.CodePaused)
	if _, err := b.Stat(b.ctx(), "/etc/passwd"); err != nil {
		t.Errorf("files of a paused container: %v", err)
	}
	b.unpause()
	if _, _, code := b.exec(sh("exit 7"), ""); code != 7 {
		t.Errorf("exit code %d", code)
	}
}

func TestPausedEnds(t *testing.T) {
	trap := sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	for _, test := range []struct {
		name string
		do   func(*box) error
		code int
	}{
		{"killed", func(b *box) error { return b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}) }, 137},
		{"signalled, and let go on", func(b *box) error {
			return b.Signal(b.ctx(), protocol.SignalRequest{Signal: "TERM", Final: true})
		}, 3},
		{"stopped", func(b *box) error {
			return b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM", Grace: time.Minute, Resume: true})
		}, 3},
		{"stopped, and not let go on", func(b *box) error {
			return b.Stop(b.ctx(), protocol.StopRequest{Signal: "TERM", Grace: 50 * time.Millisecond})
		}, 137},
		{"signalled, then let go on", func(b *box) error {
			if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "TERM"}); err != nil {
				return err
			}
			return b.Unpause(b.ctx())
		}, 3},
		{"killed from outside", func(b *box) error {
			st, err := b.State(b.ctx())
			if err == nil {
				err = exec.Command("kill", "-KILL", strconv.Itoa(st.Pid)).Run()
			}
			return err
		}, 137},
		{"ended by the platform", func(b *box) error { return b.cmd.Process.Signal(syscall.SIGTERM) }, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t, boxOptions{})
			s, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			b.start(protocol.StartRequest{Process: trap})
			if _, err := io.ReadFull(s, make([]byte, 8+len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			b.pause()
			if err := test.do(b); err != nil {
				t.Fatal(err)
			}
			if exit := b.exited(1); exit.Code != test.code {
				t.Errorf("%+v, want code %d", exit, test.code)
			}
		})
	}
}

// TestPauseAgain: a container that was paused when it was killed starts again in place, and is not paused then.
func TestPauseAgain(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	b.pause()
	if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	b.exited(1)
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	if _, _, code := b.exec(sh("true"), ""); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestPausedTerminal: an interactive shell does not take its foreground job for one that was suspended, and what is
// typed meanwhile is there afterwards.
func TestPausedTerminal(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	b := newBox(t, boxOptions{})
	s, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b.start(protocol.StartRequest{OpenStdin: true, Process: protocol.Process{
		Args: []string{bash, "--norc", "-i"}, Env: []string{path, "PS1=> "}, Tty: true,
	}})
	fmt.Fprintln(s, "cat")
	eventually(t, "the job runs", func() bool { return b.states()["cat"] == "S" })
	for range 3 {
		b.pause()
		fmt.Fprintln(s, "typed while it was paused")
		b.unpause()
	}
	fmt.Fprint(s, "\x04exit 9\n")
	ctx, cancel := context.WithTimeout(b.ctx(), 2*time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	out, _ := io.ReadAll(s)
	stop()
	// Each line is there twice: echoed by the terminal, and by cat.
	if strings.Contains(string(out), "Stopped") || strings.Count(string(out), "typed while it was paused\r\n") != 6 {
		t.Errorf("the terminal shows %q", out)
	}
	if exit := b.exited(1); exit.Code != 9 {
		t.Errorf("%+v", exit)
	}
}

// TestPauseOutlastsACont: what would let a stopped process go on comes with the pause's end, and not before.
func TestPauseOutlastsACont(t *testing.T) {
	b := newBox(t, boxOptions{})
	res := b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	send := func(signal string) {
		t.Helper()
		if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: signal}); err != nil {
			t.Fatal(err)
		}
	}
	is := func(when string, stopped bool) {
		t.Helper()
		if s := b.states()["/bin/sleep 1000"]; (s == "T") != stopped {
			t.Errorf("%s: %s", when, s)
		}
	}
	b.pause()
	send("CONT")
	b.cmd.Process.Signal(syscall.SIGCONT) // which the agent passes on
	time.Sleep(100 * time.Millisecond)
	is("paused", true)
	b.unpause()
	is("gone on", false)

	send("STOP")
	eventually(t, "it is stopped", func() bool { return b.states()["/bin/sleep 1000"] == "T" })
	b.pause()
	b.unpause()
	is("stopped by somebody else", true)
	b.pause()
	send("CONT")
	is("paused", true)
	b.unpause()
	is("gone on", false)
	b.pause()
	send("KILL")
	if e := b.exited(res.Incarnation); e.Signal != int(syscall.SIGKILL) {
		t.Errorf("exit: %+v", e)
	}
}
