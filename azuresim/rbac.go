package azuresim

import (
	"slices"
	"strings"
	"sync"
)

// Role is a role definition: what Azure publishes of a built-in role, as far as the simulator asks for it.
type Role struct {
	ID          string // GUID of the built-in role
	Name        string
	Actions     []string // control plane; * matches anything
	NotActions  []string // taken from Actions
	DataActions []string // data plane
}

// builtinRoles are the published definitions (learn.microsoft.com/azure/role-based-access-control/built-in-roles),
// without actions that nothing here asks for. The Jobs Contributor gets no join/action on environments: sources
// disagree, and the stricter reading makes a missing assignment visible.
var builtinRoles = []Role{
	{ID: "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", Name: "Owner", Actions: []string{"*"}},
	{ID: "b24988ac-6180-42a0-ab88-20f7382dd24c", Name: "Contributor", Actions: []string{"*"}, NotActions: []string{
		"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"}},
	{ID: "acdd72a7-3385-48ef-bd42-f606fba81ae7", Name: "Reader", Actions: []string{"*/read"}},
	{ID: "4e3d2b60-56ae-4dc6-a233-09c8e5a82e68", Name: "Container Apps Jobs Contributor", Actions: []string{
		"Microsoft.App/jobs/*", "Microsoft.App/managedEnvironments/read", "Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "b9a307c4-5aa3-4b52-ba60-2b17c136cd7b", Name: "Container Apps Jobs Operator", Actions: []string{
		"Microsoft.App/jobs/read", "Microsoft.App/jobs/*/read", "Microsoft.App/jobs/*/action",
		"Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "edd66693-d32a-450b-997d-0158c03976b0", Name: "Container Apps Jobs Reader", Actions: []string{
		"Microsoft.App/jobs/read", "Microsoft.App/jobs/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "57cc5028-e6a7-4284-868d-0611c5923f8d", Name: "Container Apps ManagedEnvironments Contributor", Actions: []string{
		"Microsoft.App/managedEnvironments/*", "Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "1b32c00b-7eff-4c22-93e6-93d11d72d2d8", Name: "Container Apps ManagedEnvironments Reader", Actions: []string{
		"Microsoft.App/managedEnvironments/read", "Microsoft.App/managedEnvironments/*/read",
		"Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "f1a07417-d97a-45cb-824c-7a7467783830", Name: "Managed Identity Operator", Actions: []string{
		"Microsoft.ManagedIdentity/userAssignedIdentities/*/read", "Microsoft.ManagedIdentity/userAssignedIdentities/read",
		// Azure's "*/assign/action" also covers the action as it appears in its own refusals.
		"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
		"Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "73c42c96-874c-492b-b04d-ab87d138a893", Name: "Log Analytics Reader", Actions: []string{
		"*/read", "Microsoft.OperationalInsights/workspaces/analytics/query/action"}},
	{ID: "43d0d8ad-25c7-4714-9337-8ba259a9fe05", Name: "Monitoring Reader", Actions: []string{"*/read", "Microsoft.OperationalInsights/workspaces/search/action"}},
	{ID: "577a9874-89fd-4f24-9dbd-b5034d0ad23a", Name: "Container Registry Data Importer and Data Reader", Actions: []string{
		"Microsoft.ContainerRegistry/registries/importImage/action", "Microsoft.ContainerRegistry/registries/read",
		"Microsoft.ContainerRegistry/registries/pull/read"}},
	{ID: "fb382eab-e894-4461-af04-94435c366c3f", Name: "Container Registry Tasks Contributor", Actions: []string{
		"Microsoft.ContainerRegistry/registries/read", "Microsoft.ContainerRegistry/registries/scheduleRun/action",
		"Microsoft.ContainerRegistry/registries/listBuildSourceUploadUrl/action", "Microsoft.ContainerRegistry/registries/runs/*",
		"Microsoft.ContainerRegistry/registries/tasks/*"}},
	{ID: "17d1049b-9a84-46fb-8f53-869881c3d3ab", Name: "Storage Account Contributor", Actions: []string{
		"Microsoft.Storage/storageAccounts/*", "Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read"}},
	{ID: "0c867c2a-1d8c-454a-a3db-ab2ea1bdc8bb", Name: "Storage File Data SMB Share Contributor", DataActions: []string{
		"Microsoft.Storage/storageAccounts/fileServices/fileshares/files/read", "Microsoft.Storage/storageAccounts/fileServices/fileshares/files/write",
		"Microsoft.Storage/storageAccounts/fileServices/fileshares/files/delete"}},
	{ID: "7f951dda-4ed3-4680-a7ca-43fe172d538d", Name: "AcrPull", Actions: []string{"Microsoft.ContainerRegistry/registries/pull/read"}},
	{ID: "8311e382-0749-4cb8-b61a-304f252e45ec", Name: "AcrPush", Actions: []string{
		"Microsoft.ContainerRegistry/registries/pull/read", "Microsoft.ContainerRegistry/registries/push/write"}},
	{ID: "c2f4ef07-c644-48eb-af81-4b1b4947fb11", Name: "AcrDelete", Actions: []string{"Microsoft.ContainerRegistry/registries/artifacts/delete"}},
	{ID: "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3", Name: tableContributor, Actions: []string{
		tableActions + "read", tableActions + "write", tableActions + "delete"}, DataActions: []string{
		tableActions + "entities/read", tableActions + "entities/write", tableActions + "entities/delete",
		tableActions + "entities/add/action", tableActions + "entities/update/action"}},
}

// Assignment gives a principal a role on a scope and everything below it.
type Assignment struct {
	Principal string `json:"principal"` // object id
	Role      string `json:"role"`      // name of a built-in role
	Scope     string `json:"scope"`     // ARM id
}

// access evaluates role assignments.
type access struct {
	mu          sync.RWMutex
	assignments []Assignment
}

func (a *access) assign(as Assignment) bool {
	if roleByName(as.Role) == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.ContainsFunc(a.assignments, as.equal) {
		a.assignments = append(a.assignments, as)
	}
	return true
}

func (a *access) unassign(as Assignment) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.assignments)
	a.assignments = slices.DeleteFunc(a.assignments, as.equal)
	return len(a.assignments) < before
}

func (a *access) list() []Assignment {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.Clone(a.assignments)
}

// allowed tells whether the principal may do action of the management plane on scope.
func (a *access) allowed(principal, action, scope string) bool {
	return a.granted(principal, action, scope, func(r *Role) []string { return r.Actions })
}

// allowedData tells whether the principal may do action of the data plane on scope: an Owner may not.
func (a *access) allowedData(principal, action, scope string) bool {
	return a.granted(principal, action, scope, func(r *Role) []string { return r.DataActions })
}

func (a *access) granted(principal, action, scope string, of func(*Role) []string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, as := range a.assignments {
		if as.Principal != principal || !within(scope, as.Scope) {
			continue
		}
		for _, role := range builtinRoles {
			if !strings.EqualFold(role.Name, as.Role) || role.excludes(action) {
				continue
			}
			for _, pattern := range of(&role) {
				if matchAction(pattern, action) {
					return true
				}
			}
		}
	}
	return false
}

// excludes tells whether the role, whatever else it gives, does not give action.
func (role *Role) excludes(action string) bool {
	return slices.ContainsFunc(role.NotActions, func(pattern string) bool { return matchAction(pattern, action) })
}

func (as Assignment) equal(other Assignment) bool {
	return as.Principal == other.Principal && strings.EqualFold(as.Role, other.Role) && strings.EqualFold(as.Scope, other.Scope)
}

// within tells whether scope is parent or below it. ARM ids compare without case.
func within(scope, parent string) bool {
	scope, parent = strings.ToLower(strings.TrimSuffix(scope, "/")), strings.ToLower(strings.TrimSuffix(parent, "/"))
	return scope == parent || strings.HasPrefix(scope, parent+"/")
}

// matchAction matches an action against a pattern in which * stands for any run of characters, slashes included.
func matchAction(pattern, action string) bool {
	pattern, action = strings.ToLower(pattern), strings.ToLower(action)
	head, rest, found := strings.Cut(pattern, "*")
	if !found {
		return pattern == action
	}
	if !strings.HasPrefix(action, head) {
		return false
	}
	action = action[len(head):]
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(action, part)
		}
		i := strings.Index(action, part)
		if i < 0 {
			return false
		}
		action, rest = action[i+len(part):], next
	}
}
