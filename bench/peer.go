//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sockerless/sockerless/conformance/host"
)

// image is in all of them, see host.Import.
const image = "sockerless-bench:1"

// peer is a Docker host under measurement.
type peer struct {
	*host.Host
	docker bool // a dockerd
}

// peers are started in a folder; the caller stops them. dockerd is nil if there is none.
type peers struct{ ours, apart, dockerd *peer }

func startPeers(ctx context.Context, dir string, withDockerd bool) (p peers, err error) {
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	h, err := host.Sockerless(ctx, "bin", dir, "-sim-calm")
	if err != nil {
		return p, err
	}
	p.ours = &peer{Host: h}
	if h, err = host.Apart(ctx, "bin", dir); err != nil {
		return p, err
	}
	p.apart = &peer{Host: h}
	if withDockerd {
		// Without a bridge: that is to its advantage.
		if h, err := host.Dockerd(ctx, dir, "--bridge=none", "--iptables=false"); err != nil {
			fmt.Fprintln(os.Stderr, "bench: no dockerd to compare with:", err)
		} else {
			p.dockerd = &peer{Host: h, docker: true}
		}
	}
	for _, h := range p.all() {
		if err := h.Import(ctx, image); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p peers) all() (all []*peer) {
	for _, h := range []*peer{p.ours, p.apart, p.dockerd} {
		if h != nil {
			all = append(all, h)
		}
	}
	return all
}

func (p peers) stop() {
	for _, h := range p.all() {
		if err := h.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}

// run runs the docker CLI with a command line.
func (p *peer) run(ctx context.Context, args ...string) error {
	_, err := p.Docker(ctx, args...)
	return err
}

// start runs a container of a command line in the background.
func (p *peer) start(ctx context.Context, name string, command ...string) error {
	return p.run(ctx, append([]string{"run", "-d", "--name", name, "--network", p.network(), image}, command...)...)
}

func (p *peer) network() string {
	if p.docker {
		return "none"
	}
	return "default"
}

// stream runs the docker CLI with an input and counts its output.
func (p *peer) stream(ctx context.Context, stdin io.Reader, args ...string) (int64, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+p.Addr)
	cmd.Stdin, cmd.Stderr = stdin, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{out}, make([]byte, 1<<20))
	if werr := cmd.Wait(); err == nil {
		err = werr
	}
	return n, err
}

// rss is the resident memory, in MB, of the programs and, with dockerd, of its containerd.
func (p *peer) rss(ctx context.Context) (float64, error) { return p.rssOf(ctx, p.Pids()) }

func (p *peer) rssOf(ctx context.Context, programs []int) (float64, error) {
	var pids []string
	for _, pid := range programs {
		pids = append(pids, strconv.Itoa(pid))
	}
	if p.docker {
		if out, err := exec.CommandContext(ctx, "pgrep", "-P", pids[0], "containerd").Output(); err == nil {
			pids = append(pids, strings.Fields(string(out))...)
		}
	}
	total := 0.0
	for _, pid := range pids {
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err != nil {
			return 0, err
		}
		mb, err := vmRSS(string(status))
		if err != nil {
			return 0, err
		}
		total += mb
	}
	return total, nil
}

// vmRSS reads the resident memory, in MB, from a /proc/PID/status.
func vmRSS(status string) (float64, error) {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("no VmRSS in %q", status)
}
