package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/doctor"
	"github.com/sockerless/sockerless/backends/aca/server"
)

// examine serves `sockerless doctor`.
func examine(ctx context.Context, args []string, stdout io.Writer) error {
	config, err := server.DefaultConfig()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("sockerless doctor", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "run no job: whether containers reach the callback URL is not known then")
	flags.StringVar(&config.Addr, "addr", config.Addr, "where the backend listens; while nobody does, the doctor answers there for its job")
	settings := aca.NewSettings(flags)
	config.Settings(settings)
	wrong := settings.Load(os.Getenv)
	done, err := parse(flags, args, stdout, "Says what a backend with these settings lacks, one line for each check: ok, warn or FAIL. Any FAIL ends it with status 1.")
	if done || err != nil {
		return err
	}
	if wrong != nil {
		return usageError{wrong}
	}
	return tellFindings(ctx, doctor.Options{Azure: config.Azure, State: config.State, Addr: config.Addr, Quick: *quick}, stdout, true)
}

// examineQuickly is the quick part, before a backend starts: it tells what is not in order, and refuses where containers would
// not run.
func examineQuickly(ctx context.Context, config *server.Config, stderr io.Writer) error {
	return tellFindings(ctx, doctor.Options{Azure: config.Azure, State: config.State, Quick: true}, stderr, false)
}

// tellFindings writes what the doctor finds, what is in order too if all is set. Its error names the checks that failed.
func tellFindings(ctx context.Context, o doctor.Options, w io.Writer, all bool) error {
	var failed []string
	for f := range doctor.Examine(ctx, o) {
		if all || f.Level != doctor.OK {
			fmt.Fprintln(w, printable(f.String()))
		}
		if f.Level == doctor.Fail {
			failed = append(failed, f.Check)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("a check failed: %s", failed[0])
	}
	return fmt.Errorf("%d checks failed: %s", len(failed), strings.Join(failed, ", "))
}
