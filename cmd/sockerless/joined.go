package main

import (
	"net"
	"sync"
)

// joined is a listener that also gives out connections that have come in another way.
type joined struct {
	net.Listener
	arrivals chan arrival
	once     sync.Once
	over     chan struct{} // closed by Close
}

type arrival struct {
	conn net.Conn
	err  error
}

// join takes a listener over, which is closed with what it returns.
func join(l net.Listener) *joined {
	j := &joined{Listener: l, arrivals: make(chan arrival), over: make(chan struct{})}
	go func() { // ends with Close
		for {
			select {
			case <-j.over:
				return
			default:
				c, err := l.Accept()
				j.arrive(arrival{c, err})
			}
		}
	}()
	return j
}

// take has Accept give out a connection; after Close it closes it.
func (j *joined) take(c net.Conn) { j.arrive(arrival{conn: c}) }

func (j *joined) arrive(a arrival) {
	select {
	case j.arrivals <- a:
	case <-j.over:
		if a.conn != nil {
			a.conn.Close()
		}
	}
}

// Accept returns the next connection of either kind.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.arrivals:
		return a.conn, a.err
	case <-j.over:
		return nil, net.ErrClosed
	}
}

// Close closes the listener.
func (j *joined) Close() error {
	j.once.Do(func() { close(j.over) })
	return j.Listener.Close()
}
