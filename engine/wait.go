package engine

import (
	"context"
	"iter"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// wait is somebody who waits for a container to stop, or to be gone.
type wait struct {
	removed bool // to be gone
	final   bool // to stop for good: an exit that a restart follows is not it
	told    chan sockerless.WaitUpdate
}

// await registers a wait. c.mu is held.
func (c *container) await(removed bool) *wait {
	w := &wait{removed: removed, told: make(chan sockerless.WaitUpdate, 1)}
	c.waits[w] = struct{}{}
	return w
}

// awaitEnd registers a wait for an exit that no restart follows. c.mu is held.
func (c *container) awaitEnd() *wait {
	w := c.await(false)
	w.final = true
	return w
}

// forget takes a wait back.
func (c *container) forget(w *wait) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waits, w)
}

// stopped tells who waits for the exit. c.mu is held.
func (c *container) stopped(code int) {
	for w := range c.waits {
		if !w.removed && (!w.final || !c.restarting()) {
			w.told <- sockerless.WaitUpdate{Exited: true, ExitCode: code, Error: c.untold}
			delete(c.waits, w)
		}
	}
}

// gone tells everybody who still waits. c.mu is held.
func (c *container) gone() {
	for w := range c.waits {
		w.told <- sockerless.WaitUpdate{Exited: true, ExitCode: c.rec.State.ExitCode, Error: c.untold}
		delete(c.waits, w)
	}
}

// Wait yields twice: the wait stands, and the exit.
func (s containerService) Wait(ctx context.Context, ref string, condition docker.WaitCondition) iter.Seq2[sockerless.WaitUpdate, error] {
	return func(yield func(sockerless.WaitUpdate, error) bool) {
		var none sockerless.WaitUpdate
		switch condition {
		case "", docker.WaitConditionNotRunning, docker.WaitConditionNextExit, docker.WaitConditionRemoved:
		default:
			yield(none, sockerless.Errorf(sockerless.EINVALID, "invalid condition: %q", condition))
			return
		}
		c, err := s.locked(ref)
		if err != nil {
			yield(none, err)
			return
		}
		now := (condition == "" || condition == docker.WaitConditionNotRunning) && !c.running()
		var w *wait
		if now {
			w = &wait{told: make(chan sockerless.WaitUpdate, 1)}
			w.told <- sockerless.WaitUpdate{Exited: true, ExitCode: c.rec.State.ExitCode}
		} else {
			w = c.await(condition == docker.WaitConditionRemoved)
		}
		c.mu.Unlock()
		defer c.forget(w)
		if !yield(none, nil) {
			return
		}
		select {
		case u := <-w.told:
			yield(u, nil)
		case <-ctx.Done():
			yield(none, ctx.Err())
		case <-s.ctx.Done():
			yield(none, closing())
		}
	}
}
