package aca

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Start makes or changes the job of spec.Container and starts one execution: one PUT and one POST, and the polls of
// their operations. The POST is not repeated unless Azure has refused it for the time being; after an answer that is
// lost or unclear the job's executions are listed, and the one that belongs to this start is adopted.
func (d *Driver) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	if _, err := d.Check(spec); err != nil {
		return driver.Run{}, err
	}
	if !runPattern.MatchString(spec.ID) || len(spec.Secret) != 32 {
		return driver.Run{}, sockerless.Errorf(sockerless.EINVALID, "cannot start run %q: it needs an id of 32 hexadecimal digits and a secret of 32 bytes", spec.ID)
	}
	agent, err := d.agent.pushed(ctx)
	if err != nil {
		return driver.Run{}, err
	}
	job, err := d.job(spec, agent)
	if err != nil {
		return driver.Run{}, err
	}
	run := driver.Run{Container: spec.Container, ID: spec.ID, Job: jobName(spec.Container)}
	if err := d.put(ctx, run, job); err != nil {
		return driver.Run{}, err
	}
	if run.Execution, err = d.execute(ctx, run, spec.Previous); err != nil {
		return driver.Run{}, d.undo(ctx, run, explain(err, "start job %s", run.Job))
	}
	d.started.Store(run.Job+" "+run.ID, run.Execution)
	d.log.Debug("execution started", "job", run.Job, "execution", run.Execution, "container", run.Container)
	return run, nil
}

// put makes or changes the job and waits until it is there. It may be repeated: it is idempotent by name.
func (d *Driver) put(ctx context.Context, run driver.Run, job armappcontainers.Job) error {
	poller, err := d.jobs.BeginCreateOrUpdate(policy.WithRetryOptions(ctx, whileBusy), d.config.ResourceGroup, run.Job, job, nil)
	if err == nil {
		_, err = poller.PollUntilDone(policy.WithRetryOptions(ctx, whileBusy), d.patience())
	} else if definite(err) {
		return explain(err, "create job %s", run.Job) // refused as a whole: there is nothing to undo
	}
	if err != nil {
		return d.undo(ctx, run, explain(err, "create job %s", run.Job))
	}
	return nil
}

// execute starts one execution of the job and returns its name, which is not previous.
func (d *Driver) execute(ctx context.Context, run driver.Run, previous string) (string, error) {
	asked := time.Now()
	var raw *http.Response
	poller, err := d.jobs.BeginStart(policy.WithRetryOptions(policy.WithCaptureResponse(ctx, &raw), once), d.config.ResourceGroup, run.Job, nil)
	if accepted(raw) {
		// Live, the body has the execution's name at once (azure-cli reads it there); the specification has none
		// beside a 202, and then the operation's result tells it.
		var started armappcontainers.JobExecutionBase
		if runtime.UnmarshalAsJSON(raw, &started) == nil && started.Name != nil && *started.Name != "" {
			return *started.Name, nil
		}
	}
	if err == nil {
		var result armappcontainers.JobsClientStartResponse
		result, err = poller.PollUntilDone(policy.WithRetryOptions(ctx, whileBusy), d.patience())
		if err == nil && result.Name != nil && *result.Name != "" {
			return *result.Name, nil
		}
	}
	if err != nil && (definite(err) || ctx.Err() != nil) {
		return "", err
	}
	return d.find(ctx, run, young{since: asked.Add(-skew), not: previous}, err)
}

// find returns the execution of this run after an unclear answer. The list may lag behind, so it is read a few times.
// If there is none, the error is cause.
func (d *Driver) find(ctx context.Context, run driver.Run, guess young, cause error) (string, error) {
	for pause := d.every; ; pause *= 2 {
		name, err := d.lookup(ctx, run, guess)
		if err != nil || name != "" {
			return name, err
		}
		if pause > 8*d.every {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if cause == nil {
		cause = errors.New("the start was accepted, and no execution was named")
	}
	return "", fmt.Errorf("no execution has appeared after an unclear answer: %w", cause)
}

// skew is how far Azure's clock may be from ours.
const skew = 2 * time.Minute

// young says which executions may be taken for a start's where their templates are not shown: a container is started once
// at a time, so the newest that began after the start was asked for, and is not the one before it. The zero value is none.
type young struct {
	since time.Time
	not   string
}

// lookup lists the job's executions once and returns the one of this run; "" if there is none.
func (d *Driver) lookup(ctx context.Context, run driver.Run, guess young) (string, error) {
	var guessed string
	began := guess.since
	pager := d.executions.NewListPager(d.config.ResourceGroup, run.Job, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			if gone(err) {
				return "", nil
			}
			return "", err
		}
		for _, e := range page.Value {
			if e.Name == nil || e.Properties == nil {
				continue
			}
			id, told := runOf(e.Properties.Template)
			switch {
			case told && id == run.ID:
				return *e.Name, nil
			case !told && !guess.since.IsZero() && *e.Name != guess.not && e.Properties.StartTime != nil && e.Properties.StartTime.After(began):
				guessed, began = *e.Name, *e.Properties.StartTime
			}
		}
	}
	return guessed, nil
}

// runOf reads the run's id from an execution's template; told is false if the template does not show it.
func runOf(t *armappcontainers.JobExecutionTemplate) (id string, told bool) {
	if t == nil {
		return "", false
	}
	for _, c := range t.Containers {
		for _, v := range c.Env {
			if v.Name != nil && *v.Name == runVariable && v.Value != nil {
				return *v.Value, true
			}
		}
	}
	return "", false
}

// undoTimeout bounds the deletion of a job whose start went wrong. What it misses is found by Runs.
const undoTimeout = 45 * time.Second

// undo deletes the job after a failed start, so that nothing runs and nothing is left, and returns cause. It does so
// when ctx is done too: a start that was called off is the usual reason.
func (d *Driver) undo(ctx context.Context, run driver.Run, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if _, err := d.delete(ctx, run.Job); err != nil {
		return &sockerless.Error{Code: sockerless.ErrorCode(cause), Err: cause,
			Message: fmt.Sprintf("%v; and its job is still there: %v", cause, explain(err, "delete job %s", run.Job))}
	}
	return cause
}

// delete asks for the job's deletion. It returns a nil poller if the job is gone, or if Azure gave nothing to poll.
func (d *Driver) delete(ctx context.Context, job string) (*runtime.Poller[armappcontainers.JobsClientDeleteResponse], error) {
	var raw *http.Response
	poller, err := d.jobs.BeginDelete(policy.WithRetryOptions(policy.WithCaptureResponse(ctx, &raw), whileBusy), d.config.ResourceGroup, job, nil)
	switch {
	case err == nil:
		return poller, nil
	case gone(err), accepted(raw):
		return nil, nil
	}
	return nil, err
}

// Status says how far an execution is. Exit codes come with the api-version 2026-07-01; without it there are none.
func (d *Driver) Status(ctx context.Context, run driver.Run) (driver.Status, error) {
	if run.Execution == "" { // a job that was never started
		return driver.Status{Phase: driver.PhaseGone}, nil
	}
	e, err := d.execution(ctx, run)
	if gone(err) {
		return driver.Status{Phase: driver.PhaseGone}, nil
	}
	if err != nil {
		return driver.Status{}, explain(err, "read execution %s", run.Execution)
	}
	return e.status(), nil
}

// The api-versions with which an execution is read: the newest stable one tells exit codes, which the SDK's models drop.
const (
	versionWithCodes = "2026-07-01"
	versionWithout   = "2025-01-01"
)

func (d *Driver) execution(ctx context.Context, run driver.Run) (*execution, error) {
	if !executionPattern.MatchString(run.Job) || !executionPattern.MatchString(run.Execution) {
		return nil, sockerless.Errorf(sockerless.EINVALID, "job %q has no execution %q", run.Job, run.Execution)
	}
	path := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.App/jobs/%s/executions/%s",
		url.PathEscape(d.config.Subscription), url.PathEscape(d.config.ResourceGroup), run.Job, run.Execution)
	if !d.noDetails.Load() {
		e := &execution{}
		err := d.get(ctx, path, versionWithCodes, e)
		if !versionRefused(err) {
			return e, err
		}
		d.noDetails.Store(true)
		d.log.Info("this cloud tells no exit codes of executions", "api-version", versionWithCodes)
	}
	e := &execution{}
	return e, d.get(ctx, path, versionWithout, e)
}

// get reads an ARM resource with an api-version of our own.
func (d *Driver) get(ctx context.Context, path, version string, into any) error {
	req, err := runtime.NewRequest(ctx, http.MethodGet, runtime.JoinPaths(d.arm.Endpoint(), path))
	if err != nil {
		return err
	}
	req.Raw().URL.RawQuery = url.Values{"api-version": {version}}.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := d.arm.Pipeline().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return runtime.NewResponseError(resp)
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("cannot read the answer: %w", err)
	}
	return nil
}

// versionRefused says whether a cloud does not know an api-version.
func versionRefused(err error) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || refused.StatusCode != http.StatusBadRequest && refused.StatusCode != http.StatusNotFound {
		return false
	}
	switch refused.ErrorCode {
	case "NoRegisteredProviderFound", "InvalidApiVersionParameter", "InvalidResourceType", "UnsupportedApiVersion":
		return true
	}
	return false
}

// execution is an execution as ARM tells it. Its status is nested: Azure/azure-powershell#24054.
type execution struct {
	Properties struct {
		Status         string     `json:"status"`
		StartTime      *time.Time `json:"startTime"`
		EndTime        *time.Time `json:"endTime"`
		Reason         string     `json:"reason"`
		Message        string     `json:"message"`
		DetailedStatus *struct {
			Replicas []struct {
				Containers []struct {
					Name                  string `json:"name"`
					Code                  *int   `json:"code"`
					AdditionalInformation string `json:"additionalInformation"`
					Status                string `json:"status"`
				} `json:"containers"`
			} `json:"replicas"`
		} `json:"detailedStatus"`
	} `json:"properties"`
}

func (e *execution) status() driver.Status {
	p := e.Properties
	s := driver.Status{Reason: oneLine(strings.Trim(p.Reason+": "+p.Message, ": "))}
	switch p.Status {
	case "Succeeded", "Failed", "Stopped":
		s.Phase = driver.PhaseEnded
	case "Processing", "":
		s.Phase = driver.PhaseStarting
	default: // Running, Degraded, and Unknown, which says nothing of an end
		s.Phase = driver.PhaseRunning
	}
	if p.StartTime != nil {
		s.Started = *p.StartTime
	}
	if p.EndTime != nil {
		s.Ended = *p.EndTime
	}
	if p.DetailedStatus == nil {
		return s
	}
	for _, r := range p.DetailedStatus.Replicas { // the last one that ran counts: a preempted replica is run again
		for _, c := range r.Containers {
			if c.Name != mainContainer {
				continue
			}
			if s.Phase == driver.PhaseEnded && c.Code != nil {
				s.ExitCode = c.Code
			}
			// "Completed" and "Error" say no more than the code does; "OOMKilled" does.
			if info := oneLine(c.AdditionalInformation); s.Reason == "" && s.Phase == driver.PhaseEnded && info != "Completed" && info != "Error" {
				s.Reason = info
			}
		}
	}
	return s
}

// Stop ends the execution and returns once Azure has accepted that.
func (d *Driver) Stop(ctx context.Context, run driver.Run) error {
	if run.Execution == "" {
		return nil
	}
	if !executionPattern.MatchString(run.Execution) {
		return sockerless.Errorf(sockerless.EINVALID, "cannot stop execution %q of job %s: no such name", run.Execution, run.Job)
	}
	var raw *http.Response
	_, err := d.jobs.BeginStopExecution(policy.WithRetryOptions(policy.WithCaptureResponse(ctx, &raw), whileBusy), d.config.ResourceGroup, run.Job, run.Execution, nil)
	if err == nil || gone(err) || accepted(raw) {
		return nil
	}
	if hasStatus(err, http.StatusBadRequest, http.StatusConflict) { // perhaps because it has ended
		if s, statusErr := d.Status(ctx, run); statusErr == nil && (s.Phase == driver.PhaseEnded || s.Phase == driver.PhaseGone) {
			return nil
		}
	}
	return explain(err, "stop execution %s", run.Execution)
}

// Remove deletes the job with its executions and returns once it is gone.
func (d *Driver) Remove(ctx context.Context, run driver.Run) error {
	if !executionPattern.MatchString(run.Job) {
		return sockerless.Errorf(sockerless.EINVALID, "cannot delete job %q: no such name", run.Job)
	}
	poller, err := d.delete(ctx, run.Job)
	if err == nil && poller != nil {
		_, err = poller.PollUntilDone(policy.WithRetryOptions(ctx, whileBusy), d.patience())
	}
	// Without an operation, or with one that is not shown to this principal as another began it, the job tells when it is gone.
	if err == nil && poller == nil || poller != nil && gone(err) {
		err = d.awaitGone(ctx, run.Job)
	}
	if err != nil && !gone(err) {
		return explain(err, "delete job %s", run.Job)
	}
	d.started.Delete(run.Job + " " + run.ID)
	return nil
}

// awaitGone waits for the end of a deletion that Azure gave no way to poll.
func (d *Driver) awaitGone(ctx context.Context, job string) error {
	for {
		_, err := d.jobs.Get(ctx, d.config.ResourceGroup, job, nil)
		if err != nil {
			return err // gone, in the best case
		}
		select {
		case <-time.After(d.every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Runs yields the latest run of every job of this instance. It lists the resource group's jobs; only for a job whose
// start this process has not seen, its executions are listed too. Jobs that are being deleted are not yielded.
func (d *Driver) Runs(ctx context.Context) iter.Seq2[driver.Run, error] {
	return func(yield func(driver.Run, error) bool) {
		pager := d.jobs.NewListByResourceGroupPager(d.config.ResourceGroup, nil)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				yield(driver.Run{}, explain(err, "list the jobs of resource group %s", d.config.ResourceGroup))
				return
			}
			for _, job := range page.Value {
				run, ours := d.runOf(job)
				if !ours {
					continue
				}
				if run.Execution, err = d.latest(ctx, run); err != nil {
					yield(driver.Run{}, explain(err, "list the executions of job %s", run.Job))
					return
				}
				if !yield(run, nil) {
					return
				}
			}
		}
	}
}

// runOf reads a job's tags; ours is false for a job that is not this instance's, or no longer there.
func (d *Driver) runOf(job *armappcontainers.Job) (run driver.Run, ours bool) {
	if job == nil || job.Name == nil || tag(job, TagManagedBy) != ManagedBy || tag(job, TagInstance) != d.instance {
		return run, false
	}
	if p := job.Properties; p != nil && p.ProvisioningState != nil && *p.ProvisioningState == armappcontainers.JobProvisioningStateDeleting {
		return run, false
	}
	return driver.Run{Container: tag(job, tagContainer), ID: tag(job, tagRun), Job: *job.Name}, true
}

// tag returns the value of a tag; ARM keeps the names' case and does not compare it.
func tag(job *armappcontainers.Job, name string) string {
	for k, v := range job.Tags {
		if strings.EqualFold(k, name) && v != nil {
			return *v
		}
	}
	return ""
}

func (d *Driver) latest(ctx context.Context, run driver.Run) (string, error) {
	if name, ok := d.started.Load(run.Job + " " + run.ID); ok {
		return name.(string), nil
	}
	name, err := d.lookup(ctx, run, young{})
	if err == nil && name != "" {
		d.started.Store(run.Job+" "+run.ID, name)
	}
	return name, err
}

// How the SDK repeats requests. It waits as long as Retry-After says, if Azure says it.
var (
	// once is for the POST that costs money: it is sent again only if Azure says that it has done nothing.
	once = policy.RetryOptions{TryTimeout: tryTimeout, ShouldRetry: func(resp *http.Response, err error) bool {
		return err == nil && (resp.StatusCode == http.StatusTooManyRequests || busy(resp))
	}}
	// whileBusy is for what is idempotent by name, and for polls of what goes on anyway. An operation of before, or the same
	// request whose answer was lost, may keep the job busy for some seconds.
	whileBusy = policy.RetryOptions{TryTimeout: tryTimeout, MaxRetries: 6, MaxRetryDelay: 30 * time.Second, ShouldRetry: func(resp *http.Response, err error) bool {
		return err != nil || busy(resp) || runtime.HasStatusCode(resp, http.StatusRequestTimeout, http.StatusTooManyRequests,
			http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
	}}
)

// busy says whether Azure refuses because another operation on the job is going on.
func busy(resp *http.Response) bool {
	if resp.StatusCode != http.StatusConflict {
		return false
	}
	refused, ok := errors.AsType[*azcore.ResponseError](runtime.NewResponseError(resp))
	return ok && strings.HasSuffix(refused.ErrorCode, "OperationInProgress")
}

// accepted says whether Azure has taken a request, whatever the SDK made of the answer: it treats a 202 without an
// address to poll as an error.
func accepted(resp *http.Response) bool {
	return resp != nil && resp.StatusCode >= 200 && resp.StatusCode < 300
}

// definite says whether err is Azure's word that a request had no effect, or that its operation failed. Anything else
// leaves open what has happened.
func definite(err error) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return signInFailed(err)
	}
	switch refused.StatusCode {
	case http.StatusRequestTimeout:
		return false
	case http.StatusConflict:
		// It may be about an operation that we began; of a quota it is Azure's last word.
		return outOfQuota(refused.ErrorCode)
	}
	return refused.StatusCode < 500
}
