package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
)

const (
	// eventsKept and eventBytes are how much a client can still ask for with --since, and how far a slow one may fall
	// behind. The bytes are those of the JSON.
	eventsKept = 8192
	eventBytes = 4 << 20
	eventBatch = 64 // handed out at once, so that a reader that stalls holds little
	eventSync  = time.Second
)

// eventLog keeps the last events and wakes who follows them.
//
// They are in memory, and in a file so that a restart loses none. add never waits for the disk: it hands the event to
// one goroutine, which writes what has come since its last write in one piece and syncs once a second at most. A crash
// of the program so loses what it had not yet written, which is what happened in its last moments; one of the machine
// loses a second. The file is written anew from memory when it is twice as large as what is kept.
type eventLog struct {
	path string
	log  *slog.Logger
	wake chan struct{} // has room for one
	done chan struct{} // closed when the writer has ended

	mu        sync.Mutex
	all       []keptEvent // the last ones
	bytes     int         // of all
	minors    int         // among all
	first     uint64      // from this number on every event is kept that is not minor
	next      uint64      // the number of the next one
	changed   chan struct{}
	closed    bool   // nobody follows any more
	shut      bool   // the writer is to end
	pending   []byte // not yet written
	anew      bool   // the file is not what it should be: write all of it
	listeners int
}

// keptEvent is an event with its number. A minor one, of a probe of some container's health, of which there may be many
// a second, is not written to the file, and is forgotten before others.
type keptEvent struct {
	events.Message
	number uint64
	size   int
	minor  bool
}

// openEventLog reads the events in dir, and starts to write there. End it with shutdown.
func openEventLog(dir string, log *slog.Logger) (*eventLog, error) {
	l := &eventLog{
		path: filepath.Join(dir, "events.jsonl"), log: log,
		wake: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}),
	}
	if err := l.read(); err != nil {
		return nil, fmt.Errorf("cannot read the events: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep the events: %w", err)
	}
	go l.write(f) // ends with shutdown
	return l, nil
}

// read takes up what an earlier process wrote. A line that a crash has cut is left out.
func (l *eventLog) read() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// No more is written; what a damaged disk makes of it does not fill the memory.
	if size, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	} else if _, err := f.Seek(max(0, size-4*eventBytes), io.SeekStart); err != nil {
		return err
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if len(line) > 0 {
			var m events.Message
			if json.Unmarshal(line, &m) != nil || err != nil {
				l.anew = true
			} else {
				l.keep(m, len(line), false)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keep: l.mu is held, or l is new.
func (l *eventLog) keep(m events.Message, size int, minor bool) {
	l.all = append(l.all, keptEvent{m, l.next, size, minor})
	l.next++
	l.bytes += size
	if minor {
		l.minors++
	}
	if l.full(len(l.all)) && l.minors > len(l.all)/4 {
		l.dropMinors()
	}
	drop := 0
	for n := len(l.all); n-drop > 1 && l.full(n-drop); drop++ {
		old := l.all[drop]
		l.bytes -= old.size
		if old.minor {
			l.minors--
		} else {
			l.first = old.number + 1
		}
	}
	if drop > 0 {
		clear(l.all[:drop])
		l.all = l.all[drop:] // append moves it when its array ends
	}
}

// full says whether n events are more than are kept. l.mu is held.
func (l *eventLog) full(n int) bool { return n > eventsKept || l.bytes > eventBytes }

// dropMinors drops the minor events but for the youngest, which who follows may still be about to read. l.mu is held.
func (l *eventLog) dropMinors() {
	young := len(l.all) - len(l.all)/8
	kept := make([]keptEvent, 0, len(l.all))
	for i, m := range l.all {
		if m.minor && i < young {
			l.minors--
			l.bytes -= m.size
			continue
		}
		kept = append(kept, m)
	}
	l.all = kept
}

func (l *eventLog) add(m events.Message, minor bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// In order of time, as clients that ask again with --since rely on.
	if n := len(l.all); n > 0 && m.TimeNano <= l.all[n-1].TimeNano {
		m.TimeNano = l.all[n-1].TimeNano + 1
		m.Time = m.TimeNano / 1e9
	}
	line, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers: they marshal
	}
	line = append(line, '\n')
	l.keep(m, len(line), minor)
	defer func() {
		close(l.changed)
		l.changed = make(chan struct{})
	}()
	if minor {
		return
	}
	if len(l.pending)+len(line) > eventBytes && len(l.pending) > 0 {
		l.pending, l.anew = nil, true // the disk has not kept up
	} else {
		l.pending = append(l.pending, line...)
	}
	l.rouse()
}

func (l *eventLog) rouse() {
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// write brings the events into the file until shutdown. What cannot be written now is written with what comes next.
func (l *eventLog) write(f *os.File) {
	defer close(l.done)
	defer func() { f.Close() }() // synced below
	var size int64
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	var timer <-chan time.Time // armed while something is not synced
	failing := false
	for {
		end := false
		select {
		case <-l.wake:
			text, anew, shut := l.take(size)
			end = shut
			var err error
			if anew {
				if f, err = l.renew(f, text); err == nil {
					size = int64(len(text))
				}
			} else if len(text) > 0 {
				var n int
				n, err = f.Write(text)
				size += int64(n)
				if timer == nil {
					timer = time.After(eventSync)
				}
			}
			if err != nil {
				l.mu.Lock()
				l.anew = true
				l.mu.Unlock()
				if !failing {
					l.log.Warn("cannot keep the events: a restart would lose them", "error", err)
				}
			}
			failing = err != nil
		case <-timer:
			timer = nil
			if err := f.Sync(); err != nil {
				l.log.Warn("cannot sync the events", "error", err)
			}
		}
		if end {
			if err := f.Sync(); err != nil {
				l.log.Warn("cannot sync the events", "error", err)
			}
			return
		}
	}
}

// take returns what is to be written to a file of this size: what has come, or all that is kept.
func (l *eventLog) take(size int64) (text []byte, anew, shut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, l.pending = l.pending, nil
	if !l.anew && size+int64(len(text)) <= 2*eventBytes {
		return text, false, l.shut
	}
	l.anew = false
	var all bytes.Buffer
	for _, m := range l.all {
		if m.minor {
			continue
		}
		b, err := json.Marshal(m.Message)
		if err != nil {
			panic(err) // as in add
		}
		all.Write(b)
		all.WriteByte('\n')
	}
	return all.Bytes(), true, l.shut
}

// renew replaces the file by one with this text. It returns the file to write to, which is the old one after an error.
func (l *eventLog) renew(old *os.File, text []byte) (*os.File, error) {
	next, err := os.OpenFile(l.path+".new", os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return old, err
	}
	_, err = next.Write(text)
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), l.path)
	}
	if err != nil {
		next.Close()
		os.Remove(next.Name())
		return old, err
	}
	old.Close() // it has no name any more
	return next, nil
}

// from returns the number of the first event for who asks for all since some time, or, if not, for what comes.
func (l *eventLog) from(since bool) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since {
		return l.first
	}
	return l.next
}

// after returns some events from number n on and the number after them; if there are none, what tells that there are.
// lost says that something from n on is not kept any more; minor events are not missed.
func (l *eventLog) after(n uint64) (got []events.Message, next uint64, changed <-chan struct{}, closed, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n < l.first {
		return nil, 0, nil, false, true
	}
	next = n
	i, _ := slices.BinarySearchFunc(l.all, n, func(m keptEvent, n uint64) int { return cmp.Compare(m.number, n) })
	for _, m := range l.all[i:] {
		if len(got) == eventBatch {
			break
		}
		got, next = append(got, m.Message), m.number+1
	}
	return got, next, l.changed, l.closed, false
}

// close ends every follower. Events are still kept.
func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.changed)
		l.changed = make(chan struct{})
	}
}

// shutdown writes what is left and closes the file. It may be repeated.
func (l *eventLog) shutdown() {
	l.close()
	l.mu.Lock()
	l.shut = true
	l.mu.Unlock()
	l.rouse()
	<-l.done
}

func (l *eventLog) listen(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listeners += n
}

func (l *eventLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listeners
}
