package agent

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// pausePatience is how long a pause tries to stop processes that multiply, or do not stop.
const pausePatience = 10 * time.Second

// paused is a container whose processes are stopped.
type paused struct {
	// own were stopped already, by somebody inside; they stay so when the container goes on. Changed with a.mu held too.
	own map[procID]bool
}

// procID names a process and no later one with its pid.
type procID struct {
	pid     int
	started string
}

// pause stops all that the container runs, and returns when nothing of it runs any more. It may be repeated.
func (a *Agent) pause(context.Context, struct{}) (struct{}, error) {
	a.turning.Lock()
	defer a.turning.Unlock()
	i, err := a.running()
	if err != nil {
		return struct{}{}, err
	}
	i.health.pause() // waits for a probe, which may wait for the gate
	err = a.stopAll(i)
	if err != nil {
		i.health.begin()
	} else {
		i.health.paused()
	}
	return struct{}{}, err
}

func (a *Agent) stopAll(i *incarnation) error {
	a.gate.Lock() // nothing is started beside the process meanwhile
	defer a.gate.Unlock()
	if now, err := a.running(); err != nil || now != i || a.closing || i.process.exited() {
		return errNotRunning()
	}
	if a.paused != nil {
		return nil
	}
	own, err := stopDescendants(pausePatience)
	if err != nil {
		return errors.Join(err, continueDescendants(own))
	}
	a.paused = &paused{own: own}
	a.events.add(protocol.Event{Kind: protocol.EventPaused, Incarnation: i.number})
	return nil
}

// unpause lets go on what pause has stopped. It may be repeated.
func (a *Agent) unpause(context.Context, struct{}) (struct{}, error) {
	if _, err := a.running(); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, a.goOn(syscall.SIGCONT)
}

// goOn ends a pause, if there is one, after a signal that the process is to see. SIGKILL needs none to see it.
func (a *Agent) goOn(sig syscall.Signal) error {
	if sig == syscall.SIGKILL {
		return nil
	}
	a.turning.Lock()
	defer a.turning.Unlock()
	a.gate.Lock()
	defer a.gate.Unlock()
	i, err := a.running()
	if err != nil || a.paused == nil {
		return nil
	}
	if err := continueDescendants(a.paused.own); err != nil {
		return err
	}
	a.paused = nil
	i.health.begin()
	a.events.add(protocol.Event{Kind: protocol.EventUnpaused, Incarnation: i.number})
	return nil
}

// pass sends a signal to the process and reports whether it was sent. a.gate and a.mu are held. What would let a paused
// process go on is kept back: it comes with the pause's end, also to one that was stopped before.
func (a *Agent) pass(i *incarnation, sig syscall.Signal) bool {
	if sig != syscall.SIGCONT || a.paused == nil {
		return i.process.signal(sig)
	}
	maps.DeleteFunc(a.paused.own, func(id procID, _ bool) bool { return id.pid == i.process.pid })
	return !i.process.exited()
}

// stopDescendants stops every process below this one, parents first: a shell that is stopped itself does not see that
// its children are, and take them for jobs that somebody has suspended. It returns those that were stopped before, also
// beside an error.
//
// Two looks in a row must find nothing that runs. One is not enough: a child that was made between the listing of /proc
// and the look at its parent, which had stopped by then, is in the second listing only.
func stopDescendants(patience time.Duration) (own map[procID]bool, err error) {
	own = map[procID]bool{}
	stopped := map[procID]bool{} // was sent SIGSTOP
	deadline := time.Now().Add(patience)
	quiet := 0
	for pause := time.Millisecond; quiet < 2; {
		quiet++
		all, err := descendants(os.Getpid())
		if err != nil {
			return own, err
		}
		parents := map[int]bool{}
		for _, p := range all {
			parents[p.parent] = true
		}
		for _, p := range all {
			id := procID{p.pid, p.started}
			if own[id] {
				continue
			}
			switch st := stillness(p.pid, stopped[id]); {
			case st.running == nil:
				if st.jobControl && !stopped[id] {
					own[id] = true
				}
				continue
			case !stopped[id]:
				if err := p.signal(syscall.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
					return own, wire.Errorf(protocol.CodePermission, "process %d cannot be stopped: %v", p.pid, err)
				}
				stopped[id] = true
				if parents[p.pid] {
					awaitStill(p.pid)
				}
			default:
				// The kernel has one thread take the signal for all, and that one may sleep uninterruptibly: ask the others.
				for _, tid := range st.running {
					_ = unix.Tgkill(p.pid, tid, syscall.SIGSTOP) // it has ended, or is about to stop
				}
			}
			quiet = 0
		}
		if quiet == 0 {
			if time.Now().After(deadline) {
				return own, wire.Errorf(protocol.CodePermission, "there is always a process that is not stopped yet")
			}
			time.Sleep(pause)
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
	return own, nil
}

// awaitStill gives a process the moment that it takes to stop.
func awaitStill(pid int) {
	for range 100 {
		if stillness(pid, true).running == nil {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// continueDescendants lets go on all that is stopped but those, children first.
func continueDescendants(but map[procID]bool) error {
	all, err := descendants(os.Getpid())
	for _, p := range slices.Backward(all) {
		if !but[procID{p.pid, p.started}] {
			_ = p.signal(syscall.SIGCONT) // it has ended, or could not be stopped either
		}
	}
	return err
}

// still says what the threads of a process do.
type still struct {
	running    []int // threads that may run
	jobControl bool  // some are stopped by a signal
}

// stillness looks at the threads of a process. One in an uninterruptible sleep counts as still after SIGSTOP was sent:
// it runs nothing of the process's before it has dealt with the signal. A parent that waits in vfork for a child that is
// stopped stays there as long as the child.
func stillness(pid int, sent bool) still {
	var st still
	entries, err := os.ReadDir(procFile(pid, "task"))
	if exhausted(err) {
		return still{running: []int{pid}} // nobody knows
	}
	if err != nil {
		return st // it has ended
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(procFile(pid, "task"), e.Name(), "stat"))
		if exhausted(err) {
			return still{running: []int{tid}}
		}
		if err != nil {
			continue
		}
		t, ok := parseStat(b)
		switch {
		case ok && t.state == 'T':
			st.jobControl = true
		case ok && (t.state == 't' || t.state == 'Z' || t.state == 'X' || t.state == 'D' && sent):
		default:
			st.running = append(st.running, tid)
		}
	}
	return st
}
