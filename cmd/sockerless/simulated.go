package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/minibox"
	"github.com/sockerless/sockerless/azuresim/runtime"
)

// simulated is a simulated Azure that this process runs, with minibox in its registry.
type simulated struct {
	runtime *runtime.Runtime
	sim     *azuresim.Simulator
	srv     *azuresim.Server
}

// startSimulated starts one on a folder. Its address is that of the time before, if it is still free: images are known
// by it.
func startSimulated(ctx context.Context, dir string, calm bool, provisioning time.Duration, log *slog.Logger) (_ *simulated, err error) {
	rt, err := runtime.New(runtime.Options{Dir: filepath.Join(dir, "replicas"), Logger: log})
	if err != nil {
		return nil, err
	}
	seed := uint64(time.Now().UnixNano())
	log.Info("simulated Azure", "seed", seed, "calm", calm)
	opts := []azuresim.Option{azuresim.WithRuntime(rt), azuresim.WithDataDir(dir), azuresim.WithLogger(log), azuresim.WithSeed(seed)}
	if calm {
		opts = append(opts, azuresim.Calm())
	}
	if provisioning > 0 {
		opts = append(opts, azuresim.WithProvisioning(azuresim.Exactly(provisioning)))
	}
	s := &simulated{runtime: rt}
	if s.sim, err = azuresim.New(opts...); err != nil {
		return nil, errors.Join(err, rt.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	remembered := filepath.Join(dir, "address")
	addr, err := os.ReadFile(remembered)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if s.srv, err = s.sim.Serve(azuresim.Listen{HTTP: strings.TrimSpace(string(addr))}); err != nil {
		return nil, err
	}
	if err := os.WriteFile(remembered, []byte(strings.TrimPrefix(s.srv.URL, "http://")), 0o600); err != nil {
		return nil, err
	}
	path, err := minibox.Binary(ctx)
	if err != nil {
		return nil, err
	}
	image, err := minibox.Image(path)
	if err != nil {
		return nil, err
	}
	return s, s.sim.Push(ctx, s.srv, "minibox:latest", image)
}

// Environ is what a backend is told by variables: "NAME=value".
func (s *simulated) Environ() []string { return s.sim.Environ(s.srv) }

// Registry is the registry's login server.
func (s *simulated) Registry() string { return s.srv.LoginServer }

// GetToken hands out the operator's tokens: who runs the simulator needs no secret to ask it.
func (s *simulated) GetToken(_ context.Context, opt policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(opt.Scopes) != 1 {
		return azcore.AccessToken{}, fmt.Errorf("cannot get a token for %d scopes", len(opt.Scopes))
	}
	token, err := s.sim.Token(s.sim.Operator(), strings.TrimSuffix(opt.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(30 * time.Minute)}, err
}

// Close ends every replica and the simulator.
func (s *simulated) Close() error {
	var err error
	if s.srv != nil {
		err = s.srv.Close()
	}
	return errors.Join(s.sim.Close(), err)
}
