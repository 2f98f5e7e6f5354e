package link_test

import (
	"net"
	"sync"
	"time"
)

// farConn delays both ways by a fixed time, however much is under way; what is written goes out at speed bytes a second, if that is set.
type farConn struct {
	net.Conn
	out, in *delayLine
	speed   float64
}

func newFarConn(conn net.Conn, delay time.Duration, speed float64) *farConn {
	c := &farConn{Conn: conn, out: newDelayLine(delay), in: newDelayLine(delay), speed: speed}
	go func() { // ends with the connection
		for {
			p, err := c.out.get()
			if err != nil {
				return
			}
			if _, err := conn.Write(p); err != nil {
				c.out.end(err)
				return
			}
		}
	}()
	go func() { // ends with the connection
		for {
			p := make([]byte, 64<<10)
			n, err := conn.Read(p)
			if n > 0 {
				c.in.put(p[:n])
			}
			if err != nil {
				c.in.end(err)
				return
			}
		}
	}()
	return c
}

func (c *farConn) Write(p []byte) (int, error) {
	if c.speed > 0 {
		time.Sleep(time.Duration(float64(len(p)) / c.speed * float64(time.Second)))
	}
	if err := c.out.put(append([]byte(nil), p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *farConn) Read(p []byte) (int, error) { return c.in.read(p) }

func (c *farConn) Close() error {
	c.out.end(net.ErrClosed)
	c.in.end(net.ErrClosed)
	return c.Conn.Close()
}

// delayLine hands on each piece after a delay.
type delayLine struct {
	delay  time.Duration
	pieces chan piece
	rest   []byte
	ended  chan struct{}
	once   sync.Once
	err    error
}

type piece struct {
	b   []byte
	due time.Time
}

func newDelayLine(delay time.Duration) *delayLine {
	return &delayLine{delay: delay, pieces: make(chan piece, 1024), ended: make(chan struct{})}
}

func (d *delayLine) end(err error) {
	d.once.Do(func() {
		d.err = err
		close(d.ended)
	})
}

func (d *delayLine) put(b []byte) error {
	select {
	case d.pieces <- piece{b, time.Now().Add(d.delay)}:
		return nil
	case <-d.ended:
		return d.err
	}
}

func (d *delayLine) get() ([]byte, error) {
	select {
	case p := <-d.pieces:
		time.Sleep(time.Until(p.due))
		return p.b, nil
	case <-d.ended:
		return nil, d.err
	}
}

func (d *delayLine) read(p []byte) (int, error) {
	if len(d.rest) == 0 {
		b, err := d.get()
		if err != nil {
			return 0, err
		}
		d.rest = b
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}
