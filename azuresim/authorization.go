package azuresim

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	assignmentVersions = []string{"2022-04-01"}
	definitionVersions = []string{"2022-04-01", "2022-05-01-preview"}
	permissionVersions = []string{"2015-07-01", "2018-07-01", "2022-04-01"}
)

// authorizationRoutes are those of role definitions and assignments, on every scope that has them: the subscription, a
// group, a resource.
func authorizationRoutes() []armRoute {
	var routes []armRoute
	for _, scope := range []string{"subscriptions/{sub}", groupPattern, groupPattern + "/providers/{provider}/{type}/{resource}"} {
		n := strings.Count(scope, "/") + 1
		base := scope + "/providers/Microsoft.Authorization/"
		routes = append(routes,
			armRoute{"GET", base + "roleDefinitions", "Microsoft.Authorization/roleDefinitions/read", n, definitionVersions, listRoleDefinitions},
			armRoute{"GET", base + "roleDefinitions/{definition}", "Microsoft.Authorization/roleDefinitions/read", n, definitionVersions, getRoleDefinition},
			armRoute{"GET", base + "roleAssignments/{assignment}", "Microsoft.Authorization/roleAssignments/read", n, assignmentVersions, getRoleAssignment},
			armRoute{"PUT", base + "roleAssignments/{assignment}", "Microsoft.Authorization/roleAssignments/write", n, assignmentVersions, putRoleAssignment},
			armRoute{"DELETE", base + "roleAssignments/{assignment}", "Microsoft.Authorization/roleAssignments/delete", n, assignmentVersions, deleteRoleAssignment},
		)
		if n > 2 { // of groups and of resources alone
			routes = append(routes, armRoute{"GET", base + "permissions", "Microsoft.Authorization/permissions/read", n, permissionVersions, listPermissions})
		}
	}
	return routes
}

// roleAssignment is an assignment that ARM made: the right, and its name among the scope's. The right itself is in access,
// with those of the world.
type roleAssignment struct {
	Assignment
	id, definition, description string
	created                     time.Time
}

func (r *armRequest) definitionBody(role Role) map[string]any {
	return map[string]any{"id": r.sim.world.SubscriptionID() + "/providers/Microsoft.Authorization/roleDefinitions/" + role.ID, "name": role.ID,
		"type": "Microsoft.Authorization/roleDefinitions", "properties": map[string]any{"roleName": role.Name, "type": "BuiltInRole",
			"description": "", "assignableScopes": []string{"/"}, "permissions": []map[string]any{role.permission()}}}
}

// permission is what the role gives, as definitions and permissions show it.
func (role *Role) permission() map[string]any {
	return map[string]any{"actions": orEmpty(role.Actions), "notActions": orEmpty(role.NotActions),
		"dataActions": orEmpty(role.DataActions), "notDataActions": []string{}}
}

func orEmpty(list []string) []string { return append([]string{}, list...) }

var roleNameFilter = regexp.MustCompile(`^roleName eq '([^']+)'$`)

// listRoleDefinitions answers the built-in roles that the simulator knows, or the one that the filter names.
func listRoleDefinitions(r *armRequest) error {
	name := ""
	if filter := r.URL.Query().Get("$filter"); filter != "" {
		m := roleNameFilter.FindStringSubmatch(filter)
		if m == nil {
			return armErrorf(http.StatusBadRequest, "UnsupportedBySimulator", "azuresim evaluates roleName eq '...' alone; '%s' was sent.", filter)
		}
		name = m[1]
	}
	all := []map[string]any{}
	for _, role := range builtinRoles {
		if name == "" || strings.EqualFold(role.Name, name) {
			all = append(all, r.definitionBody(role))
		}
	}
	return r.answer(http.StatusOK, map[string]any{"value": all})
}

func getRoleDefinition(r *armRequest) error {
	role := roleByID(r.vars["definition"])
	if role == nil {
		return armErrorf(http.StatusNotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", r.vars["definition"])
	}
	return r.answer(http.StatusOK, r.definitionBody(*role))
}

func roleByID(id string) *Role {
	return findRole(func(role Role) bool { return strings.EqualFold(role.ID, id) })
}

func roleByName(name string) *Role {
	return findRole(func(role Role) bool { return strings.EqualFold(role.Name, name) })
}

func findRole(is func(Role) bool) *Role {
	if i := slices.IndexFunc(builtinRoles, is); i >= 0 {
		return &builtinRoles[i]
	}
	return nil
}

// listPermissions answers what the caller may do on the scope: one entry for each role that it has there or above. The
// caller needs a right to ask, as the list of operations of Microsoft.Authorization has it; that most built-in roles
// give it is seen in their definitions, for those of Container Apps it is not known.
func listPermissions(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	if !r.sim.hasScope(r.scope) {
		return r.notFound(r.vars["provider"]+"/"+r.vars["type"], r.vars["resource"])
	}
	all := []map[string]any{}
	for _, as := range r.sim.access.list() {
		if role := roleByName(as.Role); as.Principal == r.who.ObjectID && within(r.scope, as.Scope) {
			all = append(all, role.permission())
		}
	}
	return page(r, all)
}

func (a *roleAssignment) body() map[string]any {
	at := a.created.UTC().Format(time.RFC3339Nano)
	return map[string]any{"id": a.id, "name": a.id[strings.LastIndexByte(a.id, '/')+1:], "type": "Microsoft.Authorization/roleAssignments",
		"properties": map[string]any{"scope": a.Scope, "roleDefinitionId": a.definition, "principalId": a.Principal, "principalType": "ServicePrincipal",
			"description": a.description, "createdOn": at, "updatedOn": at}}
}

func getRoleAssignment(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a := r.sim.assignments[strings.ToLower(r.id())]
	if a == nil {
		return armErrorf(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", r.vars["assignment"])
	}
	return r.answer(http.StatusOK, a.body())
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// putRoleAssignment gives a right. It holds from then on, for everything that asks for rights.
func putRoleAssignment(r *armRequest) error {
	var body struct {
		Properties struct {
			RoleDefinitionID string `json:"roleDefinitionId"`
			PrincipalID      string `json:"principalId"`
			PrincipalType    string `json:"principalType"`
			Description      string `json:"description"`
		} `json:"properties"`
	}
	if _, err := r.decode(&body); err != nil {
		return err
	}
	p := body.Properties
	name := r.vars["assignment"]
	if !guid.MatchString(name) {
		return armErrorf(http.StatusBadRequest, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", name)
	}
	role := roleByID(p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:])
	if role == nil {
		return armErrorf(http.StatusBadRequest, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", p.RoleDefinitionID)
	}
	who := r.sim.entra.byObjectID(p.PrincipalID)
	if who == nil {
		return armErrorf(http.StatusBadRequest, "PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have the correct principal ID.", strings.ReplaceAll(p.PrincipalID, "-", ""), r.sim.world.Tenant)
	}
	if p.PrincipalType != "" && p.PrincipalType != "ServicePrincipal" {
		return armErrorf(http.StatusBadRequest, "UnmatchedPrincipalType", "The PrincipalId '%s' has type 'ServicePrincipal', which is different from specified PrincipalType '%s'.", p.PrincipalID, p.PrincipalType)
	}
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	if !r.sim.hasScope(r.scope) {
		return r.notFound(r.vars["provider"]+"/"+r.vars["type"], r.vars["resource"])
	}
	a := &roleAssignment{Assignment: Assignment{Principal: who.ObjectID, Role: role.Name, Scope: r.scope}, id: r.id(),
		definition:  r.sim.world.SubscriptionID() + "/providers/Microsoft.Authorization/roleDefinitions/" + role.ID,
		description: p.Description, created: time.Now()}
	if old := r.sim.assignments[strings.ToLower(a.id)]; old != nil {
		if !old.equal(a.Assignment) {
			return armErrorf(http.StatusConflict, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		}
		old.description = p.Description
		return r.answer(http.StatusOK, old.body())
	}
	for _, other := range r.sim.assignments {
		if other.equal(a.Assignment) {
			return armErrorf(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists. The ID of the existing role assignment is %s.", strings.ReplaceAll(other.id[strings.LastIndexByte(other.id, '/')+1:], "-", ""))
		}
	}
	r.sim.assignments[strings.ToLower(a.id)] = a
	r.sim.access.assign(a.Assignment)
	return r.answer(http.StatusCreated, a.body())
}

func deleteRoleAssignment(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	a := r.sim.assignments[strings.ToLower(r.id())]
	if a == nil {
		return r.answer(http.StatusNoContent, nil)
	}
	delete(r.sim.assignments, strings.ToLower(a.id))
	r.sim.access.unassign(a.Assignment)
	return r.answer(http.StatusOK, a.body())
}

// hasScope tells whether there is something to have rights on; s.mu is held.
func (s *Simulator) hasScope(id string) bool {
	key := strings.ToLower(id)
	return strings.EqualFold(id, s.world.SubscriptionID()) || s.resources[key] != nil || s.environments[key] != nil || s.jobs[key] != nil
}

// forgetAssignments removes the rights on what is deleted, and on what is below it; s.mu is held.
func (s *Simulator) forgetAssignments(id string) {
	for key, a := range s.assignments {
		if within(a.Scope, id) {
			delete(s.assignments, key)
			s.access.unassign(a.Assignment)
		}
	}
}
