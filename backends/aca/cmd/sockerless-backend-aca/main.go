// Command sockerless-backend-aca runs containers as Azure Container Apps jobs, for frontends that speak Docker.
//
// It serves its API and the agents' route on one address, keeps its state in one folder, and runs until SIGINT or
// SIGTERM; containers go on without it, and the next one finds them.
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
	"os/signal"
	"syscall"
	"time"

	// In the backend's image there is no other authority to trust. Where there are some, these are not looked at.
	_ "golang.org/x/crypto/x509roots/fallback"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/server"
)

const program = "sockerless-backend-aca"

// version is set by the linker.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	m := Main{Args: os.Args[1:], Getenv: os.Getenv, Stdout: os.Stdout, Stderr: os.Stderr}
	code := m.Run(ctx)
	stop()
	os.Exit(code)
}

// Main is the program.
type Main struct {
	Args           []string
	Getenv         func(string) string
	Stdout, Stderr io.Writer
	// Listening, if set, is told the address as soon as connections are taken.
	Listening func(net.Addr)
}

// Run runs until ctx is done and returns the exit status: 0, 1 for what went wrong, 2 for wrong flags or settings.
func (m *Main) Run(ctx context.Context) int {
	err := m.run(ctx)
	var wrong *aca.SettingError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong) || errors.Is(err, errUsage):
		fmt.Fprintf(m.Stderr, "%s: %v (see %s --help)\n", program, err, program)
		return 2
	}
	fmt.Fprintf(m.Stderr, "%s: %v\n", program, err)
	return 1
}

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("wrong usage")

// usage is an error of the command line; its text is the reason alone.
type usage struct{ error }

func (usage) Is(target error) bool { return target == errUsage }

// closeTimeout bounds the end: containers are not waited for.
const closeTimeout = 15 * time.Second

func (m *Main) run(ctx context.Context) error {
	config, verbose, err := m.configure()
	if err != nil || config == nil {
		return err
	}
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(m.Stderr, &slog.HandlerOptions{Level: level}))
	s, err := server.New(*config, server.Options{Version: version, Logger: log})
	if err != nil {
		return err
	}
	shared := config.State != ""
	if !shared { // the folder comes before the address: of two backends on one folder the second is told so
		if err := s.Open(ctx); err != nil {
			return err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", config.Addr)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot listen on %s: %w", config.Addr, err), closeServer(ctx, s))
	}
	if m.Listening != nil {
		m.Listening(listener.Addr())
	}
	serving, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, listener) }() // ends with serving
	if shared {
		// The one before may have the state still. A platform that replaces it ends it only when this one takes connections.
		if err := s.Open(ctx); err != nil {
			end()
			if err = errors.Join(err, <-served); ctx.Err() != nil {
				return nil //nolint:nilerr // it was told to end while it waited
			}
			return err
		}
	}
	log.Info("backend is ready", "address", listener.Addr().String(), "data", config.DataDir, "state", config.State, "version", version)
	err = <-served
	log.Info("backend ends; containers go on")
	return errors.Join(err, closeServer(ctx, s))
}

func closeServer(ctx context.Context, s *server.Server) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return s.Close(ctx)
}

// configure reads variables and flags. A nil configuration without an error means that all is done.
func (m *Main) configure() (config *server.Config, verbose bool, err error) {
	c, err := server.DefaultConfig()
	if err != nil {
		return nil, false, err
	}
	var showVersion bool
	flags := flag.NewFlagSet(program, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.Addr, "addr", c.Addr, "`address` of the API for frontends and of the agents' route")
	flags.BoolVar(&verbose, "v", false, "tell more on standard error")
	flags.BoolVar(&showVersion, "version", false, "print the version and exit")
	settings := aca.NewSettings(flags)
	c.Settings(settings)
	flags.Usage = func() {} // Parse would print it for a wrong flag too
	// The variables come first, so that flags win; a wrong one is told after the flags that need none of them.
	wrong := settings.Load(m.Getenv)
	if err := flags.Parse(m.Args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			m.help(flags, settings)
			return nil, false, nil
		}
		return nil, false, usage{err}
	}
	switch {
	case showVersion:
		fmt.Fprintf(m.Stdout, "%s %s\n", program, version)
		return nil, false, nil
	case flags.NArg() > 0:
		return nil, false, usage{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	case wrong != nil:
		return nil, false, wrong
	}
	if err := c.Validate(); err != nil {
		var setting *aca.SettingError
		if errors.As(err, &setting) {
			return nil, false, err
		}
		return nil, false, usage{err}
	}
	return &c, verbose, nil
}

func (m *Main) help(flags *flag.FlagSet, settings *aca.Settings) {
	fmt.Fprintf(m.Stdout, "Usage: %s [flags]\n\nRuns containers as Azure Container Apps jobs, for frontends such as sockerless-frontend-docker.\n"+
		"A flag wins over the variable in parentheses behind it.\n\nFlags:\n", program)
	flags.SetOutput(m.Stdout)
	flags.PrintDefaults()
	fmt.Fprint(m.Stdout, "\nVariables without a flag, since everybody can read arguments:\n")
	settings.PrintSecrets(m.Stdout)
}
