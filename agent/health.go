package agent

import (
	"context"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// probesKept is how many results of probes are told.
const probesKept = 5

// health watches one incarnation by probes, one after the other. Nobody waits for it: it runs beside the process, tells
// by events, and a probe that hangs holds up the next one and nothing else. The methods of a nil health, of a process
// without a check, do nothing.
type health struct {
	check   protocol.HealthCheck
	started time.Time
	probe   func(context.Context) protocol.ProbeResult // returns once the probe is over, soon after ctx is
	tell    func(protocol.Health)

	mu     sync.Mutex // held over tell, so that nothing is told behind pause or end
	is     protocol.Health
	cancel context.CancelFunc // nil: no probe is to run
	done   chan struct{}      // closed when the last monitor has ended
	over   bool
}

func newHealth(check protocol.HealthCheck, started time.Time, probe func(context.Context) protocol.ProbeResult, tell func(protocol.Health)) *health {
	h := &health{check: check, started: started, probe: probe, tell: tell, done: make(chan struct{})}
	h.is.Status = protocol.HealthStarting
	close(h.done)
	return h
}

// begin probes until pause or end. It begins again behind a pause.
func (h *health) begin() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.cancel != nil {
		return
	}
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	before, done := h.done, make(chan struct{})
	h.done = done
	h.is.Stopped = false
	go func() { // ends with ctx and the probe that runs then
		defer close(done)
		<-before
		h.run(ctx)
	}()
}

// pause ends what begin has begun, and a probe that runs, whose result is not wanted. It returns when that is gone, or
// when it does not go. What comes of it is paused, or begin again.
func (h *health) pause() {
	if h == nil {
		return
	}
	h.mu.Lock()
	if h.cancel == nil {
		h.mu.Unlock()
		return
	}
	h.cancel()
	h.cancel = nil
	done := h.done
	h.mu.Unlock()
	select {
	case <-done:
	case <-time.After(killPatience):
	}
}

// paused tells that nothing is probed because the process does not run.
func (h *health) paused() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.cancel != nil || h.is.Stopped {
		return
	}
	h.is.Status, h.is.Stopped = protocol.HealthUnhealthy, true // as dockerd has it
	h.tell(h.is)
}

// end ends it for good, and a probe that runs, and does not wait. Nothing is told after it.
func (h *health) end() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.cancel != nil {
		h.cancel()
		h.cancel = nil
	}
}

// run probes at Docker's times until ctx ends.
func (h *health) run(ctx context.Context) {
	timer := time.NewTimer(h.wait(time.Now()))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if !h.record(ctx, h.probe(ctx)) {
			return
		}
		timer.Reset(h.wait(time.Now()))
	}
}

// wait is the time from now to the next probe: from the end of the last one, or from the beginning.
func (h *health) wait(now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.is.Status == protocol.HealthStarting && now.Sub(h.started) < h.check.StartPeriod {
		return h.check.StartInterval
	}
	return h.check.Interval
}

// record counts a result and tells it, unless ctx has ended: then it reports false.
func (h *health) record(ctx context.Context, r protocol.ProbeResult) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	is := &h.is
	is.Probes++
	log := append(is.Log[:len(is.Log):len(is.Log)], r) // what was told is not changed
	is.Log = log[max(0, len(log)-probesKept):]
	switch {
	case r.Healthy():
		is.Status, is.FailingStreak = protocol.HealthHealthy, 0
	case is.Status == protocol.HealthStarting && r.Start.Sub(h.started) < h.check.StartPeriod:
		// Who is still starting may fail.
	default:
		if is.FailingStreak++; is.FailingStreak >= h.check.Retries {
			is.Status = protocol.HealthUnhealthy
		}
	}
	h.tell(*is)
	return true
}

// watchHealth makes the health of an incarnation whose process runs, if it has a check.
func (a *Agent) watchHealth(i *incarnation) *health {
	check := i.request.Health
	if check == nil {
		return nil
	}
	p := &prober{agent: a, incarnation: i, check: *check}
	return newHealth(*check, i.result.Started, p.run, func(is protocol.Health) {
		a.events.add(protocol.Event{Kind: protocol.EventHealth, Incarnation: i.number, Health: &is})
	})
}

// checkHealth refuses a check that leaves something open.
func checkHealth(c *protocol.HealthCheck) error {
	if c == nil {
		return nil
	}
	if c.Interval <= 0 || c.Timeout <= 0 || c.StartPeriod < 0 || c.StartPeriod > 0 && c.StartInterval <= 0 || c.Retries <= 0 || c.Process.Tty {
		return wire.Errorf(protocol.CodeInvalid, "a health check needs an interval, a timeout and a number of retries, and has no terminal")
	}
	return nil
}
