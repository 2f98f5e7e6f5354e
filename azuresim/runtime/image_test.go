//go:build linux

package runtime

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

// layerOf makes a layer of headers; files contain their name.
func layerOf(t testing.TB, headers ...tar.Header) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// layered is minibox under three layers that use what layers can do.
func layered(t testing.TB, ref string) string {
	t.Helper()
	img, err := mutate.AppendLayers(baseBox,
		layerOf(t, tar.Header{Name: "data/", Typeflag: tar.TypeDir}, tar.Header{Name: "data/gone"}, tar.Header{Name: "data/stays"},
			tar.Header{Name: "opaque/", Typeflag: tar.TypeDir}, tar.Header{Name: "opaque/old"},
			tar.Header{Name: "owned", Uid: 1234, Gid: 5678, Mode: 0o4755}),
		layerOf(t, tar.Header{Name: "data/.wh.gone"}, tar.Header{Name: "data/new"}, tar.Header{Name: "data/hard", Typeflag: tar.TypeLink, Linkname: "data/new"},
			tar.Header{Name: "data/soft", Typeflag: tar.TypeSymlink, Linkname: "/data/new"},
			tar.Header{Name: "opaque/", Typeflag: tar.TypeDir}, tar.Header{Name: "opaque/.wh..wh..opq"}, tar.Header{Name: "opaque/fresh"}),
		layerOf(t, tar.Header{Name: "etc/.wh.hosts"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := pushTo(host, ref, img); err != nil {
		t.Fatal(err)
	}
	return host + "/" + ref
}

const showLayers = "ls /data /opaque; cat /data/soft /data/hard; ls -ln /owned | tr -s ' ' | cut -d' ' -f1,3,4; echo w > /data/new; cat /data/new"
const layersShown = "/data:\nhard\nnew\nsoft\nstays\n\n/opaque:\nfresh\ndata/newdata/new-rwsr-xr-x 1234 5678\nw"

func TestLayers(t *testing.T) {
	rt := need(t)
	image := layered(t, "layered:1")
	for range 2 { // what one container writes the next does not see
		spec := sh(showLayers)
		spec.Containers[0].Image = image
		o := launch(t, rt, spec)
		one(t, o.wait(t))
		if got := o.text("main/stdout"); got != layersShown {
			t.Errorf("printed %q, want %q; stderr %q", got, layersShown, o.text("main/stderr"))
		}
	}
}

func TestLayersAreCopiedWithoutOverlay(t *testing.T) {
	need(t)
	rt, err := New(Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	rt.mounts.overlay = false // what the probe says where the data folder lies on an overlay itself
	image := layered(t, "layered:2")
	for range 2 {
		spec := sh(showLayers)
		spec.Containers[0].Image = image
		o := launch(t, rt, spec)
		one(t, o.wait(t))
		if got := o.text("main/stdout"); got != layersShown {
			t.Errorf("printed %q, want %q; stderr %q", got, layersShown, o.text("main/stderr"))
		}
	}
}

func TestAnImageWithManyLayers(t *testing.T) {
	rt := need(t)
	img := baseBox
	for range 120 {
		l, err := random.Layer(64, "application/vnd.oci.image.layer.v1.tar+gzip")
		if err == nil {
			img, err = mutate.AppendLayers(img, l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := pushTo(host, "many:1", img); err != nil {
		t.Fatal(err)
	}
	o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: host + "/many:1", Command: []string{"true"}}}})
	if c := one(t, o.wait(t)); c.ExitCode != 0 {
		t.Errorf("result %+v", c)
	}
}

func TestAnImageFromScratch(t *testing.T) {
	rt := need(t)
	program, err := idleProgram()
	if err != nil {
		t.Skip(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	w.WriteHeader(&tar.Header{Name: "idle", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/idle"}})
	}
	if err == nil {
		err = pushTo(host, "scratch:1", img)
	}
	if err != nil {
		t.Fatal(err)
	}
	o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: host + "/scratch:1"}}})
	if c := one(t, o.wait(t)); c.ExitCode != 0 {
		t.Errorf("result %+v", c)
	}
}

func TestAHostileLayerStaysInItsFolder(t *testing.T) {
	rt := need(t)
	// On the file system of the layers, or a hard link could not be made anyway.
	dir, err := os.MkdirTemp(filepath.Dir(rt.opt.Dir), "azuresim-outside-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	outside, theirs := filepath.Join(dir, "outside"), filepath.Join(dir, "theirs")
	if err := os.WriteFile(theirs, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	for ref, headers := range map[string][]tar.Header{
		"hostile:dots": {{Name: "../../../../../../../../../../" + strings.TrimPrefix(outside, "/")}},
		"hostile:link": {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: filepath.Dir(outside)}, {Name: "out/outside"}},
		"hostile:hard": {{Name: "secret", Typeflag: tar.TypeLink, Linkname: "../../../../../../../../../.." + theirs}},
	} {
		img, err := mutate.AppendLayers(baseBox, layerOf(t, headers...))
		if err == nil {
			err = pushTo(host, ref, img)
		}
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := rt.images.pull(t.Context(), host+"/"+ref, nil, nil)
		if err == nil {
			rt.images.release(pulled)
		}
		if _, err := os.Lstat(outside); err == nil {
			t.Errorf("%s wrote outside of its folder", ref)
		}
		var st unix.Stat_t
		if err := unix.Stat(theirs, &st); err != nil || st.Nlink != 1 {
			t.Errorf("%s took a file from outside of its folder: %d links, %v", ref, st.Nlink, err)
		}
	}
}

func TestALayerWithAWrongDiffIDIsRefused(t *testing.T) {
	rt := need(t)
	l := layerOf(t, tar.Header{Name: "fresh-layer-for-this-test"})
	img, err := mutate.AppendLayers(baseBox, l)
	if err != nil {
		t.Fatal(err)
	}
	lying, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	lying = lying.DeepCopy()
	lying.RootFS.DiffIDs[1] = lying.RootFS.DiffIDs[0]
	if img, err = mutate.ConfigFile(img, lying); err != nil {
		t.Fatal(err)
	}
	if err := pushTo(host, "lying:1", img); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.images.pull(t.Context(), host+"/lying:1", nil, nil); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("pull: %v, want a complaint about the digest", err)
	}
}

func TestPrunedLayersComeBack(t *testing.T) {
	need(t)
	rt, err := New(Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Transport: carrier})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	o := launch(t, rt, sh("echo up; sleep 100"))
	until(t, "the container", func() bool { return o.text("main/stdout") == "up" })
	if freed, err := rt.PruneLayers(); freed != 0 || err != nil {
		t.Errorf("pruned %d bytes in use, %v", freed, err)
	}
	o.Stop(0)
	<-o.Replica.(*replica).swept
	if freed, err := rt.PruneLayers(); freed == 0 || err != nil {
		t.Errorf("pruned %d bytes of an unused layer, %v", freed, err)
	}
	one(t, launch(t, rt, sh("true")).wait(t))
}

func TestTheCacheIsBounded(t *testing.T) {
	need(t)
	rt, err := New(Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Transport: carrier, CacheBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	for _, ref := range []string{layered(t, "layered:1"), box()} {
		img, err := rt.images.pull(t.Context(), ref, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		rt.images.release(img)
	}
	layers, err := filepath.Glob(filepath.Join(rt.dir.layers, "*"))
	if err != nil || len(layers) != 2 { // minibox's one layer, and the empty one
		t.Errorf("kept %v, %v", layers, err)
	}
}

// TestEachPullAsksTheRegistry: a role that was taken away shows although the layers are cached.
func TestEachPullAsksTheRegistry(t *testing.T) {
	rt := need(t)
	var denied atomic.Bool
	var asked atomic.Int32
	guarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); denied.Load() || user != "puller" || pass != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		asked.Add(1)
		req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+host+r.URL.Path, nil)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		req.Header.Set("Accept", r.Header.Get("Accept"))
		resp, err := carrier.RoundTrip(req)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	defer guarded.Close()
	ref := strings.TrimPrefix(guarded.URL, "http://") + "/minibox:latest"
	keys := keychain{"puller", "secret"}
	for range 2 {
		before := asked.Load()
		img, err := rt.images.pull(t.Context(), ref, keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		rt.images.release(img)
		if asked.Load() == before {
			t.Error("a pull did not ask the registry")
		}
	}
	if _, err := rt.images.pull(t.Context(), ref, nil, nil); err == nil {
		t.Error("an anonymous pull succeeded")
	}
	denied.Store(true)
	if _, err := rt.images.pull(t.Context(), ref, keys, nil); err == nil {
		t.Error("a pull without permission succeeded")
	}
}

type keychain struct{ user, password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	rt := need(t)
	// A name that is not loopback by its look, so that go-containerregistry does not take http by itself.
	via := http.DefaultTransport.(*http.Transport).Clone()
	defer via.CloseIdleConnections()
	var plain atomic.Bool
	counted := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Scheme == "http" {
			plain.Store(true)
			r = r.Clone(r.Context())
			r.URL.Host = host
			return via.RoundTrip(r)
		}
		return nil, errors.New("no https here")
	})
	old := rt.opt.Transport
	rt.opt.Transport = counted
	defer func() { rt.opt.Transport = old }()
	ref := "registry.example:5000/minibox:latest"
	if _, err := rt.images.pull(t.Context(), ref, nil, nil); err == nil || plain.Load() {
		t.Errorf("plain http without permission: %v, used %v", err, plain.Load())
	}
	img, err := rt.images.pull(t.Context(), ref, nil, func(registry string) bool { return registry == "registry.example:5000" })
	if err != nil {
		t.Fatal(err)
	}
	rt.images.release(img)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestAStoppedPullDoesNotStopTheOthers: replicas share a download.
func TestAStoppedPullDoesNotStopTheOthers(t *testing.T) {
	rt := need(t)
	img, err := mutate.AppendLayers(baseBox, layerOf(t, tar.Header{Name: "shared-download"}))
	if err == nil {
		err = pushTo(host, "slow:1", img)
	}
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := img.Layers()
	digest, _ := layers[1].Digest()
	release, asked := make(chan struct{}), make(chan struct{}, 2)
	free := sync.OnceFunc(func() { close(release) })
	defer free() // whatever comes of it: who waits holds up the test's end
	old := rt.opt.Transport
	rt.opt.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, digest.Hex) {
			select {
			case asked <- struct{}{}:
			default:
			}
			<-release
		}
		return carrier.RoundTrip(r)
	})
	defer func() { rt.opt.Transport = old }()
	spec := azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: host + "/slow:1", Command: []string{"cat", "/shared-download"}}}}
	first := launch(t, rt, spec)
	select {
	case <-asked:
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody asks for the layer")
	}
	second := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: host + "/slow:1", Command: []string{"cat", "/shared-download"}}}})
	first.Stop(0)
	first.wait(t)
	free()
	one(t, second.wait(t))
	if got := second.text("main/stdout"); got != "shared-download" {
		t.Errorf("printed %q", got)
	}
}
