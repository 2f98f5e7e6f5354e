package aca_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
)

// ask makes a call of ARM as the operator, and fails the test if it is refused.
func (tc *testCloud) ask(method, id, body string) {
	tc.t.Helper()
	tc.askAs(tc.sim.Operator(), method, id, body)
}

func (tc *testCloud) askAs(who azuresim.Principal, method, id, body string) {
	tc.t.Helper()
	token, err := tc.sim.Token(who, "https://management.azure.com")
	if err != nil {
		tc.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(tc.t.Context(), method, tc.srv.URL+id+"?api-version=2025-01-01", strings.NewReader(body))
	if err != nil {
		tc.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tc.t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if answer, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 300 {
		tc.t.Fatalf("%s %s: %s %s %v", method, id, resp.Status, answer, err)
	}
}

// Jobs of other backends of the project are in, and nobody else's.
func TestJobsOfTheProject(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	w := tc.sim.World()
	tc.start(tc.spec())
	if err := tc.sim.Assign(azuresim.Assignment{Principal: tc.sim.Operator().ObjectID, Role: "Contributor", Scope: w.GroupID()}); err != nil {
		t.Fatal(err)
	}
	other := w.GroupID() + "/providers/Microsoft.App/managedEnvironments/other"
	tc.ask(http.MethodPut, other, fmt.Sprintf(`{"location":%q,"properties":{}}`, w.Location))
	job := func(name, environment, tags string) {
		tc.ask(http.MethodPut, w.GroupID()+"/providers/Microsoft.App/jobs/"+name, fmt.Sprintf(`{"location":%q,"tags":%s,"properties":{"environmentId":%q,
			"configuration":{"triggerType":"Manual","replicaTimeout":60},"template":{"containers":[{"name":"main","image":"example.com/x",
			"resources":{"cpu":0.25,"memory":"0.5Gi"}}]}}}`, w.Location, tags, environment))
	}
	job("sl-another-backend", strings.ToLower(w.EnvironmentID()), `{"Managed-By":"sockerless","sockerless-backend":"b2"}`)
	job("sl-another-environment", other, `{"managed-by":"sockerless"}`)
	job("sl-looks-like-it", w.EnvironmentID(), `{}`)
	job("terraforms", w.EnvironmentID(), `{"managed-by":"terraform"}`)

	jobs := func() (found []aca.Job) {
		t.Helper()
		for j, err := range driverOf(t, tc).Jobs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if j.Made.IsZero() {
				t.Errorf("when %s was made is not told", j.Name)
			}
			j.Made = aca.Job{}.Made
			found = append(found, j)
		}
		return found
	}
	want := []aca.Job{
		{Name: "sl-0123456789ab", Container: containerID, Called: "web", Instance: "test"},
		{Name: "sl-another-backend", Instance: "b2"},
	}
	if diff := cmp.Diff(want, jobs()); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	for _, j := range append(want, aca.Job{Name: "sl-never-was"}) {
		if err := driverOf(t, tc).RemoveJob(t.Context(), j.Name); err != nil {
			t.Error(err)
		}
	}
	if left := jobs(); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
	if n := len(tc.sim.Jobs()); n != 3 {
		t.Errorf("of the three that are not ours, %d are there", n)
	}
}

// A job that somebody else deletes is gone when RemoveJob returns, though the operation is shown to its own principal alone.
func TestRemoveJobThatAnotherDeletes(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil, azuresim.WithDelays(azuresim.Delays{Operation: azuresim.Exactly(2 * time.Second)}))
	run := tc.start(tc.spec())
	group := tc.sim.World().GroupID()
	other := tc.sim.AddServicePrincipal("other")
	if err := tc.sim.Assign(azuresim.Assignment{Principal: other.ObjectID, Role: "Contributor", Scope: group}); err != nil {
		t.Fatal(err)
	}
	tc.askAs(other, http.MethodDelete, group+"/providers/Microsoft.App/jobs/"+run.Job, "")
	if err := driverOf(t, tc).RemoveJob(t.Context(), run.Job); err != nil {
		t.Fatal(err)
	}
	if jobs := tc.sim.Jobs(); len(jobs) > 0 {
		t.Errorf("it is said to be gone, and there is %+v", jobs)
	}
}
