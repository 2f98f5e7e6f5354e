//go:build linux

// Package host starts Docker hosts of one's own, ours and Docker's, and puts the same image into them: the conformance
// table and the benchmarks ask both the same questions.
package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
)

// Host is one Docker host. The caller stops what it has started.
type Host struct {
	Addr     string // DOCKER_HOST
	Registry string // of ours
	Client   *client.Client

	cmd   *exec.Cmd   // nil: somebody else's
	parts []*exec.Cmd // started after it, and ended before
	log   string
}

// At returns somebody's host, by its DOCKER_HOST.
func At(addr string) (*Host, error) {
	c, err := client.New(client.WithHost(addr))
	if err != nil {
		return nil, err
	}
	return &Host{Addr: addr, Client: c}, nil
}

// startTime is for what does not start, or end.
const startTime = 2 * time.Minute

// Sockerless starts BIN/sockerless up -sim in a folder, with more flags, and returns when it can be used.
func Sockerless(ctx context.Context, bin, dir string, flags ...string) (*Host, error) {
	addr := "unix://" + filepath.Join(dir, "sockerless.sock")
	args := append([]string{"up", "-sim", "-addr", addr, "-data", filepath.Join(dir, "sockerless-data")}, flags...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sockerless"), args...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	h, err := start(cmd, addr, filepath.Join(dir, "sockerless.log"))
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("%w (run make build)", err)
	}
	if err := r.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return nil, errors.Join(err, h.Stop())
	}
	for s := bufio.NewScanner(r); h.Registry == "" && s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "export ACR_SERVER="); ok {
			h.Registry = v
		}
	}
	if h.Registry == "" {
		return nil, errors.Join(fmt.Errorf("sockerless up ended early, or is silent: %s", h.Log()), h.Stop())
	}
	return h, nil
}

// Dockerd starts the dockerd of $PATH in a folder and in a network namespace of its own, so that it touches no firewall
// rule of this machine, and returns when it answers. Flags are added. It needs root; errors.Is(err, exec.ErrNotFound) says
// that there is none.
func Dockerd(ctx context.Context, dir string, flags ...string) (*Host, error) {
	path, err := exec.LookPath("dockerd")
	if err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, errors.New("cannot start dockerd: not root")
	}
	addr := "unix://" + filepath.Join(dir, "dockerd.sock")
	args := append([]string{
		"--data-root", filepath.Join(dir, "dockerd"), "--exec-root", filepath.Join(dir, "dockerd-exec"), "--pidfile", filepath.Join(dir, "dockerd.pid"), "-H", addr,
	}, flags...)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	h, err := start(cmd, addr, filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err = h.Client.Ping(ctx, client.PingOptions{}); err == nil {
			return h, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("dockerd does not answer: %w: %s", err, h.Log()), h.Stop())
		}
	}
}

func start(cmd *exec.Cmd, addr, logPath string) (*Host, error) {
	h, err := At(addr)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true              // Ctrl-C is for us, who stop it in order
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // if we die, it dies too
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h.cmd, h.log = cmd, logPath
	return h, nil
}

// Pids are those of the programs that were started.
func (h *Host) Pids() (pids []int) {
	for _, cmd := range append([]*exec.Cmd{h.cmd}, h.parts...) {
		if cmd != nil {
			pids = append(pids, cmd.Process.Pid)
		}
	}
	return pids
}

// Log is the end of what the program has said.
func (h *Host) Log() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8000):])
}

// Stop ends the program and returns when it has ended. An error says that it did not end well.
func (h *Host) Stop() error {
	h.Client.Close()
	if h.cmd == nil {
		return nil
	}
	var errs []error
	for _, cmd := range slices.Backward(append([]*exec.Cmd{h.cmd}, h.parts...)) {
		cmd.Process.Signal(syscall.SIGTERM)                              //nolint:errcheck // it may have ended by itself, which Wait tells
		kill := time.AfterFunc(startTime, func() { cmd.Process.Kill() }) //nolint:errcheck // see above
		errs = append(errs, cmd.Wait())
		kill.Stop()
	}
	return errors.Join(errs...)
}

// Docker runs the docker CLI against the host and returns what it printed.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.Addr)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
