package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// host is one DOCKER_HOST under measurement.
type host struct {
	name   string
	addr   string
	image  string
	client *client.Client
	proc   *exec.Cmd
	acr    string
}

// startSockerless starts bin/sockerless up -sim and waits for its two lines.
func startSockerless(ctx context.Context, dir string, flags ...string) (*host, error) {
	sock := filepath.Join(dir, "sockerless.sock")
	args := append([]string{"up", "-sim", "-addr", "unix://" + sock, "-data", filepath.Join(dir, "sockerless-data")}, flags...)
	cmd := exec.CommandContext(ctx, "bin/sockerless", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	log, err := os.Create(filepath.Join(dir, "sockerless.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (run make build)", err)
	}
	h := &host{name: "sockerless", addr: "unix://" + sock, proc: cmd}
	for s := bufio.NewScanner(out); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "export ACR_SERVER="); ok {
			h.acr = v
			break
		}
	}
	if h.acr == "" {
		text, _ := os.ReadFile(log.Name()) // only to explain
		h.stop()
		return nil, fmt.Errorf("sockerless up ended early: %s", text)
	}
	h.image = h.acr + "/minibox:latest"
	if h.client, err = client.New(client.WithHost(h.addr)); err != nil {
		h.stop()
		return nil, err
	}
	return h, h.docker(ctx, "pull", h.image)
}

// startDockerd starts a dockerd of our own and loads the same image into it.
func startDockerd(ctx context.Context, dir string, ours *host) (*host, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("not root")
	}
	path, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, err
	}
	sock := filepath.Join(dir, "dockerd.sock")
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, path, "--data-root", filepath.Join(dir, "dockerd"), "--exec-root", filepath.Join(dir, "dockerd-exec"),
		"--pidfile", filepath.Join(dir, "dockerd.pid"), "-H", "unix://"+sock, "--bridge=none", "--iptables=false")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &host{name: "dockerd", addr: "unix://" + sock, image: "minibox", proc: cmd}
	if h.client, err = client.New(client.WithHost(h.addr)); err != nil {
		h.stop()
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err = h.client.Ping(ctx, client.PingOptions{}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			h.stop()
			return nil, err
		}
	}
	// The same root file system, out of one of our containers.
	load := exec.CommandContext(ctx, "sh", "-c", `set -e
		id=$(docker -H "$1" create "$2"); docker -H "$1" start "$id" >/dev/null
		docker -H "$1" cp "$id:/bin" - | docker -H "$3" import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' - minibox >/dev/null
		docker -H "$1" rm -f "$id" >/dev/null`, "sh", ours.addr, ours.acr+"/minibox:latest", h.addr)
	if out, err := load.CombinedOutput(); err != nil {
		h.stop()
		return nil, fmt.Errorf("cannot copy the image: %w: %s", err, out)
	}
	return h, nil
}

// stop ends the program that startX started and waits for it.
func (h *host) stop() {
	if h.client != nil {
		h.client.Close()
	}
	h.proc.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended by itself
	h.proc.Wait()                          //nolint:errcheck // its exit status is of no interest here
}

// docker runs the docker CLI against the host.
func (h *host) docker(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", h.addr}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// rss returns the resident memory, in MB, of the program and of the children that belong to it rather than to a container.
func (h *host) rss(ctx context.Context) (float64, error) {
	total := 0.0
	pids := []int{h.proc.Process.Pid}
	if h.name == "dockerd" {
		out, err := exec.CommandContext(ctx, "pgrep", "-P", strconv.Itoa(h.proc.Process.Pid), "containerd").Output()
		if err == nil {
			for f := range strings.FieldsSeq(string(out)) {
				if pid, err := strconv.Atoi(f); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
				kb, err := strconv.ParseFloat(f[1], 64)
				if err != nil {
					return 0, err
				}
				total += kb * 1024 / 1e6
			}
		}
	}
	return total, nil
}
