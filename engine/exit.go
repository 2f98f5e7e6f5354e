package engine

import (
	"context"
	"errors"
	"syscall"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/link"
)

const (
	codeKilled  = 137              // 128 and SIGKILL: what an execution that the platform ended is told with
	leaveTime   = 15 * time.Second // for an agent that is to go
	drainTime   = 2 * time.Minute  // for clients that still read what a process wrote, after it has ended
	stopBackoff = time.Second
)

// watch waits for the end of the process, and for the restarts that the agent makes. The agent's word on it wins over
// the cloud's, which goes on saying "running" for some time and knows no signal.
func (r *run) watch() {
	for r.stage() == stageRunning && r.e.ctx.Err() == nil {
		if len(r.early) > 0 {
			w := r.early[0]
			r.early = r.early[1:]
			r.hear(w)
			continue
		}
		var again <-chan time.Time
		if !r.repeatPolicy() {
			again = time.After(time.Second)
		}
		if len(r.early) > 0 { // said meanwhile
			continue
		}
		switch what, n := r.next(again); what {
		case said:
			r.hear(n.word)
		case ended:
			r.lost(n.answer)
		case linkUp: // whom trouble with the link has kept from joining
			a := r.agent
			if err := r.during(a, func(ctx context.Context) error { return r.attachPending(ctx, a) }); err != nil {
				r.warn("cannot attach to a container that runs", err)
			}
		}
	}
}

// hear records what the agent says. What cannot be stored is told again to the next engine.
func (r *run) hear(w word) {
	var record func() error
	switch w.Kind {
	case protocol.EventExited:
		record = func() error { return r.c.exited(w.Event) }
	case protocol.EventStarted:
		record = func() error { return r.c.restarted(w.Event) }
	case protocol.EventStays:
		record = func() error { return r.c.stays(w.Event) }
	}
	if r.record(func() error {
		if w.Seq <= r.c.rec.Run.LastEvent {
			return nil // it came over an earlier link too
		}
		return record()
	}) {
		close(w.stored)
	}
}

// record stores what has happened to the process, while that is this run's to tell. False: the engine has closed before
// it could.
func (r *run) record(f func() error) bool {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.rec.Run.Stage == stageRunning {
		err := f()
		if err == nil {
			return true
		}
		r.must(err)
		c.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-r.e.ctx.Done():
		}
		c.mu.Lock()
		if r.e.ctx.Err() != nil {
			return false
		}
	}
	return true
}

// exited records the agent's word on the end of the process. c.mu is held.
func (c *container) exited(e protocol.Event) error {
	if e.Incarnation < c.rec.Run.Incarnation {
		return nil
	}
	next := stageExited
	switch {
	case e.Restart != nil:
		next = stageRunning
	case e.Leaving:
		next = stageEnding
	}
	return c.end(ending{code: e.Exit.Code, killed: e.Exit.Killed, next: next, also: func(rec *record) {
		rec.State.OOMKilled, rec.State.FinishedAt = e.Exit.OOM, e.Exit.Time.UTC()
		rec.Run.LastEvent = e.Seq
		switch {
		case e.Restart != nil:
			rec.State.Status = docker.StateRestarting
			rec.RestartCount, rec.Backoff = e.Restart.Count, e.Restart.Pause
		case e.Leaving:
			rec.follow()
		}
	}})
}

// lost records the end of an execution whose agent has not told it.
func (r *run) lost(a answer) {
	st := a.status
	x := ending{code: codeKilled, next: a.left(), reason: "the agent's word on the exit did not come: " + whyEnded(st)}
	if st.ExitCode != nil {
		x.code = *st.ExitCode
	}
	x.also = func(rec *record) {
		if !st.Ended.IsZero() {
			rec.State.FinishedAt = st.Ended.UTC()
		}
		rec.follow()
	}
	r.record(func() error {
		if r.c.restarting() { // in the pause before a restart
			return r.c.move(a.left())
		}
		return r.c.end(x)
	})
}

// ending is the end of a container's process.
type ending struct {
	code   int
	reason string // for State.Error
	killed bool   // because the grace of a stop had passed
	next   stage
	cause  error         // what the asker of a start is told that has come to this end
	also   func(*record) // what else is to be stored, a restart to come for example
}

// end stores that the process does not run any more, then tells everybody. c.mu is held.
func (c *container) end(x ending) error {
	err := c.change(func(rec *record) {
		rec.move(x.next)
		rec.Again = time.Time{}
		rec.State.Status, rec.State.Starting, rec.State.Pid = docker.StateExited, false, 0
		rec.State.ExitCode, rec.State.Error, rec.State.FinishedAt = x.code, x.reason, time.Now().UTC()
		rec.Run.Exited = rec.State.FinishedAt
		rec.State.Health = rec.oldHealth()
		if x.also != nil {
			x.also(rec)
		}
		rec.Removed = rec.HostConfig.AutoRemove && c.keep == 0 && rec.State.Status == docker.StateExited
	})
	if err != nil {
		return err
	}
	if x.killed {
		c.killed(syscall.SIGKILL)
	}
	c.event(events.ActionDie, exitAttributes(x.code, c.rec.State.StartedAt))
	if c.attempt != nil {
		c.endAttempt(x.cause)
	}
	c.failPending(errNotJoined)
	c.stopped(x.code)
	if c.rec.Removed {
		c.bury()
	}
	return nil
}

// move goes to a later stage. What is over stays so.
func (rec *record) move(next stage) {
	if rec.Run.Stage != stageOver {
		rec.Run.Stage = next
	}
}

// abandon ends a run from this side: nobody waits for its agent's word any more. cause is what the asker of a start
// that is under way is told. c.mu is held.
func (c *container) abandon(code int, reason string, cause error) error {
	r := c.run
	if c.restarting() {
		if err := c.stay("", stageEnding, nil); err != nil {
			return err
		}
		c.endAttempt(cause)
	} else if err := c.end(ending{code: code, reason: reason, next: stageEnding, cause: cause}); err != nil {
		return err
	}
	if r != nil {
		r.nudge()
	}
	return nil
}

// stay waits until the process is to run again, or the agent's time is over. That is when the linger has passed and
// nobody reads any more what the process wrote: the agent has it until then.
func (r *run) stay() {
	r.dropEarly() // the one that has ended the process was told twice
	r.c.mu.Lock()
	until := r.c.rec.Run.Exited.Add(r.linger()) // by an earlier process, perhaps
	r.c.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for r.stage() == stageExited && r.e.ctx.Err() == nil {
		late := time.Since(until)
		if a := r.agent; late >= 0 && !r.c.held() && (a == nil || a.open.Load() == 0 || late > drainTime) {
			r.to(stageExited, stageEnding, nil)
			return
		}
		switch what, n := r.next(timer.C); what {
		case said:
			close(n.word.stored) // told before, and stored
		case ended:
			r.to(stageExited, stageOver, nil)
		case linkDown:
			if errors.Is(n.gone, link.ErrClosed) {
				r.to(stageExited, stageOver, nil)
			}
		case timedOut:
			timer.Reset(leaveTime)
		}
	}
}

// linger is how long the agent stays after an exit.
func (r *run) linger() time.Duration {
	if r.c.view.Load().HostConfig.AutoRemove {
		return 0
	}
	return r.e.opt.Linger
}

// end makes sure that nothing of the execution is left.
func (r *run) end() {
	r.dropEarly()
	if a := r.agent; r.isLinked() && !r.silent.Load() {
		if err := a.release(); err != nil && !errors.Is(err, link.ErrClosed) { // it may be gone before its answer is here
			r.warn("an agent does not end when it is told to", err)
		} else if r.left() {
			r.to(stageEnding, stageOver, nil)
			return
		}
	}
	if r.removed() { // the deletion of the job ends it
		if r.driverRun().Job == "" {
			r.e.suspect() // there may be one that no list has yet
		}
		r.to(stageEnding, stageOver, nil)
		return
	}
	pause := stopBackoff
	for r.e.ctx.Err() == nil {
		stopped, err := r.stop()
		if err == nil {
			r.to(stageEnding, stageOver, func(rec *record) { rec.Run.Run = stopped })
			return
		}
		r.warn("cannot stop an execution", err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, pollMost)
		case <-r.e.ctx.Done():
		}
	}
}

func (r *run) removed() bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.rec.Removed
}

// left waits for a released agent's goodbye.
func (r *run) left() bool {
	timer := time.NewTimer(leaveTime)
	defer timer.Stop()
	for r.e.ctx.Err() == nil {
		switch what, n := r.next(timer.C); what {
		case linkDown, ended:
			return true
		case timedOut:
			return false
		case said:
			close(n.word.stored)
		}
	}
	return false
}

// stop has the cloud stop the execution, and returns it: an earlier process, or a driver without an answer, may not have
// heard of it.
func (r *run) stop() (driver.Run, error) {
	run := r.driverRun()
	if run.Execution == "" && r.accepted != nil && r.accepted.err == nil {
		run = r.accepted.run // cancelled before it could be stored
	}
	if run.Execution == "" {
		found, err := r.e.executionOf(r.c.id, r.id)
		if err != nil {
			return run, err
		}
		if found.Execution == "" {
			r.e.suspect()
			return run, nil
		}
		run = found
	}
	return run, r.e.opt.Driver.Stop(r.e.ctx, run)
}
