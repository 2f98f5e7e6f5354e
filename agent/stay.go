package agent

import (
	"fmt"
	"os"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

const (
	// termStay is how long an agent that the platform has told to end waits for the backend to store the exit; the
	// platform kills it 30 s after its SIGTERM.
	termStay = 3 * time.Second
	// busyStay is how much longer an agent stays for a copy of files that is under way.
	busyStay = 10 * time.Minute
)

// stay knows what decides how long the agent stays when nothing runs. The agent's mu guards it.
type stay struct {
	exit      time.Time // the last one; of a held agent, its own beginning
	exitEvent uint64
	exitLog   uint64
	ackLog    uint64
	ackEvent  uint64
	stored    time.Time // when the exit and all of the log were acknowledged; zero: not yet
	busy      int       // copies of files under way
	timer     *time.Timer
}

func (s *stay) exited(now time.Time, event, log uint64) {
	s.exit, s.exitEvent, s.exitLog, s.stored = now, event, log, time.Time{}
	s.acked(now, protocol.AckRequest{})
}

func (s *stay) acked(now time.Time, req protocol.AckRequest) {
	s.ackLog, s.ackEvent = max(s.ackLog, req.Log), max(s.ackEvent, req.Event)
	if !s.exit.IsZero() && s.stored.IsZero() && s.ackLog >= s.exitLog && s.ackEvent >= s.exitEvent {
		s.stored = now
	}
}

// hold begins the time that the agent waits to be told to start.
func (a *Agent) hold(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stay.exit = now
	a.plan()
}

// plan sets the timer for the agent's end, or ends it now. a.mu is held.
func (a *Agent) plan() {
	s := &a.stay
	if s.timer != nil {
		s.timer.Stop()
	}
	end, code, why := a.end()
	if end.IsZero() {
		return
	}
	wait := time.Until(end)
	if wait <= 0 && s.busy > 0 && time.Since(end) < busyStay && !a.releasing && !a.terminating {
		wait = time.Second
	}
	if wait > 0 {
		s.timer = time.AfterFunc(wait, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.plan()
		})
		return
	}
	a.finish(code, why)
}

// end says when the agent is to end if nothing happens before, with which code, and, if that is an accident, why. Zero is never. a.mu is held.
func (a *Agent) end() (at time.Time, code int, why string) {
	if a.starting {
		return time.Time{}, 0, ""
	}
	s := &a.stay
	switch a.phase {
	case protocol.PhaseHeld:
		switch {
		case a.terminating:
			return time.Now(), 128 + 15, ""
		case a.releasing:
			return time.Now(), 0, ""
		}
		why = fmt.Sprintf("no backend told it to start within %v", a.settings.Hold)
		if a.unreached != nil {
			why += ": " + a.unreached.Error()
		}
		return s.exit.Add(a.settings.Hold), ExitAgent, why
	case protocol.PhaseExited:
		code = a.now.exit.Code
		req := a.now.request
		switch {
		case a.releasing:
			return time.Now(), code, ""
		case a.terminating && s.stored.IsZero():
			return s.exit.Add(termStay), code, ""
		case a.terminating:
			return time.Now(), code, ""
		case !s.stored.IsZero():
			return s.stored.Add(req.Linger), code, ""
		case req.Orphan > 0:
			return s.exit.Add(req.Orphan), code, ""
		}
		return s.exit.Add(a.settings.Orphan), code, ""
	}
	return time.Time{}, 0, ""
}

// finish decides the agent's end, once. a.mu is held.
func (a *Agent) finish(code int, why string) {
	select {
	case <-a.over:
		return
	default:
	}
	if why != "" {
		fmt.Fprintln(os.Stderr, "sockerless-agent: "+why)
	}
	a.code = code
	close(a.over)
}

// busy keeps the agent from ending, for some minutes, until the function that it returns is called.
func (a *Agent) busy() (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stay.busy++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.stay.busy--
	}
}
