package azuresim

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Audiences of the Azure services that the simulator plays.
const (
	audienceARM      = "https://management.azure.com"
	audienceLogs     = "https://api.loganalytics.io"
	audienceRegistry = "https://containerregistry.azure.net"
	audienceStorage  = "https://storage.azure.com"
)

// legacyARM is the audience that older libraries ask for; Azure accepts both.
const legacyARM = "https://management.core.windows.net"

const tokenLife = time.Hour

// Principal is an identity that can have tokens: a service principal (with Secret) or a managed identity (with ResourceID).
type Principal struct {
	Name       string
	ObjectID   string // oid: what role assignments name
	ClientID   string // appid
	Secret     string // of a service principal
	ResourceID string // ARM id of a user-assigned managed identity

	expired bool // the secret
}

// entra is the directory: it knows the principals, and signs and reads their tokens.
type entra struct {
	tenant string
	key    *rsa.PrivateKey
	now    func() time.Time

	mu         sync.RWMutex
	principals []*Principal
	headers    map[string]msiGrant // X-IDENTITY-HEADER value to what it may have
}

// msiGrant is what one container (or the operator's machine) may get from the managed identity endpoint.
type msiGrant struct {
	identities []*Principal
	fallback   *Principal // answered when the request names none; nil: it must name one
}

func (e *entra) add(p *Principal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.principals = append(e.principals, p)
}

func (e *entra) byClientID(id string) *Principal {
	return e.find(func(p *Principal) bool { return strings.EqualFold(p.ClientID, id) })
}

func (e *entra) byResourceID(id string) *Principal {
	return e.find(func(p *Principal) bool { return p.ResourceID != "" && strings.EqualFold(p.ResourceID, id) })
}

func (e *entra) byObjectID(id string) *Principal {
	return e.find(func(p *Principal) bool { return strings.EqualFold(p.ObjectID, id) })
}

func (e *entra) secretExpired(p *Principal) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return p.expired
}

func (e *entra) find(match func(*Principal) bool) *Principal {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, p := range e.principals {
		if match(p) {
			return p
		}
	}
	return nil
}

// grantHeader makes a random X-IDENTITY-HEADER value that stands for g until revokeHeader.
func (e *entra) grantHeader(g msiGrant) string {
	header := randomHex(16)
	e.setHeader(header, g)
	return header
}

func (e *entra) setHeader(header string, g msiGrant) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.headers[header] = g
}

func (e *entra) revokeHeader(header string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.headers, header)
}

func (e *entra) issuer() string { return "https://sts.windows.net/" + e.tenant + "/" }

// claims of every token that the simulator signs; Access and Grant are a registry's own.
type claims struct {
	jwt.RegisteredClaims
	Audience string           `json:"aud,omitempty"` // one string, as Entra writes it, in place of the embedded list
	ObjectID string           `json:"oid,omitempty"`
	AppID    string           `json:"appid,omitempty"`
	Tenant   string           `json:"tid,omitempty"`
	Version  string           `json:"ver,omitempty"`
	IDType   string           `json:"idtyp,omitempty"`
	MIRID    string           `json:"xms_mirid,omitempty"`
	Grant    string           `json:"grant_type,omitempty"`
	Account  string           `json:"account,omitempty"`
	Access   []registryAccess `json:"access,omitempty"`
}

func (e *entra) sign(c claims, life time.Duration) (string, error) {
	now := e.now()
	c.IssuedAt, c.NotBefore = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(-time.Minute))
	c.ExpiresAt = jwt.NewNumericDate(now.Add(life))
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, c)
	t.Header["kid"] = keyID
	signed, err := t.SignedString(e.key)
	if err != nil {
		return "", fmt.Errorf("cannot sign a token: %w", err)
	}
	return signed, nil
}

const keyID = "azuresim"

// token signs an access token of p for audience.
func (e *entra) token(p *Principal, audience string) (string, error) {
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{Issuer: e.issuer(), Subject: p.ObjectID},
		Audience:         audience, ObjectID: p.ObjectID, AppID: p.ClientID, Tenant: e.tenant, Version: "1.0", IDType: "app", MIRID: p.ResourceID,
	}
	return e.sign(c, tokenLife)
}

// read verifies signature, issuer and lifetime. The audience is for the caller to check.
func (e *entra) read(raw, issuer string) (*claims, error) {
	var c claims
	_, err := jwt.ParseWithClaims(raw, &c, func(*jwt.Token) (any, error) { return &e.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(issuer), jwt.WithExpirationRequired(), jwt.WithTimeFunc(e.now))
	if err != nil {
		return &c, err
	}
	return &c, nil
}

// hasAudience tells whether c is meant for one of the audiences, a trailing slash apart.
func (c *claims) hasAudience(accepted ...string) bool {
	return slices.ContainsFunc(accepted, func(want string) bool {
		return strings.TrimSuffix(c.Audience, "/") == strings.TrimSuffix(want, "/")
	})
}

// serveLogin answers what the login endpoint serves: discovery, keys and the client_credentials grant.
func (s *Simulator) serveLogin(w http.ResponseWriter, r *http.Request, tenant, rest string) {
	base := s.baseURL(r) + "/" + tenant
	switch {
	case r.Method == http.MethodGet && rest == "v2.0/.well-known/openid-configuration":
		if !s.knownTenant(tenant) {
			writeEntraError(w, http.StatusBadRequest, "invalid_tenant", 90002, "Tenant '"+tenant+"' not found.")
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"jwks_uri": base + "/discovery/v2.0/keys", "issuer": s.baseURL(r) + "/" + s.world.Tenant + "/v2.0",
			"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
			"response_types_supported":              []string{"code"}, "subject_types_supported": []string{"pairwise"},
			"id_token_signing_alg_values_supported": []string{"RS256"}, "tenant_region_scope": "NA",
		})
	case r.Method == http.MethodGet && rest == "discovery/v2.0/keys":
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{s.entra.jwk()}})
	case rest == "oauth2/v2.0/token":
		if r.Method != http.MethodPost {
			writeEntraError(w, http.StatusMethodNotAllowed, "invalid_request", 900561, "The endpoint only accepts POST requests. Received a "+r.Method+" request.")
			return
		}
		s.serveClientCredentials(w, r, tenant)
	default:
		writeEntraError(w, http.StatusNotFound, "invalid_request", 900000, "There is nothing at this address.")
	}
}

func (s *Simulator) knownTenant(tenant string) bool { return strings.EqualFold(tenant, s.world.Tenant) }

func (s *Simulator) serveClientCredentials(w http.ResponseWriter, r *http.Request, tenant string) {
	if err := parseForm(w, r); err != nil {
		writeEntraError(w, http.StatusBadRequest, "invalid_request", 900144, "The request body could not be read: "+err.Error())
		return
	}
	if !s.knownTenant(tenant) {
		writeEntraError(w, http.StatusBadRequest, "invalid_request", 90002, "Tenant '"+tenant+"' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.")
		return
	}
	if grant := r.PostForm.Get("grant_type"); grant != "client_credentials" {
		writeEntraError(w, http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '"+grant+"'.")
		return
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok {
		id, secret = user, pass
	}
	p := s.entra.byClientID(id)
	if p == nil {
		writeEntraError(w, http.StatusBadRequest, "unauthorized_client", 700016, "Application with identifier '"+id+"' was not found in the directory '"+tenant+"'.")
		return
	}
	if p.Secret == "" || subtle.ConstantTimeCompare([]byte(p.Secret), []byte(secret)) != 1 {
		writeEntraError(w, http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '"+id+"'.")
		return
	}
	if s.entra.secretExpired(p) {
		writeEntraError(w, http.StatusUnauthorized, "invalid_client", 7000222, "The provided client secret keys for app '"+id+"' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.")
		return
	}
	scope, ok := resourceOf(r.PostForm.Get("scope"))
	if !ok {
		writeEntraError(w, http.StatusBadRequest, "invalid_scope", 1002012, "The provided value for scope "+r.PostForm.Get("scope")+" is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).")
		return
	}
	if !s.knownResource(r, scope) {
		writeEntraError(w, http.StatusBadRequest, "invalid_resource", 500011, "The resource principal named "+scope+" was not found in the tenant named "+tenant+".")
		return
	}
	token, err := s.entra.token(p, scope)
	if err != nil {
		writeEntraError(w, http.StatusInternalServerError, "server_error", 90033, err.Error())
		return
	}
	seconds := int(tokenLife.Seconds())
	writeJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})
}

// resourceOf is the one resource that a scope asks for. Microsoft's libraries add OpenID's scopes, which mean nothing here.
func resourceOf(scope string) (string, bool) {
	resource, n := "", 0
	for word := range strings.FieldsSeq(scope) {
		if word == "openid" || word == "offline_access" || word == "profile" {
			continue
		}
		var ok bool
		if resource, ok = strings.CutSuffix(word, "/.default"); !ok {
			return "", false
		}
		n++
	}
	return resource, n == 1
}

// knownResource tells whether tokens may be had for the resource: one of Azure's, or an address of this simulator,
// which stands for them all.
func (s *Simulator) knownResource(r *http.Request, resource string) bool {
	resource = strings.TrimSuffix(resource, "/")
	for _, known := range []string{audienceARM, legacyARM, audienceLogs, audienceRegistry, audienceStorage} {
		if resource == known {
			return true
		}
	}
	return s.ownURL(r, resource)
}

func (e *entra) jwk() map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID,
		"n": enc(e.key.N.Bytes()), "e": enc(big.NewInt(int64(e.key.E)).Bytes())}
}

// serveManagedIdentity answers the protocol of IDENTITY_ENDPOINT (api-version 2019-08-01), which App Service and
// Container Apps share.
func (s *Simulator) serveManagedIdentity(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	fail := func(status int, message string) {
		writeJSON(w, status, map[string]any{"statusCode": status, "message": message})
	}
	if r.Method != http.MethodGet {
		fail(http.StatusMethodNotAllowed, "The managed identity endpoint answers GET only.")
		return
	}
	if v := q.Get("api-version"); v != "2019-08-01" {
		fail(http.StatusBadRequest, "The api-version '"+v+"' is not supported; use 2019-08-01.")
		return
	}
	s.entra.mu.RLock()
	grant, ok := s.entra.headers[r.Header.Get("X-Identity-Header")]
	s.entra.mu.RUnlock()
	if !ok {
		fail(http.StatusUnauthorized, "The X-IDENTITY-HEADER is missing or wrong.")
		return
	}
	resource := q.Get("resource")
	if resource == "" || !s.knownResource(r, resource) {
		fail(http.StatusBadRequest, "The resource '"+resource+"' was not found in the tenant.")
		return
	}
	p, problem := grant.pick(q.Get("client_id"), q.Get("mi_res_id"), q.Get("principal_id"))
	if p == nil {
		fail(http.StatusBadRequest, problem)
		return
	}
	token, err := s.entra.token(p, resource)
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	noteIdentity(r.Context(), p.Name)
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer", "resource": resource,
		"client_id": p.ClientID, "expires_on": strconv.FormatInt(s.entra.now().Add(tokenLife).Unix(), 10)})
}

// pick finds the identity that a request names, or says, in Azure's words, why there is none.
func (g msiGrant) pick(clientID, resourceID, objectID string) (p *Principal, problem string) {
	if clientID == "" && resourceID == "" && objectID == "" {
		return g.fallback, "Unable to load the proper Managed Identity."
	}
	for _, p := range g.identities {
		if strings.EqualFold(p.ClientID, clientID) || strings.EqualFold(p.ObjectID, objectID) ||
			resourceID != "" && strings.EqualFold(p.ResourceID, resourceID) {
			return p, ""
		}
	}
	return nil, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
}

func writeEntraError(w http.ResponseWriter, status int, code string, number int, message string) {
	writeJSON(w, status, map[string]any{"error": code, "error_description": fmt.Sprintf("AADSTS%d: %s", number, message),
		"error_codes": []int{number}, "timestamp": time.Now().UTC().Format("2006-01-02 15:04:05Z"),
		"trace_id": newGUID(), "correlation_id": newGUID()})
}

// parseForm reads a small form body.
func parseForm(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	return r.ParseForm()
}

func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return fmt.Sprintf("%x", b)
}

type identityNote struct{ name string }

type identityNoteKey struct{}

// noteIdentity tells the request log who made the request of ctx.
func noteIdentity(ctx context.Context, name string) {
	if n, ok := ctx.Value(identityNoteKey{}).(*identityNote); ok {
		n.name = name
	}
}
