package images

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
)

// Auth tries credentials against their registry and keeps nothing. EUNAUTHORIZED, in Docker's words, if they are wrong.
func (s *Service) Auth(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	creds, err := credentials(&auth)
	if err != nil {
		return nil, err
	}
	host := registryHost(auth.ServerAddress)
	var opts []name.Option
	if s.opt.Insecure(host) {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(host, opts...)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid registry address %q: %w", bounded(auth.ServerAddress), err)
	}
	login := authn.Anonymous
	if creds != nil {
		login = authn.FromConfig(*creds)
	}
	rt, err := transport.NewWithContext(ctx, reg, login, transport.NewUserAgent(s.opt.Transport, s.opt.UserAgent), nil)
	if err != nil {
		return nil, loginError(ctx, host, err)
	}
	// With a token server the credentials have passed by now, with basic authentication they have not been looked at.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, reg.Scheme()+"://"+reg.RegistryStr()+"/v2/", nil)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid registry address %q: %w", bounded(auth.ServerAddress), err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return nil, loginError(ctx, host, err)
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, loginError(ctx, host, err)
	}
	return &registry.AuthResponse{Status: "Login Succeeded"}, nil
}

func loginError(ctx context.Context, host string, err error) error {
	answer, ok := errors.AsType[*transport.Error](err)
	if !ok || answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden {
		return registryError(ctx, host, err)
	}
	_, message := diagnosis(answer)
	return sockerless.Errorf(sockerless.EUNAUTHORIZED, "Get \"https://%s/v2/\": unauthorized: %s", host, cmp.Or(message, "incorrect username or password"))
}

// registryHost takes the host from what clients send as a server's address. Docker Hub's has been an URL for ever.
func registryHost(address string) string {
	_, host, ok := strings.Cut(address, "://")
	if !ok {
		host = address
	}
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", "docker.io", "registry-1.docker.io":
		return "index.docker.io"
	}
	return host
}
