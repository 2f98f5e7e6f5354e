package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/driver/drivertest"
)

// TestDependsOn does what `docker compose up` does for depends_on, by the client that it uses: it follows the events of a
// project, starts a service, looks every now and then whether that is healthy or has completed, and starts the next.
func TestDependsOn(t *testing.T) {
	agent, err := drivertest.BuildAgent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	socket, stop, err := startChain(agent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()

	follow, unfollow := context.WithCancel(ctx)
	stream := c.Events(follow, client.EventsListOptions{Filters: make(client.Filters).Add("label", "com.docker.compose.project=p")})
	told, seen := make(chan string, 1000), make(chan struct{})
	go func() { // ends with follow
		defer close(seen)
		for {
			select {
			case m := <-stream.Messages:
				if strings.HasPrefix(string(m.Action), "exec_") {
					continue // the checks', without number
				}
				told <- fmt.Sprintf("%s %s", m.Actor.Attributes["com.docker.compose.service"], m.Action)
			case <-stream.Err:
				return
			}
		}
	}()

	start := func(service, script string, check *container.HealthConfig) string {
		t.Helper()
		created, err := c.ContainerCreate(ctx, client.ContainerCreateOptions{
			Name: "p-" + service + "-1",
			Config: &container.Config{
				Image: "shell", Cmd: []string{"sh", "-c", script}, Healthcheck: check,
				Labels: map[string]string{"com.docker.compose.project": "p", "com.docker.compose.service": service},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		return created.ID
	}
	await := func(id string, done func(*container.State) bool) *container.State {
		t.Helper()
		for {
			got, err := c.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if st := got.Container.State; done(st) {
				return st
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	ready := filepath.Join(t.TempDir(), "ready")
	often := func(test string) *container.HealthConfig {
		return &container.HealthConfig{Test: []string{"CMD-SHELL", test}, Interval: 50 * time.Millisecond, StartPeriod: time.Minute, StartInterval: 50 * time.Millisecond, Retries: 1}
	}

	// condition: service_healthy. While it starts, it is neither healthy nor unhealthy.
	db := start("db", "sleep 0.5; echo > "+ready+"; exec sleep 1000", often("test -e "+ready))
	st := await(db, func(st *container.State) bool {
		return !st.Running || st.Health != nil && (st.Health.Status == container.Healthy || st.Health.Status == container.Unhealthy)
	})
	if !st.Running || st.Health == nil || st.Health.Status != container.Healthy {
		t.Fatalf("the database: %+v", st)
	}
	if _, err := os.Stat(ready); err != nil {
		t.Error("it is healthy and not ready")
	}
	// condition: service_completed_successfully.
	migration := start("migration", "exit 0", nil)
	if st := await(migration, func(st *container.State) bool { return st.Status == container.StateExited }); st.ExitCode != 0 {
		t.Errorf("the migration: %+v", st)
	}
	// One that is not well is told as that at once, without a start period.
	sick := often("exit 1")
	sick.StartPeriod = 0
	web := start("web", "exec sleep 1000", sick)
	await(web, func(st *container.State) bool { return st.Health != nil && st.Health.Status == container.Unhealthy })

	var got []string
	for want := []string{"db health_status: healthy", "migration die", "web health_status: unhealthy"}; len(want) > 0; {
		select {
		case event := <-told:
			got = append(got, event)
			want = slices.DeleteFunc(want, func(w string) bool { return w == event })
		case <-ctx.Done():
			t.Fatalf("not told: %q; told: %q", want, got)
		}
	}
	unfollow()
	<-seen
	for _, id := range []string{db, migration, web} {
		if _, err := c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}
