package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sockerless/sockerless/driver"
)

// recover reads the store and takes up every run where it was.
func (e *Engine) recover(ctx context.Context) error {
	for item, err := range e.store.List(ctx, table) {
		if err != nil {
			return err
		}
		var rec record
		if err := json.Unmarshal(item.Value, &rec); err != nil {
			return fmt.Errorf("cannot read container %s: %w", item.Key, err)
		}
		if rec.Removed {
			e.buried[rec.ID] = true
			e.background(func() { e.reap(rec, item.Version, nil, nil) }) // see bury
			continue
		}
		if rec.NetworkingConfig == nil || rec.NetworkingConfig.EndpointsConfig == nil {
			e.settleEndpoints(&rec) // of a version that had no networks
		}
		if rec.Run != nil {
			e.suspect() // what an earlier process suspected is not stored
		}
		c := newContainer(e, rec, item.Version)
		e.mu.Lock()
		e.containers[c.id] = c
		e.order = nil
		e.names[rec.Name] = c
		e.mu.Unlock()
		if rec.Run == nil {
			continue
		}
		if err := c.resume(); err != nil {
			return fmt.Errorf("cannot resume container %s: %w", c.id, err)
		}
	}
	return nil
}

// resume goes on with a run of an earlier process.
func (c *container) resume() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rec.Run.Stage == stageOver {
		c.later()
		return nil
	}
	r, err := c.newRun()
	if err != nil {
		return err
	}
	switch c.rec.Run.Stage {
	case stageIntent, stagePlaced, stageLinked:
		// A start that nobody waits for any more, and that can be joined or cancelled like any other.
		r.recovered = c.rec.Run.Stage == stageIntent
		c.newAttempt(false)
	}
	c.e.background(r.step) // ends with the run, or with the engine
	return nil
}

// suspicious is for how many sweeps a request that was not answered may still bring something to life.
const suspicious = 10

// suspect says that there may be something in the cloud that no container knows.
func (e *Engine) suspect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.suspicion = suspicious
}

// sweeps lists the cloud's jobs now and then, while there may be one that should not be. When everything that runs is
// linked and nothing is being deleted, it asks nobody.
func (e *Engine) sweeps() {
	tick := time.NewTicker(e.opt.SweepEvery)
	defer tick.Stop()
	seen := map[driver.Run]int{}
	for {
		select {
		case <-tick.C:
		case <-e.ctx.Done():
			return
		}
		if e.mustSweep() {
			if err := e.sweep(seen); err != nil && e.ctx.Err() == nil {
				e.log.Warn("cannot look for orphans", "error", err)
			}
		}
	}
}

func (e *Engine) mustSweep() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.suspicion > 0 {
		e.suspicion--
		return true
	}
	if len(e.buried) > 0 {
		return true
	}
	for _, r := range e.runs {
		if !r.isLinked() {
			return true
		}
	}
	return false
}

// isLinked says whether the run's agent is there.
func (r *run) isLinked() bool {
	a := r.current.Load()
	return a != nil && a.link.Connected()
}

// sweep stops executions that no container wants, and deletes jobs whose container nobody knows. Both only if an
// earlier sweep has seen them too: a start or a removal may be under way between the list and the look at ours.
func (e *Engine) sweep(seen map[driver.Run]int) error {
	found := map[driver.Run]bool{}
	for run, err := range e.opt.Driver.Runs(e.ctx) {
		if err != nil {
			return err
		}
		unknown, stale := e.orphaned(run)
		if !unknown && !stale {
			continue
		}
		found[run] = true
		seen[run]++
		switch {
		case seen[run] != 2: // seen for the first time, or dealt with
		case unknown:
			e.log.Warn("a job without a container is deleted", "job", run.Job, "container", run.Container)
			if err := e.opt.Driver.Remove(e.ctx, run); err != nil {
				seen[run] = 1
				e.log.Warn("cannot delete a job", "job", run.Job, "error", err)
			}
		case stale:
			e.log.Warn("an execution that no container wants is stopped", "execution", run.Execution, "container", run.Container)
			if err := e.opt.Driver.Stop(e.ctx, run); err != nil {
				seen[run] = 1
				e.log.Warn("cannot stop an execution", "execution", run.Execution, "error", err)
			}
		}
	}
	for run := range seen {
		if !found[run] {
			delete(seen, run)
		}
	}
	return nil
}

// orphaned says whether a run in the cloud is of a container that nobody knows, or not the run that its container wants.
func (e *Engine) orphaned(run driver.Run) (unknown, stale bool) {
	e.mu.RLock()
	c := e.containers[run.Container]
	buried := e.buried[run.Container]
	e.mu.RUnlock()
	if c == nil {
		return !buried, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.rec.Run
	switch {
	case run.Execution == "":
		return false, false
	case own == nil || own.ID != run.ID:
		return false, true
	}
	// A run is over when its execution has ended; one that is not known came to life after it was given up.
	return false, own.Stage == stageOver && own.Run.Execution != run.Execution
}
