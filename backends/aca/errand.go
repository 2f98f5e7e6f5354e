package aca

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca/programs"
	"github.com/sockerless/sockerless/driver"
)

// ErrandResult is how an errand's program has ended.
type ErrandResult struct {
	Succeeded bool
	ExitCode  *int   // nil: this cloud tells no exit codes
	Reason    string // why it has not succeeded, where Azure says so
}

// Errand runs the agent's program once with args, in a job of its own of this name, which is told where the backend is as
// the job of a container is. It returns when the program has ended, when Azure has said twice why it does not begin
// (ErrNotBegun), or when ctx is done: these are errors. The job is deleted before Errand returns, in every case; an error
// says so if it is not.
func (d *Driver) Errand(ctx context.Context, name string, args ...string) (result ErrandResult, err error) {
	if err := d.Usable(); err != nil {
		return result, err
	}
	agent, err := d.agent.pushed(ctx)
	if err != nil {
		return result, err
	}
	var random [64]byte
	rand.Read(random[:]) // it never fails
	spec := driver.Spec{
		Container: hex.EncodeToString(random[:32]), Name: name, ID: hex.EncodeToString(random[32:48]), Secret: make([]byte, 32), Image: agent,
	}
	rand.Read(spec.Secret)
	if server := d.lockedOut(spec); server != "" {
		return result, sockerless.Errorf(sockerless.EUNSUPPORTED, "jobs pull from %s only with an identity that may", server)
	}
	job, err := d.job(spec, agent)
	if err != nil {
		return result, err
	}
	if end, ok := ctx.Deadline(); ok {
		job.Properties.Configuration.ReplicaTimeout = to.Ptr(int32(max(1, math.Ceil(time.Until(end).Seconds()))))
	}
	template := job.Properties.Template
	template.InitContainers, template.Volumes = nil, nil
	main := template.Containers[0]
	main.Command, main.Args = to.SliceOfPtrs(programs.AgentPath), to.SliceOfPtrs(args...)
	main.Resources, main.VolumeMounts = size{sizeStep}.resources(), nil

	run := driver.Run{Container: spec.Container, ID: spec.ID, Job: name}
	if err := d.put(ctx, run, job); err != nil { // which leaves nothing after an error
		return result, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		removed := d.Remove(ctx, run)
		switch {
		case removed == nil:
		case err == nil:
			err = fmt.Errorf("job %s is still there: %w", name, removed)
		default:
			err = fmt.Errorf("%w; and job %s is still there: %w", err, name, removed)
		}
	}()
	if run.Execution, err = d.execute(ctx, run, ""); err != nil {
		return result, explain(err, "start job %s", name)
	}
	return d.await(ctx, run)
}

// ErrNotBegun: Azure says why an errand's program does not begin.
var ErrNotBegun = errors.New("the program does not begin")

// explainEvery is after how many polls of an errand's execution Azure is asked why it does not begin.
const explainEvery = 5

// appearTries is how often an execution that was started may not be there yet.
const appearTries = 10

// await polls an execution until it is over.
func (d *Driver) await(ctx context.Context, run driver.Run) (ErrandResult, error) {
	said := "" // by Azure, the last time
	for polls := 1; ; polls++ {
		e, err := d.execution(ctx, run)
		switch {
		case gone(err) && polls < appearTries: // it may be told of late
		case err != nil && ctx.Err() == nil:
			return ErrandResult{}, explain(err, "read execution %s", run.Execution)
		case err == nil && e.status().Phase == driver.PhaseEnded:
			s := e.status()
			return ErrandResult{Succeeded: e.Properties.Status == "Succeeded", ExitCode: s.ExitCode, Reason: s.Reason}, nil
		}
		if polls%explainEvery == 0 || ctx.Err() != nil {
			// A reason can be over by the next time: an image that could not be pulled at once, for example.
			reason := d.whyNot(ctx, run)
			if reason != "" && (reason == said || ctx.Err() != nil) {
				return ErrandResult{}, sockerless.Errorf(sockerless.EUNAVAILABLE, "execution %s: %w: %s", run.Execution, ErrNotBegun, reason)
			}
			said = reason
		}
		select {
		case <-time.After(d.every):
		case <-ctx.Done():
			return ErrandResult{}, sockerless.Errorf(sockerless.ETIMEOUT, "execution %s has not ended in time", run.Execution)
		}
	}
}

// whyNot is Explain for somebody who has something better to do than to hear why it cannot be asked.
func (d *Driver) whyNot(ctx context.Context, run driver.Run) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	reason, err := d.Explain(ctx, run)
	if err != nil {
		d.log.Debug("cannot ask why an execution does not begin", "execution", run.Execution, "error", err)
	}
	return reason
}
