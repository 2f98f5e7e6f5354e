package wire

import (
	"syscall"
	"unsafe"
)

const (
	pollErr = 0x8  // POLLERR
	pollHup = 0x10 // POLLHUP
)

// hungUp says whether the other end of a socket has closed both ways. A half-close is none: poll(2) tells POLLHUP only
// when both are shut. Of a TCP peer that has gone, the keep-alive finds out.
func hungUp(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var gone bool
	err = raw.Control(func(fd uintptr) {
		p := struct {
			fd              int32
			events, revents int16
		}{fd: int32(fd)}
		var now syscall.Timespec
		n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		gone = errno == 0 && n == 1 && p.revents&(pollErr|pollHup) != 0
	})
	return err == nil && gone
}
