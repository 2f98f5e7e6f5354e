//go:build linux

package server_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/server"
	"github.com/sockerless/sockerless/backends/aca/tablestore"
	"github.com/sockerless/sockerless/remote"
	"github.com/sockerless/sockerless/tape"
)

const (
	patience = 3 * time.Minute
	// childSetting makes this program a backend on the address that it holds.
	childSetting = "SERVER_TEST_BACKEND"
	childTerm    = 10 * time.Second
)

// serveBackend is the child: a backend with the settings of its environment, until it is killed.
func serveBackend(addr string) error {
	c, err := server.DefaultConfig()
	if err != nil {
		return err
	}
	settings := aca.NewSettings(flag.NewFlagSet("", flag.ContinueOnError))
	c.Settings(settings)
	if err := settings.Load(os.Getenv); err != nil {
		return err
	}
	s, err := server.New(c, server.Options{Version: "test", Term: childTerm, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }() // ends with the process
	if err := s.Open(context.Background()); err != nil {
		return err
	}
	return <-served
}

// machine starts a backend as a process of its own, with a new data folder, on an address that is the same every time.
func (c cloud) machine(t *testing.T, addr string) (*exec.Cmd, *remote.Client) {
	t.Helper()
	dir := t.TempDir()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), c.sim.Environ(c.srv)...), childSetting+"="+addr, "SOCKERLESS_DATA_DIR="+dir,
		"SOCKERLESS_STATE="+c.sim.TableURL(c.srv, "state"), "SOCKERLESS_CALLBACK_URL=http://host.azuresim.internal:"+port,
		"SOCKERLESS_ACA_RESOLVER=", "SOCKERLESS_ACA_LINGER=2s")
	cmd.Stderr = io.Discard
	if testing.Verbose() {
		cmd.Stderr = t.Output()
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait() // it was killed
	})
	client, err := remote.Dial("http://"+addr, remote.DialOptions{TokenFile: remote.TokenFile(dir)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	await(t, "the backend", func() bool {
		_, err := client.System.Info(t.Context())
		return err == nil
	})
	return cmd, client
}

// freePort is an address on which nobody listens, from below those that the kernel gives to whoever asks for any.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come within %v", what, patience)
		}
	}
}

func logsOf(t *testing.T, b *remote.Client, ref string, tail int) (text string) {
	t.Helper()
	for r, err := range b.Containers.Logs(t.Context(), ref, sockerless.LogOptions{Stdout: true, Stderr: true, Tail: tail}) {
		if err != nil {
			t.Fatalf("cannot read the log of %s: %v", ref, err)
		}
		text += string(r.Data)
	}
	return text
}

// TestAnotherMachine kills a backend whose state is in tables and starts one elsewhere: it answers for what runs, and says
// what stayed on the first machine's disk.
func TestAnotherMachine(t *testing.T) {
	c := newCloud(t)
	addr := freePort(t)
	cmd, b := c.machine(t, addr)
	image := c.srv.LoginServer + "/minibox:latest"
	for _, err := range b.Images.Pull(t.Context(), image, sockerless.PullOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string, args ...string) string {
		t.Helper()
		made, err := b.Containers.Create(t.Context(), sockerless.CreateRequest{Name: name,
			Config: &container.Config{Image: image, Cmd: args}, HostConfig: &container.HostConfig{}})
		if err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	// Enough output that the agent does not keep it once it is stored; then a line a second.
	id := create("busy", "sh", "-c", "echo early; s=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do s=$s$s; done; "+
		"echo $s; echo $s; echo $s; while true; do echo tick; sleep 1; done")
	create("copied", "cat", "/file")
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), b.Containers.WriteTree(t.Context(), "copied", "/", sockerless.WriteOptions{}, &archive)); err != nil {
		t.Fatal(err)
	}
	if err := b.Containers.Start(t.Context(), "busy"); err != nil {
		t.Fatal(err)
	}
	await(t, "the early output", func() bool {
		return strings.Count(logsOf(t, b, "busy", 5), "tick\n") == 5 // and the acknowledgement of what was before
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // it was killed
	killed := time.Now()
	_, b = c.machine(t, addr)
	answered := time.Now()
	t.Logf("another machine answers %v after the kill, with a lease of %v", answered.Sub(killed).Round(time.Second), childTerm)

	found, err := b.Containers.Find(t.Context(), "busy")
	if err != nil || found.ID != id || found.State.Status != container.StateRunning {
		t.Fatalf("the container is %+v, error %v", found, err)
	}
	exec, err := b.Execs.Create(t.Context(), "busy", sockerless.ExecConfig{Cmd: []string{"sh", "-c", "exit 3"}, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.Execs.Start(t.Context(), exec, sockerless.ExecStartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, session); err != nil {
		t.Fatal(err)
	}
	session.Close()
	if e, err := b.Execs.Find(t.Context(), exec); err != nil || e.ExitCode == nil || *e.ExitCode != 3 {
		t.Errorf("the exec is %+v, error %v", e, err)
	}
	text, between := "", false
	for r, err := range b.Containers.Logs(t.Context(), "busy", sockerless.LogOptions{Stdout: true, Stderr: true, Tail: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%d %s", r.Stream, r.Data)
		between = between || string(r.Data) == "tick\n" && r.Time.After(killed) && r.Time.Before(answered)
	}
	if gap := fmt.Sprintf("%d ", tape.Gap); !strings.HasPrefix(text, gap) || !strings.Contains(text, "records were stored by the backend and are lost there\n") || strings.Contains(text, "early") {
		t.Errorf("the log begins with %.200q, want a gap in place of what the first machine stored", text)
	}
	if !between {
		t.Errorf("what was written while there was no backend is lost: %.300q", text)
	}
	err = b.Containers.Start(t.Context(), "copied")
	if err == nil || !strings.Contains(err.Error(), "the files that were copied into it before cannot be put in place: they were in a data folder that the backend does not have any more") {
		t.Errorf("the start of a container whose files are gone: %v", err)
	}
	for _, name := range []string{"busy", "copied"} {
		if err := b.Containers.Remove(t.Context(), name, sockerless.RemoveOptions{Force: true}); err != nil {
			t.Errorf("cannot remove %s: %v", name, err)
		}
	}
	c.nothingLeft(t)
}

// TestLostState: a backend that cannot renew its lease stops acting, says so, and ends.
func TestLostState(t *testing.T) {
	sim, err := azuresim.New(azuresim.Calm())
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	w := sim.World()
	cfg, err := server.DefaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir, cfg.State = t.TempDir(), sim.TableURL(srv, "state")
	a := &cfg.Azure
	a.Subscription, a.ResourceGroup, a.Environment, a.Location = w.Subscription, w.ResourceGroup, w.Environment, w.Location
	a.EndpointURL, a.CAFile, a.CallbackURL = srv.URL, srv.CAFile, "http://host.azuresim.internal:1"
	var log bytes.Buffer
	s, err := server.Open(t.Context(), cfg, server.Options{Version: "test", Credential: operator{sim}, Term: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Fail("", "batch$|/state", -1, 503, "ServerBusy", "Busy."); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Serve(ctx, l); !errors.Is(err, tablestore.ErrLost) {
		t.Errorf("serving ends with %v", err)
	}
	if _, err := s.Backend().Volumes.Create(t.Context(), volume.CreateRequest{Name: "late"}); err == nil {
		t.Error("the backend still acts")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "this backend ends") || !strings.Contains(text, "503 ServerBusy") {
		t.Errorf("it says %q", text)
	}
}
