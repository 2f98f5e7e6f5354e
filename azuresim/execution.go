package azuresim

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Statuses of an execution.
const (
	statusProcessing = "Processing"
	statusRunning    = "Running"
	statusStopped    = "Stopped"
	statusFailed     = "Failed"
	statusSucceeded  = "Succeeded"
)

// stopGrace is the platform's time from SIGTERM to SIGKILL (microsoft/azure-container-apps#1669).
const stopGrace = 30 * time.Second

// agentPort is the port to which an execution's name leads.
const agentPort = 9111

// execution is one run of a job. s.mu guards what is not constant.
type execution struct {
	job      *job
	name     string
	template *jobTemplate // constant
	started  time.Time    // constant

	status   string
	ended    time.Time
	reason   string
	message  string
	replicas []*replicaRecord

	ending *ending       // why it was asked to end; set once
	end    chan struct{} // closed with ending; nil after a restart of the simulator
	again  chan struct{} // asks for another replica: preemption
}

// ending is the request to end an execution.
type ending struct {
	status, reason, message string
	grace                   time.Duration
}

// replicaRecord is what is known of one replica.
type replicaRecord struct {
	Name       string            `json:"name"`
	Containers []containerRecord `json:"containers"`
}

type containerRecord struct {
	Name                  string `json:"name"`
	Code                  *int   `json:"code,omitempty"`
	AdditionalInformation string `json:"additionalInformation,omitempty"`
	Status                string `json:"status,omitempty"`
}

// executionBody is an execution as ARM shows it.
type executionBody struct {
	ID         string              `json:"id"`
	Name       string              `json:"name"`
	Type       string              `json:"type"`
	Properties executionProperties `json:"properties"`
}

type executionProperties struct {
	Status         string            `json:"status"`
	StartTime      string            `json:"startTime"`
	EndTime        string            `json:"endTime,omitempty"`
	Template       executionTemplate `json:"template"`
	DetailedStatus *detailedStatus   `json:"detailedStatus,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	Message        string            `json:"message,omitempty"`
}

type detailedStatus struct {
	Replicas []replicaRecord `json:"replicas"`
}

func (e *execution) id() string { return e.job.id + "/executions/" + e.name }

func (e *execution) over() bool {
	return e.status != statusProcessing && e.status != statusRunning
}

// shown is the execution as ARM answers it; exit codes appear with the api-version that has them.
func (e *execution) shown(version string) executionBody {
	b := executionBody{ID: e.id(), Name: e.name, Type: "Microsoft.App/jobs/executions",
		Properties: executionProperties{Status: e.status, StartTime: armTime(e.started), Template: e.template.shown()}}
	if e.over() {
		b.Properties.EndTime = armTime(e.ended)
	}
	if version >= detailedStatusSince {
		b.Properties.Reason, b.Properties.Message = e.reason, e.message
		b.Properties.DetailedStatus = &detailedStatus{Replicas: []replicaRecord{}}
		for _, r := range e.replicas {
			b.Properties.DetailedStatus.Replicas = append(b.Properties.DetailedStatus.Replicas, *r)
		}
	}
	return b
}

// start makes an execution and lets it run; s.mu is held.
func (j *job) start(template *jobTemplate) *execution {
	s := j.sim
	e := &execution{job: j, name: j.freeName(), template: template, started: time.Now(),
		status: statusProcessing, end: make(chan struct{}), again: make(chan struct{}, 1)}
	j.executions = append(j.executions, e)
	j.trimHistory()
	s.saveJob(j)
	s.running.Add(1)
	env := s.environments[strings.ToLower(j.body.Properties.EnvironmentID)]
	run := &run{execution: e, body: j.body, pod: &pod{sim: s, env: env, workspace: env.customerID(), owner: owner{job: j.name, execution: e.name},
		identity: j.body.Identity, access: &j.body.Properties.Configuration.podAccess, template: template,
		platform: []string{"CONTAINER_APP_JOB_NAME=" + j.name, "CONTAINER_APP_JOB_EXECUTION_NAME=" + e.name}}}
	go run.do() // ends with the execution, which endWith brings about, at the latest in Close
	return e
}

// freeName draws the name of an execution: a seed draws the same ones again after a restart. s.mu is held.
func (j *job) freeName() string {
	for {
		name := j.name + "-" + j.sim.dice.suffix(7)
		if !slices.ContainsFunc(j.executions, func(e *execution) bool { return e.name == name }) {
			return name
		}
	}
}

// trimHistory forgets the oldest executions beyond Azure's history; s.mu is held.
func (j *job) trimHistory() {
	for over := len(j.executions) - j.sim.limits.history; over > 0; over-- {
		for i, e := range j.executions {
			if e.over() {
				j.executions = append(j.executions[:i:i], j.executions[i+1:]...)
				break
			}
		}
	}
}

// endWith asks the execution to end with the status; only the first request counts. s.mu is held.
func (e *execution) endWith(status, reason, message string, grace time.Duration) {
	if e.over() || e.ending != nil {
		return
	}
	e.ending = &ending{status, reason, message, grace}
	close(e.end)
}

// Preempt takes the execution's replica away, as a node that leaves does: the old one gets its SIGTERM while a new one
// is already started, whatever the retry limit says (microsoft/azure-container-apps#1477).
func (s *Simulator) Preempt(execution string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		for _, e := range j.executions {
			if e.name != execution {
				continue
			}
			if e.over() || e.ending != nil {
				return fmt.Errorf("cannot preempt %s: it is not running", execution)
			}
			select {
			case e.again <- struct{}{}:
			default: // one is asked for already
			}
			return nil
		}
	}
	return fmt.Errorf("cannot preempt %s: there is no such execution", execution)
}

// run is the life of one execution, seen from its goroutine. Its fields are constant.
type run struct {
	*pod
	execution  *execution
	body       jobBody        // the job as it was at the start
	stragglers sync.WaitGroup // replicas that were taken away and are still ending
}

// do runs replicas until one of them says how the execution ends.
func (r *run) do() {
	s, e := r.sim, r.execution
	defer s.running.Done()
	defer r.stragglers.Wait()
	limit := int(r.body.Properties.Configuration.ReplicaRetryLimit)
	for failures := 0; ; {
		outcome, again := r.replica()
		if again {
			continue
		}
		if outcome.status == statusFailed && outcome.retry && failures < limit {
			failures++
			continue
		}
		if outcome.status == statusFailed && outcome.retry {
			r.event(Event{Time: time.Now(), Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit", Type: "Warning"}, "")
			outcome.reason, outcome.message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
		}
		if outcome.status == statusSucceeded {
			r.event(Event{Time: time.Now(), Reason: "Completed", Message: "Execution has successfully completed", Type: "Normal"}, "")
		}
		r.pause(s.dice.in(s.delays.Status))
		s.mu.Lock()
		e.status, e.reason, e.message, e.ended = outcome.status, outcome.reason, outcome.message, time.Now()
		s.saveJob(e.job)
		s.mu.Unlock()
		return
	}
}

// pause waits, unless the simulator is closed meanwhile.
func (r *run) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.sim.done:
	}
}

// outcome is how a replica, and so perhaps the execution, ended.
type outcome struct {
	status, reason, message string
	retry                   bool // a failure that the retry limit counts
}

func (en *ending) outcome() outcome {
	return outcome{status: en.status, reason: en.reason, message: en.message}
}

// replica runs one replica to its end. It tells true when another has to take its place.
func (r *run) replica() (outcome, bool) {
	s, e := r.sim, r.execution
	name := e.name + "-" + s.dice.suffix(5)
	record := &replicaRecord{Name: name}
	for _, c := range e.template.Containers {
		record.Containers = append(record.Containers, containerRecord{Name: c.Name, Status: "Waiting"})
	}
	s.mu.Lock()
	e.replicas = append(e.replicas, record)
	s.mu.Unlock()

	r.event(Event{Time: time.Now(), Reason: "SuccessfulCreate", Message: "Successfully created pod for Job Execution " + e.name, Type: "Normal"}, name)
	provision := time.NewTimer(s.dice.in(s.delays.Provision))
	defer provision.Stop()
	select {
	case <-provision.C:
	case <-e.end:
		return e.ending.outcome(), false
	}

	spec, release, err := r.spec(name)
	defer func() {
		if release != nil {
			release()
		}
	}()
	if err != nil {
		return outcome{status: statusFailed, reason: "ContainerCreateFailure", message: err.Error()}, false
	}
	replica, err := s.runtime.Start(context.Background(), spec) // a replica outlives the request that asked for it
	if err != nil {
		s.log.Error("replica did not start", "replica", name, "error", err)
		return outcome{status: statusFailed, reason: "ContainerCreateFailure", message: err.Error()}, false
	}
	unbind := s.zone.bind(e.name, r.env.domain(), func(ctx context.Context) (net.Conn, error) {
		return replica.DialContext(ctx, agentPort)
	})
	defer unbind()
	running := time.NewTimer(s.dice.in(s.delays.Status))
	defer running.Stop()
	timeout := time.NewTimer(time.Duration(r.body.Properties.Configuration.ReplicaTimeout) * time.Second)
	defer timeout.Stop()
	for {
		select {
		case <-running.C:
			s.mu.Lock()
			e.status = statusRunning
			s.saveJob(e.job)
			s.mu.Unlock()
		case <-replica.Done():
			return r.finished(record, replica.Result()), false
		case <-timeout.C:
			replica.Stop(stopGrace)
			s.await(replica)
			r.finished(record, replica.Result())
			return outcome{status: statusFailed, reason: "DeadlineExceeded", message: "Job was active longer than specified deadline"}, false
		case <-e.end:
			replica.Stop(e.ending.grace)
			s.await(replica)
			r.finished(record, replica.Result())
			return e.ending.outcome(), false
		case <-e.again:
			r.event(Event{Time: time.Now(), Reason: "Preempted", Message: "Replica '" + name + "' was preempted.", Type: "Warning"}, name)
			replica.Stop(stopGrace)
			keep := release
			release = nil
			r.stragglers.Go(func() { // ends with the old replica, which Stop has doomed
				s.await(replica)
				r.finished(record, replica.Result())
				keep()
			})
			return outcome{}, true
		}
	}
}

// finished records what became of a replica's containers and tells what that means for the execution.
func (r *run) finished(record *replicaRecord, result ReplicaResult) outcome {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	o := outcome{status: statusSucceeded}
	var containers []containerRecord
	for _, c := range result.Containers {
		code, info := c.ExitCode, "Completed"
		switch {
		case c.OOMKilled:
			info = "OOMKilled"
		case code != 0:
			info = "Error"
		}
		if code != 0 {
			o = outcome{status: statusFailed, retry: true}
		}
		containers = append(containers, containerRecord{Name: c.Name, Code: &code, AdditionalInformation: info, Status: "Terminated"})
	}
	if result.Err != nil {
		o = outcome{status: statusFailed, reason: "ContainerCreateFailure", message: result.Err.Error()}
	}
	for _, c := range record.Containers { // those that never ran have no code
		ran := false
		for _, done := range containers {
			ran = ran || done.Name == c.Name
		}
		if !ran {
			containers = append(containers, containerRecord{Name: c.Name, Status: "Waiting", AdditionalInformation: "ContainerCreating"})
			o.status = statusFailed
		}
	}
	record.Containers = containers
	return o
}
