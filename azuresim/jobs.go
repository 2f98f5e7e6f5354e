package azuresim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// Provisioning states of a job.
const (
	stateInProgress = "InProgress"
	stateSucceeded  = "Succeeded"
	stateFailed     = "Failed"
	stateDeleting   = "Deleting"
)

// job is one Container Apps job. s.mu guards it.
type job struct {
	sim        *Simulator
	id, name   string
	body       jobBody // as last put, with secrets, without what is read-only
	system     systemData
	state      string
	pending    *operation // the one that provisions or deletes it
	executions []*execution
}

// jobID is the ARM id of the job that the path names.
func (r *armRequest) jobID() string {
	return r.groupID() + "/providers/Microsoft.App/jobs/" + r.vars["job"]
}

// shown is what ARM answers: secrets without their values, read-only properties filled in.
func (j *job) shown(version string) jobBody {
	b, p, c := j.body, *j.body.Properties, *j.body.Properties.Configuration
	b.ID, b.Name, b.Type, b.SystemData = j.id, j.name, "Microsoft.App/jobs", &j.system
	p.ProvisioningState = j.state
	if version >= detailedStatusSince {
		p.RunningState = "Ready"
	}
	p.OutboundIPAddresses = []string{"127.0.0.1"}
	p.EventStreamEndpoint = fmt.Sprintf("https://%s.azurecontainerapps.dev%s/eventstream", b.Location, j.id)
	c.Secrets = secretNames(c.Secrets)
	p.Configuration, b.Properties = &c, &p
	b.Identity = b.Identity.shown(j.sim)
	return b
}

// secretNames are secrets without their values.
func secretNames(all []jobSecret) (names []jobSecret) {
	for _, s := range all {
		names = append(names, jobSecret{Name: s.Name})
	}
	return names
}

// shown is the identity with the ids that the directory knows its identities by.
func (id *jobIdentity) shown(s *Simulator) *jobIdentity {
	if id == nil {
		return &jobIdentity{Type: "None"}
	}
	out := jobIdentity{Type: id.Type, UserAssignedIdentities: map[string]*assignedIdentity{}}
	for rid := range id.UserAssignedIdentities {
		if p := s.entra.byResourceID(rid); p != nil {
			out.UserAssignedIdentities[rid] = &assignedIdentity{PrincipalID: p.ObjectID, ClientID: p.ClientID}
		}
	}
	return &out
}

// busy answers 409 while an operation on the job runs.
func (j *job) busy() error {
	if j.state != stateInProgress && j.state != stateDeleting {
		return nil
	}
	return armErrorf(http.StatusConflict, "ContainerAppOperationInProgress",
		"Cannot modify a container app job '%s' because there is an operation in progress (provisioningState '%s'). Please wait until it is over.", j.name, j.state)
}

// job finds the job that the path names; s.mu is held.
func (r *armRequest) job() (*job, error) {
	if j := r.sim.jobs[strings.ToLower(r.jobID())]; j != nil {
		return j, nil
	}
	return nil, r.notFound("Microsoft.App/jobs", r.vars["job"])
}

func listJobs(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	var all []jobBody
	for _, key := range slices.Sorted(maps.Keys(r.sim.jobs)) {
		if j := r.sim.jobs[key]; r.vars["rg"] == "" || within(j.id, r.groupID()) {
			all = append(all, j.shown(r.version))
		}
	}
	return page(r, all)
}

func getJob(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, j.shown(r.version))
}

func putJob(r *armRequest) error {
	var body jobBody
	if ok, err := r.decode(&body); err != nil {
		return err
	} else if !ok {
		return badRequest("InvalidRequestContent", "The request content was empty.")
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	return r.provision(body, http.StatusCreated)
}

// patchJob applies a JSON merge patch.
func patchJob(r *armRequest) error {
	var patch map[string]any
	if ok, err := r.decode(&patch); err != nil {
		return err
	} else if !ok {
		return badRequest("InvalidRequestContent", "The request content was empty.")
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(j.body)
	if err != nil {
		return err
	}
	var whole map[string]any
	if err := json.Unmarshal(raw, &whole); err != nil {
		return err
	}
	mergePatch(whole, patch)
	if raw, err = json.Marshal(whole); err != nil {
		return err
	}
	var body jobBody
	if err := decodeStrict(raw, &body); err != nil {
		return err
	}
	return r.provision(body, http.StatusAccepted)
}

// mergePatch is RFC 7396.
func mergePatch(target, patch map[string]any) {
	for k, v := range patch {
		sub, isObject := v.(map[string]any)
		switch {
		case v == nil:
			delete(target, k)
		case isObject:
			old, ok := target[k].(map[string]any)
			if !ok {
				old = map[string]any{}
				target[k] = old
			}
			mergePatch(old, sub)
		default:
			target[k] = v
		}
	}
}

// provision validates body and makes or changes the job; s.mu is held. accepted is the status while it goes on.
func (r *armRequest) provision(body jobBody, accepted int) error {
	s := r.sim
	environment := ""
	if body.Properties != nil {
		environment = body.Properties.EnvironmentID
	}
	if err := r.requireLinks("Microsoft.App/jobs/write", environment, body.Identity); err != nil {
		return err
	}
	if err := body.check(r.vars["job"], s.limits); err != nil {
		return err
	}
	if err := r.checkLinks(&links{what: "job", location: body.Location, environmentID: body.Properties.EnvironmentID,
		identity: body.Identity, access: &body.Properties.Configuration.podAccess, template: body.Properties.Template}); err != nil {
		return err
	}
	body.dropReadOnly()
	p := body.Properties
	p.ProvisioningState, p.RunningState, p.OutboundIPAddresses, p.EventStreamEndpoint = "", "", nil, ""

	key := strings.ToLower(r.jobID())
	j := s.jobs[key]
	if j == nil {
		j = &job{sim: s, id: r.jobID(), name: r.vars["job"]}
		s.jobs[key] = j
	} else {
		if err := j.busy(); err != nil {
			return err
		}
		if !strings.EqualFold(j.body.Properties.EnvironmentID, p.EnvironmentID) {
			return badRequest("ContainerAppEnvironmentImmutable", "The environmentId of job '%s' cannot be changed.", j.name)
		}
		if j.state == stateSucceeded && reflect.DeepEqual(j.body, body) {
			return r.answer(http.StatusOK, j.shown(r.version))
		}
	}
	j.body, j.state = body, stateInProgress
	j.system.put(r.who)
	op := r.begin(nil, func(failure *armError) {
		j.state, j.pending = stateSucceeded, nil
		if failure != nil {
			j.state = stateFailed
		}
		s.saveJob(j)
	})
	if !op.done {
		j.pending = op
		s.saveJob(j)
	}
	if accepted == http.StatusAccepted { // PATCH
		if op.done && op.failure != nil {
			return op.failure
		}
		if op.done {
			return r.answer(http.StatusOK, j.shown(r.version))
		}
		op.resultOf = func() any { return j.shown(r.version) }
		r.location(op)
		return r.answer(accepted, nil)
	}
	shown := j.shown(r.version)
	if !op.done || op.failure != nil { // only a poll can tell why an operation failed
		r.asyncOperation(op)
		shown.Properties.ProvisioningState = stateInProgress
	}
	return r.answer(accepted, shown)
}

func listJobSecrets(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, map[string]any{"value": append([]jobSecret{}, j.body.Properties.Configuration.Secrets...)})
}

// deleteJob ends the job's executions and forgets the job once the operation is over.
func deleteJob(r *armRequest) error {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := r.job()
	if err != nil { // deleting what is not there succeeds
		return r.answer(http.StatusNoContent, nil)
	}
	if j.state == stateDeleting {
		r.location(j.pending)
		return r.answer(http.StatusAccepted, nil)
	}
	if err := j.busy(); err != nil {
		return err
	}
	before := j.state
	j.state = stateDeleting
	op := r.begin(nil, func(failure *armError) {
		j.pending = nil
		if failure != nil {
			j.state = before
			s.saveJob(j)
			return
		}
		delete(s.jobs, strings.ToLower(j.id))
		s.dropJob(j)
	})
	if op.failure == nil {
		for _, e := range j.executions {
			e.endWith(statusStopped, "JobDeleted", "The job was deleted.", stopGrace)
		}
	}
	switch {
	case op.done && op.failure != nil:
		return op.failure
	case op.done:
		return r.answer(http.StatusOK, nil)
	}
	j.pending = op
	s.saveJob(j)
	r.location(op)
	return r.answer(http.StatusAccepted, nil)
}

// startJob starts one execution. An empty body runs the job's template, any other replaces it.
func startJob(r *armRequest) error {
	var override executionTemplate
	replaced, err := r.decode(&override)
	if err != nil {
		return err
	}
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	if err := j.busy(); err != nil {
		return err
	}
	if j.state != stateSucceeded {
		return armErrorf(http.StatusConflict, "ContainerAppJobNotProvisioned", "The job '%s' cannot be started because its provisioningState is '%s'.", j.name, j.state)
	}
	if s.closed {
		return armErrorf(http.StatusServiceUnavailable, "ServiceUnavailable", "The simulator is closed.")
	}
	if s.runtime == nil {
		return armErrorf(http.StatusNotImplemented, "UnsupportedBySimulator", "azuresim was started without a runtime for replicas.")
	}
	template := j.body.Properties.Template
	if replaced && (len(override.Containers) > 0 || len(override.InitContainers) > 0) {
		template = template.override(override)
	}
	if err := template.check(&j.body.Properties.Configuration.podAccess); err != nil {
		return err
	}
	var e *execution
	op := r.begin(nil, func(*armError) {})
	if op.failure == nil {
		e = j.start(template)
		op.result = map[string]any{"id": e.id(), "name": e.name}
	}
	switch {
	case op.failure != nil && op.done:
		return op.failure
	case op.done || op.failure == nil && s.dice.below(3) == 0:
		return r.answer(http.StatusOK, op.result)
	}
	r.location(op)
	if op.failure == nil && s.dice.below(2) == 0 { // Azure's CLI counts on a body here; the specification has none
		return r.answer(http.StatusAccepted, op.result)
	}
	return r.answer(http.StatusAccepted, nil)
}

// stopJob stops every execution of the job.
func stopJob(r *armRequest) error {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	stopped := []executionBody{}
	op := r.begin(nil, func(*armError) {})
	if op.failure == nil {
		for _, e := range j.executions {
			if !e.over() {
				e.endWith(statusStopped, "ExecutionStopped", "The execution was stopped.", stopGrace)
				stopped = append(stopped, e.shown(r.version))
			}
		}
		op.result = map[string]any{"value": stopped}
	}
	return r.answerStop(op)
}

func stopExecution(r *armRequest) error {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := r.execution()
	if err != nil {
		return err
	}
	op := r.begin(nil, func(*armError) {})
	if op.failure == nil {
		e.endWith(statusStopped, "ExecutionStopped", "The execution was stopped.", stopGrace)
	}
	return r.answerStop(op)
}

func (r *armRequest) answerStop(op *operation) error {
	switch {
	case op.done && op.failure != nil:
		return op.failure
	case op.done:
		return r.answer(http.StatusOK, op.result)
	}
	r.location(op)
	return r.answer(http.StatusAccepted, nil)
}

func (r *armRequest) execution() (*execution, error) {
	j, err := r.job()
	if err != nil {
		return nil, err
	}
	for _, e := range j.executions {
		if strings.EqualFold(e.name, r.vars["execution"]) {
			return e, nil
		}
	}
	return nil, armErrorf(http.StatusNotFound, "ContainerAppJobExecutionNotFound", "The job execution '%s' of job '%s' was not found.", r.vars["execution"], j.name)
}

func listExecutions(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	j, err := r.job()
	if err != nil {
		return err
	}
	var all []executionBody
	for _, e := range slices.Backward(j.executions) { // newest first
		all = append(all, e.shown(r.version))
	}
	return page(r, all)
}

func getExecution(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.execution()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, e.shown(r.version))
}
