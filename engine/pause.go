package engine

import (
	"context"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
)

// Pause stops everything that the container runs.
func (s containerService) Pause(ctx context.Context, ref string) error {
	return s.setPaused(ctx, ref, true)
}

// Unpause lets it go on.
func (s containerService) Unpause(ctx context.Context, ref string) error {
	return s.setPaused(ctx, ref, false)
}

// setPaused asks the agent, and returns when its word on it is stored. That comes as an event, so that a crash of the
// backend between the two loses nothing.
func (s containerService) setPaused(ctx context.Context, ref string, pause bool) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	var turns int
	var process time.Time
	a, err := c.runningAgent(ctx, func(c *container) error {
		if err := c.mustRun(); err != nil {
			return err
		}
		turns, process = c.turns, c.rec.State.StartedAt
		return c.mayTurn(pause)
	})
	if err != nil {
		return err
	}
	turn := a.client.Unpause
	if pause {
		turn = a.client.Pause
	}
	err = turn(ctx)
	switch {
	case protocol.HasCode(err, protocol.CodeNotRunning):
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.id)
	case err != nil && pause:
		return sockerless.Errorf(sockerless.EINTERNAL, "cannot pause container %s: %w", c.id, err)
	case err != nil:
		return sockerless.Errorf(sockerless.EINTERNAL, "Cannot unpause container %s: %w", c.id, err)
	}
	for {
		c.mu.Lock()
		st, changed := c.rec.State, c.awaitChange()
		turned := c.turns != turns || (st.Status == docker.StatePaused) == pause
		c.mu.Unlock()
		if turned || st.Status != docker.StateRunning && st.Status != docker.StatePaused || !st.StartedAt.Equal(process) {
			return nil // what follows a turn, a signal that ends it or an exit, may be stored already
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return closing()
		}
	}
}

// mayTurn says why a running container cannot be paused, or unpaused. c.mu is held.
func (c *container) mayTurn(pause bool) error {
	paused := c.rec.State.Status == docker.StatePaused
	switch {
	case pause && paused:
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is already paused", c.id)
	case !pause && !paused:
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not paused", c.id)
	}
	return nil
}

// turned records the agent's word that the container is paused, or goes on.
func (r *run) turned(ctx context.Context, ev protocol.Event) bool {
	status, action := docker.StateRunning, events.ActionUnPause
	if ev.Kind == protocol.EventPaused {
		status, action = docker.StatePaused, events.ActionPause
	}
	return r.note(ctx, ev, action, func(st *sockerless.State) bool {
		changes := st.Status != status
		st.Status = status
		return changes
	})
}

// outOfMemory records that the kernel has killed something in the container, its own process or another.
func (r *run) outOfMemory(ctx context.Context, ev protocol.Event) bool {
	return r.note(ctx, ev, events.ActionOOM, func(st *sockerless.State) bool {
		st.OOMKilled = true
		return true
	})
}

// detached tells that a client has left by the detach keys.
func (r *run) detached(ev protocol.Event) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.removed:
	case ev.Exec != "":
		c.event(events.ActionExecDetach, map[string]string{"execID": ev.Exec})
	default:
		c.event(events.ActionDetach, nil)
	}
}

// note records what an agent's event makes of the state of a container that runs, and tells it. Nothing is done if set
// returns false. It returns false if ctx, which is the agent's, ends before it is stored; then it is told again.
func (r *run) note(ctx context.Context, ev protocol.Event, action events.Action, set func(*sockerless.State) bool) bool {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var wait <-chan struct{}
		retry := time.Duration(1<<63 - 1)
		switch {
		case c.rec.Run.Stage == stageLinked: // the start is not answered yet
			wait = c.awaitChange()
		case c.rec.Run.Stage != stageRunning || c.rec.Run.Incarnation != ev.Incarnation:
			return true
		default:
			state := c.rec.State
			if !set(&state) {
				return true
			}
			turns := state.Status != c.rec.State.Status
			err := c.change(func(rec *record) {
				rec.State = state
				rec.Run.LastEvent = ev.Seq
			})
			if err == nil {
				if turns {
					c.turns++
				}
				c.event(action, nil)
				return true
			}
			r.warn("cannot store what an agent has told", err)
			retry = time.Second
		}
		c.mu.Unlock()
		timer := time.NewTimer(retry)
		select {
		case <-wait:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		c.mu.Lock()
		if ctx.Err() != nil {
			return false
		}
	}
}
