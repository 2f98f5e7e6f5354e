package aca_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// tap puts a handler between the driver and the cloud.
func tap(t *testing.T, tc *testCloud, handler http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	tc.config.EndpointURL = server.URL
	tc.driver = tc.open("test")
}

// putOf starts spec and returns the body of the PUT.
func putOf(t *testing.T, tc *testCloud, spec driver.Spec) map[string]any {
	t.Helper()
	var mu sync.Mutex
	var put []byte
	tap(t, tc, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			put = body
			mu.Unlock()
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		tc.sim.ServeHTTP(w, r)
	})
	tc.start(spec)
	mu.Lock()
	defer mu.Unlock()
	var body map[string]any
	if err := json.Unmarshal(put, &body); err != nil {
		t.Fatalf("cannot read the PUT's body %q: %v", put, err)
	}
	return body
}

func TestJobIsWhatAzureIsAskedFor(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	spec := tc.spec()
	spec.Memory, spec.MaxRuntime, spec.Orphan = 3<<30, time.Hour, 90*time.Second
	spec.Credential = &driver.Credential{Server: "ghcr.io", Username: "me", Password: "hunter2"}
	got := putOf(t, tc, spec)
	id := tc.sim.World().PullIdentityID()
	mounts := []any{map[string]any{"volumeName": "agent", "mountPath": "/.sockerless"}}
	want := map[string]any{
		"location": "eastus",
		"tags": map[string]any{
			"managed-by": "sockerless", "sockerless-backend": "test", "sockerless-container": containerID,
			"sockerless-run": runID, "sockerless-name": "web",
		},
		"identity": map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{id: map[string]any{}}},
		"properties": map[string]any{
			"environmentId": tc.sim.World().EnvironmentID(),
			"configuration": map[string]any{
				"triggerType": "Manual", "replicaTimeout": 3600.0, "replicaRetryLimit": 0.0,
				"manualTriggerConfig": map[string]any{"parallelism": 1.0, "replicaCompletionCount": 1.0},
				"registries": []any{
					map[string]any{"server": tc.srv.LoginServer, "identity": id},
					map[string]any{"server": "ghcr.io", "username": "me", "passwordSecretRef": "pull-secret"},
				},
				"secrets": []any{
					map[string]any{"name": "pull-secret", "value": "hunter2"},
					map[string]any{"name": "run-secret", "value": base64.RawURLEncoding.EncodeToString(make([]byte, 32))},
				},
				"identitySettings": []any{map[string]any{"identity": id, "lifecycle": "None"}},
			},
			"template": map[string]any{
				"initContainers": []any{map[string]any{
					"name": "agent", "image": tc.config.AgentImage, "command": []any{"/sockerless-agent"}, "args": []any{"install", "/.sockerless"},
					"resources": map[string]any{"cpu": 0.25, "memory": "0.5Gi"}, "volumeMounts": mounts,
				}},
				"containers": []any{map[string]any{
					"name": "main", "image": spec.Image, "command": []any{"/.sockerless/agent"},
					"env": []any{
						map[string]any{"name": "SOCKERLESS_RUN_ID", "value": runID},
						map[string]any{"name": "SOCKERLESS_RUN_SECRET", "secretRef": "run-secret"},
						map[string]any{"name": "SOCKERLESS_CALLBACK_URL", "value": "http://host.azuresim.internal:9100"},
						map[string]any{"name": "SOCKERLESS_ORPHAN", "value": "1m30s"},
					},
					"resources": map[string]any{"cpu": 1.5, "memory": "3Gi"}, "volumeMounts": mounts,
				}},
				"volumes": []any{map[string]any{"name": "agent", "storageType": "EmptyDir"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
}

func TestForwardModeTellsTheAgentToListen(t *testing.T) {
	t.Parallel()
	tc := calm(t, func(c *aca.Config) { c.CallbackURL, c.Resolver = "", aca.SystemResolver })
	job := putOf(t, tc, tc.spec())
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.Contains(s, `{"name":"SOCKERLESS_AGENT_LISTEN","value":":9111"}`) || strings.Contains(s, "CALLBACK") {
		t.Errorf("job is %s", s)
	}
}

// The private authority that signs the callback's certificate reaches the agent.
func TestPrivateAuthorityForTheCallback(t *testing.T) {
	t.Parallel()
	tc := calm(t, func(c *aca.Config) { c.CallbackURL, c.CallbackCAFile = "https://backend.example:9100/", c.CAFile })
	pem, err := os.ReadFile(tc.srv.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(putOf(t, tc, tc.spec()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"name":"SOCKERLESS_CALLBACK_URL","value":"https://backend.example:9100"}`,
		`{"name":"SOCKERLESS_CA","value":"` + base64.StdEncoding.EncodeToString(pem) + `"}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("job has no %s: %s", want, text)
		}
	}
}

// The proxy to the callback reaches the agent, and what is secret of it as a secret only.
func TestProxyForTheCallback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ proxy, variable, secret string }{
		{"http://proxy.example:3128", `{"name":"SOCKERLESS_PROXY","value":"http://proxy.example:3128"}`, ""},
		{"direct", `{"name":"SOCKERLESS_PROXY","value":"direct"}`, ""},
		{
			"http://me:hunter2@proxy.example:3128", `{"name":"SOCKERLESS_PROXY","secretRef":"callback-proxy"}`,
			`{"name":"callback-proxy","value":"http://me:hunter2@proxy.example:3128"}`,
		},
	} {
		tc := calm(t, func(conf *aca.Config) { conf.CallbackProxy = c.proxy })
		text, err := json.Marshal(putOf(t, tc, tc.spec()))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), c.variable) || !strings.Contains(string(text), c.secret) || strings.Count(string(text), c.proxy) != 1 {
			t.Errorf("%s: job is %s", c.proxy, text)
		}
	}
}

// User code must not be able to mint the tokens of the identity that pulls.
func TestNoIdentityInside(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	tc.start(tc.spec())
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
	r := tc.replicas.list()[0]
	for _, c := range append(append([]azuresim.ContainerSpec(nil), r.spec.Init...), r.spec.Containers...) {
		for _, e := range c.Env {
			if strings.HasPrefix(e, "IDENTITY_") || strings.HasPrefix(e, "MSI_") {
				t.Errorf("container %s has %s", c.Name, e)
			}
		}
	}
}
