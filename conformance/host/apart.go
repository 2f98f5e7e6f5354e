//go:build linux

package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// Apart starts what Sockerless starts in one process as three: a calm simulator, backend and frontend.
func Apart(ctx context.Context, bin, dir string) (_ *Host, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sim := exec.CommandContext(ctx, filepath.Join(bin, "azuresim"), "-data", filepath.Join(dir, "azure"), "-calm")
	sim.Stdout = w
	addr := "unix://" + filepath.Join(dir, "apart.sock")
	h, err := start(sim, addr, filepath.Join(dir, "azuresim.log"))
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("%w (run make build)", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Stop())
		}
	}()
	env := append(os.Environ(), "SOCKERLESS_DATA_DIR="+filepath.Join(dir, "backend"))
	if err := r.SetReadDeadline(time.Now().Add(startTime)); err != nil {
		return nil, err
	}
	for s := bufio.NewScanner(r); s.Scan() && s.Text() != ""; {
		line := strings.TrimPrefix(s.Text(), "export ")
		if name, value, ok := strings.Cut(line, "="); ok {
			env = append(env, name+"="+strings.Trim(value, "'"))
		}
	}
	var port, backend string
	for range 100 { // below the ports that others are given, so that it is free when the backend comes
		port = strconv.Itoa(10000 + rand.IntN(10000))
		backend = "127.0.0.1:" + port
		var l net.Listener
		if l, err = net.Listen("tcp", backend); err == nil { //nolint:noctx // it does not wait
			l.Close()
			break
		}
	}
	if err != nil {
		return nil, err
	}
	env = append(env, "SOCKERLESS_CALLBACK_URL=http://host.azuresim.internal:"+port)
	for _, argv := range [][]string{
		{"sockerless-backend-aca", "-addr", backend},
		{"sockerless-frontend-docker", "-backend", "http://" + backend, "-addr", addr},
	} {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, argv[0]), argv[1:]...)
		cmd.Env = env
		part, err := start(cmd, addr, filepath.Join(dir, argv[0]+".log"))
		if err != nil {
			return nil, err
		}
		part.Client.Close()
		h.parts = append(h.parts, cmd)
		if err := await(ctx, part, backend); err != nil {
			return nil, err
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = h.Client.Ping(ctx, client.PingOptions{}); err == nil {
			return h, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// await returns once something listens at addr.
func await(ctx context.Context, part *Host, addr string) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("the backend does not answer: %w: %s", err, part.Log())
		}
	}
}
