package azuresim

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestDataPlanes: what ARM makes has content and rights of its own. The identity of the recording is a Contributor of its group;
// the operator has rights on what was there before.
func TestDataPlanes(t *testing.T) {
	t.Parallel()
	tf := newTerraformed(t)
	tf.replay()
	identity := *tf.sim.entra.byObjectID(tf.answers["22222222-2222-2222-2222-222222222222"])
	operator := tf.sim.Operator()
	get := func(path, version string) map[string]any {
		t.Helper()
		status, _, body := tf.call(tf.owner, "GET", tf.group+path+"?api-version="+version, "")
		if status != http.StatusOK {
			t.Fatalf("GET %s: %d %v", path, status, body)
		}
		return body
	}
	token := func(who Principal, audience string) string {
		t.Helper()
		signed, err := tf.sim.Token(who, audience)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}

	t.Run("registries", func(t *testing.T) {
		const path = "/providers/Microsoft.ContainerRegistry/registries/acrsockerlessdev"
		server := at(get(path, "2025-11-01"), "properties", "loginServer").(string)
		if server == tf.srv.LoginServer {
			t.Fatal("two registries have one login server")
		}
		exchange := func(who Principal) int {
			t.Helper()
			status, _, body := tf.send("POST", "http://"+server+"/oauth2/exchange", "", "")
			if status != http.StatusBadRequest {
				t.Errorf("an exchange of nothing: %d %v", status, body)
			}
			resp, err := tf.client.PostForm("http://"+server+"/oauth2/exchange", url.Values{"grant_type": {"access_token"}, "service": {server}, "access_token": {token(who, audienceRegistry)}})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		if status := exchange(identity); status != http.StatusOK {
			t.Errorf("who has a right cannot sign in: %d", status)
		}
		if status := exchange(operator); status != http.StatusUnauthorized {
			t.Errorf("who has no right signs in: %d", status)
		}
		login := func(who Principal) []remote.Option {
			t.Helper()
			refresh, err := tf.sim.registryOf(server).refreshToken(&who)
			if err != nil {
				t.Fatal(err)
			}
			return tf.registryOptions(authn.FromConfig(authn.AuthConfig{Username: acrTokenUser, Password: refresh}))
		}
		ref, err := name.ParseReference(server + "/app:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, randomImage(t), login(operator)...); err == nil {
			t.Error("rights on one registry are rights on another")
		}
		mine := login(identity)
		if err := remote.Write(ref, randomImage(t), mine...); err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Head(tf.ref("app:1"), tf.registryOptions(tf.login(operator))...); err == nil {
			t.Error("two registries have one content")
		}
		if status, _, _ := tf.send("GET", "http://"+server+"/subscriptions?api-version=2022-09-01", "", ""); status != http.StatusNotFound {
			t.Errorf("a registry answers for Resource Manager: %d", status)
		}
		if status, _, body := tf.call(tf.owner, "DELETE", tf.group+path+"?api-version=2025-11-01", ""); status != http.StatusOK {
			t.Fatalf("DELETE: %d %v", status, body)
		}
		if _, err := remote.Head(ref, mine...); err == nil {
			t.Error("a registry outlives its resource")
		}
	})

	t.Run("workspaces", func(t *testing.T) {
		path := "/v1/workspaces/" + tf.answers["11111111-1111-1111-1111-111111111111"] + "/query"
		for name, tc := range map[string]struct {
			who  Principal
			path string
			want int
		}{
			"of the group":          {identity, path, http.StatusBadRequest}, // there is no table yet
			"by its ARM id":         {identity, "/v1" + tf.group + "/providers/Microsoft.OperationalInsights/workspaces/log-sockerless-dev/query", http.StatusBadRequest},
			"of the group, foreign": {operator, path, http.StatusForbidden},
			"that was there":        {identity, "/v1/workspaces/" + tf.world.WorkspaceCustomerID + "/query", http.StatusForbidden},
			"that is none":          {identity, "/v1/workspaces/" + newGUID() + "/query", http.StatusNotFound},
		} {
			status, _, body := tf.send("POST", tf.srv.URL+tc.path, "Bearer "+token(tc.who, audienceLogs), `{"query":"`+consoleTable+`"}`)
			if status != tc.want {
				t.Errorf("%s: %d %v, want %d", name, status, body, tc.want)
			}
		}
		tf.sim.logs.console(consoleRow{workspace: tf.answers["11111111-1111-1111-1111-111111111111"], line: "hello"})
		if status, _, body := tf.send("POST", tf.srv.URL+path, "Bearer "+token(identity, audienceLogs), `{"query":"`+consoleTable+` | project Log_s"}`); status != http.StatusOK || rows(body)[0][0] != "hello" {
			t.Errorf("a row of the workspace: %d %v", status, body)
		}
		if status, body := tf.query(consoleTable, ""); status != http.StatusBadRequest {
			t.Errorf("another workspace has it too: %d %v", status, body)
		}
	})

	t.Run("tables", func(t *testing.T) {
		scope := tf.group + "/providers/Microsoft.Storage/storageAccounts/stsockerlessdev"
		ask := func(who Principal, host, path, body string) int {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), "POST", tf.srv.URL+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			req.Header.Set("Authorization", "Bearer "+token(who, audienceStorage))
			req.Header.Set("x-ms-version", "2019-02-02")
			resp, err := tf.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			return resp.StatusCode
		}
		const entity = `{"PartitionKey":"p","RowKey":"r"}`
		if got := ask(operator, "", "/stsockerlessdev/Tables", `{"TableName":"state"}`); got != http.StatusForbidden {
			t.Errorf("rights on one account are rights on another: %d", got)
		}
		if got := ask(identity, "", "/stsockerlessdev/Tables", `{"TableName":"state"}`); got != http.StatusCreated {
			t.Errorf("a Contributor makes a table: %d", got)
		}
		if got := ask(identity, "", "/stsockerlessdev/state", entity); got != http.StatusForbidden {
			t.Errorf("a Contributor writes an entity: %d", got)
		}
		if err := tf.sim.Assign(Assignment{identity.ObjectID, tableContributor, scope}); err != nil {
			t.Fatal(err)
		}
		if got := ask(identity, "stsockerlessdev.table."+storageSuffix, "/state", entity); got != http.StatusCreated {
			t.Errorf("who has the right writes an entity, by the account's name: %d", got)
		}
		if got := ask(operator, "", "/"+tf.world.StorageAccount+"/Tables", `{"TableName":"state"}`); got != http.StatusCreated {
			t.Errorf("two accounts have one table: %d", got)
		}
	})
}

// TestMachine: a machine has the tokens of its identity, and of no other.
func TestMachine(t *testing.T) {
	s := newStage(t)
	identity := s.sim.AddIdentity("backend")
	status, _, body := s.send("POST", s.srv.URL+"/_sim/machines", "", `{"identity":"`+identity.ResourceID+`"}`)
	if status != http.StatusOK {
		t.Fatalf("%d %v", status, body)
	}
	if body["IDENTITY_ENDPOINT"] != s.srv.URL+"/msi/token" {
		t.Errorf("its endpoint is %v", body["IDENTITY_ENDPOINT"])
	}
	if status := s.identityToken(body["IDENTITY_HEADER"].(string), ""); status != http.StatusOK {
		t.Errorf("its token: %d", status)
	}
	if status := s.identityToken(body["IDENTITY_HEADER"].(string), "mi_res_id="+url.QueryEscape(s.world.PullIdentityID())); status != http.StatusBadRequest {
		t.Errorf("another's token: %d", status)
	}
	if status, _, body := s.send("POST", s.srv.URL+"/_sim/machines", "", `{"identity":"/none"}`); status != http.StatusBadRequest {
		t.Errorf("a machine of nobody's: %d %v", status, body)
	}
	made, _, principal := s.send("POST", s.srv.URL+"/_sim/principals", "", `{"name":"owner"}`)
	if made != http.StatusOK || s.sim.entra.byObjectID(principal["ObjectID"].(string)) == nil {
		t.Errorf("an application: %d %v", made, principal)
	}
	for who, want := range map[Principal]int{s.sim.Operator(): 1, identity: 0} {
		_, _, list := s.call(who, "GET", "/subscriptions?api-version=2022-12-01", "")
		if got := len(list["value"].([]any)); got != want {
			t.Errorf("%s sees %d subscriptions", who.Name, got)
		}
	}
}
