package engine

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// tell keeps an event and passes it to who follows them.
func (e *Engine) tell(kind events.Type, action events.Action, id string, attributes map[string]string) {
	e.events.add(newEvent(kind, action, id, attributes), false)
}

func newEvent(kind events.Type, action events.Action, id string, attributes map[string]string) events.Message {
	now := time.Now()
	return events.Message{
		Type: kind, Action: action, Scope: "local",
		Actor: events.Actor{ID: id, Attributes: attributes},
		Time:  now.Unix(), TimeNano: now.UnixNano(),
	}
}

// event tells what happened to a container, and to its networks by it. c.mu is held, or its record does not change any
// more.
func (c *container) event(action events.Action, more map[string]string) {
	attributes := c.attributes(more)
	if action == events.ActionStart {
		c.networkEvents(events.ActionConnect)
	}
	c.e.tell(events.ContainerEventType, action, c.id, attributes)
	if action == events.ActionDie {
		c.networkEvents(events.ActionDisconnect)
	}
}

// killed tells that a signal was sent. c.mu is held.
func (c *container) killed(sig syscall.Signal) {
	c.event(events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
}

// minorEvent tells what happened to a container, as something that is not missed. c.mu is held.
func (c *container) minorEvent(action events.Action, more map[string]string) {
	c.e.events.add(newEvent(events.ContainerEventType, action, c.id, c.attributes(more)), true)
}

// attributes are those of an event of the container's.
func (c *container) attributes(more map[string]string) map[string]string {
	attributes := map[string]string{"image": c.rec.Config.Image, "name": c.rec.Name}
	for k, v := range c.rec.Config.Labels {
		attributes[k] = v
	}
	maps.Copy(attributes, more)
	return attributes
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
		next := s.events.from(!opt.Since.IsZero())
		if !yield(events.Message{}, nil) {
			return
		}
		var until <-chan time.Time
		if !opt.Until.IsZero() {
			timer := time.NewTimer(time.Until(opt.Until))
			defer timer.Stop()
			until = timer.C
		}
		for {
			got, after, changed, closed, lost := s.events.after(next)
			if lost {
				// A gap that nobody sees would be worse than an end: who follows asks again, with --since.
				yield(events.Message{}, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot go on with the events: they came faster than they were read"))
				return
			}
			next = after
			for _, m := range got {
				at := time.Unix(0, m.TimeNano)
				if !opt.Until.IsZero() && at.After(opt.Until) {
					return
				}
				if !opt.Since.IsZero() && at.Before(opt.Since) || !matches(opt.Filters, m) {
					continue
				}
				if !yield(m, nil) {
					return
				}
			}
			if len(got) > 0 {
				continue
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
	if !exact(f, "type", string(m.Type)) || !exact(f, "event", string(m.Action), action) ||
		!exact(f, "scope", m.Scope) || !labelled(f, "label", m.Actor.Attributes) {
		return false
	}
	if len(f["image"]) > 0 {
		name := m.Actor.Attributes["image"]
		if m.Type == events.ImageEventType {
			name = m.Actor.Attributes["name"]
		}
		if !exact(f, "image", m.Actor.ID, withoutTag(m.Actor.ID), name, withoutTag(name)) {
			return false
		}
	}
	for _, kind := range actors {
		if len(f[string(kind)]) > 0 && (m.Type != kind || !begins(f[string(kind)], m.Actor.ID, m.Actor.Attributes["name"])) {
			return false
		}
	}
	return true
}

// actors are the kinds of events that have a filter of their name, for an id, a name, or the begin of one.
var actors = []events.Type{
	events.ContainerEventType, events.NetworkEventType, events.VolumeEventType, events.DaemonEventType, events.PluginEventType,
	events.ServiceEventType, events.NodeEventType, events.SecretEventType, events.ConfigEventType,
}

func begins(want []string, have ...string) bool {
	return slices.ContainsFunc(want, func(w string) bool {
		return slices.ContainsFunc(have, func(h string) bool { return strings.HasPrefix(h, w) })
	})
}

func withoutTag(ref string) string {
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i]
	}
	return ref
}
