package dockerapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless"
)

func TestStats(t *testing.T) {
	d := start(t)
	c := d.client()
	created, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "c", Config: &container.Config{
		Image: "busybox:latest", Cmd: []string{"sleep", "1000"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	read := func(opt client.ContainerStatsOptions) (all []container.StatsResponse) {
		t.Helper()
		res, err := c.ContainerStats(t.Context(), "c", opt)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		for dec := json.NewDecoder(res.Body); ; {
			var v container.StatsResponse
			if err := dec.Decode(&v); errors.Is(err, io.EOF) {
				return all
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
	}
	stream := read(client.ContainerStatsOptions{Stream: true})
	if len(stream) != 3 || stream[2].CPUStats.CPUUsage.TotalUsage != 2 || stream[0].ID != created.ID || stream[0].Name != "/c" {
		t.Errorf("stream: %+v", stream)
	}
	if one := read(client.ContainerStatsOptions{IncludePreviousSample: true}); len(one) != 1 || one[0].Networks["eth0"].RxBytes != 5 {
		t.Errorf("one: %+v", one)
	}
	read(client.ContainerStatsOptions{})
	if diff := cmp.Diff([]sockerless.StatsOptions{{Stream: true}, {}, {OneShot: true}}, d.statsOptions); diff != "" {
		t.Error(diff)
	}
	d.want("GET", "/containers/nosuch/stats", nil, 404, "No such container: nosuch")
	d.want("GET", "/containers/nosuch/stats?stream=0", nil, 404, "No such container: nosuch")
}

// TestStatsOfAnAgentThatIsAway: the stream is there although no figures are: docker stats waits for that of each container
// before it shows any.
func TestStatsOfAnAgentThatIsAway(t *testing.T) {
	d := start(t)
	c := d.client()
	if _, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "c", Config: &container.Config{
		Image: "busybox:latest", Cmd: []string{"sleep", "1000"}, Labels: map[string]string{"agent": "away"},
	}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	res, err := c.ContainerStats(ctx, "c", client.ContainerStatsOptions{Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}
