package azuresim

import (
	"net/http"
	"regexp"
	"strings"
)

var dnsVersions = []string{"2020-06-01", "2024-06-01"}

const zonePattern = networkPattern + "privateDnsZones/{zone}"

// Private DNS zones are ARM resources here and no more: the names of executions are served by the zone of zone.go.
var (
	privateZones = &resourceType{name: "Microsoft.Network/privateDnsZones", pattern: zonePattern,
		versions: dnsVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &privateZone{} }}
	zoneLinks = &resourceType{name: "Microsoft.Network/privateDnsZones/virtualNetworkLinks", pattern: zonePattern + "/virtualNetworkLinks/{link}",
		versions: dnsVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &zoneLink{} }}
)

var zoneRoutes = []armRoute{
	{"GET", zonePattern + "/SOA/@", "Microsoft.Network/privateDnsZones/SOA/read", 8, dnsVersions, getStartOfAuthority},
}

// privateZone is a zone's properties, all of them read-only.
type privateZone struct {
	provisioned
	MaxNumberOfRecordSets                          int `json:"maxNumberOfRecordSets"`
	MaxNumberOfVirtualNetworkLinks                 int `json:"maxNumberOfVirtualNetworkLinks"`
	MaxNumberOfVirtualNetworkLinksWithRegistration int `json:"maxNumberOfVirtualNetworkLinksWithRegistration"`
	NumberOfRecordSets                             int `json:"numberOfRecordSets"`
}

var zoneName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

func (z *privateZone) settle(_ *armRequest, res *resource, _ properties) error {
	if !zoneName.MatchString(strings.ToLower(res.Name)) {
		return armErrorf(http.StatusBadRequest, "BadRequest", "The Private DNS zone name '%s' is invalid.", res.Name)
	}
	if res.Location != "global" {
		return armErrorf(http.StatusBadRequest, "LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type 'Microsoft.Network/privateDnsZones'. List of available regions for the resource type is 'global'.", res.Location)
	}
	z.MaxNumberOfRecordSets, z.MaxNumberOfVirtualNetworkLinks, z.MaxNumberOfVirtualNetworkLinksWithRegistration, z.NumberOfRecordSets = 25000, 1000, 100, 1
	return nil
}

// getStartOfAuthority answers the record that every zone has.
func getStartOfAuthority(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	zone := r.sim.resources[strings.ToLower(strings.TrimSuffix(strings.ToLower(r.id()), "/soa/@"))]
	if zone == nil {
		return r.notFound(privateZones.name, r.vars["zone"])
	}
	return r.answer(http.StatusOK, map[string]any{"id": zone.ID + "/SOA/@", "name": "@", "type": "Microsoft.Network/privateDnsZones/SOA",
		"properties": map[string]any{"fqdn": zone.Name + ".", "ttl": 3600, "isAutoRegistered": false, "soaRecord": map[string]any{
			"email": "azureprivatedns-host.microsoft.com", "host": "azureprivatedns.net", "serialNumber": 1,
			"refreshTime": 3600, "retryTime": 300, "expireTime": 2419200, "minimumTtl": 10}}})
}

// zoneLink is the properties of a zone's link to a network.
type zoneLink struct {
	provisioned
	RegistrationEnabled bool   `json:"registrationEnabled"`
	ResolutionPolicy    string `json:"resolutionPolicy,omitempty"`
	VirtualNetwork      struct {
		ID string `json:"id"`
	} `json:"virtualNetwork"`
	VirtualNetworkLinkState string `json:"virtualNetworkLinkState,omitempty"`
}

func (l *zoneLink) settle(r *armRequest, res *resource, _ properties) error {
	if r.sim.resources[strings.ToLower(l.VirtualNetwork.ID)] == nil {
		return armErrorf(http.StatusBadRequest, "BadRequest", "The virtual network '%s' of the link was not found.", l.VirtualNetwork.ID)
	}
	for _, other := range r.sim.resources { // a network registers its machines in one zone
		o, ok := other.Properties.(*zoneLink)
		if ok && l.RegistrationEnabled && o.RegistrationEnabled && !strings.EqualFold(other.ID, res.ID) && strings.EqualFold(o.VirtualNetwork.ID, l.VirtualNetwork.ID) {
			return armErrorf(http.StatusConflict, "Conflict", "The virtual network '%s' is linked to a Private DNS zone with auto registration already.", l.VirtualNetwork.ID)
		}
	}
	l.VirtualNetworkLinkState = "Completed"
	return nil
}
