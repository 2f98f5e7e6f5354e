package dockerapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// event is an event with the fields that API versions below 1.52 know.
type event struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func (a *api) events(w http.ResponseWriter, r *request) error {
	var opt sockerless.EventOptions
	var err error
	if opt.Since, err = r.instant("since"); err != nil {
		return err
	}
	if opt.Until, err = r.instant("until"); err != nil {
		return err
	}
	// As with dockerd, 0 is the beginning, and who asks until a time alone asks for what was, too.
	if r.query.Get("since") == "0" || opt.Since.IsZero() && !opt.Until.IsZero() {
		opt.Since = time.Unix(0, 0)
	}
	if !opt.Since.IsZero() && !opt.Until.IsZero() && opt.Since.After(opt.Until) {
		return sockerless.Errorf(sockerless.EINVALID, "`since` time (%s) cannot be after `until` time (%s)", r.query.Get("since"), r.query.Get("until"))
	}
	if opt.Filters, err = r.filters(); err != nil {
		return err
	}
	kind := types.MediaTypeJSON
	if !r.version.before(52) {
		kind = eventType(r.Header.Values("Accept"))
	}
	out := newStream(w, kind)
	defer out.end()
	var buf []byte
	for m, err := range a.backend.System.Events(r.Context(), opt) {
		if err != nil {
			return err
		}
		if m.Type == "" { // it listens, and a client may rely on that from the headers on
			if err := out.start(); err != nil {
				return err
			}
			continue
		}
		var shown any = m
		if r.version.before(52) {
			shown = withLegacy(m)
		}
		b, err := json.Marshal(shown)
		if err != nil {
			return err
		}
		buf = buf[:0]
		if kind == types.MediaTypeJSONSequence {
			buf = append(buf, 0x1e) // RFC 7464: each text begins with a record separator
		}
		if _, err := out.Write(append(append(buf, b...), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// eventType chooses how the events are written down. Old clients say nothing and read the first form.
func eventType(accept []string) string {
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		kind, _, _ := strings.Cut(part, ";")
		switch kind = strings.TrimSpace(kind); kind {
		case types.MediaTypeJSON, types.MediaTypeJSONLines, types.MediaTypeNDJSON, types.MediaTypeJSONSequence:
			return kind
		}
	}
	return types.MediaTypeJSON
}

func withLegacy(m events.Message) event {
	e := event{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		e.Status, e.ID, e.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		e.Status, e.ID = string(m.Action), m.Actor.ID
	}
	return e
}
