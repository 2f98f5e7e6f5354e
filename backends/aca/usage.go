package aca

import (
	"context"
	"path"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/sockerless/sockerless/driver"
)

// newUsages makes the client that asks for an environment's quota: the environment may be in another subscription.
func newUsages(a *azure, environmentID string) (*armappcontainers.ManagedEnvironmentUsagesClient, error) {
	subscription, _ := environmentPlace(environmentID)
	return armappcontainers.NewManagedEnvironmentUsagesClient(subscription, a.credential, a.arm())
}

// environmentPlace takes an ARM id apart, which Config.Validate has looked at.
func environmentPlace(id string) (subscription, group string) {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	return parts[1], parts[3]
}

// Usage tells how many cores the environment's jobs and apps have, and how many they may have. It wants
// Microsoft.App/managedEnvironments/usages/read on the environment.
func (d *Driver) Usage(ctx context.Context) ([]driver.Usage, error) {
	id := d.config.EnvironmentID()
	_, group := environmentPlace(id)
	var all []driver.Usage
	for pager := d.usages.NewListPager(group, path.Base(id), nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, explain(err, "read the quota of environment %s", path.Base(id))
		}
		for _, u := range page.Value {
			if u == nil || u.Name == nil || u.CurrentValue == nil || u.Limit == nil {
				continue
			}
			name := u.Name.LocalizedValue
			if name == nil || *name == "" {
				name = u.Name.Value
			}
			if name != nil {
				all = append(all, driver.Usage{Name: *name, Used: float64(*u.CurrentValue), Limit: float64(*u.Limit)})
			}
		}
	}
	return all, nil
}
