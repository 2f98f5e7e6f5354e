package wire

import (
	"bufio"
	"io"
	"sync"
)

// bulkPiece is how much of a bulk is passed on at once. net/http splits off 4 KiB of whatever is written to an answer, and
// each part is a message of its own on a link.
const bulkPiece = 256 << 10

var bulkWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, bulkPiece) }}

// CopyBulk copies what nobody waits for a part of, such as an archive: it waits until there is much to pass on, or the end.
// A shortcut of either end is not taken. What came before an error is passed on, too; the number is that of bytes read.
func CopyBulk(dst io.Writer, src io.Reader) (int64, error) {
	w := bulkWriters.Get().(*bufio.Writer)
	defer bulkWriters.Put(w)
	w.Reset(onlyWriter{dst})
	defer w.Reset(nil)
	n, err := w.ReadFrom(src)
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	return n, err
}

// Body is the bytes of a download's answer. It is sent once at most, and closed in any case.
type Body interface {
	Send(io.Writer) error
	io.Closer
}

// NewBody returns what r gives as a body, which closes r.
func NewBody(r io.ReadCloser) Body { return reader{r} }

type reader struct{ io.ReadCloser }

func (r reader) Send(w io.Writer) error {
	_, err := CopyBulk(w, r.ReadCloser)
	return err
}

// upload is the body of a request: net/http copies one that does not write itself in pieces of 32 KiB at most.
type upload struct{ io.Reader }

func (u upload) WriteTo(w io.Writer) (int64, error) { return CopyBulk(w, u.Reader) }
