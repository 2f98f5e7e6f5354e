package doctor_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/doctor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ward is a simulated Azure and the settings of a backend in it.
type ward struct {
	t   *testing.T
	sim *azuresim.Simulator
	srv *azuresim.Server
	opt doctor.Options

	undo []func()
}

// newWard has everything in order, but that no job can run.
func newWard(t *testing.T, opts ...azuresim.Option) *ward {
	t.Helper()
	sim, err := azuresim.New(append([]azuresim.Option{azuresim.Calm()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("cannot close the simulator's server: %v", err)
		}
		if err := sim.Close(); err != nil {
			t.Errorf("cannot close the simulator: %v", err)
		}
	})
	w := sim.World()
	c := aca.DefaultConfig()
	c.Subscription, c.ResourceGroup, c.Environment, c.Location = w.Subscription, w.ResourceGroup, w.Environment, w.Location
	c.Workspace, c.Identity, c.Registry = w.WorkspaceCustomerID, w.PullIdentityID(), srv.LoginServer
	c.CallbackURL = "http://host.azuresim.internal:9100"
	c.EndpointURL, c.CAFile = srv.URL, srv.CAFile
	c.AgentBinary = program(t)
	return &ward{t: t, sim: sim, srv: srv, opt: doctor.Options{Azure: c, Quick: true, Credential: operator{sim}, PollEvery: 50 * time.Millisecond}}
}

// program is a file in the form of a static program for linux/amd64: enough for what is pushed and not run.
func program(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	err := binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phoff: 64, Phentsize: 56,
	})
	file := filepath.Join(t.TempDir(), "agent")
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// operator is the simulator's principal with a backend's roles.
type operator struct{ sim *azuresim.Simulator }

func (o operator) GetToken(_ context.Context, opt policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := o.sim.Token(o.sim.Operator(), strings.TrimSuffix(opt.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// role gives the operator a role, or takes it away, until heal.
func (w *ward) role(give bool, role, scope string) {
	w.t.Helper()
	as := azuresim.Assignment{Principal: w.sim.Operator().ObjectID, Role: role, Scope: scope}
	if give {
		if err := w.sim.Assign(as); err != nil {
			w.t.Fatal(err)
		}
		w.undo = append(w.undo, func() { w.sim.Unassign(as) })
		return
	}
	if !w.sim.Unassign(as) {
		w.t.Fatalf("the operator has no role %s on %s", role, scope)
	}
	w.undo = append(w.undo, func() {
		if err := w.sim.Assign(as); err != nil {
			w.t.Error(err)
		}
	})
}

// heal makes the ward what it was before a case: simulators take seconds to make, with their keys.
func (w *ward) heal(opt doctor.Options) {
	for _, undo := range slices.Backward(w.undo) {
		undo()
	}
	w.sim.ClearFaults()
	w.undo, w.opt = nil, opt
}

// put makes a call of ARM as the operator.
func (w *ward) put(id, body string) {
	w.t.Helper()
	token, err := w.sim.Token(w.sim.Operator(), "https://management.azure.com")
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, w.srv.URL+id+"?api-version=2025-01-01", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 300 {
		w.t.Fatalf("PUT %s: %s %s %v", id, resp.Status, text, err)
	}
}

// lines are the findings, with what differs between two runs replaced by words; unless all are wanted, without those that are ok.
func (w *ward) lines(all bool) []string {
	var found []string
	for f := range doctor.Examine(w.t.Context(), w.opt) {
		if f.Level != doctor.OK || all {
			found = append(found, w.plain(f.String()))
		}
	}
	return found
}

var (
	digest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	job    = regexp.MustCompile(`sl-doctor-[a-z2-7]{8}`)
	local  = regexp.MustCompile(`127\.0\.0\.1:[0-9]+->`)
	skew   = regexp.MustCompile(`clock is (5[0-9]m[0-9]+s|1h0m[0-9]+s|[45][0-9]s|1m[0-9]+s) `) // an answer may be on its way for seconds
)

func (w *ward) plain(line string) string {
	line = skew.ReplaceAllString(local.ReplaceAllString(line, "HERE->"), "clock is SKEW ")
	line = job.ReplaceAllString(digest.ReplaceAllString(line, "sha256:DIGEST"), "JOB")
	return strings.NewReplacer(w.srv.LoginServer, "REGISTRY", w.srv.URL, "ARM", w.srv.HTTPSURL, "HTTPS").Replace(line)
}

const (
	subscription = "/subscriptions/5c0c1e55-0000-4000-8000-000000000001"
	group        = subscription + "/resourceGroups/sockerless"
	environment  = group + "/providers/Microsoft.App/managedEnvironments/sockerless"
	pull         = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sockerless-pull"
	who          = "object id 5c0c1e55-0000-4000-8000-0000000000b1"
	client       = "The client '5c0c1e55-0000-4000-8000-0000000000b2' with object id '5c0c1e55-0000-4000-8000-0000000000b1'"
)

func TestHealthy(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.opt.State = w.sim.TableURL(w.srv, "state")
	for name, told := range map[string]bool{"rights are tried": false, "rights are told": true} {
		t.Run(name, func(t *testing.T) {
			defer w.heal(w.opt)
			if told {
				w.role(true, "Reader", w.sim.World().GroupID())
			}
			want := []string{
				"ok   settings: everything that a backend needs is set",
				"ok   credentials: application 5c0c1e55-0000-4000-8000-0000000000b2, " + who,
				"ok   environment: sockerless in eastus is Succeeded, domain calmsea-5412087f.eastus.azurecontainerapps.azuresim.internal",
				"ok   clock: this machine's clock is within 10s of Azure's",
				"ok   jobs: jobs can be made, started, stopped, listed and deleted in resource group sockerless",
				"ok   join: jobs can join environment sockerless",
				"ok   quota: 0 of 100 cores are in use",
				"ok   identity: jobs can be given identity sockerless-pull to pull with",
				"ok   registry: REGISTRY answers, exchanges tokens and takes its own",
				"ok   push: images can be pushed to REGISTRY",
				"ok   agent: REGISTRY/sockerless/agent@sha256:DIGEST is not there yet; the backend pushes it when it starts",
				"ok   logs: workspace 5c0c1e55-0000-4000-8000-00000000001a is the environment's, and can be read",
				"ok   state: the backend makes table HTTPS/sockerlesssim/state when it starts",
			}
			got := w.lines(true)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if jobs := w.sim.Jobs(); len(jobs) > 0 {
				t.Errorf("left are %+v", jobs)
			}
		})
	}
}

func TestSick(t *testing.T) {
	t.Parallel()
	const (
		jobs    = "Container Apps Jobs Contributor"
		envs    = "Container Apps ManagedEnvironments Contributor"
		newRole = "; a new role takes some minutes to hold"
		hidden  = "warn join: what " + who + " may do on " + environment + " does not show before it may make jobs at all: see jobs"
		setLogs = "set SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE"
	)
	shared := newWard(t)
	for name, c := range map[string]struct {
		with []azuresim.Option // of a ward of its own
		sick func(*ward)
		want []string
	}{
		"no subscription": {
			sick: func(w *ward) { w.opt.Azure.Subscription = "" },
			want: []string{"FAIL settings: SOCKERLESS_ACA_SUBSCRIPTION_ID (flag -subscription) is not set"},
		},
		"nobody knows where the agents are": {
			sick: func(w *ward) { w.opt.Azure.CallbackURL = "" },
			want: []string{"FAIL settings: cannot run containers: the backend would have to dial agents at {execution}:9111, and nothing here resolves the names of executions; set SOCKERLESS_CALLBACK_URL so that agents dial the backend"},
		},
		"credential expired": {
			with: []azuresim.Option{azuresim.Calm()},
			sick: func(w *ward) { w.opt.Credential = w.expired() },
			want: []string{"FAIL credentials: cannot get a token for Azure Resource Manager: cannot sign in to Azure: AADSTS7000222: The provided client secret keys for app '5c0c1e55-0000-4000-8000-0000000000b2' are expired." +
				" Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds" +
				": sign in with az login, put the backend's identity on this machine (AZURE_CLIENT_ID names one of several), or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"},
		},
		"environment failed": {
			sick: func(w *ward) {
				if err := w.sim.FailOperation(http.MethodPut, "/managedEnvironments/", 1, "Failed", "It failed."); err != nil {
					w.t.Fatal(err)
				}
				const body = `{"location":"eastus","properties":{"appLogsConfiguration":{"destination":"log-analytics","logAnalyticsConfiguration":{"customerId":"5c0c1e55-0000-4000-8000-00000000001a"}}}}`
				w.put(environment, body)
				w.undo = append(w.undo, func() { w.put(environment, body) })
			},
			want: []string{"FAIL environment: environment sockerless is Failed, domain calmsea-5412087f.eastus.azurecontainerapps.azuresim.internal, and takes no jobs: the portal says why; terraform apply -replace makes it anew"},
		},
		"environment elsewhere": {
			sick: func(w *ward) { w.opt.Azure.Location = "West Europe" },
			want: []string{"FAIL environment: environment sockerless is in eastus, and jobs would be made in westeurope: set SOCKERLESS_ACA_LOCATION=eastus"},
		},
		"environment not there": {
			sick: func(w *ward) { w.opt.Azure.Environment = "nosuch" },
			want: []string{
				"FAIL environment: cannot read environment nosuch of resource group sockerless: Azure answered 404 ResourceNotFound: The Resource 'Microsoft.App/managedEnvironments/nosuch' under resource group 'sockerless' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix: set SOCKERLESS_ACA_SUBSCRIPTION_ID, SOCKERLESS_ACA_RESOURCE_GROUP and SOCKERLESS_ACA_ENVIRONMENT to where it is (terraform output -raw backend_env)",
				"FAIL join: " + who + " may not Microsoft.App/managedEnvironments/join/action on " + group + "/providers/Microsoft.App/managedEnvironments/nosuch, so jobs cannot be made in it: give it the role " + envs + " there" + newRole,
				"warn quota: cannot read the quota of environment nosuch: Azure answered 403 AuthorizationFailed: " + client + " does not have authorization to perform action 'Microsoft.App/managedEnvironments/usages/read' over scope '" + group + "/providers/Microsoft.App/managedEnvironments/nosuch' or the scope is invalid. If access was recently granted, please refresh your credentials: give " + who + " the role " + envs + " on the environment, for docker info too",
			},
		},
		"clock an hour behind": {
			with: []azuresim.Option{azuresim.WithClock(func() time.Time { return time.Now().Add(time.Hour) })},
			want: []string{"FAIL clock: this machine's clock is SKEW behind Azure's, and from 2m0s on tokens and executions are taken for old or for new ones: set it (timedatectl set-ntp true)"},
		},
		"clock a minute ahead": {
			with: []azuresim.Option{azuresim.WithClock(func() time.Time { return time.Now().Add(-time.Minute) })},
			want: []string{"warn clock: this machine's clock is SKEW ahead of Azure's: set it (timedatectl set-ntp true)"},
		},
		"no right to jobs": {
			sick: func(w *ward) { w.role(false, jobs, group) },
			want: []string{
				"FAIL jobs: " + who + " may not Microsoft.App/jobs/read, Microsoft.App/jobs/write, Microsoft.App/jobs/delete, Microsoft.App/jobs/start/action, Microsoft.App/jobs/stop/execution/action, Microsoft.App/jobs/executions/read, Microsoft.App/jobs/execution/read on " + group + ", so containers do not run: give it the role " + jobs + " there" + newRole,
				hidden,
			},
		},
		"right to start jobs, not to make them": {
			sick: func(w *ward) { w.role(false, jobs, group); w.role(true, "Container Apps Jobs Operator", group) },
			want: []string{
				"FAIL jobs: " + who + " may not Microsoft.App/jobs/write, Microsoft.App/jobs/delete on " + group + ", so containers do not run: give it the role " + jobs + " there" + newRole,
				hidden,
			},
		},
		"right to read jobs, which is told": {
			sick: func(w *ward) { w.role(false, jobs, group); w.role(true, "Reader", group) },
			want: []string{
				"FAIL jobs: " + who + " may not Microsoft.App/jobs/write, Microsoft.App/jobs/delete, Microsoft.App/jobs/start/action, Microsoft.App/jobs/stop/execution/action on " + group + ", so containers do not run: give it the role " + jobs + " there" + newRole,
			},
		},
		"no right to join the environment": {
			sick: func(w *ward) {
				w.role(false, envs, environment)
				w.role(true, "Container Apps ManagedEnvironments Reader", environment)
			},
			want: []string{"FAIL join: " + who + " may not Microsoft.App/managedEnvironments/join/action on " + environment + ", so jobs cannot be made in it: give it the role " + envs + " there" + newRole},
		},
		"no right to join the environment, which is told": {
			sick: func(w *ward) { w.role(false, envs, environment); w.role(true, "Reader", group) },
			want: []string{"FAIL join: " + who + " may not Microsoft.App/managedEnvironments/join/action on " + environment + ", so jobs cannot be made in it: give it the role " + envs + " there" + newRole},
		},
		"no quota": {
			with: []azuresim.Option{azuresim.WithCores(0)},
			want: []string{"FAIL quota: 0 of 0 cores of environment sockerless are in use, so no container starts: remove some, or ask for more (portal, Quotas, Azure Container Apps)"},
		},
		"no right to assign the identity": {
			sick: func(w *ward) { w.role(false, "Managed Identity Operator", pull) },
			want: []string{"FAIL identity: " + who + " may not Microsoft.ManagedIdentity/userAssignedIdentities/assign/action on " + pull + ", so no job can be given the identity that pulls its images: give it the role Managed Identity Operator there" + newRole},
		},
		"identity not there": {
			sick: func(w *ward) {
				w.opt.Azure.Identity = strings.TrimSuffix(pull, "-pull") + "-nosuch"
				w.role(true, "Reader", group)
			},
			want: []string{"FAIL identity: cannot find identity sockerless-nosuch: Azure answered 404 ResourceNotFound: The Resource 'Microsoft.ManagedIdentity/userAssignedIdentities/sockerless-nosuch' under resource group 'sockerless' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix: set SOCKERLESS_ACA_IDENTITY to one that exists (terraform output -raw pull_identity_id)"},
		},
		"private registry without an identity": {
			sick: func(w *ward) { w.opt.Azure.Identity = "" },
			want: []string{"FAIL identity: none is set, and jobs pull from REGISTRY only with one that may: set SOCKERLESS_ACA_IDENTITY (terraform output -raw pull_identity_id)"},
		},
		"registry not there": {
			sick: func(w *ward) { w.opt.Azure.Registry = "127.0.0.1:1" },
			want: []string{
				"FAIL registry: cannot reach 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: set SOCKERLESS_ACA_ACR to its login server, and let this machine through its firewall",
				"warn push: the rights on 127.0.0.1:1 do not show before it gives tokens: see registry",
				"warn agent: whether it is in 127.0.0.1:1 does not show before that gives tokens: see registry",
			},
		},
		"registry does not know the tenant": {
			sick: func(w *ward) {
				if err := w.sim.Fail(http.MethodPost, "^/oauth2/exchange$", -1, http.StatusUnauthorized, "UNAUTHORIZED", "the tenant is not the registry's"); err != nil {
					w.t.Fatal(err)
				}
			},
			want: []string{
				"FAIL registry: cannot sign in to registry REGISTRY: Azure answered 401 UNAUTHORIZED: the tenant is not the registry's: give " + who + " the role AcrPush on the registry, whose tenant has to be its own" + newRole,
				"warn push: the rights on REGISTRY do not show before it gives tokens: see registry",
				"warn agent: whether it is in REGISTRY does not show before that gives tokens: see registry",
			},
		},
		"no right to push": {
			sick: func(w *ward) {
				w.role(false, "AcrPush", w.sim.World().RegistryID())
				w.role(true, "AcrPull", w.sim.World().RegistryID())
			},
			want: []string{"FAIL push: " + who + " may not push to REGISTRY, so the agent, docker load, import, commit and push do not get there: give it the role AcrPush on the registry" + newRole},
		},
		"no right on the registry": {
			sick: func(w *ward) { w.role(false, "AcrPush", w.sim.World().RegistryID()) },
			want: []string{
				"FAIL push: " + who + " may not push to REGISTRY, so the agent, docker load, import, commit and push do not get there: give it the role AcrPush on the registry" + newRole,
				"FAIL agent: " + who + " may not pull REGISTRY/sockerless/agent@sha256:DIGEST: give it the role AcrPull on the registry" + newRole,
			},
		},
		"no agent image": {
			sick: func(w *ward) { w.opt.Azure.AgentImage = w.srv.LoginServer + "/sockerless/agent:nosuch" },
			want: []string{"FAIL agent: there is no REGISTRY/sockerless/agent:nosuch: push it, or leave SOCKERLESS_ACA_AGENT_IMAGE unset, and the backend pushes its own"},
		},
		"no workspace": {
			sick: func(w *ward) { w.opt.Azure.Workspace = "" },
			want: []string{"warn logs: no workspace is set, so output that the backend has lost is lost: " + setLogs + " (terraform output -raw log_analytics_workspace_id)"},
		},
		"workspace of something else": {
			sick: func(w *ward) { w.opt.Azure.Workspace = "5c0c1e55-0000-4000-8000-00000000dead" },
			want: []string{"FAIL logs: environment sockerless writes to workspace 5c0c1e55-0000-4000-8000-00000000001a, and 5c0c1e55-0000-4000-8000-00000000dead is asked: " + setLogs + "=5c0c1e55-0000-4000-8000-00000000001a"},
		},
		"workspace by its ARM id": {
			sick: func(w *ward) { w.opt.Azure.Workspace = w.sim.World().WorkspaceID() },
		},
		"workspace not there": {
			sick: func(w *ward) {
				w.opt.Azure.Workspace = w.sim.World().WorkspaceID() + "-nosuch"
				w.role(true, "Reader", group)
			},
			want: []string{"FAIL logs: cannot read workspace " + group + "/providers/Microsoft.OperationalInsights/workspaces/sockerless-logs-nosuch: Azure answered 404 ResourceNotFound: The Resource 'Microsoft.OperationalInsights/workspaces/sockerless-logs-nosuch' under resource group 'sockerless' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix: " + setLogs + " to that of the environment, with the role Log Analytics Reader on it (terraform output -raw log_analytics_workspace_id)"},
		},
		"no right to read logs": {
			sick: func(w *ward) { w.role(false, "Log Analytics Reader", w.sim.World().WorkspaceID()) },
			want: []string{
				"FAIL logs: cannot query workspace 5c0c1e55-0000-4000-8000-00000000001a: Azure answered 403 InsufficientAccessError: The provided credentials have insufficient access to perform the requested operation: give " + who + " the role Log Analytics Reader on the workspace" + newRole,
			},
		},
		"agents are dialled": {
			sick: func(w *ward) { w.opt.Azure.CallbackURL, w.opt.Azure.Resolver = "", w.srv.DNSAddr },
		},
		"resolver does not answer": {
			sick: func(w *ward) { w.opt.Azure.CallbackURL, w.opt.Azure.Resolver = "", "127.0.0.1:1" },
			want: []string{"FAIL resolver: SOCKERLESS_ACA_RESOLVER 127.0.0.1:1 does not answer: lookup sockerless. on 127.0.0.1:1: read udp HERE->127.0.0.1:1: read: connection refused: set SOCKERLESS_CALLBACK_URL, so that agents dial the backend"},
		},
		"no right on the state": {
			sick: func(w *ward) {
				w.opt.State = w.sim.TableURL(w.srv, "state")
				w.role(false, "Storage Table Data Contributor", w.sim.World().StorageAccountID())
			},
			want: []string{
				"FAIL state: cannot use table HTTPS/sockerlesssim/state: Azure answered 403 AuthorizationPermissionMismatch: give " + who + " the role Storage Table Data Contributor on the storage account, and let this machine through its firewall" + newRole,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := shared
			if c.with != nil {
				w = newWard(t, c.with...)
			}
			if c.sick != nil {
				defer w.heal(w.opt)
				c.sick(w)
			}
			if diff := cmp.Diff(c.want, w.lines(false)); diff != "" {
				t.Errorf("findings that are not ok (-want +got):\n%s", diff)
			}
			if jobs := w.sim.Jobs(); len(jobs) > 0 {
				t.Errorf("left are %+v", jobs)
			}
		})
	}
}

// expired is a real credential whose secret Entra takes no more.
func (w *ward) expired() azcore.TokenCredential {
	w.t.Helper()
	pem, err := os.ReadFile(w.srv.CAFile)
	if err != nil {
		w.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	w.t.Cleanup(transport.CloseIdleConnections)
	p := w.sim.Operator()
	w.sim.ExpireSecret(p)
	credential, err := azidentity.NewClientSecretCredential(w.sim.World().Tenant, p.ClientID, p.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: w.srv.HTTPSURL}, Transport: &http.Client{Transport: transport},
		},
		DisableInstanceDiscovery: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return credential
}

// The page, and the walk-through's table of what goes wrong, name the checks that there are, all of them.
func TestPages(t *testing.T) {
	cells := regexp.MustCompile("`([a-z]+)`")
	for file, column := range map[string]int{"../../../docs/doctor.md": 1, "../examples/terraform/README.md": 2} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			cell := strings.Split(line, "|")
			if len(cell) < 4 || strings.HasPrefix(line, "|---") || strings.Contains(cell[column], "check") || strings.Contains(cell[1], "what you see") {
				continue
			}
			found := cells.FindAllStringSubmatch(cell[column], -1)
			if len(found) == 0 {
				t.Errorf("%s: no check in %s", file, line)
			}
			for _, m := range found {
				named[m[1]] = true
			}
		}
		want := map[string]bool{}
		for _, name := range doctor.Names() {
			want[name] = true
		}
		if diff := cmp.Diff(want, named); diff != "" {
			t.Errorf("checks in %s (-there are +named):\n%s", file, diff)
		}
	}
}
