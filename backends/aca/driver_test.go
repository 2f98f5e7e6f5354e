package aca_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

func TestStartIsOnePutAndOnePost(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil)
	if _, err := tc.driver.Check(tc.spec()); err != nil {
		t.Fatal(err)
	}
	if n := tc.seq(); n != 1 { // the cloud's description, read by Open
		t.Errorf("opening and checking made %d calls, want the description's alone", n)
	}
	before := tc.seq()
	run := tc.start(tc.spec())
	want := []string{
		"PUT jobs/sl-0123456789ab",
		"GET jobs/sl-0123456789ab", // how the SDK ends a PUT's operation
		"POST jobs/sl-0123456789ab/start",
	}
	if diff := cmp.Diff(want, tc.arm(before)); diff != "" {
		t.Errorf("calls of a start (-want +got):\n%s", diff)
	}
	if run.Container != containerID || run.ID != runID || run.Job != "sl-0123456789ab" || !strings.HasPrefix(run.Execution, run.Job+"-") {
		t.Errorf("run is %+v", run)
	}
}

func TestLostStartAnswerRunsOnce(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]azuresim.Fault{
		"answer lost":   {Kind: azuresim.FaultDropAnswer},
		"request lost":  {Kind: azuresim.FaultDrop},
		"bad gateway":   {Kind: azuresim.FaultAnswer, Status: http.StatusBadGateway, Code: "BadGateway"},
		"not available": {Kind: azuresim.FaultAnswer, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", RetryAfter: 1},
	} {
		t.Run(name, func(t *testing.T) {
			tc := calm(t, nil)
			fault.Method, fault.Path = http.MethodPost, "/start$"
			if err := tc.sim.Inject(fault); err != nil {
				t.Fatal(err)
			}
			run, err := tc.driver.Start(t.Context(), tc.spec())
			posts := 0
			for _, c := range tc.arm(0) {
				if strings.HasPrefix(c, "POST") {
					posts++
				}
			}
			if posts != 1 {
				t.Errorf("%d POSTs were sent, want 1", posts)
			}
			jobs := tc.sim.Jobs()
			if fault.Kind == azuresim.FaultDropAnswer {
				if err != nil || len(jobs) != 1 || len(jobs[0].Executions) != 1 || jobs[0].Executions[0].Name != run.Execution {
					t.Errorf("run %+v, error %v, jobs %+v; want the one execution that there is", run, err, jobs)
				}
				return
			}
			if code := sockerless.ErrorCode(err); code != sockerless.EUNAVAILABLE || len(jobs) != 0 {
				t.Errorf("error %v (%s), jobs %+v; want %s and nothing left", err, code, jobs, sockerless.EUNAVAILABLE)
			}
		})
	}
}

// A second start reuses the job, whose older executions must not be taken for this start's.
func TestLostAnswerOfSecondStart(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	first := tc.start(tc.spec())
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
	tc.replicas.list()[0].exit(0)
	tc.eventually("the first execution has ended", func() bool {
		s, err := tc.driver.Status(t.Context(), first)
		return err == nil && s.Phase == driver.PhaseEnded
	})
	again := tc.spec()
	again.ID = strings.Repeat("ab", 16)
	if err := tc.sim.DropAnswer(http.MethodPost, "/start$", 1); err != nil {
		t.Fatal(err)
	}
	second := tc.start(again)
	if second.Execution == first.Execution {
		t.Errorf("the second start adopted %s, which is the first's", second.Execution)
	}
	if n := len(tc.sim.Jobs()[0].Executions); n != 2 {
		t.Errorf("%d executions, want 2", n)
	}
}

func TestLostPutAnswerIsRepeated(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil)
	if err := tc.sim.DropAnswer(http.MethodPut, "/jobs/", 1); err != nil {
		t.Fatal(err)
	}
	run := tc.start(tc.spec())
	if jobs := tc.sim.Jobs(); len(jobs) != 1 || len(jobs[0].Executions) != 1 || jobs[0].Executions[0].Name != run.Execution {
		t.Errorf("jobs are %+v, want one with the execution %s", jobs, run.Execution)
	}
}

// An operation that goes on is polled for longer than Azure has too much to do.
func TestBusyPollIsRepeated(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil)
	err := tc.sim.Inject(azuresim.Fault{Kind: azuresim.FaultAnswer, Method: http.MethodGet, Path: "/containerappsjobOperationStatuses/", Times: 5, Status: 503, Code: "ServiceUnavailable", RetryAfter: 1})
	if err != nil {
		t.Fatal(err)
	}
	run := tc.start(tc.spec())
	if jobs := tc.sim.Jobs(); len(jobs) != 1 || len(jobs[0].Executions) != 1 || jobs[0].Executions[0].Name != run.Execution {
		t.Errorf("jobs are %+v, want one with the execution %s", jobs, run.Execution)
	}
}

func TestRefusalsReachTheUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault func(*azuresim.Simulator) error
		code  sockerless.Code
		want  []string // in the message
	}{
		{"no right to create", func(s *azuresim.Simulator) error {
			w := s.World()
			if !s.Unassign(azuresim.Assignment{Principal: s.Operator().ObjectID, Role: "Container Apps Jobs Contributor", Scope: w.GroupID()}) {
				return errors.New("there is no such role assignment")
			}
			return nil
		}, sockerless.EFORBIDDEN, []string{"403 AuthorizationFailed", "Microsoft.App/jobs/write"}},
		{"no right to join the environment", func(s *azuresim.Simulator) error {
			w := s.World()
			if !s.Unassign(azuresim.Assignment{Principal: s.Operator().ObjectID, Role: "Container Apps ManagedEnvironments Contributor", Scope: w.EnvironmentID()}) {
				return errors.New("there is no such role assignment")
			}
			return nil
		}, sockerless.EFORBIDDEN, []string{"403 LinkedAuthorizationFailed", "managedEnvironments/join/action"}},
		{"no right to assign the identity", func(s *azuresim.Simulator) error {
			w := s.World()
			if !s.Unassign(azuresim.Assignment{Principal: s.Operator().ObjectID, Role: "Managed Identity Operator", Scope: w.PullIdentityID()}) {
				return errors.New("there is no such role assignment")
			}
			return nil
		}, sockerless.EFORBIDDEN, []string{"403 LinkedAuthorizationFailed", "userAssignedIdentities/assign/action"}},
		{"the identity may not pull", func(s *azuresim.Simulator) error {
			w := s.World()
			for _, as := range s.Assignments() {
				if as.Role == "AcrPull" && as.Scope == w.RegistryID() {
					s.Unassign(as)
				}
			}
			return nil
		}, sockerless.EINVALID, []string{"400 InvalidParameterValueInContainerTemplate", "unable to pull"}},
		{"no resource group", fail(http.MethodPut, "/jobs/", 404, "ResourceGroupNotFound", "Resource group 'sockerless' could not be found."),
			sockerless.ENOTFOUND, []string{"404 ResourceGroupNotFound"}},
		{"conflict", fail(http.MethodPut, "/jobs/", 409, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace 'Microsoft.App'."),
			sockerless.ECONFLICT, []string{"409 MissingSubscriptionRegistration", "Microsoft.App"}},
		{"throttled for long", func(s *azuresim.Simulator) error {
			return s.Inject(azuresim.Fault{Kind: azuresim.FaultAnswer, Method: http.MethodPut, Path: "/jobs/", Times: -1, Status: 429, Code: "TooManyRequests", Message: "Slow down.", RetryAfter: 300})
		}, sockerless.EUNAVAILABLE, []string{"429 TooManyRequests", "Slow down"}},
		{"out of quota", fail(http.MethodPost, "/start$", 400, "MaximumAllowedCoresExceeded", "Maximum Allowed Cores exceeded for the Managed Environment."),
			sockerless.EUNAVAILABLE, []string{"400 MaximumAllowedCoresExceeded", "Maximum Allowed Cores exceeded"}},
		{"start refused", fail(http.MethodPost, "/start$", 403, "AuthorizationFailed", "No action 'Microsoft.App/jobs/start/action' for you."),
			sockerless.EFORBIDDEN, []string{"403 AuthorizationFailed", "jobs/start/action"}},
		{"job not there any more", fail(http.MethodPost, "/start$", 404, "ResourceNotFound", "Gone."), sockerless.ENOTFOUND, []string{"404 ResourceNotFound"}},
		{"provisioning fails", func(s *azuresim.Simulator) error {
			return s.FailOperation(http.MethodPut, "/jobs/", 1, "ContainerAppOperationError", "The node pool is on fire.")
		}, sockerless.EINTERNAL, []string{"ContainerAppOperationError", "The node pool is on fire"}},
		{"provisioning fails for lack of quota", func(s *azuresim.Simulator) error {
			return s.FailOperation(http.MethodPut, "/jobs/", 1, "QuotaExceeded", "No cores left.")
		}, sockerless.EUNAVAILABLE, []string{"QuotaExceeded", "No cores left"}},
		{"the start's operation fails", func(s *azuresim.Simulator) error {
			return s.FailOperation(http.MethodPost, "/start$", 1, "JobExecutionFailed", "It did not start.")
		}, "", []string{"JobExecutionFailed", "It did not start"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tc := newCloud(t, nil, azuresim.WithThrottling(0), azuresim.WithDroppedPolls(0))
			if err := c.fault(tc.sim); err != nil {
				t.Fatal(err)
			}
			_, err := tc.driver.Start(t.Context(), tc.spec())
			if err == nil {
				t.Fatal("the start succeeded")
			}
			if code := sockerless.ErrorCode(err); c.code != "" && code != c.code {
				t.Errorf("code of %q is %s, want %s", err, code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\t") || len(err.Error()) > 900 {
				t.Errorf("error is no single sentence: %q", err)
			}
			tc.sim.ClearFaults()
			tc.eventually("nothing is left", func() bool { return len(tc.sim.Jobs()) == 0 })
			if n := len(tc.replicas.list()); n != 0 {
				t.Errorf("%d replicas ran", n)
			}
		})
	}
}

func fail(method, path string, status int, code, message string) func(*azuresim.Simulator) error {
	return func(s *azuresim.Simulator) error { return s.Fail(method, path, 1, status, code, message) }
}

func TestThrottledStartIsRepeated(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		if err := tc.sim.Inject(azuresim.Fault{Kind: azuresim.FaultAnswer, Method: method, Path: "/jobs/", Status: 429, Code: "TooManyRequests", RetryAfter: 1}); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	tc.start(tc.spec())
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("the start took %v: Retry-After was not honoured", took)
	}
}

func TestCanceledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil, azuresim.WithDelays(azuresim.Delays{Operation: azuresim.Exactly(2 * time.Second)}))
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if _, err := tc.driver.Start(ctx, tc.spec()); err == nil {
		t.Fatal("a canceled start succeeded")
	}
	tc.eventually("nothing is left", func() bool { return len(tc.sim.Jobs()) == 0 })
}

func TestStatusTellsExitCodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refuse bool // the newest api-version
		code   *int
	}{
		"with the api-version that has them": {false, new(int)},
		"a cloud without that api-version":   {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc := calm(t, nil)
			run := tc.start(tc.spec())
			if c.refuse {
				if err := tc.sim.Fail(http.MethodGet, "/executions/", 1, 400, "NoRegisteredProviderFound", "No registered resource provider found for API version '2026-07-01'."); err != nil {
					t.Fatal(err)
				}
			}
			tc.eventually("it runs", func() bool {
				s, err := tc.driver.Status(t.Context(), run)
				return err == nil && s.Phase == driver.PhaseRunning && s.ExitCode == nil
			})
			if c.code != nil {
				*c.code = 5
			}
			tc.replicas.list()[0].exit(5)
			var s driver.Status
			tc.eventually("it has ended", func() bool {
				var err error
				s, err = tc.driver.Status(t.Context(), run)
				return err == nil && s.Phase == driver.PhaseEnded
			})
			if diff := cmp.Diff(c.code, s.ExitCode); diff != "" {
				t.Errorf("exit code (-want +got):\n%s", diff)
			}
			if s.Started.IsZero() || s.Ended.Before(s.Started) {
				t.Errorf("it started at %v and ended at %v", s.Started, s.Ended)
			}
		})
	}
}

func TestStatusOfWhatIsGone(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	run := driver.Run{Container: containerID, ID: runID, Job: "sl-0123456789ab", Execution: "sl-0123456789ab-abcdefg"}
	s, err := tc.driver.Status(t.Context(), run)
	if err != nil || s.Phase != driver.PhaseGone {
		t.Errorf("status is %+v, error %v; want %s", s, err, driver.PhaseGone)
	}
	// A wrong setting must not look like containers that are gone.
	if err := tc.sim.Fail(http.MethodGet, "/executions/", 1, 404, "ResourceGroupNotFound", "Resource group 'x' could not be found."); err != nil {
		t.Fatal(err)
	}
	if s, err := tc.driver.Status(t.Context(), run); err == nil {
		t.Errorf("without the resource group the status is %+v, want an error", s)
	}
	if err := tc.driver.Stop(t.Context(), run); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
	if err := tc.driver.Remove(t.Context(), run); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestStopAndRemove(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil)
	run := tc.start(tc.spec())
	if err := tc.driver.Stop(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	tc.eventually("it has ended", func() bool {
		s, err := tc.driver.Status(t.Context(), run)
		return err == nil && s.Phase == driver.PhaseEnded
	})
	if err := tc.driver.Stop(t.Context(), run); err != nil {
		t.Errorf("stopping an ended one: %v", err)
	}
	if err := tc.driver.Remove(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	if jobs := tc.sim.Jobs(); len(jobs) != 0 {
		t.Errorf("after Remove there is %+v", jobs)
	}
}

func TestRunsAreThisInstancesAlone(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	run := tc.start(tc.spec())
	other := tc.spec()
	other.Container = otherID
	if _, err := tc.open("another").Start(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]driver.Driver{"the one that started it": tc.driver, "one after a restart": tc.open("test")} {
		before := tc.seq()
		var got []driver.Run
		for r, err := range d.Runs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if diff := cmp.Diff([]driver.Run{run}, got); diff != "" {
			t.Errorf("runs of %s (-want +got):\n%s", name, diff)
		}
		want := []string{"GET jobs"}
		if d != tc.driver {
			want = append(want, "GET jobs/sl-0123456789ab/executions")
		}
		if diff := cmp.Diff(want, tc.arm(before)); diff != "" {
			t.Errorf("calls of %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config func(*aca.Config)
		spec   func(*driver.Spec)
		code   sockerless.Code
		want   string
		warn   []string
	}{
		{name: "nothing special"},
		{name: "memory rounded up", spec: func(s *driver.Spec) { s.Memory = 600 << 20 }, warn: []string{"Memory is rounded up from 600Mi to 1Gi: Container Apps knows pairs of CPU and memory only."}},
		{name: "CPU raised for memory", spec: func(s *driver.Spec) { s.CPU, s.Memory = 1, 3<<30 }, warn: []string{"CPU is rounded up from 1 to 1.5: Container Apps knows pairs of CPU and memory only."}},
		{name: "a legal pair", spec: func(s *driver.Spec) { s.CPU, s.Memory = 0.75, 3<<29 }},
		{name: "too much memory", spec: func(s *driver.Spec) { s.Memory = 16 << 30 }, code: sockerless.EUNSUPPORTED, want: "cannot use --memory 16Gi"},
		{name: "too many cores", spec: func(s *driver.Spec) { s.CPU = 6 }, code: sockerless.EUNSUPPORTED, want: "cannot use --cpus 6"},
		{name: "a moving tag", spec: func(s *driver.Spec) { s.Image = "docker.io/library/alpine:latest" }, code: sockerless.EINVALID, want: "not repository@sha256:digest"},
		{name: "no identity", config: func(c *aca.Config) { c.Identity = "" }, code: sockerless.EUNSUPPORTED, want: "SOCKERLESS_ACA_IDENTITY"},
		{name: "no registry and no agent", config: func(c *aca.Config) { c.Registry, c.AgentImage = "", "" }, code: sockerless.EUNSUPPORTED, want: "SOCKERLESS_ACA_ACR"},
		{name: "forward mode without a resolver", config: func(c *aca.Config) { c.CallbackURL = "" }, code: sockerless.EUNSUPPORTED, want: "set SOCKERLESS_CALLBACK_URL"},
		{name: "forward mode with the system's", config: func(c *aca.Config) { c.CallbackURL, c.Resolver = "", "system" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tc := calm(t, c.config)
			spec := tc.spec()
			if c.spec != nil {
				c.spec(&spec)
			}
			before := tc.seq()
			warnings, err := tc.driver.Check(spec)
			if sockerless.ErrorCode(err) != c.code || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v (%s), want %s with %q", err, sockerless.ErrorCode(err), c.code, c.want)
			}
			if diff := cmp.Diff(c.warn, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if tc.seq() != before {
				t.Error("Check called Azure")
			}
			if err != nil {
				if _, err := tc.driver.Start(t.Context(), spec); err == nil || len(tc.sim.Jobs()) > 0 {
					t.Errorf("what Check refuses was started: error %v, jobs %+v", err, tc.sim.Jobs())
				}
			}
		})
	}
}

func TestForwardMode(t *testing.T) {
	t.Parallel()
	t.Run("the resolver is away", func(t *testing.T) {
		tc := calm(t, func(c *aca.Config) { c.CallbackURL, c.Resolver = "", "127.0.0.1:1" })
		_, err := tc.driver.Start(t.Context(), tc.spec())
		if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || len(tc.arm(0)) > 0 {
			t.Errorf("error is %v, calls %v; want %s before any call", err, tc.arm(0), sockerless.EUNAVAILABLE)
		}
	})
	t.Run("the name resolves", func(t *testing.T) {
		tc := calm(t, func(c *aca.Config) { c.CallbackURL, c.Resolver = "", "127.0.0.1:53" })
		tc.config.Resolver = tc.srv.DNSAddr
		tc.driver = tc.open("test")
		dialler, ok := driver.As[driver.Dialer](tc.driver)
		if !ok {
			t.Fatal("a driver in forward mode is no Dialer")
		}
		run := tc.start(tc.spec())
		tc.eventually("the agent's port takes a connection", func() bool {
			conn, err := dialler.Dial(t.Context(), run)
			if err != nil {
				return false
			}
			conn.Close()
			return true
		})
		run.Execution = "sl-0123456789ab-nobody1"
		if _, err := dialler.Dial(t.Context(), run); sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE {
			t.Errorf("dialling an unknown execution: %v, want %s", err, sockerless.EUNAVAILABLE)
		}
	})
	t.Run("reverse mode dials nobody", func(t *testing.T) {
		tc := calm(t, nil)
		if _, ok := driver.As[driver.Dialer](tc.driver); ok {
			t.Error("a driver in reverse mode is a Dialer")
		}
	})
}

func TestInfo(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	info := tc.driver.Info()
	if info.Name != "aca" || info.Instance != "test" || info.StartGrace <= 0 {
		t.Errorf("info is %+v", info)
	}
	for _, key := range []string{"Subscription", "Resource group", "Environment", "Location", "Agent mode"} {
		if info.Details[key] == "" {
			t.Errorf("info does not tell the %s", key)
		}
	}
	if text := fmt.Sprint(info); strings.Contains(text, tc.sim.Operator().Secret) {
		t.Error("info tells a secret")
	}
}

// What a backend is given in production: DefaultAzureCredential finds a service principal in the environment.
func TestDefaultCredential(t *testing.T) {
	tc := calm(t, nil)
	w, operator := tc.sim.World(), tc.sim.Operator()
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
	t.Setenv("AZURE_TENANT_ID", w.Tenant)
	t.Setenv("AZURE_CLIENT_ID", operator.ClientID)
	t.Setenv("AZURE_CLIENT_SECRET", operator.Secret)
	d, err := aca.Open(t.Context(), tc.config, aca.Options{Instance: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close(d)
	if _, err := d.Start(t.Context(), tc.spec()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_CLIENT_SECRET", "wrong")
	if d, err = aca.Open(t.Context(), tc.config, aca.Options{Instance: "test"}); err != nil {
		t.Fatal(err)
	}
	defer driver.Close(d)
	_, err = d.Start(t.Context(), tc.spec())
	if sockerless.ErrorCode(err) != sockerless.EUNAUTHORIZED || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "cannot sign in to Azure: AADSTS7000215: ") {
		t.Errorf("error of a wrong secret is %v (%s), want %s in one line", err, sockerless.ErrorCode(err), sockerless.EUNAUTHORIZED)
	}
}

// withoutLocation takes the address to poll from every accepted POST and DELETE. azcore calls such a 202 an error.
func withoutLocation(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/start") || r.Method == http.MethodDelete || strings.HasSuffix(r.URL.Path, "/stop") {
			w = &locationEater{w}
		}
		next.ServeHTTP(w, r)
	}
}

type locationEater struct{ http.ResponseWriter }

func (l *locationEater) WriteHeader(status int) {
	l.Header().Del("Location")
	l.ResponseWriter.WriteHeader(status)
}

func TestAcceptedWithoutAnAddressToPoll(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil, azuresim.WithThrottling(0))
	tap(t, tc, withoutLocation(tc.sim))
	run := tc.start(tc.spec())
	if jobs := tc.sim.Jobs(); len(jobs) != 1 || len(jobs[0].Executions) != 1 || jobs[0].Executions[0].Name != run.Execution {
		t.Errorf("run is %+v, jobs are %+v; want its one execution", run, jobs)
	}
	if err := tc.driver.Stop(t.Context(), run); err != nil {
		t.Error(err)
	}
	if err := tc.driver.Remove(t.Context(), run); err != nil {
		t.Error(err)
	}
	if jobs := tc.sim.Jobs(); len(jobs) != 0 {
		t.Errorf("after Remove there is %+v", jobs)
	}
}

// A node that leaves takes its replica along; Container Apps runs another one, whatever the retry limit says
// (microsoft/azure-container-apps#1477). The last one's code is the execution's.
func TestPreemptedReplica(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	run := tc.start(tc.spec())
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
	if err := tc.sim.Preempt(run.Execution); err != nil {
		t.Fatal(err)
	}
	tc.eventually("there is another one", func() bool { return len(tc.replicas.list()) == 2 })
	tc.replicas.list()[1].exit(3)
	var s driver.Status
	tc.eventually("it has ended", func() bool {
		var err error
		s, err = tc.driver.Status(t.Context(), run)
		return err == nil && s.Phase == driver.PhaseEnded
	})
	if s.ExitCode == nil || *s.ExitCode != 3 {
		t.Errorf("exit code is %v, want 3", s.ExitCode)
	}
}

// azcore itself polls every 30 s, which would be a minute for both.
func TestOperationsArePolledSoon(t *testing.T) {
	t.Parallel()
	tc := newCloud(t, nil, azuresim.WithThrottling(0), azuresim.WithDroppedPolls(0), azuresim.WithDelays(azuresim.Delays{Operation: azuresim.Exactly(time.Second)}))
	begin := time.Now()
	tc.start(tc.spec())
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("a start with two operations of 1 s took %v", took)
	}
}

// TestLostStartAnswerWithoutTemplates: where executions do not show whose they are, a young one of the start before is not
// taken for this start's.
func TestLostStartAnswerWithoutTemplates(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	tc.hideTemplates()
	first := tc.start(tc.spec())
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
	tc.replicas.list()[0].exit(0)
	second := tc.spec()
	second.ID, second.Previous = "ffeeddccbbaa99887766554433221100", first.Execution
	lose := func(kind azuresim.FaultKind) {
		if err := tc.sim.Inject(azuresim.Fault{Kind: kind, Method: http.MethodPost, Path: "/start$"}); err != nil {
			t.Fatal(err)
		}
	}
	lose(azuresim.FaultDrop) // the request itself: there is no execution
	if run, err := tc.driver.Start(t.Context(), second); err == nil {
		t.Errorf("a start that was lost got execution %q, the one before %q", run.Execution, first.Execution)
	}
	lose(azuresim.FaultDropAnswer)
	run := tc.start(second)
	if run.Execution == first.Execution || run.Execution == "" {
		t.Errorf("the second start got execution %q, the first %q", run.Execution, first.Execution)
	}
	third := second
	third.ID, third.Previous = "0f0e0d0c0b0a09080706050403020100", run.Execution
	lose(azuresim.FaultDropAnswer)
	if newest := tc.start(third); newest.Execution == first.Execution || newest.Execution == run.Execution {
		t.Errorf("the third start got execution %q of an earlier one", newest.Execution)
	}
}

// hideTemplates puts a proxy before the cloud that leaves out the templates of executions, and opens the driver on it.
func (tc *testCloud) hideTemplates() {
	tc.t.Helper()
	upstream, err := url.Parse(tc.srv.URL)
	if err != nil {
		tc.t.Fatal(err)
	}
	roots, err := os.ReadFile(tc.srv.CAFile)
	if err != nil {
		tc.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(upstream)
		r.Out.Header.Del("Accept-Encoding")
	}}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // what is lost stays lost
	front := httptest.NewUnstartedServer(proxy)
	proxy.ModifyResponse = func(resp *http.Response) error {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if strings.HasPrefix(resp.Request.URL.Path, "/metadata/") { // where ARM is
			b = bytes.ReplaceAll(b, []byte(tc.srv.URL), []byte(front.URL))
		}
		if strings.HasSuffix(resp.Request.URL.Path, "/executions") {
			var list map[string]any
			if err := json.Unmarshal(b, &list); err != nil {
				return err
			}
			for _, e := range list["value"].([]any) {
				delete(e.(map[string]any)["properties"].(map[string]any), "template")
			}
			b, err = json.Marshal(list)
		}
		resp.Body = io.NopCloser(bytes.NewReader(b))
		resp.ContentLength = int64(len(b))
		resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
		return err
	}
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // the answers that it loses
	front.StartTLS()
	tc.t.Cleanup(func() { front.Close(); transport.CloseIdleConnections() })
	both := append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})...)
	tc.config.CAFile = filepath.Join(tc.t.TempDir(), "roots.pem")
	if err := os.WriteFile(tc.config.CAFile, both, 0o600); err != nil {
		tc.t.Fatal(err)
	}
	tc.config.EndpointURL = front.URL
	tc.driver = tc.open("test")
}
