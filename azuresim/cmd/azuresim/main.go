// Command azuresim serves a simulated Azure on loopback: see package azuresim. When it is ready it prints, on standard
// output, one line `export NAME='VALUE'` for each setting of a program that uses it, and then an empty line. It runs until
// SIGINT or SIGTERM, ends every replica and exits 0.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/minibox"
	"github.com/sockerless/sockerless/azuresim/runtime"
)

func main() {
	// An ordinary user runs replicas as root of a user namespace, which a program enters before anything else.
	if err := runtime.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, "azuresim:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// settings are the flags.
type settings struct {
	listen       azuresim.Listen
	data         string
	calm         bool
	seed         uint64
	wholePolls   bool
	provisioning time.Duration
	verbose      bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var set settings
	var showVersion bool
	flags := flag.NewFlagSet("azuresim", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&set.listen.HTTP, "addr", "127.0.0.1:0", "`address` of http, on loopback; port 0 takes a free one")
	flags.StringVar(&set.listen.HTTPS, "https-addr", "127.0.0.1:0", "`address` of https, on loopback, with a certificate of the simulator's own authority")
	flags.StringVar(&set.listen.DNS, "dns-addr", "127.0.0.1:0", "`address` of the DNS zone of executions, on loopback, udp and tcp")
	flags.StringVar(&set.data, "data", "", "`folder` that keeps registry, jobs and keys; default: a temporary one")
	flags.BoolVar(&set.calm, "calm", false, "no delays, no throttling, no dropped polls")
	flags.BoolVar(&set.wholePolls, "whole-polls", false, "never cut the connection of a poll: Terraform's azurerm 5.2.0 takes that for the end")
	flags.Uint64Var(&set.seed, "seed", 0, "`number` that delays and faults are drawn from; default: a new one, which is told")
	flags.DurationVar(&set.provisioning, "provisioning", 0, "`duration` that every replica waits before its first image is pulled, e.g. 30s; default: 0.5 to 3 s, none with -calm")
	flags.BoolVar(&set.verbose, "v", false, "tell more on standard error")
	flags.BoolVar(&showVersion, "version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "Usage: azuresim [flags]\n\nServes a simulated Azure on loopback and runs Container Apps Jobs for real.\n\nFlags:")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "azuresim: %v (see azuresim --help)\n", err)
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "azuresim: unexpected argument %q (see azuresim --help)\n", flags.Arg(0))
		return 2
	case showVersion:
		fmt.Fprintln(stdout, version())
		return 0
	case set.provisioning < 0:
		fmt.Fprintln(stderr, "azuresim: -provisioning must not be negative")
		return 2
	}
	if err := serve(ctx, set, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "azuresim: %v\n", err)
		return 1
	}
	return 0
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "azuresim (unknown)"
	}
	v := "azuresim " + info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v + " " + info.GoVersion
}

// serve runs the simulator until ctx ends.
func serve(ctx context.Context, set settings, stdout, stderr io.Writer) (err error) {
	level := slog.LevelInfo
	if set.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if set.data == "" {
		dir, mkErr := os.MkdirTemp("", "azuresim-")
		if mkErr != nil {
			return fmt.Errorf("cannot make a data folder: %w", mkErr)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		set.data = dir
	}
	if set.seed == 0 {
		set.seed = uint64(time.Now().UnixNano())
	}
	log.Info("simulated Azure", "seed", set.seed, "calm", set.calm)

	rt, err := runtime.New(runtime.Options{Dir: filepath.Join(set.data, "replicas"), Logger: log})
	if err != nil {
		return err
	}
	opts := []azuresim.Option{azuresim.WithRuntime(rt), azuresim.WithDataDir(set.data), azuresim.WithLogger(log), azuresim.WithSeed(set.seed)}
	if set.calm {
		opts = append(opts, azuresim.Calm())
	}
	if set.wholePolls {
		opts = append(opts, azuresim.WithDroppedPolls(0))
	}
	if set.provisioning > 0 {
		opts = append(opts, azuresim.WithProvisioning(azuresim.Exactly(set.provisioning)))
	}
	sim, err := azuresim.New(opts...)
	if err != nil {
		return errors.Join(err, rt.Close())
	}
	defer func() { err = errors.Join(err, sim.Close()) }()
	srv, err := sim.Serve(set.listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	if err := pushMinibox(ctx, sim, srv); err != nil {
		return err
	}
	for _, line := range sim.Environ(srv) {
		name, value, _ := strings.Cut(line, "=")
		fmt.Fprintf(stdout, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	fmt.Fprintln(stdout)
	<-ctx.Done()
	return nil
}

// pushMinibox puts the image that works without internet into the registry.
func pushMinibox(ctx context.Context, sim *azuresim.Simulator, srv *azuresim.Server) error {
	path, err := minibox.Binary(ctx)
	if err != nil {
		return err
	}
	image, err := minibox.Image(path)
	if err != nil {
		return fmt.Errorf("cannot make the minibox image: %w", err)
	}
	return sim.Push(ctx, srv, "minibox:latest", image)
}
