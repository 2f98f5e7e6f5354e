//go:build !linux

package dockerapi

import (
	"net"
	"time"
)

// taken gives the client time to read the headers of a session alone, see taken_linux.go; that it has read them cannot be
// seen here.
func taken(net.Conn) bool {
	time.Sleep(headPause)
	return false
}
