package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/sys/signal"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

const (
	defaultGrace = 10 * time.Second
	// agentPatience is how long an agent that does not answer is waited for before the cloud is asked to act.
	agentPatience = 10 * time.Second
)

// Stop sends the stop signal, kills after the grace, and returns once the container has exited.
func (s containerService) Stop(ctx context.Context, ref string, opt sockerless.StopOptions) error {
	c, err := s.locked(ref)
	if err != nil {
		return err
	}
	if !c.running() {
		defer c.mu.Unlock()
		return sockerless.Errorf(sockerless.ENOTMODIFIED, "container %s is not running", c.id)
	}
	ended, err := c.stop(opt)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return closing()
	}
}

// stop begins the end of a running container. What it returns is closed when that has come. c.mu is held.
func (c *container) stop(opt sockerless.StopOptions) (<-chan struct{}, error) {
	sig, err := parseSignal(firstOf(opt.Signal, c.rec.Config.StopSignal, "SIGTERM"))
	if err != nil {
		return nil, err
	}
	grace := defaultGrace
	if t := c.rec.Config.StopTimeout; t != nil {
		grace = time.Duration(*t) * time.Second
	}
	if opt.Grace != nil {
		grace = *opt.Grace
	}
	if err := c.markStopped(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	if c.rec.Run.Stage != stageRunning {
		if err := c.cancel(sig); err != nil {
			return nil, err
		}
		c.event(events.ActionStop, nil)
		close(ended)
		return ended, nil
	}
	if !c.restarting() {
		c.killed(sig)
	}
	r, w, resume := c.run, c.awaitEnd(), c.final(sig)
	// Not the asker's context: who asks for a stop and leaves has asked for it all the same.
	if !c.e.background(func() { // ends with the container, or the engine
		defer c.forget(w)
		err := r.call(c.e.ctx, func(a *agent) error {
			return a.client.Stop(a.ctx, protocol.StopRequest{Signal: sigName(sig), Grace: grace, Resume: resume})
		})
		if err != nil && !protocol.HasCode(err, protocol.CodeNotRunning) {
			c.force(r, err)
		}
		late := time.NewTimer(max(grace, 0) + agentPatience)
		defer late.Stop()
		if grace < 0 {
			late.Stop()
		}
		for told := false; !told; {
			select {
			case <-w.told:
				told = true
			case <-late.C:
				if r.hasExited() { // it comes behind the output
					late.Reset(agentPatience)
					continue
				}
				c.force(r, errors.New("the exit was not told"))
			case <-c.e.ctx.Done():
				return
			}
		}
		c.mu.Lock()
		c.event(events.ActionStop, nil)
		c.mu.Unlock()
		close(ended)
	}) {
		return nil, closing()
	}
	return ended, nil
}

// markStopped stores that a user has asked for the end, so that no policy restarts the container. c.mu is held.
func (c *container) markStopped() error {
	if c.rec.Stopped || c.rec.HostConfig.RestartPolicy.IsNone() {
		return nil
	}
	return c.change(func(rec *record) { rec.Stopped = true })
}

// cancel ends a container that is being started. c.mu is held.
func (c *container) cancel(sig syscall.Signal) error {
	return c.abandon(128+int(sig), "", sockerless.Errorf(sockerless.ECONFLICT,
		"cannot start container %s: it was stopped by %s while it was being started", c.id[:12], sigName(sig)))
}

// force has the cloud stop a run whose agent is silent.
func (c *container) force(r *run, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != r || c.rec.Run.Stage != stageRunning || c.e.ctx.Err() != nil {
		return
	}
	c.e.log.Warn("an agent is silent, so its execution is stopped", "container", c.id, "error", cause)
	r.silent.Store(true)
	reason := fmt.Sprintf("the agent did not answer, so the execution was stopped: %v", cause)
	if err := c.abandon(codeKilled, reason, nil); err != nil {
		c.e.log.Error("cannot store what became of a container", "container", c.id, "error", err)
	}
}

// call asks the run's agent, waiting a little for one if there is none.
func (r *run) call(ctx context.Context, f func(*agent) error) error {
	ctx, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	a, err := r.linkedAgent(ctx)
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	go func() { answer <- f(a) }() // ends with the agent's answer, or its link
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return sockerless.Errorf(sockerless.EUNAVAILABLE, "the agent of container %s does not answer", r.c.id[:12])
	}
}

// hasExited asks the agent whether the process has ended for good.
func (r *run) hasExited() bool {
	var st protocol.State
	err := r.call(r.e.ctx, func(a *agent) (err error) {
		st, err = a.client.State(a.ctx)
		return err
	})
	return err == nil && st.Phase == protocol.PhaseExited
}

// linkedAgent returns the run's agent, waiting for one until ctx ends.
func (r *run) linkedAgent(ctx context.Context) (*agent, error) {
	for {
		r.c.mu.Lock()
		a, linked := r.current.Load(), r.linked
		r.c.mu.Unlock()
		if a != nil && a.alive() {
			return a, nil
		}
		if a != nil { // it has ended, and the run will see that in a moment
			linked = nil
		}
		tick := time.NewTimer(50 * time.Millisecond)
		select {
		case <-linked:
		case <-tick.C:
		case <-r.over:
			tick.Stop()
			return nil, sockerless.Errorf(sockerless.ECONFLICT, "container %s is not running", r.c.id)
		case <-ctx.Done():
			tick.Stop()
			return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot reach the agent of container %s: %w", r.c.id[:12], ctx.Err())
		}
		tick.Stop()
	}
}

// Restart is Stop, then Start. One that comes during a start waits for that, as dockerd's does, and then restarts in
// place: to cancel it would pay for two executions.
func (s containerService) Restart(ctx context.Context, ref string, opt sockerless.StopOptions) error {
	c, err := s.settled(ctx, ref)
	if err != nil {
		return err
	}
	if c.running() {
		c.keep++ // --rm waits for an exit that nobody follows by a start
		ended, err := c.stop(opt)
		c.mu.Unlock()
		defer c.release()
		if err != nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return closing()
		}
	} else {
		c.mu.Unlock()
	}
	if err := s.Start(ctx, c.id); err != nil && sockerless.ErrorCode(err) != sockerless.ENOTMODIFIED {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event(events.ActionRestart, nil)
	return nil
}

// settled returns the container with its lock held, once no start of it is under way. One that takes longer than
// clients wait is told.
func (s containerService) settled(ctx context.Context, ref string) (*container, error) {
	late := time.NewTimer(s.opt.StartWait)
	defer late.Stop()
	for {
		c, err := s.locked(ref)
		if err != nil || c.attempt == nil {
			return c, err
		}
		settled := c.attempt.settled
		c.mu.Unlock()
		select {
		case <-settled:
		case <-late.C:
			return nil, sockerless.Errorf(sockerless.EUNAVAILABLE,
				"cannot restart container %s: it is being started, and that is not done after %v", c.id[:12], s.opt.StartWait)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.ctx.Done():
			return nil, closing()
		}
	}
}

// release ends what keeps the container for a restart. If that came to nothing, --rm is obeyed now.
func (c *container) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep--
	if c.keep > 0 || c.running() || c.removed || !c.rec.HostConfig.AutoRemove {
		if c.run != nil {
			c.run.nudge()
		}
		return
	}
	err := c.change(func(rec *record) {
		rec.Removed = true
		if rec.Run != nil && rec.Run.Stage != stageOver {
			rec.Run.Stage = stageEnding
		}
	})
	if err != nil {
		c.e.log.Error("cannot remove a container whose restart came to nothing", "container", c.id, "error", err)
		return
	}
	if c.run != nil {
		c.run.nudge()
	}
	c.bury()
}

// Signal sends a signal to the container's process.
func (s containerService) Signal(ctx context.Context, ref, name string) error {
	sig, err := parseSignal(firstOf(name, "SIGKILL"))
	if err != nil {
		return err
	}
	c, err := s.locked(ref)
	if err != nil {
		return sockerless.Errorf(sockerless.ErrorCode(err), "Cannot kill container: %s: %w", ref, err)
	}
	if !c.running() {
		defer c.mu.Unlock()
		return notRunning(ref, c)
	}
	final, restarting := c.final(sig), c.restarting()
	starting := c.rec.Run.Stage != stageRunning && !restarting
	if restarting && !final || starting && ignored(sig) {
		defer c.mu.Unlock()
		return nil // there is no process to get it, and dockerd takes it all the same
	}
	if final {
		err = c.markStopped()
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	if !restarting {
		c.killed(sig)
	}
	if c.rec.Run.Stage != stageRunning {
		defer c.mu.Unlock()
		return c.cancel(sig)
	}
	r, w := c.run, c.awaitEnd()
	c.mu.Unlock()
	defer c.forget(w)
	err = r.call(ctx, func(a *agent) error {
		return a.client.Signal(a.ctx, protocol.SignalRequest{Signal: sigName(sig), Final: final})
	})
	_, answered := errors.AsType[*wire.Error](err)
	switch {
	case protocol.HasCode(err, protocol.CodeNotRunning), sockerless.ErrorCode(err) == sockerless.ECONFLICT:
		return notRunning(ref, c)
	case answered:
		return sockerless.Errorf(sockerless.EINVALID, "cannot kill container: %s: %s", ref, err)
	case err != nil && sig == syscall.SIGKILL && ctx.Err() == nil:
		c.force(r, err)
	case err != nil:
		return err
	}
	if sig == syscall.SIGKILL { // as with dockerd, who kills finds it exited
		late := time.NewTimer(agentPatience)
		defer late.Stop()
		select {
		case <-w.told:
		case <-late.C:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}
	return nil
}

// final says whether a signal is the end of the restart policy. It is dockerd's rule: with a stop signal of its own that
// one and SIGKILL, else any. c.mu is held.
func (c *container) final(sig syscall.Signal) bool {
	if c.rec.Config.StopSignal == "" || sig == syscall.SIGKILL {
		return true
	}
	own, err := parseSignal(c.rec.Config.StopSignal)
	return err != nil || own == sig
}

func notRunning(ref string, c *container) error {
	return sockerless.Errorf(sockerless.ECONFLICT, "Cannot kill container: %s: Container %s is not running", ref, c.id)
}

// ignored says whether a signal does nothing to a process by default. The CLI passes such on from its terminal, and a
// window that changes its size must not cancel a start.
func ignored(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGSTOP:
		return true
	}
	return false
}

func parseSignal(name string) (syscall.Signal, error) {
	sig, err := signal.ParseSignal(name)
	if err != nil || sig < 1 || sig > 64 {
		return 0, sockerless.Errorf(sockerless.EINVALID, "Invalid signal: %s", name)
	}
	return sig, nil
}

// sigName is the signal's name, so that the agent's platform numbers it.
func sigName(sig syscall.Signal) string {
	for name, s := range signal.SignalMap {
		if s == sig && !strings.HasPrefix(name, "RT") && name != "IOT" && name != "POLL" && name != "CLD" {
			return "SIG" + name
		}
	}
	return strconv.Itoa(int(sig))
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
