package azuresim

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scriptedRuntime runs replicas that do what the test says.
type scriptedRuntime struct {
	mu       sync.Mutex
	replicas []*scriptedReplica
	onStart  func(*scriptedReplica) // runs in Start; nil: the replica runs until it is stopped
}

type scriptedReplica struct {
	spec    ReplicaSpec
	done    chan struct{}
	once    sync.Once
	result  ReplicaResult
	onStop  func(*scriptedReplica, time.Duration) // nil: every container ends with 143 at once
	dial    func(context.Context, uint16) (net.Conn, error)
	mu      sync.Mutex
	stopped []time.Duration
}

func (rt *scriptedRuntime) Start(_ context.Context, spec ReplicaSpec) (Replica, error) {
	r := &scriptedReplica{spec: spec, done: make(chan struct{})}
	rt.mu.Lock()
	script := rt.onStart
	if script != nil {
		script(r) // before anybody sees it
	}
	rt.replicas = append(rt.replicas, r)
	rt.mu.Unlock()
	return r, nil
}

// script sets what replicas do from now on.
func (rt *scriptedRuntime) script(f func(*scriptedReplica)) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.onStart = f
}

func (rt *scriptedRuntime) Close() error {
	for _, r := range rt.all() {
		r.exit(137)
	}
	return nil
}

func (rt *scriptedRuntime) all() []*scriptedReplica {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return append([]*scriptedReplica{}, rt.replicas...)
}

// exit ends every container with the code.
func (r *scriptedReplica) exit(code int) {
	r.once.Do(func() {
		for _, list := range [][]ContainerSpec{r.spec.Init, r.spec.Containers} {
			for _, c := range list {
				r.result.Containers = append(r.result.Containers, ContainerResult{Name: c.Name, ExitCode: code})
			}
		}
		close(r.done)
	})
}

func (r *scriptedReplica) DialContext(ctx context.Context, port uint16) (net.Conn, error) {
	if r.dial == nil {
		return nil, errors.New("nobody listens in a scripted replica")
	}
	return r.dial(ctx, port)
}
func (r *scriptedReplica) Done() <-chan struct{} { return r.done }
func (r *scriptedReplica) Result() ReplicaResult { return r.result }
func (r *scriptedReplica) Stop(grace time.Duration) {
	r.mu.Lock()
	r.stopped = append(r.stopped, grace)
	r.mu.Unlock()
	if r.onStop != nil {
		r.onStop(r, grace)
		return
	}
	r.exit(143)
}

// stage is a simulator with listeners and the SDK's clients for it.
type stage struct {
	t       *testing.T
	sim     *Simulator
	srv     *Server
	runtime *scriptedRuntime
	world   World
	client  *http.Client
}

// newStage starts a calm simulator; opts come after Calm.
func newStage(t *testing.T, opts ...Option) *stage {
	t.Helper()
	rt := &scriptedRuntime{}
	sim, err := New(append([]Option{Calm(), WithRuntime(rt)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("cannot close the simulator: %v", err)
		}
	})
	srv, err := sim.Serve(Listen{})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(srv.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := srv.Close(); err != nil {
			t.Errorf("cannot close the server: %v", err)
		}
	})
	return &stage{t: t, sim: sim, srv: srv, runtime: rt, world: sim.World(), client: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// credential signs tokens of one principal without asking the login endpoint.
type credential struct {
	sim *Simulator
	who Principal
}

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.sim.Token(c.who, strings.TrimSuffix(o.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

func (s *stage) operator() credential { return credential{s.sim, s.sim.Operator()} }

func (s *stage) armOptions() *arm.ClientOptions {
	return &arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Transport: s.client,
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: s.srv.HTTPSURL, Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: s.srv.HTTPSURL, Audience: audienceARM}}},
		Retry: policy.RetryOptions{MaxRetries: 5, RetryDelay: 10 * time.Millisecond, MaxRetryDelay: 2 * time.Second},
	}}
}

func (s *stage) jobs() *armappcontainers.JobsClient {
	s.t.Helper()
	c, err := armappcontainers.NewJobsClient(s.world.Subscription, s.operator(), s.armOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func ptr[T any](v T) *T { return &v }

// sampleJob is a job as the driver would put it: an init container, an EmptyDir, a secret, the pulling identity.
func (s *stage) sampleJob() armappcontainers.Job {
	resources := &armappcontainers.ContainerResources{CPU: ptr(0.5), Memory: ptr("1Gi")}
	return armappcontainers.Job{
		Location: ptr(s.world.Location),
		Tags:     map[string]*string{"managed-by": ptr("test")},
		Identity: &armappcontainers.ManagedServiceIdentity{Type: ptr(armappcontainers.ManagedServiceIdentityTypeUserAssigned),
			UserAssignedIdentities: map[string]*armappcontainers.UserAssignedIdentity{s.world.PullIdentityID(): {}}},
		Properties: &armappcontainers.JobProperties{
			EnvironmentID: ptr(s.world.EnvironmentID()),
			Configuration: &armappcontainers.JobConfiguration{
				TriggerType: ptr(armappcontainers.TriggerTypeManual), ReplicaTimeout: ptr(int32(600)), ReplicaRetryLimit: ptr(int32(0)),
				Secrets:          []*armappcontainers.Secret{{Name: ptr("run-secret"), Value: ptr("s3cret")}},
				Registries:       []*armappcontainers.RegistryCredentials{{Server: ptr(s.srv.LoginServer), Identity: ptr(s.world.PullIdentityID())}},
				IdentitySettings: []*armappcontainers.IdentitySettings{{Identity: ptr(s.world.PullIdentityID()), Lifecycle: ptr(armappcontainers.IdentitySettingsLifeCycleNone)}},
			},
			Template: &armappcontainers.JobTemplate{
				InitContainers: []*armappcontainers.InitContainer{{Name: ptr("install"), Image: ptr(s.srv.LoginServer + "/agent:1"), Resources: resources,
					VolumeMounts: []*armappcontainers.VolumeMount{{VolumeName: ptr("tools"), MountPath: ptr("/.tools")}}}},
				Containers: []*armappcontainers.Container{{Name: ptr("main"), Image: ptr(s.srv.LoginServer + "/minibox:latest"), Resources: resources,
					Command: []*string{ptr("/.tools/agent")}, Env: []*armappcontainers.EnvironmentVar{{Name: ptr("SECRET"), SecretRef: ptr("run-secret")}, {Name: ptr("PLAIN"), Value: ptr("x")}},
					VolumeMounts: []*armappcontainers.VolumeMount{{VolumeName: ptr("tools"), MountPath: ptr("/.tools")}}}},
				Volumes: []*armappcontainers.Volume{{Name: ptr("tools"), StorageType: ptr(armappcontainers.StorageTypeEmptyDir)}},
			},
		},
	}
}

// putSample makes the sample job through the SDK.
func (s *stage) putSample(name string) {
	s.t.Helper()
	p, err := s.jobs().BeginCreateOrUpdate(s.t.Context(), s.world.ResourceGroup, name, s.sampleJob(), nil)
	if err == nil {
		_, err = p.PollUntilDone(s.t.Context(), fastPoll)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// call sends one raw request with a token of who and answers status, header and decoded body.
func (s *stage) call(who Principal, method, path, body string) (int, http.Header, map[string]any) {
	s.t.Helper()
	token, err := s.sim.Token(who, audienceARM)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(method, s.srv.URL+path, "Bearer "+token, body)
}

func (s *stage) send(method, url, authorization, body string) (int, http.Header, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var decoded map[string]any
	if len(bytes.TrimSpace(raw)) > 0 && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(raw, &decoded); err != nil {
			s.t.Fatalf("answer is no JSON: %v\n%s", err, raw)
		}
	}
	return resp.StatusCode, resp.Header, decoded
}

// errorCode is the ARM error code of an answer.
func errorCode(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

func errorMessage(body map[string]any) string {
	e, _ := body["error"].(map[string]any)
	message, _ := e["message"].(string)
	return message
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("it did not happen in a minute: %s", what)
}

// readAll reads and closes an answer's body.
func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
