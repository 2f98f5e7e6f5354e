package engine

import (
	"context"
	"iter"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// eventsKept is how many events a client can still ask for with --since, and how far a slow one may fall behind.
const eventsKept = 1024

// eventLog keeps the last events and wakes who follows them.
type eventLog struct {
	mu        sync.Mutex
	all       []events.Message // the last ones
	first     uint64           // the number of all[0]
	changed   chan struct{}    // closed and replaced with each event
	closed    bool
	listeners int
}

func newEventLog() *eventLog { return &eventLog{changed: make(chan struct{})} }

func (l *eventLog) add(m events.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == eventsKept {
		l.all = append(l.all[:0:0], l.all[eventsKept/4:]...)
		l.first += eventsKept / 4
	}
	// In order of time, as clients that ask again with --since rely on.
	if n := len(l.all); n > 0 && m.TimeNano <= l.all[n-1].TimeNano {
		m.TimeNano = l.all[n-1].TimeNano + 1
		m.Time = m.TimeNano / 1e9
	}
	l.all = append(l.all, m)
	close(l.changed)
	l.changed = make(chan struct{})
}

// after returns the events from number n on, the number after them, and what tells that there are more.
func (l *eventLog) after(n uint64) (got []events.Message, next uint64, changed <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.first + uint64(len(l.all))
	n = min(max(n, l.first), end)
	return l.all[n-l.first:], end, l.changed, l.closed
}

func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.changed)
		l.changed = make(chan struct{})
	}
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

// event tells what happened to a container. c.mu is held, or its record does not change any more.
func (c *container) event(action events.Action, more map[string]string) {
	attributes := map[string]string{"image": c.rec.Config.Image, "name": c.rec.Name}
	for k, v := range c.rec.Config.Labels {
		attributes[k] = v
	}
	maps.Copy(attributes, more)
	now := time.Now()
	c.e.events.add(events.Message{
		Type: events.ContainerEventType, Action: action, Scope: "local",
		Actor: events.Actor{ID: c.id, Attributes: attributes},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	})
}

func exitAttributes(code int, started time.Time) map[string]string {
	m := map[string]string{"exitCode": strconv.Itoa(code)}
	if !started.IsZero() {
		m["execDuration"] = strconv.Itoa(int(time.Since(started).Seconds()))
	}
	return m
}

// Events yields what happened since opt.Since, then what happens.
func (s systemService) Events(ctx context.Context, opt sockerless.EventOptions) iter.Seq2[events.Message, error] {
	return func(yield func(events.Message, error) bool) {
		if err := known(opt.Filters, "config", "container", "daemon", "event", "image", "label", "network", "node",
			"plugin", "scope", "secret", "service", "type", "volume"); err != nil {
			yield(events.Message{}, err)
			return
		}
		s.events.listen(1)
		defer s.events.listen(-1)
		var next uint64
		if opt.Since.IsZero() {
			_, next, _, _ = s.events.after(math.MaxUint64)
		}
		var until <-chan time.Time
		if !opt.Until.IsZero() {
			timer := time.NewTimer(time.Until(opt.Until))
			defer timer.Stop()
			until = timer.C
		}
		for {
			got, after, changed, closed := s.events.after(next)
			next = after
			for _, m := range got {
				at := time.Unix(0, m.TimeNano)
				if !opt.Since.IsZero() && at.Before(opt.Since) || !matches(opt.Filters, m) {
					continue
				}
				if !opt.Until.IsZero() && at.After(opt.Until) {
					return
				}
				if !yield(m, nil) {
					return
				}
			}
			if closed {
				yield(events.Message{}, closing())
				return
			}
			select {
			case <-changed:
			case <-until:
				return
			case <-ctx.Done():
				yield(events.Message{}, ctx.Err())
				return
			}
		}
	}
}

// matches says whether an event passes the filters, as dockerd reads them.
func matches(f sockerless.Filters, m events.Message) bool {
	action, _, _ := strings.Cut(string(m.Action), ":")
	of := func(kind events.Type) []string {
		if m.Type != kind {
			return nil
		}
		return []string{m.Actor.ID, m.Actor.Attributes["name"]}
	}
	image := of(events.ImageEventType)
	if m.Type == events.ContainerEventType {
		image = append(image, m.Actor.Attributes["image"])
	}
	return exact(f, "type", string(m.Type)) &&
		exact(f, "event", string(m.Action), action) &&
		exact(f, "scope", m.Scope) &&
		labelled(f, "label", m.Actor.Attributes) &&
		prefixed(f, "container", of(events.ContainerEventType)) &&
		exact(f, "image", append(image, withoutTag(m.Actor.Attributes["image"]))...) &&
		exact(f, "network", of(events.NetworkEventType)...) &&
		exact(f, "volume", of(events.VolumeEventType)...) &&
		exact(f, "daemon", of(events.DaemonEventType)...) &&
		exact(f, "plugin", of(events.PluginEventType)...) &&
		exact(f, "service", of(events.ServiceEventType)...) &&
		exact(f, "node", of(events.NodeEventType)...) &&
		exact(f, "secret", of(events.SecretEventType)...) &&
		exact(f, "config", of(events.ConfigEventType)...)
}

// prefixed is exact for a value that may be the begin of an id too.
func prefixed(f sockerless.Filters, key string, have []string) bool {
	if exact(f, key, have...) {
		return true
	}
	for _, w := range f[key] {
		if len(have) > 0 && len(w) >= 4 && strings.HasPrefix(have[0], w) {
			return true
		}
	}
	return false
}

func withoutTag(ref string) string {
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}
