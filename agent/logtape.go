package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

const (
	// maxLine is how much of a line one record holds; the json-file driver of dockerd splits at the same place.
	maxLine = 16 << 10
	// segmentSize is what is kept, spooled and dropped at a time.
	segmentSize = 256 << 10
	// memorySegments are kept in memory, older ones in the spool.
	memorySegments = 4
	// defaultLogLimit bounds the spool.
	defaultLogLimit = 64 << 20
	// stallPatience is how long a full tape waits for a backend that is there and makes no progress.
	stallPatience = 10 * time.Second

	entryHeader = 4 + 8 + 1 + 1 // length, time in ns, stream, flags

	entryPartial = 1 << 0
	entryLater   = 1 << 1
)

// logTape numbers what the container writes and keeps it until it is acknowledged: first in memory, then in a bounded
// spool, and then it drops the oldest. While a backend reads, it waits before it drops.
type logTape struct {
	mu       sync.Mutex
	changed  bell       // there are more records
	freed    bell       // there is room
	segments []*segment // oldest first; the last one grows
	next     uint64     // the number of the next record
	lines    [3]line    // by stream: the one that has begun
	spool    *spool
	readers  map[*logReader]struct{} // that follow
	rewound  map[*logReader]uint64   // that are read again, and from where: acknowledged records are kept for them
	acked    uint64
	stored   uint64    // records up to this number are dropped because they were acknowledged
	progress time.Time // of the readers or acknowledgements
}

// line is a line whose end has not come.
type line struct {
	rest  []byte    // what is in no record yet, less than maxLine bytes
	begun bool      // a piece of it is in a record
	time  time.Time // of that
}

// segment holds consecutive records. data is only ever appended to, within its capacity, so slices of it stay valid.
type segment struct {
	first, last uint64
	data        []byte // nil once it is in the spool
	size        int
	slot        int // in the spool
	pins        int // reads of the slot in progress
	dropped     bool
}

func newLogTape(dir string) *logTape {
	return &logTape{next: 1, spool: newSpool(dir), readers: map[*logReader]struct{}{}, rewound: map[*logReader]uint64{}}
}

// setLimit bounds the spool, in bytes; 0 is the default.
func (t *logTape) setLimit(n int64) {
	if n <= 0 {
		n = defaultLogLimit
	}
	t.mu.Lock()
	t.spool.slots = int(n / segmentSize)
	t.mu.Unlock()
}

// room waits while the tape is full, as long as there is a backend that empties it. ctx ends the wait.
func (t *logTape) room(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.segments) >= memorySegments+t.spool.capacity() && t.emptied() {
		freed := t.freed.wait()
		t.mu.Unlock()
		select {
		case <-freed:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		t.mu.Lock()
		if ctx.Err() != nil {
			return
		}
	}
}

// emptied reports whether a connected backend makes progress. t.mu is held.
func (t *logTape) emptied() bool {
	if time.Since(t.progress) > stallPatience {
		return false
	}
	for r := range t.readers {
		if r.connected() {
			return true
		}
	}
	return false
}

// write splits what a process has written into records, at the same places as dockerd. It does not keep chunk.
func (t *logTape) write(stream tape.Stream, chunk []byte, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.next
	rest := t.lines[stream].rest
	for len(chunk) > 0 {
		space := maxLine - len(rest)
		end := bytes.IndexByte(chunk[:min(len(chunk), space)], '\n')
		if end < 0 && len(chunk) < space {
			rest = append(rest, chunk...)
			break
		}
		n := space
		if end >= 0 {
			n = end + 1
		}
		data := chunk[:n]
		chunk = chunk[n:]
		if len(rest) > 0 {
			data = append(rest, data...)
			rest = data[:0]
		}
		t.add(stream, data, now, end < 0)
	}
	t.lines[stream].rest = rest
	if t.next != before {
		t.changed.ring()
	}
}

// flush ends the lines that have no end: the streams are over.
func (t *logTape) flush(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for stream := range t.lines {
		if rest := t.lines[stream].rest; len(rest) > 0 {
			t.add(tape.Stream(stream), rest, now, false)
		}
		t.lines[stream] = line{}
	}
	t.changed.ring()
}

// add appends one record. t.mu is held.
func (t *logTape) add(stream tape.Stream, data []byte, now time.Time, partial bool) {
	l := &t.lines[stream]
	var head [entryHeader]byte
	if l.begun {
		now, head[13] = l.time, entryLater
	}
	if l.begun = partial; partial {
		l.time = now
		head[13] |= entryPartial
	}
	s := t.tail(entryHeader + len(data))
	binary.BigEndian.PutUint32(head[:], uint32(len(data)))
	binary.BigEndian.PutUint64(head[4:], uint64(now.UnixNano()))
	head[12] = byte(stream)
	s.data = append(append(s.data, head[:]...), data...)
	s.size = len(s.data)
	s.last = t.next
	t.next++
}

// tail returns the segment that has room for size bytes. t.mu is held.
func (t *logTape) tail(size int) *segment {
	if n := len(t.segments); n > 0 {
		if s := t.segments[n-1]; s.data != nil && len(s.data)+size <= cap(s.data) {
			return s
		}
	}
	s := &segment{first: t.next, last: t.next - 1, data: make([]byte, 0, segmentSize), slot: -1}
	t.segments = append(t.segments, s)
	t.settle()
	return s
}

// settle moves old segments to the spool, and drops the oldest where that is full. t.mu is held.
func (t *logTape) settle() {
	for i := range len(t.segments) - memorySegments {
		s := t.segments[i]
		if s.data == nil {
			continue
		}
		slot, ok := t.spool.put(s.data)
		if !ok && len(t.segments) <= t.spool.capacity()+2*memorySegments && t.emptied() {
			return // the disk has just turned out to be full: room holds the process up
		}
		if !ok {
			// Full, or the disk is: what is oldest goes.
			t.drop(0)
			t.settle()
			return
		}
		s.slot, s.data = slot, nil
	}
}

// drop forgets a segment. t.mu is held.
func (t *logTape) drop(i int) {
	s := t.segments[i]
	t.segments = slices.Delete(t.segments, i, i+1)
	s.dropped = true
	t.release(s)
}

// release gives a dropped segment's slot back once nobody reads it. t.mu is held.
func (t *logTape) release(s *segment) {
	if s.dropped && s.pins == 0 && s.slot >= 0 {
		t.spool.free(s.slot)
		s.slot = -1
	}
}

// ack forgets the records up to a number.
func (t *logTape) ack(seq uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = time.Now()
	t.acked = max(t.acked, min(seq, t.next-1))
	t.forget()
}

// forget drops what is acknowledged and not read again. t.mu is held.
func (t *logTape) forget() {
	seq := t.acked
	for _, after := range t.rewound {
		seq = min(seq, after)
	}
	for len(t.segments) > 0 {
		s := t.segments[0]
		// The segment that still grows is kept until it is worth giving up its memory.
		if s.last > seq || len(t.segments) == 1 && len(s.data) < segmentSize/2 {
			break
		}
		t.stored = s.last
		t.drop(0)
	}
	t.freed.ring()
}

// rewind returns a place behind a record, from which all that is kept is kept until it is read or release is called.
// If records behind it are gone because they were acknowledged, whoever has them is to be asked: CodeGone.
func (t *logTape) rewind(after uint64) (r *logReader, release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if after < t.stored {
		return nil, nil, wire.Errorf(protocol.CodeGone, "the records up to %d are acknowledged and dropped", t.stored)
	}
	r = &logReader{t: t, after: after}
	t.rewound[r] = after
	return r, func() {
		t.mu.Lock()
		delete(t.rewound, r)
		t.forget()
		t.mu.Unlock()
	}, nil
}

// last is the number of the last record.
func (t *logTape) last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next - 1
}

// unfinished returns copies of the beginnings of lines whose end has not come, by stream.
func (t *logTape) unfinished() (rest [3][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, l := range t.lines {
		rest[i] = bytes.Clone(l.rest)
	}
	return rest
}

// read yields the records after a number. With follow it goes on until ctx or over is done, and ends with the last
// record there is then. Dropped records are told by a Gap record. Data is valid until the next record is asked for.
// While connected says so, the tape waits for this reader before it drops.
func (t *logTape) read(ctx context.Context, after uint64, follow bool, over <-chan struct{}, connected func() bool) iter.Seq2[tape.Record, error] {
	return func(yield func(tape.Record, error) bool) {
		r := &logReader{t: t, after: after, connected: connected}
		if follow {
			t.mu.Lock()
			t.readers[r] = struct{}{}
			t.progress = time.Now()
			t.mu.Unlock()
			defer func() {
				t.mu.Lock()
				delete(t.readers, r)
				t.mu.Unlock()
			}()
		}
		ending := false
		for {
			more, ok := r.each(func(rec tape.Record) bool { return yield(rec, nil) })
			if !ok {
				return
			}
			switch {
			case more == nil:
				continue
			case !follow || ending:
				return
			}
			select {
			case <-more:
			case <-over:
				ending = true
			case <-ctx.Done():
				return
			}
		}
	}
}

// logReader is a place on the tape.
type logReader struct {
	t         *logTape
	after     uint64
	connected func() bool

	segment *segment // that after is in, or nil
	offset  int      // behind after's record
}

// each hands out the records that are at hand. If there were none, more is closed when there are. ok is false if yield was.
func (r *logReader) each(yield func(tape.Record) bool) (more <-chan struct{}, ok bool) {
	before := r.after
	batch, gap, more := r.next()
	if gap > 0 {
		if !yield(tape.Record{Seq: r.after, Time: time.Now(), Stream: tape.Gap, Data: r.t.missing(before, gap)}) {
			return nil, false
		}
	}
	for seq := r.after + 1; len(batch) > 0; seq++ {
		var rec tape.Record
		rec, batch = decodeEntry(batch)
		rec.Seq = seq
		r.after = seq
		if !yield(rec) {
			return nil, false
		}
	}
	return more, true
}

// missing says why some records behind a number are not here any more.
func (t *logTape) missing(after, gap uint64) []byte {
	t.mu.Lock()
	acked := t.acked
	t.mu.Unlock()
	lost := min(gap, max(acked, after)-after) // whoever has acknowledged them asks for them again
	switch lost {
	case 0:
		return fmt.Appendf(nil, "%d records were dropped before they could be stored\n", gap)
	case gap:
		return fmt.Appendf(nil, "%d records were stored by the backend and are lost there\n", gap)
	}
	return fmt.Appendf(nil, "%d records are missing: %d were stored by the backend and are lost there, %d were dropped before they could be\n", gap, lost, gap-lost)
}

// next returns the entries behind r.after, as many as are at hand. If there are none, more is closed when there are.
// If records were dropped, gap is their number and r.after has moved behind them.
func (r *logReader) next() (batch []byte, gap uint64, more <-chan struct{}) {
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := r.segment; s == nil || s.dropped || r.offset == s.size && s != t.segments[len(t.segments)-1] {
		gap = r.seek()
	}
	s := r.segment
	if s == nil || r.offset == s.size {
		if gap > 0 {
			return nil, gap, nil
		}
		return nil, 0, t.changed.wait()
	}
	t.progress = time.Now()
	from := r.offset
	r.offset = s.size
	if s.data != nil {
		return s.data[from:], gap, nil
	}
	// Reading the disk takes time that others need not wait for.
	s.pins++
	buf, slot := make([]byte, s.size-from), s.slot
	t.mu.Unlock()
	err := t.spool.read(buf, slot, from)
	t.mu.Lock()
	s.pins--
	t.release(s)
	if err != nil {
		// What cannot be read back is lost like what was dropped.
		gap += s.last - r.after
		r.after = s.last
		return nil, gap, nil
	}
	return buf, gap, nil
}

// seek finds the segment behind r.after, and returns how many records are missing before it. t.mu is held.
func (r *logReader) seek() (gap uint64) {
	t := r.t
	r.segment, r.offset = nil, 0
	i, _ := slices.BinarySearchFunc(t.segments, r.after, func(s *segment, after uint64) int {
		if s.last <= after {
			return -1
		}
		return 1
	})
	if i == len(t.segments) {
		if last := t.next - 1; last > r.after {
			gap = last - r.after
			r.after = last
		}
		return gap
	}
	s := t.segments[i]
	if s.first > r.after+1 {
		gap = s.first - r.after - 1
		r.after = s.first - 1
	}
	r.segment = s
	if skip := r.after + 1 - s.first; skip > 0 {
		r.offset = t.offset(s, skip)
	}
	return gap
}

// offset returns where a segment's record number n, counted from 0, begins. t.mu is held.
func (t *logTape) offset(s *segment, n uint64) int {
	data := s.data
	if data == nil {
		data = make([]byte, s.size)
		if t.spool.read(data, s.slot, 0) != nil {
			return s.size
		}
	}
	rest := data
	for ; n > 0 && len(rest) > 0; n-- {
		_, rest = decodeEntry(rest)
	}
	return len(data) - len(rest)
}

// decodeEntry returns the first record of b, without its number, and what is behind it.
func decodeEntry(b []byte) (tape.Record, []byte) {
	end := entryHeader + int(binary.BigEndian.Uint32(b))
	return tape.Record{
		Time:    time.Unix(0, int64(binary.BigEndian.Uint64(b[4:]))),
		Stream:  tape.Stream(b[12]),
		Partial: b[13]&entryPartial != 0,
		Later:   b[13]&entryLater != 0,
		Data:    b[entryHeader:end:end],
	}, b[end:]
}
