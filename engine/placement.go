package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

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
