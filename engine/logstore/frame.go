package logstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/sockerless/sockerless/tape"
)

const (
	head      = 8        // length and checksum, before the record
	foot      = 4        // length, after it
	maxRecord = 16 << 20 // what a damaged length may cost, in bytes

	maxSought = 64 << 10 // the largest record that is looked for behind a damaged one
	maxVain   = 64 << 20 // bytes that are checked in vain before the rest of a file is given up: a log's text can look like frames
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errTorn    = errors.New("the frame is torn or damaged")
)

// appendFrame appends a record with its frame.
func appendFrame(b []byte, r tape.Record) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, head)...)
	b, err := r.AppendBinary(b)
	if err != nil {
		return b[:start], err
	}
	payload := b[start+head:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return binary.BigEndian.AppendUint32(b, uint32(len(payload))), nil
}

// frameReader reads frames one after the other.
type frameReader struct {
	r   *bufio.Reader
	buf []byte
}

// next returns the next record and its frame's size: io.EOF at the end, errTorn for what no append has completed.
func (f *frameReader) next() (tape.Record, int64, error) {
	var r tape.Record
	var h [head]byte
	if _, err := io.ReadFull(f.r, h[:]); err != nil {
		if err == io.EOF {
			return r, 0, io.EOF
		}
		return r, 0, torn(err)
	}
	size := binary.BigEndian.Uint32(h[:])
	if size > maxRecord {
		return r, 0, errTorn
	}
	if uint32(cap(f.buf)) < size+foot {
		f.buf = make([]byte, size+foot)
	}
	b := f.buf[:size+foot]
	if _, err := io.ReadFull(f.r, b); err != nil {
		return r, 0, torn(err)
	}
	if crc32.Checksum(b[:size], castagnoli) != binary.BigEndian.Uint32(h[4:]) || binary.BigEndian.Uint32(b[size:]) != size {
		return r, 0, errTorn
	}
	if err := r.UnmarshalBinary(b[:size]); err != nil {
		return r, 0, errTorn
	}
	return r, int64(head + size + foot), nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// backward reads frames from the end of a file to its begin, through one window that moves down.
type backward struct {
	f      io.ReaderAt
	end    int64 // of the frame to read next
	window []byte
	from   int64 // where the window begins
}

const windowSize = 256 << 10

// prev returns the record before the one it returned last and where its frame begins; io.EOF at the file's begin.
func (b *backward) prev() (tape.Record, int64, error) {
	var r tape.Record
	if b.end == 0 {
		return r, 0, io.EOF
	}
	if b.end < head+foot {
		return r, 0, errTorn
	}
	p, err := b.bytes(b.end-foot, foot)
	if err != nil {
		return r, 0, err
	}
	size := int64(binary.BigEndian.Uint32(p))
	start := b.end - foot - size - head
	if size > maxRecord || start < 0 {
		return r, 0, errTorn
	}
	if p, err = b.bytes(start, head+size); err != nil {
		return r, 0, err
	}
	if int64(binary.BigEndian.Uint32(p)) != size || crc32.Checksum(p[head:], castagnoli) != binary.BigEndian.Uint32(p[4:]) {
		return r, 0, errTorn
	}
	if err := r.UnmarshalBinary(p[head:]); err != nil {
		return r, 0, errTorn
	}
	b.end = start
	return r, start, nil
}

func (b *backward) bytes(at, n int64) ([]byte, error) {
	if at < b.from || at+n > b.from+int64(len(b.window)) {
		// The window ends where the wanted bytes end: the next ones wanted are below.
		from := max(0, at+n-max(windowSize, n))
		size := at + n - from
		if int64(cap(b.window)) < size {
			b.window = make([]byte, size)
		}
		b.window, b.from = b.window[:size], from
		if _, err := b.f.ReadAt(b.window, from); err != nil {
			b.window = b.window[:0]
			return nil, err
		}
	}
	return b.window[at-b.from : at-b.from+n], nil
}

// search looks for whole frames in what a damaged one has left.
type search struct {
	f    io.ReaderAt
	vain int64 // bytes of payload that were no record's
	buf  []byte
}

// forward returns where the first whole frame begins that lies between from and end, or end if there is none.
func (s *search) forward(from, end int64) (int64, error) {
	window := make([]byte, flushAt)
	for from+head+foot <= end {
		w := window[:min(int64(len(window)), end-from)]
		if err := readAt(s.f, w, from); err != nil {
			return 0, err
		}
		for i := 0; i+4 <= len(w); i++ {
			ok, err := s.frame(from+int64(i), int64(binary.BigEndian.Uint32(w[i:])), end)
			if err != nil {
				return 0, err
			}
			if ok {
				return from + int64(i), nil
			}
			if s.vain > maxVain {
				return end, nil
			}
		}
		from += int64(len(w) - 3) // a length may lie across the windows
	}
	return end, nil
}

// backward returns where the last whole frame ends that lies before end, or 0 if there is none.
func (s *search) backward(end int64) (int64, error) {
	window := make([]byte, flushAt)
	for end >= head+foot {
		w := window[:min(int64(len(window)), end)]
		from := end - int64(len(w))
		if err := readAt(s.f, w, from); err != nil {
			return 0, err
		}
		for i := len(w) - 4; i >= 0; i-- {
			size := int64(binary.BigEndian.Uint32(w[i:]))
			stop := from + int64(i) + foot
			ok, err := s.frame(stop-foot-size-head, size, stop)
			if err != nil {
				return 0, err
			}
			if ok {
				return stop, nil
			}
			if s.vain > maxVain {
				return 0, nil
			}
		}
		if from == 0 {
			break
		}
		end = from + 3
	}
	return 0, nil
}

// frame says whether a whole frame with a record of this size is at start, and ends at end or before it.
func (s *search) frame(start, size, end int64) (bool, error) {
	if size < 18 || size > maxSought || start < 0 || start+head+size+foot > end {
		return false, nil
	}
	var h [head]byte
	var f [foot]byte
	if err := errors.Join(readAt(s.f, h[:], start), readAt(s.f, f[:], start+head+size)); err != nil {
		return false, err
	}
	if int64(binary.BigEndian.Uint32(h[:])) != size || int64(binary.BigEndian.Uint32(f[:])) != size {
		return false, nil
	}
	if s.buf == nil {
		s.buf = make([]byte, maxSought)
	}
	b := s.buf[:size]
	if err := readAt(s.f, b, start+head); err != nil {
		return false, err
	}
	var r tape.Record
	if crc32.Checksum(b, castagnoli) == binary.BigEndian.Uint32(h[4:]) && r.UnmarshalBinary(b) == nil {
		return true, nil
	}
	s.vain += size
	return false, nil
}

// readAt fills b: io.EOF together with all of the bytes is no error.
func readAt(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	return err
}

// frameSize is what a record takes in a file: tape's header has 18 bytes.
func frameSize(r tape.Record) int { return head + 18 + len(r.Data) + foot }
