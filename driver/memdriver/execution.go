//go:build linux

package memdriver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/driver"
)

// execution is one agent.
type execution struct {
	run    driver.Run
	dir    string
	socket string
	cmd    *exec.Cmd
	output *output
	done   chan struct{} // closed when the agent has ended

	mu       sync.Mutex
	started  time.Time
	ended    time.Time
	code     int
	stopping bool
	reason   string
}

// start runs the agent and watches it.
func (x *execution) start(s *spawner, agent string, env []string, maxRuntime, grace time.Duration) error {
	x.done = make(chan struct{})
	x.output = &output{}
	x.cmd = exec.CommandContext(context.Background(), agent) // ended by stop, not by a context
	x.cmd.Dir, x.cmd.Env = x.dir, env
	x.cmd.Stdout = &lines{out: x.output, stream: "stdout"}
	x.cmd.Stderr = &lines{out: x.output, stream: "stderr"}
	// A process that has left the agent's care may hold its output open.
	x.cmd.WaitDelay = time.Second
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.start(x.cmd); err != nil {
		return err
	}
	x.started = time.Now()
	var timeout *time.Timer
	if maxRuntime > 0 {
		timeout = time.AfterFunc(maxRuntime, func() {
			x.mu.Lock()
			x.reason = fmt.Sprintf("the execution took longer than %s", maxRuntime)
			x.mu.Unlock()
			x.stop(grace)
		})
	}
	go func() { // ends with the agent
		x.cmd.Wait() //nolint:errcheck // the state has the exit code
		if timeout != nil {
			timeout.Stop()
		}
		x.mu.Lock()
		x.ended = time.Now()
		x.code = x.cmd.ProcessState.ExitCode()
		if w, ok := x.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			x.code = 128 + int(w.Signal())
		}
		x.mu.Unlock()
		close(x.done)
	}()
	return nil
}

func (x *execution) status() driver.Status {
	x.mu.Lock()
	defer x.mu.Unlock()
	st := driver.Status{Phase: driver.PhaseRunning, Started: x.started, Reason: x.reason}
	if !x.ended.IsZero() {
		code := x.code
		st.Phase, st.Ended, st.ExitCode = driver.PhaseEnded, x.ended, &code
	}
	return st
}

// stop begins the end of the agent and returns at once; x.done tells when it has come.
func (x *execution) stop(grace time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopping && grace > 0 || !x.ended.IsZero() {
		return
	}
	x.stopping = true
	if grace <= 0 {
		x.kill()
		return
	}
	x.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it has just ended
	go func() {                           // ends with the agent, which the SIGKILL makes sure of
		select {
		case <-x.done:
		case <-time.After(grace):
			x.kill()
		}
	}()
}

// kill ends the agent and all that it has started: without it they would live on.
func (x *execution) kill() {
	all := descendants(x.cmd.Process.Pid)
	x.cmd.Process.Kill() //nolint:errcheck // it has just ended
	for _, pid := range all {
		syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // as above
	}
}

func (x *execution) explain() string {
	st := x.status()
	if st.Phase != driver.PhaseEnded {
		return ""
	}
	text := fmt.Sprintf("the agent ended with code %d", *st.ExitCode)
	if all := x.output.since(time.Time{}); len(all) > 0 {
		text += ": " + all[len(all)-1].Text
	}
	return text
}

func (x *execution) clean() error {
	err := os.Remove(x.socket)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(x.dir))
}

// descendants lists the processes below pid, as /proc tells them.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		// The name is in brackets and may hold anything; the parent is the second field after it.
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		child, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, err2 := strconv.Atoi(fields[1])
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		all = append(all, children[todo[0]]...)
		todo = append(todo, children[todo[0]]...)
	}
	return all
}

// spawner starts all children from one thread that lives as long as they may: the kernel sends Pdeathsig when the
// thread that made the child ends, and Go ends threads as it likes.
type spawner struct {
	jobs chan func()
	stop context.CancelFunc
	done chan struct{}
}

func newSpawner() *spawner {
	ctx, stop := context.WithCancel(context.Background())
	s := &spawner{jobs: make(chan func()), stop: stop, done: make(chan struct{})}
	go func() { // ends with close
		defer close(s.done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-s.jobs:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.done:
		return os.ErrClosed
	}
}

func (s *spawner) close() {
	s.stop()
	<-s.done
}

const maxLines = 10_000

// output keeps the last lines that an agent wrote.
type output struct {
	mu  sync.Mutex
	all []driver.Line
}

func (o *output) add(l driver.Line) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) >= maxLines {
		o.all = append(o.all[:0], o.all[maxLines/2:]...)
	}
	o.all = append(o.all, l)
}

func (o *output) since(t time.Time) []driver.Line {
	o.mu.Lock()
	defer o.mu.Unlock()
	var got []driver.Line
	for _, l := range o.all {
		if !l.Time.Before(t) {
			got = append(got, l)
		}
	}
	return got
}

// lines cuts one stream into lines.
type lines struct {
	out    *output
	stream string
	rest   []byte
}

const maxLine = 64 << 10

func (w *lines) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 && len(w.rest) < maxLine {
			return len(b), nil
		}
		line := w.rest
		if i >= 0 {
			line = w.rest[:i]
		}
		w.out.add(driver.Line{Time: time.Now(), Stream: w.stream, Text: string(line)})
		w.rest = w.rest[min(len(line)+1, len(w.rest)):]
	}
}
