// Command bench measures what users wait for, beside a local dockerd where there is one, in one run on one machine, and
// prints a table: ours, the peer, the ratio, the target. It judges nothing by exit code: timings never decide a test.
//
// It starts `bin/sockerless up -sim -sim-calm` itself, and `dockerd` (as root, on a socket and data folder of its own)
// if that is on PATH. See README.md beside it for how each figure is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	runs := flag.Int("n", 20, "runs of each measurement; the median is printed")
	peer := flag.Bool("dockerd", true, "measure a local dockerd too, if there is one")
	slow := flag.Bool("cold", true, "measure a start with 30 s of provisioning injected")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *runs, *peer, *slow); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, runs int, peer, slow bool) error {
	dir, err := os.MkdirTemp("", "sockerless-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	ours, err := startSockerless(ctx, dir, "-sim-calm")
	if err != nil {
		return err
	}
	defer ours.stop()

	var theirs *host
	if peer {
		if theirs, err = startDockerd(ctx, dir, ours); err != nil {
			fmt.Fprintln(os.Stderr, "bench: no dockerd to compare with:", err)
		} else {
			defer theirs.stop()
		}
	}

	t := table{}
	fsync, err := medianFsync(dir, runs)
	if err != nil {
		return err
	}
	for _, m := range measurements(runs, fsync) {
		row := row{name: m.name, unit: m.unit, target: m.target}
		if row.ours, err = m.measure(ctx, ours); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if theirs != nil && !m.oursOnly {
			v, err := m.measure(ctx, theirs)
			if err != nil {
				return fmt.Errorf("%s on dockerd: %w", m.name, err)
			}
			row.theirs = &v
		}
		row.limit = m.limit(row.theirs)
		t = append(t, row)
		fmt.Fprintln(os.Stderr, "measured:", m.name)
	}
	if slow {
		row, err := coldStart(ctx, dir)
		if err != nil {
			return err
		}
		t = append(t, row)
	}
	size, err := os.Stat("bin/sockerless-agent")
	if err != nil {
		return err
	}
	t = append(t, row{name: "agent binary", unit: "MB", ours: float64(size.Size()) / 1e6, limit: ptr(10.0), target: "<= 10 MB"})
	fmt.Printf("one fsync here: %.2f ms\n\n", fsync)
	t.print(os.Stdout)
	return nil
}

func ptr[T any](v T) *T { return &v }
