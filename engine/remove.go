package engine

import (
	"context"
	"syscall"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Remove forgets the container. It returns once that is durable; the job's deletion goes on behind it, after a restart
// of the backend too, until the cloud says that it is gone.
func (s containerService) Remove(_ context.Context, ref string, opt sockerless.RemoveOptions) error {
	c, err := s.locked(ref)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	running, restarting := c.running(), c.restarting()
	if running && !opt.Force {
		state := "running: stop the container before removing or force remove"
		if c.restarting() {
			state = "restarting: stop the container before removing or force remove"
		}
		if c.rec.State.Status == docker.StatePaused {
			state = "paused and must be unpaused first"
		}
		return sockerless.Errorf(sockerless.ECONFLICT, "cannot remove container %q: container is %s", c.name(), state)
	}
	if c.rec.Run == nil {
		if err := s.store.Delete(context.WithoutCancel(s.ctx), table, c.id, c.version); err != nil {
			return err
		}
		c.bury()
		return nil
	}
	err = c.change(func(rec *record) {
		rec.Removed = true
		if rec.Run.Stage != stageOver {
			rec.Run.Stage = stageEnding
		}
		rec.Again = time.Time{}
		switch {
		case restarting:
			rec.State.Status = docker.StateExited
		case running:
			rec.State.Status, rec.State.ExitCode, rec.State.FinishedAt = docker.StateExited, codeKilled, time.Now().UTC()
		}
	})
	if err != nil {
		return err
	}
	switch {
	case restarting:
		c.stopped(c.rec.State.ExitCode)
	case running:
		c.killed(syscall.SIGKILL)
		c.event(events.ActionDie, exitAttributes(codeKilled, c.rec.State.StartedAt))
		c.stopped(codeKilled)
	}
	c.endAttempt(sockerless.Errorf(sockerless.ECONFLICT, "cannot start container %s: it was removed while it was being started", c.id[:12]))
	if c.run != nil {
		c.run.nudge()
	}
	c.bury()
	return nil
}

// bury takes a container that is stored as removed out of sight. c.mu is held.
func (c *container) bury() {
	e := c.e
	c.removed = true
	e.mu.Lock()
	delete(e.containers, c.id)
	e.order = nil
	if e.names[c.rec.Name] == c {
		delete(e.names, c.rec.Name)
	}
	e.buried[c.id] = true
	e.mu.Unlock()
	c.endAttempt(nil)
	c.gone()
	c.event(events.ActionDestroy, nil)
	e.execs.drop(c.id)
	rec, version, prev := c.rec, c.version, c.prev
	e.background(func() { e.reap(rec, version, prev, c) }) // ends with the deletion, or with the engine: then the next Open goes on
}

// reap deletes what is left of a removed container: its log, its job, and last its tombstone.
func (e *Engine) reap(rec record, version string, prev *run, c *container) {
	if prev != nil {
		// A start that is under way would make the job again.
		select {
		case <-prev.over:
		case <-e.ctx.Done():
			return
		}
		c.mu.Lock()
		rec, version = c.rec, c.version
		c.mu.Unlock()
	}
	if err := e.logs.Remove(rec.ID); err != nil {
		e.log.Warn("cannot delete a log", "container", rec.ID, "error", err)
	}
	if err := e.copies.remove(rec.ID); err != nil {
		e.log.Warn("cannot delete copied files", "container", rec.ID, "error", err)
	}
	pause := time.Second
	for e.ctx.Err() == nil {
		err := e.remove(rec)
		if err == nil {
			err = e.store.Delete(e.ctx, table, rec.ID, version)
		}
		if err == nil {
			e.mu.Lock()
			delete(e.buried, rec.ID)
			e.mu.Unlock()
			return
		}
		if e.ctx.Err() == nil {
			e.log.Warn("cannot delete a job yet", "container", rec.ID, "error", err)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, pollMost)
		case <-e.ctx.Done():
		}
	}
}

// remove deletes the job of a removed container, one of a few at a time.
func (e *Engine) remove(rec record) error {
	if rec.Run == nil {
		return nil
	}
	select {
	case e.reaps <- struct{}{}:
		defer func() { <-e.reaps }()
	case <-e.ctx.Done():
		return e.ctx.Err()
	}
	run := rec.Run.Run
	if run.Job == "" {
		// Its first start was not answered, so the list has to tell whether there is a job.
		found, err := e.jobOf(rec.ID)
		if err != nil {
			return err
		}
		if found.Job == "" {
			if rec.Run.Stage != stageOver {
				e.suspect()
			}
			return nil
		}
		run = found
	}
	return e.opt.Driver.Remove(e.ctx, run)
}

// jobOf finds a container's job in the cloud's list; a zero Run if there is none.
func (e *Engine) jobOf(containerID string) (driver.Run, error) {
	for run, err := range e.opt.Driver.Runs(e.ctx) {
		if err != nil {
			return driver.Run{}, err
		}
		if run.Container == containerID {
			return run, nil
		}
	}
	return driver.Run{}, nil
}

// executionOf finds a start's execution in the cloud's list; a zero Run if there is none.
func (e *Engine) executionOf(containerID, runID string) (driver.Run, error) {
	run, err := e.jobOf(containerID)
	if err != nil || run.ID != runID {
		return driver.Run{}, err
	}
	return run, nil
}
