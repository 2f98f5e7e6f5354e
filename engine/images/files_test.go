package images_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

// tree lists what ReadTree gives, with the contents.
func (w *world) tree(t *testing.T, source, at, name string) ([]string, error) {
	t.Helper()
	r, err := w.ReadTree(t.Context(), source, at, name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return all, err
		}
		line := h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(b) > 0 {
			line += " " + string(b)
		}
		all = append(all, line)
	}
}

func TestReadTree(t *testing.T) {
	w := newWorld(t, nil, nil)
	content := func(name, text string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), Linkname: text}
	}
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
	link := func(kind byte, name, target string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: target}
	}
	pack := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		out := tar.NewWriter(&b)
		for _, h := range headers {
			text := h.Linkname
			if h.Typeflag == tar.TypeReg {
				h.Linkname = ""
			}
			if err := out.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			io.WriteString(out, text[:h.Size])
		}
		out.Close()
		return b.Bytes()
	}
	img := makeImage(t, 0)
	img = appendLayer(t, img, pack(dir("bin/"), content("bin/a", "one"), link(tar.TypeLink, "bin/b", "bin/a"), content("etc/x", "old"), content("etc/gone", "gone")))
	img = appendLayer(t, img, pack(dir("etc/"), content("etc/x", "new"), content("etc/.wh.gone", ""), content("bin/a", "two"),
		link(tar.TypeSymlink, "bin/s", "/etc/x"), link(tar.TypeLink, "bin/c", "bin/a")))
	w.push(t, "app:1", img)
	w.pull(t, w.host+"/app:1")
	found, err := w.Find(t.Context(), w.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at, name string
		want     []string
	}{
		// bin/b is a link to what bin/a was.
		{"bin", "bin", []string{"bin/", "bin/b one", "bin/a two", "bin/c -> bin/a", "bin/s -> /etc/x"}},
		{"etc", ".", []string{"./", "./x new"}},
		{"etc/x", "x", []string{"x new"}},
		{"bin/b", "b", []string{"b one"}},
		{"bin/c", "c", []string{"c two"}},
		{"bin/s", "s", []string{"s -> /etc/x"}},
		{"", "", []string{"bin/", "etc/", "bin/b one", "etc/x new", "bin/a two", "bin/c -> bin/a", "bin/s -> /etc/x"}},
		{"no", "no", []string{"no/"}},
	} {
		got, err := w.tree(t, found.Source, test.at, test.name)
		slices.Sort(got)
		slices.Sort(test.want)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", test.at, err, diff)
		}
	}
	// Who leaves early holds nobody up.
	r, err := w.ReadTree(t.Context(), found.Source, "", "")
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if got, err := w.tree(t, found.Source, "etc/x", "x"); err != nil || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
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
