package azuresim

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// copyOfData is the data folder as a process that is killed now leaves it.
func (s *stage) copyOfData() string {
	s.t.Helper()
	dir := s.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.sim.dir)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

func TestJobsOutliveTheProcess(t *testing.T) {
	s := newStage(t, WithDataDir(t.TempDir()))
	s.putSample("web")
	s.putSample("gone")
	done := s.start("web")
	s.replica(0).exit(3)
	s.awaitStatus("web", done, "Failed")
	lost := s.start("web")
	s.awaitStatus("web", lost, "Running")
	s.asOperator("DELETE", s.jobPath("gone"), "")

	after := newStage(t, WithDataDir(s.copyOfData()))
	jobs := after.sim.Jobs()
	if len(jobs) != 1 || jobs[0].Name != "web" || jobs[0].ProvisioningState != "Succeeded" {
		t.Fatalf("jobs after the restart: %+v", jobs)
	}
	want := []ExecutionInfo{
		{Name: done, Status: "Failed", Replicas: jobs[0].Executions[0].Replicas},
		{Name: lost, Status: "Failed", Replicas: jobs[0].Executions[1].Replicas},
	}
	for i, e := range jobs[0].Executions {
		if e.Name != want[i].Name || e.Status != want[i].Status || len(e.Replicas) != 1 {
			t.Errorf("execution %+v, want %+v", e, want[i])
		}
	}
	status, _, body := after.asOperator("GET", after.jobPath("web/executions/"+done), "")
	if status != http.StatusOK || at(body, "properties", "detailedStatus", "replicas", 0, "containers", 0, "code") != 3.0 {
		t.Errorf("the exit code is lost: %d %v", status, body)
	}
	_, _, secrets := after.asOperator("POST", after.jobPath("web/listSecrets"), "")
	if at(secrets, "value", 0, "value") != "s3cret" {
		t.Errorf("secrets: %v", secrets)
	}
	again := after.start("web")
	after.replica(0).exit(0)
	after.awaitStatus("web", again, "Succeeded")
	if s.sim.Operator().Secret != after.sim.Operator().Secret || s.sim.OperatorHeader() != after.sim.OperatorHeader() {
		t.Error("the operator's secrets changed")
	}
}

func TestOneSimulatorAFolder(t *testing.T) {
	dir := t.TempDir()
	sim, err := New(WithDataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := New(WithDataDir(dir)); err == nil {
		second.Close()
		t.Error("a second simulator uses the folder")
	} else if !strings.Contains(err.Error(), "another simulator") {
		t.Error(err)
	}
	if err := sim.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := New(WithDataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsReplicas(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	e := s.start("web")
	s.awaitStatus("web", e, "Running")
	r := s.replica(0)
	if err := s.sim.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.Done():
	default:
		t.Error("a replica outlives the simulator")
	}
	if len(r.stopped) == 0 || slices.Max(r.stopped) > closeGrace {
		t.Errorf("stops: %v", r.stopped)
	}
	resp, err := s.client.Get(s.srv.URL + "/metadata/endpoints?api-version=2022-09-01")
	if err != nil {
		t.Fatal(err)
	}
	if readAll(t, resp); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a closed simulator answers %d", resp.StatusCode)
	}
	if _, err := os.Stat(s.sim.dir); !os.IsNotExist(err) {
		t.Errorf("the temporary folder is left: %v", err)
	}
}

func TestStorages(t *testing.T) {
	dir := t.TempDir()
	s := newStage(t, WithDataDir(dir))
	path := s.world.EnvironmentID() + "/storages/data?api-version=2026-01-01"
	body := `{"properties":{"azureFile":{"accountName":"sockerlesssim","accountKey":"a2V5","shareName":"my-share","accessMode":"ReadOnly"}}}`
	status, _, answer := s.asOperator("PUT", path, body)
	if status != http.StatusOK || at(answer, "properties", "azureFile", "accountKey") != nil {
		t.Errorf("PUT answers %d %v", status, answer)
	}
	for _, bad := range []string{`{}`, `{"properties":{}}`, strings.Replace(body, "my-share", "My", 1), strings.Replace(body, "ReadOnly", "Both", 1),
		strings.Replace(body, `"accountKey":"a2V5",`, "", 1), strings.Replace(body, "azureFile", "blob", 1)} {
		if status, _, answer := s.asOperator("PUT", path, bad); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", bad, status, answer)
		}
	}
	status, _, answer = s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(func(j map[string]any) {
		set(j, []any{map[string]any{"name": "tools", "storageType": "AzureFile", "storageName": "data"}}, "properties", "template", "volumes")
		at(j, "properties", "template", "containers", 0, "volumeMounts", 0).(map[string]any)["subPath"] = "inner"
	}))
	if status != http.StatusCreated {
		t.Fatalf("PUT job answers %d %v", status, answer)
	}
	s.start("web")
	spec := s.replica(0).spec
	share := filepath.Join(dir, "shares", "sockerlesssim", "my-share")
	if spec.Shares["tools"] != share || spec.Shares["tools/inner"] != filepath.Join(share, "inner") {
		t.Errorf("shares: %v", spec.Shares)
	}
	if m := spec.Containers[0].Mounts[0]; m.Volume != "tools/inner" || !m.ReadOnly {
		t.Errorf("mount: %+v", m)
	}
	if stat, err := os.Stat(spec.Shares["tools/inner"]); err != nil || !stat.IsDir() {
		t.Errorf("the folder is not there: %v", err)
	}
	if status, _, answer = s.asOperator("GET", s.world.EnvironmentID()+"/storages?api-version=2026-01-01", ""); status != http.StatusOK || len(answer["value"].([]any)) != 1 {
		t.Errorf("list: %d %v", status, answer)
	}
	for _, want := range []int{http.StatusOK, http.StatusNoContent} {
		if status, _, _ := s.asOperator("DELETE", path, ""); status != want {
			t.Errorf("DELETE answers %d, want %d", status, want)
		}
	}
	if status, _, answer = s.asOperator("GET", path, ""); status != http.StatusNotFound {
		t.Errorf("a deleted storage: %d %v", status, answer)
	}
}

func TestOtherResources(t *testing.T) {
	s := newStage(t)
	op := s.sim.Operator()
	if err := s.sim.Assign(Assignment{op.ObjectID, "Owner", s.world.GroupID()}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path string
		want any
		at   []any
	}{
		{s.world.WorkspaceID() + "?api-version=2025-07-01", s.world.WorkspaceCustomerID, []any{"properties", "customerId"}},
		{s.world.PullIdentityID() + "?api-version=2024-11-30", s.world.Tenant, []any{"properties", "tenantId"}},
		{s.world.GroupID() + "?api-version=2023-07-01", "eastus", []any{"location"}},
		{s.world.EnvironmentID() + "?api-version=2026-07-01", s.world.WorkspaceCustomerID, []any{"properties", "appLogsConfiguration", "logAnalyticsConfiguration", "customerId"}},
	} {
		if status, _, body := s.asOperator("GET", tc.path, ""); status != http.StatusOK || at(body, tc.at...) != tc.want {
			t.Errorf("%s: %d %v", tc.path, status, body)
		}
	}
	other := s.world.GroupID() + "/providers/Microsoft.App/managedEnvironments/second?api-version=2026-07-01"
	if status, _, body := s.asOperator("PUT", other, `{"location":"East US","properties":{}}`); status != http.StatusCreated || !strings.HasPrefix(at(body, "properties", "defaultDomain").(string), "calmsea-") {
		t.Errorf("PUT environment: %d %v", status, body)
	}
	_, _, list := s.asOperator("GET", s.world.GroupID()+"/providers/Microsoft.App/managedEnvironments?api-version=2026-07-01", "")
	if len(list["value"].([]any)) != 2 {
		t.Errorf("environments: %v", list)
	}
}
