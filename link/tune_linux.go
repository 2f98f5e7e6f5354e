package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// notSent is how many bytes that are not on the wire yet the kernel takes from us. Without a bound a
// bulk transfer fills the send buffer, and everything else on the link waits behind megabytes.
const notSent = 128 << 10

// tune sets what a carrier wants of its socket. A connection that is no socket is left as it is.
func tune(conn net.Conn) {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	// An error means that it is no TCP socket: nothing is lost but latency.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
	})
}
