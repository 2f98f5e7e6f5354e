package images_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/images"
)

func TestPull(t *testing.T) {
	w := newWorld(t, nil, nil)
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	img := makeImage(t, 2, created(made), func(c *v1.ConfigFile) {
		c.Author = "me"
		c.Config.Entrypoint = []string{"/bin/e"}
		c.Config.Labels = map[string]string{"a": "b"}
		c.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}, "no port": {}}
		c.Config.Healthcheck = &v1.HealthConfig{Test: []string{"CMD", "true"}}
	})
	w.push(t, "app:1", img)

	lines, layers, err := collect(w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, img)
	want := []string{"1: Pulling from app", "Digest: " + digest, "Status: Downloaded newer image for " + w.host + "/app:1"}
	if diff := cmp.Diff(want, lines); diff != "" || layers != 2 {
		t.Fatalf("%d layers, %s", layers, diff)
	}
	want[2] = "Status: Image is up to date for " + w.host + "/app:1"
	if diff := cmp.Diff(want, w.pull(t, w.host+"/app:1")); diff != "" {
		t.Fatal(diff)
	}

	got, err := w.Find(t.Context(), w.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if credential := w.Credential(got.Source); credential != nil {
		t.Fatal(credential)
	}
	raw, _ := img.RawConfigFile()
	if string(got.Config) != string(raw) {
		t.Error("the config is not what the registry has")
	}
	if got.Pulled.IsZero() || got.LastTagTime.IsZero() || len(got.Layers) != 2 || got.Layers[0].DiffID == got.Layers[0].Digest || got.Size != got.Layers[0].Size+got.Layers[1].Size {
		t.Errorf("got %+v", got)
	}
	port, _ := network.ParsePort("80/tcp")
	wantImage := &sockerless.Image{
		ID: idOf(t, img), Tags: []string{w.host + "/app:1"}, Digests: []string{w.host + "/app@" + digest}, Source: w.host + "/app@" + digest,
		Manifest: string(types.DockerManifestSchema2), Created: made, Author: "me", Platform: "linux/amd64",
		Config: got.Config, Size: got.Size, Layers: got.Layers, Pulled: got.Pulled, LastTagTime: got.LastTagTime,
		Defaults: &container.Config{
			Cmd: []string{"sh"}, Env: got.Defaults.Env, Entrypoint: []string{"/bin/e"}, Labels: map[string]string{"a": "b"},
			ExposedPorts: network.PortSet{port: {}}, Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}},
		},
	}
	if diff := cmp.Diff(wantImage, got, cmp.Comparer(func(a, b network.Port) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	// Nothing is lost by a restart.
	again, err := w.reopen(t).Find(t.Context(), w.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantImage, again, cmp.Comparer(func(a, b network.Port) bool { return a == b })); diff != "" {
		t.Fatal(diff)
	}
	// What a caller got is its own.
	got.Defaults.Labels["a"], got.Layers[0].Digest, got.Config[0] = "x", "x", 'x'
	if again, _ := w.Find(t.Context(), w.host+"/app:1"); again.Defaults.Labels["a"] != "b" || again.Layers[0].Digest == "x" || again.Config[0] == 'x' {
		t.Fatal("a caller changed the record")
	}
}

// TestMovedTag: who resolved a tag keeps its digest when the tag moves, and the old image stays without a name.
func TestMovedTag(t *testing.T) {
	w := newWorld(t, nil, nil)
	ref := w.host + "/app:latest"
	first, second := makeImage(t, 1), makeImage(t, 1)
	w.push(t, "app:latest", first)
	w.pull(t, w.host+"/app")
	before, err := w.Find(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	w.push(t, "app:latest", second)
	if now, _ := w.Find(t.Context(), ref); now.Source != before.Source {
		t.Fatal("the tag moved without a pull")
	}
	lines := w.pull(t, ref)
	if last := lines[len(lines)-1]; last != "Status: Downloaded newer image for "+ref {
		t.Fatal(last)
	}
	now, _ := w.Find(t.Context(), ref)
	if now.ID != idOf(t, second) || now.Source != w.host+"/app@"+digestOf(t, second) {
		t.Fatalf("the tag means %s at %s", now.ID, now.Source)
	}
	old, err := w.Find(t.Context(), before.ID)
	if err != nil || len(old.Tags) != 0 || old.Source != before.Source {
		t.Fatalf("the old image is %+v, %v", old, err)
	}
	if byDigest, err := w.Find(t.Context(), w.host+"/app@"+digestOf(t, first)); err != nil || byDigest.ID != before.ID {
		t.Fatal(byDigest, err)
	}
}

func TestPullByDigest(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1)
	w.push(t, "a/b/app:1", img)
	for _, ref := range []string{w.host + "/a/b/app@" + digestOf(t, img), w.host + "/a/b/app:other@" + digestOf(t, img)} {
		lines := w.pull(t, ref)
		if lines[0] != digestOf(t, img)+": Pulling from a/b/app" {
			t.Fatal(lines)
		}
		got, err := w.Find(t.Context(), ref)
		if err != nil || len(got.Tags) != 0 || len(got.Digests) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestPullIndex(t *testing.T) {
	w := newWorld(t, nil, nil)
	amd, arm := makeImage(t, 1), makeImage(t, 1, platform("linux", "arm64", "v8"))
	armv6, armv7 := makeImage(t, 1, platform("linux", "arm", "v6")), makeImage(t, 1, platform("linux", "arm", "v7"))
	attestation := makeImage(t, 1, platform("unknown", "unknown", ""))
	entry := func(img v1.Image, p v1.Platform) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}}
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		entry(attestation, v1.Platform{OS: "unknown", Architecture: "unknown"}),
		entry(armv6, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}),
		entry(armv7, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}),
		entry(arm, v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}),
		entry(amd, v1.Platform{OS: "linux", Architecture: "amd64"}),
	)
	w.push(t, "multi:1", index)
	w.push(t, "nested:1", mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), mutate.IndexAddendum{Add: index}))
	w.push(t, "armonly:1", mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), entry(arm, v1.Platform{OS: "linux", Architecture: "arm64"})))
	w.push(t, "bare:1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: amd}))
	w.push(t, "single:1", arm)

	for _, tc := range []struct {
		name, ref, platform string
		want                v1.Image
		err                 string
	}{
		{name: "no platform is linux/amd64", ref: "multi:1", want: amd},
		{name: "linux/amd64", ref: "multi:1", platform: "linux/amd64", want: amd},
		{name: "only an operating system", ref: "multi:1", platform: "linux", want: amd},
		{name: "another name of amd64", ref: "multi:1", platform: "linux/x86_64", want: amd},
		{name: "arm64", ref: "multi:1", platform: "linux/arm64", want: arm},
		{name: "arm64 with its only variant", ref: "multi:1", platform: "linux/arm64/v8", want: arm},
		{name: "arm is v7", ref: "multi:1", platform: "linux/arm", want: armv7},
		{name: "armv6", ref: "multi:1", platform: "linux/arm/v6", want: armv6},
		{name: "a platform that is not there", ref: "multi:1", platform: "linux/s390x", err: "no matching manifest for linux/s390x in the manifest list entries"},
		{name: "an index in an index", ref: "nested:1", want: amd},
		{name: "nothing for us", ref: "armonly:1", err: "no matching manifest for linux/amd64 in the manifest list entries"},
		{name: "an index made by hand, without platforms", ref: "bare:1", want: amd},
		{name: "a single manifest is what it is", ref: "single:1", want: arm},
		{name: "but not if the platform was asked for", ref: "single:1", platform: "linux/amd64", err: "was found but its platform (linux/arm64) does not match the specified platform (linux/amd64)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ref := w.host + "/" + tc.ref
			_, _, err := collect(w.Pull(t.Context(), ref, sockerless.PullOptions{Platform: tc.platform}))
			if tc.err != "" {
				wantError(t, err, sockerless.ENOTFOUND, tc.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := w.Find(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			repo, _, _ := strings.Cut(tc.ref, ":")
			if got.ID != idOf(t, tc.want) || got.Source != w.host+"/"+repo+"@"+digestOf(t, tc.want) {
				t.Fatalf("got %s at %s", got.ID, got.Source)
			}
		})
	}
	// The digest that people see is the one that the tag means, as in Docker; jobs run the platform's.
	w.pull(t, w.host+"/multi:1")
	got, _ := w.Find(t.Context(), w.host+"/multi:1")
	if want := w.host + "/multi@" + digestOf(t, index); len(got.Digests) == 0 || !strings.Contains(strings.Join(got.Digests, " "), want) {
		t.Fatalf("got %v, want %s", got.Digests, want)
	}
}

func TestPullRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 2)
	w.push(t, "app:1", img)
	chart := mutate.ConfigMediaType(makeImage(t, 1), "application/vnd.cncf.helm.config.v1+json")
	w.push(t, "chart:1", chart)
	const deadHost = "127.0.0.1:1" // and no port that was free a moment ago: somebody may have it now

	for _, tc := range []struct {
		name, ref string
		opt       sockerless.PullOptions
		code      sockerless.Code
		err       string
	}{
		{name: "no such tag", ref: w.host + "/app:2", code: sockerless.ENOTFOUND, err: "manifest for " + w.host + "/app:2 not found: manifest unknown: "},
		{name: "no such repository", ref: w.host + "/nope", code: sockerless.ENOTFOUND, err: "repository " + w.host + "/nope not found: name unknown: "},
		{name: "no such digest", ref: w.host + "/app@sha256:" + strings.Repeat("0", 64), code: sockerless.ENOTFOUND, err: "not found: manifest unknown"},
		{name: "not a container's image", ref: w.host + "/chart:1", code: sockerless.EINVALID, err: "it is no image of a container but application/vnd.cncf.helm.config.v1+json"},
		{name: "nobody listens", ref: deadHost + "/app", code: sockerless.EUNAVAILABLE, err: "cannot reach registry " + deadHost + ": "},
		{name: "upper case", ref: "Alpine", code: sockerless.EINVALID, err: "invalid reference format: repository name (library/Alpine) must be lowercase"},
		{name: "spaces", ref: "a b", code: sockerless.EINVALID, err: "invalid reference format"},
		{name: "empty", ref: "", code: sockerless.EINVALID, err: "invalid reference format"},
		{name: "a huge name", ref: strings.Repeat("a/", 100000) + "b", code: sockerless.EINVALID, err: "invalid reference format"},
		{name: "a digest that is too short", ref: "a@sha256:123", code: sockerless.EINVALID, err: "invalid reference format"},
		{name: "a platform that is none", ref: w.host + "/app:1", opt: sockerless.PullOptions{Platform: "a/b/c/d"}, code: sockerless.EINVALID, err: "unknown operating system or architecture"},
		{name: "credentials that are none", ref: w.host + "/app:1", opt: sockerless.PullOptions{Auth: &registry.AuthConfig{Auth: "!"}}, code: sockerless.EINVALID, err: "invalid registry credentials"},
		{name: "plain HTTP far away", ref: "10.255.255.1:9/app", code: sockerless.EUNAVAILABLE, err: "cannot reach registry 10.255.255.1:9: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := collect(w.Pull(t.Context(), tc.ref, tc.opt))
			wantError(t, err, tc.code, tc.err)
			if len(err.Error()) > 1000 {
				t.Fatalf("a message of %d bytes", len(err.Error()))
			}
		})
	}
	if n := w.Count(); n != 0 {
		t.Fatalf("%d images are recorded", n)
	}
}

// TestPlainHTTP: go-containerregistry would speak plain HTTP to private addresses by itself.
func TestPlainHTTP(t *testing.T) {
	var asked atomic.Bool
	w := newWorld(t, nil, func(o *images.Options) {
		o.Insecure = func(string) bool { return false }
		o.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Scheme == "http" {
				asked.Store(true)
			}
			return nil, fmt.Errorf("no route")
		})
	})
	_, _, err := collect(w.Pull(t.Context(), "10.0.0.1:5000/app", sockerless.PullOptions{}))
	wantError(t, err, sockerless.EUNAVAILABLE, "plain HTTP is only for registries on loopback")
	if asked.Load() {
		t.Fatal("a request went out over plain HTTP")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestBrokenRegistry: what a registry has lost or changed is found at the pull, and nothing is recorded.
func TestBrokenRegistry(t *testing.T) {
	img := makeImage(t, 2)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	lost := func(digest v1.Hash) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost && r.Header.Get("User-Agent") != "" && strings.Contains(r.Header.Get("User-Agent"), "sockerless-test") && strings.HasSuffix(r.URL.Path, "/blobs/"+digest.String()) {
					http.NotFound(rw, r)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}
	}
	answers := func(path string, body []byte) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, path) {
					rw.Header().Set("Content-Type", string(types.DockerManifestSchema2))
					rw.Write(body)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}
	}
	edited := func(change func(*v1.Manifest)) []byte {
		c := m.DeepCopy()
		change(c)
		raw, _ := json.Marshal(c)
		return raw
	}
	cfgRaw, _ := img.RawConfigFile()
	for _, tc := range []struct {
		name string
		wrap func(http.Handler) http.Handler
		code sockerless.Code
		err  string
	}{
		{"a layer is missing", lost(m.Layers[1].Digest), sockerless.ENOTFOUND, "layer " + m.Layers[1].Digest.String() + " is missing in the registry"},
		{"the config is missing", lost(m.Config.Digest), sockerless.ENOTFOUND, "its config " + m.Config.Digest.String() + " is missing in the registry"},
		{"the config is another", answers("/blobs/"+m.Config.Digest.String(), []byte(strings.Repeat("x", len(cfgRaw)))), sockerless.EUNAVAILABLE, "error verifying sha256 checksum"},
		{"the manifest is no JSON", answers("/manifests/", []byte("{")), sockerless.EINVALID, "its manifest is no JSON"},
		{"the manifest is endless", answers("/manifests/", []byte(strings.Repeat(" ", 5<<20))), sockerless.EUNAVAILABLE, "a manifest is larger than"},
		{"the config is endless", answers("/manifests/", edited(func(m *v1.Manifest) { m.Config.Size = 1 << 40 })), sockerless.EINVALID, "its config has 1099511627776 bytes"},
		{"a layer too few", answers("/manifests/", edited(func(m *v1.Manifest) { m.Layers = m.Layers[1:] })), sockerless.EINVALID, "its manifest has 1 layers and its config 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.wrap, nil)
			w.push(t, "app:1", img)
			_, _, err := collect(w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{}))
			wantError(t, err, tc.code, tc.err)
			if w.Count() != 0 {
				t.Fatal("something was recorded")
			}
		})
	}
}

// TestPullRateLimit: what the registry says reaches the user.
func TestPullRateLimit(t *testing.T) {
	t.Parallel() // go-containerregistry tries again for some seconds
	w := newWorld(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			rw.WriteHeader(http.StatusTooManyRequests)
			rw.Write([]byte(`{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`))
		})
	}, nil)
	_, _, err := collect(w.Pull(t.Context(), w.host+"/app", sockerless.PullOptions{}))
	wantError(t, err, sockerless.EUNAVAILABLE, "registry "+w.host+": toomanyrequests: You have reached your pull rate limit.")
}

func TestPullStopped(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.push(t, "app:1", makeImage(t, 3))
	for stopAfter := range 4 {
		n := 0
		for _, err := range w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > stopAfter {
				break
			}
		}
		if w.Count() != 0 {
			t.Fatalf("an image is recorded after %d messages, which nobody waited for", n)
		}
	}
}

func TestPullTogether(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.push(t, "app:1", makeImage(t, 2))
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			lines, _, err := collect(w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{}))
			if err != nil || len(lines) != 3 {
				t.Errorf("got %v, %v", lines, err)
			}
		})
	}
	group.Wait()
	if got, err := w.Find(t.Context(), w.host+"/app:1"); err != nil || len(got.Tags) != 1 || len(got.Digests) != 1 {
		t.Fatal(got, err)
	}
}

// behindBasic and behindTokens are the two ways in which registries want credentials.
func behindBasic(user, password string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				rw.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				rw.WriteHeader(http.StatusUnauthorized)
				rw.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
				return
			}
			next.ServeHTTP(rw, r)
		})
	}
}

func behindTokens(user, password string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				u, p, given := r.BasicAuth()
				if given && (u != user || p != password) {
					rw.WriteHeader(http.StatusUnauthorized)
					rw.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`))
					return
				}
				token := "anonymous"
				if given {
					token = "good"
				}
				json.NewEncoder(rw).Encode(map[string]string{"token": token})
				return
			}
			switch r.Header.Get("Authorization") {
			case "Bearer good":
				next.ServeHTTP(rw, r)
			case "Bearer anonymous":
				rw.WriteHeader(http.StatusUnauthorized)
				rw.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
			default:
				rw.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`)
				rw.WriteHeader(http.StatusUnauthorized)
			}
		})
	}
}

func TestPullWithCredentials(t *testing.T) {
	for name, wrap := range map[string]func(string, string) func(http.Handler) http.Handler{"basic": behindBasic, "tokens": behindTokens} {
		t.Run(name, func(t *testing.T) {
			open := false
			inner := wrap("me", "secret")
			w := newWorld(t, func(next http.Handler) http.Handler {
				closed := inner(next)
				return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if open {
						next.ServeHTTP(rw, r)
						return
					}
					closed.ServeHTTP(rw, r)
				})
			}, func(o *images.Options) { o.Registry = "" })
			open = true
			w.push(t, "app:1", makeImage(t, 1))
			open = false
			ref := w.host + "/app:1"
			pull := func(auth *registry.AuthConfig) error {
				_, _, err := collect(w.Pull(t.Context(), ref, sockerless.PullOptions{Auth: auth}))
				return err
			}
			denied := "pull access denied for " + w.host + "/app, repository does not exist or may require 'docker login': denied: authentication required"
			wantError(t, pull(nil), sockerless.ENOTFOUND, denied)
			wantError(t, pull(&registry.AuthConfig{}), sockerless.ENOTFOUND, denied)
			wantError(t, pull(&registry.AuthConfig{Username: "me", Password: "wrong"}), sockerless.EUNAUTHORIZED, "unauthorized: ")
			if w.Count() != 0 {
				t.Fatal("something was recorded")
			}
			if err := pull(&registry.AuthConfig{Username: "me", Password: "secret"}); err != nil {
				t.Fatal(err)
			}
			want := &driver.Credential{Server: w.host, Username: "me", Password: "secret"}
			if diff := cmp.Diff(want, w.Credential(w.host+"/app@sha256:0")); diff != "" {
				t.Fatal(diff)
			}
			if cmp.Diff(want, w.reopen(t).Credential(w.host+"/app@sha256:0")) != "" {
				t.Fatal("the credential is gone after a restart")
			}
			// base64 of user:password, as old clients send it
			if err := pull(&registry.AuthConfig{Auth: "bWU6c2VjcmV0"}); err != nil {
				t.Fatal(err)
			}
			// Who can do without it, keeps none.
			open = true
			if err := pull(nil); err != nil {
				t.Fatal(err)
			}
			if got := w.Credential(w.host + "/app@sha256:0"); got != nil {
				t.Fatal("a credential that nobody needs is kept")
			}
		})
	}
}

// TestNewPassword: what was pulled with the old one gets the new one, other users' images do not.
func TestNewPassword(t *testing.T) {
	w := newWorld(t, nil, func(o *images.Options) { o.Registry = "" })
	pull := func(repo, user, password string) {
		w.push(t, repo+":1", makeImage(t, 1))
		_, _, err := collect(w.Pull(t.Context(), w.host+"/"+repo+":1", sockerless.PullOptions{Auth: &registry.AuthConfig{Username: user, Password: password}}))
		if err != nil {
			t.Fatal(err)
		}
	}
	pull("a", "me", "old")
	pull("b", "you", "yours")
	pull("c", "me", "new")
	for repo, want := range map[string]string{"a": "new", "b": "yours", "c": "new"} {
		if got := w.Credential(w.host + "/" + repo + "@sha256:0"); got == nil || got.Password != want {
			t.Errorf("%s: got %v", repo, got)
		}
	}
}

// TestTokenLogin: a token pulls, and the user is told that jobs will not use it.
func TestTokenLogin(t *testing.T) {
	w := newWorld(t, behindTokens("me", "secret"), func(o *images.Options) { o.Registry = "" })
	w.auth = &authn.Basic{Username: "me", Password: "secret"}
	w.push(t, "app:1", makeImage(t, 1))
	lines, _, err := collect(w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{Auth: &registry.AuthConfig{RegistryToken: "good"}}))
	if err != nil || !slices.Contains(lines, "The login is a token, which jobs cannot use: they pull with the backend's own identity") {
		t.Fatal(lines, err)
	}
	if credential := w.Credential(w.host + "/app@sha256:0"); credential != nil {
		t.Fatal("a token is kept")
	}
}

// TestKeychain: the backend's own credentials pull and push, a user's go before them, and none of them is kept.
func TestKeychain(t *testing.T) {
	w := newWorld(t, behindTokens("me", "secret"), func(o *images.Options) {
		o.Keychain = keychain{o.Registry, &authn.Basic{Username: "me", Password: "secret"}}
	})
	rootfs := tarOf(t, file("f", "x"))
	if _, _, err := collect(w.Import(t.Context(), sockerless.ImportOptions{Ref: "x"}, bytes.NewReader(rootfs))); err != nil {
		t.Fatal(err)
	}
	img, _ := w.Find(t.Context(), "x")
	w.pull(t, img.Source)
	_, _, err := collect(w.Pull(t.Context(), img.Source, sockerless.PullOptions{Auth: &registry.AuthConfig{Username: "me", Password: "wrong"}}))
	wantError(t, err, sockerless.EUNAUTHORIZED, "unauthorized: incorrect username or password")
	w.pull(t, img.Source)
	if w.Credential(img.Source) != nil {
		t.Fatal("a credential for the configured registry is kept")
	}
}

type keychain struct {
	host string
	auth authn.Authenticator
}

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	if r.RegistryStr() == k.host {
		return k.auth, nil
	}
	return authn.Anonymous, nil
}

func TestAuth(t *testing.T) {
	for name, wrap := range map[string]func(string, string) func(http.Handler) http.Handler{"basic": behindBasic, "tokens": behindTokens} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, wrap("me", "secret"), nil)
			for _, address := range []string{w.host, "http://" + w.host + "/v2/"} {
				got, err := w.Auth(t.Context(), registry.AuthConfig{Username: "me", Password: "secret", ServerAddress: address})
				if err != nil || got.Status != "Login Succeeded" {
					t.Fatal(got, err)
				}
			}
			_, err := w.Auth(t.Context(), registry.AuthConfig{Username: "me", Password: "wrong", ServerAddress: w.host})
			wantError(t, err, sockerless.EUNAUTHORIZED, `Get "https://`+w.host+`/v2/": unauthorized: `)
			_, err = w.Auth(t.Context(), registry.AuthConfig{ServerAddress: w.host})
			wantError(t, err, sockerless.EUNAUTHORIZED, "unauthorized: ")
			if strings.Contains(err.Error(), "secret") {
				t.Fatal("the message tells the password")
			}
		})
	}
	w := newWorld(t, nil, nil)
	for _, address := range []string{"a b", "%zz", "a/../..\x00"} {
		if _, err := w.Auth(t.Context(), registry.AuthConfig{Username: "a", Password: "b", ServerAddress: address}); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
	_, err := w.Auth(t.Context(), registry.AuthConfig{Username: "a", Password: "b", ServerAddress: "http://127.0.0.1:1"})
	wantError(t, err, sockerless.EUNAVAILABLE, "cannot reach registry 127.0.0.1:1")
}
