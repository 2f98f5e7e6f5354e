package aca_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	otherID     = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	runID       = "00112233445566778899aabbccddeeff"
	digest      = "@sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

// testCloud is a simulated Azure and a driver for it.
type testCloud struct {
	t        *testing.T
	sim      *azuresim.Simulator
	srv      *azuresim.Server
	replicas *replicas
	config   aca.Config
	driver   driver.Driver
}

// seed is what azuresim's delays and faults are drawn from.
const seed = 7

// newCloud makes a cloud that is unkind unless opts say otherwise. change may change the driver's configuration.
func newCloud(t *testing.T, change func(*aca.Config), opts ...azuresim.Option) *testCloud {
	t.Helper()
	rt := &replicas{}
	sim, err := azuresim.New(append([]azuresim.Option{azuresim.WithSeed(seed), azuresim.WithRuntime(rt)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	w := sim.World()
	c := aca.DefaultConfig()
	c.Subscription, c.ResourceGroup, c.Environment, c.Location = w.Subscription, w.ResourceGroup, w.Environment, w.Location
	c.Workspace, c.Identity, c.Registry = w.WorkspaceCustomerID, w.PullIdentityID(), srv.LoginServer
	c.AgentImage = srv.LoginServer + "/sockerless/agent" + digest
	c.CallbackURL = "http://host.azuresim.internal:9100"
	c.EndpointURL, c.CAFile = srv.URL, srv.CAFile
	if change != nil {
		change(&c)
	}
	tc := &testCloud{t: t, sim: sim, srv: srv, replicas: rt, config: c}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the simulator's seed was %d", seed)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("cannot close the simulator's server: %v", err)
		}
		if err := sim.Close(); err != nil {
			t.Errorf("cannot close the simulator: %v", err)
		}
	})
	tc.driver = tc.open("test")
	return tc
}

// open makes another driver of the same cloud.
func (tc *testCloud) open(instance string) driver.Driver {
	tc.t.Helper()
	d, err := aca.Open(tc.t.Context(), tc.config, aca.Options{Instance: instance, Credential: operator{tc.sim}, PollEvery: 50 * time.Millisecond})
	if err != nil {
		tc.t.Fatal(err)
	}
	tc.t.Cleanup(func() {
		if err := driver.Close(d); err != nil {
			tc.t.Errorf("cannot close the driver: %v", err)
		}
	})
	return d
}

// calm is a cloud without delays and faults.
func calm(t *testing.T, change func(*aca.Config), opts ...azuresim.Option) *testCloud {
	t.Helper()
	return newCloud(t, change, append([]azuresim.Option{azuresim.Calm()}, opts...)...)
}

func (tc *testCloud) spec() driver.Spec {
	return driver.Spec{Container: containerID, Name: "web", ID: runID, Secret: make([]byte, 32), Image: tc.srv.LoginServer + "/app" + digest}
}

// start starts the spec and fails the test if that fails.
func (tc *testCloud) start(spec driver.Spec) driver.Run {
	tc.t.Helper()
	run, err := tc.driver.Start(tc.t.Context(), spec)
	if err != nil {
		tc.t.Fatalf("cannot start: %v", err)
	}
	return run
}

// arm lists the ARM calls after number seq, without polls of operations, as "METHOD last/segments status".
func (tc *testCloud) arm(seq int) []string {
	var calls []string
	for _, r := range tc.sim.Requests(seq) {
		_, path, ok := strings.Cut(r.Path, "/providers/Microsoft.App/")
		if !ok || strings.HasPrefix(path, "locations/") || r.Status == http.StatusTooManyRequests {
			continue
		}
		calls = append(calls, r.Method+" "+path)
	}
	return calls
}

// seq is the number of the latest call.
func (tc *testCloud) seq() int {
	all := tc.sim.Requests(0)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Seq
}

// eventually waits until ok, and fails the test if that takes too long.
func (tc *testCloud) eventually(what string, ok func() bool) {
	tc.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			tc.t.Fatalf("not within 2 minutes: %s", what)
		}
	}
}

// operator is the simulator's principal with a backend's roles.
type operator struct{ sim *azuresim.Simulator }

func (o operator) GetToken(_ context.Context, opt policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := o.sim.Token(o.sim.Operator(), strings.TrimSuffix(opt.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

// replicas is a runtime whose replicas do what a test says: by default they run until they are stopped.
type replicas struct {
	mu      sync.Mutex
	all     []*replica
	onStart func(*replica)
}

type replica struct {
	spec   azuresim.ReplicaSpec
	once   sync.Once
	done   chan struct{}
	result azuresim.ReplicaResult
}

func (rs *replicas) Start(_ context.Context, spec azuresim.ReplicaSpec) (azuresim.Replica, error) {
	r := &replica{spec: spec, done: make(chan struct{})}
	rs.mu.Lock()
	rs.all = append(rs.all, r)
	onStart := rs.onStart
	rs.mu.Unlock()
	if onStart != nil {
		onStart(r)
	}
	return r, nil
}

func (rs *replicas) Close() error {
	for _, r := range rs.list() {
		r.exit(137)
	}
	return nil
}

func (rs *replicas) list() []*replica {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return append([]*replica(nil), rs.all...)
}

// exit ends the replica's main container with the code.
func (r *replica) exit(code int) {
	r.once.Do(func() {
		for _, c := range r.spec.Containers {
			r.result.Containers = append(r.result.Containers, azuresim.ContainerResult{Name: c.Name, ExitCode: code})
		}
		close(r.done)
	})
}

func (r *replica) DialContext(ctx context.Context, _ uint16) (net.Conn, error) {
	return nil, context.DeadlineExceeded // nobody listens in there
}
func (r *replica) Done() <-chan struct{}          { return r.done }
func (r *replica) Result() azuresim.ReplicaResult { return r.result }
func (r *replica) Stop(time.Duration)             { r.exit(143) }
