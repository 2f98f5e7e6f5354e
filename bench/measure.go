package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/client"
)

// measurement is one row: how it is measured, and what is wanted of it.
type measurement struct {
	name, unit, target string
	oursOnly           bool
	measure            func(context.Context, *host) (float64, error)
	limit              func(theirs *float64) *float64 // in the row's unit; nil: nothing to hold it against
}

func measurements(runs int, fsyncMillis float64) []measurement {
	times := func(f float64, plus float64) func(*float64) *float64 {
		return func(theirs *float64) *float64 {
			if theirs == nil {
				return nil
			}
			return ptr(*theirs*f + plus)
		}
	}
	fixed := func(v float64) func(*float64) *float64 { return func(*float64) *float64 { return &v } }
	return []measurement{
		{
			name: "create, API", unit: "ms", target: "<= 1.2x dockerd + one fsync", limit: times(1.2, fsyncMillis),
			measure: func(ctx context.Context, h *host) (float64, error) {
				return median(runs, func() error {
					_, err := create(ctx, h)
					return err
				})
			},
		},
		{
			name: "docker run --rm IMAGE true", unit: "ms", target: "<= 1.5x dockerd", limit: times(1.5, 0),
			measure: func(ctx context.Context, h *host) (float64, error) {
				return median(runs, func() error { return h.docker(ctx, "run", "--rm", "--network", h.network(), h.image, "true") })
			},
		},
		{
			name: "docker start -a, within the linger", unit: "ms", target: "<= 300 ms", limit: fixed(300),
			measure: func(ctx context.Context, h *host) (float64, error) {
				if err := h.docker(ctx, "run", "--name", "bench-start", "--network", h.network(), h.image, "true"); err != nil {
					return 0, err
				}
				v, err := median(runs, func() error { return h.docker(ctx, "start", "-a", "bench-start") })
				if err != nil {
					return 0, err
				}
				return v, h.docker(ctx, "rm", "-f", "bench-start")
			},
		},
		{
			name: "docker exec true", unit: "ms", target: "<= 0.7x dockerd", limit: times(.7, 0),
			measure: func(ctx context.Context, h *host) (float64, error) {
				if err := h.docker(ctx, "run", "-d", "--name", "bench-exec", "--network", h.network(), h.image, "tail", "-f", "/dev/null"); err != nil {
					return 0, err
				}
				v, err := median(runs, func() error { return h.docker(ctx, "exec", "bench-exec", "true") })
				if err != nil {
					return 0, err
				}
				return v, h.docker(ctx, "rm", "-f", "bench-exec")
			},
		},
		{
			name: "exec true, API", unit: "ms", target: "", limit: fixed(0),
			measure: func(ctx context.Context, h *host) (float64, error) {
				if err := h.docker(ctx, "run", "-d", "--name", "bench-exec", "--network", h.network(), h.image, "tail", "-f", "/dev/null"); err != nil {
					return 0, err
				}
				v, err := median(runs, func() error { return execTrue(ctx, h) })
				if err != nil {
					return 0, err
				}
				return v, h.docker(ctx, "rm", "-f", "bench-exec")
			},
		},
		{
			name: "list of 1,000 stored containers, API", unit: "ms", target: "<= 50 ms", limit: fixed(50), oursOnly: true,
			measure: func(ctx context.Context, h *host) (float64, error) {
				have, err := h.client.ContainerList(ctx, client.ContainerListOptions{All: true})
				if err != nil {
					return 0, err
				}
				for range 1000 - len(have.Items) {
					if _, err := create(ctx, h); err != nil {
						return 0, err
					}
				}
				return median(runs, func() error {
					_, err := h.client.ContainerList(ctx, client.ContainerListOptions{All: true})
					return err
				})
			},
		},
		{
			name: "memory, idle: simulator, backend and frontend in one", unit: "MB RSS", target: "<= 100 MB", limit: fixed(100),
			measure: func(ctx context.Context, h *host) (float64, error) { return h.rss(ctx) },
		},
	}
}

func (h *host) network() string {
	if h.name == "dockerd" {
		return "none" // it runs without a bridge, so that no firewall rule is touched
	}
	return "default"
}

func create(ctx context.Context, h *host) (string, error) {
	r, err := h.client.ContainerCreate(ctx, client.ContainerCreateOptions{Image: h.image})
	return r.ID, err
}

func execTrue(ctx context.Context, h *host) error {
	e, err := h.client.ExecCreate(ctx, "bench-exec", client.ExecCreateOptions{AttachStdout: true, Cmd: []string{"true"}})
	if err != nil {
		return err
	}
	s, err := h.client.ExecAttach(ctx, e.ID, client.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := io.Copy(io.Discard, s.Reader); err != nil {
		return err
	}
	r, err := h.client.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d", r.ExitCode)
	}
	return err
}

// coldStart measures `docker run --rm true` with 30 s of provisioning injected, and prints what is left of it.
func coldStart(ctx context.Context, dir string) (row, error) {
	dir = filepath.Join(dir, "cold")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return row{}, err
	}
	const provisioning = 30 * time.Second
	h, err := startSockerless(ctx, dir, "-sim-calm", "-sim-provisioning", provisioning.String())
	if err != nil {
		return row{}, err
	}
	defer h.stop()
	millis, err := median(1, func() error { return h.docker(ctx, "run", "--rm", h.image, "true") })
	return row{
		name: "our own overhead over 30 s of provisioning", unit: "ms", target: "<= 1 s",
		ours: millis - float64(provisioning.Milliseconds()), limit: ptr(1000.0),
	}, err
}

// median runs f once to warm up and then n times, and returns the median in milliseconds.
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

type row struct {
	name, unit, target string
	ours               float64
	theirs, limit      *float64
}

type table []row

func (t table) print(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tours\tdockerd\tratio\ttarget\t")
	for _, r := range t {
		theirs, ratio, verdict := "-", "-", ""
		if r.theirs != nil {
			theirs = fmt.Sprintf("%.1f", *r.theirs)
			ratio = fmt.Sprintf("%.2f", r.ours / *r.theirs)
		}
		if r.limit != nil && r.target != "" {
			verdict = "met"
			if r.ours > *r.limit {
				verdict = "missed"
			}
		}
		fmt.Fprintf(tw, "%s\t%.1f %s\t%s\t%s\t%s\t%s\n", r.name, r.ours, r.unit, theirs, ratio, r.target, verdict)
	}
	tw.Flush()
}
