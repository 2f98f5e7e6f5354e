package agent

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/sockerless/sockerless/tape"
)

const (
	// readSize is what one read of a process's output takes at most: what a pipe holds.
	readSize = 64 << 10
	// frameHeader is the header of Docker's stdcopy: stream, three zeros, length.
	frameHeader = 8
	// queueLimit is how many bytes wait for one attached client before the process has to.
	queueLimit = 1 << 20
	// cutPatience is how long the process waits for a client whose link is cut. It is longer than most cuts last.
	cutPatience = 90 * time.Second
	// othersPatience is how long it waits for one that does not read while another one does.
	othersPatience = 10 * time.Second
)

// output is what the container's process writes, on its way to the log tape, to the platform's log, and to the
// attached clients. A client that does not read holds the process up, as with dockerd, so that nothing is lost; but it
// does so neither when it is gone, nor for long when its link is cut or when it is not alone.
type output struct {
	tape *logTape
	tee  *tee

	mu      sync.Mutex // orders writes to the tape and joins, so that a replay has no seam
	clients []*attached
	raw     bool          // the process has a terminal
	over    chan struct{} // closed when the process has exited; what comes now is the rest
}

func newOutput(t *logTape, tee *tee) *output { return &output{tape: t, tee: tee} }

// begin prepares for a process.
func (o *output) begin(tty bool) {
	o.mu.Lock()
	o.raw, o.over = tty, make(chan struct{})
	o.mu.Unlock()
}

// write passes on what a process wrote. buf begins with frameHeader bytes of space for a header.
func (o *output) write(ctx context.Context, stream tape.Stream, buf []byte) {
	o.tape.room(ctx)
	data := buf[frameHeader:]

	o.mu.Lock()
	o.tape.write(stream, data, time.Now())
	clients, raw, over := o.clients, o.raw, o.over // join and leave copy it
	o.mu.Unlock()

	shared := append([]byte(nil), buf...) // for queues that outlive buf
	putHeader(shared, stream, len(data))
	o.tee.write(stream, shared[frameHeader:])
	if raw {
		shared = shared[frameHeader:]
	}
	var full []*attached
	for _, c := range clients {
		if c.wants(stream) && !c.push(shared, false) {
			full = append(full, c)
		}
	}
	for _, c := range full {
		o.wait(c, shared, over)
	}
}

// wait pushes to a client whose queue is full once it is not, or gives the client up.
func (o *output) wait(c *attached, b []byte, over <-chan struct{}) {
	const tick = time.Second
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var cut, idle time.Duration
	before := c.taken()
	for !c.push(b, false) {
		select {
		case <-c.space:
			cut = 0
		case <-c.gone:
			return
		case <-over:
			c.push(b, true) // the rest is what the pipes hold, no more
			return
		case <-ticker.C:
			if cut += tick; c.connected() {
				cut = 0
			}
			if now := c.taken(); now != before || !o.starves(c) {
				before, idle = now, 0
			} else {
				idle += tick
			}
			if cut >= cutPatience || idle >= othersPatience {
				c.abandon()
				return
			}
		}
	}
}

// starves says whether another client gets nothing while c is waited for. It may have come since.
func (o *output) starves(c *attached) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, other := range o.clients {
		if other != c && (other.stdout || other.stderr) && other.hasRoom() {
			return true
		}
	}
	return false
}

// missed is what a client that joins has missed so far.
type missed struct {
	records *logReader // nil: it does not want to know
	release func()     // to be called when they are read
	last    uint64     // the number of the last of them
	rest    [3][]byte  // the beginnings of lines whose end has not come
	raw     bool       // the process has a terminal
}

// join adds a client. With replay it is given what it has missed behind the record after, up to where its queue begins.
func (o *output) join(c *attached, replay bool, after uint64) (*missed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	m := &missed{raw: o.raw, release: func() {}}
	if replay {
		var err error
		if m.records, m.release, err = o.tape.rewind(after); err != nil {
			return nil, err
		}
		m.last, m.rest = o.tape.last(), o.tape.unfinished()
	}
	o.clients = append(o.clients[:len(o.clients):len(o.clients)], c)
	return m, nil
}

func (o *output) leave(c *attached) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var rest []*attached
	for _, other := range o.clients {
		if other != c {
			rest = append(rest, other)
		}
	}
	o.clients = rest
}

// exited says that the process has: nobody is waited for any more.
func (o *output) exited() {
	o.mu.Lock()
	close(o.over)
	o.mu.Unlock()
}

// finish ends the clients' streams behind what is queued for them.
func (o *output) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.clients {
		c.finish()
	}
	o.clients = nil
}

// attached is a client's queue. It is emptied by its session, without holding up anything else.
type attached struct {
	stdout, stderr bool
	connected      func() bool   // its link has a carrier
	space          chan struct{} // there is, or may be, again
	gone           chan struct{} // closed: the session is over

	mu       sync.Mutex
	ready    bell
	queue    [][]byte
	size     int
	count    uint64 // bytes taken
	finished bool   // no more will come
	lost     bool   // given up
	closed   bool
}

func newAttached(stdout, stderr bool, connected func() bool) *attached {
	return &attached{stdout: stdout, stderr: stderr, connected: connected, space: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (c *attached) wants(s tape.Stream) bool {
	return s == tape.Stdout && c.stdout || s == tape.Stderr && c.stderr
}

// push queues b, which nobody changes any more. It is false if the queue is full; force makes room.
func (c *attached) push(b []byte, force bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.finished {
		return true // nobody wants it
	}
	if !force && c.fullFor(len(b)) {
		return false
	}
	c.queue = append(c.queue, b)
	c.size += len(b)
	c.ready.ring()
	return true
}

// fullFor: c.mu is held.
func (c *attached) fullFor(n int) bool { return c.size > 0 && c.size+n > queueLimit }

// hasRoom says whether it waits for output, rather than the output for it.
func (c *attached) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && !c.finished && !c.fullFor(readSize)
}

// pop returns what is queued, at most about readSize bytes, waiting for it. It is empty at the end.
func (c *attached) pop(buf []byte) []byte {
	c.mu.Lock()
	for len(c.queue) == 0 && !c.finished && !c.closed {
		ready := c.ready.wait()
		c.mu.Unlock()
		select {
		case <-ready:
		case <-c.gone:
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.closed || len(c.queue) == 0 {
		return nil
	}
	n, b := 1, c.queue[0]
	for ; n < len(c.queue) && len(b)+len(c.queue[n]) <= cap(buf); n++ {
		if n == 1 {
			b = append(buf[:0], b...)
		}
		b = append(b, c.queue[n]...)
	}
	clear(c.queue[:n])
	c.queue = c.queue[n:]
	c.size -= len(b)
	c.count += uint64(len(b))
	select {
	case c.space <- struct{}{}:
	default:
	}
	return b
}

// took counts bytes that did not come from the queue.
func (c *attached) took(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count += uint64(n)
}

// taken is how far the client has come.
func (c *attached) taken() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

func (c *attached) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
	c.ready.ring()
}

// abandon ends the session with an error for its client, who has missed something.
func (c *attached) abandon() {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	c.close()
}

// close says that the session is over. It may be repeated.
func (c *attached) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed, c.queue = true, nil
		close(c.gone)
	}
}

func putHeader(b []byte, stream tape.Stream, n int) {
	b[0], b[1], b[2], b[3] = byte(stream), 0, 0, 0
	binary.BigEndian.PutUint32(b[4:], uint32(n))
}

func (c *attached) abandoned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}
