package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/wire"
)

// Docker's exit codes of containers that did not run.
const (
	codeEngine        = 125
	codeNotExecutable = 126
	codeNoCommand     = 127
)

// attempt is a start that is under way. Who asked for it waits for done.
type attempt struct {
	done    chan struct{} // closed when it has succeeded, failed, or taken so long that clients would give up
	err     error         // valid after done
	settled chan struct{} // closed when it has succeeded or failed, however long that took
	told    bool          // done is closed; guarded by the container's lock
	shown   bool          // State says running already; guarded likewise
	timer   *time.Timer
	fresh   bool // a file system of an earlier run is lost
	auto    bool // nobody has asked for it but the restart policy
}

// finish tells who waits. The container's lock is held.
func (a *attempt) finish(err error) {
	if !a.told {
		a.told, a.err = true, err
		close(a.done)
	}
}

// Start makes the container run.
func (s containerService) Start(ctx context.Context, ref string) error {
	for {
		c, err := s.locked(ref)
		if err != nil {
			return err
		}
		a, wait, err := c.start()
		c.mu.Unlock()
		if err != nil {
			return err
		}
		if wait != nil {
			// An earlier run is on its way out; a job has one execution at a time.
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-s.ctx.Done():
				return closing()
			}
		}
		select {
		case <-a.done:
			return a.err
		case <-ctx.Done():
			return ctx.Err() // the start goes on, as with dockerd
		case <-s.ctx.Done():
			return closing()
		}
	}
}

// start begins an attempt, joins one, or says what to wait for before trying again. c.mu is held.
func (c *container) start() (a *attempt, wait <-chan struct{}, err error) {
	switch {
	case c.attempt != nil && !c.attempt.told && !c.restarting():
		return c.attempt, nil, nil
	case c.rec.State.Status == docker.StatePaused:
		return nil, nil, sockerless.Errorf(sockerless.ECONFLICT, "cannot start a paused container, try unpause instead")
	case c.running():
		return nil, nil, sockerless.Errorf(sockerless.ENOTMODIFIED, "container %s is running already", c.id)
	}
	if err := c.joinNetworks(); err != nil {
		return nil, nil, err
	}
	if r := c.run; r != nil {
		if c.rec.Run.Stage != stageExited || !r.isLinked() || c.rec.Run.Resized {
			if c.rec.Run.Stage == stageExited {
				if err := c.change(func(rec *record) { rec.Run.Stage = stageEnding }); err != nil {
					return nil, nil, err
				}
				r.nudge()
			}
			return nil, r.over, nil
		}
		err := c.change(func(rec *record) {
			rec.Run.Stage, rec.Run.Key, rec.Run.Wanted = stageLinked, newID(16), time.Now().UTC()
			rec.RestartCount, rec.Backoff, rec.Stopped = 0, 0, false
		})
		if err != nil {
			return nil, nil, err
		}
		a := c.newAttempt(false)
		r.nudge()
		return a, nil, nil
	}
	a, err = c.place()
	return a, nil, err
}

// place begins a run: by the attempt that is under way, or by a new one. It is asked for, unless the container is
// restarting. c.mu is held.
func (c *container) place() (*attempt, error) {
	again, auto := c.rec.Run != nil, c.restarting()
	fresh := again && c.rec.Run.Incarnation > 0 // a process ran in it
	logs, err := c.e.logs.Log(c.id, c.rec.Limits)
	if err != nil {
		return nil, err
	}
	err = c.change(func(rec *record) {
		run := driver.Run{Container: c.id, ID: newID(16)}
		previous := ""
		if again {
			run.Job = rec.Run.Run.Job
			previous = firstOf(rec.Run.Run.Execution, rec.Run.Previous)
		}
		rec.Run = &runRecord{
			ID: run.ID, Key: newID(16), Stage: stageIntent, Wanted: time.Now().UTC(), LogBase: logs.Last(), Run: run, Previous: previous,
		}
		rec.Again = time.Time{}
		if !auto {
			rec.RestartCount, rec.Backoff, rec.Stopped = 0, 0, false
		}
	})
	if err != nil {
		return nil, err
	}
	r, err := c.newRun()
	if err != nil {
		return nil, err
	}
	a := c.attempt
	if a == nil {
		a = c.newAttempt(fresh)
	}
	a.fresh = fresh
	if !c.e.background(r.step) { // ends with the run, or with the engine
		return nil, closing()
	}
	return a, nil
}

// newAttempt begins an attempt; it goes on with one of an earlier process that looks like a running container already.
// c.mu is held.
func (c *container) newAttempt(fresh bool) *attempt {
	a := &attempt{done: make(chan struct{}), settled: make(chan struct{}), fresh: fresh, auto: c.restarting()}
	c.attempt = a
	c.untold = ""
	switch {
	case c.rec.State.Starting:
		a.shown = true
		a.finish(nil)
	case !a.auto:
		a.timer = time.AfterFunc(c.e.opt.StartWait, func() { c.showStarting(a) })
	}
	return a
}

// showStarting lets a start that takes long look like a running container: clients give up after a minute.
func (c *container) showStarting(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attempt != a || a.told || c.e.ctx.Err() != nil {
		return
	}
	err := c.change(func(rec *record) {
		rec.State = sockerless.State{
			Status: docker.StateRunning, Starting: true, StartedAt: time.Now().UTC(), FinishedAt: rec.State.FinishedAt, Health: rec.newHealth(),
		}
	})
	if err != nil {
		c.e.log.Error("cannot store that a container is being started", "container", c.id, "error", err)
		return
	}
	a.shown = true
	c.event(events.ActionStart, a.attributes())
	a.finish(nil)
}

func (a *attempt) attributes() map[string]string {
	if !a.fresh {
		return nil
	}
	return map[string]string{"sockerless.filesystem": "fresh"}
}

// place has the cloud accept an execution. If the answer cannot be stored, it is called again to store it.
func (r *run) place() {
	if r.recovered {
		r.resolve()
		return
	}
	if r.accepted == nil {
		r.accepted = r.order()
	}
	if r.accepted == nil {
		return // the next Open finds out
	}
	if err := r.accepted.err; err != nil {
		next := stageEnding // something may run all the same
		if definite(err) {
			next = stageOver
		}
		r.failed(err, codeEngine, next)
		return
	}
	r.placed(r.accepted.run)
}

// order asks the driver for the execution. It returns nil if the engine closes before there is an answer.
func (r *run) order() *acceptance {
	r.c.mu.Lock()
	spec := r.e.spec(r.c.rec)
	spec.ID, spec.Previous = r.id, r.c.rec.Run.Previous
	a := r.c.attempt
	r.c.mu.Unlock()
	spec.Secret, _ = r.e.opt.Key.Secret(r.id) // of a length that there is
	if a != nil && a.fresh {
		r.e.log.Warn("a container starts with a fresh file system: its earlier execution has ended", "container", r.c.id)
	}
	spec.Credential = r.e.opt.Images.Credential(spec.Image)
	// Not ended by kill or rm: a request that is given up half way leaves open what runs. Both wait for its answer.
	placed, err := r.e.opt.Driver.Start(r.e.ctx, spec)
	if err != nil && r.e.ctx.Err() != nil {
		return nil
	}
	return &acceptance{run: placed, err: err}
}

// definite says whether an error of a start is a refusal, after which nothing can run. With any other the driver may
// have got no answer, or none to its attempt to undo the start.
func definite(err error) bool {
	switch sockerless.ErrorCode(err) {
	case sockerless.EINVALID, sockerless.EUNAUTHORIZED, sockerless.EFORBIDDEN, sockerless.EUNSUPPORTED:
		return true
	}
	return false
}

// placed stores the execution. If the start was cancelled meanwhile, it is what has to be stopped.
func (r *run) placed(placed driver.Run) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.must(r.c.change(func(rec *record) {
		rec.Run.Run = placed
		if rec.Run.Stage == stageIntent {
			rec.Run.Stage = stagePlaced
		}
	}))
}

// meet waits for the execution's agent.
func (r *run) meet() {
	deadline := time.NewTimer(time.Until(r.deadline()))
	defer deadline.Stop()
	var told time.Time // since when the cloud gives a reason
	for r.stage() == stagePlaced && r.e.ctx.Err() == nil {
		what, n := r.next(deadline.C)
		switch what {
		case linkUp:
			return
		case ended:
			r.failed(cannotRun(r.c, n.answer.why()), codeEngine, n.answer.left())
		case polled:
			// Container Apps tries for hours to pull an image that cannot be pulled (microsoft/azure-container-apps#1023),
			// so a reason that stays is taken for the last word.
			reason := n.answer.reason
			switch {
			case reason == "":
				told = time.Time{}
			case told.IsZero():
				told = time.Now()
			case time.Since(told) > explainPatience:
				r.failed(cannotRun(r.c, reason), codeEngine, stageEnding)
			}
		case timedOut:
			reason := fmt.Sprintf("its agent did not answer within %s", r.e.opt.Driver.Info().StartGrace)
			if more := r.explain(); more != "" {
				reason += ": " + more
			}
			r.failed(cannotRun(r.c, reason), codeEngine, stageEnding)
		}
	}
}

const explainPatience = 20 * time.Second

// deadline is when a start must have brought an agent.
func (r *run) deadline() time.Time {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	grace := r.e.opt.Driver.Info().StartGrace
	if grace <= 0 {
		grace = 10 * time.Minute
	}
	return r.c.rec.Run.Wanted.Add(grace)
}

// explain asks the cloud why the execution does not come up.
func (r *run) explain() string {
	x, ok := driver.As[driver.Explainer](r.e.opt.Driver)
	if !ok {
		return ""
	}
	ctx, cancel := context.WithTimeout(r.e.ctx, callTimeout)
	defer cancel()
	reason, err := x.Explain(ctx, r.driverRun())
	if err != nil {
		r.warn("cannot ask why an execution does not come up", err)
	}
	return reason
}

// why is the reason why an execution has ended before its process ran.
func (a answer) why() string {
	if a.reason != "" {
		return a.reason
	}
	return whyEnded(a.status)
}

func whyEnded(st driver.Status) string {
	switch {
	case st.Phase == driver.PhaseGone:
		return "the execution is gone"
	case st.Reason != "":
		return "the execution ended: " + st.Reason
	case st.ExitCode != nil:
		return fmt.Sprintf("the execution ended with code %d", *st.ExitCode)
	}
	return "the execution ended without a reason"
}

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

// settle takes the attempt off the container. c.mu is held.
func (c *container) settle() {
	if t := c.attempt.timer; t != nil {
		t.Stop()
	}
	close(c.attempt.settled)
	c.attempt = nil
}

// endAttempt tells a start's asker and those who attached before it. c.mu is held.
func (c *container) endAttempt(err error) {
	if a := c.attempt; a != nil {
		c.settle()
		a.finish(err)
	}
	c.failPending(nil)
	if c.run != nil {
		for _, s := range c.run.joined {
			s.failed.Store(true)
		}
		c.run.joined = nil
	}
}

// failPending ends the sessions that have joined no process. c.mu is held.
func (c *container) failPending(err error) {
	for _, s := range c.pending {
		s.fail(err)
	}
	c.pending = nil
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

// resolve finds out what became of a start that an earlier process had asked for and not heard of: the job list says
// whether there is an execution.
func (r *run) resolve() {
	found, err := r.e.executionOf(r.c.id, r.id)
	switch {
	case r.e.ctx.Err() != nil:
	case err != nil:
		r.warn("cannot list executions", err)
		select {
		case <-time.After(pollFirst):
		case <-r.nudges:
		case <-r.e.ctx.Done():
		}
	case found.Execution != "":
		r.placed(found)
	default:
		// Its request may still arrive: the sweeps stop what comes of it.
		r.e.suspect()
		r.failed(cannotRun(r.c, "the backend ended before the cloud had answered"), codeEngine, stageOver)
	}
}
