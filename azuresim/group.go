package azuresim

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// groupProperties are those of a resource group.
type groupProperties struct{ provisioned }

var resourceGroups = &resourceType{name: "Microsoft.Resources/subscriptions/resourceGroups", pattern: groupPattern, versions: groupVersions,
	created: http.StatusCreated, fresh: func() properties { return &groupProperties{} }}

var groupRoutes = []armRoute{
	{"GET", "subscriptions", "", 1, groupVersions, listSubscriptions}, // whoever asks sees what it has a right on
	{"GET", groupPattern, "Microsoft.Resources/subscriptions/resourceGroups/read", 4, groupVersions, getGroup},
	{"PUT", groupPattern, "Microsoft.Resources/subscriptions/resourceGroups/write", 4, groupVersions, resourceGroups.put},
	{"DELETE", groupPattern, "Microsoft.Resources/subscriptions/resourceGroups/delete", 4, groupVersions, deleteGroup},
	{"GET", groupPattern + "/resources", "Microsoft.Resources/subscriptions/resourceGroups/read", 4, groupVersions, listGroup},
}

// listSubscriptions answers the subscription to whoever has a right on something in it.
func listSubscriptions(r *armRequest) error {
	w, all := r.sim.world, []map[string]any{}
	if slices.ContainsFunc(r.sim.access.list(), func(as Assignment) bool { return as.Principal == r.who.ObjectID }) {
		all = append(all, map[string]any{"id": w.SubscriptionID(), "subscriptionId": w.Subscription, "tenantId": w.Tenant,
			"displayName": "AzureSim", "state": "Enabled", "authorizationSource": "RoleBased"})
	}
	return page(r, all)
}

var groupName = regexp.MustCompile(`^[-\w._()]{0,89}[-\w_()]$`)

func (p *groupProperties) settle(r *armRequest, res *resource, _ properties) error {
	if !groupName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "InvalidResourceGroup", "The provided resource group name '%s' has these invalid characters or ends with a period.", res.Name)
	}
	return nil
}

func getGroup(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	res := r.sim.resources[strings.ToLower(r.groupID())]
	if res == nil {
		return r.noGroup()
	}
	b := res.body()
	b.Type = "Microsoft.Resources/resourceGroups" // the type in the answer is not the one in rights
	return r.answer(http.StatusOK, b)
}

// noGroup is ARM's answer for a group that is not there.
func (r *armRequest) noGroup() error {
	return armErrorf(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", r.vars["rg"])
}

// hasGroup tells whether there is the resource group that the path names.
func (r *armRequest) hasGroup() bool {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	return r.sim.resources[strings.ToLower(r.groupID())] != nil
}

// deleteGroup deletes the group with everything in it. Jobs and apps are not deleted here: they keep it from going.
func deleteGroup(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	id := r.groupID()
	if r.sim.resources[strings.ToLower(id)] == nil {
		return r.noGroup()
	}
	for _, j := range r.sim.jobs {
		if within(j.id, id) {
			return armErrorf(http.StatusConflict, "UnsupportedBySimulator", "azuresim deletes no group with jobs in it; '%s' is there.", j.name)
		}
	}
	for _, a := range r.sim.apps {
		if within(a.id, id) {
			return armErrorf(http.StatusConflict, "UnsupportedBySimulator", "azuresim deletes no group with container apps in it; '%s' is there.", a.name)
		}
	}
	return r.remove(resourceGroups.name, id)
}

// listGroup answers what is in the group, in short, children and all that is not tracked left out.
func listGroup(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	all := []resourceBody{}
	add := func(id, name, kind, location string) {
		if within(id, r.groupID()) && strings.Count(id, "/") == 8 {
			all = append(all, resourceBody{ID: id, Name: name, Type: kind, Location: location})
		}
	}
	for _, res := range r.sim.resources {
		add(res.ID, res.Name, res.kind.name, res.Location)
	}
	for _, env := range r.sim.environments {
		add(env.ID, env.Name, "Microsoft.App/managedEnvironments", env.Location)
	}
	for _, j := range r.sim.jobs {
		add(j.id, j.name, "Microsoft.App/jobs", j.body.Location)
	}
	for _, a := range r.sim.apps {
		add(a.id, a.name, appKind, a.body.Location)
	}
	slices.SortFunc(all, func(a, b resourceBody) int { return strings.Compare(a.ID, b.ID) })
	return page(r, all)
}
