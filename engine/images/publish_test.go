package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
)

// traffic notes what a registry is asked.
type traffic struct {
	mu   sync.Mutex
	seen []string
}

func (r *traffic) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.seen = append(r.seen, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

// count tells how many requests had a method and a part of a path, and forgets.
func (r *traffic) count(method, part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.seen {
		if strings.HasPrefix(s, method+" ") && strings.Contains(s, part) {
			n++
		}
	}
	r.seen = nil
	return n
}

func TestPushed(t *testing.T) {
	var there traffic
	w, far := newWorld(t, nil, nil), newWorld(t, there.wrap, nil)
	img := makeImage(t, 2)
	w.push(t, "app:1", img)
	w.pull(t, w.host+"/app:1")
	for _, tag := range []string{far.host + "/mine:1", far.host + "/mine:2"} {
		if err := w.Tag(t.Context(), w.host+"/app:1", tag); err != nil {
			t.Fatal(err)
		}
	}
	found, err := w.Find(t.Context(), far.host+"/mine:1")
	if err != nil {
		t.Fatal(err)
	}
	layers := func(status string) (lines []string) {
		for _, l := range found.Layers {
			lines = append(lines, strings.TrimPrefix(l.DiffID, "sha256:")[:12]+": "+status)
		}
		return lines
	}
	raw, _ := img.RawManifest()
	digest := digestOf(t, img)
	lines := func(tag, status string) []string {
		out := []string{"The push refers to repository [" + far.host + "/mine]"}
		for _, l := range layers(status) {
			if status == "Pushed" {
				out = append(out, strings.Replace(l, status, "Preparing", 1))
			}
			out = append(out, l)
		}
		return append(out, fmt.Sprintf("%s: digest: %s size: %d", tag, digest, len(raw)), "")
	}
	got, _, err := collect(w.Push(t.Context(), far.host+"/mine:1", sockerless.PushOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(l string) bool { return strings.HasSuffix(l, ": Pushing") })
	if diff := cmp.Diff(lines("1", "Pushed"), got); diff != "" {
		t.Error(diff)
	}
	if n := there.count("POST", "/blobs/uploads/"); n != 3 { // two layers and a config
		t.Errorf("%d uploads, want 3", n)
	}
	// What is there already is not moved.
	got, _, err = collect(w.Push(t.Context(), far.host+"/mine:2", sockerless.PushOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines("2", "Layer already exists"), got); diff != "" {
		t.Error(diff)
	}
	if n := there.count("POST", "/blobs/uploads/"); n != 0 {
		t.Errorf("%d uploads of what was there", n)
	}
	// The registry has the whole image under its digest, and the record says so.
	far.pull(t, far.host+"/mine:2")
	there2, err := far.Find(t.Context(), far.host+"/mine@"+digest)
	if err != nil || there2.ID != found.ID {
		t.Fatalf("%+v, %v", there2, err)
	}
	found, err = w.Find(t.Context(), far.host+"/mine:1")
	if err != nil || !slices.Contains(found.Digests, far.host+"/mine@"+digest) {
		t.Errorf("digests %v, %v", found.Digests, err)
	}
	// Every tag of a repository.
	got, _, err = collect(w.Push(t.Context(), far.host+"/mine", sockerless.PushOptions{All: true}))
	if err != nil || !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "1: digest") }) || !slices.ContainsFunc(got, func(l string) bool { return strings.HasPrefix(l, "2: digest") }) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestPushMounts: what the same registry has in another repository is mounted.
func TestPushMounts(t *testing.T) {
	var there traffic
	w := newWorld(t, there.wrap, nil)
	w.push(t, "app:1", makeImage(t, 2))
	w.pull(t, w.host+"/app:1")
	if err := w.Tag(t.Context(), w.host+"/app:1", w.host+"/other:1"); err != nil {
		t.Fatal(err)
	}
	there.count("", "")
	got, _, err := collect(w.Push(t.Context(), w.host+"/other:1", sockerless.PushOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	// The registry of these tests keeps its blobs for all repositories, so they are found there before a mount is asked for.
	if n := there.count("PATCH", "/blobs/uploads/"); n > 0 {
		t.Errorf("%d layers were sent: %q", n, got)
	}
}

func TestPushRefused(t *testing.T) {
	closed := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost || r.Method == http.MethodPut {
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, `{"errors":[{"code":"DENIED","message":"you may not"}]}`)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	w, far := newWorld(t, nil, nil), newWorld(t, closed, nil)
	w.push(t, "app:1", makeImage(t, 1))
	w.pull(t, w.host+"/app:1")
	if err := w.Tag(t.Context(), w.host+"/app:1", far.host+"/mine:1"); err != nil {
		t.Fatal(err)
	}
	push := func(ref string) error {
		_, _, err := collect(w.Push(t.Context(), ref, sockerless.PushOptions{}))
		return err
	}
	wantError(t, push(far.host+"/mine:1"), sockerless.EFORBIDDEN, "denied: you may not")
	wantError(t, push(far.host+"/mine:2"), sockerless.ENOTFOUND, "tag does not exist: "+far.host+"/mine:2")
	wantError(t, push("nosuch:1"), sockerless.ENOTFOUND, "An image does not exist locally with the tag: nosuch")
	wantError(t, push("BAD"), sockerless.EINVALID, "invalid reference format")
	wantError(t, push("app@sha256:"+strings.Repeat("0", 64)), sockerless.EINVALID, "cannot push a digest reference")
}

// save returns the archive of images.
func (w *world) save(t *testing.T, refs ...string) []byte {
	t.Helper()
	r, err := w.Save(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSave: one archive is an OCI layout and Docker's at once, whole, with each blob once; and Load takes it.
func TestSave(t *testing.T) {
	w := newWorld(t, nil, nil)
	base := makeImage(t, 2)
	for tag, img := range map[string]v1.Image{"app:1": base, "app:2": asOCI(appendLayer(t, base, randomTar(t)))} {
		w.push(t, tag, img)
		w.pull(t, w.host+"/"+tag)
	}
	archive := w.save(t, w.host+"/app:1", w.host+"/app:2", w.host+"/app:1")
	dir := t.TempDir()
	names := unpack(t, archive, dir)
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != len(names) {
		t.Errorf("a file is there twice: %q", names)
	}
	if len(names) != 3+2+2+3 { // three layers, two configs, two manifests, and the lists
		t.Errorf("%d files: %q", len(names), names)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 2 || m.Manifests[0].Annotations["io.containerd.image.name"] != w.host+"/app:1" || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1" {
		t.Errorf("%+v, %v", m, err)
	}
	tag, _ := name.NewTag(w.host + "/app:2")
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	if again := w.save(t, w.host+"/app:1", w.host+"/app:2", w.host+"/app:1"); !bytes.Equal(again, archive) {
		t.Error("the same images make another archive")
	}
	// Without a tag it is all of the repository; by id it has no name.
	if all := w.save(t, w.host+"/app"); !bytes.Equal(all, archive) {
		t.Error("the repository's archive is not that of its tags")
	}
	found, err := w.Find(t.Context(), w.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	far := newWorld(t, nil, nil)
	lines, _, err := collect(far.Load(t.Context(), bytes.NewReader(w.save(t, found.ID))))
	if err != nil || !slices.Contains(lines, "Loaded image ID: "+found.ID+"\n") {
		t.Errorf("%q, %v", lines, err)
	}
	lines, _, err = collect(far.Load(t.Context(), bytes.NewReader(archive)))
	if err != nil || !slices.Contains(lines, "Loaded image: "+w.host+"/app:2\n") {
		t.Errorf("%q, %v", lines, err)
	}
	loaded, err := far.Find(t.Context(), w.host+"/app:1")
	if err != nil || loaded.ID != found.ID {
		t.Errorf("%+v, %v", loaded, err)
	}
	_, err = w.Save(t.Context(), []string{w.host + "/app:1", "nosuch"})
	wantError(t, err, sockerless.ENOTFOUND, "No such image: nosuch")
}

// unpack writes an archive into a folder and returns the names of its files.
func unpack(t *testing.T, archive []byte, dir string) (names []string) {
	t.Helper()
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		names = append(names, h.Name)
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSaveCut: a registry that sends something else than it should, or goes away, cuts the archive.
func TestSaveCut(t *testing.T) {
	bad := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			resp.Body.Close()
			resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader("something else")), -1
		}
		return resp, err
	})
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1)
	w.push(t, "app:1", img)
	w.pull(t, w.host+"/app:1")
	s, err := images.Open(t.Context(), w.store, images.Options{Transport: bad})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r, err := s.Save(t.Context(), []string{w.host + "/app:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err == nil {
		t.Errorf("%d bytes came, and a good end", len(b))
	}
	// Who stops reading leaves nothing behind; goleak looks.
	r, err = w.Save(t.Context(), []string{w.host + "/app:1"})
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(r, make([]byte, 10))
	r.Close()
}

func TestSearch(t *testing.T) {
	search := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/search" {
				next.ServeHTTP(w, r)
				return
			}
			if user, password, ok := r.BasicAuth(); ok && (user != "u" || password != "p") {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			json.NewEncoder(w).Encode(registry.SearchResults{Results: []registry.SearchResult{
				{Name: r.FormValue("q") + " " + r.FormValue("n"), StarCount: 5, IsOfficial: true, IsAutomated: true},
				{Name: "other", StarCount: 1},
			}})
		})
	}
	w := newWorld(t, search, nil)
	find := func(opt sockerless.SearchOptions) []string {
		t.Helper()
		found, err := w.Search(t.Context(), w.host+"/some thing", opt)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range found {
			names = append(names, r.Name)
		}
		return names
	}
	for _, c := range []struct {
		opt  sockerless.SearchOptions
		want []string
	}{
		{sockerless.SearchOptions{}, []string{"some thing 25", "other"}},
		{sockerless.SearchOptions{Limit: 7, Auth: &registry.AuthConfig{Username: "u", Password: "p"}}, []string{"some thing 7", "other"}},
		{sockerless.SearchOptions{Filters: sockerless.Filters{"stars": {"3"}}}, []string{"some thing 25"}},
		{sockerless.SearchOptions{Filters: sockerless.Filters{"is-official": {"false"}}}, []string{"other"}},
		{sockerless.SearchOptions{Filters: sockerless.Filters{"is-automated": {"true"}}}, nil},
	} {
		if diff := cmp.Diff(c.want, find(c.opt)); diff != "" {
			t.Errorf("%+v: %s", c.opt, diff)
		}
	}
	fail := func(term string, opt sockerless.SearchOptions) error {
		_, err := w.Search(t.Context(), term, opt)
		return err
	}
	wantError(t, fail("x", sockerless.SearchOptions{Limit: 101}), sockerless.EINVALID, "limit 101 is outside the range of [1, 100]")
	wantError(t, fail("x", sockerless.SearchOptions{Filters: sockerless.Filters{"color": {"red"}}}), sockerless.EINVALID, "invalid filter 'color'")
	wantError(t, fail("x", sockerless.SearchOptions{Filters: sockerless.Filters{"stars": {"many"}}}), sockerless.EINVALID, "invalid filter 'stars=many'")
	wantError(t, fail("https://x/y", sockerless.SearchOptions{}), sockerless.EINVALID, "should not have a scheme")
	wantError(t, fail(w.host+"/x", sockerless.SearchOptions{Auth: &registry.AuthConfig{Username: "u", Password: "wrong"}}), sockerless.EFORBIDDEN, "denied")
	plain := newWorld(t, nil, nil)
	wantError(t, fail(plain.host+"/x", sockerless.SearchOptions{}), sockerless.EUNSUPPORTED, "cannot search registry "+plain.host+": it has no search")
}

func TestResolve(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1, platform("linux", "arm64", "v8"))
	w.push(t, "app:1", img)
	w.push(t, "many:1", mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: makeImage(t, 1), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}}))
	got, err := w.Resolve(t.Context(), w.host+"/app:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := img.RawManifest()
	want := &registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: string(types.DockerManifestSchema2), Digest: got.Descriptor.Digest, Size: int64(len(raw))},
		Platforms:  []ocispec.Platform{{OS: "linux", Architecture: "arm64", Variant: "v8"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Descriptor.Digest.String() != digestOf(t, img) {
		t.Error(diff, got.Descriptor.Digest)
	}
	if got, err = w.Resolve(t.Context(), w.host+"/many:1", nil); err != nil || len(got.Platforms) != 2 || got.Descriptor.MediaType != string(types.OCIImageIndex) && got.Descriptor.MediaType != string(types.DockerManifestList) {
		t.Errorf("%+v, %v", got, err)
	}
	if n := w.Count(); n != 0 {
		t.Errorf("%d images were recorded", n)
	}
	_, err = w.Resolve(t.Context(), w.host+"/nosuch:1", nil)
	wantError(t, err, sockerless.ENOTFOUND, "nosuch")
}

func TestCommit(t *testing.T) {
	w, far := newWorld(t, nil, nil), newWorld(t, nil, nil)
	base := makeImage(t, 2, func(c *v1.ConfigFile) {
		c.Author, c.History = "them", []v1.History{{CreatedBy: "one"}, {CreatedBy: "two"}}
	})
	far.push(t, "app:1", base)
	w.pull(t, far.host+"/app:1")
	parent, err := w.Find(t.Context(), far.host+"/app:1")
	if err != nil {
		t.Fatal(err)
	}
	from := &sockerless.Container{
		ID: strings.Repeat("c", 64), Image: parent.ID, ImageRef: parent.Source, Config: &container.Config{Cmd: []string{"do", "it"}},
	}
	config := &container.Config{Cmd: []string{"x"}, Env: []string{"A=b"}, Hostname: "of the container alone"}
	layer := tarOf(t, file("new", "content"), file(".wh.gone", ""))
	id, err := w.Commit(t.Context(), from, sockerless.CommitOptions{Ref: "mine:1", Comment: "hello", Author: "me", Config: config}, bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Find(t.Context(), "mine:1")
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != id || got.Parent != parent.ID || got.Author != "me" || !strings.HasPrefix(got.Source, w.host+"/loaded/mine@") || len(got.Layers) != 3 {
		t.Errorf("%+v", got)
	}
	var said struct {
		Author  string
		Config  map[string]any
		History []struct{ CreatedBy, Comment, Author string }
		Rootfs  struct{ Diff_ids []string }
	}
	if err := json.Unmarshal(bytes.ReplaceAll(got.Config, []byte("created_by"), []byte("CreatedBy")), &said); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"Cmd": []any{"x"}, "Env": []any{"A=b"}}, said.Config); diff != "" {
		t.Error(diff)
	}
	if n := len(said.History); n != 3 || said.History[2].CreatedBy != "do it" || said.History[2].Comment != "hello" || said.History[2].Author != "me" || len(said.Rootfs.Diff_ids) != 3 {
		t.Errorf("%+v", said)
	}
	// It is whole where jobs pull it from, and its registry gives the layer back as it was.
	_, img := w.runnable(t, "mine:1")
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[2].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, layer) {
		t.Errorf("the layer has %d bytes, want %d, %v", len(b), len(layer), err)
	}
	// Without a layer it is another config of the same layers, without a name it is found by its id.
	id, err = w.Commit(t.Context(), from, sockerless.CommitOptions{Config: config}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = w.Find(t.Context(), id); err != nil || len(got.Layers) != 2 || len(got.Tags) != 0 || got.Author != "" {
		t.Errorf("%+v, %v", got, err)
	}
	// A layer that breaks off makes no image.
	n := w.Count()
	broken := io.MultiReader(bytes.NewReader(layer[:700]), readerOf(sockerless.Errorf(sockerless.EUNAVAILABLE, "lost the agent")))
	_, err = w.Commit(t.Context(), from, sockerless.CommitOptions{Config: config}, broken)
	wantError(t, err, sockerless.EUNAVAILABLE, "lost the agent")
	if w.Count() != n {
		t.Error("a broken layer has made an image")
	}
	_, err = w.Commit(t.Context(), from, sockerless.CommitOptions{Ref: "BAD", Config: config}, nil)
	wantError(t, err, sockerless.EINVALID, "invalid reference format")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Commit(ctx, from, sockerless.CommitOptions{Config: config}, bytes.NewReader(layer)); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone: %v", err)
	}
	none := newWorld(t, nil, func(o *images.Options) { o.Registry = "" })
	_, err = none.Commit(t.Context(), from, sockerless.CommitOptions{Config: config}, nil)
	wantError(t, err, sockerless.EUNSUPPORTED, "cannot commit: images go to a registry")
}

// readerOf is a reader that fails.
func readerOf(err error) io.Reader { r, w := io.Pipe(); w.CloseWithError(err); return r }
