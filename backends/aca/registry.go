package aca

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	"github.com/google/go-containerregistry/pkg/authn"
)

// Registry is the configured container registry. It is an authn.Keychain that knows this one only.
//
// ACR takes no Entra token as it is: that is exchanged for a refresh token, which is a password then.
type Registry struct {
	server string // empty: none is configured
	azure  *azure

	mu      sync.Mutex
	refresh string
	until   time.Time
}

// Server returns the login server, or "" if no registry is configured.
func (r *Registry) Server() string { return r.server }

// Insecure says whether a registry is reached by plain http: one on loopback.
func (r *Registry) Insecure(server string) bool { return insecure(server) }

// Transport is how registries are reached: it trusts the authorities of the configuration.
func (r *Registry) Transport() http.RoundTripper { return r.azure.http.Transport }

// tokenUser is the name under which ACR takes a refresh token as the password.
const tokenUser = "00000000-0000-0000-0000-000000000000"

// registryScope is the audience of ACR, in every cloud.
const registryScope = "https://containerregistry.azure.net/.default"

// exchangeTimeout bounds the exchange of tokens.
const exchangeTimeout = 30 * time.Second

// Resolve is ResolveContext without an end other than the exchange's own.
func (r *Registry) Resolve(resource authn.Resource) (authn.Authenticator, error) {
	return r.ResolveContext(context.Background(), resource)
}

// ResolveContext returns credentials for the configured registry, and none for any other.
func (r *Registry) ResolveContext(ctx context.Context, resource authn.Resource) (authn.Authenticator, error) {
	if r.server == "" || resource.RegistryStr() != r.server {
		return authn.Anonymous, nil
	}
	token, err := r.token(ctx)
	if err != nil {
		return nil, explain(err, "sign in to registry %s", r.server)
	}
	return authn.FromConfig(authn.AuthConfig{Username: tokenUser, Password: token}), nil
}

// token returns a refresh token that is good for some minutes at least.
func (r *Registry) token(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.until) {
		return r.refresh, nil
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	entra, err := r.azure.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{registryScope}})
	if err != nil {
		return "", err
	}
	scheme := "https://"
	if insecure(r.server) {
		scheme = "http://"
	}
	client, err := azcontainerregistry.NewAuthenticationClient(scheme+r.server, &azcontainerregistry.AuthenticationClientOptions{ClientOptions: r.azure.options()})
	if err != nil {
		return "", err
	}
	answer, err := client.ExchangeAADAccessTokenForACRRefreshToken(ctx, azcontainerregistry.PostContentSchemaGrantTypeAccessToken, r.server,
		&azcontainerregistry.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions{AccessToken: &entra.Token})
	if err != nil {
		return "", err
	}
	if answer.RefreshToken == nil || *answer.RefreshToken == "" {
		return "", fmt.Errorf("the registry gave no refresh token")
	}
	r.refresh, r.until = *answer.RefreshToken, expiry(*answer.RefreshToken).Add(-tokenMargin)
	return r.refresh, nil
}

// tokenMargin is how long before its end a refresh token is replaced.
const tokenMargin = 5 * time.Minute

// expiry reads when a token ends; it is the registry's to verify, not ours. What cannot be read has ended.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if json.Unmarshal(body, &claims) != nil {
		return time.Time{}
	}
	return time.Unix(claims.Expires, 0)
}
