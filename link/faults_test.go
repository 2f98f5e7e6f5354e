package link_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// faults breaks connections at seeded places until it is told to stop.
type faults struct {
	mu    sync.Mutex
	rng   *rand.Rand
	calm  bool
	count int
}

func (f *faults) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calm = true
}

// wrap gives conn a fault of its own, or none.
func (f *faults) wrap(conn net.Conn) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &faultyConn{Conn: conn, closed: make(chan struct{}), left: -1}
	if f.calm || f.count >= 12 {
		return c
	}
	f.count++
	c.kind = faultKind(f.rng.IntN(int(faultKinds)))
	c.onRead = f.rng.IntN(2) == 0
	if f.rng.IntN(3) == 0 {
		c.left = f.rng.IntN(4 << 10) // inside the handshake or just behind it
	} else {
		c.left = f.rng.IntN(256 << 10)
	}
	return c
}

type faultKind int

const (
	faultReset  faultKind = iota // a TCP reset
	faultClose                   // an orderly end between frames or in the middle of one
	faultStall                   // nothing moves any more, no error
	faultSilent                  // writes vanish
	faultKinds
)

var errFault = errors.New("injected fault")

// faultyConn breaks after left bytes of its way.
type faultyConn struct {
	net.Conn
	kind   faultKind
	onRead bool
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	left int // -1: never
}

// pass returns how many of n bytes get through, and whether the fault comes after them.
func (c *faultyConn) pass(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.left < 0:
		return n, false
	case n < c.left:
		c.left -= n
		return n, false
	default:
		n, c.left = c.left, 0
		return n, true
	}
}

func (c *faultyConn) fail() error {
	switch c.kind {
	case faultReset:
		_ = c.Conn.(*net.TCPConn).SetLinger(0)
		_ = c.Conn.Close()
	case faultClose:
		_ = c.Conn.Close()
	default:
		<-c.closed
	}
	return errFault
}

func (c *faultyConn) Read(p []byte) (int, error) {
	if !c.onRead {
		return c.Conn.Read(p)
	}
	n, broken := c.pass(len(p))
	if broken && n == 0 {
		return 0, c.fail()
	}
	got, err := c.Conn.Read(p[:n])
	if broken && err == nil {
		// Less than was allowed for may have come.
		c.mu.Lock()
		c.left += n - got
		c.mu.Unlock()
	}
	return got, err
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if c.onRead {
		return c.Conn.Write(p)
	}
	n, broken := c.pass(len(p))
	if n > 0 {
		if n, err := c.Conn.Write(p[:n]); err != nil {
			return n, err
		}
	}
	if !broken {
		return n, nil
	}
	if c.kind == faultSilent {
		return len(p), nil
	}
	return n, c.fail()
}

func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Whatever happens to the carriers, every stream's bytes arrive once and in order.
// LINK_ROUNDS and LINK_SEED set how many rounds there are and the first one's seed.
func TestFaults(t *testing.T) {
	t.Parallel()
	rounds, first := 200, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("LINK_ROUNDS")); err == nil {
		rounds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("LINK_SEED"), 10, 64); err == nil {
		first = n
	}
	var carriers, replayed, faulted int
	var mu sync.Mutex
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for seed := range seeds {
				stats, n, err := faultRound(t, seed)
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				mu.Lock()
				carriers += stats.Carriers
				replayed += int(stats.Replayed)
				faulted += n
				mu.Unlock()
			}
		})
	}
	for i := range rounds {
		seeds <- first + uint64(i)
	}
	close(seeds)
	workers.Wait()
	t.Logf("%d rounds: %d faults, %d carriers, %d bytes replayed by the diallers", rounds, faulted, carriers, replayed)
	if carriers < 2*rounds || replayed == 0 {
		t.Errorf("the faults did not bite")
	}
}

// faultRound moves some streams' bytes both ways over a link whose carriers break.
func faultRound(t *testing.T, seed uint64) (link.Stats, int, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	f := &faults{rng: rand.New(rand.NewPCG(seed, 2))}
	r := newRig(t, link.Options{
		KeepAlive:        40 * time.Millisecond,
		HandshakeTimeout: 150 * time.Millisecond,
		ConnectTimeout:   150 * time.Millisecond,
		MaxPause:         2 * time.Millisecond,
		ResumeWindow:     20 * time.Second,
	}, f.wrap)
	defer func() {
		_ = r.hub.Close()
		r.server.Close()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.hub.Close() })
	defer stop()
	agent, err := link.Dial(ctx, r.target, r.id, r.opt)
	if err != nil {
		return link.Stats{}, f.count, fmt.Errorf("dial: %w", err)
	}
	defer agent.Close()
	backend, err := r.hub.Accept(ctx)
	if err != nil {
		return agent.Stats(), f.count, fmt.Errorf("accept: %w", err)
	}
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
			return agent.Stats(), f.count, fmt.Errorf("open: %w", err)
		}
		// yamux tells the peer of the stream with its first bytes at the latest.
		a, err := to.Accept()
		if err != nil {
			return agent.Stats(), f.count, fmt.Errorf("accept stream: %w", err)
		}
		defer o.Close()
		defer a.Close()
		for j, way := range [][2]net.Conn{{o, a}, {a, o}} {
			data := newSource(seed*31+uint64(2*i+j), rng.IntN(300<<10), 1+rng.IntN(70<<10))
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
					errs <- fmt.Errorf("stream %d.%d: read %d of %d: %w", i, j, n, data.size, err)
				} else if [32]byte(h.Sum(nil)) != data.sum() {
					errs <- fmt.Errorf("stream %d.%d: %d bytes came, not the %d that were sent", i, j, n, data.size)
				}
			})
		}
	}
	wait.Wait()
	close(errs)
	f.stop()
	return agent.Stats(), f.count, errors.Join(drain(errs)...)
}

func drain(errs <-chan error) (all []error) {
	for err := range errs {
		all = append(all, err)
	}
	return all
}

// source is size seeded bytes, read in pieces.
type source struct {
	seed        uint64
	size, piece int
	chacha      *rand.ChaCha8
	left        int
}

func newSource(seed uint64, size, piece int) *source {
	s := &source{seed: seed, size: size, piece: piece, left: size}
	s.chacha = s.stream()
	return s
}

func (s *source) stream() *rand.ChaCha8 {
	var key [32]byte
	copy(key[:], strconv.FormatUint(s.seed, 10))
	return rand.NewChaCha8(key)
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), s.piece, s.left)
	_, _ = s.chacha.Read(p[:n])
	s.left -= n
	return n, nil
}

func (s *source) sum() [32]byte {
	b := make([]byte, s.size)
	_, _ = s.stream().Read(b)
	return sha256.Sum256(b)
}
