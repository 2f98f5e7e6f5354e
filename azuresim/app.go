package azuresim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"reflect"
	"slices"
	"strings"
	"time"
)

const (
	appKind    = "Microsoft.App/containerApps"
	appPattern = groupPattern + "/providers/Microsoft.App/containerApps/{app}"
)

// containerAppRoutes are those of container apps. An app lives until the simulator ends.
var containerAppRoutes = []armRoute{
	{"GET", "subscriptions/{sub}/providers/Microsoft.App/containerApps", appKind + "/read", 2, appVersions, listApps},
	{"GET", groupPattern + "/providers/Microsoft.App/containerApps", appKind + "/read", 4, appVersions, listApps},
	{"GET", appPattern, appKind + "/read", 8, appVersions, getApp},
	{"PUT", appPattern, appKind + "/write", 8, appVersions, putApp},
	{"DELETE", appPattern, appKind + "/delete", 8, appVersions, deleteApp},
	{"POST", appPattern + "/listSecrets", appKind + "/listSecrets/action", 8, appVersions, listAppSecrets},
	{"GET", appPattern + "/revisions", appKind + "/revisions/read", 8, appVersions, listRevisions},
	{"GET", appPattern + "/revisions/{revision}", appKind + "/revisions/read", 8, appVersions, getRevision},
}

// appBody is a container app as ARM takes and shows it; see jobBody.
type appBody struct {
	envelope
	Properties *appProperties `json:"properties,omitempty"`
}

type appProperties struct {
	ProvisioningState          string            `json:"provisioningState,omitempty"`
	RunningStatus              string            `json:"runningStatus,omitempty"`
	ManagedEnvironmentID       string            `json:"managedEnvironmentId,omitempty"` // the older name of environmentId
	EnvironmentID              string            `json:"environmentId,omitempty"`
	WorkloadProfileName        string            `json:"workloadProfileName,omitempty"`
	LatestRevisionName         string            `json:"latestRevisionName,omitempty"`
	LatestReadyRevisionName    string            `json:"latestReadyRevisionName,omitempty"`
	LatestRevisionFqdn         string            `json:"latestRevisionFqdn,omitempty"`
	CustomDomainVerificationID string            `json:"customDomainVerificationId,omitempty"`
	OutboundIPAddresses        []string          `json:"outboundIpAddresses,omitempty"`
	EventStreamEndpoint        string            `json:"eventStreamEndpoint,omitempty"`
	Configuration              *appConfiguration `json:"configuration,omitempty"`
	Template                   *appTemplate      `json:"template,omitempty"`
}

// environment is the ARM id of the environment that the app is in.
func (p *appProperties) environment() string {
	if p.EnvironmentID != "" {
		return p.EnvironmentID
	}
	return p.ManagedEnvironmentID
}

type appConfiguration struct {
	podAccess
	ActiveRevisionsMode  string          `json:"activeRevisionsMode,omitempty"`
	Ingress              *ingress        `json:"ingress,omitempty"`
	MaxInactiveRevisions *int32          `json:"maxInactiveRevisions,omitempty"`
	Dapr                 json.RawMessage `json:"dapr,omitempty"`
}

type appTemplate struct {
	jobTemplate
	RevisionSuffix                string          `json:"revisionSuffix,omitempty"`
	Scale                         *appScale       `json:"scale,omitempty"`
	TerminationGracePeriodSeconds *int64          `json:"terminationGracePeriodSeconds,omitempty"`
	ServiceBinds                  json.RawMessage `json:"serviceBinds,omitempty"`
}

type appScale struct {
	MinReplicas     *int32          `json:"minReplicas,omitempty"`
	MaxReplicas     *int32          `json:"maxReplicas,omitempty"`
	CooldownPeriod  *int32          `json:"cooldownPeriod,omitempty"`
	PollingInterval *int32          `json:"pollingInterval,omitempty"`
	Rules           json.RawMessage `json:"rules,omitempty"`
}

// given tells whether a part that the simulator does not play is asked for.
func given(raw json.RawMessage) bool {
	return !slices.Contains([]string{"", "null", "[]", "{}"}, string(raw))
}

// check validates everything but what depends on other resources, and fills in Azure's defaults.
func (b *appBody) check(name string, l limits) error {
	if err := b.envelope.check(name, l); err != nil {
		return err
	}
	p := b.Properties
	if p == nil || p.Template == nil {
		return badRequest("ContainerAppInvalidTemplate", "The template of container app '%s' is required.", name)
	}
	if p.ManagedEnvironmentID != "" && p.EnvironmentID != "" && !strings.EqualFold(p.ManagedEnvironmentID, p.EnvironmentID) {
		return badRequest("ContainerAppEnvironmentMismatch", "managedEnvironmentId and environmentId must be the same.")
	}
	p.EnvironmentID = p.environment()
	p.ManagedEnvironmentID = p.EnvironmentID
	if err := checkProfile(p.WorkloadProfileName); err != nil {
		return err
	}
	p.WorkloadProfileName = "Consumption" // told even if nobody asked for it
	if p.Configuration == nil {
		p.Configuration = &appConfiguration{}
	}
	if err := p.Configuration.check(); err != nil {
		return err
	}
	return p.Template.check(p.Configuration)
}

func (c *appConfiguration) check() error {
	switch c.ActiveRevisionsMode {
	case "":
		c.ActiveRevisionsMode = "Single"
	case "Single":
	case "Multiple", "Labels":
		return unsupported("container apps with activeRevisionsMode '" + c.ActiveRevisionsMode + "'")
	default:
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%s' of activeRevisionsMode is invalid. Valid values are Multiple, Single, Labels.", c.ActiveRevisionsMode)
	}
	if given(c.Dapr) {
		return unsupported("Dapr")
	}
	c.Dapr = nil
	if c.Ingress != nil {
		if err := c.Ingress.check(); err != nil {
			return err
		}
	}
	return c.podAccess.check()
}

func (t *appTemplate) check(c *appConfiguration) error {
	if given(t.ServiceBinds) {
		return unsupported("serviceBinds")
	}
	t.ServiceBinds = nil
	if t.Scale == nil {
		t.Scale = &appScale{}
	}
	number := func(p **int32, n int32) {
		if *p == nil {
			*p = &n
		}
	}
	number(&t.Scale.MinReplicas, 0)
	number(&t.Scale.MaxReplicas, 10)
	number(&t.Scale.CooldownPeriod, 300)
	number(&t.Scale.PollingInterval, 30)
	if *t.Scale.MinReplicas != 1 || *t.Scale.MaxReplicas != 1 || given(t.Scale.Rules) {
		return unsupported("container apps that scale: minReplicas and maxReplicas must be 1")
	}
	t.Scale.Rules = nil
	if g := t.TerminationGracePeriodSeconds; g != nil && (*g < 0 || *g > 600) {
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%d' of terminationGracePeriodSeconds is invalid. It must be from 0 to 600.", *g)
	}
	if t.RevisionSuffix != "" && !dnsLabel.MatchString(t.RevisionSuffix) {
		return badRequest("ContainerAppInvalidRevisionSuffix", "The revision suffix '%s' is invalid.", t.RevisionSuffix)
	}
	return t.jobTemplate.check(&c.podAccess)
}

// grace is how long a replica has from SIGTERM to SIGKILL.
func (t *appTemplate) grace() time.Duration {
	if t.TerminationGracePeriodSeconds == nil || *t.TerminationGracePeriodSeconds == 0 {
		return stopGrace
	}
	return time.Duration(*t.TerminationGracePeriodSeconds) * time.Second
}

// app is a container app in single-revision mode. s.mu guards it.
type app struct {
	sim       *Simulator
	id, name  string
	body      appBody // as last put, with secrets, without what is read-only
	system    systemData
	state     string
	pending   *operation
	revisions []*revision // oldest first
}

func (r *armRequest) appID() string {
	return r.groupID() + "/providers/" + appKind + "/" + r.vars["app"]
}

// app finds the app that the path names; s.mu is held.
func (r *armRequest) app() (*app, error) {
	if a := r.sim.apps[strings.ToLower(r.appID())]; a != nil {
		return a, nil
	}
	return nil, r.notFound(appKind, r.vars["app"])
}

// latest is the newest revision, or nil.
func (a *app) latest() *revision {
	if len(a.revisions) == 0 {
		return nil
	}
	return a.revisions[len(a.revisions)-1]
}

// ready is the newest revision that is ready, or nil: it has the traffic.
func (a *app) ready() *revision {
	for _, v := range slices.Backward(a.revisions) {
		if v.active && v.proxy != nil {
			return v
		}
	}
	return nil
}

// serving is what passes requests on, or nil.
func (a *app) serving() *httputil.ReverseProxy {
	if v := a.ready(); v != nil {
		return v.proxy
	}
	return nil
}

// cores is what the app's replicas have.
func (a *app) cores() (used float64) {
	for _, v := range a.revisions {
		if v.active {
			for _, c := range v.template.Containers {
				used += c.Resources.CPU
			}
		}
	}
	return used
}

// grace is how long the newest replica has to end.
func (a *app) grace() time.Duration {
	if v := a.latest(); v != nil {
		return v.template.grace()
	}
	return 0
}

// end ends every replica.
func (a *app) end(grace time.Duration) {
	for _, v := range a.revisions {
		v.deactivate(grace)
	}
}

// shown is what ARM answers.
func (a *app) shown() appBody {
	s := a.sim
	b, p, c := a.body, *a.body.Properties, *a.body.Properties.Configuration
	b.ID, b.Name, b.Type, b.SystemData, b.Identity = a.id, a.name, appKind, &a.system, a.body.Identity.shown(s)
	domain := s.environments[strings.ToLower(p.EnvironmentID)].domain()
	p.ProvisioningState, p.RunningStatus = a.state, "Running"
	p.OutboundIPAddresses, p.CustomDomainVerificationID = []string{"127.0.0.1"}, strings.ToUpper(fmt.Sprintf("%064x", domainPrefix(a.id)))[:64]
	p.EventStreamEndpoint = fmt.Sprintf("https://%s.azurecontainerapps.dev%s/eventstream", b.Location, a.id)
	if v := a.latest(); v != nil {
		p.LatestRevisionName = v.name
		if c.Ingress != nil {
			p.LatestRevisionFqdn = v.name + "." + domain
		}
	}
	if v := a.ready(); v != nil {
		p.LatestReadyRevisionName = v.name
	}
	if c.Ingress != nil {
		i := *c.Ingress
		i.Fqdn = a.name + "." + domain
		c.Ingress = &i
	}
	c.Secrets = secretNames(c.Secrets)
	p.Configuration, b.Properties = &c, &p
	return b
}

func listApps(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	var all []appBody
	for _, key := range slices.Sorted(maps.Keys(r.sim.apps)) {
		if a := r.sim.apps[key]; r.vars["rg"] == "" || within(a.id, r.groupID()) {
			all = append(all, a.shown())
		}
	}
	return page(r, all)
}

func getApp(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a, err := r.app()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, a.shown())
}

func listAppSecrets(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a, err := r.app()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, map[string]any{"value": append([]jobSecret{}, a.body.Properties.Configuration.Secrets...)})
}

func putApp(r *armRequest) error {
	var body appBody
	if ok, err := r.decode(&body); err != nil {
		return err
	} else if !ok {
		return badRequest("InvalidRequestContent", "The request content was empty.")
	}
	s := r.sim
	environment := ""
	if body.Properties != nil {
		environment = body.Properties.environment()
	}
	if err := r.requireLinks(appKind+"/write", environment, body.Identity); err != nil {
		return err
	}
	if err := body.check(r.vars["app"], s.limits); err != nil {
		return err
	}
	p := body.Properties
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := r.checkLinks(&links{what: "container app", location: body.Location, environmentID: p.EnvironmentID,
		identity: body.Identity, access: &p.Configuration.podAccess, template: &p.Template.jobTemplate}); err != nil {
		return err
	}
	if s.closed {
		return armErrorf(http.StatusServiceUnavailable, "ServiceUnavailable", "The simulator is closed.")
	}
	if s.runtime == nil {
		return armErrorf(http.StatusNotImplemented, "UnsupportedBySimulator", "azuresim was started without a runtime for replicas.")
	}
	body.dropReadOnly()
	*p = appProperties{EnvironmentID: p.EnvironmentID, ManagedEnvironmentID: p.ManagedEnvironmentID, WorkloadProfileName: p.WorkloadProfileName,
		Configuration: p.Configuration, Template: p.Template}

	key, status := strings.ToLower(r.appID()), http.StatusOK
	a := s.apps[key]
	if a == nil {
		status = http.StatusCreated
		a = &app{sim: s, id: r.appID(), name: r.vars["app"]}
	} else if err := a.accepts(p); err != nil {
		return err
	}
	changed := a.latest() == nil || !reflect.DeepEqual(a.body.Properties.Template, p.Template)
	if changed && slices.ContainsFunc(a.revisions, func(v *revision) bool { return v.name == a.name+"--"+p.Template.RevisionSuffix }) {
		return badRequest("ContainerAppRevisionAlreadyExists", "The revision '%s--%s' exists already.", a.name, p.Template.RevisionSuffix)
	}
	s.apps[key] = a
	a.body, a.state = body, stateInProgress
	a.system.put(r.who)
	op := r.begin(nil, func(failure *armError) {
		a.state, a.pending = stateSucceeded, nil
		if failure != nil {
			a.state = stateFailed
			return
		}
		if changed { // configuration alone makes no revision: what runs keeps the secrets that it was started with
			a.revise()
		}
	})
	if !op.done {
		a.pending = op
	}
	shown := a.shown()
	if !op.done || op.failure != nil {
		r.poll("Azure-AsyncOperation", "operationStatuses", appKind, op)
		shown.Properties.ProvisioningState = stateInProgress
	}
	return r.answer(status, shown)
}

// accepts says whether the app can be changed to p now; s.mu is held.
func (a *app) accepts(p *appProperties) error {
	if a.state == stateInProgress || a.state == stateDeleting {
		return armErrorf(http.StatusConflict, "ContainerAppOperationInProgress",
			"Cannot modify a container app '%s' because there is an operation in progress (provisioningState '%s'). Please wait until it is over.", a.name, a.state)
	}
	if !strings.EqualFold(a.body.Properties.EnvironmentID, p.EnvironmentID) {
		return badRequest("ContainerAppEnvironmentImmutable", "The environment of container app '%s' cannot be changed.", a.name)
	}
	return nil
}

// deleteApp ends the app's replicas and forgets it once the operation is over.
func deleteApp(r *armRequest) error {
	s := r.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := r.app()
	if err != nil { // deleting what is not there succeeds
		return r.answer(http.StatusNoContent, nil)
	}
	if a.state == stateDeleting {
		r.poll("Location", "operationResults", appKind, a.pending)
		return r.answer(http.StatusAccepted, nil)
	}
	if err := a.accepts(a.body.Properties); err != nil {
		return err
	}
	before := a.state
	a.state = stateDeleting
	op := r.begin(nil, func(failure *armError) {
		a.pending = nil
		if failure != nil {
			a.state = before
			return
		}
		delete(s.apps, strings.ToLower(a.id))
		s.forgetAssignments(a.id)
	})
	if op.failure == nil {
		a.end(a.grace())
	}
	switch {
	case op.done && op.failure != nil:
		return op.failure
	case op.done:
		return r.answer(http.StatusOK, nil)
	}
	a.pending = op
	r.poll("Location", "operationResults", appKind, op)
	return r.answer(http.StatusAccepted, nil)
}
