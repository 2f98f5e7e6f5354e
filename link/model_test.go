package link_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/link/linktest"
)

// Whatever both ends do to their streams, and the network to the link: what is read is what was written, at its end all of it, and
// when everybody has closed, nothing is left. LINK_SEED repeats one run.
func TestUsers(t *testing.T) {
	t.Parallel()
	first, runs := linktest.Runs(40, 600)
	var ends, resets sync.Map
	t.Run("seed", func(t *testing.T) {
		for i := range runs {
			seed := first + uint64(i)
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				m := &users{t: t, seed: seed, ways: map[wayID]*way{}}
				m.run()
				for id, w := range m.ways {
					if w.ended {
						ends.Store([2]any{seed, id}, true)
					}
					if w.reset {
						resets.Store([2]any{seed, id}, true)
					}
				}
			})
		}
	})
	if runs >= 20 && (size(&ends) < runs || size(&resets) < runs) {
		t.Errorf("%d ways were read to their end, %d were reset, in %d runs: the test is about nothing", size(&ends), size(&resets), runs)
	}
}

func size(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

// users are those of both ends of a link.
type users struct {
	t     *testing.T
	seed  uint64
	short bool // the link ends before they do
	all   sync.WaitGroup

	mu   sync.Mutex
	ways map[wayID]*way
}

// wayID is one way of a stream.
type wayID struct {
	stream uint32
	out    bool // from who opened it
}

// way is what has passed there, by the word of its ends.
type way struct {
	wrote, read  int
	ended, reset bool // as its reader has seen it
}

// most is how much is written on one way.
const most = 1 << 20

// anything is what is written: each way begins somewhere else in it.
var anything = sync.OnceValue(func() []byte { return linktest.NewSource(1, 4*most, 1).Bytes() })

func (id wayID) bytes(from, n int) []byte {
	begin := int(id.stream) * 4099 % most
	if id.out {
		begin += most
	}
	return anything()[begin+from : begin+from+n]
}

func (m *users) run() {
	rng := rand.New(rand.NewPCG(m.seed, 5))
	f := linktest.NewFaults(m.seed)
	delay := time.Duration(rng.IntN(20)) * time.Millisecond
	wrap := func(conn net.Conn) net.Conn { return f.Wrap(newFarConn(conn, delay, 0)) }
	opt := link.Options{MaxStreams: 4 + rng.IntN(40), WindowBudget: 1 + rng.IntN(4<<20), ReplayBuffer: 1 + rng.IntN(4<<20)}
	m.short = rng.IntN(4) == 0
	inMemory(m.t, opt, wrap, func(_ *testing.T, _ *linktest.Network, _ *link.Hub, agent, backend *link.Link) {
		defer f.Stop()
		defer recut(rng, agent, backend)()
		var opening, accepting sync.WaitGroup
		for i, l := range []*link.Link{agent, backend} {
			accepting.Go(func() {
				for rng := rand.New(rand.NewPCG(m.seed, uint64(10+i))); ; {
					s, err := l.Accept()
					if err != nil {
						return
					}
					m.use(s.(*link.Stream), false, rng.Uint64())
				}
			})
			opening.Go(func() { m.open(l, rand.New(rand.NewPCG(m.seed, uint64(20+i)))) })
		}
		if m.short {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
			_ = []*link.Link{agent, backend}[rng.IntN(2)].Close()
		}
		opening.Wait()
		time.Sleep(10 * time.Minute) // everything is accepted
		m.all.Wait()
		time.Sleep(10 * time.Minute) // and what was said last has arrived
		synctest.Wait()
		if m.short != (agent.Err() != nil) || m.short != (backend.Err() != nil) {
			m.errorf("the link's ends have ended: %v, %v", agent.Err(), backend.Err())
		}
		for _, l := range []*link.Link{agent, backend} {
			if left := l.Left(); left != "" {
				m.errorf("%s has left %s", l.Addr(), left)
			}
		}
		_ = agent.Close()
		_ = backend.Close()
		accepting.Wait()
		for id, w := range m.ways {
			if w.ended && w.read != w.wrote {
				m.errorf("stream %d, out %t: %d bytes were read to the end, %d written", id.stream, id.out, w.read, w.wrote)
			}
		}
	})
}

func (m *users) errorf(format string, args ...any) {
	m.t.Errorf("LINK_SEED=%d: "+format, append([]any{m.seed}, args...)...)
}

// open opens some streams.
func (m *users) open(l *link.Link, rng *rand.Rand) {
	for range 3 + rng.IntN(20) {
		pause(rng, 20)
		patience := time.Hour
		if rng.IntN(3) == 0 {
			patience = time.Duration(rng.IntN(10)) * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		s, err := l.Open(ctx)
		cancel()
		if err == nil {
			m.use(s.(*link.Stream), true, rng.Uint64())
		} else if l.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			m.errorf("open: %v", err)
		}
	}
}

func pause(rng *rand.Rand, most int) { time.Sleep(time.Duration(rng.IntN(most)) * time.Millisecond) }

// user is one end of a stream.
type user struct {
	*users
	s *link.Stream
}

// use has a stream written, read and meddled with, each in a goroutine of its own, and closed at last.
func (m *users) use(s *link.Stream, out bool, seed uint64) {
	u := user{m, s}
	fate := rand.New(rand.NewPCG(seed, 1))
	var busy sync.WaitGroup
	busy.Go(func() { u.write(wayID{s.Number(), out}, rand.New(rand.NewPCG(seed, 2))) })
	busy.Go(func() { u.read(wayID{s.Number(), !out}, rand.New(rand.NewPCG(seed, 3))) })
	m.all.Go(func() {
		calm := make(chan struct{})
		go func() { busy.Wait(); close(calm) }() // ends with both
		patience := 10 * time.Second
		if fate.IntN(2) == 0 {
			patience = time.Duration(fate.IntN(200)) * time.Millisecond
		}
		late := time.After(patience)
		for waiting := true; waiting; {
			select {
			case <-calm:
				waiting = false
			case <-late:
				waiting = false
			case <-time.After(time.Duration(1+fate.IntN(50)) * time.Millisecond):
				u.meddle(fate)
			}
		}
		if fate.IntN(4) == 0 {
			_ = s.Reset()
		}
		if err := s.Close(); err != nil {
			m.errorf("close: %v", err)
		}
		<-calm
	})
}

// meddle sets deadlines.
func (u user) meddle(rng *rand.Rand) {
	set := []func(time.Time) error{u.s.SetDeadline, u.s.SetReadDeadline, u.s.SetWriteDeadline}[rng.IntN(3)]
	_ = set([]time.Time{{}, time.Unix(1, 0), time.Now().Add(time.Duration(rng.IntN(20)) * time.Millisecond)}[rng.IntN(3)])
}

// goesOn reports whether the stream does after err, and says what err should not be.
func (u user) goesOn(what string, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		_ = u.s.SetDeadline(time.Time{})
		return true
	case u.short && (errors.Is(err, link.ErrLost) || errors.Is(err, link.ErrUnknownLink)):
	case !errors.Is(err, link.ErrReset) && !errors.Is(err, net.ErrClosed):
		u.errorf("stream %d: %s: %v", u.s.Number(), what, err)
	}
	return false
}

// way changes what is known of a way.
func (m *users) way(id wayID, change func(*way)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ways[id] == nil {
		m.ways[id] = &way{}
	}
	change(m.ways[id])
}

// write writes some, and ends that or does not.
func (u user) write(id wayID, rng *rand.Rand) {
	total := 0
	for range rng.IntN(12) {
		b := id.bytes(total, min(most-total, []int{0, 1 + rng.IntN(100), 1 + rng.IntN(5000), 1 + rng.IntN(300<<10)}[rng.IntN(4)]))
		var n int
		var err error
		if rng.IntN(2) == 0 {
			n, err = u.s.Write(b)
		} else {
			// What ReadFrom took of its source and could not write is its source's loss.
			src := bytes.NewReader(b)
			var n64 int64
			n64, err = u.s.ReadFrom(src)
			n = int(n64)
		}
		if n > len(b) || err == nil && n < len(b) {
			u.errorf("stream %d: wrote %d of %d bytes, %v", id.stream, n, len(b), err)
		}
		total += n
		u.way(id, func(w *way) { w.wrote = total })
		if !u.goesOn("write", err) {
			return
		}
		if rng.IntN(4) == 0 {
			pause(rng, 30)
		}
	}
	switch rng.IntN(5) {
	case 0:
	case 1:
		_ = u.s.Close()
	default:
		u.goesOn("close write", u.s.CloseWrite())
	}
}

// errSink is what a sink says when it takes no more.
var errSink = errors.New("no more")

// sink checks what is read of a way; it takes left bytes of it.
type sink struct {
	user
	id   wayID
	left int
}

func (k *sink) Write(b []byte) (n int, err error) {
	if n = min(len(b), k.left); n < len(b) {
		err = errSink
	}
	k.left -= n
	k.way(k.id, func(w *way) {
		if w.read+n > most || !bytes.Equal(b[:n], k.id.bytes(w.read, n)) {
			k.errorf("stream %d, out %t: from byte %d on other bytes came than were sent", k.id.stream, k.id.out, w.read)
		}
		w.read += n
	})
	return n, err
}

// read reads until the end, or less.
func (u user) read(id wayID, rng *rand.Rand) {
	b := make([]byte, 1+rng.IntN(200<<10))
	for range 500 {
		if rng.IntN(20) == 0 {
			pause(rng, 60)
		}
		k := &sink{user: u, id: id, left: len(b)}
		var err error
		if rng.IntN(2) == 0 {
			var n int
			n, err = u.s.Read(b)
			_, _ = k.Write(b[:n])
		} else if _, err = u.s.WriteTo(k); err == nil {
			err = io.EOF
		} else if errors.Is(err, errSink) {
			err = nil
		}
		if err == io.EOF {
			u.way(id, func(w *way) { w.ended = true })
			return
		}
		if !u.goesOn("read", err) {
			u.way(id, func(w *way) { w.reset = errors.Is(err, link.ErrReset) })
			return
		}
		if rng.IntN(100) == 0 {
			return
		}
	}
}
