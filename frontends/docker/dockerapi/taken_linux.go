package dockerapi

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// taken returns true once the client has read what was written to it so far, or false after maxTaken. Of a connection whose client
// cannot be watched (TCP tells only that the client's kernel has it) it returns false after headPause.
//
// docker-py reads the headers of a session through a buffer and the session from the connection below it: what comes with
// the headers is lost. dockerd starts a process only after it has sent them, so that there is nothing yet; here the process
// was accepted before, and may have said everything.
func taken(conn net.Conn) bool {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		time.Sleep(headPause)
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false // it was closed
	}
	pause := 20 * time.Microsecond
	for end := time.Now().Add(maxTaken); time.Now().Before(end); time.Sleep(pause) {
		var unread int
		var failed error
		if err := raw.Control(func(fd uintptr) { unread, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
			return false // it was closed
		}
		if failed != nil {
			time.Sleep(headPause)
			return false
		}
		if unread == 0 {
			return true
		}
		pause = min(2*pause, time.Millisecond)
	}
	return false
}
