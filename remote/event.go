package remote

import (
	"encoding/binary"
	"errors"
	"iter"

	"github.com/moby/moby/api/types/events"
)

// event is an event on its way: one that a hundred clients watch crosses a hundred times, and JSON takes ten times as long.
type event events.Message

// AppendBinary implements encoding.BinaryAppender: the times, then the texts, each behind its length.
func (e event) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendVarint(binary.AppendVarint(b, e.Time), e.TimeNano)
	b = appendText(appendText(appendText(appendText(b, string(e.Type)), string(e.Action)), e.Scope), e.Actor.ID)
	if e.Actor.Attributes == nil {
		return b, nil
	}
	b = binary.AppendUvarint(b, uint64(len(e.Actor.Attributes)))
	for name, value := range e.Actor.Attributes {
		b = appendText(appendText(b, name), value)
	}
	return b, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (e *event) UnmarshalBinary(b []byte) error {
	r := eventReader{b, string(b), true}
	*e = event{Time: r.time(), TimeNano: r.time(), Type: events.Type(r.text()), Action: events.Action(r.text()), Scope: r.text()}
	e.Actor.ID = r.text()
	if len(r.b) > 0 {
		n := r.number()
		e.Actor.Attributes = make(map[string]string, min(n, uint64(len(r.b)))) // each takes more than a byte
		for ; n > 0 && r.ok; n-- {
			name := r.text()
			e.Actor.Attributes[name] = r.text()
		}
	}
	if !r.ok || len(r.b) > 0 {
		return errors.New("cannot read an event: it is malformed")
	}
	return nil
}

// eventReader reads what is left of an event.
type eventReader struct {
	b  []byte
	s  string // the same
	ok bool   // so far
}

func (r *eventReader) time() int64 {
	t, n := binary.Varint(r.b)
	r.skip(n)
	return t
}

func (r *eventReader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	r.skip(n)
	return v
}

func (r *eventReader) text() string {
	n := r.number()
	if n > uint64(len(r.s)) {
		r.skip(-1)
		return ""
	}
	text := r.s[:n]
	r.b, r.s = r.b[n:], r.s[n:]
	return text
}

// skip goes on behind n bytes; none is an error, after which nothing is left.
func (r *eventReader) skip(n int) {
	if n <= 0 {
		r.b, r.s, r.ok = nil, "", false
		return
	}
	r.b, r.s = r.b[n:], r.s[n:]
}

// each converts what a feed yields.
func each[In, Out any](records iter.Seq2[In, error], convert func(In) Out) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		for v, err := range records {
			if !yield(convert(v), err) {
				return
			}
		}
	}
}
