package logstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/sockerless/sockerless/tape"
)

// Query selects records. The zero value is none: see Tail.
type Query struct {
	Tail         int       // the last n records of both streams together; negative: all
	Since, Until time.Time // zero: no bound
	UpTo         uint64    // no record with a larger number; 0: no bound
	// Follow, if not nil, makes the loop wait for more until it is closed; what was appended before that still comes.
	Follow <-chan struct{}
}

// place is a point in the log.
type place struct {
	seg    *segment
	off    int64
	oldest bool // it is the begin of the oldest file
}

const (
	rotatedAway = "older records were dropped by rotation (max-size, max-file)"
	damaged     = "a file of the log is damaged"
)

// gap tells what is missing before a record.
func gap(before tape.Record, text string) tape.Record {
	return tape.Record{Seq: before.Seq - 1, Time: before.Time, Stream: tape.Gap, Data: []byte(text + "\n")}
}

// missing is the Gap record for the end of a damaged log.
func (l *Log) missing() (tape.Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return tape.Record{Seq: l.last + 1, Time: l.tornAt, Stream: tape.Gap, Data: []byte("the records from here on are lost: " + damaged + "\n")}, l.torn
}

// Records yields what the query selects, in order, with a Gap record for what is missing: what was rotated away, unless the
// query begins later, and what damaged files have lost. It sees all that was appended before the loop began. Only a loop
// that follows waits; then ctx ends it with ctx's error.
func (l *Log) Records(ctx context.Context, q Query) iter.Seq2[tape.Record, error] {
	return func(yield func(tape.Record, error) bool) {
		at, err := l.start(q)
		if err != nil {
			yield(tape.Record{}, err)
			return
		}
		r := reader{at: at, known: q.Tail < 0 && (at.seg == nil || at.seg.number <= 1)}
		rotated := q.Tail < 0 && at.oldest && at.seg.number > 1
		left := false // the caller has left its loop: nothing may be yielded any more
		take := func(rec tape.Record) bool {
			switch {
			case q.UpTo > 0 && rec.Seq > q.UpTo:
				return false
			case !q.Until.IsZero() && rec.Time.After(q.Until):
				return false
			case !q.Since.IsZero() && rec.Time.Before(q.Since):
				return true
			}
			if ctx.Err() != nil {
				return false
			}
			left = !yield(rec, nil)
			return !left
		}
		defer r.close()
		for {
			// Asked for before the reading: what comes during it closes this one, or is appended before the end is seen.
			changed, open := l.watch()
			ended := q.Follow == nil || !open || isClosed(q.Follow)
			more, err := r.drain(l, func(rec tape.Record) bool {
				if rotated {
					rotated = false
					r.why = rotatedAway
					if !take(gap(rec, rotatedAway)) {
						return false
					}
				} else if text := r.hole(rec); text != "" && !take(gap(rec, text)) {
					return false
				}
				r.seq, r.known, r.why = rec.Seq, true, ""
				return take(rec)
			})
			if err == nil && more && ended && q.Tail != 0 {
				if rec, ok := l.missing(); ok {
					more = take(rec)
				}
			}
			if left {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(tape.Record{}, err)
				return
			}
			if !more || ended {
				return
			}
			var until <-chan time.Time
			if !q.Until.IsZero() {
				until = time.After(time.Until(q.Until))
			}
			select {
			case <-changed:
			case <-q.Follow:
			case <-until:
				return
			case <-ctx.Done():
			}
		}
	}
}

// Wait returns once a record with this number, or a larger one, has been appended, or the log is closed.
func (l *Log) Wait(ctx context.Context, seq uint64) error {
	for {
		l.mu.Lock()
		done, changed := l.last >= seq || l.closed, l.changed
		if !done && len(l.buf) > 0 {
			l.flush() // a loss is marked in the log itself
		}
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (l *Log) watch() (changed <-chan struct{}, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, !l.closed
}

// snapshot writes out what is buffered and returns the files with their sizes.
func (l *Log) snapshot() []segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.flush() // a loss is marked in the log itself
	}
	all := make([]segment, len(l.segments))
	for i, s := range l.segments {
		all[i] = *s
	}
	return all
}

// start finds where the query begins. A nil segment means the oldest one.
func (l *Log) start(q Query) (place, error) {
	segs := l.snapshot()
	if len(segs) == 0 {
		return place{}, nil
	}
	if q.Tail >= 0 {
		return tail(segs, q.Tail)
	}
	at := place{seg: &segs[0], oldest: true}
	for i := range segs[1:] {
		// Records are nearly in order of time, but for the later pieces of lines; a second allows for two streams that
		// overtake each other.
		if q.Since.IsZero() || !segs[i+1].first.Add(time.Second).Before(q.Since) {
			break
		}
		at = place{seg: &segs[i+1]}
	}
	return at, nil
}

// tail goes back over n records of both streams together. A long line's pieces count one by one, as with dockerd.
func tail(segs []segment, n int) (place, error) {
	last := &segs[len(segs)-1]
	at := place{seg: last, off: last.size}
	if n == 0 {
		return at, nil
	}
	for i := len(segs) - 1; i >= 0; i-- {
		f, err := os.Open(segs[i].path)
		if errors.Is(err, fs.ErrNotExist) {
			return at, nil // rotated away meanwhile
		}
		if err != nil {
			return at, err
		}
		b := backward{f: f, end: segs[i].size}
		seek := search{f: f}
		for {
			r, start, err := b.prev()
			if errors.Is(err, errTorn) {
				if b.end, err = seek.backward(b.end); err == nil {
					continue
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				f.Close()
				return at, err
			}
			if r.Stream != tape.Gap {
				if n == 0 {
					f.Close()
					return at, nil
				}
				n--
			}
			at = place{seg: &segs[i], off: start}
		}
		f.Close()
	}
	return at, nil
}

// reader goes through the files from a place on.
type reader struct {
	at    place
	file  *os.File // of at.seg
	seq   uint64   // of the last record
	known bool     // seq is that of the record before the next one
	why   string   // there may be records missing before the next one; empty: a damaged file
}

// hole says what is missing between the last record and this one; empty: nothing. A Gap record tells that itself.
func (r *reader) hole(rec tape.Record) string {
	if !r.known || rec.Stream == tape.Gap || rec.Seq <= r.seq+1 {
		return ""
	}
	why := r.why
	if why == "" {
		why = damaged
	}
	return fmt.Sprintf("%d records are lost: %s", rec.Seq-r.seq-1, why)
}

// drain yields the records that there are; false means that yield wants no more.
func (r *reader) drain(l *Log, yield func(tape.Record) bool) (more bool, err error) {
	segs := l.snapshot()
	i := 0
	if r.at.seg != nil {
		i = slices.IndexFunc(segs, func(s segment) bool { return s.path == r.at.seg.path })
		if i < 0 {
			// Rotated away: its file, still open here, has the rest of it. Then the oldest is the next one.
			if r.file != nil {
				if info, err := r.file.Stat(); err == nil {
					if more, err := r.read(info.Size(), yield); err != nil || !more {
						return more, err
					}
				}
			}
			r.close()
			i = 0
			r.at = place{}
			r.why = rotatedAway
		}
	}
	for ; i < len(segs); i++ {
		if r.at.seg == nil || r.at.seg.path != segs[i].path {
			r.close()
			r.at = place{seg: &segs[i]}
		}
		if r.file == nil {
			f, err := os.Open(segs[i].path)
			if errors.Is(err, fs.ErrNotExist) {
				r.why = rotatedAway // between the snapshot and now
				continue
			}
			if err != nil {
				return false, err
			}
			r.file = f
		}
		if more, err := r.read(segs[i].size, yield); err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

// read yields the records of the present file up to size, and leaves out what is damaged.
func (r *reader) read(size int64, yield func(tape.Record) bool) (more bool, err error) {
	if r.at.off >= size {
		return true, nil
	}
	frames := frameReader{r: bufio.NewReaderSize(nil, flushAt)}
	from := func(at int64) {
		r.at.off = at
		frames.r.Reset(io.NewSectionReader(r.file, at, size-at))
	}
	from(r.at.off)
	seek := search{f: r.file}
	for {
		rec, n, err := frames.next()
		if errors.Is(err, errTorn) {
			next, err := seek.forward(r.at.off+1, size)
			if err != nil {
				return false, err
			}
			from(next)
			continue
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		r.at.off += n
		if !yield(rec) {
			return false, nil
		}
	}
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}
