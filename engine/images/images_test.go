package images_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/api/types/jsonstream"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
	"github.com/sockerless/sockerless/engine/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// world is a registry and a Service beside it.
type world struct {
	*images.Service
	host  string // the registry's
	store store.Store
	spool string              // the folder of archives
	auth  authn.Authenticator // of push
}

// newWorld starts a registry behind wrap, and opens a Service with a store of its own. The Service pushes to the registry.
func newWorld(t *testing.T, wrap func(http.Handler) http.Handler, change func(*images.Options)) *world {
	t.Helper()
	w := &world{auth: authn.Anonymous}
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	w.host = strings.TrimPrefix(srv.URL, "http://")
	st, err := store.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	w.store = st
	w.spool = t.TempDir()
	opt := images.Options{Registry: w.host, SpoolDir: w.spool, UserAgent: "sockerless-test"}
	if change != nil {
		change(&opt)
	}
	w.Service, err = images.Open(t.Context(), st, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// reopen opens a second Service on the same store, as after a restart.
func (w *world) reopen(t *testing.T) *images.Service {
	t.Helper()
	s, err := images.Open(t.Context(), w.store, images.Options{Registry: w.host})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// alter changes the config of a test image.
type alter func(*v1.ConfigFile)

func platform(os, arch, variant string) alter {
	return func(c *v1.ConfigFile) { c.OS, c.Architecture, c.Variant = os, arch, variant }
}

func created(at time.Time) alter {
	return func(c *v1.ConfigFile) { c.Created = v1.Time{Time: at} }
}

// makeImage makes an image of random layers, so that no two are alike.
func makeImage(t *testing.T, layers int, changes ...alter) v1.Image {
	t.Helper()
	img := empty.Image
	for range layers {
		img = appendLayer(t, img, randomTar(t))
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config.Cmd = []string{"sh"}
	cfg.Config.Env = []string{"PATH=/bin", "ID=" + randomHex()}
	for _, change := range changes {
		change(cfg)
	}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	return img
}

func randomHex() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func (w *world) push(t *testing.T, ref string, what remote.Taggable) {
	t.Helper()
	r, err := name.ParseReference(w.host+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(r, what, remote.WithAuth(w.auth))
	case v1.ImageIndex:
		err = remote.WriteIndex(r, what, remote.WithAuth(w.auth))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func idOf(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func digestOf(t *testing.T, what interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := what.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// collect reads a feed to its end. Layer lines, whose order is the network's, come back as a count.
func collect(feed func(func(jsonstream.Message, error) bool)) (lines []string, layers int, err error) {
	for m, e := range feed {
		switch {
		case e != nil:
			err = e
		case m.Stream != "":
			lines = append(lines, m.Stream)
		case strings.HasPrefix(m.Status, "Found in the registry"):
			layers++
		case m.ID != "":
			lines = append(lines, m.ID+": "+m.Status)
		default:
			lines = append(lines, m.Status)
		}
	}
	return lines, layers, err
}

func (w *world) pull(t *testing.T, ref string) []string {
	t.Helper()
	lines, _, err := collect(w.Pull(t.Context(), ref, sockerless.PullOptions{}))
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return lines
}

func wantError(t *testing.T, err error, code sockerless.Code, text string) {
	t.Helper()
	if sockerless.ErrorCode(err) != code || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %q %v\nwant %q %q", sockerless.ErrorCode(err), err, code, text)
	}
}

// nothing is an empty store.
type nothing struct{ store.Store }

func (nothing) List(context.Context, string) iter.Seq2[store.Item, error] {
	return func(func(store.Item, error) bool) {}
}
