package applet

import (
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// nc is nc [-v] [-w SECONDS] HOST PORT, nc -z HOST PORT, or nc -l [-k] [-p] PORT: TCP to stdin and stdout.
func nc(c *call) {
	f, ok := c.flags("lkzvnp:w:", nil)
	if !ok {
		return
	}
	wait := time.Duration(0)
	if f.has('w') {
		n, err := strconv.Atoi(f.last('w', ""))
		if err != nil || n < 1 {
			c.usagef("invalid number '%s'", f.last('w', ""))
			return
		}
		wait = time.Duration(n) * time.Second
	}
	if !f.has('l') {
		if !c.need(2, 2) {
			return
		}
		dialer := net.Dialer{Timeout: wait}
		conn, err := dialer.DialContext(context.Background(), "tcp", net.JoinHostPort(c.args[0], c.args[1]))
		if err != nil {
			c.errorf("%s port %s: %v", c.args[0], c.args[1], reason(err))
			return
		}
		if f.has('v') {
			c.errorf("connected to %s port %s", c.args[0], c.args[1])
			c.status = 0
		}
		if !f.has('z') {
			c.shuttle(conn.(*net.TCPConn))
		}
		conn.Close()
		return
	}
	if f.has('p') {
		c.args = append([]string{f.last('p', "")}, c.args...)
	}
	if !c.need(1, 1) {
		return
	}
	var config net.ListenConfig
	l, err := config.Listen(context.Background(), "tcp", ":"+c.args[0])
	if err != nil {
		c.errorf("port %s: %v", c.args[0], reason(err))
		return
	}
	defer func() { _ = l.Close() }()
	for {
		conn, err := l.Accept()
		if err != nil {
			c.fail("", err)
			return
		}
		c.shuttle(conn.(*net.TCPConn))
		conn.Close()
		if !f.has('k') {
			return
		}
	}
}

// shuttle copies both ways until both have ended; the end of one is passed on to the peer or told by it.
func (c *call) shuttle(conn *net.TCPConn) {
	sent := make(chan struct{})
	go func() { // ends with stdin, with the connection, or with the process
		defer close(sent)
		if _, err := io.Copy(conn, os.Stdin); err == nil {
			_ = conn.CloseWrite() // fails when the peer has closed both
		}
	}()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		c.fail("", err)
		return
	}
	<-sent
}
