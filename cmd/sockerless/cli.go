package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/creack/pty"
)

// cli runs the docker CLI.
type cli struct{ path, host, config string }

func (c *cli) run(ctx context.Context, s step, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, s.args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+c.host, "DOCKER_CONFIG="+c.config, "DOCKER_CONTEXT=")
	if s.typed != "" {
		return runInTerminal(cmd, s.typed, out)
	}
	seen := &watcher{out: out, until: s.until, found: cancel}
	cmd.Stdout, cmd.Stderr = seen, seen
	err := cmd.Run()
	if seen.done() {
		return nil // it was ended because it had printed what was waited for
	}
	return err
}

// runInTerminal gives the command a terminal and types into it.
func runInTerminal(cmd *exec.Cmd, typed string, out io.Writer) error {
	t, err := pty.Start(cmd)
	if err != nil {
		return err
	}
	defer t.Close()
	if _, err := io.WriteString(t, typed); err != nil {
		return err
	}
	// A terminal whose other side has closed reads as EIO.
	if _, err := io.Copy(out, t); err != nil && !errors.Is(err, syscall.EIO) {
		return err
	}
	return cmd.Wait()
}

// watcher passes output on and calls found once a text was in it.
type watcher struct {
	mu    sync.Mutex
	out   io.Writer
	until string
	found func()
	tail  []byte
	hit   bool
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.out.Write(p)
	if w.until != "" && !w.hit {
		w.tail = append(w.tail, p...)
		if bytes.Contains(w.tail, []byte(w.until)) {
			w.hit = true
			w.found()
		}
		w.tail = w.tail[max(0, len(w.tail)-len(w.until)):]
	}
	return n, err
}

func (w *watcher) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit
}
