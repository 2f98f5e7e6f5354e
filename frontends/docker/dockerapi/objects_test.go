package dockerapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless"
)

func TestNetworks(t *testing.T) {
	d := start(t)
	d.want("POST", "/networks/create", nil, 400, "invalid JSON: got EOF while reading request body")
	d.want("POST", "/networks/create", `{"Name":"n","IPAM":{"Config":[{"Subnet":"nonsense"}]}}`, 400, "invalid JSON")
	var made struct{ ID, Warning string }
	d.json("POST", "/networks/create", `{"Name":"n","CheckDuplicate":true,"Labels":{"a":"b"},"IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]}}`, 201, &made)
	if made.ID == "" || made.Warning != "it is of little use" {
		t.Errorf("made %+v", made)
	}
	id := d.create("box", `{"Image":"busybox","Cmd":["true"]}`)
	d.want("POST", "/networks/n/connect", `{"Container":"nobody"}`, 404, "No such container: nobody")
	d.want("POST", "/networks/x/connect", `{"Container":"box"}`, 404, "network x not found")
	d.want("POST", "/networks/n/connect", nil, 400, "invalid JSON")
	d.want("POST", "/networks/n/connect", `{"Container":"box","EndpointConfig":{"Aliases":["db"],"IPAddress":"","MacAddress":""}}`, 200, "")
	var n struct {
		Name, ID   string
		Containers map[string]struct{ Name, EndpointID string }
		IPAM       struct{ Config []struct{ Subnet string } }
		Labels     map[string]string
	}
	d.json("GET", "/networks/n", nil, 200, &n)
	if n.ID != made.ID || n.Containers[id].Name != "box" || n.IPAM.Config[0].Subnet != "10.0.0.0/24" || n.Labels["a"] != "b" {
		t.Errorf("inspected %+v", n)
	}
	d.want("GET", "/networks/n?scope=swarm", nil, 404, "network n not found")
	d.want("GET", "/networks/n?scope=local&verbose=1", nil, 200, made.ID)
	var list []map[string]any
	d.json("GET", "/networks", nil, 200, &list)
	if _, ok := list[0]["Containers"]; ok || list[0]["Name"] != "n" {
		t.Errorf("a list is %v", list)
	}
	d.json("GET", "/v1.51/networks?filters="+escape(`{"label":{"a":true}}`), nil, 200, &list)
	if len(list) != 1 || len(list[0]["Containers"].(map[string]any)) != 0 {
		t.Errorf("a list is %v", list)
	}
	if diff := cmp.Diff(sockerless.Filters{"label": {"a"}}, d.filters); diff != "" {
		t.Error(diff)
	}
	d.json("GET", "/v1.27/networks", nil, 200, &list)
	if len(list[0]["Containers"].(map[string]any)) != 1 {
		t.Errorf("an old client's list is %v", list)
	}
	d.want("POST", "/networks/n/disconnect", `{"Container":"box"}`, 500, "is not connected to network n")
	d.want("POST", "/networks/n/disconnect", `{"Container":"box","Force":true}`, 200, "")
	d.want("POST", "/networks/prune", nil, 200, `{"NetworksDeleted":[]}`)
	d.want("DELETE", "/networks/n", nil, 204, "")
	d.want("DELETE", "/networks/n", nil, 404, "network n not found")
}

func TestSeveralNetworks(t *testing.T) {
	d := start(t)
	body := `{"Image":"busybox","Cmd":["true"],"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{"Aliases":["x"]}}}}`
	d.want("POST", "/v1.43/containers/create", body, 400, "container cannot be connected to network endpoints: a, b")
	d.want("POST", "/v1.44/containers/create?name=two", body, 201, "Id")
	var c struct {
		NetworkSettings struct {
			Networks map[string]struct {
				Aliases    []string
				EndpointID string
			}
		}
	}
	d.json("GET", "/containers/two/json", nil, 200, &c)
	if got := c.NetworkSettings.Networks; len(got) != 2 || got["b"].Aliases[0] != "x" || got["a"].EndpointID != "" {
		t.Errorf("networks %+v", got)
	}
}

func TestVolumes(t *testing.T) {
	d := start(t)
	var v map[string]any
	d.json("POST", "/volumes/create", `{"Name":"data"}`, 201, &v)
	want := map[string]any{
		"Name": "data", "Driver": "local", "Mountpoint": "", "Scope": "local", "CreatedAt": "2025-01-02T03:04:05Z",
		"Labels": map[string]any{}, "Options": map[string]any{},
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	v = nil
	d.json("GET", "/volumes/data", nil, 200, &v)
	if diff := cmp.Diff(want, v); diff != "" {
		t.Error(diff)
	}
	d.want("POST", "/volumes/create", `{}`, 201, "Name")
	d.want("POST", "/volumes/create", nil, 400, "invalid JSON: got EOF while reading request body")
	d.want("POST", "/volumes/create", `{"Name":3}`, 400, "invalid JSON")
	var list struct{ Volumes, Warnings []any }
	d.json("GET", "/volumes", nil, 200, &list)
	if len(list.Volumes) != 2 || list.Warnings == nil {
		t.Errorf("list %+v", list)
	}
	d.want("POST", "/volumes/prune", nil, 200, `{"VolumesDeleted":[],"SpaceReclaimed":42}`)
	if d.filters != nil {
		t.Errorf("filters %v", d.filters)
	}
	d.want("POST", "/v1.41/volumes/prune", nil, 200, `"SpaceReclaimed":42`)
	if diff := cmp.Diff(sockerless.Filters{"all": {"true"}}, d.filters); diff != "" {
		t.Error(diff)
	}
	d.want("DELETE", "/volumes/data", nil, 204, "")
	d.want("DELETE", "/volumes/data", nil, 404, "get data: no such volume")
	d.want("DELETE", "/volumes/data?force=1", nil, 204, "")
	d.want("PUT", "/volumes/data?version=1", `{}`, 503, "This node is not a swarm manager")
}

func TestPrune(t *testing.T) {
	d := start(t)
	d.want("POST", "/images/prune?filters="+escape(`{"dangling":["false"]}`), nil, 200, `{"ImagesDeleted":[],"SpaceReclaimed":0}`)
	if diff := cmp.Diff(sockerless.Filters{"dangling": {"false"}}, d.filters); diff != "" {
		t.Error(diff)
	}
	d.want("POST", "/build/prune?all=1", nil, 200, `{"CachesDeleted":[],"SpaceReclaimed":0}`)
	for _, path := range []string{"/images/prune", "/networks/prune", "/volumes/prune", "/containers/prune", "/build/prune"} {
		d.want("POST", path+"?filters=x", nil, 400, "invalid filter")
	}
}

func TestDiskUsage(t *testing.T) {
	d := start(t)
	d.create("box", `{"Image":"busybox","Cmd":["true"]}`)
	d.want("POST", "/volumes/create", `{"Name":"data"}`, 201, "")
	var df struct {
		LayersSize                              int64
		Images, Containers, Volumes, BuildCache []map[string]any
	}
	d.json("GET", "/v1.51/system/df", nil, 200, &df)
	if len(df.Images) != 1 || df.Images[0]["Containers"] != 1.0 || len(df.Containers) != 1 || len(df.Volumes) != 1 || df.BuildCache == nil {
		t.Errorf("usage %+v", df)
	}
	if diff := cmp.Diff(map[string]any{"RefCount": 1.0, "Size": 0.0}, df.Volumes[0]["UsageData"]); diff != "" {
		t.Error(diff)
	}
	var some map[string]json.RawMessage
	d.json("GET", "/v1.51/system/df?type=volume&type=container", nil, 200, &some)
	if string(some["Images"]) != "null" || string(some["Volumes"]) == "null" || string(some["Containers"]) == "null" || string(some["BuildCache"]) != "null" {
		t.Errorf("two types: %s", some)
	}
	d.want("GET", "/system/df?type=nonsense", nil, 400, "unknown object type: nonsense")
	d.want("GET", "/v1.41/system/df?type=nonsense", nil, 200, "LayersSize")

	// Since 1.52 there are objects of use, and their items if asked.
	type use struct {
		ActiveCount, TotalCount, TotalSize, Reclaimable int
		Items                                           []map[string]any
	}
	var now struct {
		ImageUsage, ContainerUsage, VolumeUsage, BuildCacheUsage *use
		LayersSize                                               *int
	}
	d.json("GET", "/v1.52/system/df", nil, 200, &now)
	if now.LayersSize == nil || now.ImageUsage == nil {
		t.Errorf("1.52 has %+v", now)
	}
	now.LayersSize = nil
	for _, path := range []string{"/v1.53/system/df", "/system/df?verbose=1", "/v1.52/system/df?verbose=1"} {
		now.ImageUsage, now.ContainerUsage, now.VolumeUsage, now.BuildCacheUsage = nil, nil, nil, nil
		d.json("GET", path, nil, 200, &now)
		items := 0
		for _, u := range []*use{now.ImageUsage, now.ContainerUsage, now.VolumeUsage, now.BuildCacheUsage} {
			items += len(u.Items)
			u.Items = nil
		}
		want := 0
		if strings.Contains(path, "verbose") {
			want = 3
		}
		if items != want || now.LayersSize != nil {
			t.Errorf("%s: %d items, want %d; %+v", path, items, want, now)
		}
		got := []use{*now.ImageUsage, *now.ContainerUsage, *now.VolumeUsage, *now.BuildCacheUsage}
		if diff := cmp.Diff([]use{{ActiveCount: 1, TotalCount: 1}, {TotalCount: 1}, {ActiveCount: 1, TotalCount: 1}, {}}, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	var only map[string]json.RawMessage
	d.json("GET", "/system/df?type=image", nil, 200, &only)
	if _, ok := only["VolumeUsage"]; ok || only["ImageUsage"] == nil {
		t.Errorf("images alone: %s", only)
	}
}

// TestShapes: what an older version knows and a newer one does not.
func TestShapes(t *testing.T) {
	d := start(t)
	d.create("box", `{"Image":"busybox","Cmd":["true"]}`)
	for _, c := range []struct {
		path, field string
		since       int // the first version without it
	}{
		{"/containers/box/json", `"HairpinMode"`, 52},
		{"/events?since=1&until=9999999999", `"status"`, 52},
		{"/events?since=1&until=9999999999", `"from"`, 52},
		{"/images/busybox:latest/json", `"DockerVersion"`, 52},
		{"/images/busybox:latest/json", `"Parent"`, 52},
		{"/images/json", `"Containers":-1`, 51},
	} {
		for _, minor := range []int{c.since - 1, c.since} {
			a := d.do("GET", fmt.Sprintf("/v1.%d%s", minor, c.path), nil)
			if has := strings.Contains(a.body, c.field); a.status != 200 || has != (minor < c.since) {
				t.Errorf("1.%d, %s: %d %s, want %s: %v", minor, c.path, a.status, a.body, c.field, minor < c.since)
			}
		}
	}
	d.want("GET", "/images/json", nil, 200, `"Containers":1`)
	if a := d.do("GET", "/v1.51/containers/json?all=1", nil); strings.Contains(a.body, `"Health"`) {
		t.Errorf("a list of 1.51 has what came with 1.52: %s", a.body)
	}
	d.want("GET", "/v1.52/containers/json?all=1", nil, 200, `"Health":{"Status":"none","FailingStreak":0}`)
}
