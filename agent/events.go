package agent

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

const (
	maxEvents = 4096 // are kept for a backend that is away. The oldest ends of execs, and of clients, go first.
	maxHealth = 64   // of them at most tell changes of the health
)

// eventLog numbers the agent's events and keeps them until they are acknowledged.
type eventLog struct {
	mu      sync.Mutex
	changed bell
	events  []protocol.Event
	next    uint64
	acked   uint64
}

func newEventLog() *eventLog { return &eventLog{next: 1} }

// add numbers an event and returns its number.
func (l *eventLog) add(e protocol.Event) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.next
	l.next++
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Kind == protocol.EventHealth {
		l.supersede(e)
	}
	if len(l.events) >= maxEvents {
		i := max(0, slices.IndexFunc(l.events, func(e protocol.Event) bool {
			return e.Kind == protocol.EventExecExit || e.Kind == protocol.EventDetached
		}))
		l.events = slices.Delete(l.events, i, i+1)
	}
	l.events = append(l.events, e)
	l.changed.ring()
	return e.Seq
}

// supersede drops what an event of the health makes superfluous: the one before it, if that has the same status, and the
// oldest, if there are too many. l.mu is held.
func (l *eventLog) supersede(e protocol.Event) {
	var all []int
	for i, old := range l.events {
		if old.Kind == protocol.EventHealth {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return
	}
	last := all[len(all)-1]
	old := l.events[last]
	switch {
	case old.Incarnation == e.Incarnation && old.Health.Status == e.Health.Status && old.Health.Stopped == e.Health.Stopped:
		l.events = slices.Delete(l.events, last, last+1)
	case len(all) >= maxHealth:
		l.events = slices.Delete(l.events, all[0], all[0]+1)
	}
}

// ack forgets the events up to a number, but for the last one of the health: a backend that was killed has no memory of
// it, although it has acknowledged it.
func (l *eventLog) ack(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = max(l.acked, min(seq, l.next-1))
	last := uint64(0)
	for _, e := range l.events {
		if e.Kind == protocol.EventHealth {
			last = e.Seq
		}
	}
	l.events = slices.DeleteFunc(l.events, func(e protocol.Event) bool { return e.Seq <= l.acked && e.Seq != last })
}

func (l *eventLog) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// read yields the events after a number and follows until ctx or over is done; then it ends with the last there is.
func (l *eventLog) read(ctx context.Context, after uint64, over <-chan struct{}) iter.Seq2[protocol.Event, error] {
	return func(yield func(protocol.Event, error) bool) {
		for ending := false; ; {
			l.mu.Lock()
			i := slices.IndexFunc(l.events, func(e protocol.Event) bool { return e.Seq > after })
			if i >= 0 {
				e := l.events[i]
				l.mu.Unlock()
				after = e.Seq
				if !yield(e, nil) {
					return
				}
				continue
			}
			changed := l.changed.wait()
			l.mu.Unlock()
			if ending {
				return
			}
			select {
			case <-changed:
			case <-over:
				ending = true
			case <-ctx.Done():
				return
			}
		}
	}
}
