package azuresim

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

var acrVersions = []string{"2023-07-01", "2025-04-01", "2025-11-01"}

const registryPattern = groupPattern + "/providers/Microsoft.ContainerRegistry/registries/{registry}"

var registries = &resourceType{name: "Microsoft.ContainerRegistry/registries", pattern: registryPattern,
	versions: acrVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &registryResource{} }}

var registryRoutes = []armRoute{
	{"GET", registryPattern + "/replications", "Microsoft.ContainerRegistry/registries/replications/read", 8, acrVersions, listReplications},
}

// registryResource is a container registry's properties.
type registryResource struct {
	provisioned
	LoginServer                      string         `json:"loginServer,omitempty"`
	CreationDate                     string         `json:"creationDate,omitempty"`
	AdminUserEnabled                 bool           `json:"adminUserEnabled"`
	AnonymousPullEnabled             bool           `json:"anonymousPullEnabled"`
	DataEndpointEnabled              bool           `json:"dataEndpointEnabled"`
	DataEndpointHostNames            []string       `json:"dataEndpointHostNames"`
	NetworkRuleBypassAllowedForTasks bool           `json:"networkRuleBypassAllowedForTasks"`
	NetworkRuleBypassOptions         string         `json:"networkRuleBypassOptions,omitempty"`
	NetworkRuleSet                   map[string]any `json:"networkRuleSet,omitempty"`
	Policies                         map[string]any `json:"policies,omitempty"`
	PublicNetworkAccess              string         `json:"publicNetworkAccess,omitempty"`
	RoleAssignmentMode               string         `json:"roleAssignmentMode,omitempty"`
	ZoneRedundancy                   string         `json:"zoneRedundancy,omitempty"`
}

var registryName = regexp.MustCompile(`^[a-zA-Z0-9]{5,50}$`)

func (g *registryResource) settle(r *armRequest, res *resource, prior properties) error {
	if !registryName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "InvalidResourceName", "The registry name '%s' is invalid. Resource names may contain alpha numeric characters only and must be between 5 and 50 characters.", res.Name)
	}
	for _, other := range r.sim.resources {
		if other.kind == registries && strings.EqualFold(other.Name, res.Name) && !strings.EqualFold(other.ID, res.ID) {
			return armErrorf(http.StatusConflict, "AlreadyInUse", "The registry DNS name %s.azurecr.io is already in use.", strings.ToLower(res.Name))
		}
	}
	switch sku, _ := res.SKU["name"].(string); sku {
	case "Basic", "Standard", "Premium":
		res.SKU = map[string]any{"name": sku, "tier": sku}
	default:
		return armErrorf(http.StatusBadRequest, "InvalidSku", "The SKU '%s' of the registry is invalid.", sku)
	}
	g.DataEndpointHostNames = []string{}
	if old, ok := prior.(*registryResource); ok {
		g.CreationDate, g.LoginServer = old.CreationDate, old.LoginServer
		return nil
	}
	g.CreationDate = time.Now().UTC().Format(time.RFC3339)
	server, err := r.sim.logins.open(r.sim, res.ID)
	g.LoginServer = server
	return err
}

// listReplications answers none: they are for the Premium tier, and there is one region here.
func listReplications(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	if r.sim.resources[lowerParent(r.id())] == nil {
		return r.notFound(registries.name, r.vars["registry"])
	}
	return page(r, []shownResource{})
}
