package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sockerless/sockerless/backends/aca"
)

// right is what a backend must be allowed to do on a scope.
type right struct {
	scope   string // ARM id
	actions []string
	spelled string // how the only action is written elsewhere, if it is
	so      string // what does not work without it
	role    string // that has it
	tries   []try  // for an identity that is not told its rights
}

// try is a call that changes nothing, and that is refused with 403 for the lack of a right before anything else is found
// wrong with it. Azure Resource Manager looks at the rights before the resource provider sees the call.
type try struct {
	action, method, path string
	body                 any
	linked               bool // the right is one on what the body refers to
}

// examine says whether the identity has the right.
func (p *patient) examine(ctx context.Context, r right, has string) Finding {
	missing, err := p.missing(ctx, r)
	switch {
	case errors.Is(err, errHidden):
		return warn("what %s may do on %s does not show before it may make jobs at all: see jobs", p.who, r.scope)
	case err != nil:
		return fail("%v", aca.Explain(err, "ask for the rights on %s", r.scope))
	case len(missing) > 0:
		return fail("%s may not %s on %s, so %s: give it the role %s there%s", p.who, strings.Join(missing, ", "), r.scope, r.so, r.role, newRole)
	}
	return ok("%s", has)
}

// newRole ends what asks for a role.
const newRole = "; a new role takes some minutes to hold"

// missing returns those of the right's actions that the identity does not have.
func (p *patient) missing(ctx context.Context, r right) ([]string, error) {
	told, err := p.ask(ctx, r.scope)
	if httpStatus, _ := status(err); httpStatus == http.StatusForbidden {
		return p.tried(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(r.actions), func(action string) bool {
		return told.allow(action) || r.spelled != "" && told.allow(r.spelled)
	}), nil
}

// errHidden: the right to make jobs at all is missing, without which nothing is said of those on what a job refers to.
var errHidden = errors.New("the right to make jobs is missing")

// permissions are what an identity may do on a scope: any of these.
type permissions struct {
	Value []struct {
		Actions    []string `json:"actions"`
		NotActions []string `json:"notActions"`
	} `json:"value"`
	NextLink string `json:"nextLink"`
}

// permissionsVersion is the newest stable api-version of them.
const permissionsVersion = "2022-04-01"

// maxPages bounds how long a list is read that does not end.
const maxPages = 100

// ask reads the identity's own permissions on a scope.
func (p *patient) ask(ctx context.Context, scope string) (*permissions, error) {
	if told := p.permissions[scope]; told != nil {
		return told, nil
	}
	all := &permissions{}
	next := scope + "/providers/Microsoft.Authorization/permissions"
	for range maxPages {
		var page permissions
		if err := p.call(ctx, http.MethodGet, next, permissionsVersion, nil, &page); err != nil {
			return nil, err
		}
		all.Value = append(all.Value, page.Value...)
		if next = page.NextLink; next == "" {
			p.permissions[scope] = all
			return all, nil
		}
		if !strings.HasPrefix(next, strings.TrimSuffix(p.arm.Endpoint(), "/")+"/") { // the token goes nowhere else
			return nil, errors.New("the list of permissions goes on at another address")
		}
	}
	return nil, fmt.Errorf("the list of permissions has more than %d pages", maxPages)
}

// allow says whether one of the permissions has the action. Conditions of role assignments are about data, which these are not.
func (all *permissions) allow(action string) bool {
	for _, one := range all.Value {
		if matchesAny(one.Actions, action) && !matchesAny(one.NotActions, action) {
			return true
		}
	}
	return false
}

// matchesAny says whether one of the patterns matches an action: * stands for anything, and case does not count.
func matchesAny(patterns []string, action string) bool {
	action = strings.ToLower(action)
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		parts := strings.Split(strings.ToLower(pattern), "*")
		rest, begins := strings.CutPrefix(action, parts[0])
		if len(parts) == 1 || !begins {
			return begins && rest == ""
		}
		last := len(parts) - 1
		for _, part := range parts[1:last] {
			_, after, found := strings.Cut(rest, part)
			if !found {
				return false
			}
			rest = after
		}
		return strings.HasSuffix(rest, parts[last])
	})
}

// tried finds out by calls which of the actions are refused.
func (p *patient) tried(ctx context.Context, r right) ([]string, error) {
	var missing []string
	for _, t := range r.tries {
		err := p.call(ctx, t.method, t.path, jobsVersion, t.body, nil)
		httpStatus, code := status(err)
		switch {
		case err != nil && httpStatus == 0, httpStatus >= 500, httpStatus == http.StatusUnauthorized, httpStatus == http.StatusTooManyRequests:
			return nil, err
		case err == nil && t.method == http.MethodPut:
			// It was to be refused as incomplete. Whatever was made of it goes.
			if err := p.aca.RemoveJob(ctx, p.probe); err != nil {
				return nil, err
			}
		case httpStatus != http.StatusForbidden:
		case t.linked && code != "LinkedAuthorizationFailed":
			return nil, errHidden
		default:
			missing = append(missing, t.action)
		}
	}
	return missing, nil
}

// jobsVersion is the api-version of the calls about jobs.
const jobsVersion = "2025-01-01"

// groupID is the ARM id of the resource group.
func (p *patient) groupID() string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s", p.config.Subscription, p.config.ResourceGroup)
}

func (p *patient) jobPath() string {
	return p.groupID() + "/providers/Microsoft.App/jobs/" + p.probe
}

func checkJobs(ctx context.Context, p *patient) Finding {
	job := p.jobPath()
	execution := job + "/executions/" + p.probe + "-0000000"
	tries := []try{
		{action: "Microsoft.App/jobs/read", method: http.MethodGet, path: job},
		{action: "Microsoft.App/jobs/write", method: http.MethodPut, path: job, body: map[string]any{}},
		{action: "Microsoft.App/jobs/delete", method: http.MethodDelete, path: job},
		{action: "Microsoft.App/jobs/start/action", method: http.MethodPost, path: job + "/start"},
		{action: "Microsoft.App/jobs/stop/execution/action", method: http.MethodPost, path: execution + "/stop"},
		{action: "Microsoft.App/jobs/executions/read", method: http.MethodGet, path: job + "/executions"},
		{action: "Microsoft.App/jobs/execution/read", method: http.MethodGet, path: execution},
	}
	r := right{scope: p.groupID(), so: "containers do not run", role: "Container Apps Jobs Contributor", tries: tries}
	for _, t := range tries {
		r.actions = append(r.actions, t.action)
	}
	return p.examine(ctx, r, "jobs can be made, started, stopped, listed and deleted in resource group "+p.config.ResourceGroup)
}

// incomplete is a job that Azure refuses for want of a template, after it has looked at the rights on what it refers to.
func (p *patient) incomplete(identity string) map[string]any {
	job := map[string]any{
		"location": p.config.Location,
		"tags":     map[string]string{aca.TagManagedBy: aca.ManagedBy, aca.TagInstance: instance},
		"properties": map[string]any{
			"environmentId": p.config.EnvironmentID(), "configuration": map[string]any{"triggerType": "Manual", "replicaTimeout": 60},
		},
	}
	if identity != "" {
		job["identity"] = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{identity: map[string]any{}}}
		delete(job["properties"].(map[string]any), "environmentId")
	}
	return job
}

func checkJoin(ctx context.Context, p *patient) Finding {
	const action = "Microsoft.App/managedEnvironments/join/action"
	return p.examine(ctx, right{
		scope: p.config.EnvironmentID(), actions: []string{action}, so: "jobs cannot be made in it",
		role:  "Container Apps ManagedEnvironments Contributor",
		tries: []try{{action: action, method: http.MethodPut, path: p.jobPath(), body: p.incomplete(""), linked: true}},
	}, "jobs can join environment "+p.environmentName())
}

func checkIdentity(ctx context.Context, p *patient) Finding {
	id := p.config.Identity
	switch {
	case id == "" && p.config.Registry == "":
		return ok("none is set, and with no registry there is nothing that it would pull from")
	case id == "":
		return fail("none is set, and jobs pull from %s only with one that may: set SOCKERLESS_ACA_IDENTITY (terraform output -raw pull_identity_id)", p.config.Registry)
	}
	name := id[strings.LastIndexByte(id, '/')+1:]
	err := p.call(ctx, http.MethodGet, id, "2023-01-31", nil, nil)
	if httpStatus, _ := status(err); httpStatus == http.StatusNotFound {
		return fail("%v: set SOCKERLESS_ACA_IDENTITY to one that exists (terraform output -raw pull_identity_id)", aca.Explain(err, "find identity %s", name))
	}
	// It is listed, and in roles, with a literal asterisk in its middle, and without it in refusals.
	const action, listed = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action"
	return p.examine(ctx, right{
		scope: id, actions: []string{action}, spelled: listed, so: "no job can be given the identity that pulls its images", role: "Managed Identity Operator",
		tries: []try{{action: action, method: http.MethodPut, path: p.jobPath(), body: p.incomplete(id), linked: true}},
	}, "jobs can be given identity "+name+" to pull with")
}
