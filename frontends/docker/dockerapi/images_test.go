package dockerapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
)

func TestPull(t *testing.T) {
	d := start(t)
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"u","password":"p?>"}`))
	resp, err := d.client().ImagePull(t.Context(), "alpine:3", client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(&registry.AuthConfig{Username: "u", Password: "p?>"}, d.auth); diff != "" {
		t.Error(diff)
	}
	digest := "sha256:" + strings.Repeat("0", 64)
	a := d.do("POST", "/images/create?fromImage=alpine&tag="+digest, nil)
	if a.status != 200 || !strings.Contains(a.body, `"status":"Pulling from library/alpine@`+digest) || !strings.Contains(a.body, "}\r\n{") {
		t.Errorf("by digest: %d %s", a.status, a.body)
	}
	d.want("POST", "/images/create?fromImage=missing&tag=latest", nil, 404, "manifest for missing:latest not found")
	d.want("POST", "/images/create?fromImage=private&tag=latest", nil, 403, "unauthorized: authentication required")
	d.want("POST", "/images/create?fromImage=broken&tag=latest", nil, 200, `{"errorDetail":{"message":"the registry went away"},"error":"the registry went away"}`)
	d.want("POST", "/images/create?fromImage=Broken&tag=latest", nil, 400, "invalid reference format: repository name (library/Broken) must be lowercase")
	d.want("POST", "/images/create?fromImage=alpine", nil, 501, "cannot pull all tags of alpine: name one")
	if a := d.do("POST", "/images/create?fromImage=alpine&tag=3", nil, "X-Registry-Auth", "%%%"); a.status != 400 {
		t.Errorf("with wrong credentials: %d %s", a.status, a.body)
	}
}

// TestLoad: progress is told while the archive is still on its way.
func TestLoad(t *testing.T) {
	d := start(t)
	r, w := io.Pipe()
	archive := strings.Repeat("0123456789", 1<<20)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	told := make(chan struct{})
	go func() { // ends when it is read, or with ctx
		io.WriteString(w, archive[:1<<20])
		select {
		case <-told:
		case <-ctx.Done():
		}
		io.WriteString(w, archive[1<<20:])
		w.Close()
	}()
	defer r.Close()
	resp, err := d.client().ImageLoad(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp, first); err != nil {
		t.Fatal(err)
	}
	close(told)
	b, err := io.ReadAll(resp)
	if err != nil || !strings.Contains(string(b), "Loaded image: busybox:latest") {
		t.Errorf("%s, %v", b, err)
	}
	if string(d.archive) != archive {
		t.Errorf("%d bytes arrived, want %d", len(d.archive), len(archive))
	}
	a := d.do("POST", "/images/load?quiet=1", "tar")
	if a.status != 200 || strings.Contains(a.body, "progressDetail") || !strings.Contains(a.body, "Loaded image") {
		t.Errorf("quiet: %d %s", a.status, a.body)
	}
	a = d.do("POST", "/images/create?fromSrc=-&repo=mine&tag=1&message=hello&changes=CMD%20x&changes=ENV%20a=b", string(compress(t, "gzip", []byte("a root file system"))))
	if a.status != 200 || !strings.Contains(a.body, `mine:1 [\"CMD x\" \"ENV a=b\"] \"hello\"`) || string(d.archive) != "a root file system" {
		t.Errorf("import: %d %s %s", a.status, a.body, d.archive)
	}
	d.want("POST", "/images/create?fromSrc=http://example.com/x.tar", nil, 501, "cannot import from")
	d.want("POST", "/images/create?fromSrc=-&repo=Bad", "x", 400, "must be lowercase")
	d.want("POST", "/images/load?platform=linux%2Fs390x", "x", 501, "cannot use --platform")
}

func TestImages(t *testing.T) {
	d := start(t)
	var list []map[string]any
	d.json("GET", "/images/json", nil, 200, &list)
	if len(list) != 1 || list[0]["VirtualSize"] != nil || list[0]["Size"] != 1234.0 {
		t.Errorf("%v", list)
	}
	d.json("GET", "/v1.43/images/json", nil, 200, &list)
	if list[0]["VirtualSize"] != 1234.0 {
		t.Errorf("before 1.44: %v", list)
	}
	d.want("POST", "/images/busybox/tag?repo=example.com:5000/a/b&tag=2", nil, 201, "")
	d.want("POST", "/images/busybox/tag?repo=BAD", nil, 400, "must be lowercase")
	d.want("POST", "/images/nosuch/tag?repo=x", nil, 404, "No such image: nosuch")
	got, err := d.client().ImageInspect(t.Context(), "example.com:5000/a/b:2")
	if err != nil {
		t.Fatal(err)
	}
	picked := []any{got.Architecture, got.Os, got.Config.Env, got.Config.Labels, got.RootFS.Type, len(got.RootFS.Layers), got.Comment, got.Created}
	want := []any{"amd64", "linux", []string{"PATH=/usr/bin:/bin"}, map[string]string{"of": "image"}, "layers", 1, "made", "2025-01-02T03:04:05Z"}
	if diff := cmp.Diff(want, picked); diff != "" {
		t.Error(diff)
	}
	d.want("GET", "/images/nosuch/json", nil, 404, "No such image: nosuch")
	d.want("GET", "/images/busybox/json?manifests=1&platform={}", nil, 400, "conflicting options: manifests and platform")
	d.want("GET", "/images/busybox/json?platform={}", nil, 400, "failed to parse platform")
	var inspected map[string]any
	d.json("GET", "/images/busybox/json?manifests=1", nil, 200, &inspected)
	if _, ok := inspected["Manifests"]; ok || inspected["Id"] == "" {
		t.Errorf("manifests of an engine that keeps one platform: %v", inspected)
	}
	var removed []map[string]string
	d.json("DELETE", "/images/busybox?force=1&noprune=1", nil, 200, &removed)
	if len(removed) != 2 || removed[0]["Untagged"] != "busybox" || removed[1]["Deleted"] == "" {
		b, _ := json.Marshal(removed)
		t.Errorf("%s", b)
	}
}

// TestSharedSize: how much of an image others have too is told to who asks.
func TestSharedSize(t *testing.T) {
	d := start(t)
	other := d.addImage("other:latest", nil)
	other.Layers = append(other.Layers, d.images[0].Layers...)
	alone := d.addImage("alone:latest", nil)
	alone.Layers = append(alone.Layers, alone.Layers[0]) // twice in one is not shared
	for query, want := range map[string]map[string]float64{
		"":               {"busybox:latest": -1, "other:latest": -1, "alone:latest": -1},
		"?shared-size=1": {"busybox:latest": 1234, "other:latest": 1234, "alone:latest": 0},
	} {
		var list []struct {
			RepoTags   []string
			SharedSize float64
		}
		d.json("GET", "/images/json"+query, nil, 200, &list)
		got := map[string]float64{}
		for _, img := range list {
			got[img.RepoTags[0]] = img.SharedSize
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func TestPush(t *testing.T) {
	d := start(t)
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"u","password":"p"}`))
	resp, err := d.client().ImagePush(t.Context(), "example.com:5000/a/b:2", client.ImagePushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(&registry.AuthConfig{Username: "u", Password: "p"}, d.auth); diff != "" {
		t.Error(diff)
	}
	d.want("POST", "/images/example.com:5000/a/b/push?tag=2", nil, 200, "The push refers to example.com:5000/a/b:2, all false")
	d.want("POST", "/images/busybox/push", nil, 200, "The push refers to busybox, all true")
	d.want("POST", "/images/busybox/push?tag=latest", nil, 200, `"aux":{"Tag":"latest","Digest":"sha256:x","Size":1}`)
	d.want("POST", "/images/closed/push?tag=latest", nil, 200, `"error":"denied: requested access to the resource is denied"`)
	d.want("POST", "/images/busybox/push?tag=b%40d", nil, 400, "invalid tag format")
	d.want("POST", "/images/BAD/push", nil, 400, "must be lowercase")
	d.want("POST", `/images/busybox/push?tag=latest&platform={"os":"linux","architecture":"amd64"}`, nil, 200, "The push refers")
	d.want("POST", `/images/busybox/push?tag=latest&platform={"os":"linux","architecture":"arm64"}`, nil, 501, "cannot push platform linux/arm64: an image has one platform here")
	d.want("POST", `/images/busybox/push?tag=latest&platform=amd64`, nil, 400, "failed to parse platform")
}

func TestSave(t *testing.T) {
	d := start(t)
	d.want("GET", "/images/get?names=busybox&names=busybox:latest", nil, 200, `["busybox" "busybox:latest"]`)
	d.want("GET", "/images/busybox/get", nil, 200, `["busybox"]`)
	d.want("GET", "/images/get", nil, 400, "no images to save")
	d.want("GET", "/images/nosuch/get", nil, 404, "No such image: nosuch")
	d.want("GET", `/images/get?names=busybox&platform={"os":"linux","architecture":"s390x"}`, nil, 501, "cannot save platform linux/s390x")
	// An archive that is not whole does not look so.
	resp, err := d.client().ImageSave(t.Context(), []string{"cut"})
	if err != nil {
		return // cut before the first byte was out
	}
	defer resp.Close()
	if b, err := io.ReadAll(resp); err == nil {
		t.Errorf("a cut archive ended well: %s", b)
	}
}

func TestSearch(t *testing.T) {
	d := start(t)
	d.want("GET", "/images/search?term=busybox", nil, 200, `"name":"busybox","is_automated":false,"description":"0 map[] false"`)
	d.want("GET", `/images/search?term=busybox&limit=3&filters={"stars":["2"]}`, nil, 200, `"description":"3 map[stars:[2]] false"`)
	d.want("GET", "/images/search?term=busybox&limit=0", nil, 200, `"description":"-1 map[] false"`)
	d.want("GET", "/images/search?term=busybox&limit=x", nil, 400, "invalid value for limit")
	var found registry.DistributionInspect
	d.json("GET", "/distribution/busybox/json", nil, 200, &found)
	if found.Platforms[0].Architecture != "amd64" || found.Descriptor.Size != 1 {
		t.Errorf("%+v", found)
	}
	d.want("GET", "/distribution/nosuch/json", nil, 404, "manifest for nosuch:latest not found")
	d.want("GET", "/images/busybox/attestations", nil, 501, "attestations are not supported")
}

func TestHistory(t *testing.T) {
	d := start(t)
	var list []image.HistoryResponseItem
	d.json("GET", "/images/busybox/history", nil, 200, &list)
	if len(list) != 1 || list[0].ID != d.images[0].ID || list[0].Size != 1234 || list[0].Comment != "made" || len(list[0].Tags) != 1 {
		t.Errorf("%+v", list)
	}
	img := d.addImage("steps:latest", nil)
	img.Config = json.RawMessage(`{"history":[{"created_by":"one","created":"2025-01-02T03:04:05Z"},{"created_by":"two","empty_layer":true}]}`)
	d.json("GET", "/images/steps/history", nil, 200, &list)
	if len(list) != 2 || list[0].CreatedBy != "two" || list[0].Size != 0 || list[0].ID != img.ID || list[1].ID != "<missing>" || list[1].Size != 1234 || list[1].Created != 1735787045 {
		t.Errorf("%+v", list)
	}
	img.Config = json.RawMessage(`{"history":[{},{}]}`)
	d.want("GET", "/images/steps/history", nil, 500, "it has more steps than layers")
	d.want("GET", `/images/busybox/history?platform={"os":"linux","architecture":"arm64"}`, nil, 404, "does not provide the specified platform (linux/arm64)")
	d.want("GET", `/images/busybox/json?platform={"os":"linux","architecture":"arm64"}`, nil, 404, "does not provide the specified platform (linux/arm64)")
	d.want("GET", `/images/busybox/json?platform={"os":"linux","architecture":"amd64"}`, nil, 200, "amd64")
}

func TestCommit(t *testing.T) {
	d := start(t)
	d.want("POST", "/containers/create?name=box", `{"Image":"busybox:latest","Cmd":["true"]}`, 201, "Id")
	d.want("POST", "/commit?container=box", nil, 201, `sha256: \"\" \"\" [] true none`)
	d.want("POST", "/commit?container=box&repo=a/b&tag=c&comment=hello&author=me&pause=0&changes=CMD+x&changes=ENV+a=b", "null", 201,
		`sha256:a/b:c \"hello\" \"me\" [\"CMD x\" \"ENV a=b\"] false none`)
	d.want("POST", "/commit?container=box&repo=a", `{"Cmd":["x"]}`, 201, `sha256:a:latest \"\" \"\" [] true [x]`)
	d.want("POST", "/commit?container=nosuch", nil, 404, "No such container: nosuch")
	d.want("POST", "/commit?container=box&repo=A", nil, 400, "must be lowercase")
	d.want("POST", "/commit?container=box&repo=a@sha256:"+strings.Repeat("0", 64), nil, 400, "refusing to create a tag with a digest reference")
	d.want("POST", "/commit?container=box", `{`, 400, "invalid JSON")
}
