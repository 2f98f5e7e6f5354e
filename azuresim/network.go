package azuresim

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var networkVersions = []string{"2023-09-01", "2024-01-01", "2024-05-01", "2025-01-01"}

const networkPattern = groupPattern + "/providers/Microsoft.Network/"

var (
	virtualNetworks = &resourceType{name: "Microsoft.Network/virtualNetworks", pattern: networkPattern + "virtualNetworks/{network}",
		versions: networkVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &virtualNetwork{} }}
	subnets = &resourceType{name: "Microsoft.Network/virtualNetworks/subnets", pattern: networkPattern + "virtualNetworks/{network}/subnets/{subnet}",
		versions: networkVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &subnet{} }}
	securityGroups = &resourceType{name: "Microsoft.Network/networkSecurityGroups", pattern: networkPattern + "networkSecurityGroups/{nsg}",
		versions: networkVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &securityGroup{} }}
)

// virtualNetwork is a network's properties. Its subnets are resources of their own, which its answers repeat.
type virtualNetwork struct {
	provisioned
	AddressSpace struct {
		AddressPrefixes []string `json:"addressPrefixes"`
	} `json:"addressSpace"`
	DHCPOptions *struct {
		DNSServers []string `json:"dnsServers"`
	} `json:"dhcpOptions,omitempty"`
	PrivateEndpointVNetPolicies string          `json:"privateEndpointVNetPolicies,omitempty"`
	Subnets                     []shownResource `json:"subnets"`
	ResourceGUID                string          `json:"resourceGuid,omitempty"`
	EnableDDOSProtection        bool            `json:"enableDdosProtection"`
}

func (v *virtualNetwork) settle(r *armRequest, _ *resource, prior properties) error {
	for _, p := range v.AddressSpace.AddressPrefixes {
		if _, err := networkPrefix(p); err != nil {
			return err
		}
	}
	if len(v.AddressSpace.AddressPrefixes) == 0 {
		return armErrorf(http.StatusBadRequest, "InvalidRequestFormat", "The address space of the virtual network is empty.")
	}
	for _, s := range v.Subnets { // what an answer repeats may come back; a subnet that is not there may not
		if r.sim.resources[strings.ToLower(s.ID)] == nil {
			return armErrorf(http.StatusBadRequest, "UnsupportedBySimulator", "azuresim takes subnets as resources of their own alone.")
		}
	}
	v.Subnets, v.ResourceGUID = []shownResource{}, newGUID()
	if old, ok := prior.(*virtualNetwork); ok {
		v.Subnets, v.ResourceGUID = old.Subnets, old.ResourceGUID
	}
	return nil
}

// drop takes a subnet out of what the network's answers repeat.
func (v *virtualNetwork) drop(id string) {
	v.Subnets = slices.DeleteFunc(slices.Clone(v.Subnets), func(s shownResource) bool { return strings.EqualFold(s.ID, id) })
}

// networkPrefix reads a network without host bits.
func networkPrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return p, armErrorf(http.StatusBadRequest, "InvalidCIDRNotation", "The address prefix %s has an invalid CIDR notation. For the given prefix length, the address prefix should be the network's.", text)
	}
	return p, nil
}

// subnet is a subnet's properties.
type subnet struct {
	provisioned
	AddressPrefix   string   `json:"addressPrefix,omitempty"`
	AddressPrefixes []string `json:"addressPrefixes,omitempty"`
	Delegations     []struct {
		ID         string `json:"id,omitempty"`
		Name       string `json:"name"`
		Properties struct {
			provisioned
			ServiceName string   `json:"serviceName"`
			Actions     []string `json:"actions,omitempty"`
		} `json:"properties"`
	} `json:"delegations"`
	NetworkSecurityGroup *struct {
		ID string `json:"id"`
	} `json:"networkSecurityGroup,omitempty"`
	DefaultOutboundAccess             *bool  `json:"defaultOutboundAccess,omitempty"`
	PrivateEndpointNetworkPolicies    string `json:"privateEndpointNetworkPolicies,omitempty"`
	PrivateLinkServiceNetworkPolicies string `json:"privateLinkServiceNetworkPolicies,omitempty"`
	ServiceEndpoints                  []any  `json:"serviceEndpoints"`
	ServiceEndpointPolicies           []any  `json:"serviceEndpointPolicies"`
	SharingScope                      string `json:"sharingScope,omitempty"`
}

func (s *subnet) settle(r *armRequest, res *resource, prior properties) error {
	network := r.sim.resources[strings.ToLower(res.ID[:strings.LastIndex(strings.ToLower(res.ID), "/subnets/")])]
	v := network.Properties.(*virtualNetwork)
	prefixes := s.AddressPrefixes
	if s.AddressPrefix != "" {
		prefixes = append([]string{s.AddressPrefix}, prefixes...)
	}
	if len(prefixes) == 0 {
		return armErrorf(http.StatusBadRequest, "InvalidRequestFormat", "The subnet '%s' has no address prefix.", res.Name)
	}
	for _, text := range prefixes {
		p, err := networkPrefix(text)
		if err != nil {
			return err
		}
		inside := false
		for _, space := range v.AddressSpace.AddressPrefixes {
			if outer, err := netip.ParsePrefix(space); err == nil && outer.Bits() <= p.Bits() && outer.Contains(p.Addr()) {
				inside = true
			}
		}
		if !inside {
			return armErrorf(http.StatusBadRequest, "NetcfgSubnetRangeOutsideVnet", "Subnet '%s' is not valid because its IP address range is outside the IP address range of virtual network '%s'.", res.Name, network.Name)
		}
	}
	if g := s.NetworkSecurityGroup; g != nil && r.sim.resources[strings.ToLower(g.ID)] == nil {
		return armErrorf(http.StatusNotFound, "InvalidResourceReference", "Resource %s referenced by resource %s was not found.", g.ID, res.ID)
	}
	if old, ok := prior.(*subnet); ok && len(s.Delegations) == 0 && len(old.Delegations) > 0 && r.sim.userOf(res.ID) != "" {
		return armErrorf(http.StatusBadRequest, "SubnetDelegationsCannotChange", "Delegations of subnet '%s' cannot be changed while it is in use.", res.Name)
	}
	for i := range s.Delegations {
		s.Delegations[i].ID = res.ID + "/delegations/" + s.Delegations[i].Name
		s.Delegations[i].Properties.ProvisioningState = "Succeeded"
	}
	v.drop(res.ID)
	v.Subnets = append(v.Subnets, res.body())
	return nil
}

func (s *subnet) uses() []string {
	if s.NetworkSecurityGroup == nil {
		return nil
	}
	return []string{s.NetworkSecurityGroup.ID}
}

// delegatedTo tells whether the subnet is a service's.
func (s *subnet) delegatedTo(service string) bool {
	for _, d := range s.Delegations {
		if strings.EqualFold(d.Properties.ServiceName, service) {
			return true
		}
	}
	return false
}

// securityGroup is a network security group's properties.
type securityGroup struct {
	provisioned
	SecurityRules []*securityRule `json:"securityRules"`
}

type securityRule struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name"`
	Properties struct {
		provisioned
		Description                string   `json:"description,omitempty"`
		Access                     string   `json:"access"`
		Direction                  string   `json:"direction"`
		Protocol                   string   `json:"protocol"`
		Priority                   int      `json:"priority"`
		SourceAddressPrefix        string   `json:"sourceAddressPrefix"`
		SourceAddressPrefixes      []string `json:"sourceAddressPrefixes,omitempty"`
		SourcePortRange            string   `json:"sourcePortRange,omitempty"`
		SourcePortRanges           []string `json:"sourcePortRanges,omitempty"`
		DestinationAddressPrefix   string   `json:"destinationAddressPrefix"`
		DestinationAddressPrefixes []string `json:"destinationAddressPrefixes,omitempty"`
		DestinationPortRange       string   `json:"destinationPortRange,omitempty"`
		DestinationPortRanges      []string `json:"destinationPortRanges,omitempty"`
	} `json:"properties"`
}

func (g *securityGroup) settle(_ *armRequest, res *resource, _ properties) error {
	taken := map[string]string{}
	for _, rule := range g.SecurityRules {
		if err := rule.check(); err != nil {
			return err
		}
		p := &rule.Properties
		place := fmt.Sprintf("%s %d", strings.ToLower(p.Direction), p.Priority)
		if other, ok := taken[place]; ok {
			return armErrorf(http.StatusBadRequest, "SecurityRuleConflict", "Security rule %s conflicts with rule %s. Rules cannot have the same Priority and Direction.", rule.Name, other)
		}
		taken[place] = rule.Name
		rule.ID, p.ProvisioningState = res.ID+"/securityRules/"+rule.Name, "Succeeded"
	}
	return nil
}

var portRange = regexp.MustCompile(`^(\d{1,5})(?:-(\d{1,5}))?$`)

func (rule *securityRule) check() error {
	p := &rule.Properties
	invalid := func(what string, value any) error {
		return armErrorf(http.StatusBadRequest, "SecurityRuleInvalid"+what, "Security rule %s has an invalid %s. Value provided: %v.", rule.Name, what, value)
	}
	oneOf := func(value string, allowed ...string) bool {
		for _, a := range allowed {
			if strings.EqualFold(a, value) {
				return true
			}
		}
		return false
	}
	switch {
	case !oneOf(p.Access, "Allow", "Deny"):
		return invalid("Access", p.Access)
	case !oneOf(p.Direction, "Inbound", "Outbound"):
		return invalid("Direction", p.Direction)
	case !oneOf(p.Protocol, "*", "Tcp", "Udp", "Icmp", "Esp", "Ah"):
		return invalid("Protocol", p.Protocol)
	case p.Priority < 100 || p.Priority > 4096:
		return invalid("Priority", p.Priority)
	case p.SourceAddressPrefix == "" && len(p.SourceAddressPrefixes) == 0:
		return invalid("SourceAddressPrefix", "")
	case p.DestinationAddressPrefix == "" && len(p.DestinationAddressPrefixes) == 0:
		return invalid("DestinationAddressPrefix", "")
	case p.SourcePortRange == "" && len(p.SourcePortRanges) == 0:
		return invalid("PortRange", "")
	case p.DestinationPortRange == "" && len(p.DestinationPortRanges) == 0:
		return invalid("PortRange", "")
	}
	for _, ports := range append([]string{p.SourcePortRange, p.DestinationPortRange}, append(p.SourcePortRanges, p.DestinationPortRanges...)...) {
		if ports == "" || ports == "*" {
			continue
		}
		m := portRange.FindStringSubmatch(ports)
		if m == nil {
			return invalid("PortRange", ports)
		}
		for _, text := range m[1:] {
			if n, _ := strconv.Atoi(text); n > 65535 {
				return invalid("PortRange", ports)
			}
		}
	}
	return nil
}
