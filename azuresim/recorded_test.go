package azuresim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recording is what azurerm 5.2.0 asked of a minimal ARM while it applied resources of every type that our Terraform module
// has; lines of status, method, host and path, each perhaps with its body below it.
const recording = "../terraform/azurerm-5.2.0.apply-requests.log"

type recordedRequest struct {
	status             string
	method, path, body string
}

func recorded(t *testing.T) []recordedRequest {
	t.Helper()
	var all []recordedRequest
	scan := bufio.NewScanner(bytes.NewReader(sharedFile(t, recording)))
	scan.Buffer(nil, 1<<20)
	line := regexp.MustCompile(`^(\d{3}) ([A-Z]+) \S+ (\S+)$`)
	for scan.Scan() {
		if body, ok := strings.CutPrefix(scan.Text(), "    > "); ok {
			all[len(all)-1].body = body
		} else if m := line.FindStringSubmatch(scan.Text()); m != nil {
			all = append(all, recordedRequest{m[1], m[2], m[3], ""})
		} else {
			t.Fatalf("cannot read line %q", scan.Text())
		}
	}
	if len(all) < 100 {
		t.Fatalf("the recording has %d requests only", len(all))
	}
	return all
}

// terraformed is a stage on which an application that owns the subscription replays what azurerm asked.
type terraformed struct {
	*stage
	owner Principal
	group string // that of the recording
	// answers replace what the recording's ARM had made up by what the simulator did.
	answers map[string]string
}

func newTerraformed(t *testing.T, opts ...Option) *terraformed {
	t.Helper()
	world := World{Subscription: "00000000-0000-0000-0000-000000000001", Tenant: "00000000-0000-0000-0000-0000000000aa"}
	s := newStage(t, append([]Option{WithWorld(world)}, opts...)...)
	tf := &terraformed{stage: s, owner: s.sim.AddServicePrincipal("terraform"), group: s.world.SubscriptionID() + "/resourceGroups/rg-sockerless-dev"}
	if err := s.sim.Assign(Assignment{tf.owner.ObjectID, "Owner", s.world.SubscriptionID()}); err != nil {
		t.Fatal(err)
	}
	tf.answers = map[string]string{
		"00000000-0000-0000-0000-0000000000cc": tf.owner.ClientID, "client_secret=sim": "client_secret=" + url.QueryEscape(tf.owner.Secret),
		"https%3A%2F%2Flocalhost%3A18443%2Fgraph": url.QueryEscape(s.srv.HTTPSURL), // there is no Graph here; nothing is asked of it
		"https%3A%2F%2Flocalhost%3A18443":         url.QueryEscape(s.srv.HTTPSURL),
	}
	return tf
}

// replay sends what was recorded, in its order. The polls of the recording's own operations are replaced by those that the
// simulator's answers ask for. It returns the bodies of the last PUT of every path.
func (tf *terraformed) replay() (puts map[string]string) {
	tf.t.Helper()
	puts = map[string]string{}
	for i, req := range recorded(tf.t) {
		if strings.Contains(req.path, "/operationStatuses/") {
			continue
		}
		body := tf.translate(req.body)
		var status int
		var header http.Header
		var answer map[string]any
		if strings.HasPrefix(req.path, "/subscriptions/") {
			status, header, answer = tf.call(tf.owner, req.method, req.path, body)
		} else {
			status = tf.form(req.method, req.path, body)
		}
		want := req.status
		if req.method == "PUT" && strings.Contains(req.path, "/managedEnvironments/cae-sockerless-dev/storages/") {
			want = "200" // the recording's ARM said 201, which armappcontainers v3.1.0 refuses
		}
		if strconv.Itoa(status) != want {
			tf.t.Fatalf("request %d: %s %s: %d %v, recorded %s", i+1, req.method, req.path, status, answer, req.status)
		}
		tf.learn(req.path, answer)
		if req.method == "PUT" {
			puts[req.path] = body
			tf.await(header)
		}
	}
	return puts
}

// form sends what is none of ARM's requests.
func (tf *terraformed) form(method, path, body string) int {
	tf.t.Helper()
	req, err := http.NewRequestWithContext(tf.t.Context(), method, tf.srv.HTTPSURL+path, strings.NewReader(body))
	if err != nil {
		tf.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := tf.client.Do(req)
	if err != nil {
		tf.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (tf *terraformed) translate(body string) string {
	// The longest first: one of them begins another.
	keys := slices.SortedFunc(maps.Keys(tf.answers), func(a, b string) int { return len(b) - len(a) })
	for _, k := range keys {
		body = strings.ReplaceAll(body, k, tf.answers[k])
	}
	return body
}

// learn keeps what later requests of the recording repeat.
func (tf *terraformed) learn(path string, answer map[string]any) {
	p, _ := answer["properties"].(map[string]any)
	switch {
	case strings.Contains(path, "/sharedKeys"):
		tf.answers["cHJpbWFyeQ=="] = answer["primarySharedKey"].(string)
	case strings.Contains(path, "/listKeys"):
		tf.answers["a2V5MQ=="] = at(answer, "keys", 0, "value").(string)
	case strings.Contains(path, "/userAssignedIdentities/") && p != nil:
		tf.answers["22222222-2222-2222-2222-222222222222"] = p["principalId"].(string)
	case strings.Contains(path, "/workspaces/log-sockerless-dev?") && p != nil:
		tf.answers["11111111-1111-1111-1111-111111111111"] = p["customerId"].(string)
	}
}

// await follows the operation that an answer names.
func (tf *terraformed) await(header http.Header) {
	tf.t.Helper()
	poll := header.Get("Azure-AsyncOperation")
	if poll == "" {
		return
	}
	u, err := url.Parse(poll)
	if err != nil {
		tf.t.Fatal(err)
	}
	eventually(tf.t, "the operation ends", func() bool {
		status, _, body := tf.call(tf.owner, "GET", u.RequestURI(), "")
		if status != http.StatusOK || body["status"] == "Failed" {
			tf.t.Fatalf("poll of %s: %d %v", poll, status, body)
		}
		return body["status"] == "Succeeded"
	})
}

// TestRecordedApply replays an apply of the real provider. It would see no drift: whatever it put is what it gets.
func TestRecordedApply(t *testing.T) {
	for name, opts := range map[string][]Option{
		"calm":            nil,
		"slow operations": {WithDelays(Delays{Operation: Range{5 * time.Millisecond, 20 * time.Millisecond}})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tf := newTerraformed(t, opts...)
			for path, body := range tf.replay() {
				status, _, got := tf.call(tf.owner, "GET", path, "")
				if status != http.StatusOK {
					t.Errorf("GET %s: %d", path, status)
					continue
				}
				var put map[string]any
				if err := json.Unmarshal([]byte(body), &put); err != nil {
					t.Fatal(err)
				}
				drift(t, path, "", put, got)
			}
			tf.readable()
		})
	}
}

// drift reports what was put and is not answered. Keys are never shown; a role's definition is named from the subscription on.
func drift(t *testing.T, path, where string, put, got any) {
	t.Helper()
	switch put := put.(type) {
	case map[string]any:
		for k, v := range put {
			g, _ := got.(map[string]any)
			switch k {
			case "subnets": // resources of their own, which the network's answer repeats
			case "sharedKey", "accountKey":
				if g[k] != nil {
					t.Errorf("%s%s.%s is shown", path, where, k)
				}
			case "roleDefinitionId":
				if id, _ := g[k].(string); !strings.HasSuffix(v.(string), id[strings.LastIndexByte(id, '/'):]) {
					t.Errorf("%s%s.%s: put %v, got %v", path, where, k, v, g[k])
				}
			default:
				drift(t, path, where+"."+k, v, g[k])
			}
		}
	case []any:
		g, _ := got.([]any)
		if len(put) != len(g) {
			t.Errorf("%s%s: put %v, got %v", path, where, put, got)
			return
		}
		for i := range put {
			drift(t, path, where, put[i], g[i])
		}
	default:
		if put != got && (put != "" || got != nil) {
			t.Errorf("%s%s: put %v, got %v", path, where, put, got)
		}
	}
}

// readable asks for what the provider reads beside what it put.
func (tf *terraformed) readable() {
	t := tf.t
	t.Helper()
	env := "/providers/Microsoft.App/managedEnvironments/cae-sockerless-dev"
	network := "/providers/Microsoft.Network/virtualNetworks/vnet-sockerless-dev"
	zone := "/providers/Microsoft.Network/privateDnsZones/sockerless-dev.internal"
	account := "/providers/Microsoft.Storage/storageAccounts/stsockerlessdev"
	hex := `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`
	for _, tc := range []struct {
		path, version string
		at            []any
		want          string
	}{
		{"", "2023-07-01", []any{"type"}, `^Microsoft\.Resources/resourceGroups$`},
		{"", "2023-07-01", []any{"properties", "provisioningState"}, `^Succeeded$`},
		{network, "2025-01-01", []any{"properties", "subnets", 0, "id"}, `/subnets/snet-aca$`},
		{network, "2025-01-01", []any{"properties", "subnets", 0, "properties", "networkSecurityGroup", "id"}, `/networkSecurityGroups/nsg-sockerless-dev$`},
		{network, "2025-01-01", []any{"properties", "resourceGuid"}, hex},
		{network + "/subnets/snet-aca", "2025-01-01", []any{"properties", "provisioningState"}, `^Succeeded$`},
		{zone, "2024-06-01", []any{"properties", "maxNumberOfRecordSets"}, `^25000$`},
		{zone + "/SOA/@", "2024-06-01", []any{"properties", "soaRecord", "email"}, `^azureprivatedns-host\.microsoft\.com$`},
		{zone + "/virtualNetworkLinks/link-sockerless-dev", "2024-06-01", []any{"properties", "virtualNetworkLinkState"}, `^Completed$`},
		{"/providers/Microsoft.OperationalInsights/workspaces/log-sockerless-dev", "2025-07-01", []any{"properties", "customerId"}, hex},
		{env, "2025-07-01", []any{"properties", "defaultDomain"}, `\.eastus\.azurecontainerapps\.azuresim\.internal$`},
		{env, "2025-07-01", []any{"properties", "provisioningState"}, `^Succeeded$`},
		{env, "2025-07-01", []any{"properties", "staticIp"}, `^[0-9.]+$`},
		{account, "2025-08-01", []any{"properties", "primaryEndpoints", "file"}, `^https://stsockerlessdev\.file\.`},
		{account, "2025-08-01", []any{"properties", "statusOfPrimary"}, `^available$`},
		{account + "/blobServices/default", "2025-08-01", []any{"type"}, `/blobServices$`},
		{account + "/fileServices/default", "2025-08-01", []any{"type"}, `/fileServices$`},
		{account + "/fileServices/default/shares/volumes", "2025-08-01", []any{"properties", "accessTier"}, `^TransactionOptimized$`},
		{"/providers/Microsoft.ContainerRegistry/registries/acrsockerlessdev", "2025-11-01", []any{"properties", "loginServer"}, `^localhost:\d+$`},
		{"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-sockerless-dev", "2024-11-30", []any{"properties", "clientId"}, hex},
		{"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-sockerless-dev", "2024-11-30", []any{"properties", "tenantId"}, hex},
		{"/providers/Microsoft.Authorization/roleAssignments/a3ee0394-c20d-8178-6402-a93ee928222e", "2022-04-01", []any{"properties", "scope"}, `/resourceGroups/rg-sockerless-dev$`},
		{"/providers/Microsoft.Authorization/roleDefinitions/b24988ac-6180-42a0-ab88-20f7382dd24c", "2022-05-01-preview", []any{"properties", "roleName"}, `^Contributor$`},
	} {
		status, _, body := tf.call(tf.owner, "GET", tf.group+tc.path+"?api-version="+tc.version, "")
		if status != http.StatusOK {
			t.Errorf("GET %s: %d %v", tc.path, status, body)
			continue
		}
		value, _ := json.Marshal(at(body, tc.at...))
		if !regexp.MustCompile(tc.want).MatchString(strings.Trim(string(value), `"`)) {
			t.Errorf("GET %s: %v is %s, want %s", tc.path, tc.at, value, tc.want)
		}
	}
	// The provider finds the environment's workspace among all of the subscription, by its customer id.
	_, _, list := tf.call(tf.owner, "GET", tf.world.SubscriptionID()+"/providers/Microsoft.OperationalInsights/workspaces?api-version=2025-07-01", "")
	ids := []string{}
	for _, w := range list["value"].([]any) {
		ids = append(ids, at(w, "properties", "customerId").(string))
	}
	if !slices.Contains(ids, tf.answers["11111111-1111-1111-1111-111111111111"]) || len(ids) != 2 {
		t.Errorf("workspaces of the subscription: %v", ids)
	}
}

// TestRecordedRights replays an apply, and finds that the assignments it made are the rights that hold.
func TestRecordedRights(t *testing.T) {
	t.Parallel()
	tf := newTerraformed(t)
	tf.replay()
	identity := *tf.sim.entra.byObjectID(tf.answers["22222222-2222-2222-2222-222222222222"])
	env := tf.group + "/providers/Microsoft.App/managedEnvironments/cae-sockerless-dev?api-version=2025-07-01"
	contributor := tf.group + "/providers/Microsoft.Authorization/roleAssignments/a3ee0394-c20d-8178-6402-a93ee928222e?api-version=2022-04-01"
	get := func(who Principal, want int) {
		t.Helper()
		if status, _, body := tf.call(who, "GET", env, ""); status != want {
			t.Errorf("GET environment: %d %v, want %d", status, body, want)
		}
	}
	get(identity, http.StatusOK)
	get(tf.sim.AddServicePrincipal("nobody"), http.StatusForbidden)

	// A Contributor gives no rights away, and takes none.
	_, _, put := tf.call(tf.owner, "GET", contributor, "")
	mine := `{"properties":{"roleDefinitionId":"` + at(put, "properties", "roleDefinitionId").(string) + `","principalId":"` + tf.owner.ObjectID + `","principalType":"ServicePrincipal"}}`
	other := tf.group + "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001?api-version=2022-04-01"
	if status, _, _ := tf.call(identity, "PUT", other, mine); status != http.StatusForbidden {
		t.Errorf("a Contributor gives rights: %d", status)
	}
	if status, _, _ := tf.call(identity, "DELETE", contributor, ""); status != http.StatusForbidden {
		t.Errorf("a Contributor takes rights: %d", status)
	}

	if status, _, _ := tf.call(tf.owner, "DELETE", contributor, ""); status != http.StatusOK {
		t.Errorf("DELETE of the assignment: %d", status)
	}
	get(identity, http.StatusForbidden)
	if status, _, _ := tf.call(tf.owner, "GET", contributor, ""); status != http.StatusNotFound {
		t.Errorf("the assignment is still there: %d", status)
	}
}

// TestDestroy takes down what an apply made, in an order that Azure takes, and what it does not take is refused.
func TestDestroy(t *testing.T) {
	t.Parallel()
	tf := newTerraformed(t, WithDelays(Delays{Operation: Range{5 * time.Millisecond, 20 * time.Millisecond}}))
	tf.replay()
	remove := func(path, version string, want ...int) {
		t.Helper()
		full := tf.group + path + "?api-version=" + version
		status, header, body := tf.call(tf.owner, "DELETE", full, "")
		if !slices.Contains(want, status) {
			t.Fatalf("DELETE %s: %d %v, want %v", path, status, body, want)
		}
		if poll := header.Get("Location"); poll != "" {
			u, err := url.Parse(poll)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the deletion ends", func() bool {
				status, _, _ := tf.call(tf.owner, "GET", u.RequestURI(), "")
				return status == http.StatusNoContent || status == http.StatusOK
			})
		}
		if want[0] < 300 {
			if status, _, _ := tf.call(tf.owner, "GET", full, ""); status != http.StatusNotFound {
				t.Errorf("GET %s after its deletion: %d", path, status)
			}
		}
	}
	network := "/providers/Microsoft.Network/"
	remove(network+"virtualNetworks/vnet-sockerless-dev/subnets/snet-aca", "2025-01-01", http.StatusConflict) // the environment is in it
	remove(network+"networkSecurityGroups/nsg-sockerless-dev", "2025-01-01", http.StatusConflict)
	remove("/providers/Microsoft.App/managedEnvironments/cae-sockerless-dev/storages/volumes", "2025-07-01", http.StatusOK)
	remove("/providers/Microsoft.App/managedEnvironments/cae-sockerless-dev", "2025-07-01", http.StatusAccepted)
	remove(network+"virtualNetworks/vnet-sockerless-dev/subnets/snet-aca", "2025-01-01", http.StatusAccepted)
	if _, _, body := tf.call(tf.owner, "GET", tf.group+network+"virtualNetworks/vnet-sockerless-dev?api-version=2025-01-01", ""); len(at(body, "properties", "subnets").([]any)) != 0 {
		t.Errorf("the network still has its subnet: %v", body)
	}
	remove(network+"networkSecurityGroups/nsg-sockerless-dev", "2025-01-01", http.StatusAccepted)
	remove(network+"networkSecurityGroups/nsg-sockerless-dev", "2025-01-01", http.StatusNoContent) // again: it is gone
	remove("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-sockerless-dev", "2024-11-30", http.StatusOK)
	if tf.sim.entra.byObjectID(tf.answers["22222222-2222-2222-2222-222222222222"]) != nil {
		t.Error("the identity is still in the directory")
	}
	remove("/providers/Microsoft.Storage/storageAccounts/stsockerlessdev", "2025-08-01", http.StatusOK) // the specification has no 202
	_, _, list := tf.call(tf.owner, "GET", tf.group+"/resources?api-version=2023-07-01&%24top=10", "")
	var names []string
	for _, r := range list["value"].([]any) {
		names = append(names, at(r, "name").(string))
	}
	if want := []string{"acrsockerlessdev", "sockerless-dev.internal", "vnet-sockerless-dev", "log-sockerless-dev"}; !slices.Equal(names, want) {
		t.Errorf("left in the group: %v", names)
	}
	remove("", "2023-07-01", http.StatusAccepted)
	if status, _, body := tf.call(tf.owner, "GET", tf.group+network+"virtualNetworks/vnet-sockerless-dev?api-version=2025-01-01", ""); status != http.StatusNotFound || at(body, "error", "code") != "ResourceGroupNotFound" {
		t.Errorf("the network outlives its group: %d %v", status, body)
	}
}

// TestRefusedResources puts what Azure refuses.
func TestRefusedResources(t *testing.T) {
	t.Parallel()
	tf := newTerraformed(t)
	tf.replay()
	network, storage := "/providers/Microsoft.Network/", "/providers/Microsoft.Storage/storageAccounts/"
	acr, app := "/providers/Microsoft.ContainerRegistry/registries/", "/providers/Microsoft.App/managedEnvironments/"
	assignment := "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-000000000001"
	definition := "/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/"
	rule := func(change string) string {
		r := map[string]any{"access": "Allow", "direction": "Inbound", "protocol": "Tcp", "priority": 100, "sourceAddressPrefix": "*",
			"sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "9111"}
		if err := json.Unmarshal([]byte(change), &r); err != nil {
			t.Fatal(err)
		}
		raw, _ := json.Marshal(map[string]any{"location": "eastus", "properties": map[string]any{"securityRules": []any{map[string]any{"name": "r", "properties": r}}}})
		return string(raw)
	}
	for _, tc := range []struct{ name, path, version, body, code string }{
		{"group without location", "", "2023-07-01", `{}`, "LocationRequired"},
		{"group in another region", "", "2023-07-01", `{"location":"westus"}`, "InvalidResourceLocation"},
		{"no body", network + "virtualNetworks/v", "2025-01-01", ``, "InvalidRequestContent"},
		{"unknown property", network + "virtualNetworks/v", "2025-01-01", `{"location":"eastus","properties":{"addresses":[]}}`, "InvalidRequestContent"},
		{"unknown version", network + "virtualNetworks/v", "2010-01-01", `{"location":"eastus"}`, "NoRegisteredProviderFound"},
		{"network without addresses", network + "virtualNetworks/v", "2025-01-01", `{"location":"eastus"}`, "InvalidRequestFormat"},
		{"network with host bits", network + "virtualNetworks/v", "2025-01-01", `{"location":"eastus","properties":{"addressSpace":{"addressPrefixes":["10.0.0.1/16"]}}}`, "InvalidCIDRNotation"},
		{"subnet of no network", network + "virtualNetworks/none/subnets/s", "2025-01-01", `{"properties":{"addressPrefixes":["10.0.0.0/24"]}}`, "ParentResourceNotFound"},
		{"subnet outside", network + "virtualNetworks/vnet-sockerless-dev/subnets/s", "2025-01-01", `{"properties":{"addressPrefixes":["10.1.0.0/24"]}}`, "NetcfgSubnetRangeOutsideVnet"},
		{"subnet of an unknown group of rules", network + "virtualNetworks/vnet-sockerless-dev/subnets/s", "2025-01-01", `{"properties":{"addressPrefixes":["10.0.9.0/24"],"networkSecurityGroup":{"id":"/none"}}}`, "InvalidResourceReference"},
		{"delegation taken from under an environment", network + "virtualNetworks/vnet-sockerless-dev/subnets/snet-aca", "2025-01-01", `{"properties":{"addressPrefixes":["10.0.0.0/23"]}}`, "SubnetDelegationsCannotChange"},
		{"rule of port 99999", network + "networkSecurityGroups/g", "2025-01-01", rule(`{"destinationPortRange":"99999"}`), "SecurityRuleInvalidPortRange"},
		{"rule of priority 99", network + "networkSecurityGroups/g", "2025-01-01", rule(`{"priority":99}`), "SecurityRuleInvalidPriority"},
		{"rule that perhaps allows", network + "networkSecurityGroups/g", "2025-01-01", rule(`{"access":"Maybe"}`), "SecurityRuleInvalidAccess"},
		{"rule from nowhere", network + "networkSecurityGroups/g", "2025-01-01", rule(`{"sourceAddressPrefix":""}`), "SecurityRuleInvalidSourceAddressPrefix"},
		{"zone of one label", network + "privateDnsZones/internal", "2024-06-01", `{"location":"global"}`, "BadRequest"},
		{"zone in a region", network + "privateDnsZones/a.internal", "2024-06-01", `{"location":"eastus"}`, "LocationNotAvailableForResourceType"},
		{"link to no network", network + "privateDnsZones/sockerless-dev.internal/virtualNetworkLinks/l", "2024-06-01", `{"location":"global","properties":{"virtualNetwork":{"id":"/none"}}}`, "BadRequest"},
		{"workspace that forgets in a week", "/providers/Microsoft.OperationalInsights/workspaces/work", "2025-07-01", `{"location":"eastus","properties":{"retentionInDays":7}}`, "InvalidParameter"},
		{"account with a hyphen", storage + "st-sockerless", "2025-08-01", `{"location":"eastus","kind":"StorageV2","sku":{"name":"Standard_LRS"}}`, "AccountNameInvalid"},
		{"account without SKU", storage + "stsockerless", "2025-08-01", `{"location":"eastus","kind":"StorageV2"}`, "InvalidRequestPropertyValue"},
		{"share of no size", storage + "stsockerlessdev/fileServices/default/shares/data", "2025-08-01", `{"properties":{"shareQuota":0}}`, "InvalidRequestPropertyValue"},
		{"share in capitals", storage + "stsockerlessdev/fileServices/default/shares/Data", "2025-08-01", `{"properties":{"shareQuota":1}}`, "InvalidResourceName"},
		{"share of no account", storage + "none/fileServices/default/shares/data", "2025-08-01", `{"properties":{"shareQuota":1}}`, "ParentResourceNotFound"},
		{"registry with a hyphen", acr + "acr-sockerless", "2025-11-01", `{"location":"eastus","sku":{"name":"Basic"}}`, "InvalidResourceName"},
		{"registry of bronze", acr + "acrsockerless", "2025-11-01", `{"location":"eastus","sku":{"name":"Bronze"}}`, "InvalidSku"},
		{"environment on no subnet", app + "e", "2025-07-01", `{"location":"eastus","properties":{"vnetConfiguration":{"infrastructureSubnetId":"/none"}}}`, "ManagedEnvironmentInvalidNetworkConfiguration"},
		{"environment on another's subnet", app + "e", "2025-07-01", `{"location":"eastus","properties":{"vnetConfiguration":{"infrastructureSubnetId":"` + tf.group + network + `virtualNetworks/vnet-sockerless-dev/subnets/snet-aca"}}}`, "ManagedEnvironmentSubnetInUse"},
		{"environment without the workspace's key", app + "e", "2025-07-01", `{"location":"eastus","properties":{"appLogsConfiguration":{"destination":"log-analytics"}}}`, "LogAnalyticsConfigurationInvalid"},
		{"right of nobody", assignment, "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `7f951dda-4ed3-4680-a7ca-43fe172d538d","principalId":"22222222-2222-2222-2222-222222222222"}}`, "PrincipalNotFound"},
		{"right that is none", assignment, "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `00000000-0000-0000-0000-000000000000","principalId":"` + tf.owner.ObjectID + `"}}`, "RoleDefinitionDoesNotExist"},
		{"right of a user who is an application", assignment, "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `7f951dda-4ed3-4680-a7ca-43fe172d538d","principalId":"` + tf.owner.ObjectID + `","principalType":"User"}}`, "UnmatchedPrincipalType"},
		{"right on what is not there", acr + "none" + assignment, "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `7f951dda-4ed3-4680-a7ca-43fe172d538d","principalId":"` + tf.owner.ObjectID + `"}}`, "ResourceNotFound"},
		{"right that is there under another name", assignment, "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `b24988ac-6180-42a0-ab88-20f7382dd24c","principalId":"` + tf.answers["22222222-2222-2222-2222-222222222222"] + `"}}`, "RoleAssignmentExists"},
		{"right that changes hands", "/providers/Microsoft.Authorization/roleAssignments/a3ee0394-c20d-8178-6402-a93ee928222e", "2022-04-01", `{"properties":{"roleDefinitionId":"` + definition + `b24988ac-6180-42a0-ab88-20f7382dd24c","principalId":"` + tf.owner.ObjectID + `"}}`, "RoleAssignmentUpdateNotPermitted"},
	} {
		status, _, body := tf.call(tf.owner, "PUT", tf.group+tc.path+"?api-version="+tc.version, tc.body)
		if status < 400 || at(body, "error", "code") != tc.code {
			t.Errorf("%s: %d %v, want %s", tc.name, status, body, tc.code)
		}
	}
}

// TestProviders registers what the example of our Terraform module registers.
func TestProviders(t *testing.T) {
	t.Parallel()
	tf := newTerraformed(t)
	path := tf.world.SubscriptionID() + "/providers"
	_, _, list := tf.call(tf.owner, "GET", path+"?api-version=2022-09-01", "")
	listed := map[string]any{}
	for _, p := range list["value"].([]any) {
		listed[at(p, "namespace").(string)] = at(p, "registrationState")
	}
	for _, name := range []string{"Microsoft.App", "Microsoft.ContainerRegistry", "Microsoft.ManagedIdentity", "Microsoft.Network", "Microsoft.OperationalInsights", "Microsoft.Storage"} {
		if listed[name] != "Registered" {
			t.Errorf("%s is listed as %v", name, listed[name])
		}
		if status, _, body := tf.call(tf.owner, "POST", path+"/"+name+"/register?api-version=2022-09-01", ""); status != http.StatusOK || body["registrationState"] != "Registered" {
			t.Errorf("register %s: %d %v", name, status, body)
		}
	}
	if status, _, _ := tf.call(tf.owner, "GET", path+"/Microsoft.Nothing?api-version=2022-09-01", ""); status != http.StatusNotFound {
		t.Errorf("GET of a provider that is none: %d", status)
	}
	// The operator's roles reach no further than its group.
	if status, _, _ := tf.asOperator("POST", path+"/Microsoft.App/register?api-version=2022-09-01", ""); status != http.StatusForbidden {
		t.Errorf("the operator registers a provider: %d", status)
	}
}
