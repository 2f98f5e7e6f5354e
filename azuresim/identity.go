package azuresim

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

const identityPattern = groupPattern + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}"

// identities are the user-assigned ones; each is a principal of the directory.
var identities = &resourceType{name: "Microsoft.ManagedIdentity/userAssignedIdentities", pattern: identityPattern,
	versions: identityVersions, created: http.StatusCreated, fresh: func() properties { return &identityProperties{} }}

// identityProperties are an identity's. It has no provisioning state.
type identityProperties struct {
	TenantID       string `json:"tenantId,omitempty"`
	PrincipalID    string `json:"principalId,omitempty"`
	ClientID       string `json:"clientId,omitempty"`
	IsolationScope string `json:"isolationScope,omitempty"`
}

func (i *identityProperties) provisioning(string) {}

var identityName = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9_]{2,127}$`)

func (i *identityProperties) settle(r *armRequest, res *resource, _ properties) error {
	if !identityName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "InvalidParameter", "The resource name '%s' is invalid. It must be 3 to 128 letters, digits, hyphens and underscores.", res.Name)
	}
	p := r.sim.entra.byResourceID(res.ID)
	if p == nil {
		p = &Principal{Name: res.Name, ObjectID: newGUID(), ClientID: newGUID(), ResourceID: res.ID}
		r.sim.entra.add(p)
	}
	i.TenantID, i.PrincipalID, i.ClientID = r.sim.world.Tenant, p.ObjectID, p.ClientID
	return nil
}

// adopt makes the ARM resource of an identity that is in the directory already; s.mu is held, or nobody asks yet.
func (s *Simulator) adopt(p *Principal) {
	s.seed(identities, p.ResourceID, nil, &identityProperties{TenantID: s.world.Tenant, PrincipalID: p.ObjectID, ClientID: p.ClientID})
}

// remove takes the identity that a resource stood for out of the directory.
func (e *entra) remove(resourceID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.principals = slices.DeleteFunc(e.principals, func(p *Principal) bool {
		return p.ResourceID != "" && strings.EqualFold(p.ResourceID, resourceID)
	})
}
