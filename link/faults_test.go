package link_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
)

// bites counts what the faults of many runs did.
type bites struct {
	mu                     sync.Mutex
	runs, faults, carriers int
	replayed               uint64
}

func (b *bites) add(f *linktest.Faults, s link.Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs++
	b.faults += f.Count()
	b.carriers += s.Carriers
	b.replayed += s.Replayed
}

// check wants the runs to have been about something.
func (b *bites) check(t *testing.T) {
	t.Helper()
	t.Logf("%d runs: %d faults, %d carriers, %d bytes replayed by the diallers", b.runs, b.faults, b.carriers, b.replayed)
	if b.runs >= 20 && (b.carriers < 2*b.runs || b.replayed == 0) {
		t.Errorf("the faults did not bite")
	}
}

// Whatever happens to the carriers, every stream's bytes arrive once and in order. The network is one in memory with a delay,
// and its time is a bubble's, so that stalls and timeouts, which are the defaults, cost nothing.
// LINK_SEED repeats one run, LINK_RUNS says how many there are: see linktest.Runs.
func TestFaults(t *testing.T) {
	first, runs := linktest.Runs(150, 800)
	var b bites
	t.Run("seed", func(t *testing.T) {
		for i := range runs {
			seed := first + uint64(i)
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				f := linktest.NewFaults(seed)
				delay := time.Duration(rand.New(rand.NewPCG(seed, 3)).IntN(20)) * time.Millisecond
				wrap := func(conn net.Conn) net.Conn { return f.Wrap(newFarConn(conn, delay, 0)) }
				inMemory(t, link.Options{}, wrap, func(t *testing.T, _ *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					if err := exchange(ctx, seed, agent, backend); err != nil {
						t.Errorf("LINK_SEED=%d: %v", seed, err)
					}
					b.add(f, agent.Stats())
					f.Stop()
				})
			})
		}
	})
	b.check(t)
}

// The same over TCP on loopback, in real time.
func TestFaultsOverTCP(t *testing.T) {
	t.Parallel()
	first, runs := linktest.Runs(40, 150)
	var b bites
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range 16 { // they mostly wait
		workers.Go(func() {
			for seed := range seeds {
				if err := faultRun(t, seed, &b); err != nil {
					t.Errorf("LINK_SEED=%d: %v", seed, err)
				}
			}
		})
	}
	for i := range runs {
		seeds <- first + uint64(i)
	}
	close(seeds)
	workers.Wait()
	b.check(t)
}

func faultRun(t *testing.T, seed uint64, b *bites) error {
	f := linktest.NewFaults(seed)
	// Long enough for a machine that does much else, short enough to wait for.
	r := newRig(t, link.Options{
		KeepAlive:        200 * time.Millisecond,
		HandshakeTimeout: time.Second,
		ConnectTimeout:   time.Second,
		MaxPause:         2 * time.Millisecond,
		ResumeWindow:     2 * time.Minute,
	}, f.Wrap)
	defer func() {
		_ = r.hub.Close()
		r.server.Close()
		f.Stop()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.hub.Close() })
	defer stop()
	agent, err := link.Dial(ctx, r.target, r.id, r.opt)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer agent.Close()
	backend, err := r.hub.Accept(ctx)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer func() { b.add(f, agent.Stats()) }()
	return exchange(ctx, seed, agent, backend)
}

// exchange moves some streams' bytes both ways, while the link is cut now and then.
func exchange(ctx context.Context, seed uint64, agent, backend *link.Link) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	defer recut(rng, agent, backend)()
	var wait sync.WaitGroup
	streams := 1 + rng.IntN(3)
	errs := make(chan error, 4*streams)
	for i := range streams {
		from, to := agent, backend
		if i%2 == 1 {
			from, to = to, from
		}
		o, err := from.Open(ctx)
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		// The peer is told of the stream at once.
		a, err := to.Accept()
		if err != nil {
			return fmt.Errorf("accept stream: %w", err)
		}
		defer o.Close()
		defer a.Close()
		for j, way := range [][2]net.Conn{{o, a}, {a, o}} {
			data := linktest.NewSource(seed*31+uint64(2*i+j), rng.IntN(300<<10), 1+rng.IntN(70<<10))
			wait.Go(func() {
				if _, err := io.Copy(struct{ io.Writer }{way[0]}, data); err != nil {
					errs <- fmt.Errorf("stream %d.%d: write: %w", i, j, err)
				}
				if err := way[0].(*link.Stream).CloseWrite(); err != nil {
					errs <- fmt.Errorf("stream %d.%d: close: %w", i, j, err)
				}
			})
			wait.Go(func() {
				h := sha256.New()
				n, err := io.Copy(h, struct{ io.Reader }{way[1]})
				if err != nil {
					errs <- fmt.Errorf("stream %d.%d: read %d of %d: %w", i, j, n, data.Size(), err)
				} else if [32]byte(h.Sum(nil)) != data.Sum() {
					errs <- fmt.Errorf("stream %d.%d: %d bytes came, not the %d that were sent", i, j, n, data.Size())
				}
			})
		}
	}
	wait.Wait()
	close(errs)
	return errors.Join(drain(errs)...)
}

// recut cuts the carrier at random times, at either end, some times; the function that it returns ends that.
func recut(rng *rand.Rand, ends ...*link.Link) (stop func()) {
	quit := make(chan struct{})
	var cutter sync.WaitGroup
	pauses := make([]time.Duration, rng.IntN(4))
	for i := range pauses {
		pauses[i] = time.Duration(rng.IntN(30)) * time.Millisecond
	}
	cutter.Go(func() {
		for i, pause := range pauses {
			select {
			case <-time.After(pause):
				ends[i%len(ends)].Cut()
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		cutter.Wait()
	}
}

func drain(errs <-chan error) (all []error) {
	for err := range errs {
		all = append(all, err)
	}
	return all
}
