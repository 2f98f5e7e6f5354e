package azuresim

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
)

var azcoreruntimePoll = runtime.PollUntilDoneOptions{Frequency: 10 * time.Millisecond}

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
			start, err := jobs.BeginStart(ctx, s.world.ResourceGroup, "web", nil)
			if err != nil {
				t.Fatal(err)
			}
			started, err := start.PollUntilDone(ctx, fastPoll)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the replica starts", func() bool { return len(s.runtime.all()) == 1 })
			replica := s.runtime.all()[0]
			if env := replica.spec.Containers[0].Env; !slices.Contains(env, "SECRET=s3cret") || !slices.Contains(env, "CONTAINER_APP_JOB_EXECUTION_NAME="+*started.Name) {
				t.Errorf("environment of the replica: %v", env)
			}
			replica.exit(0)
			eventually(t, "the execution succeeds", func() bool {
				e := s.execution(ctx, "web", *started.Name)
				return *e.Properties.Status == armappcontainers.JobExecutionRunningStateSucceeded
			})
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
