//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// measurement is one row: how it is measured, and what is wanted of it.
type measurement struct {
	name, unit string
	want       want
	only       bool // ours: there is nothing like it to compare
	programs   bool // of frontend and backend apart, and not in one process with the simulator
	measure    func(context.Context, *peer) (float64, error)
}

// want is what a row is held against.
type want struct {
	text  string
	more  bool    // more is better
	ratio float64 // of dockerd's; 0: none
	plus  float64 // added to that
	apart float64 // the ratio for frontend and backend apart; 0: not held
	fixed float64 // 0: none

	apartFixed bool // fixed is held apart, too
}

// bulk is how much the streams carry, in MB.
const bulk = 200

func measurements(runs int, fsyncMillis float64) []measurement {
	// Memory comes before the bulk, after which it is another question.
	few := max(1, min(runs, 5)) // of what takes seconds
	all := []measurement{
		{
			name: "create, API", unit: "ms", want: want{text: "<= 1.2x dockerd + one fsync", ratio: 1.2, plus: fsyncMillis},
			measure: func(ctx context.Context, p *peer) (float64, error) {
				return median(runs, func() error { return create(ctx, p) })
			},
		},
		{
			name: "docker run --rm IMAGE true", unit: "ms", want: want{text: "<= 1.5x dockerd", ratio: 1.5},
			measure: func(ctx context.Context, p *peer) (float64, error) {
				return median(runs, func() error { return p.run(ctx, "run", "--rm", "--network", p.network(), image, "true") })
			},
		},
		{
			name: "docker start -a, within the linger", unit: "ms", want: want{text: "<= 300 ms", fixed: 300},
			measure: func(ctx context.Context, p *peer) (float64, error) {
				if err := p.run(ctx, "run", "--name", "bench-start", "--network", p.network(), image, "true"); err != nil {
					return 0, err
				}
				defer p.run(ctx, "rm", "-f", "bench-start") //nolint:errcheck // the folder goes too
				return median(runs, func() error { return p.run(ctx, "start", "-a", "bench-start") })
			},
		},
		{
			name: "docker restart -t 0, in place", unit: "ms", want: want{text: "<= 300 ms", fixed: 300},
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				return median(runs, func() error { return p.run(ctx, "restart", "-t", "0", box) })
			}),
		},
		{
			name: "docker exec true", unit: "ms", want: want{text: "<= 0.6x dockerd", ratio: .6},
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				return median(runs, func() error { return p.run(ctx, "exec", box, "true") })
			}),
		},
		{
			name: "exec true, API", unit: "ms", want: want{text: "<= 0.2x dockerd", ratio: .2},
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				return median(runs, func() error { return execTrue(ctx, p) })
			}),
		},
		{
			name: "list of 1,000 stored containers, API", unit: "ms", want: want{text: "<= 50 ms", fixed: 50}, only: true,
			measure: func(ctx context.Context, p *peer) (float64, error) {
				have, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
				if err != nil {
					return 0, err
				}
				for range 1000 - len(have.Items) {
					if err := create(ctx, p); err != nil {
						return 0, err
					}
				}
				return median(runs, func() error {
					_, err := p.Client.ContainerList(ctx, client.ContainerListOptions{All: true})
					return err
				})
			},
		},
		{
			name: "memory, idle: simulator, backend and frontend", unit: "MB", want: want{text: "<= 100 MB", fixed: 100},
			measure: func(ctx context.Context, p *peer) (float64, error) { return p.rss(ctx) },
		},
		{
			name: "memory, idle: an agent", unit: "MB", want: want{text: "<= 12 MB", fixed: 12}, only: true,
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				status, err := p.Docker(ctx, "exec", box, "sh", "-c", `for p in /proc/[0-9]*; do grep -q sockerless/agent $p/cmdline && cat $p/status; done; true`)
				if err != nil {
					return 0, err
				}
				return vmRSS(status)
			}),
		},
		{
			name: "docker logs, 100 MB", unit: "MB/s",
			measure: logged(func(ctx context.Context, p *peer) (float64, error) {
				return rate(min(few, 3), logBytes, func() error {
					n, err := p.stream(ctx, nil, "logs", logBox)
					if err == nil && n != logBytes {
						err = fmt.Errorf("%d bytes of logs", n)
					}
					return err
				})
			}),
		},
		{
			name: "logs, 100 MB, API", unit: "MB/s", want: want{text: ">= 5x dockerd", more: true, ratio: 5},
			measure: logged(func(ctx context.Context, p *peer) (float64, error) {
				return rate(min(few, 3), logBytes, func() error {
					logs, err := p.Client.ContainerLogs(ctx, logBox, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
					if err != nil {
						return err
					}
					defer logs.Close()
					n, err := io.Copy(io.Discard, logs)
					if err == nil && n < logBytes {
						err = fmt.Errorf("%d bytes of logs", n)
					}
					return err
				})
			}),
		},
	}
	for _, b := range bulks {
		all = append(all, measurement{
			name: b.name, unit: "MB/s", want: want{text: ">= 0.8x dockerd and 240; 0.6x apart", more: true, ratio: .8, apart: .6, fixed: 240},
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				if err := b.prepare(ctx, p); err != nil {
					return 0, err
				}
				return rate(few, bulk*1e6, func() error { return b.move(ctx, p) })
			}),
		}, measurement{
			name: b.name + ", CPU", unit: "s/GB",
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				if err := b.prepare(ctx, p); err != nil {
					return 0, err
				}
				return p.cost(float64(few)*bulk*1e6, func() error {
					for range few {
						if err := b.move(ctx, p); err != nil {
							return err
						}
					}
					return nil
				})
			}),
		})
	}
	return all
}

// bulks move bulk MB by the docker CLI, out of the box or into it.
var bulks = []struct {
	name          string
	prepare, move func(context.Context, *peer) error
}{
	{
		"docker exec cat, 200 MB out",
		func(ctx context.Context, p *peer) error {
			return p.run(ctx, "exec", box, "dd", "if=/dev/urandom", "of=/tmp/big", "bs=1000000", fmt.Sprintf("count=%d", bulk))
		},
		func(ctx context.Context, p *peer) error {
			return whole(p.stream(ctx, nil, "exec", box, "cat", "/tmp/big"))
		},
	},
	{
		"docker exec -i cat, 200 MB in",
		func(context.Context, *peer) error { return nil },
		func(ctx context.Context, p *peer) error {
			big, err := os.Open(bigFile())
			if err != nil {
				return err
			}
			defer big.Close()
			_, err = p.stream(ctx, big, "exec", "-i", box, "sh", "-c", "cat >/dev/null")
			return err
		},
	},
	{
		"docker cp, 200 MB in",
		func(context.Context, *peer) error { return nil },
		func(ctx context.Context, p *peer) error { return p.run(ctx, "cp", "-q", bigFile(), box+":/tmp/big") },
	},
	{
		"docker cp, 200 MB out",
		func(ctx context.Context, p *peer) error { return p.run(ctx, "cp", bigFile(), box+":/tmp/big") },
		func(ctx context.Context, p *peer) error {
			back := bigFile() + "-back"
			defer os.Remove(back)
			return p.run(ctx, "cp", "-q", box+":/tmp/big", back)
		},
	},
}

// box is the container of a measurement that works in one.
const box = "bench-box"

// boxed gives a measurement a container that waits.
func boxed(measure func(context.Context, *peer) (float64, error)) func(context.Context, *peer) (float64, error) {
	return func(ctx context.Context, p *peer) (float64, error) {
		if err := p.start(ctx, box, "sleep", "100000"); err != nil {
			return 0, err
		}
		v, err := measure(ctx, p)
		if err != nil {
			return 0, err
		}
		return v, p.run(ctx, "rm", "-f", box)
	}
}

// logBox is the container whose logs are read: a million lines of 100 bytes.
const (
	logBox   = "bench-logs"
	logLines = 1_000_000
	logBytes = 100 * logLines
)

// logged gives a measurement logs to read.
func logged(measure func(context.Context, *peer) (float64, error)) func(context.Context, *peer) (float64, error) {
	return func(ctx context.Context, p *peer) (float64, error) {
		if err := p.run(ctx, "run", "-d", "--name", logBox, "--network", p.network(), "--log-opt", "max-size=1g", image, "sh", "-c",
			fmt.Sprintf("yes %s | head -n %d", strings.Repeat("x", 99), logLines)); err != nil {
			return 0, err
		}
		if err := p.run(ctx, "wait", logBox); err != nil {
			return 0, err
		}
		v, err := measure(ctx, p)
		if err != nil {
			return 0, err
		}
		return v, p.run(ctx, "rm", "-f", logBox)
	}
}

// bigFile is a file of bulk MB on this side.
func bigFile() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("sockerless-bench-%d", os.Getpid()))
}

func whole(n int64, err error) error {
	if err == nil && n != bulk*1e6 {
		return fmt.Errorf("%d bytes came", n)
	}
	return err
}

func create(ctx context.Context, p *peer) error {
	_, err := p.Client.ContainerCreate(ctx, client.ContainerCreateOptions{Image: image, Config: &container.Config{}})
	return err
}

func execTrue(ctx context.Context, p *peer) error {
	e, err := p.Client.ExecCreate(ctx, box, client.ExecCreateOptions{AttachStdout: true, Cmd: []string{"true"}})
	if err != nil {
		return err
	}
	s, err := p.Client.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.Copy(io.Discard, s.Reader); err != nil {
		return err
	}
	r, err := p.Client.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d", r.ExitCode)
	}
	return err
}

// rate is median in MB/s of so many bytes.
func rate(n int, bytes float64, f func() error) (float64, error) {
	millis, err := median(n, f)
	return bytes / 1e6 / millis * 1000, err
}

// median runs f once to warm up and then n times, and returns the median in milliseconds. With n = 1 there is no warm-up.
func median(n int, f func() error) (float64, error) {
	var took []float64
	for i := range n + 1 {
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if i > 0 || n == 1 {
			took = append(took, float64(time.Since(start).Microseconds())/1000)
		}
		if n == 1 {
			break
		}
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func medianFsync(dir string, n int) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return median(n, func() error {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return err
		}
		return f.Sync()
	})
}
