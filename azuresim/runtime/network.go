//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/services/dns"
	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// The virtual network. Its range is one that Azure Container Apps reserves for itself, so nobody can have it elsewhere in
// a network that is meant for Container Apps.
var (
	subnet     = netip.MustParsePrefix("100.100.0.0/16")
	gatewayIP  = netip.MustParseAddr("100.100.0.1")
	hostIP     = netip.MustParseAddr("100.100.0.254") // translated to the host's loopback
	firstIP    = netip.MustParseAddr("100.100.1.1")
	loopback   = netip.MustParseAddr("127.0.0.1")
	linkLocal  = netip.MustParsePrefix("169.254.0.0/16")
	gatewayMAC = net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}
)

const (
	// mtu is as large as a tap takes: with 1500 the same copy costs three times the CPU.
	mtu = 65520
	nic = 1
	// hostName is what the replicas call the host's loopback.
	hostName = "host.azuresim.internal"
	// httpsPort of the host is the simulator's: see azuresim.ReplicaSpec.HTTPS.
	httpsPort = 443
)

// network is one virtual switch with a TCP/IP stack behind it that plays gateway, name server and NAT for all replicas.
// It is put together from gvisor-tap-vsock's parts rather than its VirtualNetwork, which cannot be closed, leaves a
// connection open for ever when its replica dies without a FIN, and answers DHCP.
type network struct {
	log       *slog.Logger
	stack     *stack.Stack
	netSwitch *tap.Switch
	ctx       context.Context
	cancel    context.CancelFunc
	work      sync.WaitGroup // name server, ports, flows
	closers   []func() error

	mu      sync.Mutex
	next    netip.Addr
	hosts   map[netip.Addr]*attachment
	answers map[uint16]func(net.Conn) // ports of the host that this process serves itself
}

// attachment is one replica's place in the network.
type attachment struct {
	net   *network
	addr  netip.Addr
	https uint16 // what httpsPort of the host is; 0: itself
	space *netNamespace
	port  *port

	mu    sync.Mutex
	gone  bool
	flows map[*flow]struct{}
	idle  chan struct{} // closed when the last flow ends after leave was asked for; nil before

	gatesMu sync.Mutex
	gates   map[uint16]*gate // by the host's port; nil once the replica has left
	shared  []*gate          // on the replica's own loopback
}

// flow is one connection through the stack. abort ends it at once, without waiting for a peer that may be gone.
type flow struct{ abort func() }

func newNetwork(log *slog.Logger) (*network, error) {
	n := &network{log: log, next: firstIP, hosts: map[netip.Addr]*attachment{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	link, err := tap.NewLinkEndpoint(false, mtu, gatewayMAC.String(), gatewayIP.String(), []string{hostIP.String()})
	if err != nil {
		return nil, fmt.Errorf("cannot make the replicas' network: %w", err)
	}
	n.netSwitch = tap.NewSwitch(false)
	link.Connect(n.netSwitch)
	n.netSwitch.Connect(link)
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := n.setup(link); err != nil {
		n.close()
		return nil, fmt.Errorf("cannot make the replicas' network: %w", err)
	}
	return n, nil
}

func (n *network) setup(link stack.LinkEndpoint) error {
	s := n.stack
	if err := s.CreateNIC(nic, link); err != nil {
		return errors.New(err.String())
	}
	if err := s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address(gatewayIP).WithPrefix()}, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	// The stack takes packets for every address, and answers in its name: that is how it is the way to everywhere.
	s.SetSpoofing(nic, true)
	s.SetPromiscuousMode(nic, true)
	all, err := tcpip.NewSubnet(address(subnet.Addr()), tcpip.MaskFromBytes(net.CIDRMask(subnet.Bits(), 32)))
	if err != nil {
		return err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: all, NIC: nic}})
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, 1024, n.forwardTCP).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, n.forwardUDP).HandlePacket)
	return n.serveDNS()
}

// serveDNS answers on the gateway: every name below azuresim.internal is the host, which is what the cloud is to a replica,
// and for the rest it is what the host's resolver says.
func (n *network) serveDNS() error {
	at := tcpip.FullAddress{NIC: nic, Addr: address(gatewayIP), Port: 53}
	packets, err := gonet.DialUDP(n.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, packets.Close)
	streams, err := gonet.ListenTCP(n.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, streams.Close)
	zones := []types.Zone{{Name: "azuresim.internal.", DefaultIP: hostIP.AsSlice()}}
	server, err := dns.NewWithUpstreamResolver(packets, streams, zones, net.DefaultResolver)
	if err != nil {
		return err
	}
	for _, serve := range []func() error{server.Serve, server.ServeTCP} {
		n.work.Go(func() { // ends when close closes its listener
			if err := serve(); err != nil && n.ctx.Err() == nil {
				n.log.Error("the replicas' name server ended", "error", err)
			}
		})
	}
	return nil
}

// attach makes a network namespace with an interface on this network.
func (n *network) attach(https uint16) (*attachment, error) {
	n.mu.Lock()
	a := &attachment{net: n, https: https, flows: map[*flow]struct{}{}, gates: map[uint16]*gate{}}
	for tries := 0; ; tries++ {
		if tries > 1<<16 {
			n.mu.Unlock()
			return nil, errors.New("cannot start a replica: no address left in " + subnet.String())
		}
		a.addr = n.next
		// In order, so that an address comes back late, when every table has forgotten its last owner.
		if n.next = n.next.Next(); !subnet.Contains(n.next.Next()) {
			n.next = firstIP
		}
		if _, taken := n.hosts[a.addr]; !taken {
			break
		}
	}
	n.hosts[a.addr] = a
	n.mu.Unlock()

	b := a.addr.As4()
	mac := net.HardwareAddr{0x02, 0x00, b[0], b[1], b[2], b[3]}
	var err error
	if a.space, err = newNetNamespace(netip.PrefixFrom(a.addr, subnet.Bits()), gatewayIP, mac, mtu); err != nil {
		n.mu.Lock()
		delete(n.hosts, a.addr)
		n.mu.Unlock()
		return nil, err
	}
	if a.space.gateErr != nil {
		n.log.Warn("the kernel cannot carry a replica's connections to the host", "error", a.space.gateErr)
	}
	a.port = newPort(a.space.tap, mac, gatewayMAC)
	ctx, cancel := context.WithCancel(n.ctx)
	stop := context.AfterFunc(ctx, func() { _ = a.port.Close() })
	n.work.Go(func() { // ends when leave closes the port, or close ends ctx
		defer stop()
		defer cancel()
		go func() { <-a.port.closedCh; cancel() }() // ends with the port, which Accept closes at the latest
		_ = n.netSwitch.Accept(ctx, a.port, types.VfkitProtocol)
	})
	return a, nil
}

// hostPort is the port of the host's loopback that a port of hostIP leads to.
func (a *attachment) hostPort(port uint16) uint16 {
	if port == httpsPort && a.https != 0 {
		return a.https
	}
	return port
}

// path is where runc finds the namespace.
func (a *attachment) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", syscall.Getpid(), a.space.ns.Fd())
}

// leave takes the replica off the network. Its connections have linger to deliver what its processes wrote before they
// ended; then they are cut.
func (a *attachment) leave(linger time.Duration) {
	idle := make(chan struct{})
	a.mu.Lock()
	if len(a.flows) == 0 {
		close(idle)
	} else {
		a.idle = idle
	}
	a.mu.Unlock()
	timer := time.NewTimer(linger)
	select {
	case <-idle:
	case <-timer.C:
	case <-a.net.ctx.Done():
	}
	timer.Stop()
	a.mu.Lock()
	a.gone = true
	for f := range a.flows {
		f.abort()
	}
	a.mu.Unlock()
	a.closeGates()
	_ = a.port.Close()
	a.space.close()
	a.net.mu.Lock()
	delete(a.net.hosts, a.addr)
	a.net.mu.Unlock()
}

// track remembers a flow until untrack; it reports false when the replica has left.
func (a *attachment) track(f *flow) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return false
	}
	a.flows[f] = struct{}{}
	return true
}

func (a *attachment) untrack(f *flow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.flows[f]; !ok {
		return
	}
	delete(a.flows, f)
	if a.idle != nil && len(a.flows) == 0 && !a.gone {
		close(a.idle)
		a.idle = nil
	}
}

// dial connects to a port inside the replica, from inside its namespace: the kernel's loopback carries the connection.
func (a *attachment) dial(ctx context.Context, toPort uint16) (net.Conn, error) {
	to := netip.AddrPortFrom(a.addr, toPort)
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &dialed{}
	d.ended = func() { a.untrack(d.flow) }
	d.flow = &flow{abort: cancel}
	if !a.track(d.flow) {
		return fail(syscall.EHOSTUNREACH)
	}
	err := a.space.run(func() error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp4", to.String())
		if err == nil {
			d.TCPConn = c.(*net.TCPConn)
		}
		return err
	})
	if err != nil {
		d.ended()
		return nil, err
	}
	a.mu.Lock()
	gone := a.gone
	d.flow.abort = func() { reset(d.TCPConn) }
	a.mu.Unlock()
	if gone {
		d.Close()
		return fail(syscall.EHOSTUNREACH)
	}
	return d, nil
}

// dialed is a connection into a replica; CloseWrite half-closes it.
type dialed struct {
	*net.TCPConn
	flow  *flow
	once  sync.Once
	ended func()
}

func (d *dialed) Close() error {
	d.once.Do(d.ended)
	return d.TCPConn.Close()
}

// answer sets who takes the replicas' connections to a port of the host.
func (n *network) answer(port uint16, take func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		n.answers = map[uint16]func(net.Conn){}
	}
	n.answers[port] = take
}

// taker returns who takes the connections to a port of the host, or nil.
func (n *network) taker(port uint16) func(net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.answers[port]
}

func (n *network) host(addr netip.Addr) *attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[addr]
}

// close takes every replica off and frees the stack.
func (n *network) close() {
	n.mu.Lock()
	var hosts []*attachment
	for _, a := range n.hosts {
		hosts = append(hosts, a)
	}
	n.mu.Unlock()
	n.cancel()
	for _, a := range hosts {
		a.leave(0)
	}
	for _, c := range n.closers {
		_ = c()
	}
	n.stack.Close()
	n.work.Wait()
	n.stack.Wait()
}

func address(a netip.Addr) tcpip.Address               { return tcpip.AddrFrom4(a.As4()) }
func fromAddress(a tcpip.Address) netip.Addr           { b := a.As4(); return netip.AddrFrom4(b) }
func linkAddress(m net.HardwareAddr) tcpip.LinkAddress { return tcpip.LinkAddress(m) }
