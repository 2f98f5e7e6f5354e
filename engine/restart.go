package engine

import (
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
)

// Restart policies. Where the process ends, the agent runs it again, in place and without anybody's help; the engine
// records what it says of that. Where the execution ends, with or without the agent's word, there is nobody to do so:
// then the engine places a new one, after the same pause. That is stored as Again, and survives the engine.

// isRestarting refuses what is asked of a process in the pause before it, in Docker's words.
func isRestarting(c *container) error {
	return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is restarting, wait until the container is running", c.id)
}

// policyOf is a container's policy as the agent is told it.
func policyOf(host *docker.HostConfig) protocol.RestartPolicy {
	p := host.RestartPolicy
	return protocol.RestartPolicy{Name: string(p.Name), Max: p.MaximumRetryCount}
}

// restarted records that the agent runs the process again. c.mu is held.
func (c *container) restarted(e protocol.Event) error {
	if e.Incarnation <= c.rec.Run.Incarnation {
		return nil // by a start, whose answer has told it
	}
	err := c.change(func(rec *record) {
		rec.Run.Incarnation, rec.Run.LastEvent, rec.Run.Probes = e.Incarnation, e.Seq, 0
		rec.RestartCount = e.Restarts
		rec.State = sockerless.State{
			Status: docker.StateRunning, Pid: e.Pid, StartedAt: e.Time.UTC(), FinishedAt: rec.State.FinishedAt, Health: rec.newHealth(),
		}
	})
	if err != nil {
		return err
	}
	c.event(events.ActionStart, nil)
	return nil
}

// stays records that the agent does not run the process again after all. If that is because it has to leave, a new
// execution does. c.mu is held.
func (c *container) stays(e protocol.Event) error {
	if !c.restarting() || e.Incarnation < c.rec.Run.Incarnation {
		return nil
	}
	if e.Leaving {
		return c.move(stageEnding)
	}
	text := ""
	if e.Refusal != nil {
		_, err := startRefusal(e.Refusal.Code, e.Refusal.Message)
		text = err.Error()
	}
	return c.stay(text, stageExited, func(rec *record) { rec.Run.LastEvent = e.Seq })
}

// stay stores that no restart follows, and tells who waits for that. The exit code is the last process's, as with
// dockerd. c.mu is held.
func (c *container) stay(reason string, next stage, also func(*record)) error {
	err := c.change(func(rec *record) {
		rec.move(next)
		rec.Again = time.Time{}
		rec.State.Status, rec.State.Starting, rec.State.Error = docker.StateExited, false, reason
		rec.Run.Exited = time.Now().UTC()
		if also != nil {
			also(rec)
		}
	})
	if err != nil {
		return err
	}
	c.stopped(c.rec.State.ExitCode)
	return nil
}

// move goes on with a restart whose replica was lost in the pause before it. c.mu is held.
func (c *container) move(next stage) error {
	if c.rec.Stopped {
		return c.stay("", next, nil)
	}
	return c.change(func(rec *record) {
		rec.Run.Stage, rec.Again = next, time.Now().Add(rec.Backoff).UTC()
	})
}

// follow decides whether a new execution follows the end of one. The record is exited.
func (rec *record) follow() {
	if rec.Stopped {
		return
	}
	ran := rec.State.FinishedAt.Sub(rec.State.StartedAt)
	next := policyOf(rec.HostConfig).After(rec.State.ExitCode, rec.RestartCount, rec.Backoff, ran)
	if next == nil {
		return
	}
	rec.State.Status = docker.StateRestarting
	rec.RestartCount, rec.Backoff = next.Count, next.Pause
	rec.Again = time.Now().Add(next.Pause).UTC()
}

// later places the new execution that is wanted, if one is, when its time has come. c.mu is held, and no run is live.
func (c *container) later() {
	at := c.rec.Again
	if at.IsZero() || c.removed || c.e.ctx.Err() != nil {
		return
	}
	wait := c.rec.untilAgain(time.Now())
	c.e.background(func() { // ends at that time, or with the engine
		for pause := wait; ; pause = time.Second {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-c.e.ctx.Done():
				timer.Stop()
				return
			}
			if c.again(at) {
				return
			}
		}
	})
}

// untilAgain is how long the new execution is to wait: no longer than the pause that it was for, for the clock may have been set
// back since the time was stored.
func (rec *record) untilAgain(now time.Time) time.Duration {
	return max(0, min(rec.Again.Sub(now), rec.Backoff))
}

// again places the execution that was wanted for that time. False: it is to be tried again.
func (c *container) again(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rec.Again.Equal(at) || c.removed || c.run != nil || c.e.ctx.Err() != nil {
		return true // somebody has stopped or started it meanwhile
	}
	if _, err := c.place(); err != nil {
		c.e.log.Error("cannot restart a container in a new execution", "container", c.id, "error", err)
		return false
	}
	return true
}

// failedAgain records that a restart in a new execution came to nothing. What may go better another time is tried again,
// after a pause: dockerd gives up there, but it has no cloud that may have no room for a minute. c.mu is held.
func (c *container) failedAgain(cause error, code int, next stage) error {
	var retry *protocol.Restart
	if code == codeEngine && !definite(cause) && !c.rec.Stopped {
		retry = policyOf(c.rec.HostConfig).After(code, c.rec.RestartCount, c.rec.Backoff, 0)
	}
	if retry == nil {
		if err := c.stay(cause.Error(), next, nil); err != nil {
			return err
		}
		c.endAttempt(cause)
		return nil
	}
	c.e.log.Warn("a container could not be restarted in a new execution yet", "container", c.id, "pause", retry.Pause, "error", cause)
	err := c.change(func(rec *record) {
		rec.Run.Stage, rec.State.Error = next, cause.Error()
		rec.RestartCount, rec.Backoff = retry.Count, retry.Pause
		rec.Again = time.Now().Add(retry.Pause).UTC()
	})
	if err != nil {
		return err
	}
	c.endAttempt(cause)
	return nil
}
