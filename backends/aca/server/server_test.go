//go:build linux

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"go.uber.org/goleak"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/minibox"
	"github.com/sockerless/sockerless/azuresim/runtime"
	"github.com/sockerless/sockerless/backends/aca/server"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childSetting); addr != "" {
		fmt.Fprintln(os.Stderr, serveBackend(addr))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// cloud is a simulated Azure whose replicas really run, with minibox in its registry.
type cloud struct {
	sim *azuresim.Simulator
	srv *azuresim.Server
}

func newCloud(t *testing.T, opts ...azuresim.Option) cloud {
	t.Helper()
	dir := t.TempDir()
	rt, err := runtime.New(runtime.Options{Dir: filepath.Join(dir, "replicas"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skipf("replicas cannot run here: %v", err)
	}
	sim, err := azuresim.New(append([]azuresim.Option{azuresim.WithSeed(seed), azuresim.WithDataDir(filepath.Join(dir, "azure")), azuresim.WithRuntime(rt)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the simulator's seed was %d", seed)
		}
		if err := errors.Join(srv.Close(), sim.Close()); err != nil {
			t.Errorf("cannot close the simulator: %v", err)
		}
	})
	path, err := minibox.Binary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	image, err := minibox.Image(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Push(t.Context(), srv, "minibox:latest", image); err != nil {
		t.Fatal(err)
	}
	return cloud{sim, srv}
}

const anyPort = "127.0.0.1:0"

// seed is what azuresim's delays and faults are drawn from.
const seed = 11

// backend is a server on an address.
type backend struct {
	*server.Server
	addr string
	stop func()
}

// backend opens one with its data in dir. A second one on the same folder needs the first one's address too: agents dial it.
func (c cloud) backend(t *testing.T, dir, addr string, forward bool) backend {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	w := c.sim.World()
	cfg, err := server.DefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir, cfg.Linger = dir, 2*time.Second
	a := &cfg.Azure
	a.Subscription, a.ResourceGroup, a.Environment, a.Location = w.Subscription, w.ResourceGroup, w.Environment, w.Location
	a.Workspace, a.Identity, a.Registry = w.WorkspaceCustomerID, w.PullIdentityID(), c.srv.LoginServer
	a.EndpointURL, a.CAFile = c.srv.URL, c.srv.CAFile
	if forward {
		a.Resolver = c.srv.DNSAddr
	} else {
		_, port, _ := net.SplitHostPort(l.Addr().String())
		a.CallbackURL = "http://host.azuresim.internal:" + port
	}
	log := io.Discard
	if testing.Verbose() {
		log = t.Output()
	}
	s, err := server.Open(t.Context(), cfg, server.Options{Version: "test", Credential: operator{c.sim},
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }() // ends with ctx
	stopped := false
	b := backend{s, l.Addr().String(), func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			t.Errorf("serving ended: %v", err)
		}
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("cannot close the backend: %v", err)
		}
	}}
	t.Cleanup(b.stop)
	return b
}

// operator is the simulator's principal with a backend's roles.
type operator struct{ sim *azuresim.Simulator }

func (o operator) GetToken(_ context.Context, opt policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := o.sim.Token(o.sim.Operator(), strings.TrimSuffix(opt.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, err
}

func (b backend) pull(t *testing.T, image string) {
	t.Helper()
	for _, err := range b.Backend().Images.Pull(t.Context(), image, sockerless.PullOptions{}) {
		if err != nil {
			t.Fatalf("cannot pull %s: %v", image, err)
		}
	}
}

func (b backend) create(t *testing.T, name, image string, cmd ...string) string {
	t.Helper()
	made, err := b.Backend().Containers.Create(t.Context(), sockerless.CreateRequest{Name: name,
		Config: &container.Config{Image: image, Cmd: cmd, AttachStdout: true, AttachStderr: true}, HostConfig: &container.HostConfig{}})
	if err != nil {
		t.Fatalf("cannot create %s: %v", name, err)
	}
	return made.ID
}

// run runs a container to its end and returns what it wrote and its exit code.
func (b backend) run(t *testing.T, name, image string, cmd ...string) (stdout, stderr string, code int) {
	t.Helper()
	b.create(t, name, image, cmd...)
	session, err := b.Backend().Containers.Attach(t.Context(), name, sockerless.AttachOptions{Stdout: true, Stderr: true, Stream: true})
	if err != nil {
		t.Fatalf("cannot attach to %s: %v", name, err)
	}
	defer session.Close()
	if err := b.Backend().Containers.Start(t.Context(), name); err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, session); err != nil {
		t.Fatalf("cannot read the output of %s: %v", name, err)
	}
	for u, err := range b.Backend().Containers.Wait(t.Context(), name, container.WaitConditionNotRunning) {
		if err != nil {
			t.Fatalf("cannot wait for %s: %v", name, err)
		}
		if u.Exited {
			code = u.ExitCode
		}
	}
	return out.String(), errs.String(), code
}

func (b backend) exec(t *testing.T, name string, cmd ...string) (string, int) {
	t.Helper()
	id, err := b.Backend().Execs.Create(t.Context(), name, sockerless.ExecConfig{Cmd: cmd, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatalf("cannot make an exec in %s: %v", name, err)
	}
	session, err := b.Backend().Execs.Start(t.Context(), id, sockerless.ExecStartOptions{})
	if err != nil {
		t.Fatalf("cannot start an exec in %s: %v", name, err)
	}
	defer session.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, session); err != nil {
		t.Fatal(err)
	}
	e, err := b.Backend().Execs.Find(t.Context(), id)
	if err != nil || e.ExitCode == nil {
		t.Fatalf("exec is %+v, error %v", e, err)
	}
	return out.String(), *e.ExitCode
}

// calls counts the ARM requests after number seq whose method and path match, answers of 429 apart.
func (c cloud) calls(seq int, method, part string) (n int) {
	for _, r := range c.sim.Requests(seq) {
		if r.Method == method && r.Status != http.StatusTooManyRequests && strings.Contains(r.Path, "/providers/Microsoft.App/jobs") && strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

func (c cloud) seq() int {
	all := c.sim.Requests(0)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Seq
}

func (c cloud) nothingLeft(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); len(c.sim.Jobs()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("jobs are left: %+v", c.sim.Jobs())
		}
	}
}

// TestContainers is the whole of it: Azure with its delays and faults, real replicas, the real agent, in both modes.
func TestContainers(t *testing.T) {
	for _, forward := range []bool{false, true} {
		t.Run(map[bool]string{false: "reverse", true: "forward"}[forward], func(t *testing.T) {
			c := newCloud(t)
			dir := t.TempDir()
			b := c.backend(t, dir, anyPort, forward)
			image := c.srv.LoginServer + "/minibox:latest"
			b.pull(t, image)

			before := c.seq()
			id := b.create(t, "idle", image, "tail", "-f", "/dev/null")
			if n := c.calls(before, "PUT", ""); n != 0 {
				t.Errorf("create made %d calls", n)
			}
			if err := b.Backend().Containers.Start(t.Context(), "idle"); err != nil {
				t.Fatal(err)
			}
			if puts, posts := c.calls(before, "PUT", ""), c.calls(before, "POST", "/start"); puts != 1 || posts != 1 {
				t.Errorf("start made %d PUTs and %d POSTs, want one of each", puts, posts)
			}
			if out, code := b.exec(t, "idle", "sh", "-c", "echo hi; env; exit 3"); code != 3 || !strings.HasPrefix(out, "hi\n") ||
				strings.Contains(out, "IDENTITY_") || strings.Contains(out, "SOCKERLESS") || strings.Contains(out, "CONTAINER_APP") {
				t.Errorf("exec wrote %q and exited with %d", out, code)
			}

			out, errs, code := b.run(t, "five", image, "sh", "-c", "echo out; echo err >&2; exit 5")
			if out != "out\n" || errs != "err\n" || code != 5 {
				t.Errorf("run wrote %q and %q and exited with %d", out, errs, code)
			}

			b.stop() // containers go on
			if n := len(c.sim.Jobs()); n == 0 {
				t.Fatal("the job ended with the backend")
			}
			b = c.backend(t, dir, b.addr, forward)
			found, err := b.Backend().Containers.Find(t.Context(), "idle")
			if err != nil || found.ID != id || found.State.Status != container.StateRunning {
				t.Fatalf("after a restart the container is %+v, error %v", found, err)
			}
			if out, code := b.exec(t, "idle", "echo", "again"); out != "again\n" || code != 0 {
				t.Errorf("exec after a restart wrote %q and exited with %d", out, code)
			}
			if err := b.Backend().Containers.Stop(t.Context(), "idle", sockerless.StopOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"idle", "five"} {
				if err := b.Backend().Containers.Remove(t.Context(), name, sockerless.RemoveOptions{Force: true}); err != nil {
					t.Errorf("cannot remove %s: %v", name, err)
				}
			}
			c.nothingLeft(t)
		})
	}
}

func TestLinkedContainersAreNotPolled(t *testing.T) {
	c := newCloud(t, azuresim.Calm())
	b := c.backend(t, t.TempDir(), anyPort, false)
	image := c.srv.LoginServer + "/minibox:latest"
	b.pull(t, image)
	for i := range 10 {
		name := fmt.Sprintf("c%d", i)
		b.create(t, name, image, "tail", "-f", "/dev/null")
		if err := b.Backend().Containers.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	before := c.seq()
	time.Sleep(3 * time.Second)
	if n := c.calls(before, "GET", "/jobs/"); n != 0 {
		t.Errorf("ten linked containers were polled %d times in 3 s", n)
	}
	for i := range 10 {
		if err := b.Backend().Containers.Remove(t.Context(), fmt.Sprintf("c%d", i), sockerless.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	c.nothingLeft(t)
}

// A start that Azure refuses ends with Azure's sentence and leaves nothing.
func TestRefusedStart(t *testing.T) {
	c := newCloud(t, azuresim.Calm())
	b := c.backend(t, t.TempDir(), anyPort, false)
	image := c.srv.LoginServer + "/minibox:latest"
	b.pull(t, image)
	b.create(t, "refused", image, "true")
	if err := c.sim.Fail(http.MethodPost, "/start$", 1, 400, "MaximumAllowedCoresExceeded", "Maximum Allowed Cores exceeded for the Managed Environment."); err != nil {
		t.Fatal(err)
	}
	err := b.Backend().Containers.Start(t.Context(), "refused")
	if err == nil || !strings.Contains(err.Error(), "MaximumAllowedCoresExceeded") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error is %v, want one sentence with Azure's code", err)
	}
	c.nothingLeft(t)
	found, err := b.Backend().Containers.Find(t.Context(), "refused")
	if err != nil || found.State.Status == container.StateRunning {
		t.Errorf("the container is %+v, error %v", found, err)
	}
}
