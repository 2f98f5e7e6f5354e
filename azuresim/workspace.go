package azuresim

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
)

const (
	workspacesPattern = "providers/Microsoft.OperationalInsights/workspaces"
	workspacePattern  = groupPattern + "/" + workspacesPattern + "/{workspace}"
)

var workspaces = &resourceType{name: "Microsoft.OperationalInsights/workspaces", pattern: workspacePattern,
	versions: workspaceVersions, created: http.StatusCreated, async: true, fresh: func() properties { return &workspace{} }}

var workspaceRoutes = []armRoute{
	{"GET", "subscriptions/{sub}/" + workspacesPattern, "Microsoft.OperationalInsights/workspaces/read", 2, workspaceVersions, workspaces.listOf},
	{"GET", groupPattern + "/" + workspacesPattern, "Microsoft.OperationalInsights/workspaces/read", 4, workspaceVersions, workspaces.listOf},
	{"GET", "subscriptions/{sub}/providers/Microsoft.OperationalInsights/deletedWorkspaces", "Microsoft.OperationalInsights/deletedWorkspaces/read", 2, workspaceVersions, listDeletedWorkspaces},
	{"POST", workspacePattern + "/sharedKeys", "Microsoft.OperationalInsights/workspaces/sharedKeys/action", 8, workspaceVersions, listSharedKeys},
}

// workspace is a Log Analytics workspace's properties.
type workspace struct {
	provisioned
	CustomerID string `json:"customerId,omitempty"`
	SKU        *struct {
		Name string `json:"name"`
	} `json:"sku,omitempty"`
	RetentionInDays int `json:"retentionInDays,omitempty"`
	Features        *struct {
		DisableLocalAuth                            bool `json:"disableLocalAuth"`
		EnableLogAccessUsingOnlyResourcePermissions bool `json:"enableLogAccessUsingOnlyResourcePermissions"`
		ImmediatePurgeDataOn30Days                  bool `json:"immediatePurgeDataOn30Days,omitempty"`
	} `json:"features,omitempty"`
	WorkspaceCapping *struct {
		DailyQuotaGB        float64 `json:"dailyQuotaGb"`
		DataIngestionStatus string  `json:"dataIngestionStatus,omitempty"`
	} `json:"workspaceCapping,omitempty"`
	PublicNetworkAccessForIngestion string `json:"publicNetworkAccessForIngestion,omitempty"`
	PublicNetworkAccessForQuery     string `json:"publicNetworkAccessForQuery,omitempty"`
	ForceCMKForQuery                bool   `json:"forceCmkForQuery,omitempty"`
}

var workspaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]$`)

func (w *workspace) settle(_ *armRequest, res *resource, prior properties) error {
	if !workspaceName.MatchString(res.Name) {
		return armErrorf(http.StatusBadRequest, "InvalidResourceName", "The workspace name '%s' is invalid.", res.Name)
	}
	// The free tier alone keeps less.
	if w.RetentionInDays != 0 && (w.RetentionInDays < 30 || w.RetentionInDays > 730) {
		return armErrorf(http.StatusBadRequest, "InvalidParameter", "'RetentionInDays' property doesn't match the SKU limits. Value: %d.", w.RetentionInDays)
	}
	if w.SKU != nil && w.SKU.Name != "PerGB2018" {
		return armErrorf(http.StatusBadRequest, "UnsupportedBySimulator", "azuresim has no workspaces of the SKU '%s'.", w.SKU.Name)
	}
	if old, ok := prior.(*workspace); ok {
		w.CustomerID = old.CustomerID
		return nil
	}
	w.CustomerID, res.keys = newGUID(), []string{newKey(), newKey()}
	return nil
}

// workspaceRef is how rights and queries name a workspace.
type workspaceRef struct{ id, customerID string }

// workspaceOf finds the workspace that the path of a query names: /workspaces/{customer id}, or its ARM id.
func (s *Simulator) workspaceOf(path string) (workspaceRef, bool) {
	wanted, byCustomerID := strings.CutPrefix(path, "/workspaces/")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, res := range s.resources {
		w, ok := res.Properties.(*workspace)
		if ok && (byCustomerID && strings.EqualFold(w.CustomerID, wanted) || !byCustomerID && strings.EqualFold(res.ID, path)) {
			return workspaceRef{res.ID, w.CustomerID}, true
		}
	}
	return workspaceRef{}, false
}

// newKey makes a key as Azure's services write them.
func newKey() string {
	var b [64]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return base64.StdEncoding.EncodeToString(b[:])
}

// listDeletedWorkspaces answers none: Azure keeps a deleted workspace for two weeks, the simulator does not.
func listDeletedWorkspaces(r *armRequest) error { return page(r, []shownResource{}) }

func listSharedKeys(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	res := r.sim.resources[lowerParent(r.id())]
	if res == nil {
		return r.notFound(workspaces.name, r.vars["workspace"])
	}
	return r.answer(http.StatusOK, map[string]any{"primarySharedKey": res.keys[0], "secondarySharedKey": res.keys[1]})
}
