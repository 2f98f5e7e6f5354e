package azuresim

import (
	"fmt"
	"strings"
)

// World names what exists in the simulated subscription before the first request: what Terraform would have made.
// The zero value of a field means its default.
type World struct {
	Tenant              string // GUID
	Subscription        string // GUID
	ResourceGroup       string // "sockerless"
	Location            string // "eastus"
	Environment         string // managed environment, "sockerless"
	Workspace           string // Log Analytics workspace, "sockerless-logs"
	WorkspaceCustomerID string // GUID that the query API wants
	Registry            string // container registry resource, "sockerlesssim"
	PullIdentity        string // user-assigned identity that holds AcrPull, "sockerless-pull"
	StorageAccount      string // "sockerlesssim"
}

func (w World) withDefaults() World {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&w.Tenant, "5c0c1e55-0000-4000-8000-00000000000a")
	set(&w.Subscription, "5c0c1e55-0000-4000-8000-000000000001")
	set(&w.ResourceGroup, "sockerless")
	set(&w.Location, "eastus")
	set(&w.Environment, "sockerless")
	set(&w.Workspace, "sockerless-logs")
	set(&w.WorkspaceCustomerID, "5c0c1e55-0000-4000-8000-00000000001a")
	set(&w.Registry, "sockerlesssim")
	set(&w.PullIdentity, "sockerless-pull")
	set(&w.StorageAccount, "sockerlesssim")
	return w
}

// SubscriptionID is the subscription's ARM id.
func (w World) SubscriptionID() string { return "/subscriptions/" + w.Subscription }

// GroupID is the resource group's ARM id.
func (w World) GroupID() string {
	return w.SubscriptionID() + "/resourceGroups/" + w.ResourceGroup
}

// EnvironmentID is the managed environment's ARM id.
func (w World) EnvironmentID() string {
	return w.GroupID() + "/providers/Microsoft.App/managedEnvironments/" + w.Environment
}

// WorkspaceID is the Log Analytics workspace's ARM id.
func (w World) WorkspaceID() string {
	return w.GroupID() + "/providers/Microsoft.OperationalInsights/workspaces/" + w.Workspace
}

// RegistryID is the container registry's ARM id.
func (w World) RegistryID() string {
	return w.GroupID() + "/providers/Microsoft.ContainerRegistry/registries/" + w.Registry
}

// StorageAccountID is the storage account's ARM id.
func (w World) StorageAccountID() string {
	return w.GroupID() + "/providers/Microsoft.Storage/storageAccounts/" + w.StorageAccount
}

// PullIdentityID is the ARM id of the identity that pulls images.
func (w World) PullIdentityID() string { return w.identityID(w.PullIdentity) }

func (w World) identityID(name string) string {
	return w.GroupID() + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
}

// domainPrefix is the random-looking first label of an environment's default domain; log rows carry it as EnvironmentName_s.
func domainPrefix(environment string) string {
	var sum uint32 = 2166136261 // FNV-1a
	for _, c := range []byte(strings.ToLower(environment)) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	return fmt.Sprintf("calmsea-%08x", sum)
}
