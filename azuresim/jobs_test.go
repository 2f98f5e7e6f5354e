package azuresim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
)

var fastPoll = &runtime.PollUntilDoneOptions{Frequency: 10 * time.Millisecond}

func TestJobThroughSDK(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts []Option
	}{
		{"calm", nil},
		{"slow operations", []Option{WithDelays(Delays{Operation: Range{20 * time.Millisecond, 60 * time.Millisecond}})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, tc.opts...)
			ctx, jobs := t.Context(), s.jobs()
			s.putSample("web")
			got, err := jobs.Get(ctx, s.world.ResourceGroup, "web", nil)
			if err != nil {
				t.Fatal(err)
			}
			if state := *got.Properties.ProvisioningState; state != armappcontainers.JobProvisioningStateSucceeded {
				t.Errorf("provisioningState = %s", state)
			}
			if secret := got.Properties.Configuration.Secrets[0]; *secret.Name != "run-secret" || secret.Value != nil {
				t.Errorf("secret is shown as %+v", secret)
			}
			execution := s.start("web")
			replica := s.replica(0)
			if env := replica.spec.Containers[0].Env; !slices.Contains(env, "SECRET=s3cret") || !slices.Contains(env, "CONTAINER_APP_JOB_EXECUTION_NAME="+execution) {
				t.Errorf("environment of the replica: %v", env)
			}
			replica.exit(0)
			s.awaitStatus("web", execution, "Succeeded")
			del, err := jobs.BeginDelete(ctx, s.world.ResourceGroup, "web", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := del.PollUntilDone(ctx, fastPoll); err != nil {
				t.Fatal(err)
			}
			if list := s.sim.Jobs(); len(list) != 0 {
				t.Errorf("jobs after the deletion: %v", list)
			}
		})
	}
}

// start starts an execution through the SDK and answers its name.
func (s *stage) start(job string) string {
	s.t.Helper()
	p, err := s.jobs().BeginStart(s.t.Context(), s.world.ResourceGroup, job, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	started, err := p.PollUntilDone(s.t.Context(), fastPoll)
	if err != nil {
		s.t.Fatal(err)
	}
	return *started.Name
}

// replica waits until the runtime has been given so many replicas and answers the last of them.
func (s *stage) replica(i int) *scriptedReplica {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("replica %d starts", i), func() bool { return len(s.runtime.all()) > i })
	return s.runtime.all()[i]
}

// replicaOf waits until the runtime has been given a replica of the execution.
func (s *stage) replicaOf(execution string) *scriptedReplica {
	s.t.Helper()
	var found *scriptedReplica
	eventually(s.t, "a replica of "+execution+" starts", func() bool {
		for _, r := range s.runtime.all() {
			if strings.HasPrefix(r.spec.Name, execution+"-") {
				found = r
			}
		}
		return found != nil
	})
	return found
}

func (s *stage) execution(ctx context.Context, job, name string) armappcontainers.JobExecution {
	s.t.Helper()
	c, err := armappcontainers.NewContainerAppsAPIClient(s.world.Subscription, s.operator(), s.armOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	e, err := c.JobExecution(ctx, s.world.ResourceGroup, job, name, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return e.JobExecution
}

func (s *stage) awaitStatus(job, execution, status string) {
	s.t.Helper()
	eventually(s.t, "the execution's status is "+status, func() bool {
		return string(*s.execution(s.t.Context(), job, execution).Properties.Status) == status
	})
}

func (s *stage) jobPath(rest string) string {
	return s.world.GroupID() + "/providers/Microsoft.App/jobs/" + rest + "?api-version=2026-07-01"
}

// asOperator sends a raw request of the operator.
func (s *stage) asOperator(method, path, body string) (int, http.Header, map[string]any) {
	s.t.Helper()
	return s.call(s.sim.Operator(), method, path, body)
}

// sampleJSON is the sample job's body after change has had its hands on it.
func (s *stage) sampleJSON(change func(job map[string]any)) string {
	s.t.Helper()
	raw, err := json.Marshal(s.sampleJob())
	if err != nil {
		s.t.Fatal(err)
	}
	var job map[string]any
	if err := json.Unmarshal(raw, &job); err != nil {
		s.t.Fatal(err)
	}
	if change != nil {
		change(job)
	}
	if raw, err = json.Marshal(job); err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

// at walks into a JSON value by keys and indexes.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

func set(v any, value any, path ...any) {
	last := len(path) - 1
	at(v, path[:last]...).(map[string]any)[path[last].(string)] = value
}

func TestLongRunningAnswers(t *testing.T) {
	slow := newStage(t, WithDelays(Delays{Operation: Exactly(time.Hour)}))
	calm := newStage(t)
	for _, s := range []*stage{slow, calm} {
		isSlow := s == slow
		status, header, body := s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(nil))
		if status != http.StatusCreated || (header.Get("Azure-AsyncOperation") != "") != isSlow || (header.Get("Retry-After") != "") != isSlow {
			t.Errorf("slow=%v: PUT answers %d with headers %v", isSlow, status, header)
		}
		want := map[bool]string{true: "InProgress", false: "Succeeded"}[isSlow]
		if got := at(body, "properties", "provisioningState"); got != want {
			t.Errorf("slow=%v: provisioningState of the answer = %v", isSlow, got)
		}
		if isSlow && slow.poll(header) != "InProgress" {
			t.Error("an operation that has an hour to go is over")
		}
	}
	for method, path := range map[string]string{"PUT": slow.jobPath("web"), "POST": slow.jobPath("web/start"), "DELETE": slow.jobPath("web")} {
		body := ""
		if method == "PUT" {
			body = slow.sampleJSON(nil)
		}
		if status, _, answer := slow.asOperator(method, path, body); status != http.StatusConflict || errorCode(answer) != "ContainerAppOperationInProgress" {
			t.Errorf("%s while an operation is in progress answers %d %v", method, status, answer)
		}
	}

	slow.sim.mu.Lock()
	slow.sim.delays.Operation = Exactly(80 * time.Millisecond)
	slow.sim.mu.Unlock()
	_, header, _ := slow.asOperator("PUT", slow.jobPath("api"), slow.sampleJSON(nil))
	eventually(t, "the operation ends", func() bool { return slow.poll(header) == "Succeeded" })
	if status, _, _ := slow.asOperator("PUT", slow.jobPath("api"), slow.sampleJSON(nil)); status != http.StatusOK {
		t.Errorf("PUT without a change answers %d", status)
	}
	status, header, _ := slow.asOperator("DELETE", slow.jobPath("api"), "")
	if status != http.StatusAccepted || header.Get("Location") == "" {
		t.Errorf("DELETE answers %d %v", status, header)
	}
	eventually(t, "the job is gone", func() bool {
		status, _, _ := slow.asOperator("GET", slow.jobPath("api"), "")
		return status == http.StatusNotFound
	})
	if status, _, _ := slow.asOperator("DELETE", slow.jobPath("api"), ""); status != http.StatusNoContent {
		t.Errorf("DELETE of a job that is not there answers %d", status)
	}
}

// poll asks once for an operation's status.
func (s *stage) poll(header http.Header) any {
	s.t.Helper()
	operator, err := s.sim.Token(s.sim.Operator(), audienceARM)
	if err != nil {
		s.t.Fatal(err)
	}
	status, _, op := s.send("GET", header.Get("Azure-AsyncOperation"), "Bearer "+operator, "")
	if status != http.StatusOK {
		s.t.Fatalf("the poll answers %d %v", status, op)
	}
	return op["status"]
}

func TestStartAnswersEitherWay(t *testing.T) {
	s := newStage(t, WithSeed(7))
	s.putSample("web")
	s.sim.mu.Lock()
	s.sim.delays.Operation = Exactly(time.Hour)
	s.sim.mu.Unlock()
	kinds := map[string]bool{}
	for range 40 {
		status, header, body := s.asOperator("POST", s.jobPath("web/start"), "")
		switch {
		case status == http.StatusOK && body["name"] != nil:
			kinds["body"] = true
		case status == http.StatusAccepted && header.Get("Location") != "" && body["name"] != nil:
			kinds["location and body"] = true
		case status == http.StatusAccepted && header.Get("Location") != "" && body == nil:
			kinds["location"] = true
		default:
			t.Fatalf("start answers %d %v %v", status, header, body)
		}
	}
	if len(kinds) != 3 {
		t.Errorf("answers seen: %v", kinds)
	}
}

func TestJobRefusals(t *testing.T) {
	s := newStage(t)
	other := s.sim.AddIdentity("other")
	without := s.sim.AddIdentity("without-rights")
	if err := s.sim.Assign(Assignment{s.sim.Operator().ObjectID, "Managed Identity Operator", without.ResourceID}); err != nil {
		t.Fatal(err)
	}
	container := []any{"properties", "template", "containers", 0}
	path := func(base []any, more ...any) []any { return append(slices.Clone(base), more...) }
	configuration := []any{"properties", "configuration"}
	tags := map[string]any{}
	for i := range 51 {
		tags[fmt.Sprint("t", i)] = ""
	}
	for _, tc := range []struct {
		name, code string
		change     func(job map[string]any)
	}{
		{"unknown property", "InvalidRequestContent", func(j map[string]any) { j["colour"] = "red" }},
		{"unknown property of a container", "InvalidRequestContent", func(j map[string]any) { set(j, "/", path(container, "workingDir")...) }},
		{"no location", "LocationRequired", func(j map[string]any) { delete(j, "location") }},
		{"another location", "InvalidLocation", func(j map[string]any) { j["location"] = "westeurope" }},
		{"no properties", "InvalidRequestContent", func(j map[string]any) { delete(j, "properties") }},
		{"too many tags", "TooManyTags", func(j map[string]any) { j["tags"] = tags }},
		{"long tag name", "InvalidTagNameLength", func(j map[string]any) { j["tags"] = map[string]any{strings.Repeat("k", 513): ""} }},
		{"long tag value", "InvalidTagValueLength", func(j map[string]any) { j["tags"] = map[string]any{"k": strings.Repeat("v", 257)} }},
		{"slash in a tag name", "InvalidTagNameCharacters", func(j map[string]any) { j["tags"] = map[string]any{"a/b": ""} }},
		{"no environment", "EnvironmentNotSpecified", func(j map[string]any) { set(j, "", "properties", "environmentId") }},
		{"unknown environment", "LinkedAuthorizationFailed", func(j map[string]any) { set(j, s.world.EnvironmentID()+"x", "properties", "environmentId") }},
		{"no timeout", "ContainerAppInvalidPropertyValue", func(j map[string]any) { set(j, 0, path(configuration, "replicaTimeout")...) }},
		{"schedule", "UnsupportedBySimulator", func(j map[string]any) { set(j, "Schedule", path(configuration, "triggerType")...) }},
		{"two replicas", "UnsupportedBySimulator", func(j map[string]any) {
			set(j, map[string]any{"parallelism": 2}, path(configuration, "manualTriggerConfig")...)
		}},
		{"secret without a value", "ContainerAppSecretInvalid", func(j map[string]any) {
			set(j, "", path(configuration, "secrets", 0, "value")...)
		}},
		{"capital in a secret's name", "ContainerAppSecretNameInvalid", func(j map[string]any) {
			set(j, "Secret", path(configuration, "secrets", 0, "name")...)
		}},
		{"unknown secret", "ContainerAppSecretRefNotFound", func(j map[string]any) {
			set(j, "nope", path(container, "env", 0, "secretRef")...)
		}},
		{"registry password that is no secret", "ContainerAppPasswordSecretRefNotFound", func(j map[string]any) {
			set(j, []any{map[string]any{"server": "example.com", "username": "u", "passwordSecretRef": "nope"}}, path(configuration, "registries")...)
		}},
		{"registry identity not attached", "ContainerAppRegistryIdentityNotAssigned", func(j map[string]any) {
			set(j, other.ResourceID, path(configuration, "registries", 0, "identity")...)
		}},
		{"registry identity without AcrPull", "InvalidParameterValueInContainerTemplate", func(j map[string]any) {
			j["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{without.ResourceID: map[string]any{}}}
			set(j, without.ResourceID, path(configuration, "registries", 0, "identity")...)
			set(j, nil, path(configuration, "identitySettings")...)
		}},
		{"registry that is no ACR", "ContainerAppRegistryServerInvalid", func(j map[string]any) {
			set(j, "docker.io", path(configuration, "registries", 0, "server")...)
		}},
		{"identity that the caller may not assign", "LinkedAuthorizationFailed", func(j map[string]any) {
			j["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{other.ResourceID: map[string]any{}}}
		}},
		{"identity setting of another identity", "ContainerAppIdentityNotAssigned", func(j map[string]any) {
			set(j, other.ResourceID, path(configuration, "identitySettings", 0, "identity")...)
		}},
		{"bad image", "InvalidParameterValueInContainerTemplate", func(j map[string]any) { set(j, "a b", path(container, "image")...) }},
		{"illegal pair", "ContainerAppInvalidResourceTotal", func(j map[string]any) { set(j, 0.3, path(container, "resources", "cpu")...) }},
		{"memory of another pair", "ContainerAppInvalidResourceTotal", func(j map[string]any) { set(j, "2Gi", path(container, "resources", "memory")...) }},
		{"memory in megabytes", "ContainerAppInvalidResource", func(j map[string]any) { set(j, "512Mi", path(container, "resources", "memory")...) }},
		{"colon in a mount path", "InvalidParameterValueInContainerTemplate", func(j map[string]any) {
			set(j, "/a:b", path(container, "volumeMounts", 0, "mountPath")...)
		}},
		{"relative mount path", "InvalidParameterValueInContainerTemplate", func(j map[string]any) {
			set(j, "a", path(container, "volumeMounts", 0, "mountPath")...)
		}},
		{"unknown volume", "ContainerAppVolumeMountNotFound", func(j map[string]any) {
			set(j, "nope", path(container, "volumeMounts", 0, "volumeName")...)
		}},
		{"unknown storage", "ContainerAppManagedEnvironmentStorageNotFound", func(j map[string]any) {
			set(j, []any{map[string]any{"name": "tools", "storageType": "AzureFile", "storageName": "nope"}}, "properties", "template", "volumes")
		}},
		{"two containers of one name", "ContainerAppContainerNameDuplicate", func(j map[string]any) {
			set(j, "install", path(container, "name")...)
		}},
		{"variable with value and secret", "InvalidParameterValueInContainerTemplate", func(j map[string]any) {
			set(j, "v", path(container, "env", 0, "value")...)
		}},
		{"probes", "UnsupportedBySimulator", func(j map[string]any) {
			set(j, []any{map[string]any{"type": "Liveness"}}, path(container, "probes")...)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, _, body := s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(tc.change))
			want := http.StatusBadRequest
			if tc.code == "LinkedAuthorizationFailed" {
				want = http.StatusForbidden
			}
			if status != want || errorCode(body) != tc.code {
				t.Errorf("answer %d %v", status, body)
			}
			if len(s.sim.Jobs()) != 0 {
				t.Error("a job was made nevertheless")
			}
		})
	}
	for _, name := range []string{"a", "Web", "web_1", "1web", "web-", "we--b", strings.Repeat("w", 33)} {
		if status, _, body := s.asOperator("PUT", s.jobPath(name), s.sampleJSON(nil)); status != http.StatusBadRequest || errorCode(body) != "ContainerAppInvalidName" {
			t.Errorf("name %q: %d %v", name, status, body)
		}
	}
	if status, _, body := s.asOperator("PUT", s.jobPath(strings.Repeat("w", 32)), s.sampleJSON(nil)); status != http.StatusCreated {
		t.Errorf("a name of 32 characters: %d %v", status, body)
	}
}

func TestARMRefusals(t *testing.T) {
	s := newStage(t)
	base := s.world.GroupID() + "/providers/Microsoft.App/jobs/web"
	for _, tc := range []struct {
		name, method, path string
		status             int
		code               string
	}{
		{"no api-version", "GET", base, 400, "MissingApiVersionParameter"},
		{"unknown api-version", "GET", base + "?api-version=2022-01-01-preview", 400, "NoRegisteredProviderFound"},
		{"missing job", "GET", base + "?api-version=2025-01-01", 404, "ResourceNotFound"},
		{"missing execution's job", "GET", base + "/executions/x?api-version=2025-01-01", 404, "ResourceNotFound"},
		{"another subscription", "GET", "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.App/jobs?api-version=2025-01-01", 404, "SubscriptionNotFound"},
		{"unknown type", "GET", s.world.GroupID() + "/providers/Microsoft.App/boats/b?api-version=2025-01-01", 404, "InvalidResourceType"},
		{"wrong method", "PATCH", base + "/start?api-version=2025-01-01", 405, "MethodNotAllowed"},
		{"whole subscription", "GET", s.world.SubscriptionID() + "/providers/Microsoft.App/jobs?api-version=2025-01-01", 403, "AuthorizationFailed"},
		{"another group", "GET", s.world.SubscriptionID() + "/resourceGroups/other/providers/Microsoft.App/jobs?api-version=2025-01-01", 403, "AuthorizationFailed"},
	} {
		if status, _, body := s.asOperator(tc.method, tc.path, ""); status != tc.status || errorCode(body) != tc.code {
			t.Errorf("%s: %d %v", tc.name, status, body)
		}
	}
	if err := s.sim.Assign(Assignment{s.sim.Operator().ObjectID, "Owner", s.world.SubscriptionID()}); err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.asOperator("GET", s.world.SubscriptionID()+"/resourceGroups/other/providers/Microsoft.App/jobs?api-version=2025-01-01", ""); status != 404 || errorCode(body) != "ResourceGroupNotFound" {
		t.Errorf("a group that is not there: %d %v", status, body)
	}
	if status, _, body := s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(func(j map[string]any) { set(j, s.world.EnvironmentID()+"x", "properties", "environmentId") })); status != 400 || errorCode(body) != "ManagedEnvironmentNotFound" {
		t.Errorf("an environment that is not there: %d %v", status, body)
	}
}

func TestExecutionStatuses(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	detailed := func(execution, version string) map[string]any {
		t.Helper()
		status, _, body := s.asOperator("GET", s.world.GroupID()+"/providers/Microsoft.App/jobs/web/executions/"+execution+"?api-version="+version, "")
		if status != http.StatusOK {
			t.Fatalf("execution answers %d %v", status, body)
		}
		if body["status"] != nil {
			t.Errorf("the status is not nested: %v", body)
		}
		return body["properties"].(map[string]any)
	}
	t.Run("exit code", func(t *testing.T) {
		e := s.start("web")
		s.awaitStatus("web", e, "Running")
		s.replicaOf(e).exit(5)
		s.awaitStatus("web", e, "Failed")
		p := detailed(e, "2026-07-01")
		containers := at(p, "detailedStatus", "replicas", 0, "containers").([]any)
		codes := map[string]any{}
		for _, c := range containers {
			codes[at(c, "name").(string)] = at(c, "code")
		}
		if codes["main"] != 5.0 || p["endTime"] == nil || !strings.HasPrefix(at(p, "detailedStatus", "replicas", 0, "name").(string), e+"-") {
			t.Errorf("properties: %v", p)
		}
		if p := detailed(e, "2026-01-01"); p["detailedStatus"] != nil || p["reason"] != nil {
			t.Errorf("2026-01-01 has no detailedStatus: %v", p)
		}
	})
	t.Run("stop gives thirty seconds", func(t *testing.T) {
		e := s.start("web")
		r := s.replicaOf(e)
		p, err := s.jobs().BeginStopExecution(t.Context(), s.world.ResourceGroup, "web", e, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.PollUntilDone(t.Context(), fastPoll); err != nil {
			t.Fatal(err)
		}
		s.awaitStatus("web", e, "Stopped")
		if !slices.Equal(r.stopped, []time.Duration{30 * time.Second}) {
			t.Errorf("stops: %v", r.stopped)
		}
	})
	t.Run("a bad image stays running and has no code", func(t *testing.T) {
		s.runtime.script(func(r *scriptedReplica) {
			r.onStop = func(r *scriptedReplica, _ time.Duration) {
				r.once.Do(func() { r.result.Err = fmt.Errorf("cannot pull"); close(r.done) })
			}
		})
		defer s.runtime.script(nil)
		e := s.start("web")
		s.awaitStatus("web", e, "Running")
		s.asOperator("POST", s.jobPath("web/stop"), "")
		s.awaitStatus("web", e, "Stopped")
		c := at(detailed(e, "2026-07-01"), "detailedStatus", "replicas", 0, "containers", 0)
		if at(c, "code") != nil || at(c, "status") != "Waiting" {
			t.Errorf("container: %v", c)
		}
	})
	t.Run("deletion ends executions", func(t *testing.T) {
		r := s.replicaOf(s.start("web"))
		s.asOperator("DELETE", s.jobPath("web"), "")
		select {
		case <-r.Done():
		case <-time.After(time.Minute):
			t.Error("the replica goes on")
		}
	})
	var names []string
	for _, r := range s.runtime.all() {
		names = append(names, r.spec.Name)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(names) {
		t.Errorf("replica names are not unique: %v", names)
	}
}

func TestReplicaTimeoutEndsTheExecution(t *testing.T) {
	s := newStage(t)
	s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(func(j map[string]any) { set(j, 1, "properties", "configuration", "replicaTimeout") }))
	e := s.start("web")
	s.awaitStatus("web", e, "Failed")
	if r := s.replica(0); !slices.Equal(r.stopped, []time.Duration{30 * time.Second}) {
		t.Errorf("stops: %v", r.stopped)
	}
}

func TestRetryLimit(t *testing.T) {
	s := newStage(t)
	s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(func(j map[string]any) { set(j, 2, "properties", "configuration", "replicaRetryLimit") }))
	s.runtime.script(func(r *scriptedReplica) { r.exit(1) })
	e := s.start("web")
	s.awaitStatus("web", e, "Failed")
	if n := len(s.runtime.all()); n != 3 {
		t.Errorf("%d replicas ran with a retry limit of 2", n)
	}
}

func TestPreemptionRunsAReplicaAgainWithoutRetries(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	still := make(chan struct{})
	s.runtime.script(func(r *scriptedReplica) {
		r.onStop = func(*scriptedReplica, time.Duration) { close(still) } // it takes its time to end
	})
	e := s.start("web")
	first := s.replica(0)
	s.runtime.script(nil)
	if err := s.sim.Preempt(e); err != nil {
		t.Fatal(err)
	}
	second := s.replica(1)
	select {
	case <-still:
	case <-time.After(time.Minute):
		t.Fatal("the old replica is not stopped")
	}
	select {
	case <-first.Done():
		t.Error("the old replica is gone before the new one starts")
	default:
	}
	first.exit(143)
	second.exit(0)
	s.awaitStatus("web", e, "Succeeded")
	if first.spec.Name == second.spec.Name {
		t.Error("both replicas have one name")
	}
	if err := s.sim.Preempt(e); err == nil {
		t.Error("an execution that is over is preempted")
	}
}

func TestStartOverridesTheWholeTemplate(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	body := `{"containers":[{"name":"main","image":"other:1","env":[{"name":"SECRET","secretRef":"run-secret"}],"resources":{"cpu":0.25,"memory":"0.5Gi"}}]}`
	if status, _, answer := s.asOperator("POST", s.jobPath("web/start"), body); status != http.StatusOK {
		t.Fatalf("start answers %d %v", status, answer)
	}
	spec := s.replica(0).spec
	c := spec.Containers[0]
	if len(spec.Init) != 0 || len(c.Command) != 0 || c.Image != "other:1" || slices.Contains(c.Env, "PLAIN=x") {
		t.Errorf("something of the job's template is left: %+v", c)
	}
	if len(c.Mounts) != 1 || c.Mounts[0].Path != "/.tools" {
		t.Errorf("volumes are not inherited: %+v", c.Mounts)
	}
	if !slices.Contains(c.Env, "SECRET=s3cret") {
		t.Errorf("environment: %v", c.Env)
	}
	for _, bad := range []string{`{"template":{"containers":[]}}`, `{"containers":[{"name":"main","image":"x","volumeMounts":[]}]}`, `{"containers":[{"name":"main"}]}`} {
		if status, _, answer := s.asOperator("POST", s.jobPath("web/start"), bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", bad, status, answer)
		}
	}
}

func TestListPages(t *testing.T) {
	s := newStage(t)
	s.sim.mu.Lock()
	s.sim.limits.page = 2
	s.sim.mu.Unlock()
	for _, name := range []string{"aa", "bb", "cc", "dd", "ee"} {
		s.putSample(name)
	}
	var names []string
	pages := 0
	for pager := s.jobs().NewListByResourceGroupPager(s.world.ResourceGroup, nil); pager.More(); pages++ {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Value {
			names = append(names, *j.Name)
		}
	}
	if !slices.Equal(names, []string{"aa", "bb", "cc", "dd", "ee"}) || pages != 3 {
		t.Errorf("%d pages: %v", pages, names)
	}
}

func TestPatchMergesTags(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	status, _, body := s.asOperator("PATCH", s.jobPath("web"), `{"tags":{"a":"b","managed-by":null}}`)
	if status != http.StatusOK || fmt.Sprint(body["tags"]) != "map[a:b]" {
		t.Errorf("PATCH answers %d %v", status, body["tags"])
	}
	if at(body, "properties", "template", "containers", 0, "name") != "main" {
		t.Errorf("PATCH of tags changed the template: %v", body)
	}
	if status, _, body := s.asOperator("PATCH", s.jobPath("web"), `{"colour":"red"}`); status != http.StatusBadRequest {
		t.Errorf("an unknown property: %d %v", status, body)
	}
	_, _, secrets := s.asOperator("POST", s.jobPath("web/listSecrets"), "")
	if at(secrets, "value", 0, "value") != "s3cret" {
		t.Errorf("PATCH lost the secret: %v", secrets)
	}
}
