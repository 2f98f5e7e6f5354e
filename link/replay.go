package link

import (
	"fmt"
	"sync"
)

// The payload that a segment can hold. A big one takes the largest message, in one frame; a small one keeps a single request
// or window update from costing a big one. Those between are for who copies in pieces of 4 to 64 KiB: the replay buffer counts
// what segments cost, and half-empty ones would halve the speed over a long way.
const (
	segmentBig   = maxMessage
	segmentSmall = 2048 - frameHeader
)

var segmentSizes = [...]int{
	segmentSmall, 4<<10 + messageHeader, 8<<10 + messageHeader, 16<<10 + messageHeader, 32<<10 + messageHeader,
	64<<10 + 64 + messageHeader, segmentBig,
}

// batchSize is how much one write to the carrier carries at most, so that one system call, one WebSocket frame and some full TLS
// records do for it: the largest message, or two of half the size and their company.
const batchSize = 192 << 10

// segment is a run of bytes: of what was sent, kept until it is acknowledged, or of what has come, kept until it is read.
// Its payload begins at buf[frameHeader], so that the frame to send is contiguous.
type segment struct {
	buf   []byte
	seq   uint64 // the number of the payload's first byte
	n     int    // the payload's length
	class int    // of its size
	skip  int    // payload bytes at the start that the peer has, after a resume in the middle, or that were read
	sent  bool   // sealed: later frames must not write their header over unacknowledged bytes
}

// segments has a pool for each size.
var segments [len(segmentSizes)]sync.Pool

// newSegment returns an empty segment for n bytes or the first of them.
func newSegment(n int) *segment {
	class := 0
	for class < len(segmentSizes)-1 && n > segmentSizes[class] {
		class++
	}
	if s, ok := segments[class].Get().(*segment); ok {
		return s
	}
	return &segment{buf: make([]byte, frameHeader+segmentSizes[class]), class: class}
}

func (s *segment) room() int { return len(s.buf) - frameHeader - s.n }

// payload is what is left of it.
func (s *segment) payload() []byte { return s.buf[frameHeader+s.skip : frameHeader+s.n] }

// append appends as much of p as there is room for.
func (s *segment) append(p []byte) int {
	n := copy(s.buf[frameHeader+s.n:], p)
	s.n += n
	return n
}

func (s *segment) end() uint64 { return s.seq + uint64(s.n) }

func (s *segment) free() {
	s.n, s.skip, s.sent = 0, 0, false
	segments[s.class].Put(s)
}

// replay keeps the sent bytes of a stream until the peer has acknowledged them. It is guarded by its resumable's lock.
type replay struct {
	segs   []*segment // in order; the first not acknowledged to the last appended
	unsent int        // index in segs of the first that was not handed out on this carrier
	cost   int        // bytes of memory that the segments hold
	next   uint64     // the number of the next byte appended
	handed uint64     // bytes below it were handed out by batch since the last rewind
	wrote  uint64     // bytes below it are no longer read by a write in progress
	acked  uint64     // bytes below it are delivered at the peer, by its word
	high   uint64     // the highest handed ever: what a peer can have received
}

// add appends a message's header and its data to the stream.
func (q *replay) add(head, data []byte) {
	for len(head)+len(data) > 0 {
		var tail *segment
		if n := len(q.segs); n > 0 && !q.segs[n-1].sent && q.segs[n-1].room() > 0 {
			tail = q.segs[n-1]
		} else {
			tail = newSegment(len(head) + len(data))
			tail.seq = q.next
			q.segs = append(q.segs, tail)
			q.cost += len(tail.buf)
		}
		before := tail.n
		head = head[tail.append(head):]
		data = data[tail.append(data):]
		q.next += uint64(tail.n - before)
	}
}

// waiting is how many bytes have not been handed out on this carrier.
func (q *replay) waiting() int { return int(q.next - q.handed) }

// batch appends to frames the next frames to send, with ack in their headers. They may be read until wroteAll.
func (q *replay) batch(frames [][]byte, ack uint64) [][]byte {
	for size := 0; q.unsent < len(q.segs); q.unsent++ {
		s := q.segs[q.unsent]
		if size+s.n > batchSize {
			break
		}
		s.sent = true
		// With skip > 0 the header lies over bytes that the peer has.
		b := s.buf[s.skip : frameHeader+s.n]
		frame{kind: frameData, length: uint32(s.n - s.skip), seq: s.seq + uint64(s.skip), ack: ack}.put(b)
		frames = append(frames, b)
		size += len(b)
		q.handed = s.end()
	}
	q.high = max(q.high, q.handed)
	return frames
}

// wroteAll says that no frame handed out is read any more.
func (q *replay) wroteAll() {
	q.wrote = q.handed
	q.release()
}

// ack takes the peer's word that it has all bytes below n.
func (q *replay) ack(n uint64) error {
	if n > q.handed {
		return fmt.Errorf("%w: the peer acknowledged byte %d of %d", errFrame, n, q.handed)
	}
	if n > q.acked {
		q.acked = n
		q.release()
	}
	return nil
}

// release frees the segments that are acknowledged and not being written. A peer may lie about
// what it has, so the end of the write counts and not its word alone.
func (q *replay) release() {
	to := min(q.acked, q.wrote)
	i := 0
	for i < len(q.segs) && q.segs[i].sent && q.segs[i].end() <= to {
		q.cost -= len(q.segs[i].buf)
		q.segs[i].free()
		q.segs[i] = nil
		i++
	}
	if i == 0 {
		return
	}
	q.unsent -= i
	// Moving the few pointers down keeps the backing array from creeping.
	q.segs = append(q.segs[:0], q.segs[i:]...)
	if len(q.segs) == 0 && cap(q.segs) > 64 {
		q.segs = nil
	}
}

// rewind makes everything from byte n on due again: the peer has what is below. It returns how many bytes are
// sent a second time. No write is in progress.
func (q *replay) rewind(n uint64) (again uint64, err error) {
	if n < q.acked || n > q.high {
		return 0, fmt.Errorf("%w: the peer resumes at byte %d, outside of %d to %d", errFrame, n, q.acked, q.high)
	}
	q.acked, q.wrote, q.handed = n, q.high, n
	q.release()
	q.unsent = 0
	q.wrote = n
	if len(q.segs) > 0 && q.segs[0].seq < n {
		q.segs[0].skip = int(n - q.segs[0].seq)
	}
	return q.high - n, nil
}
