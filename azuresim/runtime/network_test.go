//go:build linux

package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

func TestAReplicaReachesTheHostsLoopback(t *testing.T) {
	rt := need(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from the host ", r.Host) }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	o := launch(t, rt, sh(`printf 'GET / HTTP/1.0\r\nHost: x\r\n\r\n' | nc `+hostName+" "+port+" | tail -n 1"))
	one(t, o.wait(t))
	if got := o.text("main/stdout"); got != "hello from the host x" {
		t.Errorf("read %q, stderr %q", got, o.text("main/stderr"))
	}
}

// Port 443 of every name of the cloud is the cloud's, and a registry's port is where it is on the host: first and second
// connections take other ways.
func TestAReplicaReachesTheCloudByItsNames(t *testing.T) {
	rt := need(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from the cloud") }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	spec := sh(`for to in "web.sea.azurecontainerapps.azuresim.internal 443" "` + hostName + ` 443" "127.0.0.1 ` + port + `"; do
		for i in 1 2; do printf 'GET / HTTP/1.0\r\nHost: x\r\n\r\n' | nc $to | tail -n 1; done; done; nc -z -w 10 127.0.0.1 443; echo $?`)
	spec.HTTPS, spec.Loopback = uint16(number), []uint16{uint16(number)}
	o := launch(t, rt, spec)
	one(t, o.wait(t))
	if got, want := o.text("main/stdout"), strings.Repeat("hello from the cloud\n", 6)+"1"; got != want {
		t.Errorf("read %q, want %q; stderr %q", got, want, o.text("main/stderr"))
	}
}

func TestClosedPortsAndForbiddenAddressesAreRefused(t *testing.T) {
	rt := need(t)
	for name, to := range map[string]string{
		"closed port of the host": hostName + " 1", "closed port of its own": "127.0.0.1 1", "metadata service": "169.254.169.254 80",
		"gateway": gatewayIP.String() + " 80", "name that does not exist": "nosuch.invalid 80",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := launch(t, rt, sh("nc -z -w 10 "+to+"; echo $?"))
			one(t, o.wait(t))
			// Not in vain after its ten seconds, too.
			if got, said := o.text("main/stdout"), o.text("main/stderr"); got != "1" || said == "" || strings.Contains(said, "time") {
				t.Errorf("nc ended with %q, stderr %q", got, said)
			}
		})
	}
}

func TestDialIntoAReplica(t *testing.T) {
	rt := need(t)
	o := launch(t, rt, sh("while true; do nc -l 9111 < /etc/os-release; done"))
	var conn net.Conn
	until(t, "the listener", func() (ok bool) {
		var err error
		conn, err = o.DialContext(t.Context(), 9111)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial: %v, want a refusal until somebody listens", err)
		}
		return err == nil
	})
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	data, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(data), "Minibox") {
		t.Errorf("read %q, %v", data, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.DialContext(ctx, 9111); err == nil {
		t.Error("a dial with an ended context succeeded")
	}
	o.Stop(0)
	o.wait(t)
	<-o.Replica.(*replica).swept
	if _, err := o.DialContext(t.Context(), 9111); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("dial of an ended replica: %v", err)
	}
}

func TestHalfCloseBothWays(t *testing.T) {
	rt := need(t)
	o := launch(t, rt, sh("nc -l 9111 > /got < /etc/os-release; sha256sum /got | cut -c1-64"))
	conn := dialUp(t, o, 9111)
	defer conn.Close()
	first, err := io.ReadAll(conn) // nc's stdin has ended: it half-closes, and goes on reading
	if err != nil || !strings.Contains(string(first), "Minibox") {
		t.Fatalf("read %q, %v", first, err)
	}
	blob := bytes.Repeat([]byte("0123456789"), 300_000)
	if _, err := conn.Write(blob); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	one(t, o.wait(t))
	sum := sha256.Sum256(blob)
	if got := o.text("main/stdout"); got != hex.EncodeToString(sum[:]) {
		t.Errorf("the container read something else: %q, stderr %q", got, o.text("main/stderr"))
	}
}

func dialUp(t testing.TB, o *observed, port uint16) net.Conn {
	t.Helper()
	var conn net.Conn
	until(t, "the listener", func() bool {
		var err error
		conn, err = o.DialContext(t.Context(), port)
		return err == nil
	})
	conn.SetDeadline(time.Now().Add(2 * time.Minute)) // so that what stands still fails
	return conn
}

func TestWhatWasWrittenLastArrives(t *testing.T) {
	rt := need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 4 << 20
	l.(*net.TCPListener).SetDeadline(time.Now().Add(2 * time.Minute))
	_, port, _ := net.SplitHostPort(l.Addr().String())
	share := t.TempDir()
	spec := sh(fmt.Sprintf("head -c %d /dev/zero > /blob; nc %s %s < /blob & until [ -e /files/begun ]; do sleep 0.05; done", size, hostName, port))
	spec.Shares = map[string]string{"files": share}
	spec.Containers[0].Mounts = []azuresim.Mount{{Volume: "files", Path: "/files"}}
	o := launch(t, rt, spec)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(3 * time.Minute))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "begun"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	one(t, o.wait(t)) // it has ended before anybody reads the rest
	n, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection of a dead replica stays open")
	}
	if n == 0 {
		t.Error("nothing arrived")
	}
}

func TestADeadReplicasConnectionsEnd(t *testing.T) {
	rt := need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(2 * time.Minute))
	_, port, _ := net.SplitHostPort(l.Addr().String())
	o := launch(t, rt, sh("nc -l 9111 < /dev/null & sleep 100 | nc "+hostName+" "+port))
	out, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in := dialUp(t, o, 9111)
	defer in.Close()
	o.Stop(0)
	o.wait(t)
	var both sync.WaitGroup
	for _, conn := range []net.Conn{out, in} {
		both.Go(func() {
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, syscall.ETIMEDOUT) || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("a connection of a dead replica stays open: %v", err)
			}
		})
	}
	both.Wait()
}

func TestUDPToTheHost(t *testing.T) {
	rt := need(t)
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // ends with the server
		buf := make([]byte, 2000)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(append([]byte("echo "), buf[:n]...), from)
		}
	}()
	space, err := rt.net.attach(0)
	if err != nil {
		t.Fatal(err)
	}
	defer space.leave(0)
	err = onThread(func() error {
		if err := unix.Setns(int(space.space.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		conn, err := net.Dial("udp4", fmt.Sprint(hostIP, ":", server.LocalAddr().(*net.UDPAddr).Port))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 3 {
			if _, err := conn.Write([]byte("hello")); err != nil {
				return err
			}
			conn.SetReadDeadline(time.Now().Add(time.Minute))
			buf := make([]byte, 100)
			n, err := conn.Read(buf)
			if err != nil {
				return err
			}
			if string(buf[:n]) != "echo hello" {
				return fmt.Errorf("read %q", buf[:n])
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTargets(t *testing.T) {
	for addr, want := range map[string]string{
		"100.100.0.254": "127.0.0.1", "8.8.8.8": "8.8.8.8", "10.0.0.1": "10.0.0.1",
		"100.100.0.1": "", "100.100.3.4": "", "169.254.169.254": "", "127.0.0.1": "", "0.0.0.0": "", "255.255.255.255": "", "224.0.0.1": "",
	} {
		got, ok := target(netip.MustParseAddr(addr))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("target(%s) = %v, %v, want %q", addr, got, ok, want)
		}
	}
}
