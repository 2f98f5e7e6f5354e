package azuresim

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// Who may ask is told what roles give it, those above the scope included.
func TestPermissions(t *testing.T) {
	s := newStage(t)
	who := s.sim.AddServicePrincipal("somebody")
	const ask, version = "/providers/Microsoft.Authorization/permissions", "?api-version=2022-04-01"
	for _, as := range []Assignment{
		{who.ObjectID, "Container Apps Jobs Contributor", s.world.GroupID()},
		{who.ObjectID, "Managed Identity Operator", s.world.PullIdentityID()},
	} {
		if err := s.sim.Assign(as); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, body := s.call(who, http.MethodGet, s.world.GroupID()+ask+version, ""); status != http.StatusForbidden || errorCode(body) != "AuthorizationFailed" {
		t.Errorf("without the right to ask: %d %v", status, body)
	}
	status, _, body := s.call(who, http.MethodGet, s.world.PullIdentityID()+ask+version, "")
	list, _ := body["value"].([]any)
	if status != http.StatusOK || len(list) != 2 {
		t.Fatalf("on the identity: %d %v", status, body)
	}
	var actions []any
	for _, one := range list {
		p := one.(map[string]any)
		if len(p) != 4 || p["notActions"] == nil || p["dataActions"] == nil || p["notDataActions"] == nil {
			t.Errorf("a permission is %v", p)
		}
		actions = append(actions, p["actions"].([]any)...)
	}
	for _, want := range []any{"Microsoft.App/jobs/*", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action"} {
		if !slices.Contains(actions, want) {
			t.Errorf("%v is not in %v", want, actions)
		}
	}
	if err := s.sim.Assign(Assignment{who.ObjectID, "Reader", s.world.SubscriptionID()}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		status     int
		code       string
	}{
		{"on the group", s.world.GroupID() + ask + version, http.StatusOK, ""},
		{"on what is not there", s.world.PullIdentityID() + "-nosuch" + ask + version, http.StatusNotFound, "ResourceNotFound"},
		{"on the subscription", s.world.SubscriptionID() + ask + version, http.StatusNotFound, "InvalidResourceType"},
		{"in a version that there is not", s.world.GroupID() + ask + "?api-version=2020-01-01", http.StatusBadRequest, "NoRegisteredProviderFound"},
	} {
		if status, _, body := s.call(who, http.MethodGet, tc.path, ""); status != tc.status || errorCode(body) != tc.code {
			t.Errorf("%s: %d %v, want %d %s", tc.name, status, body, tc.status, tc.code)
		}
	}
}

// The rights on what a job refers to are looked at before the job itself, as the front door of Azure does.
func TestLinkedRightsComeFirst(t *testing.T) {
	s := newStage(t)
	who := s.sim.AddServicePrincipal("somebody")
	if err := s.sim.Assign(Assignment{who.ObjectID, "Container Apps Jobs Contributor", s.world.GroupID()}); err != nil {
		t.Fatal(err)
	}
	environment := `"properties":{"environmentId":"` + s.world.EnvironmentID() + `"}`
	identity := `"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + s.world.PullIdentityID() + `":{}}}`
	for _, tc := range []struct{ body, code string }{
		{`{` + environment + `}`, "LinkedAuthorizationFailed"},
		{`{` + identity + `}`, "LinkedAuthorizationFailed"},
		{`{}`, "LocationRequired"},
	} {
		if status, _, body := s.call(who, http.MethodPut, s.jobPath("web"), tc.body); errorCode(body) != tc.code {
			t.Errorf("PUT %s: %d %v, want %s", tc.body, status, body, tc.code)
		}
	}
	// An app may name its environment the older way.
	if err := s.sim.Assign(Assignment{who.ObjectID, "Contributor", s.world.GroupID() + "/providers/Microsoft.App/containerApps/web"}); err != nil {
		t.Fatal(err)
	}
	app := s.world.GroupID() + "/providers/Microsoft.App/containerApps/web?api-version=2025-07-01"
	for _, name := range []string{"environmentId", "managedEnvironmentId"} {
		body := `{"properties":{"` + name + `":"` + s.world.EnvironmentID() + `"}}`
		if status, _, answer := s.call(who, http.MethodPut, app, body); errorCode(answer) != "LinkedAuthorizationFailed" {
			t.Errorf("PUT %s: %d %v", body, status, answer)
		}
	}
}

func TestExpiredSecret(t *testing.T) {
	s := newStage(t)
	p := s.sim.Operator()
	s.sim.ExpireSecret(p)
	resp, err := s.client.PostForm(s.srv.URL+"/"+s.world.Tenant+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {p.Secret}, "scope": {audienceARM + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text := readAll(t, resp); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(text, "AADSTS7000222") {
		t.Errorf("%s %s", resp.Status, text)
	}
}

func TestClock(t *testing.T) {
	now := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	s := newStage(t, WithClock(func() time.Time { return now }))
	status, header, _ := s.call(s.sim.Operator(), http.MethodGet, s.world.EnvironmentID()+"?api-version=2025-01-01", "")
	if at, err := http.ParseTime(header.Get("Date")); status != http.StatusOK || err != nil || !at.Equal(now) {
		t.Errorf("%d, Date %v %v, want %v", status, at, err, now)
	}
}
