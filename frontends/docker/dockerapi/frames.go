package dockerapi

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/sockerless/sockerless"
)

// frameHeader is the length of stdcopy's: the stream, three zeros, the length (big endian).
const frameHeader = 8

// appendFrame appends data as one stdcopy frame.
func appendFrame(b []byte, stream stdcopy.StdType, data ...[]byte) []byte {
	size := 0
	for _, d := range data {
		size += len(d)
	}
	b = append(b, byte(stream), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for _, d := range data {
		b = append(b, d...)
	}
	return b
}

// framing is the session of a terminal, for a client that wants frames.
type framing struct {
	sockerless.Session
	rest []byte // of a frame that did not fit
}

// Read gives frames of standard output.
func (f *framing) Read(b []byte) (int, error) {
	if len(f.rest) == 0 {
		data := make([]byte, 32<<10)
		n, err := f.Session.Read(data)
		if n == 0 {
			return 0, err
		}
		f.rest = appendFrame(nil, stdcopy.Stdout, data[:n])
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Reset abandons the session.
func (f *framing) Reset() error { return reset(f.Session) }

// unframing is the session of a process without a terminal, for a client that wants none of the frames: both streams
// come as one.
type unframing struct {
	sockerless.Session
	left int // bytes of the present frame
}

// Read gives the frames' data.
func (u *unframing) Read(b []byte) (int, error) {
	for u.left == 0 {
		var head [frameHeader]byte
		if _, err := io.ReadFull(u.Session, head[:]); err != nil {
			return 0, err
		}
		u.left = int(binary.BigEndian.Uint32(head[4:]))
	}
	n, err := u.Session.Read(b[:min(len(b), u.left)])
	u.left -= n
	if u.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the session was cut
	}
	return n, err
}

// Reset abandons the session.
func (u *unframing) Reset() error { return reset(u.Session) }

// reset tells a session's other end that the client is gone, which a Close does not where it is a half-close.
func reset(s sockerless.Session) error {
	if r, ok := s.(interface{ Reset() error }); ok {
		return r.Reset()
	}
	return s.Close()
}
