package azuresim

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	"github.com/golang-jwt/jwt/v5"
)

func TestClientSecretThroughAzidentity(t *testing.T) {
	s := newStage(t)
	op := s.sim.Operator()
	options := s.armOptions().ClientOptions
	cred, err := azidentity.NewClientSecretCredential(s.world.Tenant, op.ClientID, op.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := armappcontainers.NewJobsClient(s.world.Subscription, cred, s.armOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.NewListByResourceGroupPager(s.world.ResourceGroup, nil).NextPage(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong, err := azidentity.NewClientSecretCredential(s.world.Tenant, op.ClientID, "wrong",
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrong.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audienceARM + "/.default"}})
	if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("a wrong secret: %v", err)
	}
}

func TestManagedIdentityThroughAzidentity(t *testing.T) {
	s := newStage(t)
	t.Setenv("IDENTITY_ENDPOINT", s.srv.URL+"/msi/token")
	t.Setenv("IDENTITY_HEADER", s.sim.OperatorHeader())
	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: s.armOptions().ClientOptions})
	if err != nil {
		t.Fatal(err)
	}
	token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{audienceARM + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.send("GET", s.srv.URL+s.jobPath(""), "Bearer "+token.Token, ""); status == http.StatusUnauthorized {
		t.Errorf("the token is refused: %v", body)
	}
	if time.Until(token.ExpiresOn) < 50*time.Minute {
		t.Errorf("the token expires on %v", token.ExpiresOn)
	}
}

func TestTokenEndpointRefusals(t *testing.T) {
	s := newStage(t)
	op := s.sim.Operator()
	good := url.Values{"grant_type": {"client_credentials"}, "client_id": {op.ClientID}, "client_secret": {op.Secret}, "scope": {audienceARM + "/.default"}}
	for _, tc := range []struct {
		name, tenant, field, value, code string
	}{
		{"another tenant", "00000000-0000-0000-0000-000000000000", "", "", "AADSTS90002"},
		{"another grant", s.world.Tenant, "grant_type", "password", "AADSTS70003"},
		{"unknown application", s.world.Tenant, "client_id", "nobody", "AADSTS700016"},
		{"wrong secret", s.world.Tenant, "client_secret", "x", "AADSTS7000215"},
		{"scope without .default", s.world.Tenant, "scope", audienceARM, "AADSTS1002012"},
		{"unknown resource", s.world.Tenant, "scope", "https://example.com/.default", "AADSTS500011"},
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		if tc.field != "" {
			form.Set(tc.field, tc.value)
		}
		resp, err := s.client.PostForm(s.srv.URL+"/"+tc.tenant+"/oauth2/v2.0/token", form)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp)
		if resp.StatusCode < 400 || !strings.Contains(body, tc.code+":") {
			t.Errorf("%s: %d %s", tc.name, resp.StatusCode, body)
		}
	}
	resp, err := s.client.PostForm(s.srv.URL+"//"+s.world.Tenant+"/oauth2/v2.0/token", good) // as Terraform asks
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, resp); resp.StatusCode != http.StatusOK || !strings.Contains(body, "access_token") {
		t.Errorf("answer %d %s", resp.StatusCode, body)
	}
}

func TestARMChecksTheToken(t *testing.T) {
	s := newStage(t)
	op := s.sim.Operator()
	url := s.srv.URL + s.jobPath("web")
	claim := func(change func(*claims), life time.Duration) string {
		c := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: s.sim.entra.issuer()}, Audience: audienceARM, ObjectID: op.ObjectID}
		change(&c)
		token, err := s.sim.entra.sign(c, life)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims{Audience: audienceARM, ObjectID: op.ObjectID}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, authorization, code string }{
		{"no token", "", "AuthenticationFailed"},
		{"nonsense", "Bearer nonsense", "InvalidAuthenticationToken"},
		{"unsigned", "Bearer " + unsigned, "InvalidAuthenticationToken"},
		{"expired", claim(func(*claims) {}, -time.Minute), "ExpiredAuthenticationToken"},
		{"for Log Analytics", claim(func(c *claims) { c.Audience = audienceLogs }, time.Hour), "InvalidAuthenticationTokenAudience"},
		{"a registry's", claim(func(c *claims) { c.Issuer = acrIssuer }, time.Hour), "InvalidAuthenticationToken"},
		{"of nobody", claim(func(c *claims) { c.ObjectID = newGUID() }, time.Hour), "InvalidAuthenticationToken"},
	} {
		status, header, body := s.send("GET", url, tc.authorization, "")
		if status != http.StatusUnauthorized || errorCode(body) != tc.code || header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: %d %v", tc.name, status, body)
		}
	}
	if status, _, body := s.send("GET", url, claim(func(c *claims) { c.Audience = legacyARM + "/" }, time.Hour), ""); status != http.StatusNotFound {
		t.Errorf("the older audience: %d %v", status, body)
	}
}

func TestRemovedRightsAreMissed(t *testing.T) {
	s := newStage(t)
	s.putSample("web")
	op := s.sim.Operator()
	for _, tc := range []struct {
		role, scope, method, path, body, action string
	}{
		{"Container Apps Jobs Contributor", s.world.GroupID(), "POST", s.jobPath("web/start"), "", "Microsoft.App/jobs/start/action"},
		{"Container Apps ManagedEnvironments Contributor", s.world.EnvironmentID(), "PUT", s.jobPath("web"), s.sampleJSON(nil), "Microsoft.App/managedEnvironments/join/action"},
		{"Managed Identity Operator", s.world.PullIdentityID(), "PUT", s.jobPath("web"), s.sampleJSON(nil), "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"},
	} {
		as := Assignment{op.ObjectID, tc.role, tc.scope}
		if !s.sim.Unassign(as) {
			t.Fatalf("%s is not assigned", tc.role)
		}
		status, _, body := s.asOperator(tc.method, tc.path, tc.body)
		if status != http.StatusForbidden || !strings.Contains(errorMessage(body), "'"+tc.action+"'") || !strings.Contains(errorMessage(body), op.ObjectID) {
			t.Errorf("without %s: %d %v", tc.role, status, body)
		}
		if err := s.sim.Assign(as); err != nil {
			t.Fatal(err)
		}
		if status, _, body := s.asOperator(tc.method, tc.path, tc.body); status >= 300 {
			t.Errorf("with %s again: %d %v", tc.role, status, body)
		}
	}
	if err := s.sim.Assign(Assignment{op.ObjectID, "King", s.world.GroupID()}); err == nil {
		t.Error("an unknown role is assigned")
	}
}

func TestRoleActions(t *testing.T) {
	for _, tc := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "Microsoft.App/jobs/write", true},
		{"*/read", "Microsoft.App/jobs/read", true},
		{"*/read", "Microsoft.App/jobs/write", false},
		{"Microsoft.App/jobs/*", "microsoft.app/JOBS/start/action", true},
		{"Microsoft.App/jobs/*/action", "Microsoft.App/jobs/start/action", true},
		{"Microsoft.App/jobs/*/action", "Microsoft.App/jobs/write", false},
		{"Microsoft.App/jobs/read", "Microsoft.App/jobs/read/more", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
	} {
		if got := matchAction(tc.pattern, tc.action); got != tc.want {
			t.Errorf("matchAction(%q, %q) = %v", tc.pattern, tc.action, got)
		}
	}
	if within("/subscriptions/s/resourceGroups/rg2", "/subscriptions/s/resourceGroups/rg") {
		t.Error("a name that starts alike is within")
	}
}

// TestIdentityLifecycle proves who may have tokens inside a replica.
func TestIdentityLifecycle(t *testing.T) {
	for _, tc := range []struct {
		lifecycle  string
		init, main bool
	}{{"None", false, false}, {"Init", true, false}, {"Main", false, true}, {"All", true, true}, {"", true, true}} {
		t.Run("lifecycle "+tc.lifecycle, func(t *testing.T) {
			s := newStage(t)
			status, _, body := s.asOperator("PUT", s.jobPath("web"), s.sampleJSON(func(j map[string]any) {
				if tc.lifecycle == "" {
					set(j, nil, "properties", "configuration", "identitySettings")
				} else {
					set(j, tc.lifecycle, "properties", "configuration", "identitySettings", 0, "lifecycle")
				}
			}))
			if status != http.StatusCreated {
				t.Fatalf("PUT answers %d %v", status, body)
			}
			e := s.start("web")
			r := s.replica(0)
			for kind, c := range map[string]struct {
				spec ContainerSpec
				want bool
			}{"init": {r.spec.Init[0], tc.init}, "main": {r.spec.Containers[0], tc.main}} {
				env := map[string]string{}
				for _, e := range c.spec.Env {
					k, v, _ := strings.Cut(e, "=")
					env[k] = v
				}
				if (env["IDENTITY_ENDPOINT"] != "") != c.want || (env["MSI_SECRET"] != "") != c.want {
					t.Errorf("%s container: %v", kind, env)
				}
				if !c.want {
					continue
				}
				if !strings.HasPrefix(env["IDENTITY_ENDPOINT"], "http://host.azuresim.internal:") {
					t.Errorf("endpoint %s", env["IDENTITY_ENDPOINT"])
				}
				if status := s.identityToken(env["IDENTITY_HEADER"], "mi_res_id="+url.QueryEscape(s.world.PullIdentityID())); status != http.StatusOK {
					t.Errorf("%s container: the identity's token: %d", kind, status)
				}
				if status := s.identityToken(env["IDENTITY_HEADER"], "client_id="+s.sim.Operator().ClientID); status != http.StatusBadRequest {
					t.Errorf("%s container: another identity's token: %d", kind, status)
				}
				if status := s.identityToken(env["IDENTITY_HEADER"], ""); status != http.StatusBadRequest {
					t.Errorf("%s container: no identity named: %d", kind, status)
				}
			}
			header := slices.Concat(r.spec.Init[0].Env, r.spec.Containers[0].Env)
			r.exit(0)
			s.awaitStatus("web", e, "Succeeded")
			for _, h := range header {
				if value, ok := strings.CutPrefix(h, "IDENTITY_HEADER="); ok {
					if status := s.identityToken(value, "mi_res_id="+url.QueryEscape(s.world.PullIdentityID())); status != http.StatusUnauthorized {
						t.Errorf("the header of a replica that is gone: %d", status)
					}
				}
			}
		})
	}
}

// identityToken asks the managed identity endpoint for a token of ARM.
func (s *stage) identityToken(header, selector string) int {
	s.t.Helper()
	u := fmt.Sprintf("%s/msi/token?api-version=2019-08-01&resource=%s&%s", s.srv.URL, url.QueryEscape(audienceARM), selector)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, u, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Identity-Header", header)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	readAll(s.t, resp)
	return resp.StatusCode
}
