package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/sockerless/sockerless/wire"
)

// writes keeps the sizes of what is written.
type writes struct {
	bytes.Buffer
	sizes []int
}

func (w *writes) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return w.Buffer.Write(p)
}

func TestCopyBulkPassesOnMuchAtOnce(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 60_000)
	var w writes
	n, err := wire.CopyBulk(&w, iotest.HalfReader(bytes.NewReader(data)))
	if n != int64(len(data)) || err != nil || !bytes.Equal(w.Bytes(), data) {
		t.Errorf("%d bytes, %v, or others", n, err)
	}
	if len(w.sizes) != 3 {
		t.Errorf("pieces of %v bytes, want three", w.sizes)
	}
}

func TestCopyBulkTellsTheErrorAfterTheData(t *testing.T) {
	for _, want := range []error{errors.New("broken"), io.ErrUnexpectedEOF} {
		var w writes
		n, err := wire.CopyBulk(&w, io.MultiReader(bytes.NewReader([]byte("hello")), iotest.ErrReader(want)))
		if n != 5 || !errors.Is(err, want) || w.String() != "hello" {
			t.Errorf("%d bytes, %q, %v, want %v", n, w.String(), err, want)
		}
	}
	r, w := io.Pipe()
	w.CloseWithError(io.ErrClosedPipe)
	if _, err := wire.CopyBulk(w, bytes.NewReader([]byte("hello"))); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a writer that is closed: %v", err)
	}
	r.Close()
}
