// Package server puts a backend for Azure Container Apps together: the driver, the engine over it, the images, the hub
// that agents link to, and the API for frontends, behind one address and one data folder.
//
// It is the wiring of two programs: sockerless-backend-aca, and sockerless, which has a frontend in the same process.
package server

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/images"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/remote"
)

// Options are what Open needs beside the configuration. The zero value is that of a production backend.
type Options struct {
	Version    string                 // of the program
	Logger     *slog.Logger           // nil: none
	Credential azcore.TokenCredential // nil: azidentity's DefaultAzureCredential
}

// Server is a backend that is open: an http.Handler for agents (aca.AgentRoute) and frontends (package remote).
type Server struct {
	config  Config
	log     *slog.Logger
	store   *store.Bolt
	driver  driver.Driver
	engine  *engine.Engine
	hub     *link.Hub // nil in forward mode
	api     *remote.Server
	cancel  context.CancelFunc // of what runs behind
	work    sync.WaitGroup
	closing sync.Once
	closed  error
}

// Open opens the backend on its data folder. Containers that run are linked to and resumed behind this call. A folder
// that another backend has open is refused by name; a wrong setting is an *aca.SettingError. The caller closes the server.
func Open(ctx context.Context, c Config, o Options) (_ *Server, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{config: c, log: o.Logger}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	s.store, err = store.Open(filepath.Join(c.DataDir, "state.db")) // it is the folder's lock too
	if errors.Is(err, store.ErrInUse) {
		return nil, fmt.Errorf("cannot use data folder %s: another backend runs on it", c.DataDir)
	}
	if err != nil {
		return nil, err
	}
	key, err := engine.LoadKey(c.DataDir)
	if err != nil {
		return nil, err
	}
	token, err := remote.CreateToken(remote.TokenFile(c.DataDir))
	if err != nil {
		return nil, err
	}
	instance, err := instanceOf(key)
	if err != nil {
		return nil, err
	}
	s.driver, err = aca.Open(ctx, c.Azure, aca.Options{Instance: instance, Credential: o.Credential, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	cloud, _ := driver.As[*aca.Driver](s.driver)
	registry := cloud.Registry()
	own, err := images.Open(ctx, s.store, images.Options{
		Registry: registry.Server(), Keychain: registry, Insecure: registry.Insecure, Transport: registry.Transport(),
		UserAgent: "sockerless/" + o.Version, Logger: o.Logger, SpoolDir: c.DataDir,
	})
	if err != nil {
		return nil, err
	}
	if c.Azure.CallbackURL != "" {
		s.hub = link.NewHub(link.Backend, key.Secret, link.Options{Hello: link.Hello{Version: o.Version}, Logger: o.Logger})
	}
	s.engine, err = engine.Open(ctx, engine.Options{
		Dir: c.DataDir, Driver: s.driver, Store: s.store, Images: own, Key: key, Links: s.hub,
		Linger: c.Linger, StartWait: c.StartWait, CopyLimit: c.CopyLimit, MaxRuntime: c.Azure.MaxRuntime, Version: o.Version, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.api = remote.NewServer(s.engine.Backend(), remote.ServerOptions{Token: token, Version: o.Version, Logger: o.Logger})
	s.prepare(ctx, cloud)
	return s, nil
}

// prepare tells what will not work, and pushes the agent before the first container needs it.
func (s *Server) prepare(ctx context.Context, cloud *aca.Driver) {
	if err := cloud.Usable(); err != nil {
		s.log.Warn("this backend cannot run containers yet", "reason", err)
		return
	}
	s.work.Go(func() { // ends with the push, or when Close cancels ctx
		if err := cloud.PushAgent(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the agent is not in the registry yet; the first start tries again", "reason", err)
		}
	})
}

// instanceOf names this backend in the tags of its jobs. It lasts as long as the data folder's key and does not tell it.
func instanceOf(key engine.Key) (string, error) {
	b, err := hkdf.Key(sha256.New, key, nil, "sockerless instance", 8)
	if err != nil {
		return "", fmt.Errorf("cannot name this backend: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// Backend returns the services, for a frontend in the same process.
func (s *Server) Backend() *sockerless.Backend { return s.engine.Backend() }

// Driver returns the driver.
func (s *Server) Driver() driver.Driver { return s.driver }

// TokenFile returns the path of the token that frontends show.
func (s *Server) TokenFile() string { return remote.TokenFile(s.config.DataDir) }

// ServeHTTP serves agents and frontends. Agents get in by the handshake of their link alone.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != aca.AgentRoute {
		s.api.ServeHTTP(w, r)
		return
	}
	if s.hub == nil {
		http.Error(w, "this backend dials its agents", http.StatusNotFound)
		return
	}
	s.hub.ServeHTTP(w, r)
}

// Limits of the http.Server. Clients keep idle connections for up to a minute: remote.Server.
const (
	readHeaderTimeout = 20 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	maxStrangers      = 1024 // connections from other machines that are no links
	drainTimeout      = 5 * time.Second
)

// Serve answers on l until ctx is done, then gives what is being answered some seconds, and returns. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return requests },
		ConnState:   link.NewStrangers(maxStrangers, local).State,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		cut() // feeds and sessions have no end of their own
		err := h.Shutdown(wait)
		if errors.Is(err, context.DeadlineExceeded) {
			err = h.Close()
		}
		drained <- err
	})
	err := h.Serve(l)
	if stop() || !errors.Is(err, http.ErrServerClosed) { // it was not ctx that ended it
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	}
	return <-drained
}

// local says whether a connection is this machine's own.
func local(c net.Conn) bool {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	return !ok || addr.IP.IsLoopback()
}

// Close ends the backend and leaves the containers running: the next Open finds them. It may be repeated.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.close(ctx) })
	return s.closed
}

func (s *Server) close(ctx context.Context) error {
	s.cancel()
	s.work.Wait()
	var errs []error
	if s.api != nil {
		errs = append(errs, s.api.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close(ctx))
	}
	if s.hub != nil {
		errs = append(errs, s.hub.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.driver != nil {
		errs = append(errs, driver.Close(s.driver))
	}
	return errors.Join(errs...)
}
