package wire

import (
	"bufio"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

const (
	frameValue = 'v'
	frameError = 'e'
	frameEnd   = 'z'

	// firstRead is how much of a frame memory is made for before any of it has come.
	firstRead = 64 << 10
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
		b, err = appendJSON(b, v)
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

// JSONAppender is a value that writes its own JSON. It is sent as it is: what a json.Marshaler writes, encoding/json reads once
// more.
type JSONAppender interface {
	AppendJSON(b []byte) ([]byte, error)
}

func appendJSON(b []byte, v any) ([]byte, error) {
	if a, ok := v.(JSONAppender); ok {
		return a.AppendJSON(b)
	}
	j, err := json.Marshal(v)
	return append(b, j...), err
}

// readFrame reads one frame. The payload is in buf, which grows as needed and is returned for the next call.
func readFrame(r *bufio.Reader, buf []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf, io.ErrUnexpectedEOF
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size > MaxMessage {
		return 0, buf, fmt.Errorf("cannot read a frame of %d bytes: at most %d", size, MaxMessage)
	}
	// A length that was announced is not yet worth its memory: the buffer grows with what has come.
	for buf = buf[:0]; len(buf) < size; {
		n := min(size-len(buf), max(len(buf), firstRead))
		buf = slices.Grow(buf, n)[:len(buf)+n]
		if _, err := io.ReadFull(r, buf[len(buf)-n:]); err != nil {
			return 0, buf, io.ErrUnexpectedEOF
		}
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
