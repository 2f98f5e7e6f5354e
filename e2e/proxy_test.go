package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// proxy is a bad network: it passes TCP connections on, and cuts or stalls them on command.
type proxy struct {
	mu      sync.Mutex
	change  *sync.Cond
	doors   []net.Listener
	conns   map[net.Conn]bool
	stalled bool
	goes    bool  // with the next cut after bytes, refuse begins
	refuse  bool  // new connections are taken and never answered
	every   int64 // cut after so many bytes
	passed  int64 // since the last of these cuts
	left    int   // cuts to come
	done    int   // cuts that have hit a connection
}

func newProxy() *proxy {
	p := &proxy{conns: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	return p
}

// listen opens a door at addr: who comes in there is led to where reach leads.
func (p *proxy) listen(addr string, reach func(from net.Conn) (net.Conn, error)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	p.set(func() { p.doors = append(p.doors, l) })
	go p.serve(l, reach) // ends with close
	return nil
}

// straight leads to addr.
func straight(addr string) func(net.Conn) (net.Conn, error) {
	return func(net.Conn) (net.Conn, error) { return net.Dial("tcp", addr) }
}

// tunnelled leads to addr whoever asks an HTTP proxy for it by name.
func tunnelled(name, addr string) func(net.Conn) (net.Conn, error) {
	return func(from net.Conn) (net.Conn, error) {
		req, err := http.ReadRequest(bufio.NewReader(from)) // a client waits for the answer before it says more
		if err != nil {
			return nil, err
		}
		if req.Method != http.MethodConnect || req.Host != name {
			return nil, fmt.Errorf("asked for %s %s", req.Method, req.Host)
		}
		to, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		_, err = io.WriteString(from, "HTTP/1.1 200 Connected\r\n\r\n")
		return to, err
	}
}

func (p *proxy) serve(door net.Listener, reach func(net.Conn) (net.Conn, error)) {
	for {
		c, err := door.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection
			p.mu.Lock()
			p.conns[c] = true
			refuse := p.refuse
			p.mu.Unlock()
			if refuse {
				return // it is cut with the others
			}
			b, err := reach(c)
			if err != nil {
				p.drop(c)
				return
			}
			p.set(func() { p.conns[b] = true })
			go p.pass(c, b) // both end when one of the connections does
			p.pass(b, c)
		}()
	}
}

func (p *proxy) pass(to, from net.Conn) {
	defer p.drop(to)
	defer p.drop(from)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.may(n) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// may waits while the network stalls, and says whether bytes may pass: not those that a cut hits.
func (p *proxy) may(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled {
		p.change.Wait()
	}
	if p.left > 0 && p.every > 0 {
		if p.passed += int64(n); p.passed >= p.every {
			p.passed = 0
			p.left--
			p.refuse = p.goes
			p.cutAll()
			return false
		}
	}
	return true
}

// drop ends one connection by RST, as a network does that forgets it.
func (p *proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset(c)
}

// reset and cutAll: p.mu is held.
func (p *proxy) reset(c net.Conn) {
	if p.conns[c] {
		delete(p.conns, c)
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (p *proxy) cutAll() {
	if len(p.conns) > 0 {
		p.done++
	}
	for c := range p.conns {
		p.reset(c)
	}
}

func (p *proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.change.Broadcast()
}

func (p *proxy) close() {
	p.set(func() {
		for _, l := range p.doors {
			l.Close()
		}
		p.stalled = false
		p.cutAll()
	})
}

// proxied: what comes next is on a bad network, see cmdNetwork: agents and backend, or in mode apart frontend and backend.
// It comes before `up`.
func cmdProxied(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	m.proxy = newProxy()
	ts.Defer(m.proxy.close)
	port, err := freePort()
	ts.Check(err)
	m.proxyAddr = fmt.Sprintf("127.0.0.1:%d", port)
	backend := fmt.Sprintf("127.0.0.1:%d", m.port)
	switch m.mode {
	case "reverse": // agents dial the proxy
		ts.Check(m.proxy.listen(m.proxyAddr, straight(backend)))
	case "apart": // the frontend does
		ts.Check(m.proxy.listen(m.proxyAddr, tunnelled(farBackend, backend)))
	case "forward": // the backend does, wherever it asks for an execution
		ts.Check(m.proxy.names(m.proxyAddr, func() string { return m.sim.env[resolver] }, ts.Defer))
	}
}

// names serves DNS at addr: every name that the server at upstream knows leads to the agent's port there, through p.
func (p *proxy) names(addr string, upstream func() string, finally func(func())) error {
	var mu sync.Mutex
	found := map[string]net.IP{}
	packet, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		m, err := dns.Exchange(q, upstream())
		if err != nil {
			m = new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
		}
		for _, rr := range m.Answer {
			a, ok := rr.(*dns.A)
			if !ok {
				continue
			}
			if found[a.A.String()] == nil {
				// Beside the simulator's own addresses, which are of 127.64.0.0/10.
				door := net.IPv4(127, byte(160+rand.IntN(90)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
				if err := p.listen(net.JoinHostPort(door.String(), "9111"), straight(net.JoinHostPort(a.A.String(), "9111"))); err != nil {
					m.Rcode = dns.RcodeServerFailure
					break
				}
				found[a.A.String()] = door
			}
			a.A = found[a.A.String()]
		}
		w.WriteMsg(m)
	}
	server := &dns.Server{PacketConn: packet, Handler: dns.HandlerFunc(answer)}
	go server.ActivateAndServe() // ends with the session
	finally(func() { server.Shutdown() })
	return nil
}

// network cut N DURATION: cuts every connection there N times, with such a time before each.
// network cut N BYTES: the same from now on, after so many bytes each; it does not wait.
// network were N: so many cuts have hit a connection since the last look.
// network stall DURATION: no byte passes for so long.
// network away DURATION BYTES: after so many bytes connections are cut, and new ones are taken and never answered, for so long.
func cmdNetwork(ts *testscript.TestScript, neg bool, args []string) {
	p := machineOf(ts).proxy
	ts.Check(p.command(args))
}

func (p *proxy) command(args []string) error {
	if p == nil || len(args) < 2 {
		return errors.New("usage: network cut N DURATION|BYTES, were N, stall DURATION or away DURATION BYTES; `proxied` comes first")
	}
	switch args[0] {
	case "cut":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if bytes, err := strconv.ParseInt(args[2], 10, 64); err == nil {
			p.set(func() { p.every, p.left, p.passed = bytes, n, 0 })
			return nil
		}
		d, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		for range n {
			time.Sleep(d)
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				hit := false
				p.set(func() {
					hit = len(p.conns) > 0
					p.cutAll()
				})
				if hit {
					break
				}
				if time.Now().After(deadline) {
					return errors.New("nobody comes back to be cut off again")
				}
			}
		}
		return nil
	case "were":
		var err error
		p.set(func() {
			if fmt.Sprint(p.done) != args[1] {
				err = fmt.Errorf("%d cuts, and %d to come; wanted %s", p.done, p.left, args[1])
			}
			p.done, p.left = 0, 0
		})
		return err
	case "stall", "away":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		if args[0] == "stall" {
			p.set(func() { p.stalled = true })
		} else {
			bytes, err := strconv.ParseInt(args[2], 10, 64)
			if err != nil {
				return err
			}
			p.set(func() { p.goes, p.every, p.left, p.passed = true, bytes, 1, 0 })
			for gone, deadline := false, time.Now().Add(time.Minute); !gone; time.Sleep(20 * time.Millisecond) {
				p.set(func() { gone = p.refuse })
				if time.Now().After(deadline) {
					return errors.New("so many bytes do not pass")
				}
			}
		}
		time.Sleep(d)
		p.set(func() {
			if p.goes {
				p.cutAll() // what was taken meanwhile
				p.done--
			}
			p.stalled, p.goes, p.refuse = false, false, false
		})
		return nil
	}
	return fmt.Errorf("unknown: network %s", strings.Join(args, " "))
}
