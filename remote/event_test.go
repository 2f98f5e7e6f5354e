package remote

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"
)

// TestEvent: an event is the same at the other end, whatever of it is set.
func TestEvent(t *testing.T) {
	if m, a := reflect.TypeFor[events.Message]().NumField(), reflect.TypeFor[events.Actor]().NumField(); m != 6 || a != 2 {
		t.Errorf("an event has %d fields and an actor %d: are all of them sent?", m, a)
	}
	for name, m := range map[string]events.Message{
		"nothing":       {},
		"no attributes": {Actor: events.Actor{Attributes: map[string]string{}}},
		"all": {
			Type: "container", Action: "rename", Scope: "local", Time: -1, TimeNano: 1 << 62,
			Actor: events.Actor{ID: "i", Attributes: map[string]string{"name": "ä\x00", "": "", "label": string(make([]byte, 1000))}},
		},
	} {
		b, err := event(m).AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got event
		if err := got.UnmarshalBinary(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(m, events.Message(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for n := range b { // one that is cut before its attributes is an event, too
			var cut event
			if cut.UnmarshalBinary(b[:n]) == nil && cut.Actor.Attributes != nil {
				t.Errorf("%s: %d bytes of %d are an event", name, n, len(b))
			}
		}
	}
}

// Whatever comes as an event is one, or an error.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\x02\x04\x01a\x01b\x01c\x01d\x01\x01k\x01v"))
	f.Add(bytes.Repeat([]byte{0xff}, 30))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, again event
		if e.UnmarshalBinary(b) != nil {
			return
		}
		out, err := e.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalBinary(out); err != nil || !cmp.Equal(events.Message(e), events.Message(again)) {
			t.Errorf("%q became %q, %v", b, out, err)
		}
	})
}
