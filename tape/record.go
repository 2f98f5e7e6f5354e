// Package tape holds the one form that a container's output has on its way: numbered records. The agent makes them, the
// engine stores them, a frontend prints them, and none of them re-frames what another wrote.
package tape

import (
	"encoding/binary"
	"errors"
	"time"
)

// Stream is where a record was written to.
type Stream uint8

// The streams, numbered as Docker's stdcopy numbers them. A Gap record says that records were lost; its Data says, for
// people, how much.
const (
	Stdout Stream = 1
	Stderr Stream = 2
	Gap    Stream = 3
)

// Record is one line that a container wrote, or a part of a line that was longer than a record may be.
type Record struct {
	Seq     uint64    // counts the container's records from 1; a jump is a gap
	Time    time.Time // of the line: its pieces have the first one's
	Stream  Stream
	Partial bool   // the line has no end yet: it goes on in this stream's next record, if there is one
	Later   bool   // the line began in an earlier record of this stream
	Data    []byte // with its newline, unless Partial or the last of a stream that ended without one
}

const header = 8 + 8 + 1 + 1

const (
	flagPartial = 1 << iota
	flagLater
)

// AppendBinary appends the record's wire form: seq, time in ns (both big endian), stream, flags, data.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, r.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	var flags byte
	if r.Partial {
		flags |= flagPartial
	}
	if r.Later {
		flags |= flagLater
	}
	b = append(b, byte(r.Stream), flags)
	return append(b, r.Data...), nil
}

// UnmarshalBinary reads what AppendBinary wrote. Data is a copy.
func (r *Record) UnmarshalBinary(b []byte) error {
	if len(b) < header {
		return errors.New("cannot read a log record: it is too short")
	}
	if s := Stream(b[16]); s < Stdout || s > Gap {
		return errors.New("cannot read a log record: its stream is none that is known")
	}
	r.Seq = binary.BigEndian.Uint64(b)
	r.Time = time.Unix(0, int64(binary.BigEndian.Uint64(b[8:])))
	r.Stream = Stream(b[16])
	r.Partial, r.Later = b[17]&flagPartial != 0, b[17]&flagLater != 0
	r.Data = append([]byte(nil), b[header:]...)
	return nil
}
