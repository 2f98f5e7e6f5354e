package dockerapi_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

func TestTop(t *testing.T) {
	d := start(t)
	c := d.client()
	if _, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: "c", Config: &container.Config{
		Image: "busybox:latest", Cmd: []string{"sleep", "1000"},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerStart(t.Context(), "c", client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	res, err := c.ContainerTop(t.Context(), "c", client.ContainerTopOptions{Arguments: strings.Fields("-eo pid,cmd")})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"PID", "CMD"}, res.Titles); diff != "" || len(res.Processes) != 1 || res.Processes[0][1] != "sleep 1000" {
		t.Errorf("%+v", res)
	}
	if d.memory.psArgs != "-eo pid,cmd" {
		t.Errorf("arguments %q", d.memory.psArgs)
	}
	d.want("GET", "/containers/nosuch/top", nil, 404, "No such container: nosuch")
}
