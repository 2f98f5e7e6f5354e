package images

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
)

// manifestLimit is what registries themselves accept (distribution/distribution: 4 MiB).
const manifestLimit = 4 << 20

// registryOptions are go-containerregistry's: it does the retrying, nobody else here does. auth goes before the
// keychain; without both a pull is anonymous.
func (s *Service) registryOptions(ctx context.Context, auth *authn.AuthConfig) []remote.Option {
	opts := []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(s.opt.Transport),
		remote.WithUserAgent(s.opt.UserAgent),
	}
	switch {
	case auth != nil:
		opts = append(opts, remote.WithAuth(authn.FromConfig(*auth)))
	case s.opt.Keychain != nil:
		opts = append(opts, remote.WithAuthFromKeychain(s.opt.Keychain))
	}
	return opts
}

// repository returns go-containerregistry's name of a repository such as docker.io/library/alpine.
func (s *Service) repository(full string) (name.Repository, error) {
	host, _, _ := strings.Cut(full, "/")
	opts := []name.Option{name.StrictValidation}
	if s.opt.Insecure(host) {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(full, opts...)
	if err != nil {
		return name.Repository{}, sockerless.Errorf(sockerless.EINVALID, "invalid reference format: %w", err)
	}
	return repo, nil
}

// credentials makes go-containerregistry's credentials of Docker's; nil if there are none in them.
func credentials(auth *registry.AuthConfig) (*authn.AuthConfig, error) {
	if auth == nil {
		return nil, nil
	}
	c := authn.AuthConfig{
		Username: auth.Username, Password: auth.Password,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}
	if c.Username == "" && auth.Auth != "" {
		plain, err := base64.StdEncoding.DecodeString(auth.Auth)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return nil, sockerless.Errorf(sockerless.EINVALID, "invalid registry credentials: auth is not base64 of user:password")
		}
		c.Username, c.Password = user, password
	}
	if c == (authn.AuthConfig{}) {
		return nil, nil
	}
	return &c, nil
}

// pullError says in Docker's words why ref could not be pulled.
func pullError(ctx context.Context, ref reference.Named, withAuth bool, err error) error {
	host := reference.Domain(ref)
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return registryError(ctx, host, err)
	}
	code, message := diagnosis(answer)
	denied := sockerless.Errorf(sockerless.ENOTFOUND,
		"pull access denied for %s, repository does not exist or may require 'docker login': denied: %s",
		reference.FamiliarName(ref), cmp.Or(message, "requested access to the resource is denied"))
	switch {
	case code == transport.NameUnknownErrorCode:
		return sockerless.Errorf(sockerless.ENOTFOUND, "repository %s not found: name unknown: %s", reference.FamiliarName(ref), cmp.Or(message, "repository name not known to registry"))
	case answer.StatusCode == http.StatusNotFound:
		return sockerless.Errorf(sockerless.ENOTFOUND, "manifest for %s not found: manifest unknown: %s",
			reference.FamiliarString(ref), cmp.Or(message, "manifest unknown"))
	case answer.StatusCode == http.StatusUnauthorized && withAuth:
		return sockerless.Errorf(sockerless.EUNAUTHORIZED, "unauthorized: %s", cmp.Or(message, "incorrect username or password"))
	case answer.StatusCode == http.StatusUnauthorized, answer.StatusCode == http.StatusForbidden:
		return denied
	}
	return registryError(ctx, host, err)
}

// registryError says in one sentence, which names the registry, what went wrong with it.
func registryError(ctx context.Context, host string, err error) error {
	if sockerless.ErrorCode(err) != sockerless.EINTERNAL {
		return err // it has been said already
	}
	if cause := ctx.Err(); cause != nil {
		if errors.Is(cause, context.DeadlineExceeded) {
			return sockerless.Errorf(sockerless.ETIMEOUT, "registry %s did not answer in time", host)
		}
		return fmt.Errorf("cannot go on with registry %s: %w", host, cause)
	}
	var answer *transport.Error
	if errors.As(err, &answer) {
		code, message := diagnosis(answer)
		said := cmp.Or(message, http.StatusText(answer.StatusCode), "nothing")
		switch {
		case answer.StatusCode == http.StatusTooManyRequests:
			return sockerless.Errorf(sockerless.EUNAVAILABLE, "registry %s: toomanyrequests: %s", host, said)
		case answer.StatusCode == http.StatusUnauthorized:
			return sockerless.Errorf(sockerless.EUNAUTHORIZED, "registry %s: unauthorized: %s", host, said)
		case answer.StatusCode == http.StatusForbidden:
			return sockerless.Errorf(sockerless.EFORBIDDEN, "registry %s: denied: %s", host, said)
		case answer.StatusCode >= 500:
			return sockerless.Errorf(sockerless.EUNAVAILABLE, "registry %s is in trouble: %d %s", host, answer.StatusCode, said)
		}
		return fmt.Errorf("registry %s answered %d %s: %s", host, answer.StatusCode, code, said)
	}
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot reach registry %s: %w", host, err)
	}
	return sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot use registry %s: %w", host, err)
}

// diagnosis takes the first error from a registry's answer, as dockerd does.
func diagnosis(answer *transport.Error) (transport.ErrorCode, string) {
	if len(answer.Errors) == 0 {
		return "", ""
	}
	return answer.Errors[0].Code, bounded(answer.Errors[0].Message)
}

func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = time.Minute
	return t
}

// guard is what every request to a registry passes: nothing goes out over plain HTTP where that is not allowed (the
// library would, to private addresses), and no manifest is larger than registries take.
type guard struct {
	next     http.RoundTripper
	insecure func(host string) bool
}

// CloseIdleConnections is what http.Client asks a transport for.
func (g *guard) CloseIdleConnections() {
	(&http.Client{Transport: g.next}).CloseIdleConnections()
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.insecure(req.URL.Host) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errPlainHTTP
	}
	resp, err := g.next.RoundTrip(req)
	if err == nil && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") {
		resp.Body = &limited{ReadCloser: resp.Body, left: manifestLimit}
	}
	return resp, err
}

var errPlainHTTP = errors.New("plain HTTP is only for registries on loopback")

type limited struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("a manifest is larger than %d bytes", int64(manifestLimit))
	}
	return n, err
}
