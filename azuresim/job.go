package azuresim

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// jobBody is a job as ARM takes and shows it. Only what the simulator honours or refuses by name is in it; anything
// else is an unknown property.
type jobBody struct {
	envelope
	Properties *jobProperties `json:"properties,omitempty"`
}

type jobIdentity struct {
	Type                   string                       `json:"type"`
	PrincipalID            string                       `json:"principalId,omitempty"`
	TenantID               string                       `json:"tenantId,omitempty"`
	UserAssignedIdentities map[string]*assignedIdentity `json:"userAssignedIdentities,omitempty"`
}

type assignedIdentity struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

type jobProperties struct {
	ProvisioningState   string            `json:"provisioningState,omitempty"`
	RunningState        string            `json:"runningState,omitempty"`
	EnvironmentID       string            `json:"environmentId,omitempty"`
	WorkloadProfileName string            `json:"workloadProfileName,omitempty"`
	Configuration       *jobConfiguration `json:"configuration,omitempty"`
	Template            *jobTemplate      `json:"template,omitempty"`
	OutboundIPAddresses []string          `json:"outboundIpAddresses,omitempty"`
	EventStreamEndpoint string            `json:"eventStreamEndpoint,omitempty"`
}

type jobConfiguration struct {
	TriggerType           string          `json:"triggerType"`
	ReplicaTimeout        int32           `json:"replicaTimeout"`
	ReplicaRetryLimit     int32           `json:"replicaRetryLimit"`
	ManualTriggerConfig   *manualTrigger  `json:"manualTriggerConfig,omitempty"`
	ScheduleTriggerConfig json.RawMessage `json:"scheduleTriggerConfig,omitempty"`
	EventTriggerConfig    json.RawMessage `json:"eventTriggerConfig,omitempty"`
	podAccess
}

type manualTrigger struct {
	ReplicaCompletionCount *int32 `json:"replicaCompletionCount,omitempty"`
	Parallelism            *int32 `json:"parallelism,omitempty"`
}

type jobSecret struct {
	Name        string `json:"name"`
	Value       string `json:"value,omitempty"`
	KeyVaultURL string `json:"keyVaultUrl,omitempty"`
	Identity    string `json:"identity,omitempty"`
}

type jobRegistry struct {
	Server            string `json:"server"`
	Username          string `json:"username,omitempty"`
	PasswordSecretRef string `json:"passwordSecretRef,omitempty"`
	Identity          string `json:"identity,omitempty"`
}

type identitySetting struct {
	Identity  string `json:"identity"`
	Lifecycle string `json:"lifecycle,omitempty"` // None, Main, Init, All
}

type jobTemplate struct {
	Containers     []jobContainer `json:"containers,omitempty"`
	InitContainers []jobContainer `json:"initContainers,omitempty"`
	Volumes        []jobVolume    `json:"volumes,omitempty"`
}

type jobContainer struct {
	Name         string              `json:"name,omitempty"`
	Image        string              `json:"image,omitempty"`
	Command      []string            `json:"command,omitempty"`
	Args         []string            `json:"args,omitempty"`
	Env          []envVar            `json:"env,omitempty"`
	Resources    *containerResources `json:"resources,omitempty"`
	Probes       json.RawMessage     `json:"probes,omitempty"`
	VolumeMounts []volumeMount       `json:"volumeMounts,omitempty"`
}

type envVar struct {
	Name      string `json:"name"`
	Value     string `json:"value,omitempty"`
	SecretRef string `json:"secretRef,omitempty"`
}

type containerResources struct {
	CPU              float64 `json:"cpu,omitempty"`
	Memory           string  `json:"memory,omitempty"`
	EphemeralStorage string  `json:"ephemeralStorage,omitempty"`
}

type volumeMount struct {
	VolumeName string `json:"volumeName"`
	MountPath  string `json:"mountPath"`
	SubPath    string `json:"subPath,omitempty"`
}

type jobVolume struct {
	Name         string         `json:"name"`
	StorageType  string         `json:"storageType,omitempty"` // EmptyDir, AzureFile, NfsAzureFile, Secret
	StorageName  string         `json:"storageName,omitempty"`
	Secrets      []volumeSecret `json:"secrets,omitempty"`
	MountOptions string         `json:"mountOptions,omitempty"`
}

// volumeSecret is a secret that is a file of a volume.
type volumeSecret struct {
	SecretRef string `json:"secretRef"`
	Path      string `json:"path,omitempty"` // empty: the secret's name
}

// executionTemplate is the body of POST start, and the template that an execution shows: no volumes.
type executionTemplate struct {
	Containers     []executionContainer `json:"containers,omitempty"`
	InitContainers []executionContainer `json:"initContainers,omitempty"`
}

type executionContainer struct {
	Name      string              `json:"name,omitempty"`
	Image     string              `json:"image,omitempty"`
	Command   []string            `json:"command,omitempty"`
	Args      []string            `json:"args,omitempty"`
	Env       []envVar            `json:"env,omitempty"`
	Resources *containerResources `json:"resources,omitempty"`
}

// Names as Azure accepts them.
var (
	jobName       = regexp.MustCompile(`^[a-z](-?[a-z0-9])*$`)
	dnsLabel      = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	secretName    = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$`)
	envName       = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)
	imageRef      = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._:/]*(@sha256:[0-9a-f]{64})?$`)
	tagForbidden  = `<>%&\?/`
	memoryGi      = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)Gi$`)
	validMountRef = regexp.MustCompile(`^/[^:]+$`)
)

func badRequest(code, format string, args ...any) error {
	return armErrorf(http.StatusBadRequest, code, format, args...)
}

// unsupported refuses what Azure has and the simulator has not.
func unsupported(what string) error {
	return badRequest("UnsupportedBySimulator", "azuresim does not play %s.", what)
}

// check validates everything but what depends on other resources, and fills in Azure's defaults.
func (b *jobBody) check(name string, l limits) error {
	if err := b.envelope.check(name, l); err != nil {
		return err
	}
	p := b.Properties
	if p == nil {
		return badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized: 'Required property 'properties' not found in JSON'.")
	}
	if err := checkProfile(p.WorkloadProfileName); err != nil {
		return err
	}
	if err := p.Configuration.check(); err != nil {
		return err
	}
	return p.Template.check(&p.Configuration.podAccess)
}

func checkProfile(name string) error {
	if name == "" || name == "Consumption" {
		return nil
	}
	return badRequest("WorkloadProfileNotFound", "The workload profile '%s' was not found in the environment.", name)
}

func (c *jobConfiguration) check() error {
	switch {
	case c == nil:
		return badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized: 'Required property 'configuration' not found in JSON'.")
	case c.TriggerType == "Schedule" || c.TriggerType == "Event":
		return unsupported("jobs with triggerType '" + c.TriggerType + "'")
	case c.TriggerType != "Manual":
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%s' of triggerType is invalid. Valid values are Schedule, Event, Manual.", c.TriggerType)
	case len(c.ScheduleTriggerConfig) > 0 || len(c.EventTriggerConfig) > 0:
		return badRequest("ContainerAppInvalidPropertyValue", "scheduleTriggerConfig and eventTriggerConfig must not be set when triggerType is Manual.")
	case c.ReplicaTimeout <= 0:
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%d' of replicaTimeout is invalid. It must be greater than 0.", c.ReplicaTimeout)
	case c.ReplicaRetryLimit < 0:
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%d' of replicaRetryLimit is invalid. It must not be negative.", c.ReplicaRetryLimit)
	}
	if c.ManualTriggerConfig == nil {
		c.ManualTriggerConfig = &manualTrigger{}
	}
	for _, n := range []**int32{&c.ManualTriggerConfig.Parallelism, &c.ManualTriggerConfig.ReplicaCompletionCount} {
		if *n == nil {
			one := int32(1)
			*n = &one
		}
		if **n != 1 {
			return unsupported("executions of more than one replica")
		}
	}
	return c.podAccess.check()
}

func (c *podAccess) check() error {
	seen := map[string]bool{}
	for _, s := range c.Secrets {
		switch {
		case !secretName.MatchString(s.Name):
			return badRequest("ContainerAppSecretNameInvalid", "SecretName has an invalid value '%s'. A value must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character.", s.Name)
		case s.KeyVaultURL != "":
			return unsupported("secrets from a key vault")
		case s.Value == "":
			return badRequest("ContainerAppSecretInvalid", "Invalid Request: Container app secret(s) with name(s) '%s' are invalid: value or keyVaultUrl and identity should be provided.", s.Name)
		case seen[s.Name]:
			return badRequest("ContainerAppSecretDuplicate", "The secret name '%s' is used more than once.", s.Name)
		}
		seen[s.Name] = true
	}
	servers := map[string]bool{}
	for _, r := range c.Registries {
		switch {
		case r.Server == "":
			return badRequest("ContainerAppRegistryServerInvalid", "The registry server must not be empty.")
		case strings.Contains(r.Server, "/"):
			return badRequest("ContainerAppRegistryServerInvalid", "The registry server '%s' must be a host name.", r.Server)
		case servers[r.Server]:
			return badRequest("ContainerAppRegistryDuplicate", "The registry server '%s' is used more than once.", r.Server)
		case r.Identity != "" && (r.Username != "" || r.PasswordSecretRef != ""):
			return badRequest("ContainerAppRegistryInvalid", "Registry '%s' must have either identity or username and passwordSecretRef.", r.Server)
		case r.Identity == "" && (r.Username == "" || r.PasswordSecretRef == ""):
			return badRequest("ContainerAppRegistryInvalid", "Registry '%s' must have either identity or username and passwordSecretRef.", r.Server)
		case r.PasswordSecretRef != "" && !seen[r.PasswordSecretRef]:
			return badRequest("ContainerAppPasswordSecretRefNotFound", "PasswordSecretRef '%s' defined for registry server '%s' not found.", r.PasswordSecretRef, r.Server)
		}
		servers[r.Server] = true
	}
	for _, is := range c.IdentitySettings {
		if !slices.Contains([]string{"", "None", "Main", "Init", "All"}, is.Lifecycle) {
			return badRequest("ContainerAppInvalidPropertyValue", "The value '%s' of lifecycle is invalid. Valid values are None, Main, Init, All.", is.Lifecycle)
		}
	}
	return nil
}

func (c *podAccess) secret(name string) (string, bool) {
	for _, s := range c.Secrets {
		if s.Name == name {
			return s.Value, true
		}
	}
	return "", false
}

func (t *jobTemplate) check(c *podAccess) error {
	if t == nil || len(t.Containers) == 0 {
		return badRequest("ContainerAppContainersRequired", "The template must have at least one container.")
	}
	volumes := map[string]jobVolume{}
	for i := range t.Volumes {
		v := &t.Volumes[i]
		if err := v.check(c); err != nil {
			return err
		}
		if _, dup := volumes[v.Name]; dup {
			return badRequest("ContainerAppVolumeDuplicate", "The volume name '%s' is used more than once.", v.Name)
		}
		volumes[v.Name] = *v
	}
	names := map[string]bool{}
	for _, list := range []struct {
		kind       string
		containers []jobContainer
	}{{"initContainers", t.InitContainers}, {"containers", t.Containers}} {
		for i := range list.containers {
			ct := &list.containers[i]
			if err := ct.check(list.kind, c, volumes); err != nil {
				return err
			}
			if names[ct.Name] {
				return badRequest("ContainerAppContainerNameDuplicate", "The container name '%s' is used more than once.", ct.Name)
			}
			names[ct.Name] = true
		}
	}
	return checkTotal(t.Containers)
}

func (v *jobVolume) check(c *podAccess) error {
	if v.StorageType == "" {
		v.StorageType = "EmptyDir"
	}
	switch {
	case !dnsLabel.MatchString(v.Name):
		return badRequest("ContainerAppVolumeNameInvalid", "The volume name '%s' is invalid. It must consist of lower case alphanumeric characters or '-'.", v.Name)
	case v.StorageType == secretVolume && v.StorageName != "":
		return badRequest("ContainerAppVolumeInvalid", "Volume '%s' of storageType Secret must not have a storageName.", v.Name)
	case v.StorageType == secretVolume:
		return v.checkSecrets(c)
	case len(v.Secrets) > 0:
		return badRequest("ContainerAppVolumeInvalid", "Volume '%s' of storageType %s must not have secrets.", v.Name, v.StorageType)
	case v.StorageType == "EmptyDir" && v.StorageName != "":
		return badRequest("ContainerAppVolumeInvalid", "Volume '%s' of storageType EmptyDir must not have a storageName.", v.Name)
	case v.StorageType == "EmptyDir":
		return nil
	case v.StorageType != "AzureFile" && v.StorageType != "NfsAzureFile":
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%s' of storageType is invalid. Valid values are AzureFile, EmptyDir, Secret, NfsAzureFile.", v.StorageType)
	case v.StorageName == "":
		return badRequest("ContainerAppVolumeInvalid", "Volume '%s' of storageType %s must have a storageName.", v.Name, v.StorageType)
	}
	return nil
}

func (v *jobVolume) checkSecrets(c *podAccess) error {
	for _, s := range v.Secrets {
		if _, ok := c.secret(s.SecretRef); !ok {
			return badRequest("ContainerAppSecretRefNotFound", "SecretRef '%s' defined for volume '%s' not found.", s.SecretRef, v.Name)
		}
		if s.Path != "" && !filepath.IsLocal(s.Path) {
			return badRequest("ContainerAppVolumeInvalid", "The path '%s' in volume '%s' must be a relative path without '..'.", s.Path, v.Name)
		}
	}
	return nil
}

func (ct *jobContainer) check(kind string, c *podAccess, volumes map[string]jobVolume) error {
	field := func(name, detail string) error {
		return badRequest("InvalidParameterValueInContainerTemplate", "The following field(s) are either invalid or missing. Field 'template.%s.%s.%s' is invalid with details: '%s';.", kind, ct.Name, name, detail)
	}
	if !dnsLabel.MatchString(ct.Name) {
		return badRequest("ContainerAppContainerNameInvalid", "Invalid container name '%s'. A name must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character. The length must not be more than 63 characters.", ct.Name)
	}
	if !imageRef.MatchString(ct.Image) {
		return field("image", "Invalid value: \""+ct.Image+"\": could not parse reference")
	}
	if len(ct.Probes) > 0 && string(ct.Probes) != "[]" && string(ct.Probes) != "null" {
		return unsupported("probes that a template asks for")
	}
	names := map[string]bool{}
	for _, e := range ct.Env {
		switch {
		case !envName.MatchString(e.Name):
			return field("env", "Invalid value: \""+e.Name+"\": a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit")
		case e.Value != "" && e.SecretRef != "":
			return field("env."+e.Name, "value and secretRef must not both be set")
		case names[e.Name]:
			return field("env."+e.Name, "the name is used more than once")
		}
		names[e.Name] = true
		if _, ok := c.secret(e.SecretRef); e.SecretRef != "" && !ok {
			return badRequest("ContainerAppSecretRefNotFound", "SecretRef '%s' defined for container '%s' not found.", e.SecretRef, ct.Name)
		}
	}
	paths := map[string]bool{}
	for _, m := range ct.VolumeMounts {
		v, ok := volumes[m.VolumeName]
		switch {
		case !ok:
			return badRequest("ContainerAppVolumeMountNotFound", "Volume '%s' defined in volumeMounts of container '%s' not found.", m.VolumeName, ct.Name)
		case !validMountRef.MatchString(m.MountPath) || strings.Trim(m.MountPath, "/") == "" || slices.Contains(strings.Split(m.MountPath, "/"), ".."):
			return field("volumeMounts.mountPath", "Invalid value: \""+m.MountPath+"\": must be an absolute path without ':'")
		case paths[m.MountPath]:
			return field("volumeMounts.mountPath", "Invalid value: \""+m.MountPath+"\": must be unique")
		case m.SubPath != "" && (strings.HasPrefix(m.SubPath, "/") || slices.Contains(strings.Split(m.SubPath, "/"), "..")):
			return field("volumeMounts.subPath", "Invalid value: \""+m.SubPath+"\": must be a relative path without '..'")
		case m.SubPath != "" && (v.StorageType == "EmptyDir" || v.StorageType == secretVolume):
			return unsupported("volumeMounts.subPath on a volume of storageType '" + v.StorageType + "'")
		}
		paths[m.MountPath] = true
	}
	if ct.Resources == nil || ct.Resources.CPU == 0 && ct.Resources.Memory == "" {
		ct.Resources = &containerResources{CPU: 0.5, Memory: "1Gi"}
	}
	if _, ok := ct.Resources.memory(); !ok || ct.Resources.CPU <= 0 {
		return badRequest("ContainerAppInvalidResource", "Container '%s' has invalid resources (CPU: %s, memory: %s).", ct.Name, number(ct.Resources.CPU), ct.Resources.Memory)
	}
	ct.Resources.EphemeralStorage = ephemeralStorage(ct.Resources.CPU)
	if kind == "initContainers" {
		return checkTotal([]jobContainer{*ct})
	}
	return nil
}

// memory is the amount in Gi.
func (r *containerResources) memory() (float64, bool) {
	m := memoryGi.FindStringSubmatch(r.Memory)
	if m == nil {
		return 0, false
	}
	gi, err := strconv.ParseFloat(m[1], 64)
	return gi, err == nil && gi > 0
}

// checkTotal holds the sum of the containers to the Consumption profile's pairs.
func checkTotal(containers []jobContainer) error {
	var cpu, gi float64
	for _, c := range containers {
		m, _ := c.Resources.memory()
		cpu, gi = cpu+c.Resources.CPU, gi+m
	}
	quarters := cpu * 4
	if quarters == math.Trunc(quarters) && quarters >= 1 && quarters <= 16 && gi == cpu*2 {
		return nil
	}
	var pairs []string
	for q := 1; q <= 16; q++ {
		pairs = append(pairs, fmt.Sprintf("[cpu: %s, memory: %sGi]", number(float64(q)/4), number(float64(q)/2)))
	}
	return badRequest("ContainerAppInvalidResourceTotal", "The total requested CPU and memory resources for this application (CPU: %s, memory: %s) is invalid. Total CPU and memory for all containers defined in a Container App must add up to one of the following CPU - Memory combinations: %s", number(cpu), number(gi), strings.Join(pairs, "; "))
}

// number writes 0.25 as 0.25 and 1 as 1.0, as Azure does.
func number(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// ephemeralStorage is what Azure gives for so many cores.
func ephemeralStorage(cpu float64) string {
	switch {
	case cpu <= 0.25:
		return "1Gi"
	case cpu <= 0.5:
		return "2Gi"
	case cpu <= 1:
		return "4Gi"
	}
	return "8Gi"
}

// override is the template of an execution that was started with a body: it replaces the job's, but for the volumes,
// which stay mounted where the job's container of that name had them (microsoft/azure-container-apps#909).
func (t *jobTemplate) override(o executionTemplate) *jobTemplate {
	mounts := map[string][]volumeMount{}
	for _, c := range append(slices.Clone(t.Containers), t.InitContainers...) {
		mounts[c.Name] = c.VolumeMounts
	}
	convert := func(list []executionContainer) []jobContainer {
		var out []jobContainer
		for _, c := range list {
			out = append(out, jobContainer{Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Env: c.Env,
				Resources: c.Resources, VolumeMounts: mounts[c.Name]})
		}
		return out
	}
	return &jobTemplate{Containers: convert(o.Containers), InitContainers: convert(o.InitContainers), Volumes: t.Volumes}
}

// shown is the template as an execution shows it.
func (t *jobTemplate) shown() executionTemplate {
	convert := func(list []jobContainer) []executionContainer {
		var out []executionContainer
		for _, c := range list {
			out = append(out, executionContainer{Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Env: c.Env, Resources: c.Resources})
		}
		return out
	}
	return executionTemplate{Containers: convert(t.Containers), InitContainers: convert(t.InitContainers)}
}
