package main

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A listener and what is given to it are one; after Close nothing is left open or waits.
func TestJoined(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil { // an Accept that waits fails
		t.Fatal(err)
	}
	j := join(l)
	given, far := net.Pipe()
	if err := far.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go j.take(given)
	if c, err := j.Accept(); c != given || err != nil {
		t.Fatalf("Accept = %v, %v", c, err)
	}
	dialled, err := net.Dial("tcp", j.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	c, err := j.Accept()
	if err != nil || c.RemoteAddr().String() != dialled.LocalAddr().String() {
		t.Fatalf("Accept = %v, %v", c, err)
	}
	c.Close()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	j.take(given) // does not wait
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error("what came after Close is open")
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) { // whoever dials could find another's listener at its port
		t.Errorf("the listener is open: %v", err)
	}
}
