package azuresim

import (
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// environment is a managed environment. s.mu guards it.
type environment struct {
	ID, Name, Location string
	Tags               map[string]string
	Identity           map[string]any
	Properties         environmentProperties
	Storages           map[string]*envStorage // by name
}

// customerID is that of the workspace that gets the logs; empty: none does.
func (e *environment) customerID() string {
	if l := e.Properties.AppLogsConfiguration; l != nil && l.LogAnalyticsConfiguration != nil {
		return l.LogAnalyticsConfiguration.CustomerID
	}
	return ""
}

// subnet is the ARM id of the subnet that is the environment's; empty: none is.
func (e *environment) subnet() string {
	if v := e.Properties.VnetConfiguration; v != nil {
		return v.InfrastructureSubnetID
	}
	return ""
}

// domain is the environment's default domain. It is one of the simulator's own names, so that nobody is asked for it.
func (e *environment) domain() string {
	return domainPrefix(e.Name) + "." + e.Location + ".azurecontainerapps." + ownSuffix
}

// environmentBody is the JSON of an environment.
type environmentBody struct {
	ID         string                 `json:"id,omitempty"`
	Name       string                 `json:"name,omitempty"`
	Type       string                 `json:"type,omitempty"`
	Location   string                 `json:"location"`
	Tags       map[string]string      `json:"tags,omitempty"`
	Identity   map[string]any         `json:"identity,omitempty"`
	SystemData map[string]any         `json:"systemData,omitempty"`
	Properties *environmentProperties `json:"properties,omitempty"`
}

// environmentProperties are those that the simulator honours or gives back; any other is refused.
type environmentProperties struct {
	provisioned
	DefaultDomain               string                `json:"defaultDomain,omitempty"`
	StaticIP                    string                `json:"staticIp,omitempty"`
	ZoneRedundant               bool                  `json:"zoneRedundant"`
	AppLogsConfiguration        *appLogsConfiguration `json:"appLogsConfiguration,omitempty"`
	WorkloadProfiles            []workloadProfile     `json:"workloadProfiles,omitempty"`
	VnetConfiguration           *vnetConfiguration    `json:"vnetConfiguration,omitempty"`
	InfrastructureResourceGroup string                `json:"infrastructureResourceGroup,omitempty"`
	PublicNetworkAccess         string                `json:"publicNetworkAccess,omitempty"`
	PeerAuthentication          *struct {
		MTLS struct {
			Enabled bool `json:"enabled"`
		} `json:"mtls"`
	} `json:"peerAuthentication,omitempty"`
	PeerTrafficConfiguration *struct {
		Encryption struct {
			Enabled bool `json:"enabled"`
		} `json:"encryption"`
	} `json:"peerTrafficConfiguration,omitempty"`
	CustomDomainConfiguration *struct {
		VerificationID string `json:"customDomainVerificationId,omitempty"`
	} `json:"customDomainConfiguration,omitempty"`
}

type appLogsConfiguration struct {
	Destination               string                     `json:"destination,omitempty"`
	LogAnalyticsConfiguration *logAnalyticsConfiguration `json:"logAnalyticsConfiguration,omitempty"`
}

type logAnalyticsConfiguration struct {
	CustomerID string `json:"customerId,omitempty"`
	SharedKey  string `json:"sharedKey,omitempty"` // taken, never shown
}

type workloadProfile struct {
	Name         string `json:"name"`
	Type         string `json:"workloadProfileType"`
	MinimumCount *int   `json:"minimumCount,omitempty"`
	MaximumCount *int   `json:"maximumCount,omitempty"`
}

type vnetConfiguration struct {
	InfrastructureSubnetID string `json:"infrastructureSubnetId,omitempty"`
	Internal               bool   `json:"internal"`
}

// body is what ARM shows of the environment. The workspace's key is never shown.
func (e *environment) body() environmentBody {
	p := e.Properties
	if id := e.customerID(); id != "" {
		p.AppLogsConfiguration = &appLogsConfiguration{Destination: p.AppLogsConfiguration.Destination,
			LogAnalyticsConfiguration: &logAnalyticsConfiguration{CustomerID: id}}
	}
	return environmentBody{ID: e.ID, Name: e.Name, Type: "Microsoft.App/managedEnvironments", Location: e.Location, Tags: e.Tags,
		Identity: e.Identity, Properties: &p}
}

// newEnvironment makes what the world has from the start.
func newEnvironment(id, name, location, customerID string) *environment {
	e := &environment{ID: id, Name: name, Location: location, Storages: map[string]*envStorage{}, Properties: environmentProperties{
		StaticIP: "127.0.0.1", WorkloadProfiles: []workloadProfile{{Name: "Consumption", Type: "Consumption"}},
		AppLogsConfiguration: &appLogsConfiguration{Destination: "log-analytics", LogAnalyticsConfiguration: &logAnalyticsConfiguration{CustomerID: customerID}}}}
	e.Properties.DefaultDomain = e.domain()
	e.Properties.provisioning("Succeeded")
	return e
}

func (r *armRequest) environment() (*environment, error) {
	id := r.groupID() + "/providers/Microsoft.App/managedEnvironments/" + r.vars["env"]
	if e := r.sim.environments[strings.ToLower(id)]; e != nil {
		return e, nil
	}
	return nil, r.notFound("Microsoft.App/managedEnvironments", r.vars["env"])
}

func getEnvironment(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return err
	}
	return r.answer(http.StatusOK, e.body())
}

func listEnvironments(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	var all []environmentBody
	for _, e := range r.sim.environments {
		if r.vars["rg"] == "" || within(e.ID, r.groupID()) {
			all = append(all, e.body())
		}
	}
	slices.SortFunc(all, func(a, b environmentBody) int { return strings.Compare(a.Name, b.Name) })
	return page(r, all)
}

func putEnvironment(r *armRequest) error {
	var body environmentBody
	if ok, err := r.decode(&body); err != nil {
		return err
	} else if !ok {
		return armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was empty.")
	}
	if body.Location == "" {
		return armErrorf(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.")
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	id := r.groupID() + "/providers/Microsoft.App/managedEnvironments/" + r.vars["env"]
	e := &environment{ID: id, Name: r.vars["env"], Location: normaliseLocation(body.Location), Tags: body.Tags, Identity: body.Identity,
		Storages: map[string]*envStorage{}}
	if body.Properties != nil {
		e.Properties = *body.Properties
	}
	status, old := http.StatusCreated, r.sim.environments[strings.ToLower(id)]
	if old != nil {
		status, e.ID, e.Storages = http.StatusOK, old.ID, old.Storages
	}
	if err := e.settle(r, old); err != nil {
		return err
	}
	r.sim.environments[strings.ToLower(id)] = e
	e.Properties.provisioning("InProgress")
	r.bringUp("Microsoft.App/managedEnvironments", &e.Properties)
	return r.answer(status, e.body())
}

// settle refuses what Azure refuses and fills in what Azure does; s.mu is held.
func (e *environment) settle(r *armRequest, old *environment) error {
	p := &e.Properties
	invalid := func(code, format string, args ...any) error {
		return armErrorf(http.StatusBadRequest, code, format, args...)
	}
	if old != nil && !strings.EqualFold(old.subnet(), e.subnet()) {
		return invalid("ManagedEnvironmentInvalidNetworkConfiguration", "The subnet of environment '%s' cannot be changed.", e.Name)
	}
	if id := e.subnet(); id != "" {
		res := r.sim.resources[strings.ToLower(id)]
		if res == nil {
			return invalid("ManagedEnvironmentInvalidNetworkConfiguration", "The subnet '%s' was not found.", id)
		}
		if err := r.requireLinked("Microsoft.App/managedEnvironments/write", "Microsoft.Network/virtualNetworks/subnets/join/action", id); err != nil {
			return err
		}
		if s, ok := res.Properties.(*subnet); !ok || !s.delegatedTo("Microsoft.App/environments") {
			return invalid("ManagedEnvironmentSubnetDelegationError", "The subnet '%s' must be delegated to the service 'Microsoft.App/environments' in order to be used.", id)
		}
		if user := r.sim.userOf(id); user != "" && !strings.EqualFold(user, e.ID) {
			return invalid("ManagedEnvironmentSubnetInUse", "The subnet '%s' is in use by '%s'.", id, user)
		}
	}
	switch l := p.AppLogsConfiguration; {
	case l == nil || l.Destination == "" || l.Destination == "none":
	case l.Destination == "azure-monitor":
		return invalid("UnsupportedBySimulator", "azuresim writes logs to a workspace alone, not to azure-monitor.")
	case l.Destination != "log-analytics":
		return invalid("InvalidRequestParameterWithDetails", "The log destination '%s' is invalid.", l.Destination)
	case e.customerID() == "" || l.LogAnalyticsConfiguration.SharedKey == "" && old == nil:
		return invalid("LogAnalyticsConfigurationInvalid", "customerId and sharedKey of the workspace are required.")
	}
	names := map[string]bool{}
	for _, w := range p.WorkloadProfiles {
		if w.Name == "" || w.Type == "" || names[w.Name] {
			return invalid("InvalidWorkloadProfile", "The workload profile '%s' has no name, no type, or the name of another.", w.Name)
		}
		names[w.Name] = true
	}
	if len(p.WorkloadProfiles) == 0 {
		p.WorkloadProfiles = []workloadProfile{{Name: "Consumption", Type: "Consumption"}}
	}
	p.DefaultDomain, p.StaticIP = e.domain(), "127.0.0.1"
	return nil
}

func deleteEnvironment(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return r.answer(http.StatusNoContent, nil)
	}
	jobs := 0
	for _, j := range r.sim.jobs {
		if strings.EqualFold(j.body.Properties.EnvironmentID, e.ID) {
			jobs++
		}
	}
	if jobs > 0 {
		return armErrorf(http.StatusConflict, "ManagedEnvironmentHasContainerAppsJobs", "The specified environment %s cannot be deleted because it still contains %d Container Apps Jobs.", e.Name, jobs)
	}
	for _, a := range r.sim.apps {
		if strings.EqualFold(a.body.Properties.environment(), e.ID) {
			return armErrorf(http.StatusConflict, "ManagedEnvironmentHasContainerApps", "The environment '%s' cannot be deleted: the container app '%s' is in it.", e.Name, a.name)
		}
	}
	e.Properties.provisioning("Deleting")
	return r.remove("Microsoft.App/managedEnvironments", e.ID)
}

func normaliseLocation(l string) string { return strings.ToLower(strings.ReplaceAll(l, " ", "")) }

// envStorage is an Azure Files share that jobs of the environment may mount.
type envStorage struct {
	Name       string
	Properties storageProperties
}

type storageBody struct {
	ID         string             `json:"id,omitempty"`
	Name       string             `json:"name,omitempty"`
	Type       string             `json:"type,omitempty"`
	SystemData map[string]any     `json:"systemData,omitempty"`
	Properties *storageProperties `json:"properties,omitempty"`
}

type storageProperties struct {
	ProvisioningState string        `json:"provisioningState,omitempty"`
	AzureFile         *azureFile    `json:"azureFile,omitempty"`
	NfsAzureFile      *nfsAzureFile `json:"nfsAzureFile,omitempty"`
}

type azureFile struct {
	AccountName string `json:"accountName,omitempty"`
	AccountKey  string `json:"accountKey,omitempty"` // taken, never shown
	ShareName   string `json:"shareName,omitempty"`
	AccessMode  string `json:"accessMode,omitempty"`
}

type nfsAzureFile struct {
	Server     string `json:"server,omitempty"`
	ShareName  string `json:"shareName,omitempty"`
	AccessMode string `json:"accessMode,omitempty"`
}

func (st *envStorage) body(env *environment) storageBody {
	p := st.Properties
	if p.AzureFile != nil {
		shown := *p.AzureFile
		shown.AccountKey = ""
		p.AzureFile = &shown
	}
	return storageBody{ID: env.ID + "/storages/" + st.Name, Name: st.Name, Type: "Microsoft.App/managedEnvironments/storages", Properties: &p}
}

// readOnly tells the share's access mode.
func (st *envStorage) readOnly() bool {
	if f := st.Properties.AzureFile; f != nil {
		return f.AccessMode == "ReadOnly"
	}
	return st.Properties.NfsAzureFile.AccessMode == "ReadOnly"
}

// folder is where the share's files are, below the data folder.
func (st *envStorage) folder() string {
	if f := st.Properties.AzureFile; f != nil {
		return filepath.Join("shares", f.AccountName, f.ShareName)
	}
	return filepath.Join("shares", "nfs", strings.ReplaceAll(strings.Trim(st.Properties.NfsAzureFile.ShareName, "/"), "/", "_"))
}

var (
	accountName = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	shareName   = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	nfsShare    = regexp.MustCompile(`^/[a-z0-9]{3,24}/[a-z0-9](-?[a-z0-9]){2,62}$`)
	storageName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
)

func (p *storageProperties) check() error {
	invalid := func(what, value string) error {
		return armErrorf(http.StatusBadRequest, "InvalidRequestParameterWithDetails", "The %s '%s' is invalid.", what, value)
	}
	if p == nil || (p.AzureFile == nil) == (p.NfsAzureFile == nil) {
		return armErrorf(http.StatusBadRequest, "ManagedEnvironmentStorageInvalid", "Exactly one of azureFile and nfsAzureFile must be given.")
	}
	var mode string
	if f := p.AzureFile; f != nil {
		mode = f.AccessMode
		switch {
		case !accountName.MatchString(f.AccountName):
			return invalid("accountName", f.AccountName)
		case !shareName.MatchString(f.ShareName):
			return invalid("shareName", f.ShareName)
		case f.AccountKey == "":
			return armErrorf(http.StatusBadRequest, "InvalidRequestParameterWithDetails", "The accountKey is required.")
		}
	} else {
		mode = p.NfsAzureFile.AccessMode
		switch {
		case p.NfsAzureFile.Server == "":
			return invalid("server", "")
		case !nfsShare.MatchString(p.NfsAzureFile.ShareName):
			return invalid("shareName", p.NfsAzureFile.ShareName)
		}
	}
	if mode != "ReadOnly" && mode != "ReadWrite" {
		return invalid("accessMode", mode)
	}
	return nil
}

// listUsages tells how many cores the environment's replicas have of how many they may have.
func listUsages(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	env, err := r.environment()
	if err != nil {
		return err
	}
	used := 0.0
	for _, j := range r.sim.jobs {
		if !strings.EqualFold(j.body.Properties.EnvironmentID, env.ID) {
			continue
		}
		for _, e := range j.executions {
			if e.over() {
				continue
			}
			for _, c := range e.template.Containers {
				used += c.Resources.CPU
			}
		}
	}
	for _, a := range r.sim.apps {
		if strings.EqualFold(a.body.Properties.environment(), env.ID) {
			used += a.cores()
		}
	}
	return page(r, []map[string]any{{
		"name":         map[string]any{"value": "ManagedEnvironmentConsumptionCores", "localizedValue": "Managed Environment Consumption Cores"},
		"currentValue": used, "limit": r.sim.limits.cores, "unit": "Count",
	}})
}

func listStorages(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return err
	}
	all := []storageBody{}
	for _, st := range e.Storages {
		all = append(all, st.body(e))
	}
	slices.SortFunc(all, func(a, b storageBody) int { return strings.Compare(a.Name, b.Name) })
	return r.answer(http.StatusOK, map[string]any{"value": all}) // this list has no pages
}

func getStorage(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return err
	}
	st := e.Storages[r.vars["storage"]]
	if st == nil {
		return armErrorf(http.StatusNotFound, "ManagedEnvironmentStorageNotFound", "Managed Environment Storage '%s' not found.", r.vars["storage"])
	}
	return r.answer(http.StatusOK, st.body(e))
}

func putStorage(r *armRequest) error {
	var body storageBody
	if _, err := r.decode(&body); err != nil {
		return err
	}
	name := r.vars["storage"]
	if len(name) > 32 || !storageName.MatchString(name) {
		return armErrorf(http.StatusBadRequest, "ManagedEnvironmentStorageInvalidName", "Invalid Managed Environment Storage name '%s'.", name)
	}
	if err := body.Properties.check(); err != nil {
		return err
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return err
	}
	st := &envStorage{Name: name, Properties: *body.Properties}
	e.Storages[name] = st
	// 200 for a new one too: armappcontainers v3.1.0 takes nothing else.
	return r.answer(http.StatusOK, st.body(e))
}

func deleteStorage(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	e, err := r.environment()
	if err != nil {
		return err
	}
	if _, ok := e.Storages[r.vars["storage"]]; !ok {
		return r.answer(http.StatusNoContent, nil)
	}
	delete(e.Storages, r.vars["storage"])
	return r.answer(http.StatusOK, nil)
}
