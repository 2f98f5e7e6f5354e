package agent

import (
	"context"
	"errors"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// again is what the agent knows of running the process again by itself. The agent's mu guards it.
type again struct {
	policy protocol.RestartPolicy
	count  int           // restarts so far
	pause  time.Duration // before the last one
	final  bool          // somebody has asked for the end
	timer  *time.Timer   // runs while the phase is restarting
}

// begin is a start that was asked for.
func (g *again) begin(req protocol.StartRequest) {
	*g = again{policy: req.Restart, count: req.Restarts, pause: req.Backoff}
}

// after counts the restart that follows an exit; nil: none does.
func (g *again) after(exit *protocol.Exit, ran time.Duration) *protocol.Restart {
	if g.final {
		return nil
	}
	next := g.policy.After(exit.Code, g.count, g.pause, ran)
	if next != nil {
		g.count, g.pause = next.Count, next.Pause
	}
	return next
}

// setRestart changes the policy. What is announced already comes, as with dockerd.
func (a *Agent) setRestart(_ context.Context, policy protocol.RestartPolicy) (struct{}, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again.policy = policy
	return struct{}{}, nil
}

// restart runs the process again after the pause.
func (a *Agent) restart() {
	a.gate.Lock()
	defer a.gate.Unlock()
	a.mu.Lock()
	due, before := a.phase == protocol.PhaseRestarting, a.now
	a.mu.Unlock()
	if !due {
		return // somebody has stopped it in the pause
	}
	_, err := a.run(before.request)
	if err == nil {
		return
	}
	refusal := &protocol.Refusal{Message: err.Error()}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		refusal.Code = e.Code
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stays(refusal)
}

// stays ends the pause before a restart, which does not come. a.gate and a.mu are held, and the phase is restarting.
func (a *Agent) stays(refusal *protocol.Refusal) {
	a.again.timer.Stop()
	a.phase = protocol.PhaseExited
	last := a.tape.last()
	seq := a.events.add(protocol.Event{
		Kind: protocol.EventStays, Incarnation: a.now.number, LastLog: last, Restarts: a.again.count,
		Refusal: refusal, Leaving: a.releasing || a.terminating,
	})
	a.stay.exited(time.Now(), seq, last)
	a.plan()
}

// ask does something about the process that runs, or about the pause before it runs again: that one is over then, and
// so is what was asked for. Neither begins nor ends meanwhile.
func (a *Agent) ask(final bool, f func(*incarnation) error) error {
	a.gate.RLock()
	defer a.gate.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again.final = a.again.final || final
	switch {
	case a.phase == protocol.PhaseRunning:
		return f(a.now)
	case a.phase == protocol.PhaseRestarting && final:
		a.stays(nil)
		return nil
	}
	return errNotRunning()
}
