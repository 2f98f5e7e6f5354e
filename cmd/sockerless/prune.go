package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// pruning is how many jobs are deleted at once: well under what Azure Resource Manager takes of one account.
const pruning = 8

// pruneTime bounds the deletion of one job, which Azure takes up to a minute for.
const pruneTime = 5 * time.Minute

// prune serves `sockerless prune`.
func prune(ctx context.Context, args []string, stdin *os.File, stdout, stderr io.Writer) error {
	config := aca.DefaultConfig()
	flags := flag.NewFlagSet("sockerless prune", flag.ContinueOnError)
	all := flags.Bool("all", false, "the jobs of every backend, of containers that run too; required, as there is no narrower kind yet")
	force := flags.Bool("force", false, "do not ask")
	flags.BoolVar(force, "f", false, "short for -force")
	settings := aca.NewSettings(flags)
	config.Settings(settings)
	wrong := settings.Load(os.Getenv)
	done, err := parse(flags, args, stdout, "Deletes the jobs that backends have made in the resource group and environment, with what runs in them.")
	switch {
	case done || err != nil:
		return err
	case !*all:
		return usageError{errors.New("prune deletes what is of use to somebody: say --all (see sockerless prune --help)")}
	case wrong != nil:
		return usageError{wrong}
	}
	if err := config.Validate(); err != nil {
		return usageError{err}
	}
	open, err := aca.Open(ctx, config, aca.Options{Instance: "prune"}) // it makes no jobs, so nothing is tagged so
	if err != nil {
		return err
	}
	defer driver.Close(open)
	d, _ := driver.As[*aca.Driver](open)

	jobs, err := listJobs(ctx, d)
	if err != nil {
		return err
	}
	place := fmt.Sprintf("environment %s of resource group %s", config.Environment, config.ResourceGroup)
	if len(jobs) == 0 {
		fmt.Fprintf(stdout, "There are no jobs of Sockerless in %s.\n", place)
		return nil
	}
	if err := showJobs(stdout, jobs); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "WARNING! This deletes every job of Sockerless in %s: %d.\n"+
		"Containers that run end. A backend that runs sees them as exited, and makes new jobs for those with a restart policy: stop it first.\n", place, len(jobs))
	if !*force {
		if err := confirm(stdin, stdout); err != nil {
			return err
		}
	}
	if err := removeJobs(ctx, d, jobs, stdout, stderr); err != nil {
		return err
	}
	again, err := listJobs(ctx, d)
	if err == nil && len(again) > 0 {
		err = fmt.Errorf("jobs were made meanwhile (%d): stop the backends that run, and prune again", len(again))
	}
	return err
}

func listJobs(ctx context.Context, d *aca.Driver) (jobs []aca.Job, err error) {
	for job, err := range d.Jobs(ctx) {
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

func showJobs(w io.Writer, jobs []aca.Job) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "JOB\tCONTAINER\tBACKEND\tMADE")
	for _, j := range jobs {
		made := ""
		if !j.Made.IsZero() {
			made = j.Made.UTC().Format(time.RFC3339)
		}
		// Who can make jobs can tag them as they like.
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(j.Name), printable(j.Called), printable(j.Instance), made)
	}
	return table.Flush()
}

// printable keeps what somebody else has written, as a tag, from doing more to a terminal than being read.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// errNotConfirmed ends a prune that nobody said yes to.
var errNotConfirmed = errors.New("nothing was deleted")

// confirm asks at the terminal. Without one there is nobody to ask.
func confirm(stdin *os.File, stdout io.Writer) error {
	if stdin == nil || !term.IsTerminal(int(stdin.Fd())) {
		return usageError{errors.New("nothing was deleted: there is no terminal to ask at; say --force")}
	}
	fmt.Fprint(stdout, "Are you sure you want to continue? [y/N] ")
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errNotConfirmed
	}
	return nil
}

// removeJobs deletes the jobs, some at a time, and tells of each. It goes on after one that cannot be deleted.
func removeJobs(ctx context.Context, d *aca.Driver, jobs []aca.Job, stdout, stderr io.Writer) error {
	var mu sync.Mutex // over what is written
	left := 0
	var work errgroup.Group
	work.SetLimit(pruning)
	for _, j := range jobs {
		work.Go(func() error {
			one, cancel := context.WithTimeout(ctx, pruneTime)
			defer cancel()
			err := one.Err()
			if err == nil {
				err = d.RemoveJob(one, j.Name)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				fmt.Fprintln(stdout, "Deleted:", j.Name)
			case ctx.Err() != nil: // Ctrl-C is one event, not one for each job
				left++
			default:
				left++
				fmt.Fprintln(stderr, "sockerless:", err)
			}
			return nil
		})
	}
	_ = work.Wait() // what cannot be deleted is counted
	if left > 0 {
		return fmt.Errorf("of %d jobs, %d are still there", len(jobs), left)
	}
	return nil
}
