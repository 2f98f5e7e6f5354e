package images_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/images"
)

func TestFind(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1)
	w.push(t, "app:1", img)
	w.pull(t, w.host+"/app:1")
	id := idOf(t, img)
	hex := strings.TrimPrefix(id, "sha256:")
	if err := w.Tag(t.Context(), w.host+"/app:1", "app"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{
		w.host + "/app:1", w.host + "/app@" + digestOf(t, img), "app", "app:latest", "docker.io/library/app", "index.docker.io/library/app:latest",
		id, hex, hex[:12], "sha256:" + hex[:5], hex[:1],
	} {
		got, err := w.Find(t.Context(), ref)
		if err != nil || got.ID != id {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	for _, tc := range []struct {
		name, ref string
		code      sockerless.Code
		err       string
	}{
		{"never pulled", "alpine", sockerless.ENOTFOUND, "No such image: alpine:latest"},
		{"in full", "docker.io/library/alpine:3", sockerless.ENOTFOUND, "No such image: alpine:3"},
		{"another tag", w.host + "/app", sockerless.ENOTFOUND, "No such image: " + w.host + "/app:latest"},
		{"an id that is not there", strings.Repeat("0", 64), sockerless.ENOTFOUND, "No such image: " + strings.Repeat("0", 64)},
		{"a digest that is not there", "app@sha256:" + strings.Repeat("0", 64), sockerless.ENOTFOUND, "No such image: app@sha256:"},
		{"upper case", "App", sockerless.EINVALID, "invalid reference format: repository name (library/App) must be lowercase"},
		{"empty", "", sockerless.EINVALID, "invalid reference format"},
		{"huge", strings.Repeat("a", 1<<20), sockerless.EINVALID, "invalid reference format"},
	} {
		_, err := w.Find(t.Context(), tc.ref)
		t.Run(tc.name, func(t *testing.T) { wantError(t, err, tc.code, tc.err) })
	}
}

// TestAmbiguousPrefix makes images until two ids begin alike.
func TestAmbiguousPrefix(t *testing.T) {
	w := newWorld(t, nil, nil)
	seen := map[string]bool{}
	for n := 0; ; n++ {
		img := makeImage(t, 1)
		w.push(t, fmt.Sprintf("app:%d", n), img)
		w.pull(t, fmt.Sprintf("%s/app:%d", w.host, n))
		first := strings.TrimPrefix(idOf(t, img), "sha256:")[:1]
		if seen[first] {
			_, err := w.Find(t.Context(), first)
			wantError(t, err, sockerless.ENOTFOUND, "No such image: "+first)
			return
		}
		seen[first] = true
	}
}

// TestSameImageTwice: one image in two repositories is one image, and each name runs from where it was pulled.
func TestSameImageTwice(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1)
	w.push(t, "a:1", img)
	w.push(t, "b:1", img)
	w.pull(t, w.host+"/a:1")
	w.pull(t, w.host+"/b:1")
	if w.Count() != 1 {
		t.Fatalf("%d images", w.Count())
	}
	for ref, want := range map[string]string{"/a:1": "/a@", "/b:1": "/b@"} {
		if got, err := w.Find(t.Context(), w.host+ref); err != nil || !strings.HasPrefix(got.Source, w.host+want) {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if got, _ := w.Find(t.Context(), idOf(t, img)); len(got.Tags) != 2 || !strings.HasPrefix(got.Source, w.host+"/b@") {
		t.Errorf("by id: %+v", got)
	}
	// A tag of one's own runs from where the image that it was given to comes from.
	if err := w.Tag(t.Context(), w.host+"/a:1", "mine:1"); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.Find(t.Context(), "mine:1"); !strings.HasPrefix(got.Source, w.host+"/a@") {
		t.Errorf("mine runs %s", got.Source)
	}
}

func TestTag(t *testing.T) {
	w := newWorld(t, nil, nil)
	first, second := makeImage(t, 1), makeImage(t, 1)
	w.push(t, "a:1", first)
	w.push(t, "b:1", second)
	w.pull(t, w.host+"/a:1")
	w.pull(t, w.host+"/b:1")
	for _, tc := range []struct {
		name, ref, target string
		code              sockerless.Code
		err               string
	}{
		{"an unknown image", "nope", "x", sockerless.ENOTFOUND, "No such image: nope:latest"},
		{"a target that is none", w.host + "/a:1", "X", sockerless.EINVALID, "invalid reference format"},
		{"a digest as target", w.host + "/a:1", "x@sha256:" + strings.Repeat("0", 64), sockerless.EINVALID, "refusing to create a tag with a digest reference"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, w.Tag(t.Context(), tc.ref, tc.target), tc.code, tc.err)
		})
	}
	for _, ref := range []string{w.host + "/a:1", w.host + "/b:1"} {
		if err := w.Tag(t.Context(), ref, "x"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*images.Service{w.Service, w.reopen(t)} {
		if got, err := s.Find(t.Context(), "x:latest"); err != nil || got.ID != idOf(t, second) || !slices.Contains(got.Tags, "x:latest") {
			t.Fatal(got, err)
		}
		if got, _ := s.Find(t.Context(), w.host+"/a:1"); slices.Contains(got.Tags, "x:latest") {
			t.Fatal("the first image still has the tag")
		}
	}
}

func TestRemove(t *testing.T) {
	img := makeImage(t, 1)
	id, digest := idOf(t, img), digestOf(t, img)
	short := strings.TrimPrefix(id, "sha256:")[:12]
	container := strings.Repeat("c", 64)
	const h = "HOST"
	for _, tc := range []struct {
		name  string
		tags  []string // beside HOST/app:1
		used  bool
		ref   string
		force bool
		want  []image.DeleteResponse
		err   string
		left  int
	}{
		{
			name: "the only name", ref: h + "/app:1",
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}, {Deleted: id}},
		},
		{
			name: "one of two names in a repository keeps the digest", tags: []string{h + "/app:2"}, ref: h + "/app:1",
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}}, left: 1,
		},
		{
			name: "the last name in one of two repositories takes its digest", tags: []string{"other:1"}, ref: h + "/app:1",
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}}, left: 1,
		},
		{
			name: "a digest leaves the tag", ref: h + "/app@" + digest,
			want: []image.DeleteResponse{{Untagged: h + "/app@" + digest}}, left: 1,
		},
		{
			name: "an id with one name", ref: id,
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}, {Deleted: id}},
		},
		{
			name: "the beginning of an id", ref: short[:6],
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}, {Deleted: id}},
		},
		{
			name: "an id with two names", tags: []string{"other:1"}, ref: id, left: 1,
			err: "conflict: unable to delete " + short + " (must be forced) - image is referenced in multiple repositories",
		},
		{
			name: "an id with two names by force", tags: []string{"other:1"}, ref: id, force: true,
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: "other:1"}, {Untagged: h + "/app@" + digest}, {Deleted: id}},
		},
		{
			name: "the name of a used image", used: true, ref: h + "/app:1", left: 1,
			err: `conflict: unable to remove repository reference "` + h + `/app:1" (must force) - container cccccccccccc is using its referenced image ` + short,
		},
		{
			name: "the id of a used image", used: true, ref: id, left: 1,
			err: "conflict: unable to delete " + short + " (must be forced) - image is being used by container cccccccccccc",
		},
		{
			name: "one of a used image's names", used: true, tags: []string{"other:1"}, ref: "other:1",
			want: []image.DeleteResponse{{Untagged: "other:1"}}, left: 1,
		},
		{
			name: "the name of a used image by force leaves the image", used: true, ref: h + "/app:1", force: true, left: 1,
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}},
		},
		{
			name: "the id of a used image by force", used: true, ref: id, force: true,
			want: []image.DeleteResponse{{Untagged: h + "/app:1"}, {Untagged: h + "/app@" + digest}, {Deleted: id}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, func(o *images.Options) { o.Registry = "" })
			here := func(s string) string { return strings.ReplaceAll(s, h, w.host) }
			w.push(t, "app:1", img)
			auth := &registry.AuthConfig{Username: "me", Password: "secret"}
			if _, _, err := collect(w.Pull(t.Context(), w.host+"/app:1", sockerless.PullOptions{Auth: auth})); err != nil {
				t.Fatal(err)
			}
			for _, tag := range tc.tags {
				if err := w.Tag(t.Context(), w.host+"/app:1", here(tag)); err != nil {
					t.Fatal(err)
				}
			}
			w.SetInUse(func(image string) []string {
				if tc.used && image == id {
					return []string{container}
				}
				return nil
			})
			got, err := w.Remove(t.Context(), here(tc.ref), tc.force)
			if tc.err != "" {
				wantError(t, err, sockerless.ECONFLICT, here(tc.err))
			} else if err != nil {
				t.Fatal(err)
			}
			for i := range tc.want {
				tc.want[i].Untagged = here(tc.want[i].Untagged)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Fatal(diff)
			}
			for _, s := range []*images.Service{w.Service, w.reopen(t)} {
				if s.Count() != tc.left {
					t.Fatalf("%d images are left, want %d", s.Count(), tc.left)
				}
				// A password is kept as long as something may need it.
				if kept := s.Credential(w.host+"/app@x") != nil; kept != (tc.left == 1 || tc.used) {
					t.Fatalf("the password is kept: %v", kept)
				}
			}
			if tc.left == 0 {
				_, err := w.Find(t.Context(), id)
				wantError(t, err, sockerless.ENOTFOUND, "No such image: "+id)
			}
		})
	}
	w := newWorld(t, nil, nil)
	_, err := w.Remove(t.Context(), "nope", false)
	wantError(t, err, sockerless.ENOTFOUND, "No such image: nope:latest")
}

func TestList(t *testing.T) {
	w := newWorld(t, nil, nil)
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	label := func(k, v string) alter {
		return func(c *v1.ConfigFile) { c.Config.Labels = map[string]string{k: v} }
	}
	for n, img := range []v1.Image{
		makeImage(t, 1, created(day(1)), label("team", "a")),
		makeImage(t, 1, created(day(2)), label("team", "b")),
		makeImage(t, 1, created(day(3))),
	} {
		w.push(t, fmt.Sprintf("lib/app%d:1", n+1), img)
		w.pull(t, fmt.Sprintf("%s/lib/app%d:1", w.host, n+1))
		if err := w.Tag(t.Context(), fmt.Sprintf("%s/lib/app%d:1", w.host, n+1), fmt.Sprintf("app%d", n+1)); err != nil {
			t.Fatal(err)
		}
	}
	// The fourth has lost its tag.
	w.push(t, "moved:1", makeImage(t, 1, created(day(4))))
	w.pull(t, w.host+"/moved:1")
	w.push(t, "moved:1", makeImage(t, 1, created(day(5))))
	w.pull(t, w.host+"/moved:1")

	name := func(tags []string) string { // the shortest
		if len(tags) == 0 {
			return "<none>"
		}
		return strings.TrimPrefix(tags[len(tags)-1], w.host+"/")
	}
	for _, tc := range []struct {
		name    string
		filters sockerless.Filters
		want    []string
		err     string
	}{
		{name: "all, the newest first", want: []string{"moved:1", "<none>", "app3:latest", "app2:latest", "app1:latest"}},
		{name: "dangling", filters: sockerless.Filters{"dangling": {"true"}}, want: []string{"<none>"}},
		{name: "not dangling", filters: sockerless.Filters{"dangling": {"0"}}, want: []string{"moved:1", "app3:latest", "app2:latest", "app1:latest"}},
		{name: "a label", filters: sockerless.Filters{"label": {"team"}}, want: []string{"app2:latest", "app1:latest"}},
		{name: "a label's value", filters: sockerless.Filters{"label": {"team=a"}}, want: []string{"app1:latest"}},
		{name: "labels must all be there", filters: sockerless.Filters{"label": {"team=a", "x"}}},
		{name: "before", filters: sockerless.Filters{"before": {"app2"}}, want: []string{"app1:latest"}},
		{name: "since", filters: sockerless.Filters{"since": {"app2"}}, want: []string{"moved:1", "<none>", "app3:latest"}},
		{name: "until", filters: sockerless.Filters{"until": {"2026-01-02"}}, want: []string{"app1:latest"}},
		{name: "until in seconds", filters: sockerless.Filters{"until": {"1767312000.5"}}, want: []string{"app2:latest", "app1:latest"}},
		{name: "until long ago", filters: sockerless.Filters{"until": {"876000h"}}},
		{name: "reference by name", filters: sockerless.Filters{"reference": {"app1"}}, want: []string{"app1:latest"}},
		{name: "reference by pattern", filters: sockerless.Filters{"reference": {"app[12]:*"}}, want: []string{"app2:latest", "app1:latest"}},
		{name: "any of two references", filters: sockerless.Filters{"reference": {"app1", "app3"}}, want: []string{"app3:latest", "app1:latest"}},
		{name: "only what matches is shown", filters: sockerless.Filters{"reference": {"*/lib/app1"}}, want: []string{"lib/app1:1"}},
		{name: "two filters", filters: sockerless.Filters{"reference": {"app*"}, "label": {"team=b"}}, want: []string{"app2:latest"}},
		{name: "an unknown filter", filters: sockerless.Filters{"colour": {"red"}}, err: "invalid filter 'colour'"},
		{name: "a truth that is none", filters: sockerless.Filters{"dangling": {"perhaps"}}, err: "invalid filter 'dangling=perhaps'"},
		{name: "a pattern that is none", filters: sockerless.Filters{"reference": {"[a"}}, err: "invalid filter 'reference=[a'"},
		{name: "a time that is none", filters: sockerless.Filters{"until": {"soon"}}, err: "invalid filter 'until=soon'"},
		{name: "before nothing", filters: sockerless.Filters{"before": {"nope"}}, err: "No such image: nope:latest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			var err error
			for img, e := range w.List(t.Context(), sockerless.ImageListOptions{Filters: tc.filters}) {
				if err = e; err == nil {
					got = append(got, name(img.Tags))
				}
			}
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("got %v, want %s", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Fatal(diff, err)
			}
		})
	}
	for range w.List(t.Context(), sockerless.ImageListOptions{}) {
		break // a listener may stop
	}
}

func FuzzFilters(f *testing.F) {
	f.Add("reference", "app*:[0-9]")
	f.Add("until", "2026-01-02T03:04:05Z")
	f.Add("until", "-1.99999999999")
	f.Add("before", "sha256:ab")
	f.Add("label", "a=b=c")
	f.Fuzz(func(t *testing.T, name, value string) {
		s, err := images.Open(t.Context(), nothing{}, images.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range s.List(t.Context(), sockerless.ImageListOptions{Filters: sockerless.Filters{name: {value}}}) {
			if code := sockerless.ErrorCode(err); err != nil && code != sockerless.EINVALID && code != sockerless.ENOTFOUND {
				t.Fatalf("%v is %s", err, code)
			}
		}
	})
}
