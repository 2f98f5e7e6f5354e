//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// maxGates is how many ports of the host a replica reaches through the kernel. Further ones go through the stack.
	maxGates = 16

	// gateTable is the routing table, in each replica's namespace, in which the host's address is a local one.
	gateTable = 100

	// claimTime is how long a connection to the host waits for the replica's end of it.
	claimTime = 30 * time.Second
)

// gate is a listener inside a replica's network namespace that stands for one TCP port of the host's loopback. A routing
// rule leads the replica's connections to that port there, so that the kernel's loopback carries them and not the tap and
// the stack in this process, which costs twice the CPU.
//
// It opens when the replica has asked for the port through the stack and the host has answered: whether a port is open,
// and which addresses may be reached at all, is decided there (see target). The SYN that asked is then given back to the
// replica's kernel, which now finds a listener. Once open, a gate stays, so a later connection to a port that the host has
// closed since is accepted and reset rather than refused.
//
// The connections to a port that this process serves itself (see Runtime.Answer) are given to who serves it, as they are.
type gate struct {
	at       *attachment
	port     uint16
	listener *net.TCPListener

	mu     sync.Mutex
	claims map[uint16]*net.TCPConn // dialled already, by the port of the replica's end; nil once closed
}

// handOver leaves to the kernel a connection that the replica's port from has asked for and out is the host's end of, which
// is nil where this process takes it. It reports false when the stack must carry it. Once a gate is open the stack cannot: the
// replica's packets pass it by.
func (a *attachment) handOver(out *net.TCPConn, from, to uint16) bool {
	g := a.gate(to)
	if g == nil {
		return false
	}
	syn := a.port.syn(from, to)
	if out != nil && (syn == nil || !g.leave(from, out)) {
		out.Close()
		return true // the replica's kernel asks again in a second, and finds the gate
	}
	if syn == nil {
		return true // likewise
	}
	// To the replica's kernel it is a packet from outside.
	frame := header.Ethernet(syn)
	frame.Encode(&header.EthernetFields{SrcAddr: linkAddress(gatewayMAC), DstAddr: frame.SourceAddress(), Type: header.IPv4ProtocolNumber})
	_, _ = a.port.Write(syn)
	return true
}

// gate returns the open gate of a port of the host, or nil if there can be none.
func (a *attachment) gate(to uint16) *gate {
	a.gatesMu.Lock()
	defer a.gatesMu.Unlock()
	if g := a.gates[to]; g != nil {
		return g
	}
	if a.gates == nil || len(a.gates) >= maxGates || a.space.gateErr != nil {
		return nil
	}
	g := &gate{at: a, port: to, claims: map[uint16]*net.TCPConn{}}
	if err := a.space.run(g.open); err != nil {
		if g.listener != nil {
			g.listener.Close()
		}
		// For good: a gate that opened later would cut the port's connections off from the stack.
		a.space.gateErr = err
		a.net.log.Warn("the kernel cannot carry a replica's connections to the host", "error", err)
		return nil
	}
	a.gates[to] = g
	a.net.work.Go(g.serve) // ends with the listener
	return g
}

// share gives the replica's own loopback a port of the host's.
func (a *attachment) share(port uint16) error {
	g := &gate{at: a, port: port}
	err := a.space.run(func() error {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", netip.AddrPortFrom(loopback, port).String()) // it does not wait
		if err == nil {
			g.listener = l.(*net.TCPListener)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot share port %d of the host with a replica: %w", port, err)
	}
	a.gatesMu.Lock()
	defer a.gatesMu.Unlock()
	a.shared = append(a.shared, g)
	a.net.work.Go(g.serve) // ends with the listener
	return nil
}

// closeGates ends all gates for good.
func (a *attachment) closeGates() {
	a.gatesMu.Lock()
	defer a.gatesMu.Unlock()
	for _, g := range a.gates {
		g.close()
	}
	for _, g := range a.shared {
		g.close()
	}
	a.gates, a.shared = nil, nil
}

// prepareGates is called on a thread in a namespace: it makes the table that gates' rules lead to.
func prepareGates(h *netlink.Handle, lo netlink.Link, own netip.Addr) error {
	// The SYN that opens a gate comes in through eth0 from an address of the namespace's own.
	if err := setSysctl("net/ipv4/conf/eth0/accept_local", "1"); err != nil {
		return err
	}
	return h.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: only(hostIP), Src: own.AsSlice(), Table: gateTable, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// open is called on a thread in the replica's namespace.
func (g *gate) open() error {
	at := netip.AddrPortFrom(hostIP, g.port)
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		// The address is local by the gates' table alone.
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) }); cerr != nil {
			return cerr
		}
		return err
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", at.String()) // it does not wait
	if err != nil {
		return err
	}
	g.listener = l.(*net.TCPListener)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = unix.AF_INET, gateTable, gateTable
	rule.Dst, rule.IPProto, rule.Dport = only(hostIP), unix.IPPROTO_TCP, netlink.NewRulePortRange(g.port, g.port)
	if err := h.RuleAdd(rule); err != nil {
		return fmt.Errorf("cannot add a routing rule: %w", err)
	}
	return nil
}

// leave leaves out for the connection from a port of the replica, which is on its way.
func (g *gate) leave(from uint16, out *net.TCPConn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.claims == nil || g.claims[from] != nil {
		return false
	}
	g.claims[from] = out
	time.AfterFunc(claimTime, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.claims[from] == out {
			delete(g.claims, from)
			out.Close()
		}
	})
	return true
}

func (g *gate) claim(from uint16) *net.TCPConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := g.claims[from]
	delete(g.claims, from)
	return out
}

// serve carries what is accepted, until the listener is closed.
func (g *gate) serve() {
	for {
		in, err := g.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // no descriptor left, or a connection that has gone already
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if take := g.at.net.taker(g.at.hostPort(g.port)); take != nil {
			take(in)
			continue
		}
		g.at.net.work.Go(func() { g.carry(in) }) // ends with the connection, or with the replica
	}
}

func (g *gate) carry(in *net.TCPConn) {
	out := g.claim(uint16(in.RemoteAddr().(*net.TCPAddr).Port))
	if out == nil {
		var err error
		if out, err = dialHost(g.at.net.ctx, netip.AddrPortFrom(loopback, g.at.hostPort(g.port))); err != nil {
			reset(in)
			return
		}
	}
	f := &flow{abort: func() { reset(in); out.Close() }}
	if !g.at.track(f) {
		f.abort()
		return
	}
	defer g.at.untrack(f)
	splice(in, out)
}

func (g *gate) close() {
	g.listener.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, out := range g.claims {
		out.Close()
	}
	g.claims = nil
}

// reset closes a connection at once, whatever its peer has not read.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // the close decides
	c.Close()
}

func only(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }
