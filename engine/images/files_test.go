package images_test

import (
	"archive/tar"
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/sockerless/sockerless"
)

func tarWith(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Uid: 7, Gid: 8}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) files(t *testing.T, source string) ([]string, error) {
	t.Helper()
	var all []string
	for h, err := range w.Files(t.Context(), source) {
		if err != nil {
			return all, err
		}
		if h.Typeflag == tar.TypeReg && (h.Mode != 0o640 || h.Uid != 7 || h.Gid != 8) {
			t.Errorf("%+v", h)
		}
		all = append(all, h.Name)
	}
	return all, nil
}

// The files of an image are read from its registry once, whoever asks, and are known after that without it.
func TestFiles(t *testing.T) {
	var blobs, down atomic.Int32
	w := newWorld(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				blobs.Add(1)
			}
			if down.Load() > 0 {
				rw.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}, nil)
	img := appendLayer(t, appendLayer(t, makeImage(t, 0), tarWith(t, "etc/", "etc/passwd", "tmp/x")), tarWith(t, "etc/.wh.passwd", "etc/shadow"))
	w.push(t, "app:1", img)
	w.pull(t, w.host+"/app:1")
	found, err := w.Find(t.Context(), w.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	before := blobs.Load()
	want := []string{"etc", "etc/shadow", "tmp", "tmp/x"}
	var askers sync.WaitGroup
	for range 5 {
		askers.Go(func() {
			got, err := w.files(t, found.Source)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
	askers.Wait()
	if n := blobs.Load() - before; n != 2 {
		t.Errorf("the layers were fetched %d times, want 2", n)
	}
	down.Store(1)
	if got, err := w.files(t, found.Source); err != nil || len(got) != 4 {
		t.Errorf("without the registry: %q, %v", got, err)
	}
	// A listing that a crash has cut is made again.
	listings, err := filepath.Glob(filepath.Join(w.spool, "listings", "sha256-*"))
	if err != nil || len(listings) != 2 {
		t.Fatalf("%q, %v", listings, err)
	}
	for _, name := range listings {
		if err := os.Truncate(name, 3); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := w.files(t, found.Source); err == nil {
		t.Errorf("with neither registry nor listing: %q", got)
	}
	down.Store(0)
	if got, err := w.files(t, found.Source); err != nil || len(got) != 4 {
		t.Errorf("again: %q, %v", got, err)
	}
	// The image may be gone here; its containers go on.
	if _, err := w.Remove(t.Context(), found.ID, true); err != nil {
		t.Fatal(err)
	}
	if got, err := w.files(t, found.Source); err != nil || len(got) != 4 {
		t.Errorf("of a removed image: %q, %v", got, err)
	}
}

func TestFilesOfWhatIsNoLayer(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.push(t, "bad:1", appendLayer(t, empty.Image, bytes.Repeat([]byte("no tar"), 1000)))
	w.pull(t, w.host+"/bad:1")
	found, err := w.Find(t.Context(), w.host+"/bad:1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.files(t, found.Source); err == nil || !strings.Contains(err.Error(), "cannot read layer sha256:") {
		t.Errorf("%q, %v", got, err)
	}
	_, err = w.files(t, "127.0.0.1:1/no@sha256:"+strings.Repeat("0", 64))
	if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE {
		t.Errorf("no registry: %v", err)
	}
}
