package wire

import (
	"bufio"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of an accepted session: raw bytes both ways, half-closed on their own.
type Conn struct {
	net.Conn
	r *bufio.Reader // what was read ahead with the headers; nil once that is used up

	// Cut, if it is set on a client's side, is called by Splice when the output is cut off under a client that is still there,
	// before that side is closed: to a client on a unix socket the close looks like the output's end.
	Cut func()
}

// NewConn makes a Conn of a connection that was upgraded, and of what was read ahead of it with the headers. r may be nil.
func NewConn(c net.Conn, r *bufio.Reader) *Conn {
	if r != nil && r.Buffered() == 0 {
		r = nil
	}
	return &Conn{Conn: c, r: r}
}

// Read reads what came with the headers first, then from the connection.
func (c *Conn) Read(b []byte) (int, error) {
	if c.r != nil {
		if c.r.Buffered() > 0 {
			return c.r.Read(b[:min(len(b), c.r.Buffered())])
		}
		c.r = nil
	}
	return c.Conn.Read(b)
}

// CloseWrite ends this direction and leaves the other one.
func (c *Conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Conn.Close()
}

// Reset abandons the session: the peer sees an error rather than an end.
func (c *Conn) Reset() error {
	switch r := c.Conn.(type) {
	case interface{ Reset() error }:
		return r.Reset()
	case *net.TCPConn:
		r.SetLinger(0) //nolint:errcheck // the close below decides
	}
	return c.Conn.Close()
}

// raw returns the connection below once nothing is left to read ahead, so that the kernel may splice.
func (c *Conn) raw() net.Conn {
	if c.r != nil && c.r.Buffered() > 0 {
		return c
	}
	return c.Conn
}

// HalfCloser is a stream whose write side ends on its own.
type HalfCloser interface {
	io.ReadWriteCloser
	CloseWrite() error
}

const (
	// drainTime is how long Splice waits, after the output's end, for the client to close its side.
	drainTime = 5 * time.Second
	// hangupTime is how often Splice looks whether a client that has ended its input is still there.
	hangupTime = 3 * time.Second
)

// Splice copies both ways between a client's side and a process's side until the process's output has ended, then
// closes both. The end of the client's input is passed on as a half-close. When the client vanishes, the process's side
// is reset, if it can be, so that the next hop learns of it too; and so is the client's side when the output is cut: to
// it that must not look like an end. The error is that of the output's copy: nil if the client got all of it.
func Splice(client, process HalfCloser) error {
	var input sync.WaitGroup
	ended := make(chan struct{}) // the output
	input.Go(func() {            // ends with the client's input, at the latest drainTime after the output's end
		from := &watched{Reader: client}
		_, err := copyBytes(process, from)
		if err != nil && from.err == nil {
			// The process's side takes no more, and may still have output. A socket that is closed with unread input
			// resets the connection, and the client may lose the output's tail to that: read it and drop it.
			_, from.err = io.Copy(io.Discard, client)
		}
		if from.err != nil {
			abandon(process)
			return
		}
		process.CloseWrite() //nolint:errcheck // a process that has ended takes no more input
		if vanished(client, ended) {
			abandon(process)
		}
	})
	_, err := copyBytes(client, process)
	close(ended)
	if err != nil {
		abandon(process)
	} else {
		err = client.CloseWrite()
	}
	process.Close()
	d, ok := client.(interface{ SetReadDeadline(time.Time) error })
	switch {
	case err != nil:
		if c, ok := client.(*Conn); ok && c.Cut != nil && !left(c.Conn)() {
			c.Cut()
		}
		abandon(client)
	case !ok || d.SetReadDeadline(time.Now().Add(drainTime)) != nil:
		client.Close()
	}
	input.Wait()
	client.Close()
	return err
}

// vanished waits until the client that has ended its input is gone altogether, or the output has ended.
func vanished(client HalfCloser, ended <-chan struct{}) bool {
	var side any = client
	if c, ok := client.(*Conn); ok {
		side = c.Conn
	}
	gone := left(side)
	look := time.NewTicker(hangupTime)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-look.C:
			if gone() {
				return true
			}
		}
	}
}

// left returns what tells whether a client is gone altogether, as far as its side of a session can.
func left(side any) func() bool {
	switch c := side.(type) {
	case interface{ Broken() bool }: // a link's stream
		return c.Broken
	case syscall.Conn:
		return func() bool { return hungUp(c) }
	}
	return func() bool { return false }
}

// abandon closes a side as one does that has vanished: not by an end, which would be a half-close to a process, and all
// there is to a client. A unix socket has no other way to be closed.
func abandon(side HalfCloser) {
	if r, ok := side.(interface{ Reset() error }); ok {
		r.Reset() //nolint:errcheck // it is closed then, whatever it says
		return
	}
	if tcp, ok := side.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // the close below decides
	}
	side.Close()
}

// watched keeps the error of its reads, so that it can be told from an error of the writes.
type watched struct {
	io.Reader
	err error
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// batch is two of a link's messages: a copy of less takes one of them apart, and wakes more.
const batch = 128 << 10

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, batch); return &b }}

func copyBytes(dst io.Writer, src io.Reader) (int64, error) {
	if c, ok := src.(*Conn); ok {
		src = c.raw()
	}
	if c, ok := dst.(*Conn); ok {
		dst = c.Conn
	}
	if spliced(dst, src) {
		return io.Copy(dst, src)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, *buf)
}

// spliced says whether io.Copy leaves the bytes to the kernel: of the two ends, at least one must be TCP.
func spliced(dst io.Writer, src io.Reader) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	_, srcTCP := src.(*net.TCPConn)
	_, srcUnix := src.(*net.UnixConn)
	_, dstTCP := dst.(*net.TCPConn)
	_, dstUnix := dst.(*net.UnixConn)
	return srcTCP && (dstTCP || dstUnix) || srcUnix && dstTCP
}

// onlyWriter and onlyReader hide the shortcuts that would bring a buffer of another size.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
