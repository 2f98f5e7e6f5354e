package azuresim

import (
	"maps"
	"slices"
	"strings"
)

// links are what a job or an app refers to.
type links struct {
	what                    string // "job"
	location, environmentID string
	identity                *jobIdentity
	access                  *podAccess
	template                *jobTemplate
}

// requireLinks answers 403 when the caller, who may do action, lacks a right on what the resource refers to. Azure Resource
// Manager does so before the resource provider sees the resource, so it comes before whatever else is wrong with that.
func (r *armRequest) requireLinks(action, environmentID string, identity *jobIdentity) error {
	if environmentID != "" {
		if err := r.requireLinked(action, "Microsoft.App/managedEnvironments/join/action", environmentID); err != nil {
			return err
		}
	}
	if identity == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(identity.UserAssignedIdentities)) {
		if err := r.requireLinked(action, "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", id); err != nil {
			return err
		}
	}
	return nil
}

// checkLinks checks environment, storages, identities and the registry; s.mu is held.
func (r *armRequest) checkLinks(l *links) error {
	s := r.sim
	if l.environmentID == "" {
		return badRequest("EnvironmentNotSpecified", "The environmentId must be specified.")
	}
	env := s.environments[strings.ToLower(l.environmentID)]
	if env == nil {
		return badRequest("ManagedEnvironmentNotFound", "The environment '%s' specified does not exist.", l.environmentID)
	}
	if normaliseLocation(l.location) != env.Location {
		return badRequest("InvalidLocation", "The location '%s' of the %s must be the location '%s' of its environment.", l.location, l.what, env.Location)
	}
	for _, v := range l.template.Volumes {
		if v.StorageName == "" {
			continue
		}
		st := env.Storages[v.StorageName]
		if st == nil || (v.StorageType == "AzureFile") != (st.Properties.AzureFile != nil) {
			return badRequest("ContainerAppManagedEnvironmentStorageNotFound", "Volume '%s': managed environment storage '%s' of type %s was not found.", v.Name, v.StorageName, v.StorageType)
		}
	}
	if err := r.checkIdentity(l.identity); err != nil {
		return err
	}
	attached := func(id string) *Principal {
		if l.identity == nil {
			return nil
		}
		for rid := range l.identity.UserAssignedIdentities {
			if strings.EqualFold(rid, id) {
				return s.entra.byResourceID(id)
			}
		}
		return nil
	}
	for _, is := range l.access.IdentitySettings {
		if attached(is.Identity) == nil {
			return badRequest("ContainerAppIdentityNotAssigned", "The identity '%s' in identitySettings is not assigned to the %s.", is.Identity, l.what)
		}
	}
	for _, reg := range l.access.Registries {
		if reg.Identity == "" {
			continue
		}
		who := attached(reg.Identity)
		if who == nil {
			return badRequest("ContainerAppRegistryIdentityNotAssigned", "The identity '%s' of registry '%s' is not assigned to the %s.", reg.Identity, reg.Server, l.what)
		}
		registry := s.registryOf(reg.Server)
		if registry == nil {
			return badRequest("ContainerAppRegistryServerInvalid", "The registry '%s' is no Azure container registry; an identity cannot pull from it.", reg.Server)
		}
		if !s.access.allowed(who.ObjectID, actionPull, registry.id) {
			return badRequest("InvalidParameterValueInContainerTemplate", "The following field(s) are either invalid or missing. Field 'configuration.registries' is invalid with details: 'unable to pull from registry %s using Managed identity %s: UNAUTHORIZED: authentication required, visit https://aka.ms/acr/authorization for more information.';.", reg.Server, reg.Identity)
		}
	}
	return nil
}

func (r *armRequest) checkIdentity(id *jobIdentity) error {
	if id == nil {
		return nil
	}
	switch id.Type {
	case "None", "UserAssigned":
	case "SystemAssigned", "SystemAssigned,UserAssigned", "SystemAssigned, UserAssigned":
		return unsupported("system-assigned identities")
	default:
		return badRequest("InvalidIdentityType", "The identity type '%s' is invalid.", id.Type)
	}
	if (id.Type == "UserAssigned") != (len(id.UserAssignedIdentities) > 0) {
		return badRequest("InvalidIdentity", "The identity type '%s' does not go with %d user-assigned identities.", id.Type, len(id.UserAssignedIdentities))
	}
	for rid := range id.UserAssignedIdentities {
		if r.sim.entra.byResourceID(rid) == nil {
			return badRequest("FailedIdentityOperation", "Identity operation for resource '%s' failed with error 'Failed to perform resource identity operation. Status: 'BadRequest'. Response: 'Resource '%s' was not found.''.", r.path, rid)
		}
	}
	return nil
}
