package link

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	ackBytes  = 512 << 10              // so many received bytes are acknowledged at once,
	ackFrames = 256                    // or so many frames,
	ackDelay  = 200 * time.Millisecond // or what has come after this time.

	// maxWaiting is how much may be ahead of the carrier before a write waits: a keystroke waits behind it. Small writes, of
	// which it may be one, wait only at twice that.
	maxWaiting = 128 << 10
	smallWrite = 4 << 10

	// firstTrips is how many pings a carrier begins with, one after the other, to learn the round trip. While much is received
	// it is measured again, every tripPause.
	firstTrips = 4
	tripPause  = 10 * time.Millisecond

	// byeTimeout bounds a goodbye: the peer that has not heard it by then finds out by itself.
	byeTimeout = 2 * time.Second
)

// resumable is the byte stream that goes on over one carrier after another. One goroutine reads, the mux's; one at a time
// writes to the carrier, whichever finds something due.
type resumable struct {
	opt    Options
	log    *slog.Logger
	local  net.Addr
	remote net.Addr
	done   chan struct{} // closed when the stream has ended
	ended  func()        // called then, with mu held

	mu       sync.Mutex
	changed  sync.Cond    // carrier, reading, flushing or err
	writers  []*sync.Cond // those who wait for room, in turn
	carrier  *carrier     // nil while cut
	reading  bool         // readFull is inside the carrier, perhaps an old one
	flushing bool         // some goroutine is inside flush
	out      replay
	pieces   [][]byte // flush's own
	control  []byte   // flush's own
	received uint64   // bytes delivered
	told     uint64   // received, as the peer was last told
	frames   int      // data frames since then
	ackArmed bool     // the ack timer runs
	ackDue   bool
	pingDue  bool
	pongDue  bool
	byeDue   bool
	byeSent  bool
	byeHeard bool
	heard    time.Time // when the last byte came
	pinged   time.Time // when the last ping was sent
	writing  time.Time // when the write to the carrier began that is in progress; zero if none is
	err      error     // why it ended
	stats    Stats

	asking   bool          // a ping has not been answered
	trips    int           // how many of the carrier's first pings are to follow
	shortest time.Duration // round trip on this carrier

	ackTimer   *time.Timer
	aliveTimer *time.Timer
	lostTimer  *time.Timer   // runs while cut
	cut        chan struct{} // gets a token at each cut, for the end that dials
}

var (
	errReplaced = errors.New("replaced by a newer connection")
	errSilent   = errors.New("nothing heard after a ping")
	errStuck    = errors.New("it takes nothing any more")
	errCut      = errors.New("cut on demand")
)

func newResumable(opt Options, local, remote net.Addr) *resumable {
	r := &resumable{
		opt: opt, log: opt.Logger, local: local, remote: remote,
		done: make(chan struct{}), cut: make(chan struct{}, 1), ended: func() {},
	}
	r.changed.L = &r.mu
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ackTimer = stopped(r.ackLate)
	r.lostTimer = stopped(r.lost)
	r.aliveTimer = time.AfterFunc(opt.KeepAlive/2, r.alive)
	return r
}

// stopped returns a timer that runs f after a Reset.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// readFull fills p with the peer's bytes. It waits through cuts and returns err after the end.
func (r *resumable) readFull(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		for r.carrier == nil && r.err == nil {
			r.changed.Wait()
		}
		if r.err != nil {
			return r.err
		}
		c := r.carrier
		r.reading = true
		r.mu.Unlock()
		n, f, err := c.next(p)
		r.mu.Lock()
		r.reading = false
		if r.carrier != c {
			// Somebody waits for what this carrier still delivered.
			r.changed.Broadcast()
		}
		if n > 0 {
			r.took(n)
			p = p[n:]
		} else if err == nil {
			err = r.handle(c, f)
		}
		if err != nil {
			r.lose(c, err)
		}
	}
	return nil
}

// took counts n delivered bytes. r.mu is held.
func (r *resumable) took(n int) {
	r.received += uint64(n)
	r.stats.BytesIn += uint64(n)
	r.heard = time.Now()
	if r.received-r.told >= ackBytes {
		r.ackDue = true
		r.kick()
	} else if !r.ackArmed {
		r.ackArmed = true
		r.ackTimer.Reset(ackDelay)
	}
}

// handle takes a frame's header. r.mu is held.
func (r *resumable) handle(c *carrier, f frame) error {
	r.heard = time.Now()
	if r.carrier != c {
		// What an old carrier says besides bytes is of no use: the handshake of the new one says it again.
		return nil
	}
	if r.byeHeard {
		return errFrame // a bye is the last
	}
	if err := r.out.ack(f.ack); err != nil {
		return err
	}
	r.admit()
	switch f.kind {
	case frameData:
		if f.seq != r.received {
			return errFrame
		}
		c.left = f.length
		if r.frames++; r.frames >= ackFrames {
			r.ackDue = true
			r.kick()
		}
	case framePing:
		r.pongDue = true
		r.kick()
	case framePong:
		r.measured()
	case frameBye:
		r.byeHeard = true
		if r.byeSent {
			r.finish(ErrClosed)
			return nil
		}
		r.byeDue = true
		r.kick()
	}
	return nil
}

// measured takes the answer to a ping. r.mu is held.
func (r *resumable) measured() {
	if !r.asking {
		return
	}
	r.asking = false
	if trip := r.heard.Sub(r.pinged); r.shortest == 0 || trip < r.shortest {
		r.shortest = trip
	}
	if r.trips > 0 {
		r.trips--
		r.ask()
	}
}

// measure has the round trip measured, if that was not done just now. r.mu is held.
func (r *resumable) measure() {
	if !r.asking && time.Since(r.pinged) > tripPause {
		r.ask()
	}
}

// ask sends a ping. r.mu is held.
func (r *resumable) ask() {
	r.pingDue, r.asking, r.pinged = true, true, time.Now()
	r.kick()
}

// roundTrip is what a byte takes to the peer and back, and zero until that is known: the shortest that was seen, for the others
// have met what was on its way, and windows that grew by those would make them longer. r.mu is held.
func (r *resumable) roundTrip() time.Duration {
	if r.trips > 0 {
		return 0
	}
	return r.shortest
}

// add appends a message's header and its data to the stream, for push or kick to send. r.mu is held.
func (r *resumable) add(head, data []byte) {
	if r.err != nil {
		return // nobody takes it any more
	}
	r.out.add(head, data)
	r.stats.BytesOut += uint64(len(head) + len(data))
}

// room reports whether a write of n bytes may go on: not while too much is unacknowledged or ahead of the carrier, nor ahead of
// a goodbye, which is the last. r.mu is held.
func (r *resumable) room(n int) bool {
	ahead := maxWaiting
	if n <= smallWrite {
		ahead = 2 * maxWaiting
	}
	return !r.byeDue && r.out.cost < r.opt.ReplayBuffer && r.out.waiting() < ahead
}

// queue has writer woken when it is its turn and there is room. r.mu is held.
func (r *resumable) queue(writer *sync.Cond) {
	if !slices.Contains(r.writers, writer) {
		r.writers = append(r.writers, writer)
	}
}

// leave takes a writer that waits no longer out of the queue: it is the next one's turn. r.mu is held.
func (r *resumable) leave(writer *sync.Cond) {
	if i := slices.Index(r.writers, writer); i >= 0 {
		r.writers = slices.Delete(r.writers, i, i+1)
	}
	r.admit()
}

// admit wakes the writer whose turn it is if there is room. r.mu is held.
func (r *resumable) admit() {
	if len(r.writers) > 0 && r.room(maxPiece) {
		r.writers[0].Broadcast()
	}
}

// push has what is due written, if no other goroutine is at that: one batch by the caller, which may wait for the carrier
// therefore, and the rest by a goroutine of its own. r.mu is held, but not while writing.
func (r *resumable) push() {
	if r.carrier == nil || r.flushing {
		return
	}
	r.flushing = true
	c := r.carrier
	if !r.send(c) {
		return
	}
	go r.flush(c) // ends when nothing is due or the carrier is lost
}

// kick has what is due written by a goroutine of its own, if none is at it: where messages are received nobody must write, or
// two ends that both have much to send stop each other. r.mu is held.
func (r *resumable) kick() {
	if r.carrier == nil || r.flushing {
		return
	}
	r.flushing = true
	go r.flush(r.carrier) // ends when nothing is due or the carrier is lost
}

// flush writes what is due until nothing is. The caller has set r.flushing.
func (r *resumable) flush(c *carrier) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.send(c) {
	}
}

// send writes a batch of what is due, and reports whether there may be more. If not, it has ended r.flushing, which the caller
// has set. r.mu is held, but not while writing.
func (r *resumable) send(c *carrier) (more bool) {
	if r.carrier == c {
		if pieces := r.due(); len(pieces) > 0 {
			r.admit()
			r.writing = time.Now()
			r.mu.Unlock()
			err := c.send(pieces)
			r.mu.Lock()
			r.writing = time.Time{}
			clear(pieces)
			if err == nil {
				r.sent()
			} else {
				r.lose(c, err)
			}
			more = r.carrier == c && r.anyDue()
		}
	}
	if !more {
		r.flushing = false
		r.changed.Broadcast()
	}
	return more
}

// sent notes that what was handed out is written. r.mu is held.
func (r *resumable) sent() {
	r.out.wroteAll()
	r.admit()
	if r.byeSent && r.byeHeard {
		r.finish(ErrClosed)
	}
}

// anyDue reports whether due has something. r.mu is held.
func (r *resumable) anyDue() bool {
	return !r.byeSent && (r.out.waiting() > 0 || r.pingDue || r.pongDue || r.ackDue || r.byeDue)
}

// due gathers the next batch. r.mu is held.
func (r *resumable) due() [][]byte {
	r.control = r.control[:0]
	if r.byeSent {
		return nil
	}
	if r.pingDue {
		r.say(framePing)
	}
	if r.pongDue {
		r.say(framePong)
	}
	// The first place is for control frames: they are small, and what they say is more urgent than data.
	r.pieces = r.out.batch(append(r.pieces[:0], nil), r.received)
	if r.byeDue && r.out.waiting() == 0 && len(r.pieces) == 1 {
		r.say(frameBye)
		r.byeSent = true
	}
	if r.ackDue && len(r.pieces) == 1 && len(r.control) == 0 {
		r.say(frameAck)
	}
	r.pingDue, r.pongDue = false, false
	pieces := r.pieces
	if len(r.control) > 0 {
		pieces[0] = r.control
	} else {
		pieces = pieces[1:]
	}
	if len(pieces) > 0 {
		r.told, r.frames, r.ackDue = r.received, 0, false
	}
	return pieces
}

// say appends a frame without payload to what goes out next. r.mu is held.
func (r *resumable) say(kind frameType) {
	n := len(r.control)
	r.control = append(r.control, make([]byte, frameHeader)...)
	frame{kind: kind, seq: r.out.next, ack: r.received}.put(r.control[n:])
}

// ackLate acknowledges what has come since the last acknowledgement.
func (r *resumable) ackLate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ackArmed = false
	if r.err == nil && r.told < r.received {
		r.ackDue = true
		r.kick()
	}
}

// alive pings a silent carrier and cuts one that does not answer, or that takes nothing: a peer may go on talking and read
// nothing, and who is inside the carrier waits for it.
func (r *resumable) alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	defer r.aliveTimer.Reset(r.opt.KeepAlive / 2)
	if r.carrier == nil {
		return
	}
	now := time.Now()
	asked := r.pinged.After(r.heard)
	switch {
	case !r.writing.IsZero() && now.Sub(r.writing) >= r.opt.KeepAlive:
		r.lose(r.carrier, errStuck)
	case asked && now.Sub(r.pinged) >= r.opt.KeepAlive:
		r.lose(r.carrier, errSilent)
	case !asked && now.Sub(r.heard) >= r.opt.KeepAlive/2:
		r.ask()
	}
}

// lose ends the carrier c after err; the stream waits for another one. r.mu is held.
func (r *resumable) lose(c *carrier, err error) {
	if r.carrier != c || r.err != nil {
		return
	}
	c.close()
	r.carrier = nil
	r.changed.Broadcast()
	if r.byeDue || r.byeSent || r.byeHeard {
		r.finish(ErrClosed)
		return
	}
	r.log.Debug("link cut", "peer", r.remote, "reason", err)
	r.lostTimer.Reset(r.opt.ResumeWindow)
	select {
	case r.cut <- struct{}{}:
	default:
	}
}

// lost ends a stream that nobody has resumed in time.
func (r *resumable) lost() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.carrier == nil {
		r.finish(ErrLost)
	}
}

// detach ends the present carrier, waits until what was read from it is delivered, and returns how much that is.
func (r *resumable) detach() (received uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.carrier != nil {
		r.lose(r.carrier, errReplaced)
	}
	for (r.reading || r.flushing) && r.err == nil {
		r.changed.Wait()
	}
	return r.received, r.err
}

// attach goes on over c with a peer that has the first has bytes. There is no carrier: detach came before.
func (r *resumable) attach(c *carrier, has uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	again, err := r.out.rewind(has)
	if err != nil {
		r.finish(err)
		return err
	}
	c.ready()
	r.carrier = c
	r.told, r.frames, r.ackDue = r.received, 0, false
	r.pongDue = false
	r.heard = time.Now()
	r.trips, r.shortest = firstTrips-1, 0
	r.lostTimer.Stop()
	select {
	case <-r.cut: // of the carrier before
	default:
	}
	r.stats.Replayed += again
	r.stats.Carriers++
	r.changed.Broadcast()
	r.ask()
	return nil
}

// progress grows whenever a byte has come or has arrived at the peer.
func (r *resumable) progress() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received + r.out.acked
}

// goodbye tells the peer that the link is closed and waits until it has heard it, or for byeTimeout.
func (r *resumable) goodbye() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.carrier == nil {
		r.finish(ErrClosed)
		return
	}
	r.byeDue = true
	r.kick()
	late := time.AfterFunc(byeTimeout, func() { r.end(ErrClosed) })
	defer late.Stop()
	for r.err == nil {
		r.changed.Wait()
	}
}

// end ends the stream; err says why.
func (r *resumable) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finish(err)
}

// finish is end; r.mu is held.
func (r *resumable) finish(err error) {
	if r.err != nil {
		return
	}
	r.err = err
	if r.carrier != nil {
		r.carrier.close()
		r.carrier = nil
	}
	r.ackTimer.Stop()
	r.aliveTimer.Stop()
	r.lostTimer.Stop()
	r.out = replay{}
	r.ended()
	for _, w := range r.writers {
		w.Broadcast()
	}
	r.changed.Broadcast()
	close(r.done)
}
