//go:build linux

package aca_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/minibox"
	"github.com/sockerless/sockerless/azuresim/runtime"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/drivertest"
	"github.com/sockerless/sockerless/link"
)

// TestConformance holds the driver to every driver's obligations, over a cloud with delays and faults whose replicas
// really run, in both agent modes.
func TestConformance(t *testing.T) {
	t.Run("forward", func(t *testing.T) {
		drivertest.Run(t, func(t *testing.T) *drivertest.Target {
			tc, image := realCloud(t, "")
			return &drivertest.Target{Driver: tc.driver, Image: image}
		})
	})
	t.Run("reverse", func(t *testing.T) {
		drivertest.Run(t, func(t *testing.T) *drivertest.Target {
			c := &callers{secrets: map[string][]byte{}, links: map[string]chan *link.Link{}}
			tc, image := realCloud(t, c.serve(t))
			return &drivertest.Target{Driver: remembering{tc.driver, c}, Image: image, Link: c.wait}
		})
	})
}

// realCloud has a runtime, minibox in its registry, and a driver that pushes the real agent. Without a callback the
// driver dials.
func realCloud(t *testing.T, callback string) (tc *testCloud, image string) {
	t.Helper()
	dir := t.TempDir()
	rt, err := runtime.New(runtime.Options{Dir: filepath.Join(dir, "replicas"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skipf("replicas cannot run here: %v", err)
	}
	tc = newCloud(t, func(c *aca.Config) {
		c.AgentImage, c.CallbackURL = "", callback // the agent is built from its sources
		if callback == "" {
			c.Resolver = "127.0.0.1:53" // set right below, once the simulator has an address
		}
	}, azuresim.WithRuntime(rt))
	if callback == "" {
		tc.config.Resolver = tc.srv.DNSAddr
		tc.driver = tc.open("test")
	}
	path, err := minibox.Binary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content, err := minibox.Image(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := tc.sim.Push(t.Context(), tc.srv, "minibox:latest", content); err != nil {
		t.Fatal(err)
	}
	digest, err := content.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tc, tc.srv.LoginServer + "/minibox@" + digest.String()
}

// callers takes the links of agents whose secrets it knows.
type callers struct {
	mu      sync.Mutex
	secrets map[string][]byte
	links   map[string]chan *link.Link
}

// remembering tells callers the secret of a start before the agent can dial.
type remembering struct {
	driver.Driver
	callers *callers
}

func (r remembering) Unwrap() driver.Driver { return r.Driver }

func (r remembering) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	r.callers.mu.Lock()
	r.callers.secrets[spec.ID], r.callers.links[spec.ID] = spec.Secret, make(chan *link.Link, 4)
	r.callers.mu.Unlock()
	return r.Driver.Start(ctx, spec)
}

// serve returns the callback URL as replicas see it.
func (c *callers) serve(t *testing.T) string {
	t.Helper()
	hub := link.NewHub(link.Backend, func(id string) ([]byte, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		secret, ok := c.secrets[id]
		return secret, ok
	}, link.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(aca.AgentRoute, hub)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var work sync.WaitGroup
	work.Go(func() { // ends when the cleanup closes srv
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the callback server ended: %v", err)
		}
	})
	over := make(chan struct{})
	work.Go(func() { // ends when the cleanup closes hub, also if nobody takes a link
		for {
			accepted, err := hub.Accept(context.Background())
			if err != nil {
				return
			}
			c.mu.Lock()
			waiting := c.links[accepted.ID()]
			c.mu.Unlock()
			select {
			case waiting <- accepted:
			case <-over:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(over)
		if err := errors.Join(hub.Close(), srv.Close()); err != nil {
			t.Errorf("cannot close the callback server: %v", err)
		}
		work.Wait()
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://host.azuresim.internal:" + port
}

func (c *callers) wait(ctx context.Context, spec driver.Spec) (*link.Link, error) {
	c.mu.Lock()
	waiting := c.links[spec.ID]
	c.mu.Unlock()
	select {
	case l := <-waiting:
		return l, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("no agent has linked under %s: %w", spec.ID, ctx.Err())
	}
}
