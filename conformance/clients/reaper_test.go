//go:build linux

package clients_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/conformance/host"
)

// TestReaper holds the host to what Testcontainers' reaper (testcontainers/moby-ryuk) needs of it: that its own container is
// made as it asks, and that what a session left is found by labels and removed.
func TestReaper(t *testing.T) {
	h, env := open(t)
	image := h.Registry + "/minibox:latest"
	if _, err := h.Docker(t.Context(), "pull", image); err != nil {
		t.Fatal(err)
	}
	const session = "org.testcontainers.sessionId=this"
	labels := map[string]string{"org.testcontainers": "true", "org.testcontainers.sessionId": "this"}
	reaperLabels := map[string]string{"org.testcontainers.reaper": "true", "org.testcontainers.ryuk": "true", "org.testcontainers.sessionId": "this"}

	check(t, "privileged is a warning", func(t *testing.T) {
		made, err := h.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Name:       "reaper_this",
			Config:     &container.Config{Image: image, Cmd: []string{"sleep", "100000"}, Labels: reaperLabels},
			HostConfig: &container.HostConfig{Privileged: true, AutoRemove: true, NetworkMode: "bridge"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(made.Warnings, func(w string) bool { return strings.Contains(w, "--privileged") }) {
			t.Errorf("warnings: %q", made.Warnings)
		}
		if _, err := h.Client.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	check(t, "privileged of others is refused", func(t *testing.T) {
		_, err := h.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Config: &container.Config{Image: image, Labels: labels}, HostConfig: &container.HostConfig{Privileged: true},
		})
		if err == nil || !strings.Contains(err.Error(), "cannot use --privileged") {
			t.Errorf("%v", err)
		}
	})
	check(t, "the host's socket in its container", func(t *testing.T) {
		_, err := h.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
			Config:     &container.Config{Image: image, Labels: reaperLabels},
			HostConfig: &container.HostConfig{Binds: []string{strings.TrimPrefix(h.Addr, "unix://") + ":/var/run/docker.sock"}},
		})
		const want = "cannot use --volume: volumes and mounts are not offered; Testcontainers does without its reaper if TESTCONTAINERS_RYUK_DISABLED=true"
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("it was not refused with %q: %v", want, err)
		}
		wait(t, want)
	})

	// What this session and another one left: a container that runs, one that has ended, one that never started, a network
	// with a member, a volume, an image.
	kept := map[string][]string{}
	for _, of := range []string{"this", "another"} {
		for _, args := range [][]string{
			{"network", "create", "net-" + of},
			{"volume", "create", "vol-" + of},
			{"run", "-d", "--name", "runs-" + of, "--network", "net-" + of, image, "sleep", "100000"},
			{"run", "--name", "ended-" + of, image, "true"},
			{"create", "--name", "made-" + of, image, "true"},
		} {
			verb := slices.IndexFunc(args, func(a string) bool { return a == "create" || a == "run" })
			args = slices.Insert(args, verb+1, "--label", "org.testcontainers=true", "--label", "org.testcontainers.sessionId="+of)
			if _, err := h.Docker(t.Context(), args...); err != nil {
				t.Fatal(err)
			}
		}
		cmd := command(t, env, folder(t), "docker", "import", "-c", "LABEL org.testcontainers=true org.testcontainers.sessionId="+of, "-", "img-"+of)
		cmd.Stdin = strings.NewReader(string(make([]byte, 1024))) // an empty archive
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		kept[of] = []string{"ended-" + of, "img-" + of, "made-" + of, "net-" + of, "runs-" + of, "vol-" + of}
	}

	r := reaper{h: h, filters: make(client.Filters).Add("label", "org.testcontainers=true", session)}
	check(t, "what a session left is found by its labels", func(t *testing.T) {
		found, err := r.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range found {
			names = append(names, f.name)
			if age := time.Since(f.created); age < -time.Minute || age > time.Hour {
				t.Errorf("%s was made at %s", f.name, f.created)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(kept["this"], names); diff != "" {
			t.Error(diff)
		}
	})
	check(t, "the filters in the form that old clients send", func(t *testing.T) {
		var list []container.Summary
		get(t, h, "/v1.32/containers/json?all=1&filters="+url.QueryEscape(`{"label":{"`+session+`":true,"org.testcontainers=true":true}}`), &list)
		if len(list) != 3 {
			t.Errorf("%d containers: %+v", len(list), list)
		}
	})
	check(t, "all of it is removed at once", func(t *testing.T) {
		found, err := r.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if err := f.remove(t.Context()); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
		if left, err := r.find(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("%+v, %v", left, err)
		}
		for _, f := range found {
			if err := f.remove(t.Context()); !gone(err) {
				t.Errorf("%s, again: %v", f.name, err)
			}
		}
	})
	check(t, "nothing of another session is", func(t *testing.T) {
		other := reaper{h: h, filters: make(client.Filters).Add("label", "org.testcontainers=true", "org.testcontainers.sessionId=another")}
		left, err := other.find(t.Context())
		if err != nil || len(left) != len(kept["another"]) {
			t.Errorf("%+v, %v", left, err)
		}
		if c, err := h.Client.ContainerInspect(t.Context(), "reaper_this", client.ContainerInspectOptions{}); err != nil || !c.Container.State.Running {
			t.Errorf("the reaper itself: %v", err)
		}
	})
	check(t, "its own container goes when it ends", func(t *testing.T) {
		if _, err := h.Docker(t.Context(), "kill", "reaper_this"); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			_, err := h.Client.ContainerInspect(t.Context(), "reaper_this", client.ContainerInspectOptions{})
			if gone(err) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	})
}

// reaper finds what has its labels, in the order in which the reaper of Testcontainers removes it.
type reaper struct {
	h       *host.Host
	filters client.Filters
}

type found struct {
	name    string
	created time.Time
	remove  func(context.Context) error
}

func (r reaper) find(ctx context.Context) (all []found, err error) {
	c := r.h.Client
	containers, err := c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: r.filters})
	if err != nil {
		return nil, err
	}
	for _, x := range containers.Items {
		if x.Labels["org.testcontainers.ryuk"] == "true" {
			continue
		}
		all = append(all, found{strings.TrimPrefix(x.Names[0], "/"), time.Unix(x.Created, 0), func(ctx context.Context) error {
			_, err := c.ContainerRemove(ctx, x.ID, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
			return err
		}})
	}
	networks, err := c.NetworkList(ctx, client.NetworkListOptions{Filters: r.filters})
	if err != nil {
		return nil, err
	}
	for _, x := range networks.Items {
		all = append(all, found{x.Name, x.Created, func(ctx context.Context) error {
			_, err := c.NetworkRemove(ctx, x.ID, client.NetworkRemoveOptions{})
			return err
		}})
	}
	volumes, err := c.VolumeList(ctx, client.VolumeListOptions{Filters: r.filters})
	if err != nil {
		return nil, err
	}
	for _, x := range volumes.Items {
		created, err := time.Parse(time.RFC3339, x.CreatedAt)
		if err != nil {
			return nil, err
		}
		all = append(all, found{x.Name, created, func(ctx context.Context) error {
			_, err := c.VolumeRemove(ctx, x.Name, client.VolumeRemoveOptions{})
			return err
		}})
	}
	images, err := c.ImageList(ctx, client.ImageListOptions{Filters: r.filters})
	if err != nil {
		return nil, err
	}
	for _, x := range images.Items {
		if len(x.RepoTags) == 0 {
			return nil, fmt.Errorf("image %s has no name", x.ID)
		}
		name, _, _ := strings.Cut(x.RepoTags[0], ":")
		all = append(all, found{name, time.Unix(x.Created, 0), func(ctx context.Context) error {
			_, err := c.ImageRemove(ctx, x.ID, client.ImageRemoveOptions{PruneChildren: true})
			return err
		}})
	}
	return all, nil
}

// gone says whether an error is Docker's word for what is not there.
func gone(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "No such ") || strings.Contains(err.Error(), " not found") || strings.Contains(err.Error(), "no such volume"))
}

// get asks the API itself.
func get(t *testing.T, h *host.Host, path string, into any) {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(h.Addr, "unix://"))
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
}
