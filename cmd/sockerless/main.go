// Command sockerless runs the whole of Sockerless in one process: `up` is a Docker host, on Azure or, with -sim, on a
// simulated Azure of its own; `demo` shows the walk-through on the latter; `push-images` puts into a registry
// what a backend in Azure is made of.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/sockerless/sockerless/azuresim/runtime"
)

// version is set by the linker.
var version string

const usage = `sockerless runs Docker containers as Azure Container Apps Job executions.

Usage:
  sockerless up [-sim] [flags]   a Docker host, until Ctrl-C; prints the lines to set DOCKER_HOST with
  sockerless demo                the walk-through, on a simulated Azure
  sockerless doctor [-quick]     what a backend on Azure lacks, and what to do about it; makes a job, and deletes it
  sockerless prune --all [-f]    deletes every job of Sockerless in the environment, so that it can be destroyed
  sockerless push-images ACR     the images of backend and agent into a registry, for a backend in Azure
  sockerless --version

sockerless COMMAND --help lists a command's flags.
`

// usageError is a wrong word on the command line: exit code 2.
type usageError struct{ error }

func main() {
	if simulates(os.Args[1:]) {
		// An ordinary user runs replicas as root of a user namespace, which a program enters before anything else.
		if err := runtime.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, "sockerless:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "sockerless:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

// simulates says whether a command line asks for a simulated Azure.
func simulates(args []string) bool {
	if len(args) == 0 || slices.ContainsFunc(args, func(a string) bool { return strings.TrimLeft(a, "-") == "help" || a == "-h" }) {
		return false
	}
	return args[0] == "demo" || args[0] == "up" && slices.ContainsFunc(args, func(a string) bool {
		return a == "-sim" || a == "--sim" || a == "-sim=true" || a == "--sim=true"
	})
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usageError{errors.New("no command given (up, demo, doctor, prune, push-images; see sockerless --help)")}
	}
	switch args[0] {
	case "up":
		return up(ctx, args[1:], stdout, stderr)
	case "demo":
		flags := flag.NewFlagSet("sockerless demo", flag.ContinueOnError)
		done, err := parse(flags, args[1:], stdout, "Runs the walk-through on a simulated Azure, shows it, and ends.")
		if done || err != nil {
			return err
		}
		return demo(ctx, stdout, stderr)
	case "doctor":
		return examine(ctx, args[1:], stdout)
	case "prune":
		return prune(ctx, args[1:], os.Stdin, stdout, stderr)
	case "push-images":
		return pushImages(ctx, args[1:], stdout, stderr)
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return nil
	case "-version", "--version", "version":
		fmt.Fprintln(stdout, "sockerless", versionText())
		return nil
	}
	return usageError{fmt.Errorf("unknown command %q (up, demo, doctor, prune, push-images; see sockerless --help)", args[0])}
}

// parse parses a command's flags, without positional arguments. done says that help was asked for and given.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer, purpose string) (done bool, err error) {
	flags.SetOutput(io.Discard)
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "Usage: %s [flags]\n\n%s\n\nFlags:\n", flags.Name(), purpose)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return true, nil
	case err != nil:
		return false, usageError{fmt.Errorf("%w (see %s --help)", err, flags.Name())}
	case flags.NArg() > 0:
		return false, usageError{fmt.Errorf("unexpected argument %q (see %s --help)", flags.Arg(0), flags.Name())}
	}
	return false, nil
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
