package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sockerless/sockerless/azuresim"
)

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		name, args string
		code       int
		want       string // in what it prints
	}{
		{"help", "--help", 0, "-provisioning"},
		{"version", "--version", 0, "azuresim "},
		{"unknown flag", "-foo", 2, "-foo"},
		{"bad duration", "-provisioning soon", 2, "-provisioning"},
		{"negative duration", "-provisioning -1s", 2, "-provisioning"},
		{"argument", "now", 2, `"now"`},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(tc.args), &out, &errs)
		text := out.String() + errs.String()
		if code != tc.code || !strings.Contains(text, tc.want) {
			t.Errorf("%s: exit %d: %s", tc.name, code, text)
		}
		if code == 2 && strings.Count(text, "\n") != 1 {
			t.Errorf("%s: not one line: %s", tc.name, text)
		}
	}
}

// program is azuresim, run in this process.
type program struct {
	t      *testing.T
	env    map[string]string
	client *http.Client
	stop   context.CancelFunc
	exit   chan int
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("replicas run on Linux as root only")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("there is no runc in $PATH")
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(stop)
	p := &program{t: t, env: map[string]string{}, stop: stop, exit: make(chan int, 1)}
	r, w := io.Pipe()
	var errs bytes.Buffer
	go func() { // ends with the program
		p.exit <- run(ctx, append([]string{"-calm", "-data", t.TempDir()}, args...), w, &errs)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	for lines.Scan() && lines.Text() != "" {
		k, v, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		p.env[k] = strings.Trim(v, "'")
	}
	go io.Copy(io.Discard, r) // ends with the program
	pem, err := os.ReadFile(p.env["SOCKERLESS_CA_FILE"])
	if err != nil {
		stop()
		<-p.exit
		t.Fatalf("the program is not ready: %v\n%s", err, errs.String())
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	p.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return p
}

// end is SIGTERM.
func (p *program) end() {
	p.t.Helper()
	p.stop()
	select {
	case code := <-p.exit:
		if code != 0 {
			p.t.Errorf("the program exits %d", code)
		}
	case <-time.After(2 * time.Minute):
		p.t.Fatal("the program does not end")
	}
}

// call sends a request with a token of the operator, had from the login endpoint, and answers the decoded body.
func (p *program) call(method, base, path, resource, body string) map[string]any {
	p.t.Helper()
	var cloud struct {
		Authentication struct{ LoginEndpoint string }
	}
	p.get(p.env["SOCKERLESS_ENDPOINT_URL"]+"/metadata/endpoints?api-version=2022-09-01", &cloud)
	resp, err := p.client.PostForm(cloud.Authentication.LoginEndpoint+"/"+p.env["AZURE_TENANT_ID"]+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {p.env["AZURE_CLIENT_ID"]}, "client_secret": {p.env["AZURE_CLIENT_SECRET"]}, "scope": {resource + "/.default"}})
	if err != nil {
		p.t.Fatal(err)
	}
	var token struct {
		Token string `json:"access_token"`
	}
	decode(p.t, resp, &token)
	req, err := http.NewRequestWithContext(p.t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	req.Header.Set("Content-Type", "application/json")
	if resp, err = p.client.Do(req); err != nil {
		p.t.Fatal(err)
	}
	var answer map[string]any
	decode(p.t, resp, &answer)
	if resp.StatusCode >= 300 {
		p.t.Fatalf("%s %s answers %d %v", method, path, resp.StatusCode, answer)
	}
	return answer
}

func (p *program) get(url string, v any) {
	p.t.Helper()
	resp, err := p.client.Get(url)
	if err != nil {
		p.t.Fatal(err)
	}
	decode(p.t, resp, v)
}

func decode(t *testing.T, resp *http.Response, v any) {
	t.Helper()
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// status is the status of a job's only execution.
func (p *program) status(job string) string {
	p.t.Helper()
	var jobs []azuresim.JobInfo
	p.get(p.env["SOCKERLESS_ENDPOINT_URL"]+"/_sim/jobs", &jobs)
	for _, j := range jobs {
		if j.Name == job && len(j.Executions) == 1 {
			return j.Executions[0].Status
		}
	}
	return ""
}

func (p *program) await(job, status string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); p.status(job) != status; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("job %s is %s, not %s", job, p.status(job), status)
		}
	}
}

// TestReplicasReallyRun runs minibox, pulled by the pulling identity, and reads its output from Log Analytics.
func TestReplicasReallyRun(t *testing.T) {
	p := start(t)
	group := "/subscriptions/" + p.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"] + "/resourceGroups/" + p.env["SOCKERLESS_ACA_RESOURCE_GROUP"]
	arm := p.env["SOCKERLESS_ENDPOINT_URL"]
	const resource = "https://management.azure.com"
	for job, script := range map[string]string{
		"talks": `echo hello from $CONTAINER_APP_JOB_NAME $SECRET; echo oops >&2; test -z "$IDENTITY_ENDPOINT" && exit 7`,
		"waits": "exec sleep 1000",
	} {
		body := fmt.Sprintf(`{"location":%q,"identity":{"type":"UserAssigned","userAssignedIdentities":{%q:{}}},"properties":{"environmentId":%q,
			"configuration":{"triggerType":"Manual","replicaTimeout":600,"replicaRetryLimit":0,"secrets":[{"name":"s","value":"psst"}],
				"registries":[{"server":%q,"identity":%q}],"identitySettings":[{"identity":%q,"lifecycle":"None"}]},
			"template":{"containers":[{"name":"main","image":"%s/minibox:latest","command":["sh","-c",%q],"env":[{"name":"SECRET","secretRef":"s"}],
				"resources":{"cpu":0.25,"memory":"0.5Gi"}}]}}}`,
			p.env["SOCKERLESS_ACA_LOCATION"], p.env["SOCKERLESS_ACA_IDENTITY"], group+"/providers/Microsoft.App/managedEnvironments/"+p.env["SOCKERLESS_ACA_ENVIRONMENT"],
			p.env["ACR_SERVER"], p.env["SOCKERLESS_ACA_IDENTITY"], p.env["SOCKERLESS_ACA_IDENTITY"], p.env["ACR_SERVER"], script)
		path := group + "/providers/Microsoft.App/jobs/" + job
		p.call("PUT", arm, path+"?api-version=2025-01-01", resource, body)
		p.call("POST", arm, path+"/start?api-version=2025-01-01", resource, "")
	}
	p.await("waits", "Running")
	p.await("talks", "Failed")
	list := p.call("GET", arm, group+"/providers/Microsoft.App/jobs/talks/executions?api-version=2026-07-01", resource, "")
	if text := fmt.Sprint(list); !strings.Contains(text, "code:7") {
		t.Errorf("executions: %s", text)
	}
	logs := p.call("POST", arm, "/v1/workspaces/"+p.env["SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE"]+"/query", "https://api.loganalytics.io",
		`{"query":"ContainerAppConsoleLogs_CL | where ContainerJobName_s == 'talks' | order by Stream_s desc | project Stream_s, Log_s"}`)
	tables, _ := logs["tables"].([]any)
	rows := fmt.Sprint(tables[0].(map[string]any)["rows"])
	if rows != "[[stdout hello from talks psst] [stderr oops]]" {
		t.Errorf("logs: %s", rows)
	}
	p.end() // with a replica that still runs
}
