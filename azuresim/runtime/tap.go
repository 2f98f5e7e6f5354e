//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// netNamespace is a network namespace with lo and eth0; eth0 is a tap whose other end is the file tap. It exists while a
// process or this descriptor is in it.
type netNamespace struct {
	ns, tap *os.File
	gateErr error // why there are no gates
}

func newNetNamespace(addr netip.Prefix, gateway netip.Addr, mac net.HardwareAddr, mtu int) (*netNamespace, error) {
	n := &netNamespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		if n.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if n.tap, err = openTap("eth0"); err != nil {
			return err
		}
		return n.configure(addr, gateway, mac, mtu)
	})
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func openTap(name string) (*os.File, error) {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		fix := "modprobe tun; in a container: --device /dev/net/tun"
		if errors.Is(err, fs.ErrPermission) {
			fix = "run the simulator as root"
		}
		return nil, fmt.Errorf("cannot open %s for the replicas' network: %w (%s)", device, err, fix)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("cannot make a tap: %w (it needs CAP_NET_ADMIN; in a container: --privileged)", err)
	}
	return os.NewFile(uintptr(fd), device), nil // non-blocking: Close ends a Read
}

// run runs fn on a thread in the namespace: sockets that fn makes are there.
func (n *netNamespace) run(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return fn()
	})
}

// configure is called on a thread in the namespace.
func (n *netNamespace) configure(addr netip.Prefix, gateway netip.Addr, mac net.HardwareAddr, mtu int) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find lo: %w", err)
	}
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("cannot set lo up: %w", err)
	}
	// Router solicitations and duplicate address detection would only be noise on a network without IPv6.
	if err := setSysctl("net/ipv6/conf/eth0/disable_ipv6", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("cannot switch IPv6 off: %w", err)
	}
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("cannot find eth0: %w", err)
	}
	if err := h.LinkSetHardwareAddr(eth, mac); err != nil {
		return fmt.Errorf("cannot set eth0's hardware address: %w", err)
	}
	if err := h.LinkSetMTU(eth, mtu); err != nil {
		return fmt.Errorf("cannot set eth0's MTU: %w", err)
	}
	ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), 32)}
	if err := h.AddrAdd(eth, &netlink.Addr{IPNet: ip}); err != nil {
		return fmt.Errorf("cannot give eth0 its address: %w", err)
	}
	if err := h.LinkSetUp(eth); err != nil {
		return fmt.Errorf("cannot set eth0 up: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("cannot add the default route: %w", err)
	}
	n.gateErr = prepareGates(h, lo, addr.Addr())
	return nil
}

func setSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
}

func (n *netNamespace) close() {
	if n.tap != nil {
		n.tap.Close()
	}
	if n.ns != nil {
		n.ns.Close()
	}
}

// port is a tap as the virtual switch wants it: a net.Conn of whole Ethernet frames.
//
// The switch learns a sender's port from its first frame, ends with a line on stderr when a read fails, and drops its lock
// state on a failed write. So the first read gives a frame that only introduces the sender, the last one (after Close) the
// same frame instead of an error, and a write to a tap that is going away is dropped as a cable would.
type port struct {
	tap   *os.File
	hello []byte

	mu       sync.Mutex
	greeted  bool
	syns     map[[2]uint16][]byte // the last from each port of the replica to one of the host
	closed   bool
	closedCh chan struct{}
}

func newPort(tap *os.File, mac, gateway net.HardwareAddr) *port {
	hello := make([]byte, header.EthernetMinimumSize)
	header.Ethernet(hello).Encode(&header.EthernetFields{
		SrcAddr: linkAddress(mac), DstAddr: linkAddress(gateway),
		Type: 0x88b5, // IEEE 802's local experimental type: nobody listens
	})
	return &port{tap: tap, hello: hello, closedCh: make(chan struct{})}
}

func (p *port) Read(b []byte) (int, error) {
	p.mu.Lock()
	first := !p.greeted
	p.greeted = true
	p.mu.Unlock()
	if first {
		return copy(b, p.hello), nil
	}
	for {
		n, err := p.tap.Read(b)
		if err == nil && n >= header.EthernetMinimumSize {
			p.note(b[:n])
			return n, nil
		}
		if err != nil {
			<-p.closedCh // the tap is closed by Close alone
			return copy(b, p.hello), nil
		}
	}
}

// maxSyns is how many SYNs to the host are kept; of more at once some are sent again.
const maxSyns = 256

// note keeps a frame that asks for a connection to the host.
func (p *port) note(frame []byte) {
	ports, ok := synToHost(frame)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.syns) >= maxSyns {
		clear(p.syns)
	}
	if p.syns == nil {
		p.syns = map[[2]uint16][]byte{}
	}
	p.syns[ports] = bytes.Clone(frame)
}

// syn returns the frame that asked for a connection, once.
func (p *port) syn(from, to uint16) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	frame := p.syns[[2]uint16{from, to}]
	delete(p.syns, [2]uint16{from, to})
	return frame
}

// synToHost reports whether a frame is a TCP SYN to the host, and between which ports.
func synToHost(frame []byte) (ports [2]uint16, ok bool) {
	if header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
		return ports, false
	}
	packet := frame[header.EthernetMinimumSize:]
	ip := header.IPv4(packet)
	if !ip.IsValid(len(packet)) || ip.TransportProtocol() != header.TCPProtocolNumber || ip.More() || ip.FragmentOffset() != 0 ||
		fromAddress(ip.DestinationAddress()) != hostIP || len(ip.Payload()) < header.TCPMinimumSize {
		return ports, false
	}
	t := header.TCP(ip.Payload())
	if t.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) != header.TCPFlagSyn {
		return ports, false
	}
	return [2]uint16{t.SourcePort(), t.DestinationPort()}, true
}

func (p *port) Write(b []byte) (int, error) {
	_, _ = p.tap.Write(b) // an error is a lost frame
	return len(b), nil
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.closedCh)
		return p.tap.Close()
	}
	return nil
}

func (p *port) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "tap", Net: "tap"} }
func (p *port) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "tap", Net: "tap"} }
func (p *port) SetDeadline(time.Time) error      { return nil }
func (p *port) SetReadDeadline(time.Time) error  { return nil }
func (p *port) SetWriteDeadline(time.Time) error { return nil }
