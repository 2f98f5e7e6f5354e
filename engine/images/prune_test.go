package images_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

func labels(kv map[string]string) alter { return func(c *v1.ConfigFile) { c.Config.Labels = kv } }

func TestPrune(t *testing.T) {
	long := time.Now().Add(-48 * time.Hour)
	for _, tc := range []struct {
		name    string
		filters sockerless.Filters
		want    []string // of those below
	}{
		{"those without a tag", nil, []string{"untagged"}},
		{"the same, said", sockerless.Filters{"dangling": {"true"}}, []string{"untagged"}},
		{"all that nobody uses", sockerless.Filters{"dangling": {"0"}}, []string{"labelled", "old", "untagged"}},
		{"old ones", sockerless.Filters{"dangling": {"false"}, "until": {"24h"}}, []string{"old"}},
		{"with a label", sockerless.Filters{"dangling": {"false"}, "label": {"a=b"}}, []string{"labelled"}},
		{"without a label", sockerless.Filters{"dangling": {"false"}, "label!": {"a"}}, []string{"old", "untagged"}},
		{"a label that none has", sockerless.Filters{"dangling": {"false"}, "label": {"c"}}, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			now := time.Now()
			all := map[string]v1.Image{
				"labelled": makeImage(t, 1, created(now), labels(map[string]string{"a": "b"})),
				"old":      makeImage(t, 1, created(long)),
				"untagged": makeImage(t, 1, created(now)),
				"used":     makeImage(t, 1, created(long)),
			}
			names := map[string]string{}
			for name, img := range all {
				w.push(t, name+":1", img)
				w.pull(t, w.host+"/"+name+":1")
				names[idOf(t, img)] = name
			}
			// Another image takes its tag away; of the digest that it was pulled by, it is still known.
			w.push(t, "untagged:1", all["used"])
			w.pull(t, w.host+"/untagged:1")
			w.SetInUse(func(id string) []string {
				if id == idOf(t, all["used"]) {
					return []string{"c"}
				}
				return nil
			})
			report, err := w.Prune(t.Context(), tc.filters)
			if err != nil {
				t.Fatal(err)
			}
			gone := []string{}
			for _, d := range report.ImagesDeleted {
				if d.Deleted != "" {
					gone = append(gone, names[d.Deleted])
				}
			}
			slices.Sort(gone)
			if diff := cmp.Diff(tc.want, gone); diff != "" || report.SpaceReclaimed != 0 {
				t.Errorf("%d bytes, gone: %s", report.SpaceReclaimed, diff)
			}
			again := w.reopen(t)
			left := 0
			for _, err := range again.List(t.Context(), sockerless.ImageListOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				left++
			}
			if left != len(all)-len(gone) {
				t.Errorf("%d are left after a restart", left)
			}
		})
	}
	w := newWorld(t, nil, nil)
	for filter, value := range map[string]string{"nonsense": "x", "dangling": "x", "until": "x"} {
		_, err := w.Prune(t.Context(), sockerless.Filters{filter: {value}})
		wantError(t, err, sockerless.EINVALID, "invalid filter '"+filter)
	}
	_, err := w.Prune(t.Context(), sockerless.Filters{"until": {"1h", "2h"}})
	wantError(t, err, sockerless.EINVALID, "more than one until filter specified")
}

func TestEvents(t *testing.T) {
	w := newWorld(t, nil, nil)
	img := makeImage(t, 1, labels(map[string]string{"a": "b"}))
	id, host := idOf(t, img), w.host
	var got []string
	w.SetTell(func(action events.Action, actor string, attributes map[string]string) {
		got = append(got, string(action)+" "+actor+" "+attributes["name"]+attributes["a"]+attributes["reclaimed"])
	})
	w.push(t, "app:1", img)
	w.pull(t, host+"/app:1")
	if err := w.Tag(t.Context(), host+"/app:1", "other"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"other", id} {
		if _, err := w.Remove(t.Context(), ref, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := collect(w.Load(t.Context(), bytes.NewReader(dockerSave(t, []string{"foo:1"}, img)))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Prune(t.Context(), sockerless.Filters{"dangling": {"false"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pull " + host + "/app:1 " + host + "/appb", "tag " + id + " other:latestb",
		"untag " + id + " " + id + "b",                                                                  // of other
		"untag " + id + " " + id + "b", "untag " + id + " " + id + "b", "delete " + id + " " + id + "b", // of the tag and the digest
		"load " + id + " " + id + "b",
		"untag " + id + " " + id + "b", "delete " + id + " " + id + "b", "prune  0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
