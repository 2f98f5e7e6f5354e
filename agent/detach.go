package agent

import "io"

// detachReader reads a client's input up to a sequence of detach keys. The sequence is not delivered; the beginning of
// one that turns out to be none is. It compares as dockerd does: a key that breaks a sequence does not begin one.
type detachReader struct {
	r        io.Reader
	keys     []byte
	matched  int
	held     []byte // read, and to be delivered before anything else
	detached bool
	err      error
}

// Read returns io.EOF at the sequence; detached tells it from the end of the input.
func (d *detachReader) Read(b []byte) (int, error) {
	if len(d.keys) == 0 {
		return d.r.Read(b)
	}
	for {
		if len(d.held) > 0 {
			n := copy(b, d.held)
			d.held = d.held[n:]
			return n, nil
		}
		if d.detached {
			return 0, io.EOF
		}
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(b)
		d.err = err
		d.scan(b[:n])
		if err != nil && !d.detached {
			d.held = append(d.held, d.keys[:d.matched]...)
			d.matched = 0
		}
	}
}

// scan puts what is to be delivered of p into held.
func (d *detachReader) scan(p []byte) {
	d.held = d.held[:0]
	for _, c := range p {
		if c == d.keys[d.matched] {
			if d.matched++; d.matched == len(d.keys) {
				d.detached = true
				return
			}
			continue
		}
		d.held = append(append(d.held, d.keys[:d.matched]...), c)
		d.matched = 0
	}
}
