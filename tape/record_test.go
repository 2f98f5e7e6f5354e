package tape_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/tape"
)

func TestRecord(t *testing.T) {
	for name, want := range map[string]tape.Record{
		"a line":           {Seq: 1, Time: time.Unix(1700000000, 123456789), Stream: tape.Stdout, Data: []byte("hello\n")},
		"a part of a line": {Seq: 1<<64 - 1, Time: time.Unix(-1, 0), Stream: tape.Stderr, Partial: true, Data: []byte("hel")},
		"its end":          {Seq: 5, Time: time.Unix(-1, 0), Stream: tape.Stderr, Later: true, Data: []byte("lo\n")},
		"its middle":       {Seq: 4, Time: time.Unix(-1, 0), Stream: tape.Stderr, Partial: true, Later: true, Data: []byte("l")},
		"a gap":            {Seq: 7, Time: time.Unix(0, 0), Stream: tape.Gap, Data: []byte("3 records")},
		"nothing":          {Seq: 7, Time: time.Unix(0, 0), Stream: tape.Stdout},
	} {
		b, err := want.AppendBinary([]byte("before"))
		if err != nil || !bytes.HasPrefix(b, []byte("before")) {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
		b = b[len("before"):]
		var got tape.Record
		if err := got.UnmarshalBinary(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		clear(b)
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: its data is not a copy", name)
		}
	}
}

func TestNoRecord(t *testing.T) {
	whole, _ := tape.Record{Seq: 1, Time: time.Unix(1, 0), Stream: tape.Stdout}.AppendBinary(nil)
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"a cut header":        whole[:len(whole)-1],
		"stream 0":            append(append(bytes.Clone(whole[:16]), 0), whole[17:]...),
		"a stream too many":   append(append(bytes.Clone(whole[:16]), 4), whole[17:]...),
		"the highest of them": append(append(bytes.Clone(whole[:16]), 255), whole[17:]...),
	} {
		var r tape.Record
		if err := r.UnmarshalBinary(b); err == nil {
			t.Errorf("%s was read as %+v", name, r)
		}
	}
}

// FuzzRecord: what is read is what was written, whoever wrote it.
func FuzzRecord(f *testing.F) {
	whole, _ := tape.Record{Seq: 1, Time: time.Unix(1, 2), Stream: tape.Stdout, Partial: true, Data: []byte("x")}.AppendBinary(nil)
	f.Add(whole)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again tape.Record
		if r.UnmarshalBinary(b) != nil {
			return
		}
		written, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalBinary(written); err != nil || !cmp.Equal(r, again) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
