package azuresim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

func TestLostAnswerOfStart(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	if err := s.sim.DropAnswer("POST", "/start$", 1); err != nil {
		t.Fatal(err)
	}
	once := policy.WithRetryOptions(t.Context(), policy.RetryOptions{MaxRetries: -1})
	if _, err := s.jobs().BeginStart(once, s.world.ResourceGroup, "web", nil); err == nil {
		t.Fatal("the answer was not lost")
	}
	if n := len(s.sim.Jobs()[0].Executions); n != 1 {
		t.Errorf("%d executions run after one lost answer", n)
	}
	if last := s.sim.Requests(0)[len(s.sim.Requests(0))-1]; last.Status != 0 || last.Method != "POST" {
		t.Errorf("the request log has %+v", last)
	}
	s.start("web")
	if n := len(s.sim.Jobs()[0].Executions); n != 2 {
		t.Errorf("%d executions after another start", n)
	}
}

func TestLateAnswerOfStart(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	if err := s.sim.Inject(Fault{Kind: FaultLateAnswer, Method: "POST", Path: "/start$", Seconds: 600}); err != nil {
		t.Fatal(err)
	}
	// What has no effect is answered as it is, and uses nothing up.
	if _, err := s.jobs().BeginStart(t.Context(), s.world.ResourceGroup, "nosuch", nil); err == nil {
		t.Fatal("a job that is not there was started")
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() { // ends with cancel
		_, err := s.jobs().BeginStart(ctx, s.world.ResourceGroup, "web", nil)
		asked <- err
	}()
	for deadline := time.Now().Add(time.Minute); len(s.sim.Jobs()[0].Executions) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call has no effect")
		}
	}
	select {
	case err := <-asked:
		t.Fatalf("the answer is not late: %v", err)
	default:
	}
	cancel()
	if err := <-asked; err == nil {
		t.Fatal("an answer to nobody")
	}
	if err := s.sim.Inject(Fault{Kind: FaultLateAnswer, Method: "POST", Path: "/start$"}); err != nil {
		t.Fatal(err)
	}
	s.start("web")
	if n := len(s.sim.Jobs()[0].Executions); n != 2 {
		t.Errorf("%d executions after another start", n)
	}
}

func TestInjectedFaults(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	if err := s.sim.Fail("POST", "/start$", 2, 503, "ServiceUnavailable", "Later."); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{503, 503, 200} {
		status, _, body := s.asOperator("POST", s.jobPath("web/start"), "")
		if status != want || want == 503 && errorMessage(body) != "Later." {
			t.Errorf("call %d: %d %v", i, status, body)
		}
	}
	if n := len(s.sim.Jobs()[0].Executions); n != 1 {
		t.Errorf("%d executions, though two starts were refused", n)
	}
	if err := s.sim.Inject(Fault{Kind: FaultAnswer, Method: "GET", Status: 429, RetryAfter: 7, Times: -1}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if status, header, _ := s.asOperator("GET", s.jobPath("web"), ""); status != 429 || header.Get("Retry-After") != "7" {
			t.Errorf("answer %d %v", status, header)
		}
	}
	s.sim.ClearFaults()
	if status, _, _ := s.asOperator("GET", s.jobPath("web"), ""); status != 200 {
		t.Errorf("after ClearFaults: %d", status)
	}
	if err := s.sim.Inject(Fault{Kind: FaultDrop, Method: "DELETE"}); err != nil {
		t.Fatal(err)
	}
	token, err := s.sim.Token(s.sim.Operator(), audienceARM)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", s.srv.URL+s.jobPath("web"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, err := s.client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the connection was not cut")
	}
	if len(s.sim.Jobs()) != 1 {
		t.Error("a dropped request had an effect")
	}
	for _, bad := range []Fault{{Kind: "earthquake"}, {Kind: FaultAnswer, Status: 200}, {Kind: FaultDrop, Path: "("}} {
		if err := s.sim.Inject(bad); err == nil {
			t.Errorf("fault %+v is accepted", bad)
		}
	}
}

func TestFailingOperation(t *testing.T) {
	for name, delay := range map[string]Range{"calm": {}, "slow": Exactly(20 * time.Millisecond)} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, WithDelays(Delays{Operation: delay}))
			const quota = "Maximum Allowed Cores exceeded for the Managed Environment"
			check := func(what string, err error) {
				t.Helper()
				var re *azcore.ResponseError
				if !errors.As(err, &re) || re.ErrorCode != "MaximumCoresExceeded" || !strings.Contains(err.Error(), quota) {
					t.Errorf("%s: %v", what, err)
				}
			}
			fail := func(method, path string) {
				t.Helper()
				if err := s.sim.FailOperation(method, path, 1, "MaximumCoresExceeded", quota); err != nil {
					t.Fatal(err)
				}
			}
			fail("PUT", "/jobs/web$")
			p, err := s.jobs().BeginCreateOrUpdate(t.Context(), s.world.ResourceGroup, "web", s.sampleJob(), nil)
			if err == nil {
				_, err = p.PollUntilDone(t.Context(), fastPoll)
			}
			check("PUT", err)
			if state := s.sim.Jobs()[0].ProvisioningState; state != "Failed" {
				t.Errorf("the job is %s", state)
			}
			if status, _, body := s.asOperator("POST", s.jobPath("web/start"), ""); status != http.StatusConflict {
				t.Errorf("a failed job starts: %d %v", status, body)
			}
			s.putSample("web")
			fail("POST", "/start$")
			start, err := s.jobs().BeginStart(t.Context(), s.world.ResourceGroup, "web", nil)
			if err == nil {
				_, err = start.PollUntilDone(t.Context(), fastPoll)
			}
			check("start", err)
			if n := len(s.sim.Jobs()[0].Executions); n != 0 {
				t.Errorf("%d executions of a start that failed", n)
			}
			fail("DELETE", "/jobs/web$")
			del, err := s.jobs().BeginDelete(t.Context(), s.world.ResourceGroup, "web", nil)
			if err == nil {
				_, err = del.PollUntilDone(t.Context(), fastPoll)
			}
			check("DELETE", err)
			if jobs := s.sim.Jobs(); len(jobs) != 1 || jobs[0].ProvisioningState != "Succeeded" {
				t.Errorf("after a deletion that failed: %v", jobs)
			}
		})
	}
}

// TestUnkindSimulatorThroughSDK runs whole lives of jobs against throttling, cut polls and delays.
func TestUnkindSimulatorThroughSDK(t *testing.T) {
	const seed = 42
	s := newStage(t, WithSeed(seed), WithThrottling(0.05), WithDroppedPolls(0.2), WithDelays(Delays{
		Operation: Range{time.Millisecond, 30 * time.Millisecond}, Provision: Range{0, 20 * time.Millisecond},
		Status: Range{0, 20 * time.Millisecond}, Ingestion: Range{0, 50 * time.Millisecond}}))
	s.runtime.script(func(r *scriptedReplica) { r.exit(0) })
	var throttled, dropped, lives int
	for i := 0; i < 4 || (throttled == 0 || dropped == 0) && i < 40; i++ { // how often it asks, and so draws, is a matter of time
		name := fmt.Sprint("web", i)
		s.putSample(name)
		e := s.start(name)
		s.awaitStatus(name, e, "Succeeded")
		p, err := s.jobs().BeginDelete(t.Context(), s.world.ResourceGroup, name, nil)
		if err == nil {
			_, err = p.PollUntilDone(t.Context(), fastPoll)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		throttled, dropped, lives = 0, 0, i+1
		for _, r := range s.sim.Requests(0) {
			switch r.Status {
			case http.StatusTooManyRequests:
				throttled++
			case 0:
				dropped++
			}
		}
	}
	if n := len(s.runtime.all()); n != lives {
		t.Errorf("seed %d: %d replicas ran for %d starts", seed, n, lives)
	}
	if throttled == 0 || dropped == 0 {
		t.Errorf("seed %d: %d calls were throttled, %d dropped", seed, throttled, dropped)
	}
}

func TestDefaultsAreUnkindAndCalmIsNot(t *testing.T) {
	sim, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	if sim.delays.Operation.Min == 0 || sim.delays.Provision.Min == 0 || sim.delays.Ingestion.Min == 0 || sim.chance.throttle == 0 || sim.chance.dropPoll == 0 {
		t.Errorf("delays %+v, chances %+v", sim.delays, sim.chance)
	}
	calm, err := New(Calm(), WithProvisioning(Exactly(30*time.Second)))
	if err != nil {
		t.Fatal(err)
	}
	defer calm.Close()
	if (calm.delays != Delays{Provision: Exactly(30 * time.Second)}) || calm.chance != (chances{}) {
		t.Errorf("delays %+v, chances %+v", calm.delays, calm.chance)
	}
	a, b := newDice(3), newDice(3)
	for range 20 {
		if x, y := a.in(Range{0, time.Hour}), b.in(Range{0, time.Hour}); x != y {
			t.Fatalf("one seed draws %v and %v", x, y)
		}
	}
}

func TestAdminRoutes(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	e := s.start("web")
	s.replica(0)
	get := func(path string, v any) {
		t.Helper()
		resp, err := s.client.Get(s.srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s answers %d %s", path, resp.StatusCode, body)
		}
		if err := json.Unmarshal([]byte(body), v); err != nil {
			t.Fatal(err)
		}
	}
	post := func(path, body string) int {
		t.Helper()
		resp, err := s.client.Post(s.srv.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		return resp.StatusCode
	}
	var requests []Request
	get("/_sim/requests", &requests)
	if len(requests) == 0 || requests[0].Identity != "operator" || requests[0].Method != "PUT" {
		t.Errorf("requests: %+v", requests)
	}
	last := requests[len(requests)-1].Seq
	get(fmt.Sprintf("/_sim/requests?after=%d", last), &requests)
	if len(requests) != 0 {
		t.Errorf("requests after the last: %+v", requests)
	}
	var jobs []JobInfo
	get("/_sim/jobs", &jobs)
	if len(jobs) != 1 || jobs[0].Executions[0].Name != e {
		t.Errorf("jobs: %+v", jobs)
	}
	if status := post("/_sim/preempt", `{"execution":"`+e+`"}`); status != http.StatusNoContent {
		t.Errorf("preempt answers %d", status)
	}
	s.replica(1)
	if status := post("/_sim/faults", `{"kind":"answer","method":"GET","path":"/jobs/web$","status":500,"code":"Broken","message":"x"}`); status != http.StatusNoContent {
		t.Errorf("faults answers %d", status)
	}
	if status, _, body := s.asOperator("GET", s.jobPath("web"), ""); status != 500 || errorCode(body) != "Broken" {
		t.Errorf("the fault: %d %v", status, body)
	}
	for path, body := range map[string]string{"/_sim/faults": `{"kind":"none"}`, "/_sim/preempt": `{"execution":"nope"}`, "/_sim/assignments": `{"role":"King"}`} {
		if status := post(path, body); status != http.StatusBadRequest {
			t.Errorf("%s %s: %d", path, body, status)
		}
	}
	if status := post("/_sim/nothing", ""); status != http.StatusNotFound {
		t.Errorf("an unknown route: %d", status)
	}
	assignment, err := json.Marshal(Assignment{s.sim.Operator().ObjectID, "Container Apps Jobs Contributor", s.world.GroupID()})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", s.srv.URL+"/_sim/assignments", bytes.NewReader(assignment))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp)
	if status, _, _ := s.asOperator("GET", s.jobPath("web"), ""); status != http.StatusForbidden {
		t.Errorf("after the removal of the role: %d", status)
	}
	// A replica reaches the simulator under another name.
	req, err = http.NewRequestWithContext(t.Context(), "GET", s.srv.URL+"/_sim/jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "host.azuresim.internal:1"
	if resp, err = s.client.Do(req); err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a replica is answered %d", resp.StatusCode)
	}
}

func TestListensOnLoopbackOnly(t *testing.T) {
	sim, err := New(Calm())
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	for _, l := range []Listen{{HTTP: "0.0.0.0:0"}, {HTTPS: ":0"}, {DNS: "192.0.2.1:0"}, {HTTP: "nonsense"}} {
		if srv, err := sim.Serve(l); err == nil {
			srv.Close()
			t.Errorf("%+v is listened on", l)
		}
	}
}

// TestManyClientsAndASuddenEnd lets clients work side by side and closes the simulator under them.
func TestManyClientsAndASuddenEnd(t *testing.T) {
	s := newStage(t, WithDelays(Delays{Operation: Range{0, 3 * time.Millisecond}, Provision: Range{0, 3 * time.Millisecond}, Status: Range{0, 3 * time.Millisecond}}))
	body := s.sampleJSON(nil)
	token, err := s.sim.Token(s.sim.Operator(), audienceARM)
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, body string) int {
		req, err := http.NewRequest(method, s.srv.URL+path, strings.NewReader(body))
		if err != nil {
			return 0
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { // ends when stop is closed
			job := fmt.Sprint("web", i)
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, status := range []int{send("PUT", s.jobPath(job), body), send("POST", s.jobPath(job+"/start"), ""), send("GET", s.jobPath(job+"/executions"), ""),
					send("POST", s.jobPath(job+"/stop"), ""), send("DELETE", s.jobPath(job), "")} {
					if status == http.StatusInternalServerError {
						t.Error("an internal error")
					}
				}
			}
		})
	}
	eventually(t, "replicas run", func() bool { return len(s.runtime.all()) > 50 })
	if err := s.sim.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	clients.Wait()
	for _, r := range s.runtime.all() {
		select {
		case <-r.Done():
		default:
			t.Errorf("replica %s outlives the simulator", r.spec.Name)
		}
	}
}
