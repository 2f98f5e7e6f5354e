package logstore

import (
	"bufio"
	"context"
	"errors"
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
	Tail         int       // the last n lines of both streams together; negative: all
	Since, Until time.Time // zero: no bound
	UpTo         uint64    // no record with a larger number; 0: no bound
	// Follow, if not nil, makes the loop wait for more until it is closed; what was appended before that still comes.
	Follow <-chan struct{}
}

// place is a point in the log.
type place struct {
	seg *segment
	off int64
}

// Records yields what the query selects, in order. It sees all that was appended before the loop began. Only a loop
// that follows waits; then ctx ends it with ctx's error.
func (l *Log) Records(ctx context.Context, q Query) iter.Seq2[tape.Record, error] {
	return func(yield func(tape.Record, error) bool) {
		at, err := l.start(q)
		if err != nil {
			yield(tape.Record{}, err)
			return
		}
		r := reader{at: at}
		defer r.close()
		for {
			// Asked for before the reading: what comes during it closes this one, or is appended before the end is seen.
			changed, open := l.watch()
			ended := q.Follow == nil || !open || isClosed(q.Follow)
			more, err := r.drain(l, func(rec tape.Record) bool {
				switch {
				case q.UpTo > 0 && rec.Seq > q.UpTo:
					return false
				case !q.Until.IsZero() && rec.Time.After(q.Until):
					return false
				case !q.Since.IsZero() && rec.Time.Before(q.Since):
					return true
				}
				return ctx.Err() == nil && yield(rec, nil)
			})
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
	at := place{seg: &segs[0]}
	for i := range segs[1:] {
		// Records are nearly in order of time; a second allows for two streams that overtake each other.
		if q.Since.IsZero() || !segs[i+1].first.Add(time.Second).Before(q.Since) {
			break
		}
		at.seg = &segs[i+1]
	}
	return at, nil
}

// tail goes back over n lines, ended or not, of both streams together.
func tail(segs []segment, n int) (place, error) {
	last := &segs[len(segs)-1]
	at := place{last, last.size}
	if n == 0 {
		return at, nil
	}
	lines := 0
	begun := map[tape.Stream]bool{} // a later part of this stream's line is counted
	var oldest tape.Stream          // the stream of the last line that fits
	for i := len(segs) - 1; i >= 0; i-- {
		f, err := os.Open(segs[i].path)
		if errors.Is(err, fs.ErrNotExist) {
			return at, nil // rotated away meanwhile
		}
		if err != nil {
			return at, err
		}
		b := backward{f: f, end: segs[i].size}
		for {
			r, start, err := b.prev()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				f.Close()
				return at, err
			}
			if r.Stream != tape.Gap {
				if !r.Partial || !begun[r.Stream] {
					if lines == n {
						f.Close()
						return at, nil
					}
					lines++
					oldest = r.Stream
				} else if lines == n && r.Stream != oldest {
					f.Close()
					return at, nil
				}
				begun[r.Stream] = true
			}
			at = place{&segs[i], start}
		}
		f.Close()
	}
	return at, nil
}

// reader goes through the files from a place on.
type reader struct {
	at   place
	file *os.File // of at.seg
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
				continue // rotated away between the snapshot and now
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

// read yields the records of the present file up to size.
func (r *reader) read(size int64, yield func(tape.Record) bool) (more bool, err error) {
	if r.at.off >= size {
		return true, nil
	}
	frames := frameReader{r: bufio.NewReaderSize(io.NewSectionReader(r.file, r.at.off, size-r.at.off), flushAt)}
	for {
		rec, n, err := frames.next()
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
