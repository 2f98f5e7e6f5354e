//go:build linux

package runtime

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// target is where a replica's packet for dst really goes, and false where it may not go: another address of the virtual
// network, or the link-local range, where clouds keep their machine's credentials.
func target(dst netip.Addr) (netip.Addr, bool) {
	switch {
	case dst == hostIP:
		return loopback, true
	case subnet.Contains(dst), linkLocal.Contains(dst), dst.IsLoopback(), dst.IsUnspecified(), dst.IsMulticast(), dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Addr{}, false
	}
	return dst, true
}

// forwardTCP is called, on a goroutine of its own, for each connection that a replica opens to the outside.
func (n *network) forwardTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	to, ok := target(fromAddress(id.LocalAddress))
	from := n.host(fromAddress(id.RemoteAddress))
	if !ok || from == nil {
		r.Complete(true)
		return
	}
	port := id.LocalPort
	if to == loopback {
		port = from.hostPort(port)
		if n.taker(port) != nil && from.handOver(nil, id.RemotePort, id.LocalPort) {
			r.Complete(false)
			return
		}
	}
	out, err := dialHost(n.ctx, netip.AddrPortFrom(to, port))
	if err != nil {
		r.Complete(true) // the replica sees "connection refused"
		return
	}
	if to == loopback && from.handOver(out, id.RemotePort, id.LocalPort) {
		r.Complete(false)
		return
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	r.Complete(false)
	if terr != nil {
		out.Close()
		return
	}
	f := &flow{abort: func() { ep.Abort(); out.Close() }}
	if !from.track(f) {
		f.abort()
		return
	}
	defer from.untrack(f)
	splice(gonet.NewTCPConn(&queue, ep), out)
}

// dialHost connects to an address as this process sees it.
func dialHost(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// stream is a TCP connection of either kind.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// splice copies both ways until both have ended. The end of one way is passed on as a half-close; a broken way ends both.
func splice(a, b stream) {
	var ways sync.WaitGroup
	way := func(dst, src stream) {
		if _, err := copyStream(dst, src); err != nil {
			dst.Close()
			src.Close()
			return
		}
		_ = dst.CloseWrite() // fails when the other end has closed both ways
	}
	ways.Go(func() { way(a, b) }) // ends with b's end, or when either is closed
	way(b, a)
	ways.Wait()
	a.Close()
	b.Close()
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyStream hides ReadFrom and WriteTo: their fallback is a 32 KiB buffer, a quarter of the best size here.
func copyStream(dst io.Writer, src io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, *buf)
}

// udpIdle ends a UDP flow that has been quiet.
const udpIdle = 60 * time.Second

// forwardUDP is called for the first packet of each pair of addresses.
func (n *network) forwardUDP(r *udp.ForwarderRequest) {
	id := r.ID()
	to, ok := target(fromAddress(id.LocalAddress))
	from := n.host(fromAddress(id.RemoteAddress))
	if !ok || from == nil {
		return
	}
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	if terr != nil {
		return
	}
	in := gonet.NewUDPConn(&queue, ep)
	out, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, id.LocalPort)))
	if err != nil {
		_ = in.Close()
		return
	}
	f := &flow{abort: func() { _, _ = in.Close(), out.Close() }}
	if !from.track(f) {
		f.abort()
		return
	}
	n.work.Go(func() { // ends when both ways were quiet for udpIdle, or with the replica
		defer from.untrack(f)
		defer f.abort()
		var ways sync.WaitGroup
		way := func(dst, src net.Conn) {
			buf := make([]byte, 64<<10)
			for {
				_ = src.SetReadDeadline(time.Now().Add(udpIdle)) // fails on a closed one, as Read will
				m, err := src.Read(buf)
				if err != nil {
					return
				}
				if _, err := dst.Write(buf[:m]); err != nil {
					return
				}
			}
		}
		ways.Go(func() { way(in, out) })
		way(out, in)
		_ = out.Close() // a replica that asks no more gets no more answers
		ways.Wait()
	})
}
