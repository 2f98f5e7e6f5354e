//go:build linux

package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/minibox"
)

// These tests run containers. They share one registry and one runtime, whose end TestMain checks.
var (
	shared   *Runtime
	skip     string // why no test here can run
	host     string // of the registry
	baseBox  v1.Image
	logLines syncBuffer
	carrier  = http.DefaultTransport.(*http.Transport).Clone() // to the registry
)

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv("AZURESIM_TEST_VICTIM"); ok {
		victim(dir)
		return
	}
	if dir, ok := os.LookupEnv("AZURESIM_TEST_ORDINARY"); ok {
		ordinary(dir)
		return
	}
	os.Exit(func() int {
		if os.Geteuid() != 0 {
			skip = "needs root"
			return m.Run()
		}
		if _, err := findRunc(""); err != nil {
			skip = err.Error()
			return m.Run()
		}
		server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		defer server.Close()
		host = strings.TrimPrefix(server.URL, "http://")
		path, err := minibox.Build(context.Background())
		if err == nil {
			baseBox, err = minibox.Image(path)
		}
		if err == nil {
			err = pushTo(host, "minibox:latest", baseBox)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		dir, err := os.MkdirTemp("", "azuresim-runtime-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		shared, err = New(Options{Dir: dir, RetryPause: 50 * time.Millisecond, Transport: carrier, Logger: slog.New(slog.NewTextHandler(&logLines, nil))})
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) { // root in somebody's container
			skip = err.Error()
			return m.Run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "New:", err)
			return 1
		}
		code := m.Run()
		if err := shared.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "Close:", err)
			code = 1
		}
		return code
	}())
}

func need(t testing.TB) *Runtime {
	t.Helper()
	if skip != "" {
		t.Skip("cannot run containers here: " + skip)
	}
	return shared
}

func pushTo(host, ref string, img v1.Image) error {
	parsed, err := name.ParseReference(host + "/" + ref)
	if err != nil {
		return err
	}
	return remote.Write(parsed, img)
}

// variant pushes minibox with another configuration.
func variant(t testing.TB, ref string, change func(*v1.Config)) string {
	t.Helper()
	config, err := baseBox.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	change(&config.Config)
	img, err := mutate.ConfigFile(baseBox, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := pushTo(host, ref, img); err != nil {
		t.Fatal(err)
	}
	return host + "/" + ref
}

func box() string { return host + "/minibox:latest" }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// observed is a replica under test with what it said.
type observed struct {
	azuresim.Replica
	mu     sync.Mutex
	out    map[string][]string // container/stream
	events []azuresim.Event
}

var names counter

// launch starts a replica of spec; what the spec leaves out is filled in.
func launch(t testing.TB, rt *Runtime, spec azuresim.ReplicaSpec) *observed {
	t.Helper()
	o := &observed{out: map[string][]string{}}
	if spec.Name == "" {
		spec.Name = fmt.Sprintf("job-%07d-%05d", os.Getpid(), names.next())
	}
	for i := range spec.Containers {
		if spec.Containers[i].Name == "" {
			spec.Containers[i].Name = "main"
		}
		if spec.Containers[i].Image == "" {
			spec.Containers[i].Image = box()
		}
	}
	for i := range spec.Init {
		if spec.Init[i].Image == "" {
			spec.Init[i].Image = box()
		}
	}
	spec.Output = func(container, stream string, line []byte) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.out[container+"/"+stream] = append(o.out[container+"/"+stream], string(line))
	}
	spec.Events = func(e azuresim.Event) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, e)
	}
	r, err := rt.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	o.Replica = r
	t.Cleanup(func() {
		r.Stop(0)
		<-r.(*replica).swept
	})
	return o
}

// sh is a replica with one container that runs a script.
func sh(script string) azuresim.ReplicaSpec {
	return azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Command: []string{"sh", "-c", script}}}}
}

// wait returns the result of the replica, which must end within the time limit.
func (o *observed) wait(t testing.TB) azuresim.ReplicaResult {
	t.Helper()
	select {
	case <-o.Done():
		return o.Result()
	case <-time.After(2 * time.Minute):
		t.Fatalf("the replica does not end; events:\n%s", o.eventText())
		panic("unreachable")
	}
}

func (o *observed) text(key string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.out[key], "\n")
}

func (o *observed) eventText() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, e := range o.events {
		fmt.Fprintf(&b, "%s %s %s: %s\n", e.Type, e.Reason, e.Container, e.Message)
	}
	return b.String()
}

// until polls for a condition that another process makes true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func one(t testing.TB, result azuresim.ReplicaResult) azuresim.ContainerResult {
	t.Helper()
	if result.Err != nil || len(result.Containers) != 1 {
		t.Fatalf("result %+v, want one container and no error", result)
	}
	return result.Containers[0]
}

func TestNewNamesTheFix(t *testing.T) {
	need(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho broken >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opt  Options
		says string
	}{
		"no folder":     {Options{}, "no data folder"},
		"missing runc":  {Options{Dir: t.TempDir(), Runc: "/nosuch/runc"}, "apt-get install runc"},
		"broken runc":   {Options{Dir: t.TempDir(), Runc: file}, "apt-get install runc"},
		"not a folder":  {Options{Dir: file}, file},
		"folder in use": {Options{Dir: shared.opt.Dir}, "another simulator"},
	} {
		t.Run(name, func(t *testing.T) {
			c.opt.Logger = slog.New(slog.DiscardHandler)
			rt, err := New(c.opt)
			if err == nil {
				rt.Close()
				t.Fatal("New succeeded")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

func TestARunTellsOutputCodeAndTimes(t *testing.T) {
	rt := need(t)
	before := time.Now()
	o := launch(t, rt, sh("echo out; echo err >&2; printf 'no newline'; exit 7"))
	c := one(t, o.wait(t))
	if c.ExitCode != 7 || c.OOMKilled || c.Name != "main" {
		t.Errorf("result %+v, want exit code 7 of main", c)
	}
	if c.StartedAt.Before(before) || c.FinishedAt.Before(c.StartedAt) || c.FinishedAt.After(time.Now()) {
		t.Errorf("times %v, %v are not in the order of events", c.StartedAt, c.FinishedAt)
	}
	if got := o.text("main/stdout"); got != "out\nno newline" {
		t.Errorf("stdout %q", got)
	}
	if got := o.text("main/stderr"); got != "err" {
		t.Errorf("stderr %q", got)
	}
	var reasons []string
	for _, e := range o.events {
		reasons = append(reasons, e.Reason)
	}
	if got := strings.Join(reasons, " "); got != "AssigningReplica PullingImage PulledImage ContainerCreated ContainerStarted ContainerTerminated" {
		t.Errorf("events %s", got)
	}
}
