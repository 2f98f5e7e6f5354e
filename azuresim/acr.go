package azuresim

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The rights that ACR asks for.
const (
	actionPull   = "Microsoft.ContainerRegistry/registries/pull/read"
	actionPush   = "Microsoft.ContainerRegistry/registries/push/write"
	actionDelete = "Microsoft.ContainerRegistry/registries/artifacts/delete"
)

var actionOf = map[string]string{"pull": actionPull, "push": actionPush, "delete": actionDelete, "metadata_read": actionPull}

// acrTokenUser is the user name that goes with a refresh token as password in docker login.
const acrTokenUser = "00000000-0000-0000-0000-000000000000"

// acrIssuer marks the registry's own tokens; an Entra token is none of them.
const acrIssuer = "Azure Container Registry"

// Lives of ACR's tokens.
const (
	acrRefreshLife = 3 * time.Hour
	acrAccessLife  = 75 * time.Minute
)

// registryAccess is one entry of a token's access claim, and of a scope: repository:NAME:pull,push.
type registryAccess struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func parseScope(scope string) (registryAccess, bool) {
	kind, rest, ok := strings.Cut(scope, ":")
	i := strings.LastIndex(rest, ":")
	if !ok || i < 0 {
		return registryAccess{}, false
	}
	return registryAccess{Type: kind, Name: rest[:i], Actions: strings.Split(rest[i+1:], ",")}, true
}

// registryUser is who talks to the registry: an Entra principal, an account with a password, or nobody.
type registryUser struct {
	principal *Principal
	account   string
}

func (u registryUser) name() string {
	switch {
	case u.principal != nil:
		return u.principal.Name
	case u.account != "":
		return "account " + u.account
	}
	return ""
}

// may tells whether the user has the right behind an action of the distribution API.
func (g *registry) may(u registryUser, action string) bool {
	right, known := actionOf[action]
	switch {
	case !known:
		return false
	case u.principal != nil:
		return g.sim.access.allowed(u.principal.ObjectID, right, g.id)
	case u.account != "":
		return true
	}
	return g.sim.anonymous && right == actionPull
}

// refreshToken is what /oauth2/exchange hands out for the principal.
func (g *registry) refreshToken(p *Principal) (string, error) {
	if p == nil {
		return "", fmt.Errorf("cannot sign a registry token: the identity does not exist")
	}
	return g.sim.entra.sign(claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: acrIssuer, Subject: p.ClientID},
		Audience: g.name, ObjectID: p.ObjectID, Tenant: g.sim.world.Tenant, Grant: "refresh_token"}, acrRefreshLife)
}

func (g *registry) accessToken(u registryUser, access []registryAccess) (string, error) {
	c := claims{RegisteredClaims: jwt.RegisteredClaims{Issuer: acrIssuer, Subject: u.name()}, Audience: g.name,
		Account: u.account, Grant: "access_token", Access: access}
	if u.principal != nil {
		c.ObjectID = u.principal.ObjectID
	}
	return g.sim.entra.sign(c, acrAccessLife)
}

// unauthorized is ACR's 401; scope names what a token has to be asked for.
func (g *registry) unauthorized(r *http.Request, a registryAccess, problem string) error {
	challenge := fmt.Sprintf(`Bearer realm="%s/oauth2/token",service="%s"`, g.sim.baseURL(r), r.Host)
	if a.Name != "" {
		actions := a.Actions
		if slices.Contains(actions, "push") { // who pushes asks for what is there already
			actions = []string{"pull", "push"}
		}
		challenge += fmt.Sprintf(`,scope="%s:%s:%s"`, a.Type, a.Name, strings.Join(actions, ","))
	}
	if problem != "" {
		challenge += fmt.Sprintf(`,error="%s"`, problem)
	}
	return &registryError{status: http.StatusUnauthorized, code: "UNAUTHORIZED",
		message: "authentication required, visit https://aka.ms/acr/authorization for more information.",
		detail:  []any{map[string]any{"Type": a.Type, "Name": a.Name, "Action": strings.Join(a.Actions, ",")}},
		header:  http.Header{"Www-Authenticate": {challenge}}}
}

func denied() error {
	return &registryError{status: http.StatusForbidden, code: "DENIED", message: "requested access to the resource is denied"}
}

// authorize reads the request's credentials and answers who it is, if it may do what a says. An empty access asks for
// any valid credentials.
func (g *registry) authorize(r *http.Request, a registryAccess) (string, error) {
	user, granted, err := g.credentials(r, a)
	if err != nil {
		return "", err
	}
	for _, action := range a.Actions {
		if !g.may(user, action) {
			if user == (registryUser{}) {
				return "", g.unauthorized(r, a, "")
			}
			return "", denied()
		}
		if granted != nil && !covers(granted, a, action) {
			return "", g.unauthorized(r, a, "insufficient_scope")
		}
	}
	return user.name(), nil
}

// mayRead tells whether the request's credentials allow a pull from another repository, for a mount.
func (g *registry) mayRead(r *http.Request, repo string) bool {
	_, err := g.authorize(r, registryAccess{Type: "repository", Name: repo, Actions: []string{"pull"}})
	return err == nil
}

func covers(granted []registryAccess, a registryAccess, action string) bool {
	return slices.ContainsFunc(granted, func(have registryAccess) bool {
		return have.Type == a.Type && have.Name == a.Name && (slices.Contains(have.Actions, action) || slices.Contains(have.Actions, "*"))
	})
}

// credentials reads a registry token or a user and password; granted is nil for the latter, which is not scoped.
func (g *registry) credentials(r *http.Request, a registryAccess) (registryUser, []registryAccess, error) {
	header := r.Header.Get("Authorization")
	if name, password, ok := r.BasicAuth(); ok {
		u, ok := g.login(name, password)
		if !ok {
			return u, nil, g.unauthorized(r, a, "invalid_token")
		}
		return u, nil, nil
	}
	raw, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return registryUser{}, nil, g.unauthorized(r, a, "")
	}
	c, err := g.sim.entra.read(raw, acrIssuer)
	if err != nil || c.Grant != "access_token" || c.Audience != g.name {
		return registryUser{}, nil, g.unauthorized(r, a, "invalid_token")
	}
	granted := append([]registryAccess{}, c.Access...)
	if c.ObjectID != "" {
		p := g.sim.entra.byObjectID(c.ObjectID)
		if p == nil {
			return registryUser{}, nil, g.unauthorized(r, a, "invalid_token")
		}
		return registryUser{principal: p}, granted, nil
	}
	return registryUser{account: c.Account}, granted, nil
}

// login checks a user name and password: an account's, a service principal's, or a refresh token with its fixed user.
func (g *registry) login(name, password string) (registryUser, bool) {
	if name == acrTokenUser {
		p := g.readRefresh(password)
		return registryUser{principal: p}, p != nil
	}
	if want, ok := g.sim.accounts[name]; ok {
		return registryUser{account: name}, subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
	}
	p := g.sim.entra.byClientID(name)
	if p == nil || p.Secret == "" || subtle.ConstantTimeCompare([]byte(p.Secret), []byte(password)) != 1 {
		return registryUser{}, false
	}
	return registryUser{principal: p}, true
}

func (g *registry) readRefresh(raw string) *Principal {
	c, err := g.sim.entra.read(raw, acrIssuer)
	if err != nil || c.Grant != "refresh_token" || c.Audience != g.name {
		return nil
	}
	return g.sim.entra.byObjectID(c.ObjectID)
}

func acrTokenError(status int, code, message string) error {
	return &registryError{status: status, code: code, message: message}
}

// exchange answers POST /oauth2/exchange: an Entra token becomes a refresh token of the registry.
func (g *registry) exchange(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return acrTokenError(http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
	if err := parseForm(w, r); err != nil {
		return acrTokenError(http.StatusBadRequest, "BAD_REQUEST", "the request body could not be read")
	}
	if gt := r.PostForm.Get("grant_type"); gt != "access_token" {
		return acrTokenError(http.StatusBadRequest, "UNSUPPORTED", "grant_type '"+gt+"' is not supported")
	}
	if err := g.checkService(r); err != nil {
		return err
	}
	if t := r.PostForm.Get("tenant"); t != "" && !g.sim.knownTenant(t) {
		return acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "the tenant '"+t+"' is not the registry's")
	}
	c, err := g.sim.entra.read(r.PostForm.Get("access_token"), g.sim.entra.issuer())
	if err != nil {
		return acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "the access token is invalid: "+err.Error())
	}
	if !c.hasAudience(audienceRegistry, audienceARM, legacyARM) && !g.sim.ownURL(r, c.Audience) {
		return acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "the access token's audience '"+c.Audience+"' is not "+audienceRegistry)
	}
	p := g.sim.entra.byObjectID(c.ObjectID)
	if p == nil {
		return acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "the access token's principal does not exist")
	}
	may := false
	for action := range actionOf {
		may = may || g.may(registryUser{principal: p}, action)
	}
	if !may {
		// az acr login tells it as CONNECTIVITY_REFRESH_TOKEN_ERROR: access to the registry was denied.
		return acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
	}
	token, err := g.refreshToken(p)
	if err != nil {
		return err
	}
	noteIdentity(r.Context(), p.Name)
	writeJSON(w, http.StatusOK, map[string]string{"refresh_token": token})
	return nil
}

// checkService refuses tokens for another registry.
func (g *registry) checkService(r *http.Request) error {
	service := r.Form.Get("service")
	if service == r.Host || g.sim.ownHost(service) {
		return nil
	}
	return acrTokenError(http.StatusBadRequest, "BAD_REQUEST", "service '"+service+"' is not this registry")
}

// token answers /oauth2/token: an access token for the scopes to which the user has a right. GET is docker's way, with
// user and password; POST takes a refresh token or a password.
func (g *registry) token(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return acrTokenError(http.StatusMethodNotAllowed, "UNSUPPORTED", "the operation is unsupported")
	}
	if err := parseForm(w, r); err != nil {
		return acrTokenError(http.StatusBadRequest, "BAD_REQUEST", "the request body could not be read")
	}
	if err := g.checkService(r); err != nil {
		return err
	}
	user, err := g.tokenUser(r)
	if err != nil {
		return err
	}
	var access []registryAccess
	for _, scopes := range r.Form["scope"] {
		for scope := range strings.FieldsSeq(scopes) {
			asked, ok := parseScope(scope)
			if !ok {
				return acrTokenError(http.StatusBadRequest, "BAD_REQUEST", "scope '"+scope+"' is invalid")
			}
			granted := registryAccess{Type: asked.Type, Name: asked.Name, Actions: []string{}}
			for _, action := range asked.Actions {
				if action == "*" {
					granted.Actions = append(granted.Actions, slices.DeleteFunc([]string{"pull", "push", "delete"}, func(a string) bool { return !g.may(user, a) })...)
				} else if g.may(user, action) {
					granted.Actions = append(granted.Actions, action)
				}
			}
			access = append(access, granted)
		}
	}
	token, err := g.accessToken(user, access)
	if err != nil {
		return err
	}
	noteIdentity(r.Context(), user.name())
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": int(acrAccessLife.Seconds())})
	return nil
}

func (g *registry) tokenUser(r *http.Request) (registryUser, error) {
	refused := acrTokenError(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
	if name, password, ok := r.BasicAuth(); ok {
		if u, ok := g.login(name, password); ok {
			return u, nil
		}
		return registryUser{}, refused
	}
	anonymous := func() (registryUser, error) {
		if g.sim.anonymous {
			return registryUser{}, nil
		}
		return registryUser{}, refused
	}
	if r.Method == http.MethodGet {
		return anonymous()
	}
	switch gt := r.PostForm.Get("grant_type"); gt {
	case "refresh_token":
		if p := g.readRefresh(r.PostForm.Get("refresh_token")); p != nil {
			return registryUser{principal: p}, nil
		}
		return registryUser{}, refused
	case "password":
		if r.PostForm.Get("username") == "" { // the SDK's way to ask for an anonymous token
			return anonymous()
		}
		if u, ok := g.login(r.PostForm.Get("username"), r.PostForm.Get("password")); ok {
			return u, nil
		}
		return registryUser{}, refused
	default:
		return registryUser{}, acrTokenError(http.StatusBadRequest, "UNSUPPORTED", "grant_type '"+gt+"' is not supported")
	}
}
