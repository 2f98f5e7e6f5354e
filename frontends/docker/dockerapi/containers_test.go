package dockerapi_test

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless"
)

// TestRun goes the way of `docker run`, whose order deadlocks a server that answers a wait late.
func TestRun(t *testing.T) {
	d := start(t)
	c := d.client()
	ctx := t.Context()
	created, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{Name: "web", Config: &container.Config{
		Image: "busybox:latest", Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 5"}, AttachStdout: true, AttachStderr: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	attached, err := c.ContainerAttach(ctx, created.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer attached.Close()
	attached.Conn.SetDeadline(time.Now().Add(patience))
	if kind, ok := attached.MediaType(); !ok || kind != "application/vnd.docker.multiplexed-stream" {
		t.Errorf("media type %q", kind)
	}
	wait := c.ContainerWait(ctx, created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := c.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := demux(t, attached.Reader)
	if stdout != "out\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	select {
	case w := <-wait.Result:
		if w.StatusCode != 5 || w.Error != nil {
			t.Errorf("%+v", w)
		}
	case err := <-wait.Error:
		t.Error(err)
	case <-time.After(patience):
		t.Error("the wait does not end")
	}
	if _, err := c.ContainerRemove(ctx, "web", client.ContainerRemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWaitHeaders: the headers of a wait come before its container has been started.
func TestWaitHeaders(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["sh","-c","exit 3"]}`)
	conn := d.dial()
	io.WriteString(conn, "POST /containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	d.want("POST", "/containers/c/start", nil, 204, "")
	var out container.WaitResponse
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.StatusCode != 3 {
		t.Errorf("%+v, %v", out, err)
	}
	d.want("POST", "/containers/c/wait?condition=sometime", nil, 400, `invalid condition: "sometime"`)
	d.want("POST", "/containers/nosuch/wait", nil, 404, "No such container: nosuch")
	d.want("POST", "/v1.24/containers/c/wait?condition=sometime", nil, 200, `"StatusCode":3`)
}

func TestLifecycle(t *testing.T) {
	d := start(t)
	id := d.create("c", `{"Image":"busybox:latest","Cmd":["sleep","1000"]}`)
	d.want("POST", "/containers/create?name=c", `{"Image":"busybox:latest"}`, 409, `Conflict. The container name "/c" is already in use by container "`+id+`"`)
	d.want("POST", "/containers/create", `{"Image":"nosuch"}`, 404, "No such image: nosuch")
	d.want("POST", "/containers/create", `{"Image":"busybox:latest","HostConfig":{"Privileged":true}}`, 501, "cannot use --privileged")
	d.want("POST", "/containers/c/start", `{"Binds":["/a:/b"]}`, 400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	d.want("POST", "/containers/c/start?checkpoint=x", nil, 501, "cannot use --checkpoint")
	d.want("POST", "/containers/c/start", `{}`, 204, "")
	a := d.do("POST", "/containers/c/start", nil)
	if a.status != 304 || a.body != "" {
		t.Errorf("start of a running one: %d %q", a.status, a.body)
	}
	d.want("DELETE", "/containers/c", nil, 409, "container is running: stop the container before removing or force remove")
	d.want("DELETE", "/containers/c?link=1", nil, 501, "cannot use --link")
	d.want("POST", "/containers/c/stop?t=x", nil, 400, "invalid value for t")
	d.want("POST", "/containers/c/stop?t=-1&signal=SIGINT", nil, 204, "")
	grace := -time.Second
	if diff := cmp.Diff(&sockerless.StopOptions{Signal: "SIGINT", Grace: &grace}, d.stopped); diff != "" {
		t.Error(diff)
	}
	if a := d.do("POST", "/containers/c/stop", nil); a.status != 304 {
		t.Errorf("stop of a stopped one: %d %q", a.status, a.body)
	}
	if d.stopped.Grace != nil {
		t.Errorf("no t is a grace of %v", *d.stopped.Grace)
	}
	d.want("POST", "/containers/c/kill", nil, 409, "is not running")
	d.want("POST", "/containers/c/restart?t=0", nil, 204, "")
	d.want("POST", "/containers/c/kill?signal=SIGFOO", nil, 400, "Invalid signal: SIGFOO")
	d.want("POST", "/containers/c/kill", nil, 204, "")
	d.want("POST", "/containers/c/wait", nil, 200, `"StatusCode":137`)
	d.want("POST", "/containers/c/rename?name=", nil, 400, "Neither old nor new names may be empty")
	d.want("POST", "/containers/c/rename?name=e", nil, 204, "")
	d.want("POST", "/containers/e/resize?h=24&w=80", nil, 200, "")
	d.want("POST", "/containers/e/resize?h=a&w=80", nil, 400, `invalid resize height "a"`)
	d.want("POST", "/containers/e/resize?h=1&w=70000", nil, 400, `invalid resize width "70000"`)
	if diff := cmp.Diff([]sockerless.TerminalSize{{Rows: 24, Cols: 80}}, d.sizes); diff != "" {
		t.Error(diff)
	}
	d.want("POST", "/containers/prune", nil, 200, `{"ContainersDeleted":["`+id+`"],"SpaceReclaimed":0}`)
	d.want("POST", "/containers/prune", nil, 200, `{"ContainersDeleted":[],"SpaceReclaimed":0}`)
	d.want("DELETE", "/containers/e", nil, 404, "No such container: e")
}

// TestInspect: what create said comes back, fields that nobody here knows included.
func TestInspect(t *testing.T) {
	d := start(t)
	id := d.create("c", `{"Image":"busybox:latest","Entrypoint":"sh","Cmd":["-c","exit 3"],"Env":["A=b"],"FutureField":{"x":[1,2]},
		"MacAddress":"02:42:ac:11:00:02","ArgsEscaped":false,
		"Labels":{"com.docker.compose.project":"p"},"HostConfig":{"AnotherFuture":"yes","NetworkMode":"default","MemorySwappiness":-1},
		"NetworkingConfig":{"EndpointsConfig":{}}}`)
	d.want("POST", "/containers/c/start", nil, 204, "")
	d.want("POST", "/containers/c/wait", nil, 200, "3")
	var got map[string]any
	d.json("GET", "/containers/"+id[:12]+"/json", nil, 200, &got)
	config, host := got["Config"].(map[string]any), got["HostConfig"].(map[string]any)
	state := got["State"].(map[string]any)
	for _, at := range []string{"StartedAt", "FinishedAt"} {
		if _, err := time.Parse(time.RFC3339Nano, state[at].(string)); err != nil {
			t.Error(err)
		}
		delete(state, at)
	}
	networks := got["NetworkSettings"].(map[string]any)["Networks"].(map[string]any)
	picked := map[string]any{
		"Id": got["Id"], "Name": got["Name"], "Path": got["Path"], "Args": got["Args"], "State": state, "Platform": got["Platform"],
		"Future": config["FutureField"], "Mac": config["MacAddress"], "Another": host["AnotherFuture"], "Mode": host["NetworkMode"], "Env": config["Env"],
		"Labels": config["Labels"], "bridge": networks["bridge"] != nil, "ArgsEscaped": config["ArgsEscaped"], "Mounts": got["Mounts"],
	}
	want := map[string]any{
		"Id": id, "Name": "/c", "Path": "sh", "Args": []any{"-c", "exit 3"}, "Platform": "linux",
		"State": map[string]any{
			"Status": "exited", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": 0.0, "ExitCode": 3.0, "Error": "",
		},
		"Future": map[string]any{"x": []any{1.0, 2.0}}, "Mac": "02:42:ac:11:00:02", "Another": "yes", "Mode": "bridge", "Env": []any{"PATH=/usr/bin:/bin", "A=b"},
		"Labels": map[string]any{"com.docker.compose.project": "p"}, "bridge": true, "ArgsEscaped": nil, "Mounts": []any{},
	}
	if diff := cmp.Diff(want, picked); diff != "" {
		t.Error(diff)
	}
	if string(d.created.Raw) == "" || d.created.HostConfig == nil {
		t.Errorf("create got %+v", d.created)
	}
	sized, err := d.client().ContainerInspect(t.Context(), "c", client.ContainerInspectOptions{Size: true})
	if err != nil || sized.Container.SizeRw == nil || *sized.Container.SizeRw != 4 || *sized.Container.SizeRootFs != 1004 {
		t.Errorf("%v, %+v", err, sized.Container)
	}
	d.want("GET", "/containers/nosuch/json?size=1", nil, 404, "No such container: nosuch")
	// The newest fields are known to the types, the older top-level ones are kept.
	var old struct {
		NetworkSettings map[string]any
		GraphDriver     map[string]any
	}
	d.json("GET", "/v1.24/containers/c/json", nil, 200, &old)
	for _, field := range []string{"Bridge", "IPAddress", "Gateway", "MacAddress", "Ports", "SandboxKey"} {
		if _, ok := old.NetworkSettings[field]; !ok {
			t.Errorf("NetworkSettings has no %s", field)
		}
	}
	d.want("GET", "/containers/nosuch/json", nil, 404, "No such container: nosuch")
	d.want("GET", "/containers//c/json", nil, 200, id) // the slash of its name
}

func TestList(t *testing.T) {
	d := start(t)
	d.create("made", `{"Image":"busybox:latest","Cmd":["sleep","10"]}`)
	d.create("ended", `{"Image":"busybox:latest","Entrypoint":["sh"],"Cmd":["-c","echo 'a b'; exit 137"]}`)
	d.create("runs", `{"Image":"busybox:latest","Cmd":["sleep","1000"],"Labels":{"a":"b"}}`)
	d.want("POST", "/containers/ended/start", nil, 204, "")
	d.want("POST", "/containers/runs/start", nil, 204, "")
	d.want("POST", "/containers/ended/wait", nil, 200, "137")
	var list []container.Summary
	d.json("GET", "/containers/json", nil, 200, &list)
	if len(list) != 1 || list[0].Names[0] != "/runs" {
		t.Errorf("%+v", list)
	}
	d.json("GET", "/containers/json?all=1&limit=-1", nil, 200, &list)
	type row struct{ Name, Status, Command, State, Mode string }
	var got []row
	for _, s := range list {
		got = append(got, row{s.Names[0], regexp.MustCompile(`(Less than a|\d+|About a) (second|minute)s?`).ReplaceAllString(s.Status, "N"), s.Command, string(s.State), s.HostConfig.NetworkMode})
	}
	want := []row{
		{"/runs", "Up N", "sleep 1000", "running", "bridge"},
		{"/ended", "Exited (137) N ago", `sh -c 'echo 'a b'; exit 137'`, "exited", "bridge"},
		{"/made", "Created", "sleep 10", "created", "bridge"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sized, err := d.client().ContainerList(t.Context(), client.ContainerListOptions{All: true, Size: true, Limit: 2})
	if err != nil || len(sized.Items) != 3 || sized.Items[0].SizeRw != 4 || sized.Items[0].SizeRootFs != 1004 {
		t.Errorf("%v, %+v", err, sized.Items)
	}
	if d.limit != 2 {
		t.Errorf("limit %d", d.limit)
	}
	d.want("DELETE", "/containers/runs?force=1&v=1", nil, 204, "")
}

func TestExec(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["sleep","1000"]}`)
	d.want("POST", "/containers/c/exec", `{"Cmd":["true"]}`, 409, "is not running")
	d.want("POST", "/containers/c/start", nil, 204, "")
	c := d.client()
	ctx := t.Context()
	e, err := c.ExecCreate(ctx, "c", client.ExecCreateOptions{Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 3"}, AttachStdin: true, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	before := d.do("GET", "/exec/"+e.ID+"/json", nil)
	if !strings.Contains(before.body, `"ExitCode":null`) {
		t.Errorf("before the start: %s", before.body)
	}
	s, err := c.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.Conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(s.Conn, "typed\n")
	s.CloseWrite()
	stdout, stderr := demux(t, s.Reader)
	s.Close()
	if stdout != "typed\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	got, err := c.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
	if err != nil || got.ExitCode != 3 || got.Running {
		t.Errorf("%+v, %v", got, err)
	}
	d.want("POST", "/containers/c/exec", `{}`, 400, "No exec command specified")
	d.want("POST", "/containers/nosuch/exec", `{"Cmd":["true"]}`, 404, "No such container: nosuch")
	d.want("POST", "/exec/nosuch/start", `{}`, 404, "No such exec instance: nosuch")
	d.want("GET", "/exec/nosuch/json", nil, 404, "No such exec instance: nosuch")
	d.want("POST", "/exec/"+e.ID+"/resize?h=1&w=2", nil, 200, "")
	var detached struct{ ID string }
	d.json("POST", "/containers/c/exec", `{"Cmd":["true"]}`, 201, &detached)
	d.want("POST", "/exec/"+detached.ID+"/start", `{"Detach":true}`, 200, "")
	var missing struct{ ID string }
	d.json("POST", "/containers/c/exec", `{"Cmd":["/no/such/thing"]}`, 201, &missing)
	d.want("POST", "/exec/"+missing.ID+"/start", `{}`, 400, "OCI runtime exec failed") // not an upgrade
	d.want("DELETE", "/containers/c?force=1", nil, 204, "")
}

func TestArchive(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	a := d.do("HEAD", "/containers/c/archive?path=/etc/hostname", nil)
	const stat = "eyJuYW1lIjoiaG9zdG5hbWUiLCJzaXplIjo0LCJtb2RlIjo0MjAsIm10aW1lIjoiMjAyMy0xMS0xNFQyMjoxMzoyMFoiLCJsaW5rVGFyZ2V0IjoiIn0="
	if a.status != 200 || a.header.Get("X-Docker-Container-Path-Stat") != stat {
		t.Errorf("%d %v", a.status, a.header)
	}
	a = d.do("GET", "/containers/c/archive?path=/etc/hostname", nil)
	if a.status != 200 || a.header.Get("X-Docker-Container-Path-Stat") != stat || a.header.Get("Content-Type") != "application/x-tar" || len(a.body) != 2048 {
		t.Errorf("%d %v, %d bytes", a.status, a.header, len(a.body))
	}
	d.want("GET", "/containers/c/archive", nil, 400, "bad parameter: path cannot be empty")
	d.want("GET", "/containers/c/archive?path=/nope", nil, 404, "Could not find the file /nope in container c")
	if a := d.do("HEAD", "/containers/c/archive?path=/nope", nil); a.status != 404 {
		t.Errorf("HEAD: %d", a.status)
	}
	plain := tarOf(t, "test.txt", "from outside")
	for name, body := range map[string][]byte{
		"plain": plain, "gzip": compress(t, "gzip", plain), "bzip2": compress(t, "bzip2", plain), "zstd": compress(t, "zstd", plain),
	} {
		t.Run(name, func(t *testing.T) {
			d.memory.containers[0].files["/tmp/test.txt"] = ""
			a := d.do("PUT", "/containers/c/archive?path=/tmp&noOverwriteDirNonDir=true&copyUIDGID=true", string(body), "Content-Type", "application/x-tar")
			if a.status != 200 || d.memory.containers[0].files["/tmp/test.txt"] != "from outside" {
				t.Errorf("%d %s, %q", a.status, a.body, d.memory.containers[0].files)
			}
		})
	}
	if diff := cmp.Diff(&sockerless.WriteOptions{NoOverwriteDirNonDir: true, CopyUIDGID: true}, d.written); diff != "" {
		t.Error(diff)
	}
	d.want("PUT", "/containers/c/archive?path=/tmp", "\xfd7zXZ\x00 and so on", 501, "cannot read an archive compressed by xz")
	d.want("PUT", "/containers/c/archive?path=/tmp", "\x1f\x8b and so on", 400, "cannot read the archive")
	d.want("PUT", "/containers/c/archive?path=/tmp", "no archive at all", 400, "cannot read the archive")
}

func TestChanges(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	d.memory.containers[0].files = map[string]string{"/a": "", "/b": ""}
	d.want("GET", "/containers/c/changes", nil, 200, `[{"Kind":1,"Path":"/a"},{"Kind":1,"Path":"/b"}]`)
	d.memory.containers[0].files = map[string]string{}
	d.want("GET", "/containers/c/changes", nil, 200, "[]")
	d.want("GET", "/containers/nosuch/changes", nil, 404, "No such container: nosuch")
	d.memory.containers[0].files = map[string]string{"/cut": ""}
	d.want("GET", "/containers/c/changes", nil, 500, "the disk is on fire")
	for i := range 10000 {
		d.memory.containers[0].files[fmt.Sprintf("/%d", i)] = ""
	}
	if a, err := d.client().ContainerDiff(t.Context(), "c", client.ContainerDiffOptions{}); err == nil {
		t.Errorf("a cut list of %d looks whole", len(a.Changes))
	}
}

func TestExport(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	a := d.do("GET", "/containers/c/export", nil)
	h, err := tar.NewReader(strings.NewReader(a.body)).Next()
	if err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" || h.Name != "etc/hostname" {
		t.Errorf("%d %v, %v, %v", a.status, a.header, h, err)
	}
	d.want("GET", "/containers/nosuch/export", nil, 404, "No such container: nosuch")
}

// TestCutArchive: an archive that the backend cannot send whole must not look whole.
func TestCutArchive(t *testing.T) {
	d := start(t)
	d.create("c", `{"Image":"busybox:latest","Cmd":["true"]}`)
	d.memory.containers[0].files["/cut"] = "x"
	if e, err := d.client().ContainerExport(t.Context(), "c", client.ContainerExportOptions{}); err == nil {
		if _, err := io.Copy(io.Discard, e); err == nil {
			t.Error("an export looks whole")
		}
		e.Close()
	}
	r, err := d.client().CopyFromContainer(t.Context(), "c", client.CopyFromContainerOptions{SourcePath: "/cut"})
	if err != nil {
		return // it was cut before the headers were out
	}
	defer r.Content.Close()
	if _, err := io.Copy(io.Discard, r.Content); err == nil {
		t.Error("it looks whole")
	}
}
