package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
)

// A process of the container may send the agent whatever signal it likes. None but TERM and ABRT, and those that the
// kernel keeps from pid 1, does the agent any harm.
func TestSignalsDoTheAgentNoHarm(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh(`for s in HUP INT QUIT USR1 USR2 ALRM IO PWR TSTP TTIN TTOU; do trap : $s; done; echo ready; while :; do sleep 0.05; done`)})
	eventually(t, "the traps are set", func() bool { return b.logs() == "ready\n" })
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGABRT, 32, 33, 34: // Go leaves the last three as they are
			continue
		}
		if err := b.cmd.Process.Signal(sig); err != nil {
			t.Fatalf("%v: the agent has ended before it: %v", sig, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := b.State(b.ctx()); err != nil {
		t.Fatalf("%v\n%s", err, b.stderr)
	}
	if out, _, code := b.exec(sh("echo here"), ""); out != "here\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
}

// An agent that has no descriptor left to look at /proc with does not take that for the end of all processes.
func TestLeftProcessesWithoutDescriptors(t *testing.T) {
	b := newBox(t, boxOptions{})
	res := b.start(protocol.StartRequest{Process: sh("trap '' TERM; setsid sleep 1003 & exec sleep 1000")})
	var left int
	eventually(t, "both run", func() bool {
		_, rows := b.top("-eo pid,args")
		for _, row := range rows {
			if row[1] == "sleep 1003" {
				left, _ = strconv.Atoi(row[0])
			}
		}
		return left != 0
	})
	agent := b.cmd.Process.Pid
	var before unix.Rlimit
	if err := unix.Prlimit(agent, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(agent, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: before.Max}, nil); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(res.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := unix.Prlimit(agent, unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	b.exited(res.Incarnation)
	eventually(t, "what the process left is gone", func() bool { return syscall.Kill(left, 0) == syscall.ESRCH })
}

// With as many processes as the user may have, none of which ends, the agent still answers, and ends all of them. It has
// a limit of its own here; in a replica the platform sets one.
func TestAgentOutlivesAForkBomb(t *testing.T) {
	b, uid := bombed(t)
	// What blocks a thread of the agent each, at a time.
	b.comesTo("all calls end", func(ctx context.Context) error {
		var all sync.WaitGroup
		for i := range 120 {
			all.Go(func() {
				req := protocol.ExecRequest{ID: fmt.Sprint(i), Process: sh("true"), Stdout: true}
				if s, err := b.Exec(ctx, req); err == nil {
					s.Close()
				}
				b.Stat(ctx, "/etc/passwd")
				if _, body, err := b.Read(ctx, "/etc"); err == nil {
					io.Copy(io.Discard, io.LimitReader(body, 256<<10))
					body.Close()
				}
			})
		}
		all.Wait()
		return ctx.Err()
	})
	b.comesTo("the agent tells its state", func(ctx context.Context) error {
		_, err := b.State(ctx)
		return err
	})
	b.comesTo("the agent kills the process", func(ctx context.Context) error {
		return b.Signal(ctx, protocol.SignalRequest{Signal: "KILL"})
	})
	b.comesTo("the agent tells of the exit", func(ctx context.Context) error {
		for e, err := range b.Events(ctx, 0) {
			if err != nil || e.Kind == protocol.EventExited {
				return err
			}
		}
		return errors.New("the events have ended")
	})
	if pids := processesOf(t, uid); len(pids) != 1 {
		t.Errorf("processes %v of the user are there, want the agent", pids)
	}
}

// The same with a file system that does not answer: what waits for it takes no more threads than there are to spare, and
// nothing else waits.
func TestAgentOutlivesAForkBombAndAHangingFile(t *testing.T) {
	b, _ := bombed(t)
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // the agent's user is to come in
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "hangs")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	judge, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if err == nil {
		err = unix.FanotifyMark(judge, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, file)
	}
	if err != nil {
		t.Skipf("nothing can hold up the opening of a file here: %v", err)
	}
	free := sync.OnceFunc(func() { unix.Close(judge) })
	defer free()
	b.comesTo("all reads end", func(ctx context.Context) error {
		defer free()
		failed := make(chan error, 60)
		for range cap(failed) {
			go func() { // ends with the file's opening
				_, body, err := b.Read(ctx, file)
				if err == nil {
					_, err = io.Copy(io.Discard, body)
					body.Close()
				}
				failed <- err
			}()
		}
		select { // long enough for what is wrong to show
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
		if _, err := b.State(ctx); err != nil {
			return err
		}
		free()
		var all error
		for range cap(failed) {
			all = errors.Join(all, <-failed)
		}
		return all
	})
}

// A process that stops what sets the ulimits of an exec has that exec refused, and holds up nothing for longer than that.
func TestStoppedHelper(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("exec sleep 1000"), Linger: time.Minute})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop, or when it has done what a process of the same user can do, too
		defer close(stopped)
		children := fmt.Sprintf("/proc/%d/task", b.cmd.Process.Pid)
		for {
			select {
			case <-stop:
				return
			default:
			}
			tasks, _ := os.ReadDir(children)
			for _, task := range tasks {
				list, _ := os.ReadFile(children + "/" + task.Name() + "/children")
				for _, field := range strings.Fields(string(list)) {
					pid, _ := strconv.Atoi(field)
					cmdline, _ := os.ReadFile("/proc/" + field + "/cmdline")
					if strings.HasPrefix(string(cmdline), "sockerless-agent\x00limited") {
						syscall.Kill(pid, syscall.SIGSTOP)
						return
					}
				}
			}
		}
	}()
	p := sh("true")
	p.Ulimits = []protocol.Ulimit{{Name: "core"}}
	hit := false
	for range 100 {
		_, _, _, err := b.tryExec(p, "")
		if hit = err != nil; hit {
			if !strings.Contains(err.Error(), "something has stopped what was to set its ulimits") {
				t.Error(err)
			}
			break
		}
	}
	close(stop)
	<-stopped
	if !hit {
		t.Skip("a helper is too quick to be stopped here")
	}
	if out, _, code := b.exec(sh("echo here"), ""); out != "here\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
	if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	b.exited(1)
}

// Whoever is in the container's network may open connections to an agent that listens, and say nothing on them: they are
// bounded, and the backend comes in all the same.
func TestStrangersAtTheAgentsPort(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	descriptors := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, most := descriptors(), 0
	for range 400 {
		c, err := net.Dial("unix", b.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		most = max(most, descriptors()-before)
	}
	if most > 100 {
		t.Errorf("%d descriptors more", most)
	}
	b.connect()
	if _, err := b.State(b.ctx()); err != nil {
		t.Error(err)
	}
}

// bombed is an agent beside as many processes as its user may have.
func bombed(t *testing.T) (b *box, uid int) {
	t.Helper()
	needsRoot(t)
	uid = 50000 + os.Getpid()%10000 // of nobody else, for the limit is the user's
	b = newBox(t, boxOptions{
		credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
		wrap:       []string{"sh", "-c", `ulimit -p 80; exec "$0"`},
	})
	res := b.start(protocol.StartRequest{
		Process: sh("(while sleep 1000 & do :; done) 2>/dev/null; (while sleep 1000 & do :; done) 2>/dev/null; echo full; exec sleep 1000"), Linger: time.Minute,
	})
	t.Cleanup(func() { // an agent that has died has left all of it
		for _, pid := range processesOf(t, uid) {
			if session, err := unix.Getsid(pid); err == nil && session == res.Pid {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	b.comesTo("the bomb is full", func(ctx context.Context) error {
		for r, err := range b.Logs(ctx, protocol.LogsRequest{Follow: true}) {
			if err != nil || strings.Contains(string(r.Data), "full") {
				return err
			}
		}
		return errors.New("the log has ended")
	})
	return b, uid
}

// comesTo does something with the agent that takes a minute at most. A link outlives its other end for longer: an agent
// that dies meanwhile ends f's context, and the test.
func (b *box) comesTo(what string, f func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- f(ctx) }() // ends with ctx at the latest
	select {
	case err := <-failed:
		if err != nil {
			b.t.Fatalf("it does not come to this: %s: %v", what, err)
		}
	case <-b.ended:
		cancel()
		<-failed
		b.t.Fatalf("the agent has ended before %s: %v", what, b.cmd.ProcessState)
	}
}

// processesOf are the living processes of a user.
func processesOf(t *testing.T, uid int) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	mark := fmt.Sprintf("\nUid:\t%d\t", uid)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		status, err := os.ReadFile(filepath.Join("/proc", e.Name(), "status")) // it may have ended
		if err == nil && strings.Contains(string(status), mark) && !strings.Contains(string(status), "State:\tZ") {
			pids = append(pids, pid)
		}
	}
	return pids
}
