//go:build linux

// Command bench measures what users wait for, beside a local dockerd where there is one, in one run on one machine, and
// prints a table: ours in one process, ours with frontend and backend apart, the peer, the ratios, the target. It judges
// nothing by exit code: timings never decide a test.
//
// It starts everything itself, see conformance/host. See README.md beside it for how each figure is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/conformance/host"
)

func main() {
	runs := flag.Int("n", 20, "runs of each measurement; the median is printed")
	dockerd := flag.Bool("dockerd", true, "measure a local dockerd too, if there is one")
	cold := flag.Bool("cold", true, "measure a start with 30 s of provisioning injected")
	only := flag.String("only", "", "only rows whose name has this `text`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *runs, *dockerd, *cold, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, runs int, withDockerd, cold bool, only string) error {
	dir, err := os.MkdirTemp("", "sockerless-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeBig(bigFile()); err != nil {
		return err
	}
	defer os.Remove(bigFile())

	fsync, err := medianFsync(dir, runs)
	if err != nil {
		return err
	}
	t, err := onHosts(ctx, filepath.Join(dir, "1"), withDockerd, append(measurements(runs, fsync), keyMeasurements()...), only)
	if err != nil {
		return err
	}
	api, err := onHosts(ctx, filepath.Join(dir, "2"), withDockerd, apiMeasurements(runs), only)
	if err != nil {
		return err
	}
	t = append(t, api...)
	if only == "" {
		rows, err := programs(ctx, dir, runs)
		if err != nil {
			return err
		}
		t = append(t, rows...)
	}
	if cold && only == "" {
		r, err := coldStart(ctx, dir)
		if err != nil {
			return err
		}
		t = append(t, r)
	}
	fmt.Printf("one fsync here: %.2f ms\n\n", fsync)
	t.print(os.Stdout)
	return nil
}

// onHosts measures the rows whose name has only in it, on hosts of their own in a folder that it makes.
func onHosts(ctx context.Context, dir string, withDockerd bool, rows []measurement, only string) (table, error) {
	rows = slices.DeleteFunc(rows, func(m measurement) bool { return !strings.Contains(m.name, only) })
	if len(rows) == 0 {
		return nil, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := startPeers(ctx, dir, withDockerd)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	t := table{}
	for _, m := range rows {
		r := row{name: m.name, unit: m.unit, want: m.want}
		for _, side := range []struct {
			peer   *peer
			figure **float64
		}{{p.ours, &r.ours}, {p.apart, &r.apart}, {p.dockerd, &r.dockerd}} {
			if side.peer == nil || m.only && side.peer != p.ours || m.programs && side.peer == p.ours {
				continue
			}
			v, err := m.measure(ctx, side.peer)
			if err != nil {
				return nil, fmt.Errorf("%s at %s: %w", m.name, side.peer.Addr, err)
			}
			*side.figure = &v
		}
		t = append(t, r)
		fmt.Fprintln(os.Stderr, "measured:", m.name)
	}
	return t, nil
}

// writeBig writes bulk MB that do not compress.
func writeBig(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{1}), bulk*1e6)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// programs measures the agent's binary, and its start-up beside that of the least Go program.
func programs(ctx context.Context, dir string, runs int) ([]row, error) {
	const agent = "bin/sockerless-agent"
	size, err := os.Stat(agent)
	if err != nil {
		return nil, err
	}
	source, hello := filepath.Join(dir, "hello.go"), filepath.Join(dir, "hello")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n"), 0o600); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", hello, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build the least program: %w: %s", err, out)
	}
	least, err := median(runs, func() error { return exec.CommandContext(ctx, hello).Run() })
	if err != nil {
		return nil, err
	}
	started, err := median(runs, func() error { return exec.CommandContext(ctx, agent, "--version").Run() })
	if err != nil {
		return nil, err
	}
	mb, more := float64(size.Size())/1e6, started-least
	return []row{
		{name: "agent: start-up, more than a Go hello's", unit: "ms", want: want{text: "<= 3 ms", fixed: 3}, ours: &more},
		{name: "agent: binary", unit: "MB", want: want{text: "<= 10 MB", fixed: 10}, ours: &mb},
	}, nil
}

// coldStart measures `docker run --rm true` with 30 s of provisioning injected, and tells what is left of it.
func coldStart(ctx context.Context, dir string) (row, error) {
	dir = filepath.Join(dir, "cold")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return row{}, err
	}
	const provisioning = 30 * time.Second
	h, err := host.Sockerless(ctx, "bin", dir, "-sim-calm", "-sim-provisioning", provisioning.String())
	if err != nil {
		return row{}, err
	}
	p := &peer{Host: h}
	defer p.Stop() //nolint:errcheck // its folder goes too
	if err := p.Import(ctx, image); err != nil {
		return row{}, err
	}
	millis, err := median(1, func() error { return p.run(ctx, "run", "--rm", image, "true") })
	millis -= float64(provisioning.Milliseconds())
	return row{name: "our own overhead over 30 s of provisioning", unit: "ms", want: want{text: "<= 1 s", fixed: 1000}, ours: &millis}, err
}
