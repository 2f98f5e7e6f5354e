package azuresim

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// providerRoutes are those of resource providers. All that there are here are registered from the start; registering one
// again changes nothing, as in Azure.
var providerRoutes = []armRoute{
	{"GET", "subscriptions/{sub}/providers", "Microsoft.Resources/subscriptions/providers/read", 2, groupVersions, listProviders},
	{"GET", "subscriptions/{sub}/providers/{provider}", "Microsoft.Resources/subscriptions/providers/read", 2, groupVersions, getProvider},
	{"POST", "subscriptions/{sub}/providers/{provider}/register", "Microsoft.Resources/subscriptions/providers/register/action", 2, groupVersions, getProvider},
}

// resourceTypes are the types that have resources of the subscription, by the name of their provider.
func resourceTypes() map[string][]map[string]any {
	versions := map[string][]string{"Microsoft.App/jobs": appVersions, appKind: appVersions, "Microsoft.App/managedEnvironments": appVersions}
	for _, t := range []*resourceType{virtualNetworks, subnets, securityGroups, privateZones, zoneLinks, workspaces, identities, storageAccounts, fileShares, registries} {
		versions[t.name] = t.versions
	}
	types := map[string][]map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		provider, kind, _ := strings.Cut(name, "/")
		types[provider] = append(types[provider], map[string]any{"resourceType": kind, "apiVersions": versions[name]})
	}
	return types
}

func (r *armRequest) providerBody(name string, types []map[string]any) map[string]any {
	return map[string]any{"id": r.sim.world.SubscriptionID() + "/providers/" + name, "namespace": name,
		"registrationState": "Registered", "registrationPolicy": "RegistrationRequired", "resourceTypes": types}
}

func listProviders(r *armRequest) error {
	all, types := []map[string]any{}, resourceTypes()
	for _, name := range slices.Sorted(maps.Keys(types)) {
		all = append(all, r.providerBody(name, types[name]))
	}
	return page(r, all)
}

func getProvider(r *armRequest) error {
	for name, types := range resourceTypes() {
		if strings.EqualFold(name, r.vars["provider"]) {
			return r.answer(http.StatusOK, r.providerBody(name, types))
		}
	}
	return armErrorf(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", r.vars["provider"])
}
