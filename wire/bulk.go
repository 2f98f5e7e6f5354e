package wire

import (
	"errors"
	"io"
	"sync"
)

// bulkPiece is how much of a bulk is passed on at once. net/http splits off 4 KiB of whatever is written to an answer, and
// each part is a message of its own on a link.
const bulkPiece = 256 << 10

var bulkPieces = sync.Pool{New: func() any { b := make([]byte, bulkPiece); return &b }}

// CopyBulk copies what nobody waits for a part of, such as an archive: it waits until there is much to pass on, or the end.
// A shortcut of either end is not taken.
func CopyBulk(dst io.Writer, src io.Reader) (int64, error) {
	buf := bulkPieces.Get().(*[]byte)
	defer bulkPieces.Put(buf)
	total := int64(0)
	for {
		n, err := 0, error(nil)
		for n < bulkPiece && err == nil {
			var m int
			m, err = src.Read((*buf)[n:])
			n += m
		}
		if n > 0 {
			m, werr := dst.Write((*buf)[:n])
			if total += int64(m); werr != nil {
				return total, werr
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
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
