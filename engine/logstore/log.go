package logstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless/tape"
)

const (
	flushAt    = 64 << 10             // buffered bytes that are written out without being asked
	flushAfter = 5 * time.Millisecond // how long a record may stay in the buffer
	suffix     = ".log"
)

// Log is one container's log. It is safe for concurrent use. Records are appended in the order of their numbers.
type Log struct {
	dir    string
	limits Limits

	mu       sync.Mutex
	segments []*segment // the oldest first
	file     *os.File   // the last segment's, open for writing, or nil
	buf      []byte     // frames that are not written yet
	buffered uint64     // records in buf
	timer    *time.Timer
	last     uint64    // number of the last record, stored or lost
	newest   time.Time // the latest time of a record that was appended
	dropped  uint64    // records lost since the last one that was stored
	lastErr  error     // why
	torn     bool      // the last file is damaged at its end, or there is nothing left of it, and nothing was appended since
	tornAt   time.Time
	closed   bool
	changed  chan struct{} // closed and replaced when there is more to read
}

// segment is one file.
type segment struct {
	path   string
	number uint64    // from its name: of its first record, or 0 for the first file that the log has had
	first  time.Time // nothing before it in the log is later; zero if that is not known
	size   int64     // bytes that can be read
	unread bool      // it could not be read at open: nothing is written to it
}

// openLog finds the files and the last number. Damage is no error, and nothing is changed: who reads gets a Gap record for
// what is missing. A file that cannot be read is left alone, and is an error to who reads it.
func openLog(dir string, limits Limits) *Log {
	l := &Log{dir: dir, limits: limits, changed: make(chan struct{})}
	entries, err := os.ReadDir(dir) // sorted by name, which is by number
	if errors.Is(err, fs.ErrNotExist) {
		return l
	}
	if err != nil {
		l.torn, l.tornAt = true, time.Now()
		return l // the next record says by its Gap what the disk has against it
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		number, err := strconv.ParseUint(name, 10, 64)
		if !ok || err != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		l.segments = append(l.segments, &segment{path: filepath.Join(dir, e.Name()), number: number, size: info.Size()})
		l.tornAt = info.ModTime()
	}
	for i := len(l.segments) - 1; i >= 0; i-- {
		s := l.segments[i]
		if err := s.scanFirst(); err != nil {
			s.unread = true
			continue
		}
		if l.last > 0 {
			continue
		}
		last, end, err := s.scanLast()
		if err != nil {
			s.unread = true
			continue
		}
		l.last = last
		if i == len(l.segments)-1 {
			l.torn = end < s.size || end == 0
			s.size = end // what is behind it goes with the next write
		}
	}
	return l
}

// scanLast returns the last record's number and where its frame ends; zeros if there is no whole record.
func (s *segment) scanLast() (last uint64, end int64, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	b := backward{f: f, end: s.size}
	if r, _, err := b.prev(); err == nil {
		return r.Seq, s.size, nil
	} else if !errors.Is(err, errTorn) && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	// From the begin, as a text in the log may look like a frame when it is read from the middle of a torn one.
	r := reader{at: place{seg: s}, file: f}
	_, err = r.read(s.size, func(rec tape.Record) bool {
		last, end = max(last, rec.Seq), r.at.off
		return true
	})
	return last, end, err
}

// scanFirst sets first to the time of the first whole record that begins a line.
func (s *segment) scanFirst() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	r := reader{at: place{seg: s}, file: f}
	defer r.close()
	_, err = r.read(s.size, func(rec tape.Record) bool {
		if rec.Later { // it has the time at which its line began, in an earlier file perhaps
			return true
		}
		s.first = rec.Time
		return false
	})
	return err
}

// Last is the number of the last record that was appended, or 0.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Append adds a record; one whose number is not above the last one's is there already and is left out. It may be
// written some milliseconds later: Flush tells. A disk that takes no more costs records and never blocks: the next
// record that can be stored has a Gap record before it, and so has one whose number does not follow the last one's.
func (l *Log) Append(r tape.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return os.ErrClosed
	}
	if r.Seq <= l.last {
		return nil
	}
	if err := l.rotate(r); err != nil {
		return l.drop(1, r.Seq, err)
	}
	if hole := r.Seq - l.last - 1; l.dropped == 0 && hole > 0 && r.Stream != tape.Gap {
		l.dropped, l.lastErr = hole, errNeverCame
	}
	if l.dropped > 0 {
		gap := tape.Record{Seq: r.Seq - 1, Time: r.Time, Stream: tape.Gap,
			Data: fmt.Appendf(nil, "%d records are lost: %v\n", l.dropped, l.lastErr)}
		if err := l.buffer(gap); err != nil {
			return l.drop(1, r.Seq, err)
		}
		l.dropped, l.lastErr = 0, nil
	}
	if err := l.buffer(r); err != nil {
		return l.drop(1, r.Seq, err)
	}
	l.last, l.torn = r.Seq, false
	if r.Time.After(l.newest) {
		l.newest = r.Time
	}
	if len(l.buf) >= flushAt {
		return l.flush()
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(flushAfter, func() { l.Flush() }) // a loss is marked in the log itself
	} else if l.buffered == 1 {
		l.timer.Reset(flushAfter)
	}
	return nil
}

var errNeverCame = errors.New("they were thrown away before they came here")

// Flush writes out what is buffered. When it has returned nil, all that was appended survives a crash of this process.
// The error says that records were lost, and is told once.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return l.flush()
}

// flush: l.mu is held.
func (l *Log) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	n, buf := l.buffered, l.buf
	l.buf, l.buffered = l.buf[:0], 0
	s := l.segments[len(l.segments)-1]
	if _, err := l.file.WriteAt(buf, s.size); err != nil {
		// What was written of it is not counted, so the next write goes over it, and so does the scan at open.
		err = errors.Join(err, l.file.Truncate(s.size))
		return l.drop(n, l.last, err)
	}
	s.size += int64(len(buf))
	l.wake()
	return nil
}

// drop notes that n records up to number last are lost. l.mu is held.
func (l *Log) drop(n, last uint64, err error) error {
	first := l.dropped == 0
	l.dropped += n
	l.last = last
	l.lastErr = err
	l.wake()
	if !first {
		return nil
	}
	return fmt.Errorf("cannot store log records: %w", err)
}

// buffer: l.mu is held.
func (l *Log) buffer(r tape.Record) error {
	b, err := appendFrame(l.buf, r)
	if err != nil {
		return err
	}
	l.buf = b
	l.buffered++
	return nil
}

// rotate makes sure that there is a file with room for r. l.mu is held.
func (l *Log) rotate(r tape.Record) error {
	if n := len(l.segments); n > 0 {
		s := l.segments[n-1]
		if s.unread {
			return l.create(r)
		}
		if l.file == nil && s.size == 0 { // nothing is left of it
			if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			l.segments = l.segments[:n-1]
			return l.create(r)
		}
		full := l.limits.MaxSize > 0 && s.size+int64(len(l.buf)+frameSize(r)) > l.limits.MaxSize && s.size+int64(len(l.buf)) > 0
		if !full {
			if l.file != nil {
				return nil
			}
			f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			if err := f.Truncate(s.size); err != nil { // of what is torn
				f.Close()
				return err
			}
			l.file = f
			return nil
		}
		l.flush() // a loss is noted, and told by the next record's Gap
		if l.file != nil {
			l.file.Close()
			l.file = nil
		}
	}
	return l.create(r)
}

// create makes the file that begins with r, and throws away the oldest ones. l.mu is held.
func (l *Log) create(r tape.Record) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	var number uint64
	if n := len(l.segments); n > 0 {
		number = max(r.Seq, l.segments[n-1].number+1) // one that could not be read may have records of these numbers
	}
	path := filepath.Join(l.dir, fmt.Sprintf("%020d%s", number, suffix))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l.file = f
	first := r.Time
	if r.Later && l.newest.After(first) {
		first = l.newest
	}
	l.segments = append(l.segments, &segment{path: path, number: number, first: first})
	for len(l.segments) > l.limits.MaxFiles {
		if err := os.Remove(l.segments[0].path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		l.segments = l.segments[1:]
	}
	return nil
}

// wake: l.mu is held.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	err := l.flush()
	l.closed = true
	if l.file != nil {
		if e := l.file.Close(); err == nil {
			err = e
		}
		l.file = nil
	}
	l.wake()
	return err
}

// ParseLimits reads the options max-size ("10m", decimal; "-1" is no bound) and max-file of Docker's log driver json-file
// or local. A json-file whose size is bounded is one file unless max-file says otherwise.
func ParseLimits(driver string, options map[string]string, size func(string) (int64, error)) (Limits, error) {
	var l Limits
	if v, ok := options["max-size"]; ok {
		switch n, err := size(v); {
		case v == "-1":
			l.MaxSize = -1
		case err != nil:
			return l, err
		case n <= 0:
			return l, errors.New("max-size must be a positive number")
		default:
			l.MaxSize = n
			if driver != "local" {
				l.MaxFiles = 1
			}
		}
	}
	if v, ok := options["max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			return l, fmt.Errorf("invalid value for max-file: %s: %w", v, err)
		}
		if n < 1 {
			return l, errors.New("max-file cannot be less than 1")
		}
		l.MaxFiles = n
	}
	return l, nil
}
