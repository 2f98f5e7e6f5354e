package link

import (
	"encoding/binary"
	"fmt"
)

// messageHeader is the length of a message's header in the resumable stream.
const messageHeader = 1 + 4 + 4

// maxPiece is the most data that one message carries: 128 KiB, and the few bytes that who copies so much at a time puts before
// it, such as a frame's header or a chunk's. In a message of their own they would cost as much as the 128 KiB.
const maxPiece = 128<<10 + 64

// maxMessage is the largest message.
const maxMessage = messageHeader + maxPiece

type messageKind uint8

const (
	messageOpen   messageKind = 1 + iota // a new stream
	messageData                          // value bytes follow
	messageWindow                        // the sender takes value bytes more
	messageEnd                           // no more data
	messageReset                         // both ways are over, at once
)

// message is a message's header: see the package comment.
type message struct {
	kind   messageKind
	stream uint32
	value  uint32
}

// bytes returns the header as it is sent.
func (m message) bytes() (b [messageHeader]byte) {
	b[0] = byte(m.kind)
	binary.BigEndian.PutUint32(b[1:], m.stream)
	binary.BigEndian.PutUint32(b[5:], m.value)
	return b
}

// parseMessage reads a header. What it says is within the protocol's bounds.
func parseMessage(b [messageHeader]byte) (message, error) {
	m := message{kind: messageKind(b[0]), stream: binary.BigEndian.Uint32(b[1:]), value: binary.BigEndian.Uint32(b[5:])}
	switch {
	case m.kind < messageOpen || m.kind > messageReset:
		return message{}, fmt.Errorf("%w: a message of type %d", ErrBroken, m.kind)
	case m.kind == messageData && (m.value == 0 || m.value > maxPiece):
		return message{}, fmt.Errorf("%w: a message of %d bytes", ErrBroken, m.value)
	case m.kind == messageWindow && (m.value == 0 || m.value > maxCredit):
		return message{}, fmt.Errorf("%w: a window of %d bytes", ErrBroken, m.value)
	case m.kind != messageData && m.kind != messageWindow && m.value != 0:
		return message{}, fmt.Errorf("%w: a message of type %d with the value %d", ErrBroken, m.kind, m.value)
	}
	return m, nil
}

// piece is how many of n bytes make the next message. Several are of about one size, so that the last one is not some bytes.
func piece(n int) int {
	messages := (n + maxPiece - 1) / maxPiece
	return (n + messages - 1) / messages
}
