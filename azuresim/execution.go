package azuresim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
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
	run := &run{sim: s, execution: e, body: j.body, env: env, workspace: env.customerID()}
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
	sim        *Simulator
	execution  *execution
	body       jobBody // the job as it was at the start
	env        *environment
	workspace  string         // customer id of the one that the environment logs to; empty: none
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
			r.await(replica)
			r.finished(record, replica.Result())
			return outcome{status: statusFailed, reason: "DeadlineExceeded", message: "Job was active longer than specified deadline"}, false
		case <-e.end:
			replica.Stop(e.ending.grace)
			r.await(replica)
			r.finished(record, replica.Result())
			return e.ending.outcome(), false
		case <-e.again:
			r.event(Event{Time: time.Now(), Reason: "Preempted", Message: "Replica '" + name + "' was preempted.", Type: "Warning"}, name)
			replica.Stop(stopGrace)
			keep := release
			release = nil
			r.stragglers.Go(func() { // ends with the old replica, which Stop has doomed
				r.await(replica)
				r.finished(record, replica.Result())
				keep()
			})
			return outcome{}, true
		}
	}
}

// await waits for a replica that was told to stop, and makes it quick when the simulator is closed meanwhile.
func (r *run) await(replica Replica) {
	select {
	case <-replica.Done():
	case <-r.sim.done:
		replica.Stop(closeGrace)
		<-replica.Done()
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

// event writes a row of the system log.
func (r *run) event(ev Event, replica string) {
	r.sim.logs.system(systemRow{workspace: r.workspace, environment: domainPrefix(r.env.Name), job: r.execution.job.name, execution: r.execution.name, replica: replica, event: ev})
}

// spec is the order to the runtime; release takes back what the replica was given.
func (r *run) spec(name string) (spec ReplicaSpec, release func(), err error) {
	s, e, c := r.sim, r.execution, r.body.Properties.Configuration
	spec = ReplicaSpec{Name: name, Hostname: name, Shares: map[string]string{},
		Pull:     r.keychain(),
		Insecure: func(registry string) bool { return isLoopbackName(hostOf(registry)) },
		Output: func(container, stream string, line []byte) {
			s.logs.console(consoleRow{workspace: r.workspace, environment: domainPrefix(r.env.Name), job: e.job.name, replica: name, container: container,
				image: e.template.image(container), stream: stream, line: string(line), time: time.Now()})
		},
		Events: func(ev Event) { r.event(ev, name) },
	}
	readOnly := map[string]bool{}
	for _, v := range e.template.Volumes {
		if v.StorageName == "" {
			spec.EmptyDirs = append(spec.EmptyDirs, v.Name)
			continue
		}
		s.mu.Lock()
		st := r.env.Storages[v.StorageName]
		s.mu.Unlock()
		if st == nil {
			return spec, nil, fmt.Errorf("cannot mount volume '%s': managed environment storage '%s' was deleted", v.Name, v.StorageName)
		}
		folder := filepath.Join(s.dir, st.folder())
		if err := errors.Join(os.MkdirAll(folder, 0o777), os.Chmod(folder, 0o777)); err != nil {
			return spec, nil, fmt.Errorf("cannot mount volume '%s': %w", v.Name, err)
		}
		spec.Shares[v.Name], readOnly[v.Name] = folder, st.readOnly()
	}
	base := []string{
		"CONTAINER_APP_JOB_NAME=" + e.job.name, "CONTAINER_APP_JOB_EXECUTION_NAME=" + e.name,
		"CONTAINER_APP_REPLICA_NAME=" + name, "CONTAINER_APP_ENV_DNS_SUFFIX=" + r.env.domain(),
	}
	var headers []string
	release = func() {
		for _, h := range headers {
			s.entra.revokeHeader(h)
		}
	}
	for _, kind := range []struct {
		lifecycle  string
		containers []jobContainer
		to         *[]ContainerSpec
	}{{"Init", e.template.InitContainers, &spec.Init}, {"Main", e.template.Containers, &spec.Containers}} {
		env := base
		if ids := r.identitiesFor(kind.lifecycle); len(ids) > 0 && len(kind.containers) > 0 {
			header := s.entra.grantHeader(msiGrant{identities: ids})
			headers = append(headers, header)
			plain, _ := s.addr.get()
			endpoint := "http://host.azuresim.internal:" + portOf(plain) + "/msi/token"
			env = append(env[:len(env):len(env)], "IDENTITY_ENDPOINT="+endpoint, "IDENTITY_HEADER="+header,
				"MSI_ENDPOINT="+endpoint, "MSI_SECRET="+header)
		}
		for _, ct := range kind.containers {
			cs, err := r.container(ct, c, env, &spec, readOnly)
			if err != nil {
				release()
				return spec, nil, err
			}
			*kind.to = append(*kind.to, cs)
		}
	}
	for _, cs := range spec.Containers {
		spec.Resources.CPU += cs.Resources.CPU
		spec.Resources.MemoryBytes += cs.Resources.MemoryBytes
	}
	return spec, release, nil
}

func (r *run) container(ct jobContainer, c *jobConfiguration, platform []string, spec *ReplicaSpec, readOnly map[string]bool) (ContainerSpec, error) {
	gi, _ := ct.Resources.memory()
	cs := ContainerSpec{Name: ct.Name, Image: ct.Image, Command: ct.Command, Args: ct.Args,
		Resources: Resources{CPU: ct.Resources.CPU, MemoryBytes: int64(gi * (1 << 30))}}
	cs.Env = append(cs.Env, platform...)
	for _, e := range ct.Env {
		value := e.Value
		if e.SecretRef != "" {
			value, _ = c.secret(e.SecretRef) // checked when the job was put
		}
		cs.Env = append(cs.Env, e.Name+"="+value)
	}
	for _, m := range ct.VolumeMounts {
		volume := m.VolumeName
		if m.SubPath != "" { // the runtime knows whole volumes only: a folder of a share is one of its own
			folder, err := makeSubPath(spec.Shares[volume], m.SubPath)
			if err != nil {
				return cs, fmt.Errorf("cannot mount volume '%s': %w", m.VolumeName, err)
			}
			volume += "/" + m.SubPath
			spec.Shares[volume] = folder
		}
		cs.Mounts = append(cs.Mounts, Mount{Volume: volume, Path: m.MountPath, ReadOnly: readOnly[m.VolumeName]})
	}
	return cs, nil
}

// makeSubPath makes a folder of a share. A link that a container left there must not lead out of it, so os.Root walks it.
func makeSubPath(share, subPath string) (string, error) {
	root, err := os.OpenRoot(share)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := root.MkdirAll(subPath, 0o777); err != nil {
		return "", err
	}
	info, err := root.Stat(subPath)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no folder", subPath)
	}
	return filepath.Join(share, subPath), nil
}

// image is what the container of that name runs.
func (t *jobTemplate) image(container string) string {
	for _, list := range [][]jobContainer{t.Containers, t.InitContainers} {
		for _, c := range list {
			if c.Name == container {
				return c.Image
			}
		}
	}
	return ""
}

// identitiesFor lists the identities whose tokens containers of a kind ("Init" or "Main") may have.
func (r *run) identitiesFor(lifecycle string) []*Principal {
	var out []*Principal
	if r.body.Identity == nil {
		return nil
	}
	for rid := range r.body.Identity.UserAssignedIdentities {
		allowed := true
		for _, is := range r.body.Properties.Configuration.IdentitySettings {
			if strings.EqualFold(is.Identity, rid) {
				allowed = is.Lifecycle == "" || is.Lifecycle == "All" || is.Lifecycle == lifecycle
			}
		}
		if p := r.sim.entra.byResourceID(rid); p != nil && allowed {
			out = append(out, p)
		}
	}
	return out
}

// keychain has the credentials of the job's registries.
func (r *run) keychain() authn.Keychain { return jobKeychain{r} }

type jobKeychain struct{ run *run }

// Resolve mints an ACR refresh token for a registry with an identity, as Container Apps does, and hands out the secret of others.
func (k jobKeychain) Resolve(resource authn.Resource) (authn.Authenticator, error) {
	c := k.run.body.Properties.Configuration
	for _, reg := range c.Registries {
		if reg.Server != resource.RegistryStr() {
			continue
		}
		if reg.Identity == "" {
			password, _ := c.secret(reg.PasswordSecretRef)
			return authn.FromConfig(authn.AuthConfig{Username: reg.Username, Password: password}), nil
		}
		registry := k.run.sim.registryOf(reg.Server)
		if registry == nil {
			return nil, fmt.Errorf("the registry %s does not exist", reg.Server)
		}
		token, err := registry.refreshToken(k.run.sim.entra.byResourceID(reg.Identity))
		if err != nil {
			return nil, err
		}
		return authn.FromConfig(authn.AuthConfig{Username: acrTokenUser, Password: token}), nil
	}
	return authn.Anonymous, nil
}

func hostOf(registry string) string {
	if host, _, err := net.SplitHostPort(registry); err == nil {
		return host
	}
	return registry
}
