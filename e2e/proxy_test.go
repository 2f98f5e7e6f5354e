package e2e

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// proxy is a bad network between agents and backend: it passes TCP connections on, and cuts or stalls them on command.
type proxy struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	change  *sync.Cond
	conns   map[net.Conn]bool
	stalled bool
	goes    bool  // with the next cut after bytes, refuse begins
	refuse  bool  // new connections are taken and never answered
	every   int64 // cut after so many bytes
	passed  int64 // since the last of these cuts
	left    int   // cuts to come
	done    int   // cuts that have hit a connection
}

func newProxy(to string) (*proxy, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, to: to, conns: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	go p.serve() // ends with close
	return p, nil
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		refuse := p.refuse
		p.mu.Unlock()
		if refuse {
			continue // it is cut with the others
		}
		b, err := net.Dial("tcp", p.to)
		if err != nil {
			p.drop(c)
			continue
		}
		p.mu.Lock()
		p.conns[b] = true
		p.mu.Unlock()
		go p.pass(c, b) // both end when one of the connections does
		go p.pass(b, c)
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

func (p *proxy) close() error {
	err := p.listener.Close()
	p.set(func() { p.stalled = false; p.cutAll() })
	return err
}

// proxied: what comes next is on a bad network, see cmdNetwork. It comes before `up`, and is for the reverse mode.
func cmdProxied(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	var err error
	m.proxy, err = newProxy(fmt.Sprintf("127.0.0.1:%d", m.port))
	ts.Check(err)
	ts.Defer(func() { m.proxy.close() })
}

// network cut N DURATION: cuts every connection between agents and backend N times, with such a time before each.
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
					return errors.New("no agent comes back to be cut off again")
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
