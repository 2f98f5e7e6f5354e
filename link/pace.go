package link

import (
	"net"
	"os"
	"sync"
	"time"
)

const (
	// maxAhead is how much bulk may lie in yamux's queue: a keystroke on another stream waits behind it. Without
	// a bound it is as much as the windows allow, which is 200 ms at 20 MB/s.
	maxAhead = 128 << 10

	// smallWrite and less never waits for the queue to shrink.
	smallWrite = 4 << 10

	// yamuxHeader is what each yamux message has before its data; it is all that a message without data has.
	yamuxHeader = 12
)

// pace keeps the queue between streams and carrier short. Bytes are counted when yamux has taken them, and
// not before, since a stream whose peer does not read stands still in yamux and must hold up nobody else.
type pace struct {
	mu      sync.Mutex
	changed sync.Cond
	ahead   int // bytes that yamux has taken and the resumable stream has not
	ended   bool
}

// wait returns when the queue is short, the link has ended, or s is closed or past its write deadline.
func (p *pace) wait(s *Stream) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.ahead >= maxAhead && !p.ended {
		closed, deadline := s.writeState()
		if closed {
			p.changed.Signal() // a wake-up that was perhaps another's
			return net.ErrClosed
		}
		if deadline.IsZero() {
			p.changed.Wait()
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			p.changed.Signal()
			return os.ErrDeadlineExceeded
		}
		wake := time.AfterFunc(left, p.wake)
		p.changed.Wait()
		wake.Stop()
	}
	return nil
}

// took counts n bytes that yamux has taken.
func (p *pace) took(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ahead += n; p.ahead < maxAhead {
		p.changed.Signal()
	}
}

// passed counts a yamux message that is out of the queue.
func (p *pace) passed(size int) {
	if size <= yamuxHeader {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ahead -= size - yamuxHeader
	switch {
	case p.ahead <= 0:
		// Those who were woken before may all stand still in yamux: nobody else would wake the rest.
		p.changed.Broadcast()
	case p.ahead < maxAhead:
		p.changed.Signal()
	}
}

// wake has every waiter look again.
func (p *pace) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}

// end lets everybody go.
func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.changed.Broadcast()
}
