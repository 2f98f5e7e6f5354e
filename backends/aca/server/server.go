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
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/engine/images"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/remote"
	"github.com/sockerless/sockerless/wire"
)

// Options are what Open needs beside the configuration. The zero value is that of a production backend.
type Options struct {
	Version    string                 // of the program
	Logger     *slog.Logger           // nil: none
	Credential azcore.TokenCredential // nil: azidentity's DefaultAzureCredential
	Term       time.Duration          // of the lease on a state in tables; 0: tablestore's default
}

// Server is a backend that is open: an http.Handler for agents (aca.AgentRoute) and frontends (package remote).
type Server struct {
	config  Config
	options Options
	log     *slog.Logger
	state   state
	driver  driver.Driver
	engine  *engine.Engine
	hub     *link.Hub // nil in forward mode
	api     *remote.Server
	cancel  context.CancelFunc // of what runs behind
	work    sync.WaitGroup
	ready   atomic.Bool // all of the above is there
	lost    chan struct{}
	closing sync.Once
	closed  error
}

// New makes a backend that is yet to be opened: until then it answers that it is not ready. A wrong setting is an
// *aca.SettingError. The caller closes the server.
func New(c Config, o Options) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{config: c, options: o, log: o.Logger, cancel: func() {}, lost: make(chan struct{})}, nil
}

// Open makes a backend and opens it; see New and Server.Open.
func Open(ctx context.Context, c Config, o Options) (*Server, error) {
	s, err := New(c, o)
	if err != nil {
		return nil, err
	}
	return s, s.Open(ctx)
}

// Open opens the backend on its state. Containers that run are linked to and resumed behind this call. A folder that
// another backend has open is refused by name; a state in tables that another backend has is waited for, as long as ctx
// lasts. After an error the server is closed.
func (s *Server) Open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	c, o, waiting := s.config, s.options, ctx
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.state.openFolder(&c); err != nil {
		return err
	}
	connection, err := aca.Connect(ctx, c.Azure, o.Credential)
	if err != nil {
		return err
	}
	if c.State != "" {
		if err := s.openTables(waiting, connection); err != nil {
			return err
		}
	}
	if err := s.state.openSecrets(ctx, c.DataDir, c.Token); err != nil {
		return err
	}
	if !s.state.lost.IsZero() {
		s.log.Warn("the data folder is not the one that this state was used with before: stored output, files copied into containers before their start, and past events stayed there", "data", c.DataDir)
	}
	key := s.state.key
	instance, err := instanceOf(key)
	if err != nil {
		return err
	}
	s.driver, err = aca.Open(ctx, c.Azure, aca.Options{Instance: instance, Cloud: connection, Logger: o.Logger})
	if err != nil {
		return err
	}
	cloud, _ := driver.As[*aca.Driver](s.driver)
	registry := cloud.Registry()
	own, err := images.Open(ctx, s.state.store, images.Options{
		Registry: registry.Server(), Keychain: registry, Insecure: registry.Insecure, Transport: registry.Transport(),
		UserAgent: "sockerless/" + o.Version, Logger: o.Logger, SpoolDir: c.DataDir,
	})
	if err != nil {
		return err
	}
	if c.Azure.CallbackURL != "" {
		s.hub = link.NewHub(link.Backend, key.Secret, link.Options{Hello: link.Hello{Version: o.Version}, Logger: o.Logger})
	}
	s.engine, err = engine.Open(ctx, engine.Options{
		Dir: c.DataDir, Lost: s.state.lost, Driver: s.driver, Store: s.state.store, Images: own, Key: key, Links: s.hub,
		Linger: c.Linger, StartWait: c.StartWait, CopyLimit: c.CopyLimit, MaxRuntime: c.Azure.MaxRuntime, Version: o.Version, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	s.api = remote.NewServer(s.engine.Backend(), remote.ServerOptions{Token: s.state.token, Version: o.Version, Logger: o.Logger})
	s.prepare(ctx, cloud)
	if s.state.tables != nil {
		s.work.Go(func() { s.watchLease(ctx) }) // ends with the lease, or when Close cancels ctx
	}
	s.ready.Store(true)
	return nil
}

// watchLease stops the engine as soon as the state may be another backend's.
func (s *Server) watchLease(ctx context.Context) {
	select {
	case <-s.state.tables.Lost():
	case <-ctx.Done():
		return
	}
	s.log.Error("this backend ends, as it must not act on the state any more; containers go on", "reason", s.state.tables.Reason())
	close(s.lost)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := s.engine.Close(ctx); err != nil {
		s.log.Warn("the engine does not end", "error", err)
	}
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
	if !s.ready.Load() || s.state.tables != nil && !s.state.tables.Held() {
		w.Header().Set("Retry-After", "1")
		wire.Refuse(w, http.StatusServiceUnavailable, sockerless.Errorf(sockerless.EUNAVAILABLE, "this backend does not answer yet, or any more: the state is another one's"))
		return
	}
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

// Serve answers on l until ctx is done, then gives what is being answered some seconds, and returns. It closes l. A
// backend that has lost its state to another ends too, with a tablestore.ErrLost.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	go func() { // ends with ctx
		select {
		case <-s.lost:
			end()
		case <-ctx.Done():
		}
	}()
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
	err = <-drained
	select {
	case <-s.lost:
		return errors.Join(s.state.tables.Reason(), err)
	default:
		return err
	}
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
	errs = append(errs, s.state.close())
	if s.driver != nil {
		errs = append(errs, driver.Close(s.driver))
	}
	return errors.Join(errs...)
}
