// Command sockerless-frontend-docker speaks Docker's Engine API on a socket of this machine and asks a Sockerless
// backend, which may be elsewhere.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
	"github.com/sockerless/sockerless/remote"
)

// version is set by the linker.
var version = "devel"

const usage = `Usage: sockerless-frontend-docker -backend URL [-addr ADDRESS]

Speaks Docker's Engine API on ADDRESS and asks the Sockerless backend at URL.
Then: export DOCKER_HOST=ADDRESS

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := Main{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(m.Run(ctx))
}

// Main is the program. Tests run the same one in their own process.
type Main struct {
	Args           []string // without the program's name
	Stdout, Stderr io.Writer
	Ready          func(addr string) // called when the socket takes connections; may be nil
}

// Run runs the program until ctx is done and returns its exit code: 2 for what is wrong with the flags, 1 for what
// goes wrong later.
func (m *Main) Run(ctx context.Context) int {
	flags := flag.NewFlagSet("sockerless-frontend-docker", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	backend := flags.String("backend", "", "the backend: http://host:port, https://host[:port] or unix:///path (required)")
	addr := flags.String("addr", defaultAddr, "where to listen: unix:///path, tcp://host:port on loopback"+pipeHelp)
	tokenFile := flags.String("token-file", "", "the backend's token (default: token in $SOCKERLESS_DATA_DIR, else in ~/.local/state/sockerless)")
	caFile := flags.String("ca-file", "", "trust this CA, too, for an https backend")
	debug := flags.Bool("debug", false, "log every request that is refused or cut")
	showVersion := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(m.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(m.Stdout, usage)
		flags.SetOutput(m.Stdout)
		flags.PrintDefaults()
		return 0
	case err != nil:
		return m.misused(err)
	case *showVersion:
		fmt.Fprintln(m.Stdout, "sockerless-frontend-docker", version)
		return 0
	case flags.NArg() > 0:
		return m.misused(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case *backend == "":
		return m.misused(errors.New("-backend is missing: where does the backend listen?"))
	case *addr == "":
		return m.misused(errors.New("-addr is empty: where to listen?"))
	}
	if *tokenFile == "" {
		dir, err := remote.DefaultDataDir()
		if err != nil {
			return m.misused(err)
		}
		*tokenFile = remote.TokenFile(dir)
	}
	roots, err := rootCAs(*caFile)
	if err != nil {
		return m.misused(fmt.Errorf("-ca-file: %w", err))
	}
	level := slog.LevelInfo
	if *debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(m.Stderr, &slog.HandlerOptions{Level: level}))
	client, err := remote.Dial(*backend, remote.DialOptions{TokenFile: *tokenFile, RootCAs: roots, Version: version, Logger: log})
	if err != nil {
		return m.misused(fmt.Errorf("-backend: %w", err))
	}
	code := m.serve(ctx, client, *addr, log)
	if err := client.Close(); err != nil {
		log.Debug("cannot close the connection to the backend", "error", err)
	}
	return code
}

func (m *Main) serve(ctx context.Context, client *remote.Client, addr string, log *slog.Logger) int {
	l, err := dockerapi.Listen(ctx, addr)
	if err != nil {
		fmt.Fprintln(m.Stderr, "sockerless-frontend-docker:", err)
		return 1
	}
	log.Info("listening", "addr", addr)
	if m.Ready != nil {
		m.Ready(l.Addr().String())
	}
	if err := dockerapi.Serve(ctx, l, dockerapi.New(&client.Backend, dockerapi.Options{Version: version, Logger: log}), log); err != nil {
		fmt.Fprintln(m.Stderr, "sockerless-frontend-docker:", err)
		return 1
	}
	return 0
}

// rootCAs returns the system's CAs and that in the file; nil, which means the system's, if there is no file.
func rootCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", file)
	}
	return pool, nil
}

// misused tells in one line what is wrong with the flags.
func (m *Main) misused(err error) int {
	fmt.Fprintf(m.Stderr, "sockerless-frontend-docker: %v (see --help)\n", err)
	return 2
}
