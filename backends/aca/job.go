package aca

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca/programs"
	"github.com/sockerless/sockerless/driver"
)

// The names inside a job.
const (
	mainContainer = "main"
	initContainer = "agent"
	agentVolume   = "agent"
	agentDir      = "/.sockerless" // where the volume is, in both containers
	agentInDir    = agentDir + "/agent"
	runSecret     = "run-secret"
	pullSecret    = "pull-secret"
	proxySecret   = "callback-proxy"
	agentPort     = "9111"
)

// The tags of a job: TagManagedBy, which is ManagedBy, says that it is Sockerless's, and TagInstance whose of these.
const (
	TagManagedBy = "managed-by"
	TagInstance  = "sockerless-backend"
	ManagedBy    = "sockerless"

	tagContainer = "sockerless-container"
	tagRun       = "sockerless-run"
	tagName      = "sockerless-name"
)

// runVariable tells an agent, and anybody who reads an execution's template, which start this is.
const runVariable = "SOCKERLESS_RUN_ID"

var (
	containerPattern = regexp.MustCompile(`^[0-9a-f]{12,64}$`)
	runPattern       = regexp.MustCompile(`^[0-9a-f]{32}$`)
	digestPattern    = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._:/]*@sha256:[0-9a-f]{64}$`)
	// executionPattern guards URLs and queries into which a name is put.
	executionPattern = regexp.MustCompile(`^[a-z0-9][-a-z0-9]{0,62}$`)
)

// jobName names a container's job: at most 32 characters of [a-z0-9-], beginning with a letter.
func jobName(container string) string { return "sl-" + container[:12] }

// Usable says whether containers can be run with this configuration at all. A backend tells that when it starts; Check
// refuses every container with the same words.
func (d *Driver) Usable() error {
	switch {
	case d.config.AgentImage == "" && d.config.Registry == "":
		return sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot run containers: there is no image with the agent; set SOCKERLESS_ACA_ACR to a registry to push it to, or SOCKERLESS_ACA_AGENT_IMAGE")
	case d.config.forward() && d.config.Resolver == "":
		// A job execution has no name in DNS: Container Apps registers apps with ingress only.
		return sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot run containers: the backend would have to dial agents at {execution}:%s, and nothing here resolves the names of executions; set SOCKERLESS_CALLBACK_URL so that agents dial the backend", agentPort)
	}
	return nil
}

// Check says whether spec can be run, without any call.
func (d *Driver) Check(spec driver.Spec) (warnings []string, err error) {
	if err := d.Usable(); err != nil {
		return nil, err
	}
	switch {
	case !containerPattern.MatchString(spec.Container):
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot run container %q: its id is not hexadecimal", spec.Container)
	case !digestPattern.MatchString(spec.Image):
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot run image %q: it is not repository@sha256:digest", spec.Image)
	case spec.MaxRuntime < 0 || spec.MaxRuntime > maxRuntime:
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot let a container run for %v: the longest is %v", spec.MaxRuntime, maxRuntime)
	}
	if server := d.lockedOut(spec); server != "" {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot run %s: jobs pull from %s only with an identity that may; set SOCKERLESS_ACA_IDENTITY", spec.Image, server)
	}
	_, warnings, err = fit(spec)
	return warnings, err
}

// lockedOut returns the registry that a job of spec would have to pull from without a right to, or "".
func (d *Driver) lockedOut(spec driver.Spec) string {
	if d.config.Registry == "" || d.config.Identity != "" {
		return ""
	}
	if spec.Credential != nil && registryServer(spec.Credential.Server) == d.config.Registry {
		return ""
	}
	for _, image := range []string{spec.Image, d.config.AgentImage} {
		if image == "" || strings.HasPrefix(image, d.config.Registry+"/") { // "" will be our own, pushed there
			return d.config.Registry
		}
	}
	return ""
}

// The sizes of the Consumption profile: steps of a quarter of a core, with 2 GiB of memory a core.
const (
	sizeStep    = 0.25
	sizeMax     = 4.0
	sizeDefault = 0.5 // Azure's own default too
	gibPerCore  = 2.0
	gib         = 1 << 30
)

// size is a legal pair of cores and memory.
type size struct{ cores float64 }

func (s size) memoryGiB() float64 { return s.cores * gibPerCore }

func (s size) resources() *armappcontainers.ContainerResources {
	return &armappcontainers.ContainerResources{CPU: to.Ptr(s.cores), Memory: to.Ptr(fmt.Sprintf("%gGi", s.memoryGiB()))}
}

// fit returns the smallest legal size that is below neither wish, and says where it differs from them.
func fit(spec driver.Spec) (size, []string, error) {
	if spec.CPU < 0 || spec.Memory < 0 || math.IsNaN(spec.CPU) {
		return size{}, nil, sockerless.Errorf(sockerless.EINVALID, "cannot use a negative amount of CPU or memory")
	}
	if spec.CPU > sizeMax {
		return size{}, nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --cpus %g: Container Apps gives a container at most %g on the Consumption profile", spec.CPU, sizeMax)
	}
	wanted := float64(spec.Memory) / gib
	if wanted > sizeMax*gibPerCore {
		return size{}, nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --memory %s: Container Apps gives a container at most %gGi on the Consumption profile", formatGiB(spec.Memory), sizeMax*gibPerCore)
	}
	if spec.CPU == 0 && spec.Memory == 0 {
		return size{sizeDefault}, nil, nil
	}
	steps := math.Ceil(max(spec.CPU, wanted/gibPerCore) / sizeStep)
	s := size{max(steps, 1) * sizeStep}
	var warnings []string
	if spec.CPU != 0 && spec.CPU != s.cores {
		warnings = append(warnings, fmt.Sprintf("CPU is rounded up from %g to %g: Container Apps knows pairs of CPU and memory only.", spec.CPU, s.cores))
	}
	if spec.Memory != 0 && wanted != s.memoryGiB() {
		warnings = append(warnings, fmt.Sprintf("Memory is rounded up from %s to %gGi: Container Apps knows pairs of CPU and memory only.", formatGiB(spec.Memory), s.memoryGiB()))
	}
	return s, warnings, nil
}

// formatGiB writes an amount of memory in the largest unit that keeps it readable.
func formatGiB(bytes int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10}} {
		if bytes >= u.size {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(bytes)/float64(u.size)), ".0") + u.name
		}
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// job is the resource that runs spec with the agent of agentImage. spec has passed Check.
func (d *Driver) job(spec driver.Spec, agentImage string) (armappcontainers.Job, error) {
	s, _, err := fit(spec)
	if err != nil {
		return armappcontainers.Job{}, err
	}
	registries, secrets, identity := d.access(spec)
	secrets = append(secrets, &armappcontainers.Secret{
		Name: to.Ptr(runSecret), Value: to.Ptr(base64.RawURLEncoding.EncodeToString(spec.Secret)),
	})
	if d.proxyHasUser() {
		secrets = append(secrets, &armappcontainers.Secret{Name: to.Ptr(proxySecret), Value: to.Ptr(d.config.CallbackProxy)})
	}
	lifetime := spec.MaxRuntime
	if lifetime == 0 {
		lifetime = d.config.MaxRuntime
	}
	mount := []*armappcontainers.VolumeMount{{VolumeName: to.Ptr(agentVolume), MountPath: to.Ptr(agentDir)}}
	configuration := &armappcontainers.JobConfiguration{
		TriggerType:       to.Ptr(armappcontainers.TriggerTypeManual),
		ReplicaTimeout:    to.Ptr(int32(math.Ceil(lifetime.Seconds()))),
		ReplicaRetryLimit: to.Ptr[int32](0),
		ManualTriggerConfig: &armappcontainers.JobConfigurationManualTriggerConfig{
			Parallelism: to.Ptr[int32](1), ReplicaCompletionCount: to.Ptr[int32](1),
		},
		Secrets:    secrets,
		Registries: registries,
	}
	if identity != nil {
		// Without this, user code could ask the replica's identity endpoint for tokens of the identity that pulls.
		configuration.IdentitySettings = []*armappcontainers.IdentitySettings{{
			Identity: to.Ptr(d.config.Identity), Lifecycle: to.Ptr(armappcontainers.IdentitySettingsLifeCycleNone),
		}}
	}
	return armappcontainers.Job{
		Location: to.Ptr(d.config.Location),
		Identity: identity,
		Tags:     d.tags(spec),
		Properties: &armappcontainers.JobProperties{
			// No workload profile is named: that means Consumption where an environment has profiles, and is the
			// only thing that one without profiles accepts.
			EnvironmentID: to.Ptr(d.config.EnvironmentID()),
			Configuration: configuration,
			Template: &armappcontainers.JobTemplate{
				InitContainers: []*armappcontainers.InitContainer{{
					Name:    to.Ptr(initContainer),
					Image:   to.Ptr(agentImage),
					Command: to.SliceOfPtrs(programs.AgentPath),
					Args:    to.SliceOfPtrs("install", agentDir),
					// The smallest legal pair: whether init containers count into the job's sum is not documented,
					// and a sum of legal pairs is one.
					Resources:    size{sizeStep}.resources(),
					VolumeMounts: mount,
				}},
				Containers: []*armappcontainers.Container{{
					Name:         to.Ptr(mainContainer),
					Image:        to.Ptr(spec.Image),
					Command:      to.SliceOfPtrs(agentInDir),
					Env:          d.environment(spec),
					Resources:    s.resources(),
					VolumeMounts: mount,
				}},
				Volumes: []*armappcontainers.Volume{{
					Name: to.Ptr(agentVolume), StorageType: to.Ptr(armappcontainers.StorageTypeEmptyDir),
				}},
			},
		},
	}, nil
}

func (d *Driver) tags(spec driver.Spec) map[string]*string {
	return map[string]*string{
		TagManagedBy: to.Ptr(ManagedBy),
		TagInstance:  to.Ptr(d.instance),
		tagContainer: to.Ptr(spec.Container),
		tagRun:       to.Ptr(spec.ID),
		tagName:      to.Ptr(spec.Name[:min(len(spec.Name), 256)]), // ARM's limit of a tag's value
	}
}

// environment is what the agent is told. The agent takes it away before the user's process starts.
func (d *Driver) environment(spec driver.Spec) []*armappcontainers.EnvironmentVar {
	env := []*armappcontainers.EnvironmentVar{
		{Name: to.Ptr(runVariable), Value: to.Ptr(spec.ID)},
		{Name: to.Ptr("SOCKERLESS_RUN_SECRET"), SecretRef: to.Ptr(runSecret)},
	}
	add := func(name, value string) {
		env = append(env, &armappcontainers.EnvironmentVar{Name: to.Ptr(name), Value: to.Ptr(value)})
	}
	if d.config.forward() {
		add("SOCKERLESS_AGENT_LISTEN", ":"+agentPort)
	} else {
		add("SOCKERLESS_CALLBACK_URL", d.config.CallbackURL) // the agent adds AgentRoute
	}
	switch proxy := d.config.CallbackProxy; {
	case d.proxyHasUser():
		env = append(env, &armappcontainers.EnvironmentVar{Name: to.Ptr("SOCKERLESS_PROXY"), SecretRef: to.Ptr(proxySecret)})
	case proxy != "" && !d.config.forward():
		add("SOCKERLESS_PROXY", proxy)
	}
	if d.callbackCA != "" {
		add("SOCKERLESS_CA", d.callbackCA)
	}
	if spec.Orphan > 0 {
		add("SOCKERLESS_ORPHAN", spec.Orphan.String())
	}
	return env
}

// proxyHasUser says whether the proxy's URL is a secret.
func (d *Driver) proxyHasUser() bool {
	u, err := url.Parse(d.config.CallbackProxy)
	return !d.config.forward() && err == nil && u.User != nil
}

// AgentRoute is where, below the callback URL, agents find the backend's hub.
const AgentRoute = "/agent"

// access is what the job may pull with: the identity for the configured registry, the user's credential for another.
func (d *Driver) access(spec driver.Spec) (registries []*armappcontainers.RegistryCredentials, secrets []*armappcontainers.Secret, identity *armappcontainers.ManagedServiceIdentity) {
	if d.config.Identity != "" {
		identity = &armappcontainers.ManagedServiceIdentity{
			Type:                   to.Ptr(armappcontainers.ManagedServiceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armappcontainers.UserAssignedIdentity{d.config.Identity: {}},
		}
		if d.config.Registry != "" {
			registries = append(registries, &armappcontainers.RegistryCredentials{
				Server: to.Ptr(d.config.Registry), Identity: to.Ptr(d.config.Identity),
			})
		}
	}
	c := spec.Credential
	if c == nil || c.Username == "" || c.Password == "" {
		return registries, secrets, identity
	}
	server := registryServer(c.Server)
	if server == d.config.Registry && identity != nil {
		return registries, secrets, identity // one entry a server; the identity outlives the user's password
	}
	secrets = append(secrets, &armappcontainers.Secret{Name: to.Ptr(pullSecret), Value: to.Ptr(c.Password)})
	registries = append(registries, &armappcontainers.RegistryCredentials{
		Server: to.Ptr(server), Username: to.Ptr(c.Username), PasswordSecretRef: to.Ptr(pullSecret),
	})
	return registries, secrets, identity
}

// registryServer is a registry as Container Apps names it, out of what docker calls its server address.
func registryServer(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	server, _, _ := strings.Cut(rest, "/")
	switch server {
	case "index.docker.io", "registry-1.docker.io", "":
		return "docker.io"
	}
	return server
}
