package wire

import (
	"bufio"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

const (
	frameValue = 'v'
	frameError = 'e'
	frameEnd   = 'z'
)

// appendFrame appends one frame to b: kind, length, then v in the form that its type has.
func appendFrame(b []byte, kind byte, v any) ([]byte, error) {
	start := len(b)
	b = append(b, kind, 0, 0, 0, 0)
	var err error
	switch v := v.(type) {
	case nil:
	case encoding.BinaryAppender:
		b, err = v.AppendBinary(b)
	default:
		var j []byte
		j, err = json.Marshal(v)
		b = append(b, j...)
	}
	if err != nil {
		return b[:start], err
	}
	size := len(b) - start - 5
	if size > MaxMessage {
		return b[:start], fmt.Errorf("cannot send a record of %d bytes: at most %d", size, MaxMessage)
	}
	binary.BigEndian.PutUint32(b[start+1:], uint32(size))
	return b, nil
}

// readFrame reads one frame. The payload is in buf, which grows as needed and is returned for the next call.
func readFrame(r *bufio.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, io.ErrUnexpectedEOF
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > MaxMessage {
		return 0, buf, fmt.Errorf("cannot read a frame of %d bytes: at most %d", size, MaxMessage)
	}
	if uint32(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, buf, io.ErrUnexpectedEOF
	}
	return head[0], buf, nil
}

// decodeRecord reads a payload into v, which points to a record.
func decodeRecord(payload []byte, v any) error {
	if b, ok := v.(encoding.BinaryUnmarshaler); ok {
		if _, isBinary := v.(encoding.BinaryAppender); isBinary {
			return b.UnmarshalBinary(payload)
		}
	}
	return json.Unmarshal(payload, v)
}
