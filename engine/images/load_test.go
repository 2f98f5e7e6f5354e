package images_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
)

// dockerSave makes what docker save wrote before 25: layers as they are on disk, not compressed.
func dockerSave(t *testing.T, tags []string, imgs ...v1.Image) []byte {
	t.Helper()
	var files []tar.Header
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for _, img := range imgs {
		raw, err := img.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		e := entry{Config: strings.TrimPrefix(idOf(t, img), "sha256:") + ".json", RepoTags: tags}
		files = append(files, file(e.Config, string(raw)))
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			id, _ := l.DiffID()
			r, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			e.Layers = append(e.Layers, id.Hex+"/layer.tar")
			files = append(files, file(id.Hex+"/layer.tar", string(content)))
		}
		manifest = append(manifest, e)
	}
	raw, _ := json.Marshal(manifest)
	return tarOf(t, append(files, file("manifest.json", string(raw)))...)
}

// compressedSave makes an archive whose layers are compressed, by go-containerregistry.
func compressedSave(t *testing.T, tag string, img v1.Image) []byte {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(ref, img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ociLayout makes the archive of an OCI image layout.
func ociLayout(t *testing.T, add func(layout.Path)) []byte {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	add(p)
	var files []tar.Header
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files = append(files, file("./"+rel, string(raw)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, files...)
}

// asOCI makes an image's manifest and layers OCI's.
func asOCI(img v1.Image) v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(t *testing.T, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// runnable checks that what was recorded is whole in the registry, as whoever runs it will find it.
func (w *world) runnable(t *testing.T, ref string, how ...validate.Option) (*sockerless.Image, v1.Image) {
	t.Helper()
	got, err := w.Find(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	source, err := name.NewDigest(got.Source, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	there, err := remote.Image(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(there, how...); err != nil {
		t.Fatal(err)
	}
	layers, err := there.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil { // the reader verifies
			t.Fatal(err)
		}
		r.Close()
	}
	return got, there
}

func TestLoad(t *testing.T) {
	img := makeImage(t, 3)
	id := idOf(t, img)
	for _, tc := range []struct {
		name    string
		archive []byte
		ref     string
		source  string // without the digest
		lines   []string
		keeps   bool // the manifest's digest is the archive's
		image   v1.Image
		notGzip bool
	}{
		{name: "docker save", archive: dockerSave(t, []string{"foo:1"}, img), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}},
		{name: "compressed layers", archive: compressedSave(t, "foo:1", img), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}},
		{name: "gzip", archive: gz(dockerSave(t, []string{"foo:1"}, img)), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}},
		{name: "zstd", archive: zst(t, dockerSave(t, []string{"foo:1"}, img)), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}},
		{
			name: "two tags, one twice", archive: dockerSave(t, []string{"user/foo:1", "docker.io/user/foo:1", "ghcr.io:443/a/b:2"}, img), ref: "ghcr.io:443/a/b:2",
			source: "/loaded/user/foo", lines: []string{"Loaded image: user/foo:1\n", "Loaded image: ghcr.io:443/a/b:2\n"},
		},
		{name: "another registry's", archive: dockerSave(t, []string{"ghcr.io:443/a/b:2"}, img), ref: "ghcr.io:443/a/b:2", source: "/loaded/ghcr.io-443/a/b", lines: []string{"Loaded image: ghcr.io:443/a/b:2\n"}},
		{name: "no tag", archive: dockerSave(t, nil, img), ref: id, source: "/loaded/" + id[7:19], lines: []string{"Loaded image ID: " + id + "\n"}},
		{
			name: "a very long name", archive: dockerSave(t, []string{strings.Repeat("a/", 100) + "b:" + strings.Repeat("t", 128)}, img), ref: id,
			source: "/loaded/" + id[7:19], lines: []string{"Loaded image: " + strings.Repeat("a/", 100) + "b:" + strings.Repeat("t", 128) + "\n"},
		},
		{
			name: "OCI layout", ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}, keeps: true, image: asOCI(img),
			archive: ociLayout(t, func(p layout.Path) {
				if err := p.AppendImage(asOCI(img), layout.WithAnnotations(map[string]string{"io.containerd.image.name": "docker.io/library/foo:1", "org.opencontainers.image.ref.name": "1"})); err != nil {
					t.Fatal(err)
				}
			}),
		},
		{
			name: "OCI layout that names no image", ref: id, source: "/loaded/" + id[7:19], lines: []string{"Loaded image ID: " + id + "\n"}, keeps: true, image: asOCI(img),
			archive: ociLayout(t, func(p layout.Path) {
				if err := p.AppendImage(asOCI(img), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1"})); err != nil {
					t.Fatal(err)
				}
			}),
		},
		{
			name: "OCI layout for several platforms", ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}, keeps: true, image: asOCI(img),
			archive: ociLayout(t, func(p layout.Path) {
				index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
					mutate.IndexAddendum{Add: makeImage(t, 1), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
					mutate.IndexAddendum{Add: asOCI(img), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
				if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "foo:1"})); err != nil {
					t.Fatal(err)
				}
			}),
		},
		{
			name: "OCI layout with layers as they are on disk", ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}, keeps: true, image: plainOCI(t), notGzip: true,
			archive: ociLayout(t, func(p layout.Path) {
				if err := p.AppendImage(plainOCI(t), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "foo:1"})); err != nil {
					t.Fatal(err)
				}
			}),
		},
		{name: "a layer that zstd has compressed", archive: zstdLayer(t), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}, image: noImage, notGzip: true},
		{name: "layers that are links to others", archive: linkedLayers(t), ref: "foo:1", source: "/loaded/foo", lines: []string{"Loaded image: foo:1\n"}, image: noImage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			var lines []string
			all, _, err := collect(w.Load(t.Context(), bytes.NewReader(tc.archive)))
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				if strings.HasPrefix(l, "Loaded") {
					lines = append(lines, l)
				}
			}
			if diff := cmp.Diff(tc.lines, lines); diff != "" {
				t.Fatal(diff)
			}
			want := tc.image
			if want == nil {
				want = img
			}
			var fast []validate.Option
			if tc.notGzip { // go-containerregistry takes every layer for gzip
				fast = append(fast, validate.Fast)
			}
			got, _ := w.runnable(t, tc.ref, fast...)
			if want != noImage {
				if got.ID != idOf(t, want) {
					t.Fatalf("got %s", got.ID)
				}
				if _, d, _ := strings.Cut(got.Source, "@"); tc.keeps && d != digestOf(t, want) {
					t.Fatalf("the manifest is %s, was %s", d, digestOf(t, want))
				}
			}
			if repo, _, _ := strings.Cut(got.Source, "@"); repo != w.host+tc.source {
				t.Fatalf("it was pushed to %s", repo)
			}
			if left, err := os.ReadDir(w.spool); err != nil || len(left) > 0 {
				t.Fatal("left behind: ", left, err)
			}
		})
	}
}

var noImage = mutate.MediaType(empty.Image, "none")

// plainOCI is an image whose layer is not compressed.
func plainOCI(t *testing.T) v1.Image {
	content := tarOf(t, file("f", "content"))
	img, err := mutate.AppendLayers(asOCI(empty.Image), static.NewLayer(content, types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// oneLayer writes an archive by hand: content is what is inside of the file that the archive has.
func oneLayer(t *testing.T, content, stored []byte, more ...tar.Header) []byte {
	t.Helper()
	h, _, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	cfg := `{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":["` + h.String() + `"]}}`
	files := []tar.Header{
		file("c.json", cfg), file("manifest.json", `[{"Config":"c.json","RepoTags":["foo:1"],"Layers":["a/layer.tar"]}]`),
	}
	if stored != nil {
		files = append(files, file("a/layer.tar", string(stored)))
	}
	return tarOf(t, append(files, more...)...)
}

func zstdLayer(t *testing.T) []byte {
	content := tarOf(t, file("f", "content"))
	return oneLayer(t, content, zst(t, content))
}

// linkedLayers is how docker save used to share layers.
func linkedLayers(t *testing.T) []byte {
	content := tarOf(t, file("f", "content"))
	return oneLayer(t, content, nil, file("b/layer.tar", string(content)), tar.Header{Name: "a/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../b/layer.tar"})
}

// TestLoadAgain: a tag that moves says so, and the old image stays, without a name, and still runs.
func TestLoadAgain(t *testing.T) {
	w := newWorld(t, nil, nil)
	first, second := makeImage(t, 1), makeImage(t, 1)
	for _, img := range []v1.Image{first, second} {
		lines, _, err := collect(w.Load(t.Context(), bytes.NewReader(dockerSave(t, []string{"foo:1"}, img))))
		if err != nil {
			t.Fatal(err)
		}
		if img == second {
			want := "The image foo:1 already exists, renaming the old one with ID " + idOf(t, first) + " to empty string\n"
			if !strings.Contains(strings.Join(lines, "|"), want) {
				t.Fatal(lines)
			}
		}
	}
	if got, _ := w.runnable(t, idOf(t, first)); len(got.Tags) != 0 {
		t.Fatal(got.Tags)
	}
	w.runnable(t, "foo:1")
	// Loaded once more, nothing is sent.
	lines, _, err := collect(w.Load(t.Context(), bytes.NewReader(dockerSave(t, []string{"foo:1"}, second))))
	if err != nil || !strings.Contains(strings.Join(lines, "|"), "Layer already exists") || strings.Contains(strings.Join(lines, "|"), "Pushed") {
		t.Fatal(lines, err)
	}
	// Both manifests have tags of their own, and none of the user's repositories was touched.
	repo, _ := name.NewRepository(w.host+"/loaded/foo", name.Insecure)
	if tags, err := remote.List(repo); err != nil || len(tags) != 2 || !strings.HasPrefix(tags[0], "1-") {
		t.Fatal(tags, err)
	}
	reg, _ := name.NewRegistry(w.host, name.Insecure)
	if repos, err := remote.Catalog(t.Context(), reg); err != nil || cmp.Diff([]string{"loaded/foo"}, repos) != "" {
		t.Fatal(repos, err)
	}
}

func TestLoadRefused(t *testing.T) {
	img := makeImage(t, 2)
	good := dockerSave(t, []string{"foo:1"}, img)
	content := tarOf(t, file("f", "content"))
	many := make([]tar.Header, 300)
	for i := range many {
		many[i] = file(strings.Repeat("n", 1<<16)+string(rune('a'+i%26)), "")
	}
	oci := func(change func(dir string)) []byte {
		return ociLayout(t, func(p layout.Path) {
			if err := p.AppendImage(asOCI(img)); err != nil {
				t.Fatal(err)
			}
			change(string(p))
		})
	}
	blob := func(dir, digest string) string {
		return filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	layers, _ := img.Layers()
	for _, tc := range []struct {
		name    string
		archive []byte
		limit   int64
		code    sockerless.Code
		err     string
	}{
		{name: "empty", code: sockerless.EINVALID, err: "the archive has no manifest.json and no index.json"},
		{name: "no archive", archive: []byte(strings.Repeat("hello ", 1000)), code: sockerless.EINVALID, err: "cannot read the archive: "},
		{name: "a file system", archive: content, code: sockerless.EINVALID, err: "use docker import"},
		{name: "cut off", archive: good[:len(good)/2], code: sockerless.EINVALID, err: "cannot read the archive: unexpected EOF"},
		{name: "cut off within gzip", archive: gz(good)[:2000], code: sockerless.EINVALID, err: "cannot read the archive: unexpected EOF"},
		{name: "xz", archive: append([]byte{0xfd, '7', 'z', 'X', 'Z', 0}, 1, 2, 3), code: sockerless.EUNSUPPORTED, err: "xz"},
		{name: "larger than allowed", archive: good, limit: 1000, code: sockerless.EINVALID, err: "the archive is larger than 1000 bytes unpacked"},
		{name: "a bomb", archive: gz(make([]byte, 4<<20)), limit: 1 << 20, code: sockerless.EINVALID, err: "the archive is larger than 1048576 bytes unpacked"},
		{name: "names without end", archive: tarOf(t, many...), code: sockerless.EINVALID, err: "too many files"},
		{name: "manifest.json is no JSON", archive: tarOf(t, file("manifest.json", "{")), code: sockerless.EINVALID, err: "manifest.json is no JSON of docker save"},
		{name: "no config", archive: tarOf(t, file("manifest.json", `[{"Config":"c.json"}]`)), code: sockerless.EINVALID, err: "the archive names c.json and does not have it"},
		{name: "a config from outside", archive: tarOf(t, file("manifest.json", `[{"Config":"../../../etc/passwd"}]`)), code: sockerless.EINVALID, err: "does not have it"},
		{name: "a link to itself", archive: tarOf(t, file("manifest.json", `[{"Config":"a"}]`), tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "a"}), code: sockerless.EINVALID, err: "does not have it"},
		{name: "a config that is no JSON", archive: tarOf(t, file("c.json", "{"), file("manifest.json", `[{"Config":"c.json"}]`)), code: sockerless.EINVALID, err: "the config of an image is no JSON"},
		{name: "a layer is missing", archive: oneLayer(t, content, nil), code: sockerless.EINVALID, err: "the archive names a/layer.tar and does not have it"},
		{name: "a layer too many", archive: tarOf(t, file("c.json", "{}"), file("l", "x"), file("manifest.json", `[{"Config":"c.json","Layers":["l"]}]`)), code: sockerless.EINVALID, err: "it has 1 layers and its config 0"},
		{name: "a layer is another", archive: oneLayer(t, content, tarOf(t, file("f", "other"))), code: sockerless.EINVALID, err: "a layer is not what its digest says"},
		{name: "a compressed layer is another", archive: oneLayer(t, content, gz(tarOf(t, file("f", "other")))), code: sockerless.EINVALID, err: "a layer is not what its digest says"},
		{name: "a compressed layer is broken", archive: oneLayer(t, content, gz(content)[:40]), code: sockerless.EINVALID, err: "cannot read the archive: "},
		{name: "a layer that unpacks without end", archive: oneLayer(t, content, gz(make([]byte, 4<<20))), limit: 1 << 20, code: sockerless.EINVALID, err: "larger than"},
		{name: "a tag that is none", archive: dockerSave(t, []string{"Foo:1"}, img), code: sockerless.EINVALID, err: "invalid reference format"},
		{name: "OCI: a manifest is changed", archive: oci(func(dir string) { os.WriteFile(blob(dir, digestOf(t, asOCI(img))), []byte("{}"), 0o644) }), code: sockerless.EINVALID, err: "is not what its digest says"},
		{name: "OCI: the config is missing", archive: oci(func(dir string) { os.Remove(blob(dir, idOf(t, img))) }), code: sockerless.EINVALID, err: "does not have it"},
		{name: "OCI: a layer is changed", archive: oci(func(dir string) { os.WriteFile(blob(dir, digestOf(t, layers[0])), gz(content), 0o644) }), code: sockerless.EINVALID, err: "a layer is not what its digest says"},
		{name: "OCI: index.json is no JSON", archive: tarOf(t, file("index.json", "{")), code: sockerless.EINVALID, err: "index.json is no JSON"},
		{name: "OCI: no image", archive: tarOf(t, file("index.json", `{"manifests":[{"mediaType":"text/plain"}]}`)), code: sockerless.EINVALID, err: "which is no image's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, func(o *images.Options) { o.SpoolLimit = tc.limit })
			_, _, err := collect(w.Load(t.Context(), bytes.NewReader(tc.archive)))
			wantError(t, err, tc.code, tc.err)
			if w.Count() != 0 {
				t.Fatal("something was recorded")
			}
		})
	}
	w := newWorld(t, nil, func(o *images.Options) { o.Registry = "" })
	_, _, err := collect(w.Load(t.Context(), bytes.NewReader(good)))
	wantError(t, err, sockerless.EUNSUPPORTED, "cannot load: images go to a registry that Container Apps pulls from, and none is configured: set SOCKERLESS_ACA_ACR")
	_, _, err = collect(w.Import(t.Context(), sockerless.ImportOptions{}, bytes.NewReader(content)))
	wantError(t, err, sockerless.EUNSUPPORTED, "cannot import: ")

	w = newWorld(t, nil, func(o *images.Options) { o.SpoolDir = "/nowhere" })
	_, _, err = collect(w.Load(t.Context(), bytes.NewReader(good)))
	wantError(t, err, sockerless.EUNAVAILABLE, "cannot hold the archive while it is pushed: ")
}

// TestFullDisk: /dev/full is a disk without space.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full on this system: ", err)
	}
	defer full.Close()
	_, err = images.Bound(full, 1<<20, "/somewhere").Write([]byte("x"))
	wantError(t, err, sockerless.EUNAVAILABLE, "no space left in /somewhere, where the archive is held while it is pushed; set TMPDIR to a larger place")
}

// TestLoadInterrupted: at whatever request the registry fails or the client goes, nothing is recorded.
func TestLoadInterrupted(t *testing.T) {
	archive := dockerSave(t, []string{"foo:1"}, makeImage(t, 2))
	for n := int64(0); ; n++ {
		var left atomic.Int64
		left.Store(n)
		w := newWorld(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if left.Add(-1) < 0 {
					rw.WriteHeader(http.StatusForbidden)
					rw.Write([]byte(`{"errors":[{"code":"DENIED","message":"no push for you"}]}`))
					return
				}
				next.ServeHTTP(rw, r)
			})
		}, nil)
		_, _, err := collect(w.Load(t.Context(), bytes.NewReader(archive)))
		if err == nil {
			if n < 8 {
				t.Fatalf("it needed %d requests only", n)
			}
			return
		}
		wantError(t, err, sockerless.EFORBIDDEN, "registry "+w.host+": denied: ")
		if w.Count() != 0 || w.reopen(t).Count() != 0 {
			t.Fatalf("something is recorded after %d requests", n)
		}
	}
}

func TestLoadCancelled(t *testing.T) {
	w := newWorld(t, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	archive := dockerSave(t, []string{"foo:1"}, makeImage(t, 2))
	_, _, err := collect(w.Load(ctx, io.MultiReader(bytes.NewReader(archive[:1000]), cancelling{cancel}, bytes.NewReader(archive[1000:]))))
	if err == nil || w.Count() != 0 {
		t.Fatal(err)
	}
	// A listener that goes away ends it too.
	for range w.Load(t.Context(), bytes.NewReader(archive)) {
		break
	}
	if w.Count() != 0 {
		t.Fatal("an image is recorded that nobody waited for")
	}
}

type cancelling struct{ cancel context.CancelFunc }

func (c cancelling) Read([]byte) (int, error) {
	c.cancel()
	return 0, io.EOF
}

func TestImport(t *testing.T) {
	rootfs := tarOf(t, file("etc/os-release", "NAME=x"), tar.Header{Name: "/../../evil", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
	port, _ := network.ParsePort("80/tcp")
	for _, tc := range []struct {
		name    string
		opt     sockerless.ImportOptions
		archive []byte
		ref     string
		source  string
		config  container.Config
	}{
		{name: "plain", archive: rootfs, source: "/loaded/"},
		{name: "with a name", archive: rootfs, opt: sockerless.ImportOptions{Ref: "deb:12"}, ref: "deb:12", source: "/loaded/deb@"},
		{name: "gzip", archive: gz(rootfs), opt: sockerless.ImportOptions{Ref: "deb"}, ref: "deb:latest", source: "/loaded/deb@"},
		{name: "zstd", archive: zst(t, rootfs), opt: sockerless.ImportOptions{Ref: "deb"}, ref: "deb:latest", source: "/loaded/deb@"},
		{
			name: "with changes", archive: rootfs, ref: "deb:latest", source: "/loaded/deb@",
			opt:    sockerless.ImportOptions{Ref: "deb", Message: "hello", Changes: []string{`CMD ["bash"]`, "ENV A=b", "EXPOSE 80"}},
			config: container.Config{Cmd: []string{"bash"}, Env: []string{"A=b"}, ExposedPorts: network.PortSet{port: {}}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			lines, _, err := collect(w.Import(t.Context(), tc.opt, bytes.NewReader(tc.archive)))
			if err != nil {
				t.Fatal(err)
			}
			id := lines[len(lines)-1]
			if tc.ref == "" {
				tc.ref = id
			}
			got, there := w.runnable(t, tc.ref)
			if got.ID != id || !strings.HasPrefix(got.Source, w.host+tc.source) || got.Platform != "linux/amd64" || got.Created.IsZero() {
				t.Fatalf("got %+v", got)
			}
			if diff := cmp.Diff(&tc.config, got.Defaults, cmp.Comparer(func(a, b network.Port) bool { return a == b })); diff != "" {
				t.Fatal(diff)
			}
			cfg, _ := there.ConfigFile()
			comment := tc.opt.Message
			if comment == "" {
				comment = "Imported from -"
			}
			if len(cfg.History) != 1 || cfg.History[0].Comment != comment {
				t.Fatalf("the history is %v", cfg.History)
			}
			layers, _ := there.Layers()
			r, err := layers[0].Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if content, _ := io.ReadAll(r); !bytes.Equal(content, rootfs) {
				t.Fatal("the layer is not what was given")
			}
		})
	}
	for _, tc := range []struct {
		name    string
		opt     sockerless.ImportOptions
		archive []byte
		err     string
	}{
		{name: "empty", err: "cannot import: the archive is empty"},
		{name: "no tar", archive: []byte(strings.Repeat("hello ", 1000)), err: "cannot read the archive: it is no tar"},
		{name: "cut off", archive: tarOf(t, file("f", strings.Repeat("x", 2000)))[:1000], err: "cannot read the archive: unexpected EOF"},
		{name: "an unknown change", archive: rootfs, opt: sockerless.ImportOptions{Changes: []string{"RUN true"}}, err: "RUN is not a valid change command"},
		{name: "a bad name", archive: rootfs, opt: sockerless.ImportOptions{Ref: "X"}, err: "invalid reference format"},
		{name: "a digest", archive: rootfs, opt: sockerless.ImportOptions{Ref: "x@sha256:" + strings.Repeat("0", 64)}, err: "cannot import digest reference"},
		{name: "a platform that is none", archive: rootfs, opt: sockerless.ImportOptions{Platform: "/"}, err: "unknown operating system or architecture"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			_, _, err := collect(w.Import(t.Context(), tc.opt, bytes.NewReader(tc.archive)))
			wantError(t, err, sockerless.EINVALID, tc.err)
			if w.Count() != 0 {
				t.Fatal("something was recorded")
			}
		})
	}
}
