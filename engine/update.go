package engine

import (
	"context"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/fields"
)

// Update changes the restart policy at once, and CPU and memory for the next start.
func (s containerService) Update(ctx context.Context, ref string, config docker.UpdateConfig) ([]string, error) {
	c, err := s.locked(ref)
	if err != nil {
		return nil, err
	}
	warnings, err := c.update(config)
	r := c.run
	tell := err == nil && c.rec.Run != nil && c.rec.Run.Stage == stageRunning && r != nil && c.rec.Run.Policy != policyOf(c.rec.HostConfig)
	c.mu.Unlock()
	if !tell {
		return warnings, err
	}
	if err := r.call(ctx, func(a *agent) error { return r.tellPolicy(a.ctx, a) }); err != nil {
		r.warn("an agent has not heard of a restart policy", err)
		warnings = append(warnings, "the restart policy takes effect when the container's agent is linked again")
		r.nudge() // the link may not have ended: watch tries again
	}
	return warnings, nil
}

// update stores what is changed. c.mu is held.
func (c *container) update(config docker.UpdateConfig) ([]string, error) {
	next, warnings, err := fields.Update(c.rec.HostConfig, config)
	if sockerless.ErrorCode(err) == sockerless.ECONFLICT {
		return nil, sockerless.Errorf(sockerless.ECONFLICT, "Cannot update container %s: %w", c.id, err)
	}
	if err != nil {
		return nil, err
	}
	rec := c.rec
	rec.HostConfig = next
	before, after := c.e.spec(c.rec), c.e.spec(rec)
	resized := before.CPU != after.CPU || before.Memory != after.Memory
	if resized {
		more, err := c.e.opt.Driver.Check(after)
		if err != nil {
			return nil, err
		}
		warnings = append(warnings, more...)
	}
	live := c.rec.Run != nil && c.rec.Run.Stage != stageOver
	if resized && live {
		warnings = append(warnings, "CPU and memory take effect at the next start, in a new job execution with a fresh file system: "+
			"those of one that has begun cannot be changed")
	}
	err = c.change(func(rec *record) {
		rec.HostConfig = next
		if live {
			rec.Run.Resized = rec.Run.Resized || resized
		}
	})
	if err != nil {
		return nil, err
	}
	c.event(events.ActionUpdate, nil)
	return warnings, nil
}

// tellPolicy gives the agent the policy of now. One is told after the other, or an older one could be the last.
func (r *run) tellPolicy(ctx context.Context, a *agent) error {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.c.mu.Lock()
	policy := policyOf(r.c.rec.HostConfig)
	r.c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := a.client.SetRestart(ctx, policy); err != nil {
		return err
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.rec.Run.ID != r.id {
		return nil
	}
	return r.c.change(func(rec *record) { rec.Run.Policy = policy })
}

// repeatPolicy gives the agent the policy if it was changed while it could not hear. False: it is to be tried again.
func (r *run) repeatPolicy() bool {
	a := r.agent
	r.c.mu.Lock()
	known := r.c.rec.Run.Policy == policyOf(r.c.rec.HostConfig)
	r.c.mu.Unlock()
	if a == nil || known {
		return true // without an agent, the next link is the time
	}
	err := r.during(a, func(ctx context.Context) error { return r.tellPolicy(ctx, a) })
	if err != nil {
		r.warn("an agent has not heard of a restart policy", err)
	}
	return err == nil
}
