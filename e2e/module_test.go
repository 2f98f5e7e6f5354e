package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// right is a role assignment of the Terraform module.
type right struct {
	Principal string // "backend" or "pull", by the module's identities
	Role      string
	Scope     string // ARM id
}

// moduleRights reads what the module assigns if it is to keep state in a table.
func moduleRights() (all map[string]right, err error) {
	raw, err := moduleFile("rights.json")
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(raw, &all)
	return all, err
}

// moduleFile reads a file that terraform test holds the module to.
func moduleFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join("..", "backends", "aca", "terraform", "tests", name))
}

// subscription is that of the module's tests.
const subscription = "/subscriptions/00000000-0000-4000-8000-000000000001"

// module is what the Terraform module makes, as far as a backend needs it, made by ARM without Terraform.
type module struct {
	t          *testing.T
	sim        *simulator
	owner      *owner // of the subscription
	rights     map[string]right
	principals map[string]string // object ids
	env        map[string]string // a backend's settings
}

// makeModule makes the resources and assigns the rights.
func makeModule(t *testing.T, sim *simulator) *module {
	t.Helper()
	rights, err := moduleRights()
	if err != nil {
		t.Fatal(err)
	}
	m := &module{t: t, sim: sim, rights: rights, principals: map[string]string{}}
	own := "/subscriptions/" + sim.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"]
	for name, r := range m.rights {
		r.Scope = strings.Replace(r.Scope, subscription, own, 1)
		m.rights[name] = r
	}
	if m.owner, err = sim.newOwner(own); err != nil {
		t.Fatal(err)
	}

	const location = `{"location":"westeurope"`
	group := m.rights["jobs"].Scope
	m.put(group, "2023-07-01", location+`}`)
	workspace := m.rights["logs"].Scope
	made := m.put(workspace, "2025-07-01", location+`,"properties":{"sku":{"name":"PerGB2018"},"retentionInDays":30}}`)
	customerID := at[string](t, made, "properties", "customerId")
	var keys any
	m.call(http.MethodPost, workspace+"/sharedKeys?api-version=2020-08-01", nil, &keys)
	key := at[string](t, keys, "primarySharedKey")
	environment := m.rights["environment"].Scope
	m.put(environment, "2025-07-01", location+fmt.Sprintf(`,"properties":{"appLogsConfiguration":{"destination":"log-analytics","logAnalyticsConfiguration":{"customerId":%q,"sharedKey":%q}}}}`, customerID, key))
	registry := m.put(m.rights["push"].Scope, "2025-11-01", location+`,"sku":{"name":"Basic"}}`)
	account := m.rights["tables"].Scope
	m.put(account, "2025-08-01", location+`,"kind":"StorageV2","sku":{"name":"Standard_LRS"}}`)
	pull := m.rights["pull_identity"].Scope
	backend := strings.TrimSuffix(pull, "-pull") + "-backend"
	m.principals["pull"] = at[string](t, m.put(pull, "2024-11-30", location+`}`), "properties", "principalId")
	m.principals["backend"] = at[string](t, m.put(backend, "2024-11-30", location+`}`), "properties", "principalId")
	for name := range m.rights {
		m.give(name)
	}

	secure, err := sim.secureURL()
	if err != nil {
		t.Fatal(err)
	}
	m.env = map[string]string{
		"SOCKERLESS_ENDPOINT_URL":                sim.url,
		"SOCKERLESS_CA_FILE":                     sim.env["SOCKERLESS_CA_FILE"],
		"SOCKERLESS_ACA_SUBSCRIPTION_ID":         sim.env["SOCKERLESS_ACA_SUBSCRIPTION_ID"],
		"SOCKERLESS_ACA_RESOURCE_GROUP":          nameOf(group),
		"SOCKERLESS_ACA_ENVIRONMENT":             nameOf(environment),
		"SOCKERLESS_ACA_LOCATION":                "westeurope",
		"SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE": customerID,
		"SOCKERLESS_ACA_STORAGE_ACCOUNT":         nameOf(account),
		"SOCKERLESS_ACA_IDENTITY":                pull,
		"SOCKERLESS_ACA_ACR":                     at[string](t, registry, "properties", "loginServer"),
		// table://ACCOUNT/TABLE would be a name in the DNS of a cloud.
		"SOCKERLESS_STATE": secure + "/" + nameOf(account) + "/sockerless",
	}
	var machine map[string]string
	body := fmt.Sprintf(`{"identity":%q}`, backend)
	if err := sim.do(http.MethodPost, "/_sim/machines", body, &machine); err != nil {
		t.Fatal(err)
	}
	for name, value := range machine {
		m.env[name] = value
	}
	return m
}

// give assigns a right of the module, as the provider does.
func (m *module) give(name string) {
	m.t.Helper()
	r := m.rights[name]
	var found any
	m.call(http.MethodGet, r.Scope+"/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-05-01-preview&%24filter="+url.QueryEscape("roleName eq '"+r.Role+"'"), nil, &found)
	roles := at[[]any](m.t, found, "value")
	if len(roles) != 1 {
		m.t.Fatalf("there are %d roles %s", len(roles), r.Role)
	}
	m.call(http.MethodPut, m.assignment(name), map[string]any{"properties": map[string]any{"roleDefinitionId": at[string](m.t, roles[0], "id"),
		"principalId": m.principals[r.Principal], "principalType": "ServicePrincipal"}}, nil)
}

// take removes a right of the module.
func (m *module) take(name string) {
	m.t.Helper()
	m.call(http.MethodDelete, m.assignment(name), nil, nil)
}

// assignment is the path of a right's role assignment. Its name is a GUID that the right's own name makes.
func (m *module) assignment(name string) string {
	hex := fmt.Sprintf("%012x", name)
	return m.rights[name].Scope + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-" + hex[:12] + "?api-version=2022-04-01"
}

func (m *module) put(id, version, body string) (made any) {
	m.t.Helper()
	m.call(http.MethodPut, id+"?api-version="+version, json.RawMessage(body), &made)
	return made
}

// call asks ARM as the owner.
func (m *module) call(method, path string, body, out any) {
	m.t.Helper()
	if err := m.owner.call(method, path, body, out); err != nil {
		m.t.Fatal(err)
	}
}

// at is the value in a decoded JSON object that the names lead to.
func at[T any](t *testing.T, v any, names ...string) T {
	t.Helper()
	whole := v
	for _, name := range names {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	found, ok := v.(T)
	if !ok {
		t.Fatalf("there is no %s in %v", strings.Join(names, "."), whole)
	}
	return found
}

func nameOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
