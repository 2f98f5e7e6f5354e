package logstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	last     uint64 // number of the last record, stored or lost
	dropped  uint64 // records lost since the last one that was stored
	lastErr  error  // why
	closed   bool
	changed  chan struct{} // closed and replaced when there is more to read
}

// segment is one file.
type segment struct {
	path  string
	first time.Time // of its first record
	size  int64     // bytes that can be read
}

func openLog(dir string, limits Limits) (*Log, error) {
	l := &Log{dir: dir, limits: limits, changed: make(chan struct{})}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		s := &segment{path: filepath.Join(dir, e.Name())}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		s.size = info.Size()
		l.segments = append(l.segments, s)
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return strings.Compare(a.path, b.path) })
	// Only the last file can be torn. One that holds no whole record goes, so that the last number is found.
	for len(l.segments) > 0 {
		s := l.segments[len(l.segments)-1]
		last, err := s.scan()
		if err != nil {
			return nil, err
		}
		if l.last = last; last > 0 {
			break
		}
		if err := os.Remove(s.path); err != nil {
			return nil, err
		}
		l.segments = l.segments[:len(l.segments)-1]
	}
	for _, s := range l.segments[:max(0, len(l.segments)-1)] {
		if err := s.scanFirst(); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// scan reads the whole file, cuts off what is torn and returns the number of the last record.
func (s *segment) scan() (last uint64, err error) {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	frames := frameReader{r: bufio.NewReaderSize(f, flushAt)}
	var good int64
	for {
		r, n, err := frames.next()
		switch {
		case err == nil:
			if good == 0 {
				s.first = r.Time
			}
			good += n
			last = r.Seq
			continue
		case errors.Is(err, errTorn):
			if err := f.Truncate(good); err != nil {
				return 0, err
			}
		case !errors.Is(err, io.EOF):
			return 0, err
		}
		s.size = good
		return last, nil
	}
}

func (s *segment) scanFirst() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	frames := frameReader{r: bufio.NewReader(f)}
	r, _, err := frames.next()
	if err != nil {
		return err
	}
	s.first = r.Time
	return nil
}

// Last is the number of the last record that was appended, or 0.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Append adds a record; one whose number is not above the last one's is there already and is left out. It may be
// written some milliseconds later: Flush tells. A disk that takes no more costs records and never blocks: the next
// record that can be stored has a Gap record before it.
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
	l.last = r.Seq
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

// Skip says that the records up to a number will never come; the next one has a Gap record before it.
func (l *Log) Skip(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq > l.last && !l.closed {
		l.drop(seq-l.last, seq, errNeverCame) //nolint:errcheck // the caller knows
	}
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
		full := l.limits.MaxSize > 0 && s.size+int64(len(l.buf)+frameSize(r)) > l.limits.MaxSize && s.size+int64(len(l.buf)) > 0
		if !full {
			if l.file != nil {
				return nil
			}
			f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
			l.file = f
			return err
		}
		l.flush() // a loss is noted, and told by the next record's Gap
		if l.file != nil {
			l.file.Close()
			l.file = nil
		}
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(l.dir, fmt.Sprintf("%020d%s", r.Seq, suffix))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	l.file = f
	l.segments = append(l.segments, &segment{path: path, first: r.Time})
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

// ParseLimits reads Docker's log options max-size ("10m", "-1") and max-file.
func ParseLimits(options map[string]string, size func(string) (int64, error)) (Limits, error) {
	var l Limits
	if v, ok := options["max-size"]; ok {
		if v == "-1" {
			l.MaxSize = -1
		} else {
			n, err := size(v)
			if err != nil || n <= 0 {
				return l, fmt.Errorf("invalid value for max-size: %q", v)
			}
			l.MaxSize = n
		}
	}
	if v, ok := options["max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return l, fmt.Errorf("invalid value for max-file: %q", v)
		}
		l.MaxFiles = n
	}
	return l, nil
}
