package link

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// frameHeader is the length of a frame's header on the wire.
const frameHeader = 1 + 4 + 8 + 8

// maxFrame bounds the payload of one frame.
const maxFrame = 256 << 10

type frameType uint8

const (
	frameData frameType = 1 + iota
	frameAck
	framePing
	framePong
	frameBye
)

// frame is a frame's header: see the package comment.
type frame struct {
	kind   frameType
	length uint32
	seq    uint64
	ack    uint64
}

var errFrame = errors.New("bad frame")

// put writes f into the first frameHeader bytes of b.
func (f frame) put(b []byte) {
	_ = b[frameHeader-1]
	b[0] = byte(f.kind)
	binary.BigEndian.PutUint32(b[1:], f.length)
	binary.BigEndian.PutUint64(b[5:], f.seq)
	binary.BigEndian.PutUint64(b[13:], f.ack)
}

// parseFrame reads a header from the first frameHeader bytes of b.
func parseFrame(b []byte) (frame, error) {
	_ = b[frameHeader-1]
	f := frame{
		kind:   frameType(b[0]),
		length: binary.BigEndian.Uint32(b[1:]),
		seq:    binary.BigEndian.Uint64(b[5:]),
		ack:    binary.BigEndian.Uint64(b[13:]),
	}
	switch {
	case f.kind < frameData || f.kind > frameBye:
		return frame{}, fmt.Errorf("%w: type %d", errFrame, f.kind)
	case f.kind == frameData && (f.length == 0 || f.length > maxFrame):
		return frame{}, fmt.Errorf("%w: data of %d bytes", errFrame, f.length)
	case f.kind != frameData && f.length != 0:
		return frame{}, fmt.Errorf("%w: type %d with a payload of %d bytes", errFrame, f.kind, f.length)
	}
	return f, nil
}
