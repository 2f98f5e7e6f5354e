package aca

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// Config says where in Azure jobs run. DefaultConfig has the defaults; Settings defines its variables and flags.
type Config struct {
	Subscription   string // GUID
	ResourceGroup  string
	Environment    string // name, or ARM id of one in another resource group
	Location       string // of the environment
	Workspace      string // Log Analytics: GUID or ARM id; empty: no archive of logs
	StorageAccount string // shown in Info; volumes will be shares of it
	AgentImage     string // reference of an image with the agent in it; empty: the backend pushes its own into Registry
	AgentBinary    string // the static agent program to push; empty: it is looked for
	Identity       string // ARM id of the user-assigned identity that pulls images
	Registry       string // login server of the container registry
	MaxRuntime     time.Duration

	// CallbackURL is where agents find the backend (reverse mode). Empty: the backend dials agents (forward mode),
	// whose names Resolver has to know.
	CallbackURL string
	// CallbackCAFile is a PEM file of the only authorities by which agents verify an https CallbackURL; empty: those of the
	// container's image, of which a small one has none.
	CallbackCAFile string
	// CallbackProxy is the http or https URL of the proxy that leads from agents to CallbackURL, perhaps with a user and a
	// password; "direct" for none, and empty for what the image's environment says.
	CallbackProxy string
	// Resolver is the address of a DNS server that knows the names of job executions, or "system" if the system's does.
	Resolver string

	EndpointURL string // another cloud, or a simulator; empty: public Azure
	CAFile      string // PEM file of further authorities to trust
}

// SystemResolver as Config.Resolver says that the system's own resolver knows the names of job executions.
const SystemResolver = "system"

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Environment: "sockerless", Location: "eastus", MaxRuntime: 7 * 24 * time.Hour}
}

// Settings defines the variables and flags of c in s.
func (c *Config) Settings(s *Settings) {
	s.String(&c.Subscription, "SOCKERLESS_ACA_SUBSCRIPTION_ID", "subscription", "Azure subscription, required")
	s.String(&c.ResourceGroup, "SOCKERLESS_ACA_RESOURCE_GROUP", "resource-group", "resource group for the jobs, required")
	s.String(&c.Environment, "SOCKERLESS_ACA_ENVIRONMENT", "environment", "Container Apps environment: its name, or its ARM id")
	s.String(&c.Location, "SOCKERLESS_ACA_LOCATION", "location", "region of the environment")
	s.String(&c.Workspace, "SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE", "log-analytics-workspace",
		"Log Analytics workspace of the environment: its customer id (a GUID), or its ARM id")
	s.String(&c.StorageAccount, "SOCKERLESS_ACA_STORAGE_ACCOUNT", "storage-account", "storage account for volumes, which are not offered yet; docker info shows it")
	s.String(&c.AgentImage, "SOCKERLESS_ACA_AGENT_IMAGE", "agent-image",
		"image with the agent; if it is not set, the backend pushes its own into the registry")
	s.String(&c.AgentBinary, "SOCKERLESS_AGENT_BINARY", "agent-binary",
		"the agent program to push; if it is not set, it is looked for beside this program and in PATH")
	s.String(&c.Identity, "SOCKERLESS_ACA_IDENTITY", "identity", "ARM id of the user-assigned identity that pulls images")
	s.Duration(&c.MaxRuntime, "SOCKERLESS_ACA_MAX_RUNTIME", "max-runtime", "how long a container may run")
	s.String(&c.CallbackURL, "SOCKERLESS_CALLBACK_URL", "callback-url",
		"URL under which agents reach this backend; if it is not set, the backend dials the agents")
	s.String(&c.CallbackCAFile, "SOCKERLESS_CALLBACK_CA_FILE", "callback-ca-file",
		"PEM file of the authorities by which agents verify an https callback URL; if it is not set, those of the container's image")
	s.String(&c.CallbackProxy, "SOCKERLESS_CALLBACK_PROXY", "callback-proxy",
		"URL of the proxy from agents to the callback URL, or \"direct\"; if it is not set, what HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the container's image say")
	s.String(&c.Resolver, "SOCKERLESS_ACA_RESOLVER", "resolver",
		"host:port of a DNS server that knows the names of job executions, or \""+SystemResolver+"\"; for a backend that dials the agents")
	c.CloudSettings(s)
}

// CloudSettings defines in s those settings of c alone that say which cloud and registry it is.
func (c *Config) CloudSettings(s *Settings) {
	s.String(&c.Registry, "SOCKERLESS_ACA_ACR", "acr", "login server of the container registry, such as name.azurecr.io")
	s.String(&c.EndpointURL, "SOCKERLESS_ENDPOINT_URL", "endpoint-url",
		"another cloud, or the simulator; the rest is read from its /metadata/endpoints")
	s.String(&c.CAFile, "SOCKERLESS_CA_FILE", "ca-file", "PEM file of authorities to trust beside the system's")
}

var (
	guidPattern        = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	groupPattern       = regexp.MustCompile(`^[-\w._()]{1,90}$`)
	namePattern        = regexp.MustCompile(`^[a-zA-Z][-a-zA-Z0-9]{0,59}$`)
	accountPattern     = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	environmentPattern = armID("Microsoft.App/managedEnvironments")
	workspacePattern   = armID("Microsoft.OperationalInsights/workspaces")
	identityPattern    = armID("Microsoft.ManagedIdentity/userAssignedIdentities")
)

// armID matches the ARM id of a resource of a type; ARM compares them without case.
func armID(kind string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)^/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/]+/providers/` + regexp.QuoteMeta(kind) + `/[^/]+$`)
}

// Validate normalises c and says what is missing or malformed: a *SettingError.
func (c *Config) Validate() error {
	c.Location = strings.ToLower(strings.ReplaceAll(c.Location, " ", ""))
	c.CallbackURL = strings.TrimSuffix(c.CallbackURL, "/")
	if err := checkSettings([]check{
		{c.Subscription, "SOCKERLESS_ACA_SUBSCRIPTION_ID", "subscription", true, matches(guidPattern, "is no GUID")},
		{c.ResourceGroup, "SOCKERLESS_ACA_RESOURCE_GROUP", "resource-group", true, matches(groupPattern, "is no name of a resource group")},
		{c.Environment, "SOCKERLESS_ACA_ENVIRONMENT", "environment", true, either(namePattern, environmentPattern, "is neither a name nor the ARM id of a managed environment")},
		{c.Location, "SOCKERLESS_ACA_LOCATION", "location", true, matches(regexp.MustCompile(`^[a-z0-9]+$`), "is no Azure region")},
		{c.Workspace, "SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE", "log-analytics-workspace", false, either(guidPattern, workspacePattern, "is neither a GUID nor the ARM id of a Log Analytics workspace")},
		{c.StorageAccount, "SOCKERLESS_ACA_STORAGE_ACCOUNT", "storage-account", false, matches(accountPattern, "is no name of a storage account")},
		{c.AgentImage, "SOCKERLESS_ACA_AGENT_IMAGE", "agent-image", false, imageProblem},
		{c.Identity, "SOCKERLESS_ACA_IDENTITY", "identity", false, matches(identityPattern, "is no ARM id of a user-assigned identity")},
		{c.CallbackURL, "SOCKERLESS_CALLBACK_URL", "callback-url", false, callbackProblem},
		{c.CallbackProxy, "SOCKERLESS_CALLBACK_PROXY", "callback-proxy", false, proxyProblem},
		{c.Resolver, "SOCKERLESS_ACA_RESOLVER", "resolver", false, resolverProblem},
	}); err != nil {
		return err
	}
	if err := c.ValidateCloud(); err != nil {
		return err
	}
	if c.MaxRuntime < time.Second || c.MaxRuntime > maxRuntime {
		return &SettingError{"SOCKERLESS_ACA_MAX_RUNTIME", "max-runtime", fmt.Sprintf("is %v; it must be between 1s and %v", c.MaxRuntime, maxRuntime)}
	}
	return nil
}

// ValidateCloud is Validate for those settings alone that say which cloud and registry it is.
func (c *Config) ValidateCloud() error {
	c.EndpointURL = strings.TrimSuffix(c.EndpointURL, "/")
	return checkSettings([]check{
		{c.Registry, "SOCKERLESS_ACA_ACR", "acr", false, registryProblem},
		{c.EndpointURL, "SOCKERLESS_ENDPOINT_URL", "endpoint-url", false, endpointProblem},
	})
}

// check is what holds for one setting; problem says what is wrong with a value, and is empty if nothing is.
type check struct {
	value, env, flag string
	required         bool
	problem          func(string) string
}

func checkSettings(all []check) error {
	for _, c := range all {
		problem := ""
		switch {
		case c.value != "":
			problem = c.problem(c.value)
		case c.required:
			problem = "is not set"
		}
		if problem != "" {
			return &SettingError{c.env, c.flag, problem}
		}
	}
	return nil
}

// maxRuntime is what replicaTimeout can hold: an int32 of seconds.
const maxRuntime = math.MaxInt32 * time.Second

// EnvironmentID is the ARM id of the managed environment.
func (c *Config) EnvironmentID() string {
	if strings.HasPrefix(c.Environment, "/") {
		return c.Environment
	}
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.App/managedEnvironments/%s",
		c.Subscription, c.ResourceGroup, c.Environment)
}

// forward says whether the backend dials the agents.
func (c *Config) forward() bool { return c.CallbackURL == "" }

func matches(p *regexp.Regexp, problem string) func(string) string { return either(p, p, problem) }

func either(a, b *regexp.Regexp, problem string) func(string) string {
	return func(v string) string {
		if a.MatchString(v) || b.MatchString(v) {
			return ""
		}
		return fmt.Sprintf("is %q, which %s", v, problem)
	}
}

func imageProblem(v string) string {
	if _, err := name.ParseReference(v); err != nil {
		return fmt.Sprintf("is %q, which is no reference of an image", v)
	}
	return ""
}

func registryProblem(v string) string {
	if _, err := name.NewRegistry(v, name.StrictValidation); err != nil || strings.ContainsAny(v, "/ ") {
		return fmt.Sprintf("is %q, which is no login server such as name.azurecr.io", v)
	}
	return ""
}

func callbackProblem(v string) string {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("is %q, which is no http or https URL", redact(v))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "must have no user, query or fragment"
	}
	return ""
}

// directProxy as Config.CallbackProxy says that agents use none.
const directProxy = "direct"

func proxyProblem(v string) string {
	u, err := url.Parse(v)
	if v != directProxy && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Sprintf("is %q, which is neither an http or https URL nor %q", redact(v), directProxy)
	}
	return ""
}

func resolverProblem(v string) string {
	if v == SystemResolver {
		return ""
	}
	if host, port, err := net.SplitHostPort(v); err != nil || host == "" || port == "" {
		return fmt.Sprintf("is %q, which is neither host:port nor %q", v, SystemResolver)
	}
	return ""
}

func endpointProblem(v string) string {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("is %q, which is no http or https URL", redact(v))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "must have no user, query or fragment"
	}
	if err := checkEndpoint(v); err != nil {
		return fmt.Sprintf("is %q: %v", v, err)
	}
	return ""
}

// redact keeps a password in a malformed URL out of logs.
func redact(v string) string {
	if i := strings.LastIndexByte(v, '@'); i >= 0 {
		return "..." + v[i:]
	}
	return v
}

// checkEndpoint refuses an address to which a token would travel in the clear: plain http is for loopback only.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no URL", endpoint)
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("only https is used for other machines than this one")
}

// loopback says whether a host's name means this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
