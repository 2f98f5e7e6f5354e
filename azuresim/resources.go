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
	CustomerID         string // of the workspace that gets the logs; empty: none
	Tags               map[string]string
	Storages           map[string]*envStorage // by name
}

// domain is the environment's default domain.
func (e *environment) domain() string {
	return domainPrefix(e.Name) + "." + e.Location + ".azurecontainerapps.io"
}

// environmentBody is the JSON of an environment, as far as the simulator honours it.
type environmentBody struct {
	ID         string                     `json:"id,omitempty"`
	Name       string                     `json:"name,omitempty"`
	Type       string                     `json:"type,omitempty"`
	Location   string                     `json:"location"`
	Tags       map[string]string          `json:"tags,omitempty"`
	SystemData map[string]any             `json:"systemData,omitempty"`
	Properties *environmentBodyProperties `json:"properties,omitempty"`
}

type environmentBodyProperties struct {
	ProvisioningState    string                `json:"provisioningState,omitempty"`
	DefaultDomain        string                `json:"defaultDomain,omitempty"`
	StaticIP             string                `json:"staticIp,omitempty"`
	ZoneRedundant        bool                  `json:"zoneRedundant"`
	AppLogsConfiguration *appLogsConfiguration `json:"appLogsConfiguration,omitempty"`
	WorkloadProfiles     []workloadProfile     `json:"workloadProfiles,omitempty"`
}

type appLogsConfiguration struct {
	Destination               string                     `json:"destination,omitempty"`
	LogAnalyticsConfiguration *logAnalyticsConfiguration `json:"logAnalyticsConfiguration,omitempty"`
}

type logAnalyticsConfiguration struct {
	CustomerID string `json:"customerId,omitempty"`
	SharedKey  string `json:"sharedKey,omitempty"`
}

type workloadProfile struct {
	Name string `json:"name"`
	Type string `json:"workloadProfileType"`
}

// body is what ARM shows of the environment. The workspace's key is never shown.
func (e *environment) body() environmentBody {
	b := environmentBody{ID: e.ID, Name: e.Name, Type: "Microsoft.App/managedEnvironments", Location: e.Location, Tags: e.Tags,
		Properties: &environmentBodyProperties{ProvisioningState: "Succeeded", DefaultDomain: e.domain(), StaticIP: "127.0.0.1",
			WorkloadProfiles: []workloadProfile{{Name: "Consumption", Type: "Consumption"}}}}
	if e.CustomerID != "" {
		b.Properties.AppLogsConfiguration = &appLogsConfiguration{Destination: "log-analytics",
			LogAnalyticsConfiguration: &logAnalyticsConfiguration{CustomerID: e.CustomerID}}
	}
	return b
}

func (r *armRequest) environment() (*environment, error) {
	id := r.sim.world.GroupID() + "/providers/Microsoft.App/managedEnvironments/" + r.vars["env"]
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
		all = append(all, e.body())
	}
	slices.SortFunc(all, func(a, b environmentBody) int { return strings.Compare(a.Name, b.Name) })
	return page(r, all)
}

// putEnvironment makes an environment at once: the long way belongs to what Terraform needs.
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
	id := r.sim.world.GroupID() + "/providers/Microsoft.App/managedEnvironments/" + r.vars["env"]
	e := r.sim.environments[strings.ToLower(id)]
	if e == nil {
		e = &environment{ID: id, Name: r.vars["env"], Location: normaliseLocation(body.Location), Storages: map[string]*envStorage{}}
		r.sim.environments[strings.ToLower(id)] = e
	}
	e.Tags = body.Tags
	if p := body.Properties; p != nil && p.AppLogsConfiguration != nil && p.AppLogsConfiguration.LogAnalyticsConfiguration != nil {
		e.CustomerID = p.AppLogsConfiguration.LogAnalyticsConfiguration.CustomerID
	}
	return r.answer(http.StatusOK, e.body())
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

// listUsages tells how many cores the environment's executions have of how many they may have.
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

func getGroup(r *armRequest) error {
	w := r.sim.world
	return r.answer(http.StatusOK, map[string]any{"id": w.GroupID(), "name": w.ResourceGroup, "type": "Microsoft.Resources/resourceGroups",
		"location": w.Location, "properties": map[string]any{"provisioningState": "Succeeded"}})
}

func getWorkspace(r *armRequest) error {
	w := r.sim.world
	if !strings.EqualFold(r.vars["workspace"], w.Workspace) {
		return r.notFound("Microsoft.OperationalInsights/workspaces", r.vars["workspace"])
	}
	return r.answer(http.StatusOK, map[string]any{"id": w.WorkspaceID(), "name": w.Workspace, "type": "Microsoft.OperationalInsights/workspaces",
		"location": w.Location, "properties": map[string]any{"provisioningState": "Succeeded", "customerId": w.WorkspaceCustomerID,
			"retentionInDays": 30, "sku": map[string]any{"name": "PerGB2018"}}})
}

func getIdentity(r *armRequest) error {
	w := r.sim.world
	p := r.sim.entra.byResourceID(w.identityID(r.vars["identity"]))
	if p == nil {
		return r.notFound("Microsoft.ManagedIdentity/userAssignedIdentities", r.vars["identity"])
	}
	return r.answer(http.StatusOK, map[string]any{"id": p.ResourceID, "name": p.Name, "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
		"location": w.Location, "properties": map[string]any{"tenantId": w.Tenant, "principalId": p.ObjectID, "clientId": p.ClientID}})
}
