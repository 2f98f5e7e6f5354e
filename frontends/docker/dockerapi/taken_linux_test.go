package dockerapi

import (
	"io"
	"net"
	"path/filepath"
	"testing"
)

// TestTaken: what a client has not read is not taken, and what it has read is.
func TestTaken(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "head"); err != nil {
		t.Fatal(err)
	}
	if taken(conn) {
		t.Error("taken and not read")
	}
	if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if !taken(conn) {
		t.Error("read and not taken")
	}
	conn.Close()
	if taken(conn) {
		t.Error("taken by a connection that is closed")
	}
}
