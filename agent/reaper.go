package agent

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper starts processes and waits for them, and for every orphan that the kernel gives to the agent. It is the only
// one in the program that waits: a wait for any process beside another wait loses exit statuses, so os/exec is not used here.
type reaper struct {
	mu       sync.Mutex // held over fork and registration, and over wait and removal: a pid in children is not reused
	children map[int]*child
	wake     chan os.Signal
	done     chan struct{}
}

// child is a process that the agent has started.
type child struct {
	reaper *reaper
	pid    int
	helper bool          // it is not the container's program yet, see startLimited; guarded by the reaper's mu
	done   chan struct{} // closed when the process has been waited for

	// Valid after done.
	status syscall.WaitStatus
	ended  time.Time
}

// newReaper makes this process the one that orphans below it are given to, and starts to reap. Close stops it.
func newReaper() (*reaper, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become a subreaper: %w", err)
	}
	r := &reaper{children: map[int]*child{}, wake: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(r.wake, syscall.SIGCHLD)
	go r.run() // ends with close
	return r, nil
}

func (r *reaper) close() {
	signal.Stop(r.wake)
	close(r.wake)
	<-r.done
}

func (r *reaper) run() {
	defer close(r.done)
	for range r.wake {
		r.reap()
	}
}

// reap waits for all that have ended. Signals of the same kind are merged, so one may stand for many.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG|unix.WALL, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c := r.children[pid]; c != nil {
			delete(r.children, pid)
			c.status, c.ended = status, time.Now()
			close(c.done)
		}
	}
}

// start executes a program. The error is the errno of what did not work. A helper will become another program.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr, helper bool) (*child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, err
	}
	c := &child{reaper: r, pid: pid, helper: helper, done: make(chan struct{})}
	r.children[pid] = c
	return c, nil
}

// signal sends a signal, unless the process has been waited for. It reports whether it was sent.
func (c *child) signal(sig syscall.Signal) bool {
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	if c.reaper.children[c.pid] != c {
		return false
	}
	return syscall.Kill(c.pid, sig) == nil
}

// exited reports whether the process has been waited for.
func (c *child) exited() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}
