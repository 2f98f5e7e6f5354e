package azuresim

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// zone is what a private DNS zone would be, if Container Apps put executions into one: it gives each running execution
// a loopback address of its own, answers for its name, and forwards the agent's port there into the replica.
type zone struct {
	log *slog.Logger

	mu     sync.Mutex
	closed bool
	next   uint32                // counts addresses
	names  map[string]*zoneEntry // by execution
	conns  sync.WaitGroup        // forwarded connections and listeners
}

type zoneEntry struct {
	domain   string // of the environment
	addr     netip.Addr
	listener net.Listener // nil: the address could not be listened on
	ctx      context.Context
	cancel   context.CancelFunc
}

// zoneTTL is short: an execution's address is gone with it.
const zoneTTL = 5

// dialTimeout bounds the wait for a port inside a replica.
const dialTimeout = 10 * time.Second

func newZone(log *slog.Logger) *zone {
	var start [4]byte
	_, _ = rand.Read(start[:]) // never fails, says crypto/rand
	return &zone{log: log, next: binary.BigEndian.Uint32(start[:]), names: map[string]*zoneEntry{}}
}

// bind gives the execution an address and a name until unbind is called. It never fails: an address that cannot be
// listened on resolves and refuses connections, as a replica that nobody answers in does.
func (z *zone) bind(execution, domain string, dial func(context.Context) (net.Conn, error)) (unbind func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed {
		return func() {}
	}
	e := &zoneEntry{domain: strings.ToLower(domain)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	var l net.Listener
	var err error
	for range 100 { // another simulator on this machine may have an address
		e.addr = z.address()
		l, err = new(net.ListenConfig).Listen(e.ctx, "tcp", net.JoinHostPort(e.addr.String(), strconv.Itoa(agentPort)))
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		z.log.Warn("execution has no address", "execution", execution, "error", err)
	} else {
		e.listener = l
		z.conns.Go(func() { z.accept(e, dial) }) // ends when unbind closes the listener
	}
	z.names[execution] = e
	return func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		if z.names[execution] == e { // a preempted replica's successor has the name by now
			delete(z.names, execution)
		}
		e.close() // under the lock: who does not find the name any more finds nobody at its address either
	}
}

// address draws the next one of 127.64.0.0/10; z.mu is held. With four million of them one comes back long after it was
// free, and simulators on one machine, which start anywhere, hardly meet.
func (z *zone) address() netip.Addr {
	z.next++
	n := 0x7f400000 | z.next&0x3fffff
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (e *zoneEntry) close() {
	e.cancel()
	if e.listener != nil {
		_ = e.listener.Close() // it has nothing to lose
	}
}

func (z *zone) accept(e *zoneEntry, dial func(context.Context) (net.Conn, error)) {
	for {
		conn, err := e.listener.Accept()
		if err != nil {
			return
		}
		z.conns.Go(func() { forward(e.ctx, conn, dial) }) // ends with the connection, or when unbind cancels the context
	}
}

// forward joins conn with a connection into the replica until both directions have ended or ctx is done.
func forward(ctx context.Context, conn net.Conn, dial func(context.Context) (net.Conn, error)) {
	defer conn.Close()
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	inside, err := dial(dialCtx)
	cancel()
	if err != nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset: nobody listens there
		}
		return
	}
	defer inside.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); inside.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { copyHalf(inside, conn) })
	both.Go(func() { copyHalf(conn, inside) })
	both.Wait()
}

// copyHalf copies one direction and passes its end on.
func copyHalf(dst, src net.Conn) {
	_, err := io.Copy(dst, src)
	if half, ok := dst.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = dst.Close()
	_ = src.Close()
}

// lookup finds the address of a name: an execution, alone or in its environment's default domain.
func (z *zone) lookup(name string) (netip.Addr, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	execution, domain, qualified := strings.Cut(name, ".")
	z.mu.Lock()
	defer z.mu.Unlock()
	e := z.names[execution]
	if e == nil || qualified && domain != e.domain {
		return netip.Addr{}, false
	}
	return e.addr, true
}

// ServeDNS answers for executions, and NXDOMAIN for everything else.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		_ = w.WriteMsg(m) // a client that went away is its own business
		return
	}
	question := q.Question[0]
	addr, ok := z.lookup(question.Name)
	switch {
	case !ok:
		m.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypeA && question.Qclass == dns.ClassINET:
		m.Answer = append(m.Answer, &dns.A{A: addr.AsSlice(),
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: zoneTTL}})
	}
	_ = w.WriteMsg(m) // as above
}

// close cuts every forwarded connection and gives the names up.
func (z *zone) close() {
	z.mu.Lock()
	z.closed = true
	for _, e := range z.names {
		e.close()
	}
	z.names = map[string]*zoneEntry{}
	z.mu.Unlock()
	z.conns.Wait()
}

// listen serves the zone on addr over udp and tcp, on the same port; shutdown ends both.
func (z *zone) listen(addr string) (bound string, shutdown func(), err error) {
	packet, stream, err := listenBoth(addr)
	if err != nil {
		return "", nil, fmt.Errorf("cannot serve DNS: %w", err)
	}
	bound = packet.LocalAddr().String()
	servers := []*dns.Server{{PacketConn: packet, Handler: z}, {Listener: stream, Handler: z}}
	var done sync.WaitGroup
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		done.Go(func() { // ends with shutdown
			if err := srv.ActivateAndServe(); err != nil {
				z.log.Error("DNS server ended", "error", err)
			}
		})
		<-started
	}
	return bound, func() {
		for _, srv := range servers {
			_ = srv.Shutdown() // it fails only when it is down already
		}
		done.Wait()
	}, nil
}

// listenBoth listens on one port over udp and tcp. A free udp port may be taken in tcp, so another one is tried.
func listenBoth(addr string) (net.PacketConn, net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, err
	}
	var config net.ListenConfig
	for try := 0; ; try++ {
		// Listening on loopback does not wait, so there is nothing to cancel.
		packet, err := config.ListenPacket(context.Background(), "udp", addr)
		if err != nil {
			return nil, nil, err
		}
		stream, err := config.Listen(context.Background(), "tcp", packet.LocalAddr().String())
		if err == nil {
			return packet, stream, nil
		}
		err = errors.Join(err, packet.Close())
		if port != "0" || try == 50 {
			return nil, nil, err
		}
	}
}
