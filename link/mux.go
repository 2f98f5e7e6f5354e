package link

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// A peer that keeps sending this much for this long after Close gets a reset: nobody will ever read it.
	lingerBytes = firstWindow
	lingerTime  = time.Second

	// maxClosing is how many closed streams of a link wait for the peer to close its end too.
	maxClosing = 256

	// maxCredit is the largest window that a peer may open.
	maxCredit = 1 << 30

	// maxSaid is how much of messages without data, which never wait, a peer may leave unacknowledged beside the replay buffer.
	maxSaid = 1 << 20
)

// mux makes streams of a resumable stream, each with a window of its own. Who writes to a stream writes to the carrier, too,
// unless somebody is at that; one goroutine receives, and waits for nobody but the peer. The resumable's lock guards it all.
type mux struct {
	r      *resumable
	opt    Options
	budget *windowBudget

	streams  map[uint32]*Stream // by id, until both ends are closed or one has reset it; nil after the link's end
	next     uint32             // the id of the next stream that is opened here; the dialler's are odd
	heard    uint32             // the highest id that the peer has opened
	accept   []*Stream          // opened by the peer and not accepted yet
	opened   sync.Cond          // accept has grown, or the link has ended
	incoming int                // streams of the peer's that count for MaxStreams
	closing  []*Stream          // closed here while the peer still has them open, in that order
}

// newMux begins to receive. dialler says which end this is.
func newMux(r *resumable, opt Options, dialler bool, budget *windowBudget) *mux {
	m := &mux{r: r, opt: opt, budget: budget, streams: map[uint32]*Stream{}, next: 2}
	if dialler {
		m.next = 1
	}
	m.opened.L = &r.mu
	r.ended = m.end
	go m.receive() // ends with the link
	return m
}

// open opens a stream. It waits while the replay buffer is full.
func (m *mux) open(ctx context.Context) (*Stream, error) {
	r := m.r
	r.mu.Lock()
	defer r.mu.Unlock()
	turn := sync.Cond{L: &r.mu}
	defer r.leave(&turn)
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock() // not between the look at ctx and the wait
		defer r.mu.Unlock()
		turn.Broadcast()
	})
	defer stop()
	for {
		switch {
		case r.err != nil:
			return nil, r.err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case m.next > math.MaxUint32-2:
			r.finish(fmt.Errorf("%w: its streams' ids are used up", ErrLost))
			continue
		case !r.room(0):
			r.queue(&turn)
			turn.Wait()
			continue
		}
		s := m.add(m.next, false)
		m.next += 2
		m.say(messageOpen, s.id, 0)
		return s, nil
	}
}

// accepted returns the next stream that the peer has opened.
func (m *mux) accepted() (*Stream, error) {
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	for len(m.accept) == 0 && m.r.err == nil {
		m.opened.Wait()
	}
	if m.r.err != nil {
		return nil, m.r.err
	}
	s := m.accept[0]
	m.accept = slices.Delete(m.accept, 0, 1)
	return s, nil
}

// receive takes the peer's messages.
func (m *mux) receive() {
	for {
		if err := m.take(); err != nil {
			m.r.end(err)
			return
		}
	}
}

// take takes one message.
func (m *mux) take() error {
	var head [messageHeader]byte
	if err := m.r.readFull(head[:]); err != nil {
		return err
	}
	h, err := parseMessage(head)
	if err != nil {
		return err
	}
	if h.kind == messageData {
		return m.takeData(h.stream, int(h.value))
	}
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	if m.r.err != nil {
		return m.r.err // it has ended since the header came
	}
	if h.kind == messageOpen {
		return m.takeOpen(h.stream)
	}
	s, err := m.find(h.stream)
	if s == nil {
		return err
	}
	switch h.kind {
	case messageWindow:
		if int(h.value) > maxCredit-s.credit {
			return fmt.Errorf("%w: a window of %d bytes on top of %d", ErrBroken, h.value, s.credit)
		}
		s.credit += int(h.value)
		s.writable.Broadcast()
	case messageEnd:
		if s.endHeard {
			return fmt.Errorf("%w: a stream ended twice", ErrBroken)
		}
		s.endHeard = true
		s.settle()
		s.readable.Broadcast()
		if s.endSaid {
			m.remove(s)
		}
	case messageReset:
		s.fail(ErrReset)
		m.remove(s)
	}
	return nil
}

// find returns a stream that a message is for; nil without an error if it is over here and the peer may not know yet.
// r.mu is held.
func (m *mux) find(id uint32) (*Stream, error) {
	if s := m.streams[id]; s != nil {
		return s, nil
	}
	if id == 0 || m.ours(id) && id >= m.next || !m.ours(id) && id > m.heard {
		return nil, fmt.Errorf("%w: a message for stream %d, which nobody has opened", ErrBroken, id)
	}
	return nil, nil //nolint:nilnil // see above
}

// ours reports whether this end gives the id. r.mu is held.
func (m *mux) ours(id uint32) bool { return id%2 == m.next%2 }

// takeOpen takes a new stream of the peer's. r.mu is held.
func (m *mux) takeOpen(id uint32) error {
	if m.ours(id) || id <= m.heard {
		return fmt.Errorf("%w: stream %d opened once more, or by the wrong end", ErrBroken, id)
	}
	if m.opt.MaxStreams < 0 {
		return fmt.Errorf("%w: the peer opened a stream, and may open none", ErrBroken)
	}
	m.heard = id
	if m.incoming >= m.opt.MaxStreams {
		m.opt.Logger.Warn("stream refused: too many are open", "link", m.r.remote, "limit", m.opt.MaxStreams)
		m.say(messageReset, id, 0)
		return nil
	}
	s := m.add(id, true)
	m.incoming++
	m.accept = append(m.accept, s)
	m.opened.Signal()
	return nil
}

// takeData reads a data message's n bytes.
func (m *mux) takeData(id uint32, n int) error {
	seg := newSegment(n)
	if err := m.r.readFull(seg.buf[frameHeader : frameHeader+n]); err != nil {
		seg.free()
		return err
	}
	seg.n = n
	m.r.mu.Lock()
	defer m.r.mu.Unlock()
	s, err := m.find(id)
	if s == nil {
		seg.free()
		return err
	}
	if s.endHeard || !s.window.came(n) {
		seg.free()
		return fmt.Errorf("%w: a peer sent %d bytes more than a stream's window has", ErrBroken, -s.window.left)
	}
	if !s.closed {
		s.deliver(seg)
		return nil
	}
	seg.free()
	if s.dropped += n; s.dropped > lingerBytes && time.Since(s.closedAt) > lingerTime {
		m.reset(s)
		return nil
	}
	s.tell(n)
	return nil
}

// add makes a stream. r.mu is held.
func (m *mux) add(id uint32, accepted bool) *Stream {
	s := &Stream{m: m, id: id, accepted: accepted, credit: firstWindow}
	s.window = window{budget: m.budget, most: m.opt.MaxWindow, size: firstWindow, left: firstWindow}
	s.readable.L, s.writable.L = &m.r.mu, &m.r.mu
	m.streams[id] = s
	return s
}

// remove forgets a stream that is over for the link. r.mu is held.
func (m *mux) remove(s *Stream) {
	if m.streams[s.id] != s {
		return
	}
	delete(m.streams, s.id)
	s.settle()
	if s.closed {
		m.forget(s)
	}
}

// forget ends what a stream counts for, when it is closed and over. r.mu is held.
func (m *mux) forget(s *Stream) {
	if s.accepted {
		m.incoming--
	}
	if i := slices.Index(m.closing, s); i >= 0 {
		m.closing = slices.Delete(m.closing, i, i+1)
	}
}

// linger keeps a stream that is closed here until the peer has closed it, too, or goes on sending. One too many ends the oldest,
// whose data have had the longest time to arrive. r.mu is held.
func (m *mux) linger(s *Stream) {
	if m.closing = append(m.closing, s); len(m.closing) > maxClosing {
		m.reset(m.closing[0])
	}
}

// reset ends a stream both ways. r.mu is held.
func (m *mux) reset(s *Stream) {
	if m.streams[s.id] == s {
		m.say(messageReset, s.id, 0)
	}
	m.remove(s)
}

// say sends a message without data. It does not wait, so it may be called where messages are received. r.mu is held.
func (m *mux) say(kind messageKind, stream uint32, value int) {
	if m.r.out.cost > m.opt.ReplayBuffer+maxSaid {
		m.r.finish(fmt.Errorf("%w: the peer acknowledges nothing", ErrBroken))
		return
	}
	head := message{kind: kind, stream: stream, value: uint32(value)}.bytes()
	m.r.add(head[:], nil)
	m.r.kick()
}

// end lets everybody go: the link is over. r.mu is held.
func (m *mux) end() {
	m.opened.Broadcast()
	for _, s := range m.streams {
		s.fail(m.r.err)
		s.window.end()
	}
	m.streams, m.accept, m.closing = nil, nil, nil
}
