package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/store"
)

// TestObjectsSurvive: networks, their members, volumes and events are there after a restart of the backend.
func TestObjectsSurvive(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	begin := time.Now()
	made, err := r.b.Networks.Create(t.Context(), network.CreateRequest{Name: "mynet", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.b.Volumes.Create(t.Context(), volume.CreateRequest{Name: "data", Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	c, err := r.b.Containers.Create(t.Context(), sockerless.CreateRequest{
		Name: "web", Config: &docker.Config{Image: "shell", Cmd: []string{"sleep", "1000"}}, HostConfig: &docker.HostConfig{NetworkMode: "mynet"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.b.Containers.Start(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	before, err := r.b.Networks.Find(t.Context(), "bridge")
	if err != nil {
		t.Fatal(err)
	}
	told := r.told(begin)
	r.close()
	r.open()
	after, err := r.b.Networks.Find(t.Context(), "bridge")
	if err != nil || after.ID != before.ID || !after.Created.Equal(before.Created) {
		t.Errorf("bridge was %+v and is %+v, %v", before, after, err)
	}
	n, err := r.b.Networks.Find(t.Context(), made.ID)
	if err != nil || n.Name != "mynet" || n.Labels["a"] != "b" || n.Containers[c.ID].Name != "web" {
		t.Errorf("network %+v, %v", n, err)
	}
	if err := r.b.Networks.Remove(t.Context(), "mynet"); sockerless.ErrorCode(err) != sockerless.EFORBIDDEN {
		t.Errorf("a network in use: %v", err)
	}
	if v, err := r.b.Volumes.Find(t.Context(), "data"); err != nil || v.Labels["a"] != "b" {
		t.Errorf("volume %+v, %v", v, err)
	}
	if again := r.told(begin); fmt.Sprint(again) != fmt.Sprint(told) || len(again) < 4 {
		t.Errorf("told before the restart: %q, after it: %q", told, again)
	}
	if err := r.b.Containers.Remove(t.Context(), c.ID, sockerless.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

// told lists the events since a time.
func (r *rig) told(since time.Time) []string {
	r.t.Helper()
	var all []string
	for m := range r.events(sockerless.EventOptions{Since: since, Until: time.Now()}) {
		all = append(all, fmt.Sprint(m.TimeNano, " ", m.Type, " ", m.Action, " ", m.Actor.ID))
	}
	return all
}

// TestVolumeInUse: a volume that a container is for stays. No container of today's can have one, so one is put into the
// store as another version may have left it.
func TestVolumeInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	c, err := r.b.Containers.Create(t.Context(), sockerless.CreateRequest{Config: &docker.Config{Image: "shell"}})
	if err != nil {
		t.Fatal(err)
	}
	r.close()
	st, err := store.Open(filepath.Join(r.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	item, err := st.Get(t.Context(), "containers", c.ID)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(item.Value, &rec); err != nil {
		t.Fatal(err)
	}
	rec["HostConfig"].(map[string]any)["Binds"] = []string{"data:/data:ro", "/etc/ro:/etc/ro"}
	if item.Value, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), "containers", item); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	for _, name := range []string{"data", "ro"} {
		if _, err := r.b.Volumes.Create(t.Context(), volume.CreateRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, force := range []bool{false, true} {
		err := r.b.Volumes.Remove(t.Context(), "data", force)
		if want := "remove data: volume is in use - [" + c.ID + "]"; sockerless.ErrorCode(err) != sockerless.ECONFLICT || err.Error() != want {
			t.Errorf("removal: %v, want %s", err, want)
		}
	}
	report, err := r.b.Volumes.Prune(t.Context(), sockerless.Filters{"all": {"true"}})
	if err != nil || fmt.Sprint(report.VolumesDeleted) != "[ro]" {
		t.Errorf("pruned %+v, %v", report, err)
	}
	for v, err := range r.b.Volumes.List(t.Context(), sockerless.Filters{"dangling": {"false"}}) {
		if err != nil || v.Name != "data" || v.UsageData.RefCount != 1 {
			t.Errorf("in use: %+v, %v", v, err)
		}
	}
}

// TestSlowFollower: who follows events and does not read holds nothing up, and is cut off once it has missed some.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	reads, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	follow := r.b.System.Events(ctx, sockerless.EventOptions{Since: time.Now().Add(-time.Hour)})
	go func() { // ends with ctx at the latest
		var last error
		for _, err := range follow {
			last = err
			<-reads // it stalls after the first one
		}
		ended <- last
	}()
	for range 9000 { // each is an event, and no write to the store
		if _, err := r.b.Volumes.Prune(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	close(reads)
	if err := within(t, ended); sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE {
		t.Errorf("the follower ends with %v", err)
	}
}
