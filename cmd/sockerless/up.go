package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/server"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
	"github.com/sockerless/sockerless/remote"
)

// hostOptions are how a host is started.
type hostOptions struct {
	Sim          bool          // on a simulated Azure of its own
	Calm         bool          // without the simulator's delays and faults
	Provisioning time.Duration // of each simulated replica; 0: the simulator's own
	Addr         string        // of the Docker API; empty: docker.sock in Data
	Data         string        // folder; empty: the default
	Verbose      bool
	Stderr       io.Writer
	Config       *server.Config // of the backend on real Azure; nil with Sim
}

// host is a Docker host in this process: frontend, backend and, with Sim, the simulator.
type host struct {
	Addr string // DOCKER_HOST
	ACR  string // login server of the registry

	cancel  context.CancelFunc
	serving errgroup.Group
	ended   chan error // gets what ended a listener before Close
	lock    *dirLock
	sim     *simulated
	backend *server.Server
}

// up serves `sockerless up`.
func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	config, err := server.DefaultConfig()
	if err != nil {
		return err
	}
	opt := hostOptions{Stderr: stderr}
	flags := flag.NewFlagSet("sockerless up", flag.ContinueOnError)
	flags.BoolVar(&opt.Sim, "sim", false, "run on a simulated Azure of its own")
	flags.BoolVar(&opt.Calm, "sim-calm", false, "switch the simulator's delays and faults off")
	flags.DurationVar(&opt.Provisioning, "sim-provisioning", 0, "`time` that each simulated replica takes to come up")
	flags.StringVar(&opt.Addr, "addr", "", "where to serve Docker: unix:///path, or tcp://host:port on loopback (default: docker.sock in the data folder)")
	flags.StringVar(&opt.Data, "data", "", "`folder` for state, keys and logs (default: "+config.DataDir+")")
	flags.StringVar(&config.Addr, "backend-addr", config.Addr, "where agents and other frontends reach the backend; not with -sim")
	flags.BoolVar(&opt.Verbose, "v", false, "tell more on standard error")
	unchecked := flags.Bool("unchecked", false, "start whatever the quick part of sockerless doctor would say")
	settings := aca.NewSettings(flags)
	config.Settings(settings)
	wrong := settings.Load(os.Getenv)
	done, err := parse(flags, args, stdout, "Runs a Docker host until Ctrl-C. With -sim Azure is simulated on this machine.")
	if done || err != nil {
		return err
	}
	switch {
	case !opt.Sim && (opt.Calm || opt.Provisioning != 0):
		return usageError{errors.New("-sim-calm and -sim-provisioning need -sim (see sockerless up --help)")}
	case !opt.Sim && wrong != nil:
		return usageError{wrong}
	case !opt.Sim:
		if opt.Data != "" {
			config.DataDir = opt.Data
		}
		if err := config.Validate(); err != nil {
			return usageError{err}
		}
		opt.Config = &config
		if !*unchecked {
			if err := examineQuickly(ctx, &config, stderr); err != nil {
				return fmt.Errorf("%w (see sockerless doctor; sockerless up -unchecked starts all the same)", err)
			}
		}
	}
	h, err := startHost(ctx, opt)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "export DOCKER_HOST=%s\nexport ACR_SERVER=%s\n", h.Addr, h.ACR)
	select {
	case <-ctx.Done():
		return h.Close()
	case err := <-h.ended:
		return errors.Join(err, h.Close())
	}
}

// startHost starts everything and returns when docker can be used. The caller closes the host.
func startHost(ctx context.Context, opt hostOptions) (_ *host, err error) {
	level := slog.LevelWarn
	if opt.Verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(opt.Stderr, &slog.HandlerOptions{Level: level}))
	if opt.Data == "" {
		if opt.Data, err = remote.DefaultDataDir(); err != nil {
			return nil, err
		}
		if opt.Sim {
			opt.Data = filepath.Join(opt.Data, "sim") // what is real and what is played are never mixed
		}
	}
	if opt.Data, err = filepath.Abs(opt.Data); err != nil {
		return nil, err
	}
	if opt.Addr == "" {
		opt.Addr = "unix://" + filepath.Join(opt.Data, "docker.sock")
	}
	h := &host{Addr: opt.Addr, ended: make(chan error, 2)}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	if h.lock, err = lockDir(opt.Data); err != nil {
		return nil, err
	}
	// What is served ends by Close, so that a signal ends the parts in order.
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel = cancel

	config, options := opt.Config, server.Options{Version: versionText(), Logger: log}
	if opt.Sim {
		if h.sim, err = startSimulated(ctx, filepath.Join(opt.Data, "azure"), opt.Calm, opt.Provisioning, log); err != nil {
			return nil, err
		}
		options.Credential = h.sim
		if config, err = simConfig(h.sim, opt.Data); err != nil {
			return nil, err
		}
	}
	h.ACR = config.Azure.Registry
	agents, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", config.Addr, err)
	}
	if opt.Sim {
		_, port, err := net.SplitHostPort(agents.Addr().String())
		if err != nil {
			return nil, errors.Join(err, agents.Close())
		}
		config.Azure.CallbackURL = "http://host.azuresim.internal:" + port
		both := join(agents)
		h.sim.runtime.Answer(uint16(agents.Addr().(*net.TCPAddr).Port), both.take)
		agents = both
		if err := os.WriteFile(backendPortFile(opt.Data), []byte(port), 0o600); err != nil {
			return nil, errors.Join(err, agents.Close())
		}
	}
	if h.backend, err = server.Open(ctx, *config, options); err != nil {
		return nil, errors.Join(err, agents.Close())
	}
	h.serve(func() error { return h.backend.Serve(serving, agents) })
	if opt.Sim {
		if err := knowMinibox(ctx, h.backend.Backend().Images, h.ACR+"/minibox:latest"); err != nil {
			return nil, err
		}
	}
	socket, err := dockerapi.Listen(ctx, opt.Addr)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(opt.Addr, "tcp:") {
		h.Addr = "tcp://" + socket.Addr().String() // port 0 took a free one
	}
	api := dockerapi.New(h.backend.Backend(), dockerapi.Options{Version: versionText(), Logger: log})
	h.serve(func() error { return dockerapi.Serve(serving, socket, api, log) })
	return h, nil
}

// knowMinibox pulls the image that works without internet and gives it its short name.
func knowMinibox(ctx context.Context, images sockerless.ImageService, ref string) error {
	for _, err := range images.Pull(ctx, ref, sockerless.PullOptions{}) {
		if err != nil {
			return err
		}
	}
	return images.Tag(ctx, ref, "minibox:latest")
}

// serve runs a listener until Close.
func (h *host) serve(f func() error) {
	h.serving.Go(func() error {
		err := f()
		if err != nil {
			h.ended <- err // there is room: one for each listener
		}
		return err
	})
}

// closeTime bounds the end of a backend. Containers on Azure are not waited for.
const closeTime = 15 * time.Second

// Close ends the host. Simulated replicas end with it; containers on Azure go on.
func (h *host) Close() error {
	var errs []error
	if h.cancel != nil {
		h.cancel()
	}
	errs = append(errs, h.serving.Wait())
	if h.backend != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		errs = append(errs, h.backend.Close(ctx))
	}
	if h.sim != nil {
		errs = append(errs, h.sim.Close())
	}
	if h.lock != nil {
		errs = append(errs, h.lock.Close())
	}
	return errors.Join(errs...)
}

// simConfig is the configuration of a backend on the simulated Azure. Agents find it again after a crash: the port is
// that of the time before, if it is still free.
func simConfig(sim *simulated, data string) (*server.Config, error) {
	c, err := server.DefaultConfig()
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, line := range sim.Environ() {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	delete(env, "SOCKERLESS_ACA_RESOLVER") // agents dial
	// A user may choose how long containers linger; where they run is the simulator's to say.
	env["SOCKERLESS_ACA_LINGER"] = os.Getenv("SOCKERLESS_ACA_LINGER")
	settings := aca.NewSettings(flag.NewFlagSet("", flag.ContinueOnError))
	c.Settings(settings)
	if err := settings.Load(func(name string) string { return env[name] }); err != nil {
		return nil, err
	}
	c.DataDir = filepath.Join(data, "backend")
	c.Addr = "127.0.0.1:0"
	if port, err := os.ReadFile(backendPortFile(data)); err == nil {
		addr := "127.0.0.1:" + strings.TrimSpace(string(port))
		if l, err := net.Listen("tcp", addr); err == nil { //nolint:noctx // it does not wait
			l.Close()
			c.Addr = addr
		}
	}
	return &c, nil
}

func backendPortFile(data string) string { return filepath.Join(data, "backend-port") }
