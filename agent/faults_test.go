package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
	"github.com/sockerless/sockerless/wire"
)

const faultLines = 300

// Whatever happens to the carriers, what is asked of an agent is answered as if nothing had: every byte, every exit code.
// LINK_SEED repeats one run, LINK_RUNS says how many there are: see linktest.Runs.
func TestFaults(t *testing.T) {
	t.Parallel()
	first, runs := linktest.Runs(30, 150)
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var carriers, faults int
	for range min(4, runs) {
		b, dir := newBox(t, boxOptions{}), t.TempDir()
		b.start(protocol.StartRequest{Process: sh(fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; exec sleep 10000", faultLines))})
		workers.Go(func() {
			for seed := range seeds {
				c, f, err := b.faultRun(seed, dir)
				if err != nil {
					t.Errorf("LINK_SEED=%d: %v", seed, err)
				}
				mu.Lock()
				carriers, faults = carriers+c, faults+f
				mu.Unlock()
			}
		})
	}
	for i := range runs {
		seeds <- first + uint64(i)
	}
	close(seeds)
	workers.Wait()
	t.Logf("%d runs: %d faults, %d carriers", runs, faults, carriers)
	if runs >= 30 && carriers < 2*runs {
		t.Error("the faults did not bite")
	}
}

// faultRun asks the agent over a link of its own, whose carriers break. Files are copied into dir.
func (b *box) faultRun(seed uint64, dir string) (carriers, faults int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	rng := rand.New(rand.NewPCG(seed, 1))
	f := linktest.NewFaults(seed)
	defer f.Stop()
	sound := b.target().NetDial
	target := b.target()
	target.NetDial = func(ctx context.Context) (net.Conn, error) {
		conn, err := sound(ctx)
		if err != nil {
			return nil, err
		}
		return f.Wrap(conn), nil
	}
	l, err := link.Dial(ctx, target, link.Identity{Role: link.Backend, ID: b.runID, Secret: b.secret}, link.Options{
		KeepAlive: 200 * time.Millisecond, HandshakeTimeout: time.Second, ConnectTimeout: time.Second,
		MaxPause: 2 * time.Millisecond, ResumeWindow: 2 * time.Minute,
	})
	if err != nil {
		return 0, f.Count(), fmt.Errorf("dial: %w", err)
	}
	defer l.Close()
	client := protocol.NewClient(l.Open)
	defer client.Close()
	var all sync.WaitGroup
	errs := make([]error, 3)
	in := linktest.NewSource(seed, rng.IntN(200<<10), 1+rng.IntN(40<<10))
	code := rng.IntN(126)
	all.Go(func() { errs[0] = execEcho(ctx, client, fmt.Sprint("run", seed), in, code) })
	copied := linktest.NewSource(seed+1<<32, rng.IntN(200<<10), 1)
	all.Go(func() {
		errs[1] = copyEcho(ctx, b.t, client, filepath.Join(dir, fmt.Sprint("copy", seed)), copied)
	})
	all.Go(func() { errs[2] = readLines(ctx, client, faultLines) })
	quit := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for range rng.IntN(4) {
			select {
			case <-time.After(time.Duration(rng.IntN(40)) * time.Millisecond):
				l.Cut()
			case <-quit:
				return
			}
		}
	})
	all.Wait()
	close(quit)
	cutter.Wait()
	return l.Stats().Carriers, f.Count(), errors.Join(errs...)
}

// execEcho sends in through an exec of cat and wants it back, and the exit code.
func execEcho(ctx context.Context, c *protocol.Client, id string, in *linktest.Source, code int) error {
	s, err := c.Exec(ctx, protocol.ExecRequest{ID: id, Process: sh(fmt.Sprintf("cat; exit %d", code)), Stdin: true, Stdout: true})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	go func() { // ends with the session
		_, _ = io.Copy(struct{ io.Writer }{s}, in)
		_ = s.CloseWrite()
	}()
	h := sha256.New()
	for {
		var head [8]byte
		if _, err := io.ReadFull(s, head[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("exec's output: %w", err)
		}
		if _, err := io.CopyN(h, s, int64(head[4])<<24|int64(head[5])<<16|int64(head[6])<<8|int64(head[7])); err != nil {
			return fmt.Errorf("exec's output: %w", err)
		}
	}
	state, err := c.ExecState(ctx, id)
	switch {
	case err != nil:
		return fmt.Errorf("exec's state: %w", err)
	case [32]byte(h.Sum(nil)) != in.Sum():
		return errors.New("exec gave other bytes back")
	case state.Exit == nil || state.Exit.Code != code:
		return fmt.Errorf("exec ended as %+v, want code %d", state.Exit, code)
	}
	return nil
}

// copyEcho copies a file into dir and out of it again.
func copyEcho(ctx context.Context, t testing.TB, c *protocol.Client, dir string, data *linktest.Source) error {
	for _, step := range []struct {
		path string
		tar  []byte
	}{{filepath.Dir(dir), makeTar(t, directory(filepath.Base(dir)))}, {dir, makeTar(t, file("f", string(data.Bytes())))}} {
		if err := c.Write(ctx, protocol.WriteRequest{Path: wire.Bytes(step.path)}, bytes.NewReader(step.tar)); err != nil {
			return fmt.Errorf("copy in: %w", err)
		}
	}
	_, r, err := c.Read(ctx, dir+"/f")
	if err != nil {
		return fmt.Errorf("copy out: %w", err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("copy out: %w", err)
	}
	if !bytes.Contains(got, data.Bytes()) || len(got) > data.Size()+4<<10 {
		return fmt.Errorf("copy out: %d bytes of tar, which do not hold the %d that went in", len(got), data.Size())
	}
	return nil
}

// readLines reads the container's log by its records.
func readLines(ctx context.Context, c *protocol.Client, lines int) error {
	next := 0
	for r, err := range c.Logs(ctx, protocol.LogsRequest{Follow: true}) {
		if err != nil {
			return fmt.Errorf("logs: %w", err)
		}
		if want := fmt.Sprintf("line %d\n", next); string(r.Data) != want {
			return fmt.Errorf("logs: record %q, want %q", r.Data, want)
		}
		if next++; next == lines {
			return nil
		}
	}
	return errors.New("logs: an end of a feed that follows")
}
