package aca_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
)

func TestErrand(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	seen := make(chan azuresim.ReplicaSpec, 1)
	tags := make(chan map[string]string, 1)
	tc.replicas.onStart = func(r *replica) {
		seen <- r.spec
		go func() { // ends with the replica
			tags <- tc.sim.Jobs()[0].Tags
			r.exit(21)
		}()
	}
	// Azure may be late to know what it has started.
	if err := tc.sim.Fail(http.MethodGet, "/executions/", 2, http.StatusNotFound, "ContainerAppsJobExecutionNotFound", "It is not there."); err != nil {
		t.Fatal(err)
	}
	got, err := driverOf(t, tc).Errand(t.Context(), "sl-errand", "reach")
	if err != nil {
		t.Fatal(err)
	}
	code := 21
	if diff := cmp.Diff(aca.ErrandResult{ExitCode: &code, Reason: got.Reason}, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	spec := <-seen
	if len(spec.Init) != 0 || len(spec.Containers) != 1 || spec.Containers[0].Image != tc.config.AgentImage {
		t.Errorf("the replica is %+v", spec)
	}
	command := strings.Join(append(spec.Containers[0].Command, spec.Containers[0].Args...), " ")
	if want := "/sockerless-agent reach"; command != want {
		t.Errorf("it runs %q, not %q", command, want)
	}
	if got := <-tags; got["managed-by"] != "sockerless" || got["sockerless-backend"] != "test" {
		t.Errorf("its tags are %v", got)
	}
	if jobs := tc.sim.Jobs(); len(jobs) > 0 {
		t.Errorf("left are %+v", jobs)
	}
}

func TestErrandLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault azuresim.Fault
		code  sockerless.Code
		want  string // in the error
		left  int
		limit time.Duration // of one that never ends it is long enough to begin
	}{
		"never ends":        {azuresim.Fault{}, sockerless.ETIMEOUT, "has not ended in time", 0, 10 * time.Second},
		"start refused":     {azuresim.Fault{Method: http.MethodPost, Path: "/start$", Status: http.StatusForbidden, Code: "AuthorizationFailed"}, sockerless.EFORBIDDEN, "cannot start job sl-errand", 0, time.Minute},
		"cannot be deleted": {azuresim.Fault{Method: http.MethodDelete, Path: "/jobs/", Status: http.StatusForbidden, Code: "AuthorizationFailed"}, sockerless.ETIMEOUT, "and job sl-errand is still there", 1, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc := calm(t, nil)
			if c.fault.Status != 0 {
				c.fault.Kind = azuresim.FaultAnswer
				if err := tc.sim.Inject(c.fault); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			_, err := driverOf(t, tc).Errand(ctx, "sl-errand", "reach")
			if err == nil || !strings.Contains(err.Error(), c.want) || sockerless.ErrorCode(err) != c.code {
				t.Errorf("error %v (%s), want %s and %q", err, sockerless.ErrorCode(err), c.code, c.want)
			}
			if jobs := tc.sim.Jobs(); len(jobs) != c.left {
				t.Errorf("left are %+v", jobs)
			}
		})
	}
}
