package link_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// Connections that say nothing are bounded, the oldest gives way to who comes, and what was taken over does not count.
func TestStrangers(t *testing.T) {
	const most = 4
	taken := make(chan net.Conn, 1)
	server := &http.Server{
		ReadHeaderTimeout: time.Minute,
		ConnState:         link.NewStrangers(most, nil).State,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/take" {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				taken <- conn
			}
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }() // ends with the Close below
	defer func() { server.Close(); <-served }()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn, path string) error {
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	member := dial()
	if err := ask(member, "/take"); err != nil {
		t.Fatal(err)
	}
	conn := <-taken
	defer conn.Close()
	var idle []net.Conn
	for range most {
		idle = append(idle, dial())
	}
	// As long as all of them are young, none gives way.
	for deadline := time.Now().Add(30 * time.Second); ask(dial(), "/") != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody comes in")
		}
	}
	idle[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := idle[0].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the oldest is still there: %v", err)
	}
	if err := ask(idle[most-1], "/"); err != nil {
		t.Errorf("the youngest is not: %v", err)
	}
	io.WriteString(conn, "still here")
	if b, err := io.ReadAll(io.LimitReader(member, 10)); string(b) != "still here" {
		t.Errorf("what was taken over: %q, %v", b, err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
