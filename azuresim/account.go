package azuresim

import (
	"net/http"
	"strings"
	"time"
)

var storageVersions = []string{"2023-05-01", "2024-01-01", "2025-01-01", "2025-08-01"}

const accountPattern = groupPattern + "/providers/Microsoft.Storage/storageAccounts/{account}"

var (
	// A new account is answered with 200 where other resources have 201. Its deletion is over when it is answered.
	storageAccounts = &resourceType{name: "Microsoft.Storage/storageAccounts", pattern: accountPattern,
		versions: storageVersions, created: http.StatusOK, async: true, goes: true, fresh: func() properties { return &storageAccount{} }}
	fileShares = &resourceType{name: "Microsoft.Storage/storageAccounts/fileServices/shares", pattern: accountPattern + "/fileServices/default/shares/{share}",
		versions: storageVersions, created: http.StatusCreated, fresh: func() properties { return &fileShare{} }}
)

var accountRoutes = []armRoute{
	{"POST", accountPattern + "/listKeys", "Microsoft.Storage/storageAccounts/listkeys/action", 8, storageVersions, listAccountKeys},
	{"GET", accountPattern + "/blobServices/default", "Microsoft.Storage/storageAccounts/blobServices/read", 8, storageVersions, getAccountService},
	{"GET", accountPattern + "/fileServices/default", "Microsoft.Storage/storageAccounts/fileServices/read", 8, storageVersions, getAccountService},
	{"GET", accountPattern + "/fileServices/default/shares", "Microsoft.Storage/storageAccounts/fileServices/shares/read", 8, storageVersions, listShares},
}

// storageAccount is an account's properties.
type storageAccount struct {
	provisioned
	AccessTier                   string `json:"accessTier,omitempty"`
	AllowBlobPublicAccess        bool   `json:"allowBlobPublicAccess"`
	AllowCrossTenantReplication  bool   `json:"allowCrossTenantReplication"`
	AllowSharedKeyAccess         *bool  `json:"allowSharedKeyAccess,omitempty"`
	DefaultToOAuthAuthentication bool   `json:"defaultToOAuthAuthentication"`
	DNSEndpointType              string `json:"dnsEndpointType,omitempty"`
	Encryption                   *struct {
		KeySource string         `json:"keySource"`
		Services  map[string]any `json:"services,omitempty"`
	} `json:"encryption,omitempty"`
	IsHnsEnabled             bool              `json:"isHnsEnabled"`
	IsLocalUserEnabled       bool              `json:"isLocalUserEnabled"`
	IsNfsV3Enabled           bool              `json:"isNfsV3Enabled"`
	IsSftpEnabled            bool              `json:"isSftpEnabled"`
	LargeFileSharesState     string            `json:"largeFileSharesState,omitempty"`
	MinimumTLSVersion        string            `json:"minimumTlsVersion,omitempty"`
	NetworkACLs              map[string]any    `json:"networkAcls,omitempty"`
	PublicNetworkAccess      string            `json:"publicNetworkAccess,omitempty"`
	SupportsHTTPSTrafficOnly bool              `json:"supportsHttpsTrafficOnly"`
	PrimaryEndpoints         map[string]string `json:"primaryEndpoints,omitempty"`
	PrimaryLocation          string            `json:"primaryLocation,omitempty"`
	StatusOfPrimary          string            `json:"statusOfPrimary,omitempty"`
	CreationTime             string            `json:"creationTime,omitempty"`
}

func (a *storageAccount) settle(r *armRequest, res *resource, prior properties) error {
	if !accountName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "AccountNameInvalid", "%s is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only.", res.Name)
	}
	// The name is one of all of Azure; the groups of this subscription are what can be seen of it.
	if prior == nil && r.sim.tables[res.Name] != nil {
		return armErrorf(http.StatusConflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", res.Name)
	}
	if name, _ := res.SKU["name"].(string); name == "" {
		return armErrorf(http.StatusBadRequest, "InvalidRequestPropertyValue", "The property 'sku.name' was not specified in the input.")
	}
	if res.Kind == "" {
		return armErrorf(http.StatusBadRequest, "InvalidRequestPropertyValue", "The property 'kind' was not specified in the input.")
	}
	a.PrimaryEndpoints = map[string]string{}
	for _, service := range []string{"blob", "file", "queue", "table", "web", "dfs"} {
		a.PrimaryEndpoints[service] = "https://" + res.Name + "." + service + "." + storageSuffix + "/"
	}
	a.PrimaryLocation, a.StatusOfPrimary = res.Location, "available"
	if old, ok := prior.(*storageAccount); ok {
		a.CreationTime = old.CreationTime
		return nil
	}
	a.CreationTime, res.keys = time.Now().UTC().Format(time.RFC3339), []string{newKey(), newKey()}
	tables, err := openTables(r.sim, res.ID, "")
	if err != nil {
		return err
	}
	r.sim.tables[res.Name] = tables
	return nil
}

// storageSuffix is the cloud's, as its metadata tell it.
const storageSuffix = "core.azuresim.internal"

func listAccountKeys(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	res := r.sim.resources[lowerParent(r.id())]
	if res == nil {
		return r.notFound(storageAccounts.name, r.vars["account"])
	}
	return r.answer(http.StatusOK, map[string]any{"keys": []map[string]any{
		{"keyName": "key1", "value": res.keys[0], "permissions": "FULL"}, {"keyName": "key2", "value": res.keys[1], "permissions": "FULL"}}})
}

// getAccountService answers the settings of a service, which are Azure's defaults.
func getAccountService(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	id, service := r.id(), "blobServices"
	if strings.EqualFold(id[strings.LastIndexByte(strings.TrimSuffix(id, "/default"), '/')+1:], "fileServices/default") {
		service = "fileServices"
	}
	account := r.sim.resources[lowerParent(lowerParent(id))]
	if account == nil {
		return r.notFound(storageAccounts.name, r.vars["account"])
	}
	p := map[string]any{"cors": map[string]any{"corsRules": []any{}}}
	if service == "blobServices" {
		p["deleteRetentionPolicy"] = map[string]any{"enabled": false, "allowPermanentDelete": false}
	} else {
		p["shareDeleteRetentionPolicy"] = map[string]any{"enabled": true, "days": 7}
		p["protocolSettings"] = map[string]any{"smb": map[string]any{}}
	}
	return r.answer(http.StatusOK, map[string]any{"id": account.ID + "/" + service + "/default", "name": "default",
		"type": "Microsoft.Storage/storageAccounts/" + service, "sku": account.SKU, "properties": p})
}

// fileShare is a share's properties.
type fileShare struct {
	ShareQuota        int               `json:"shareQuota,omitempty"`
	EnabledProtocols  string            `json:"enabledProtocols,omitempty"`
	AccessTier        string            `json:"accessTier,omitempty"`
	Metadata          map[string]string `json:"metadata,omitempty"`
	SignedIdentifiers []any             `json:"signedIdentifiers,omitempty"`
	RootSquash        string            `json:"rootSquash,omitempty"`
	LastModifiedTime  string            `json:"lastModifiedTime,omitempty"`
	LeaseState        string            `json:"leaseState,omitempty"`
	LeaseStatus       string            `json:"leaseStatus,omitempty"`
}

func (f *fileShare) provisioning(string) {} // a share has no such state

func (f *fileShare) settle(_ *armRequest, res *resource, _ properties) error {
	if !shareName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
	}
	if f.ShareQuota < 1 || f.ShareQuota > 102400 {
		return armErrorf(http.StatusBadRequest, "InvalidRequestPropertyValue", "The value '%d' is not allowed for property shareQuota.", f.ShareQuota)
	}
	switch f.EnabledProtocols {
	case "":
		f.EnabledProtocols = "SMB"
	case "SMB", "NFS":
	default:
		return armErrorf(http.StatusBadRequest, "InvalidRequestPropertyValue", "The value '%s' is not allowed for property enabledProtocols.", f.EnabledProtocols)
	}
	if f.AccessTier == "" {
		f.AccessTier = "TransactionOptimized"
	}
	f.LastModifiedTime, f.LeaseState, f.LeaseStatus = time.Now().UTC().Format(time.RFC3339), "available", "unlocked"
	return nil
}

func listShares(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	all := []shownResource{}
	for _, res := range r.sim.resources {
		if res.kind == fileShares && within(res.ID, r.id()) {
			all = append(all, res.body())
		}
	}
	sortByID(all)
	return page(r, all)
}
