package azuresim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// login is the authenticator of docker login with a refresh token of the principal.
func (s *stage) login(p Principal) authn.Authenticator {
	s.t.Helper()
	token, err := s.sim.registry.refreshToken(&p)
	if err != nil {
		s.t.Fatal(err)
	}
	return authn.FromConfig(authn.AuthConfig{Username: acrTokenUser, Password: token})
}

func (s *stage) ref(image string) name.Reference {
	s.t.Helper()
	ref, err := name.ParseReference(s.srv.LoginServer + "/" + image)
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(4096, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// registryOptions are those of ggcr for one user.
func (s *stage) registryOptions(auth authn.Authenticator) []remote.Option {
	return []remote.Option{remote.WithAuth(auth), remote.WithTransport(s.client.Transport), remote.WithContext(s.t.Context())}
}

func TestImageGoesInAndOut(t *testing.T) {
	s := newStage(t)
	img := randomImage(t)
	ref := s.ref("team/app:1")
	if err := remote.Write(ref, img, s.registryOptions(s.login(s.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	pull := s.registryOptions(s.login(*s.sim.entra.byResourceID(s.world.PullIdentityID())))
	got, err := remote.Image(ref, pull...)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if have, err := got.Digest(); err != nil || have != want {
		t.Errorf("digest %v, want %v (%v)", have, want, err)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // ggcr checks the digest
			t.Error(err)
		}
		r.Close()
	}
	index, err := random.Index(1024, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(s.ref("team/app:multi"), index, s.registryOptions(s.login(s.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Index(s.ref("team/app:multi"), pull...); err != nil {
		t.Error(err)
	}
	repo, err := name.NewRepository(s.srv.LoginServer + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repo, pull...)
	if err != nil || !slices.Equal(tags, []string{"1", "multi"}) {
		t.Errorf("tags %v (%v)", tags, err)
	}
	// Another repository takes the layers by mount, and the image keeps its digest.
	if err := remote.Write(s.ref("other/app:1"), got, s.registryOptions(s.login(s.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	mounted := false
	for _, r := range s.sim.Requests(0) {
		mounted = mounted || r.Method == "POST" && r.Status == http.StatusCreated && strings.Contains(r.Query, "mount=")
	}
	if !mounted {
		t.Error("no layer was mounted")
	}
	if err := remote.Delete(s.ref("other/app@"+want.String()), s.registryOptions(s.login(s.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(s.ref("other/app:1"), pull...); err == nil {
		t.Error("a tag outlives its manifest")
	}
	if _, err := remote.Head(ref, pull...); err != nil {
		t.Errorf("the other repository lost its image: %v", err)
	}
}

func TestRegistryRights(t *testing.T) {
	s := newStage(t, WithRegistryAccount("bob", "pass"))
	nobody := s.sim.AddIdentity("nobody")
	puller := *s.sim.entra.byResourceID(s.world.PullIdentityID())
	op := s.sim.Operator()
	if err := remote.Write(s.ref("app:1"), randomImage(t), s.registryOptions(s.login(op))...); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name       string
		auth       authn.Authenticator
		pull, push bool
	}{
		{"operator", s.login(op), true, true},
		{"service principal with its secret", authn.FromConfig(authn.AuthConfig{Username: op.ClientID, Password: op.Secret}), true, true},
		{"account", authn.FromConfig(authn.AuthConfig{Username: "bob", Password: "pass"}), true, true},
		{"identity token", authn.FromConfig(authn.AuthConfig{IdentityToken: refreshOf(t, s.login(op))}), true, true},
		{"AcrPull", s.login(puller), true, false},
		{"no role", s.login(nobody), false, false},
		{"wrong password", authn.FromConfig(authn.AuthConfig{Username: "bob", Password: "x"}), false, false},
		{"nobody", authn.Anonymous, false, false},
	} {
		_, err := remote.Head(s.ref("app:1"), s.registryOptions(tc.auth)...)
		if (err == nil) != tc.pull {
			t.Errorf("%s pulls: %v", tc.name, err)
		}
		err = remote.Write(s.ref("app:2"), randomImage(t), s.registryOptions(tc.auth)...)
		if (err == nil) != tc.push {
			t.Errorf("%s pushes: %v", tc.name, err)
		}
	}
	if !s.sim.Unassign(Assignment{puller.ObjectID, "AcrPull", s.world.RegistryID()}) {
		t.Fatal("the pulling identity has no AcrPull")
	}
	if _, err := remote.Head(s.ref("app:1"), s.registryOptions(s.login(puller))...); err == nil {
		t.Error("a removed role still pulls")
	}

	open := newStage(t, WithAnonymousPull())
	if err := remote.Write(open.ref("app:1"), randomImage(t), open.registryOptions(open.login(open.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(open.ref("app:1"), open.registryOptions(authn.Anonymous)...); err != nil {
		t.Errorf("anonymous pull: %v", err)
	}
	if err := remote.Write(open.ref("app:2"), randomImage(t), open.registryOptions(authn.Anonymous)...); err == nil {
		t.Error("anonymous push")
	}
}

func refreshOf(t *testing.T, a authn.Authenticator) string {
	t.Helper()
	c, err := authn.Authorization(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return c.Password
}

// TestACRThroughSDK runs the SDK's own challenge, exchange and token requests.
func TestACRThroughSDK(t *testing.T) {
	s := newStage(t)
	if err := remote.Write(s.ref("app:1"), randomImage(t), s.registryOptions(s.login(s.sim.Operator()))...); err != nil {
		t.Fatal(err)
	}
	options := s.armOptions().ClientOptions
	options.Cloud.Services[azcontainerregistry.ServiceName] = cloud.ServiceConfiguration{Audience: audienceRegistry}
	c, err := azcontainerregistry.NewClient(s.srv.HTTPSURL, s.operator(), &azcontainerregistry.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.GetManifest(t.Context(), "app", "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(m.ManifestData); err != nil || digest.FromBytes(raw).String() != *m.DockerContentDigest {
		t.Errorf("manifest of %d bytes is not %s (%v)", len(raw), *m.DockerContentDigest, err)
	}
	var exchanged, token bool
	for _, r := range s.sim.Requests(0) {
		exchanged = exchanged || r.Path == "/oauth2/exchange" && r.Identity == "operator"
		token = token || r.Path == "/oauth2/token" && r.Method == "POST"
	}
	if !exchanged || !token {
		t.Error("the SDK did not take ACR's flow")
	}
}

func TestExchangeRefusals(t *testing.T) {
	s := newStage(t)
	op := s.sim.Operator()
	token := func(audience string) string {
		t.Helper()
		tok, err := s.sim.Token(op, audience)
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	service := s.srv.LoginServer
	for name, form := range map[string]url.Values{
		"a log query's token": {"grant_type": {"access_token"}, "service": {service}, "access_token": {token(audienceLogs)}},
		"another registry":    {"grant_type": {"access_token"}, "service": {"example.com"}, "access_token": {token(audienceRegistry)}},
		"another tenant":      {"grant_type": {"access_token"}, "service": {service}, "access_token": {token(audienceRegistry)}, "tenant": {newGUID()}},
		"nonsense":            {"grant_type": {"access_token"}, "service": {service}, "access_token": {"x"}},
		"another grant":       {"grant_type": {"password"}, "service": {service}, "access_token": {token(audienceRegistry)}},
	} {
		resp, err := s.client.PostForm(s.srv.URL+"/oauth2/exchange", form)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, resp); resp.StatusCode < 400 {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	// An Entra token is no registry token.
	status, header, _ := s.send("GET", s.srv.URL+"/v2/app/tags/list", "Bearer "+token(audienceRegistry), "")
	if status != http.StatusUnauthorized || !strings.Contains(header.Get("Www-Authenticate"), `scope="repository:app:pull"`) {
		t.Errorf("a raw Entra token: %d %v", status, header)
	}
}

// upload is one raw request to the registry with the operator's rights on a repository.
func (s *stage) upload(method, path string, body []byte, header http.Header) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.srv.URL+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	op := s.sim.Operator()
	req.SetBasicAuth(op.ClientID, op.Secret)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp
}

func TestUploads(t *testing.T) {
	s := newStage(t)
	blob := bytes.Repeat([]byte("0123456789"), 1000)
	d := digest.FromBytes(blob).String()
	begin := func() string {
		resp := s.upload("POST", "/v2/app/blobs/uploads/", nil, nil)
		readAll(t, resp)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("POST answers %d", resp.StatusCode)
		}
		return resp.Header.Get("Location")
	}
	expect := func(what string, resp *http.Response, status int) {
		t.Helper()
		if body := readAll(t, resp); resp.StatusCode != status {
			t.Errorf("%s: %d, want %d: %s", what, resp.StatusCode, status, body)
		}
	}
	at := begin()
	expect("first chunk", s.upload("PATCH", at, blob[:4000], http.Header{"Content-Range": {"0-3999"}}), 202)
	expect("chunk out of order", s.upload("PATCH", at, blob[5000:], http.Header{"Content-Range": {"5000-9999"}}), 416)
	resp := s.upload("GET", at, nil, nil)
	if resp.Header.Get("Range") != "0-3999" {
		t.Errorf("status of the upload: %v", resp.Header)
	}
	expect("status", resp, 204)
	expect("last chunk", s.upload("PUT", at+"?digest="+d, blob[4000:], nil), 201)
	expect("blob", s.upload("GET", "/v2/app/blobs/"+d, nil, nil), 200)
	expect("part of the blob", s.upload("GET", "/v2/app/blobs/"+d, nil, http.Header{"Range": {"bytes=10-19"}}), 206)
	expect("another repository's blob", s.upload("GET", "/v2/other/blobs/"+d, nil, nil), 404)
	expect("an upload that is over", s.upload("PATCH", at, blob, nil), 404)

	other := digest.FromString("other").String()
	expect("wrong digest", s.upload("PUT", begin()+"?digest="+other, blob, nil), 400)
	expect("whole blob in one POST", s.upload("POST", "/v2/app/blobs/uploads/?digest="+d, blob, nil), 201)
	cancelled := begin()
	expect("cancel", s.upload("DELETE", cancelled, nil, nil), 204)
	expect("cancelled upload", s.upload("PUT", cancelled+"?digest="+d, blob, nil), 404)
	expect("upload of another repository", s.upload("PUT", strings.Replace(begin(), "/app/", "/other/", 1)+"?digest="+d, blob, nil), 404)

	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"c","size":5,"digest":%q},"layers":[]}`, dockerManifest, other)
	typed := http.Header{"Content-Type": {dockerManifest}}
	expect("manifest of a missing blob", s.upload("PUT", "/v2/app/manifests/1", manifest, typed), 400)
	expect("manifest under another digest", s.upload("PUT", "/v2/app/manifests/"+d, manifest, typed), 400)
	expect("manifest that is none", s.upload("PUT", "/v2/app/manifests/1", []byte("x"), typed), 400)
	expect("bad tag", s.upload("PUT", "/v2/app/manifests/-x", manifest, typed), 400)
	expect("bad repository", s.upload("GET", "/v2/App/tags/list", nil, nil), 400)
	expect("repository that climbs", s.upload("GET", "/v2/a/../b/tags/list", nil, nil), 400)
	expect("unknown repository", s.upload("GET", "/v2/nothing/tags/list", nil, nil), 404)
	expect("unknown tag", s.upload("GET", "/v2/app/manifests/nothing", nil, nil), 404)
	expect("unknown method", s.upload("PATCH", "/v2/app/manifests/1", nil, nil), 405)
}

func TestRegistryOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	img := randomImage(t)
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		sim, err := New(Calm(), WithDataDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		srv, err := sim.Serve(Listen{})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(srv.LoginServer + "/app:1")
		if err != nil {
			t.Fatal(err)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		op := sim.Operator() // the secret is kept too
		options := []remote.Option{remote.WithTransport(transport), remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: op.ClientID, Password: op.Secret}))}
		if round == 0 {
			err = remote.Write(ref, img, options...)
		} else {
			var d *v1.Descriptor
			if d, err = remote.Head(ref, options...); err == nil && d.Digest != want {
				t.Errorf("the tag leads to %s", d.Digest)
			}
		}
		if err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := sim.Close(); err != nil {
			t.Error(err)
		}
	}
}
