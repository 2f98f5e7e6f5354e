package linktest

import (
	"context"
	"net"
	"sync"
)

// Network is connections in memory to one listener, whose time is that of a synctest bubble.
type Network struct {
	wrap   func(net.Conn) net.Conn
	next   chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	down  bool // connections fail
	conns []net.Conn
}

// NewNetwork returns a network that is up. wrap, which may be nil, comes between the dialling end and its connections.
func NewNetwork(wrap func(net.Conn) net.Conn) *Network {
	if wrap == nil {
		wrap = func(c net.Conn) net.Conn { return c }
	}
	return &Network{wrap: wrap, next: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial gives the dialling end of a new connection.
func (n *Network) Dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, ErrFault
	}
	near, far := net.Pipe()
	select {
	case n.next <- far:
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	near = n.wrap(near)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, near)
	return near, nil
}

// Set cuts every connection and says whether there can be others.
func (n *Network) Set(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// Accept gives the other end.
func (n *Network) Accept() (net.Conn, error) {
	select {
	case c := <-n.next:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr is no address that anybody else could dial.
func (n *Network) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }
