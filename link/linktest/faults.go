// Package linktest breaks the connections under links, for tests of what runs on them: at places that a seed decides,
// in the ways that networks have.
package linktest

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// ErrFault is what a connection that was broken says to the end that is under test.
var ErrFault = errors.New("injected fault")

// Kind is how a connection breaks.
type Kind int

// The kinds there are. All but Ghost end both ways.
const (
	Reset    Kind = iota // a TCP reset
	Close                // an orderly end, between frames or in the middle of one
	Truncate             // the end of one way, in the middle of a frame; the other goes on
	Stall                // nothing moves any more, and no error comes
	Silent               // writes vanish
	Ghost                // this end has an error, the other has a connection that lives on, and gets late bytes of it
	kinds
)

// most is how many faults a Faults has: then the network is sound, so that every test ends.
const most = 12

// Faults breaks connections at seeded places.
type Faults struct {
	ghosts sync.WaitGroup

	mu    sync.Mutex
	rng   *rand.Rand
	calm  bool
	count int
}

// NewFaults returns the faults of a seed. Stop them.
func NewFaults(seed uint64) *Faults {
	return &Faults{rng: rand.New(rand.NewPCG(seed, 2))}
}

// Wrap gives conn a fault of its own, or none.
func (f *Faults) Wrap(conn net.Conn) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calm || f.count >= most {
		return conn
	}
	f.count++
	b := Break{Kind: Kind(f.rng.IntN(int(kinds))), OnRead: f.rng.IntN(2) == 0, ghosts: &f.ghosts}
	if f.rng.IntN(3) == 0 {
		b.After = f.rng.IntN(4 << 10) // inside the handshake or just behind it
	} else {
		b.After = f.rng.IntN(256 << 10)
	}
	b.late = time.Duration(f.rng.IntN(20)) * time.Millisecond
	return b.Wrap(conn)
}

// Count is how many faults there were.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Stop makes the network sound, and returns when nothing of the broken connections is left.
func (f *Faults) Stop() {
	f.mu.Lock()
	f.calm = true
	f.mu.Unlock()
	f.ghosts.Wait()
}

// Break is one fault, after some bytes of one way.
type Break struct {
	Kind   Kind
	OnRead bool
	After  int // bytes; negative: never

	late   time.Duration // a Ghost's
	ghosts *sync.WaitGroup
}

// Wrap returns conn with the fault.
func (b Break) Wrap(conn net.Conn) net.Conn {
	return &faultyConn{Conn: conn, Break: b, left: b.After, closed: make(chan struct{})}
}

// faultyConn breaks after left bytes of its way.
type faultyConn struct {
	net.Conn
	Break
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	left  int  // -1: never
	ghost bool // it lives on by itself, and ends so
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

// fail breaks the connection; rest is what of the last write has not passed.
func (c *faultyConn) fail(rest []byte) error {
	switch c.Kind {
	case Reset:
		if t, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Conn.Close()
	case Close:
		_ = c.Conn.Close()
	case Truncate:
		if h, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.OnRead {
			_ = h.CloseWrite()
			<-c.closed // this end does not see it
			break
		}
		_ = c.Conn.Close()
	case Ghost:
		c.haunt(append([]byte(nil), rest...))
	default:
		<-c.closed
	}
	return ErrFault
}

// haunt has the connection live on for a moment without this end.
func (c *faultyConn) haunt(rest []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ghost || c.ghosts == nil {
		return
	}
	c.ghost = true
	c.ghosts.Go(func() {
		time.Sleep(c.late)
		_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.Conn.Write(rest)
		time.Sleep(c.late)
		_ = c.Conn.Close()
	})
}

func (c *faultyConn) Read(p []byte) (int, error) {
	if !c.OnRead {
		return c.Conn.Read(p)
	}
	n, broken := c.pass(len(p))
	if broken && n == 0 {
		return 0, c.fail(nil)
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
	if c.OnRead {
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
	if c.Kind == Silent {
		return len(p), nil
	}
	return n, c.fail(p[n:])
}

// Close lets whoever stands still in the connection go.
func (c *faultyConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ghost {
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return c.Conn.Close()
}
