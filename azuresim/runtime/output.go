//go:build linux

package runtime

import (
	"bytes"
	"io"
)

// maxLine is where containerd's CRI splits a line of output.
const maxLine = 16 << 10

// splitLines calls emit with each line of r without its newline, in pieces of maxLine bytes where it is longer, and with
// what stands after the last newline. Its memory is bounded. It returns at the end of r.
func splitLines(r io.Reader, emit func([]byte)) {
	buf := make([]byte, 4*maxLine)
	have := 0
	for {
		n, err := r.Read(buf[have:])
		have += n
		rest := buf[:have]
		for {
			i := bytes.IndexByte(rest, '\n')
			switch {
			case i >= 0 && i <= maxLine:
				emit(rest[:i])
				rest = rest[i+1:]
				continue
			case i > maxLine || i < 0 && len(rest) > maxLine:
				emit(rest[:maxLine])
				rest = rest[maxLine:]
				continue
			}
			break
		}
		if err != nil {
			if len(rest) > 0 {
				emit(rest)
			}
			return
		}
		have = copy(buf, rest)
	}
}
