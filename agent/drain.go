package agent

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long a stream that a descendant has inherited is listened to after the process's exit.
	quiet = 100 * time.Millisecond
	// quietLimit bounds that for descendants that keep writing; dockerd gives them as long.
	quietLimit = 2 * time.Second
)

// drain reads one of a process's output streams to its end.
//
// The end is that of the file if nobody else has it, and else some quiet after the process's exit: who started a
// daemon is not kept waiting for it. What was written before the exit is read in any case, however slowly it is taken.
type drain struct {
	file *os.File

	mu    sync.Mutex
	until time.Time // after the exit: when to stop listening
}

// stop says that the process has exited.
func (d *drain) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(quietLimit)
	_ = d.file.SetReadDeadline(time.Now().Add(quiet)) // a file that cannot have one ends by itself
}

// run hands out what it reads, in buffers that begin with frameHeader bytes of space and are used again. The file is the
// caller's to close, after the exit: a process may have let go of its terminal for a while.
func (d *drain) run(take func(buf []byte)) {
	buf := make([]byte, frameHeader+readSize)
	for {
		n, err := d.file.Read(buf[frameHeader:])
		if n > 0 {
			take(buf[:frameHeader+n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			d.rest(buf, take)
			return
		}
		if err != nil {
			return // io.EOF, or EIO from a terminal without users
		}
		d.extend()
	}
}

// extend gives a descendant that still writes after the exit more time, within the limit.
func (d *drain) extend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until.IsZero() {
		return
	}
	next := time.Now().Add(quiet)
	if next.After(d.until) {
		next = d.until
	}
	_ = d.file.SetReadDeadline(next)
}

// rest reads what the file holds without waiting. A deadline that has passed hides it from Read: it may have passed
// while the last piece was taken.
func (d *drain) rest(buf []byte, take func([]byte)) {
	conn, err := d.file.SyscallConn()
	if err != nil || d.file.SetReadDeadline(time.Time{}) != nil {
		return
	}
	// No pipe holds more, so a descendant that keeps writing does not keep us here.
	for left := 1 << 20; left > 0; {
		n := 0
		_ = conn.Read(func(fd uintptr) bool { // its error is that of a closed file: n is 0
			n, _ = unix.Read(int(fd), buf[frameHeader:])
			return true
		})
		if n <= 0 {
			return
		}
		take(buf[:frameHeader+n])
		left -= n
	}
}
