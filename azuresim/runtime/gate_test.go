//go:build linux

package runtime

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// space gives a test a replica's place in the network, without a replica.
func space(t *testing.T) *attachment {
	t.Helper()
	rt := need(t)
	a, err := rt.net.attach(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.leave(0) })
	return a
}

// dialOut connects from a replica's place to a port of the host.
func dialOut(a *attachment, port uint16) (c *net.TCPConn, err error) {
	err = a.space.run(func() (err error) {
		conn, err := net.DialTimeout("tcp4", netip.AddrPortFrom(hostIP, port).String(), time.Minute)
		if err == nil {
			c = conn.(*net.TCPConn)
		}
		return err
	})
	return c, err
}

// echo listens on the host's loopback and sends back what comes, until the test ends or the function returned is called.
func echo(t *testing.T, port uint16) (uint16, func()) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback, port)))
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer c.Close()
				io.Copy(c, c)
				c.CloseWrite()
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port), func() { l.Close() }
}

// talk sends data through a connection, half-closes it and compares what comes back.
func talk(t *testing.T, c *net.TCPConn, data []byte) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	go func() { // ends with the data or at the deadline
		c.Write(data)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d of %d bytes came back, or others: %v", len(got), len(data), err)
	}
}

func TestTheKernelCarriesConnectionsToTheHost(t *testing.T) {
	a := space(t)
	port, _ := echo(t, 0)
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	for i := range 3 { // the first opens the gate
		c, err := dialOut(a, port)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, c, data)
		a.gatesMu.Lock()
		g, gates := a.gates[port], len(a.gates)
		a.gatesMu.Unlock()
		if g == nil || gates != 1 {
			t.Fatalf("after connection %d: %d gates, or another one", i, gates)
		}
	}
}

func TestManyConnectionsAtOnce(t *testing.T) {
	a := space(t)
	port, _ := echo(t, 0)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			c, err := dialOut(a, port)
			if err != nil {
				t.Error(err)
				return
			}
			talk(t, c, bytes.Repeat([]byte{byte(i)}, 100_000))
		})
	}
	all.Wait()
}

func TestMorePortsThanGates(t *testing.T) {
	a := space(t)
	for range maxGates + 3 {
		port, _ := echo(t, 0)
		c, err := dialOut(a, port)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, c, []byte("hello"))
	}
	if len(a.gates) != maxGates {
		t.Errorf("%d gates, want %d", len(a.gates), maxGates)
	}
}

func TestAHostPortThatClosesAndOpensAgain(t *testing.T) {
	a := space(t)
	if _, err := dialOut(a, 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	// Below those that others are given for the asking: nobody is to take it meanwhile.
	port, end := echo(t, uint16(20000+rand.IntN(10000)))
	for range 2 {
		c, err := dialOut(a, port)
		if err != nil {
			t.Fatal(err)
		}
		talk(t, c, []byte("hello"))
		end()
		if c, err = dialOut(a, port); err == nil { // accepted and reset, or refused at once
			c.SetDeadline(time.Now().Add(time.Minute))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port that was closed: %v", err)
		}
		_, end = echo(t, port)
	}
}

func TestAPortThatThisProcessServesItself(t *testing.T) {
	rt := need(t)
	a := space(t)
	const port = 7 // nothing listens there
	from := make(chan net.Addr, 2)
	rt.Answer(port, func(c net.Conn) {
		from <- c.RemoteAddr()
		go func() { // ends with the connection
			defer c.Close()
			io.Copy(c, c)
			c.(*net.TCPConn).CloseWrite()
		}()
	})
	defer rt.Answer(port, nil)
	data := bytes.Repeat([]byte("0123456789"), 500_000)
	for range 2 { // the first opens the gate
		c, err := dialOut(a, port)
		if err != nil {
			t.Fatal(err)
		}
		own := c.LocalAddr().String()
		talk(t, c, data)
		var got string
		select {
		case addr := <-from:
			got = addr.String()
		default: // what it sends back has come from nobody
		}
		if got != own || netip.MustParseAddrPort(own).Addr() != a.addr {
			t.Errorf("it has come from %s, not from the replica's %s", got, own)
		}
	}
	// Who takes it learns of the replica's end, which nobody else tells.
	ended := make(chan error, 1)
	rt.Answer(port, func(c net.Conn) {
		go func() { // ends with the connection
			defer c.Close()
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
	})
	c, err := dialOut(a, port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	a.leave(0)
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the end: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a connection goes on without its replica")
	}
}

func TestALeaverHasNoGates(t *testing.T) {
	a := space(t)
	port, _ := echo(t, 0)
	c, err := dialOut(a, port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	a.leave(0)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection of one that has left: %v", err)
	}
	if g := a.gate(port); g != nil {
		t.Errorf("a gate for one that has left: %v", g)
	}
}

func TestSYNsToTheHost(t *testing.T) {
	a := space(t)
	// A SYN to the host from a real kernel; everything else is made from it.
	if c, err := dialOut(a, 1); err == nil {
		c.Close()
		t.Fatal("port 1 is open")
	}
	var syn []byte
	a.port.mu.Lock()
	for _, syn = range a.port.syns {
	}
	a.port.mu.Unlock()
	for name, change := range map[string]func([]byte) []byte{
		"cut short":            func(f []byte) []byte { return f[:len(f)-30] },
		"empty":                func(f []byte) []byte { return f[:14] },
		"no IPv4":              func(f []byte) []byte { f[12] = 0x86; return f },
		"a header beyond it":   func(f []byte) []byte { f[14] = 0x4f; return f[:40] },
		"a fragment":           func(f []byte) []byte { f[14+7] = 1; return f },
		"no TCP":               func(f []byte) []byte { f[14+9] = 17; return f },
		"another destination":  func(f []byte) []byte { f[14+19]--; return f },
		"an answer":            func(f []byte) []byte { f[14+20+13] |= 0x10; return f },
		"in a longer envelope": func(f []byte) []byte { f[14+3] = 0xff; return f },
	} {
		if _, ok := synToHost(change(bytes.Clone(syn))); ok {
			t.Errorf("%s: taken for a SYN", name)
		}
	}
	if ports, ok := synToHost(syn); !ok || ports[1] != 1 {
		t.Errorf("a SYN: %v, %v", ports, ok)
	}
}
