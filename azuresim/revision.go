package azuresim

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"
)

// revision is one version of an app's template, and the replica that runs it. s.mu guards what is not constant.
type revision struct {
	app      *app
	name     string       // constant
	template *appTemplate // constant
	created  time.Time    // constant

	active  bool
	proxy   *httputil.ReverseProxy // leads to its replica; nil until that takes connections
	problem string                 // why the last replica ended

	stopIn time.Duration // set before end is closed
	end    chan struct{}
}

// revise makes a revision of the app's template and runs it. The one before goes when this one takes connections; s.mu is held.
func (a *app) revise() {
	s, t := a.sim, a.body.Properties.Template
	suffix := t.RevisionSuffix
	for suffix == "" || slices.ContainsFunc(a.revisions, func(v *revision) bool { return v.name == a.name+"--"+suffix }) {
		suffix = s.dice.suffix(7)
	}
	v := &revision{app: a, name: a.name + "--" + suffix, template: t, created: time.Now(), active: true, end: make(chan struct{})}
	a.revisions = append(a.revisions, v)
	s.running.Add(1)
	go v.run() // ends with the revision, which deactivate brings about, at the latest in Close
}

// deactivate ends the revision's replica; s.mu is held.
func (v *revision) deactivate(grace time.Duration) {
	if !v.active {
		return
	}
	v.active, v.proxy, v.stopIn = false, nil, grace
	close(v.end)
}

// pod is the revision with the app's configuration as it is now.
func (v *revision) pod() *pod {
	a := v.app
	s := a.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	env := s.environments[strings.ToLower(a.body.Properties.EnvironmentID)]
	access := a.body.Properties.Configuration.podAccess
	platform := []string{"CONTAINER_APP_NAME=" + a.name, "CONTAINER_APP_REVISION=" + v.name}
	if i := a.body.Properties.Configuration.Ingress; i != nil {
		platform = append(platform, "CONTAINER_APP_HOSTNAME="+v.name+"."+env.domain(), fmt.Sprintf("CONTAINER_APP_PORT=%d", i.TargetPort))
	}
	return &pod{sim: s, env: env, workspace: env.customerID(), owner: owner{app: a.name, revision: v.name},
		identity: a.body.Identity, access: &access, template: &v.template.jobTemplate, platform: platform,
		// An app may deal with images, and a registry has one name, wherever it is asked for by that.
		loopback: s.registryPorts()}
}

// Between the end of a replica and the start of the next, doubling: kubelet's figures, but for the first.
const (
	firstRestart = time.Second
	lastRestart  = 5 * time.Minute
	probeEvery   = 100 * time.Millisecond
)

// run keeps one replica running until the revision is deactivated. A replica that ended is followed by another with empty
// EmptyDirs, where Container Apps would first start its container again.
func (v *revision) run() {
	s := v.app.sim
	defer s.running.Done()
	for pause := firstRestart; ; pause = min(2*pause, lastRestart) {
		problem, over := v.runReplica()
		if over {
			return
		}
		s.mu.Lock()
		v.problem = problem
		s.mu.Unlock()
		s.log.Info("replica of an app ended", "revision", v.name, "reason", problem)
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-v.end:
			next.Stop()
			return
		}
	}
}

// runReplica runs one replica to its end. over tells that the revision has ended.
func (v *revision) runReplica() (problem string, over bool) {
	s, p := v.app.sim, v.pod()
	name := v.name + "-" + s.dice.suffix(10) + "-" + s.dice.suffix(5)
	p.event(Event{Time: time.Now(), Reason: "SuccessfulCreate", Message: "Successfully created pod for revision " + v.name, Type: "Normal"}, name)
	provision := time.NewTimer(s.dice.in(s.delays.Provision))
	defer provision.Stop()
	select {
	case <-provision.C:
	case <-v.end:
		return "", true
	}
	spec, release, err := p.spec(name)
	if err != nil {
		return err.Error(), false
	}
	defer release()
	replica, err := s.runtime.Start(context.Background(), spec) // a replica outlives the request that asked for it
	if err != nil {
		return err.Error(), false
	}
	probing, cancel := context.WithCancel(context.Background())
	defer cancel()
	probed := make(chan struct{})
	go func() { // ends with probing, at the latest
		defer close(probed)
		v.probe(probing, replica)
	}()
	select {
	case <-replica.Done():
		cancel()
		<-probed
		s.mu.Lock()
		v.proxy = nil
		s.mu.Unlock()
		return outcomeOf(replica.Result()), false
	case <-v.end:
		cancel()
		<-probed
		replica.Stop(v.stopIn)
		s.await(replica)
		return "", true
	}
}

// probe is Container Apps' default for an app with ingress: a replica is ready when its port takes connections. Then it
// gets the requests, and the revisions before it are ended.
func (v *revision) probe(ctx context.Context, replica Replica) {
	a, s := v.app, v.app.sim
	for {
		s.mu.Lock()
		i := a.body.Properties.Configuration.Ingress
		s.mu.Unlock()
		port := uint16(0)
		if i != nil {
			port = uint16(i.TargetPort)
			c, err := replica.DialContext(ctx, port)
			if err != nil {
				select {
				case <-time.After(probeEvery):
					continue
				case <-ctx.Done():
					return
				}
			}
			c.Close()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() != nil || !v.active {
			return
		}
		v.proxy = newProxy(replica, port)
		for _, older := range a.revisions[:slices.Index(a.revisions, v)] {
			older.deactivate(older.template.grace())
		}
		return
	}
}

// outcomeOf says in a line how a replica ended.
func outcomeOf(r ReplicaResult) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	for _, c := range r.Containers {
		if c.OOMKilled {
			return fmt.Sprintf("Container '%s' was terminated: OOMKilled", c.Name)
		}
		if c.ExitCode != 0 {
			return fmt.Sprintf("Container '%s' was terminated with exit code '%d'", c.Name, c.ExitCode)
		}
	}
	return "every container has ended"
}

// revisionBody is a revision as ARM shows it.
type revisionBody struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Type       string             `json:"type"`
	Properties revisionProperties `json:"properties"`
}

type revisionProperties struct {
	CreatedTime       string       `json:"createdTime"`
	Fqdn              string       `json:"fqdn,omitempty"`
	Template          *appTemplate `json:"template"`
	Active            bool         `json:"active"`
	Replicas          int          `json:"replicas"`
	TrafficWeight     int          `json:"trafficWeight"`
	ProvisioningError string       `json:"provisioningError,omitempty"`
	HealthState       string       `json:"healthState"`
	ProvisioningState string       `json:"provisioningState"`
	RunningState      string       `json:"runningState"`
}

func (v *revision) shown() revisionBody {
	a := v.app
	p := revisionProperties{CreatedTime: armTime(v.created), Template: v.template, Active: v.active, ProvisioningState: "Provisioned", HealthState: "None"}
	if a.body.Properties.Configuration.Ingress != nil {
		p.Fqdn = v.name + "." + a.sim.environments[strings.ToLower(a.body.Properties.EnvironmentID)].domain()
	}
	switch {
	case !v.active:
		p.RunningState = "Stopped"
	case v.proxy != nil:
		p.RunningState, p.HealthState, p.Replicas = "Running", "Healthy", 1
	case v.problem != "":
		p.RunningState, p.HealthState, p.ProvisioningError = "Failed", "Unhealthy", v.problem
	default:
		p.RunningState, p.ProvisioningState, p.Replicas = "Processing", "Provisioning", 1
	}
	if v == a.ready() {
		p.TrafficWeight = 100
	}
	return revisionBody{ID: a.id + "/revisions/" + v.name, Name: v.name, Type: appKind + "/revisions", Properties: p}
}

func listRevisions(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a, err := r.app()
	if err != nil {
		return err
	}
	var all []revisionBody
	for _, v := range a.revisions {
		all = append(all, v.shown())
	}
	return page(r, all)
}

func getRevision(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a, err := r.app()
	if err != nil {
		return err
	}
	for _, v := range a.revisions {
		if strings.EqualFold(v.name, r.vars["revision"]) {
			return r.answer(http.StatusOK, v.shown())
		}
	}
	return armErrorf(http.StatusNotFound, "ContainerAppRevisionNotFound", "The revision '%s' of container app '%s' was not found.", r.vars["revision"], a.name)
}
