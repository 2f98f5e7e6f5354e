package aca

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sockerless/sockerless"
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
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.ExpiresAt == nil {
		return time.Time{}
	}
	return claims.ExpiresAt.Time
}

// Push writes an image into a repository of the registry if it is not there, tagged by its digest, and returns its
// reference. It tells whether it had to.
func (r *Registry) Push(ctx context.Context, repository string, image v1.Image) (reference string, pushed bool, err error) {
	if reference, pushed, err = r.push(ctx, repository, image); err == nil {
		return reference, pushed, nil
	}
	code, hint := sockerless.ErrorCode(err), ""
	switch {
	case registryStatus(err, http.StatusUnauthorized, http.StatusForbidden), hasStatus(err, http.StatusUnauthorized): // at the sign-in
		code, hint = sockerless.EFORBIDDEN, "; that takes the role AcrPush there"
	case code == sockerless.EINTERNAL:
		code = sockerless.EUNAVAILABLE
	}
	return "", false, &sockerless.Error{Code: code, Err: err, Message: fmt.Sprintf("cannot push %s to %s: %s%s", repository, r.server, oneLine(err.Error()), hint)}
}

func (r *Registry) push(ctx context.Context, repository string, image v1.Image) (reference string, pushed bool, err error) {
	digest, err := image.Digest()
	if err != nil {
		return "", false, err
	}
	var options []name.Option
	if insecure(r.server) {
		options = append(options, name.Insecure)
	}
	to, err := name.NewRepository(r.server+"/"+repository, options...)
	if err != nil {
		return "", false, err
	}
	how := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(r), remote.WithTransport(r.Transport())}
	tag := to.Tag(strings.Replace(digest.String(), ":", "-", 1))
	there, err := remote.Head(tag, how...)
	if err != nil && !registryStatus(err, http.StatusNotFound) {
		return "", false, err
	}
	if err != nil || there.Digest != digest {
		if err := remote.Write(tag, image, how...); err != nil {
			return "", false, err
		}
		pushed = true
	}
	return to.Digest(digest.String()).String(), pushed, nil
}

// registryStatus says whether a registry answered with one of these statuses.
func registryStatus(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*transport.Error](err)
	return ok && slices.Contains(statuses, refused.StatusCode)
}
