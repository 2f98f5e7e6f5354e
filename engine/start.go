package engine

import (
	"context"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Docker's exit codes of containers that did not run.
const (
	codeEngine        = 125
	codeNotExecutable = 126
	codeNoCommand     = 127
)

// attempt is a start that is under way. Who asked for it waits for done.
type attempt struct {
	done    chan struct{} // closed when it has succeeded, failed, or taken so long that clients would give up
	err     error         // valid after done
	settled chan struct{} // closed when it has succeeded or failed, however long that took
	told    bool          // done is closed; guarded by the container's lock
	shown   bool          // State says running already; guarded likewise
	timer   *time.Timer
	fresh   bool // a file system of an earlier run is lost
	auto    bool // nobody has asked for it but the restart policy
}

// finish tells who waits. The container's lock is held.
func (a *attempt) finish(err error) {
	if !a.told {
		a.told, a.err = true, err
		close(a.done)
	}
}

// Start makes the container run.
func (s containerService) Start(ctx context.Context, ref string) error {
	for {
		c, err := s.locked(ref)
		if err != nil {
			return err
		}
		a, wait, err := c.start()
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if wait != nil {
			// An earlier run is on its way out; a job has one execution at a time.
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-s.ctx.Done():
				return closing()
			}
		}
		select {
		case <-a.done:
			return a.err
		case <-ctx.Done():
			return ctx.Err() // the start goes on, as with dockerd
		case <-s.ctx.Done():
			return closing()
		}
	}
}

// start begins an attempt, joins one, or says what to wait for before trying again. c.mu is held.
func (c *container) start() (a *attempt, wait <-chan struct{}, err error) {
	switch {
	case c.attempt != nil && !c.attempt.told && !c.restarting():
		return c.attempt, nil, nil
	case c.rec.State.Status == docker.StatePaused:
		return nil, nil, sockerless.Errorf(sockerless.ECONFLICT, "cannot start a paused container, try unpause instead")
	case c.running():
		return nil, nil, sockerless.Errorf(sockerless.ENOTMODIFIED, "container %s is running already", c.id)
	}
	if err := c.joinNetworks(); err != nil {
		return nil, nil, err
	}
	if r := c.run; r != nil {
		if c.rec.Run.Stage != stageExited || !r.isLinked() || c.rec.Run.Resized {
			if c.rec.Run.Stage == stageExited {
				if err := c.change(func(rec *record) { rec.Run.Stage = stageEnding }); err != nil {
					return nil, nil, err
				}
				r.nudge()
			}
			return nil, r.over, nil
		}
		err := c.change(func(rec *record) {
			rec.Run.Stage, rec.Run.Key, rec.Run.Wanted = stageLinked, newID(16), time.Now().UTC()
			rec.RestartCount, rec.Backoff, rec.Stopped = 0, 0, false
		})
		if err != nil {
			return nil, nil, err
		}
		a := c.newAttempt(false)
		r.nudge()
		return a, nil, nil
	}
	a, err = c.place()
	return a, nil, err
}

// place begins a run: by the attempt that is under way, or by a new one. It is asked for, unless the container is
// restarting. c.mu is held.
func (c *container) place() (*attempt, error) {
	again, auto := c.rec.Run != nil, c.restarting()
	fresh := again && c.rec.Run.Incarnation > 0 // a process ran in it
	logs, err := c.e.logs.Log(c.id, c.rec.Limits)
	if err != nil {
		return nil, err
	}
	err = c.change(func(rec *record) {
		run := driver.Run{Container: c.id, ID: newID(16)}
		previous := ""
		if again {
			run.Job = rec.Run.Run.Job
			previous = firstOf(rec.Run.Run.Execution, rec.Run.Previous)
		}
		rec.Run = &runRecord{
			ID: run.ID, Key: newID(16), Stage: stageIntent, Wanted: time.Now().UTC(), LogBase: logs.Last(), Run: run, Previous: previous,
		}
		rec.Again = time.Time{}
		if !auto {
			rec.RestartCount, rec.Backoff, rec.Stopped = 0, 0, false
		}
	})
	if err != nil {
		return nil, err
	}
	r, err := c.newRun()
	if err != nil {
		return nil, err
	}
	a := c.attempt
	if a == nil {
		a = c.newAttempt(fresh)
	}
	a.fresh = fresh
	if !c.e.background(r.step) { // ends with the run, or with the engine
		return nil, closing()
	}
	return a, nil
}

// newAttempt begins an attempt; it goes on with one of an earlier process that looks like a running container already.
// c.mu is held.
func (c *container) newAttempt(fresh bool) *attempt {
	a := &attempt{done: make(chan struct{}), settled: make(chan struct{}), fresh: fresh, auto: c.restarting()}
	c.attempt = a
	c.untold = ""
	switch {
	case c.rec.State.Starting:
		a.shown = true
		a.finish(nil)
	case !a.auto:
		a.timer = time.AfterFunc(c.e.opt.StartWait, func() { c.showStarting(a) })
	}
	return a
}

// showStarting lets a start that takes long look like a running container: clients give up after a minute.
func (c *container) showStarting(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempt != a || a.told || c.e.ctx.Err() != nil {
		return
	}
	err := c.change(func(rec *record) {
		rec.State = sockerless.State{
			Status: docker.StateRunning, Starting: true, StartedAt: time.Now().UTC(), FinishedAt: rec.State.FinishedAt, Health: rec.newHealth(),
		}
	})
	if err != nil {
		c.e.log.Error("cannot store that a container is being started", "container", c.id, "error", err)
		return
	}
	a.shown = true
	c.event(events.ActionStart, a.attributes())
	a.finish(nil)
}

func (a *attempt) attributes() map[string]string {
	if !a.fresh {
		return nil
	}
	return map[string]string{"sockerless.filesystem": "fresh"}
}

// settle takes the attempt off the container. c.mu is held.
func (c *container) settle() {
	if t := c.attempt.timer; t != nil {
		t.Stop()
	}
	close(c.attempt.settled)
	c.attempt = nil
}

// endAttempt tells a start's asker and those who attached before it. c.mu is held.
func (c *container) endAttempt(err error) {
	if a := c.attempt; a != nil {
		c.settle()
		a.finish(err)
	}
	c.failPending(nil)
	if c.run != nil {
		for _, s := range c.run.joined {
			s.failed.Store(true)
		}
		c.run.joined = nil
	}
}

// failPending ends the sessions that have joined no process. c.mu is held.
func (c *container) failPending(err error) {
	for _, s := range c.pending {
		s.fail(err)
	}
	c.pending = nil
}
