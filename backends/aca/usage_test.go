package aca_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*aca.Config){
		"named": nil,
		"by its ARM id": func(c *aca.Config) {
			c.Environment = "/subscriptions/" + c.Subscription + "/resourceGroups/" + c.ResourceGroup + "/providers/Microsoft.App/managedEnvironments/" + c.Environment
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc := calm(t, change)
			meter, ok := driver.As[driver.Meter](tc.driver)
			if !ok {
				t.Fatal("the driver is no Meter")
			}
			usage := func() float64 {
				t.Helper()
				got, err := meter.Usage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want := []driver.Usage{{Name: "Managed Environment Consumption Cores", Limit: 100}}
				if len(got) == 1 {
					want[0].Used = got[0].Used
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatal(diff)
				}
				return got[0].Used
			}
			if n := usage(); n != 0 {
				t.Errorf("%v cores before anything runs", n)
			}
			spec := tc.spec()
			spec.CPU, spec.Memory = 0.5, 1<<30
			run := tc.start(spec)
			if n := usage(); n != 0.5 {
				t.Errorf("%v cores of one job of 0.5", n)
			}
			if err := tc.driver.Stop(t.Context(), run); err != nil {
				t.Fatal(err)
			}
			tc.eventually("the cores are given back", func() bool { return usage() == 0 })
		})
	}
}

func TestUsageWithoutTheRight(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	w := tc.sim.World()
	if !tc.sim.Unassign(azuresim.Assignment{Principal: tc.sim.Operator().ObjectID, Role: "Container Apps ManagedEnvironments Contributor", Scope: w.EnvironmentID()}) {
		t.Fatal("the simulator has other roles than this test thinks")
	}
	meter, _ := driver.As[driver.Meter](tc.driver)
	_, err := meter.Usage(t.Context())
	if sockerless.ErrorCode(err) != sockerless.EFORBIDDEN {
		t.Errorf("code %s: %v", sockerless.ErrorCode(err), err)
	}
	if got := tc.driver.Info().Cloud; got != "AzureSim" {
		t.Errorf("the cloud is called %q", got)
	}
}
