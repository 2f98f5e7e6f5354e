//go:build linux

package runtime

import (
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
type netNamespace struct{ ns, tap *os.File }

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
		return configure(addr, gateway, mac, mtu)
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

// configure is called on a thread in the namespace.
func configure(addr netip.Prefix, gateway netip.Addr, mac net.HardwareAddr, mtu int) error {
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
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
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
	return nil
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
			return n, nil
		}
		if err != nil {
			<-p.closedCh // the tap is closed by Close alone
			return copy(b, p.hello), nil
		}
	}
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
