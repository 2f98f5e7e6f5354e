package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// begin starts the process: the agent has been met, and everybody who attached before gets its streams first.
func (r *run) begin() {
	if r.agent == nil {
		deadline := time.NewTimer(max(time.Until(r.deadline()), r.e.opt.Driver.Info().StartGrace))
		defer deadline.Stop()
		for r.agent == nil && r.stage() == stageLinked && r.e.ctx.Err() == nil {
			switch what, n := r.next(deadline.C); what {
			case ended:
				r.gone(n.answer.why(), n.answer.left())
			case timedOut:
				r.gone("its agent was lost", stageEnding)
			}
		}
		return
	}
	a := r.agent
	var res protocol.StartResult
	req := r.request()
	err := r.during(a, func(ctx context.Context) (err error) {
		if err := r.putCopies(ctx, a); err != nil {
			return err
		}
		if err := r.attachPending(ctx, a); err != nil {
			return err
		}
		res, err = a.client.Start(ctx, req)
		return err
	})
	if misplaced, ok := errors.AsType[*copyError](err); ok {
		r.failed(misplaced, codeEngine, stageEnding)
		return
	}
	if protocol.HasCode(err, protocol.CodeNotRunning) || errors.Is(err, errNotRunning) {
		r.gone("its agent ends", stageEnding)
		return
	}
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		code, text := startRefusal(refused.Code, refused.Error())
		r.failed(text, code, stageEnding)
		return
	}
	if err != nil {
		r.warn("the agent did not answer a start", err)
		pause := time.NewTimer(time.Second)
		defer pause.Stop()
		if what, n := r.next(pause.C); what == ended {
			r.gone(n.answer.why(), n.answer.left())
		}
		return
	}
	r.began(res, req.Restart)
	// Who came while the process was being started missed nothing that it could have asked for.
	if err := r.during(a, func(ctx context.Context) error { return r.attachPending(ctx, a) }); err != nil {
		r.warn("cannot attach to a container that has just started", err)
	}
}

// gone is the end of the replica that a start was for. If it has run a process before, it was the linger's end, or
// whatever else ends replicas: the start goes on in a new execution.
func (r *run) gone(why string, next stage) {
	c := r.c
	c.mu.Lock()
	if c.rec.Run.Stage != stageLinked || c.rec.Run.Incarnation == 0 {
		c.mu.Unlock()
		r.failed(cannotRun(c, why), codeEngine, next)
		return
	}
	defer c.mu.Unlock()
	r.must(c.change(func(rec *record) { rec.Run.Stage, rec.Again = next, time.Now().UTC() }))
}

// during asks the agent for something while the run goes on being watched: a link may be cut for minutes, and the start
// be cancelled, or the execution end, meanwhile.
func (r *run) during(a *agent, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	before := r.stage()
	done := make(chan error, 1)
	go func() { // ends with ctx
		done <- f(ctx)
		r.nudge()
	}()
	for {
		select {
		case err := <-done:
			return err
		default:
		}
		what, n := r.next(nil)
		switch {
		case what == ended && before == stageLinked:
			r.gone(n.answer.why(), n.answer.left())
		case what == ended && len(r.early) == 0: // else watch hears the agent's word first
			r.lost(n.answer)
		case what == said: // of the process that has just started: watch records it
			r.early = append(r.early, n.word)
			continue
		case r.stage() == before && r.agent == a && r.e.ctx.Err() == nil:
			continue
		}
		cancel()
		return <-done
	}
}

// request is what the agent is asked to run.
func (r *run) request() protocol.StartRequest {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	config, host := r.c.rec.Config, r.c.rec.HostConfig
	req := protocol.StartRequest{
		Key: r.c.rec.Run.Key,
		Process: protocol.Process{
			Args:   slices.Concat(config.Entrypoint, config.Cmd),
			Env:    environment(config, config.Tty),
			Dir:    config.WorkingDir,
			User:   config.User,
			Tty:    config.Tty,
			Groups: host.GroupAdd, Ulimits: ulimits(host),
		},
		OpenStdin: config.OpenStdin, StdinOnce: config.StdinOnce,
		// The engine tells it to go when the linger is over; by itself it stays for who still reads.
		Linger:  r.linger() + drainTime,
		Orphan:  orphanTime,
		Restart: policyOf(host), Restarts: r.c.rec.RestartCount, Backoff: r.c.rec.Backoff,
	}
	if req.Process.Dir == "" {
		req.Process.Dir = "/"
	}
	switch {
	case r.c.size != nil:
		req.Process.Size = &protocol.Size{Rows: r.c.size.Rows, Cols: r.c.size.Cols}
	case host.ConsoleSize[0] > 0 && host.ConsoleSize[1] > 0:
		req.Process.Size = &protocol.Size{Rows: uint16(host.ConsoleSize[0]), Cols: uint16(host.ConsoleSize[1])}
	}
	req.Health = healthCheck(config, req.Process)
	return req
}

func ulimits(host *docker.HostConfig) []protocol.Ulimit {
	var all []protocol.Ulimit
	for _, u := range host.Ulimits {
		all = append(all, protocol.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return all
}

// began records that the process runs.
func (r *run) began(res protocol.StartResult, policy protocol.RestartPolicy) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rec.Run.Stage != stageLinked {
		return // cancelled meanwhile
	}
	r.joined = nil
	a := c.attempt
	err := c.change(func(rec *record) {
		rec.Run.Stage, rec.Run.Incarnation, rec.Run.Policy, rec.Run.Probes = stageRunning, res.Incarnation, policy, 0
		rec.State = sockerless.State{
			Status: docker.StateRunning, Pid: res.Pid, StartedAt: res.Started.UTC(), FinishedAt: rec.State.FinishedAt, Health: rec.newHealth(),
		}
	})
	if err != nil {
		r.must(err)
		return
	}
	defer r.takeHealth() // a probe may have been faster than the answer to the start
	if a == nil {
		return // recovered: nobody waits
	}
	c.settle()
	if !a.shown {
		c.event(events.ActionStart, a.attributes())
	}
	a.finish(nil)
}

// failed records that a start came to nothing, and with it ends every wait and every stream.
func (r *run) failed(cause error, code int, next stage) {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.rec.Run.Stage {
	case stageEnding: // cancelled meanwhile, and told as that
		if next == stageOver {
			r.must(c.change(func(rec *record) { rec.Run.Stage = stageOver }))
		}
		return
	case stageOver:
		return
	}
	a := c.attempt
	if a != nil && a.auto {
		r.must(c.failedAgain(cause, code, next))
		return
	}
	if a == nil && c.rec.State.Starting {
		a = &attempt{shown: true} // of an earlier process
	}
	err := c.change(func(rec *record) {
		rec.Run.Stage = next
		rec.State.Error, rec.State.ExitCode = cause.Error(), code
		if a != nil && a.shown {
			rec.State = sockerless.State{
				Status: docker.StateExited, ExitCode: code, Error: cause.Error(),
				StartedAt: rec.State.StartedAt, FinishedAt: time.Now().UTC(), Health: rec.oldHealth(),
			}
		}
		if rec.HostConfig.AutoRemove {
			rec.Removed = true
		}
	})
	if err != nil {
		r.must(err)
		return
	}
	if a != nil && a.shown {
		c.event(events.ActionDie, exitAttributes(code, c.rec.State.StartedAt))
	}
	c.endAttempt(cause)
	if a != nil && a.shown {
		c.untold = cause.Error() // whoever asked for the start was told that it had gone well
	}
	c.stopped(code)
	if c.rec.Removed {
		c.bury()
	}
}

// startRefusal gives an agent's refusal of a container's start Docker's words and exit code.
func startRefusal(agentCode, text string) (int, error) {
	const doing = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: " +
		"unable to start container process: error during container init: "
	return refusal(agentCode, text, doing)
}

// refusal: clients tell 127 and 126 from 125 by Docker's words (docker/cli, cli/command/container/run.go).
func refusal(agentCode, text, doing string) (int, error) {
	switch agentCode {
	case protocol.CodeNoCommand:
		return codeNoCommand, sockerless.Errorf(sockerless.EINVALID, "%s%s: unknown", doing, text)
	case protocol.CodeNotExecutable:
		return codeNotExecutable, sockerless.Errorf(sockerless.EINVALID, "%s%s: unknown", doing, text)
	case protocol.CodeNoUser:
		return codeEngine, sockerless.Errorf(sockerless.EINVALID, "%s", text)
	case protocol.CodeWrongUser:
		return codeEngine, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use -u: %s", text)
	case protocol.CodeInvalid:
		return codeEngine, sockerless.Errorf(sockerless.EINVALID, "%s", text)
	}
	return codeEngine, sockerless.Errorf(sockerless.EINTERNAL, "%s%s", doing, text)
}
