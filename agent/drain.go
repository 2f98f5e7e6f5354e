package agent

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quiet is how long a stream that a descendant has inherited is listened to after the process's exit.
	quiet = 100 * time.Millisecond
	// quietLimit bounds that for descendants that keep writing, and is what an exec's have in any case: dockerd waits
	// as long for the streams of a process that has exited.
	quietLimit = 2 * time.Second
	// maxLeftovers bounds the pipes that are read for nobody.
	maxLeftovers = 256
)

// drain reads one of a process's output streams to its end.
//
// The end is that of the file if nobody else has it, and else some quiet after the process's exit: who started a
// daemon is not kept waiting for it. What was written before the exit is read in any case, however slowly it is taken.
type drain struct {
	file  *os.File
	quiet time.Duration

	mu    sync.Mutex
	until time.Time // after the exit: when to stop listening
}

// stop says that the process has exited.
func (d *drain) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(quietLimit)
	_ = d.file.SetReadDeadline(time.Now().Add(d.quiet)) // a file that cannot have one ends by itself
}

// run hands out what it reads, in buffers that begin with frameHeader bytes of space and are used again. The file is the
// caller's to close, after the exit: a process may have let go of its terminal for a while. It reports whether nobody has
// the other end any more.
func (d *drain) run(take func(buf []byte)) (ended bool) {
	buf := make([]byte, frameHeader+readSize)
	for {
		n, err := d.file.Read(buf[frameHeader:])
		if n > 0 {
			take(buf[:frameHeader+n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			d.rest(buf, take)
			return false
		}
		if err != nil {
			return true // io.EOF, or EIO from a terminal without users
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
	next := time.Now().Add(d.quiet)
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

// leftovers are the pipes of execs that have ended which something that these left behind still has. They are read for
// nobody: a closed pipe would kill who writes to it, and a full one would stop it.
type leftovers struct {
	mu    sync.Mutex
	files map[*os.File]struct{}
}

// add reads a pipe to its end and closes it. It closes one too many at once.
func (l *leftovers) add(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.files) >= maxLeftovers {
		f.Close()
		return
	}
	if l.files == nil {
		l.files = map[*os.File]struct{}{}
	}
	l.files[f] = struct{}{}
	go func() { // ends with the last process that has the pipe, or with close
		_, _ = io.Copy(io.Discard, f) // the end, whatever it is
		f.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.files, f)
	}()
}

// close closes what is left: the container's process has ended, and who had the pipes is killed.
func (l *leftovers) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.files {
		f.Close()
	}
}
