package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

// FuzzReadFrame: whatever comes, reading ends, does not panic, and holds no more memory than a frame may have; what was
// written is read back.
func FuzzReadFrame(f *testing.F) {
	whole, _ := appendFrame(nil, frameValue, "hello")
	end, _ := appendFrame(nil, frameEnd, nil)
	f.Add(append(whole, end...))
	f.Add([]byte{})
	f.Add([]byte{'v', 0, 0, 0, 1})
	f.Add([]byte{'v', 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{'v', 0, 0xff, 0xff, 0xff, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		var buf []byte
		var again []byte
		for {
			kind, payload, err := readFrame(r, buf)
			if err != nil {
				break
			}
			buf = payload
			again = append(again, kind, byte(len(payload)>>24), byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)))
			again = append(again, payload...)
		}
		if !bytes.HasPrefix(data, again) {
			t.Errorf("%q was read from %q", again, data)
		}
		if cap(buf) > MaxMessage+bufio.MaxScanTokenSize {
			t.Errorf("a buffer of %d bytes", cap(buf))
		}
	})
}

// TestAnnouncedFrame: a frame's length is not believed before its bytes have come.
func TestAnnouncedFrame(t *testing.T) {
	r := bufio.NewReader(io.MultiReader(bytes.NewReader([]byte{'v', 0, 0xff, 0xff, 0xff}), bytes.NewReader([]byte("short"))))
	_, buf, err := readFrame(r, nil)
	if !errors.Is(err, io.ErrUnexpectedEOF) || cap(buf) > 1<<20 {
		t.Errorf("%d bytes held, %v", cap(buf), err)
	}
}
