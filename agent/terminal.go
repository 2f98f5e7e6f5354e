package agent

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
)

// terminal is the agent's end of a pseudo terminal. Reading gives EIO once no process has the other end any more.
type terminal struct{ *os.File }

// openTerminal makes a pseudo terminal and returns the descriptor of the process's end, which the caller closes.
func openTerminal(size *protocol.Size, owner identity) (_ *terminal, slave int, err error) {
	// Non-blocking from the start, so that reads can be ended: pty.Open of creack/pty makes it blocking.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("cannot open a terminal: %w", err)
	}
	t := &terminal{os.NewFile(uintptr(fd), "ptmx")}
	slave = -1
	defer func() {
		if err != nil {
			t.Close()
			if slave >= 0 {
				closeFD(slave)
			}
		}
	}()
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, -1, fmt.Errorf("cannot unlock a terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, -1, fmt.Errorf("cannot name a terminal: %w", err)
	}
	slave, err = unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("cannot open a terminal's other end: %w", err)
	}
	if size != nil {
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols}); err != nil {
			return nil, -1, fmt.Errorf("cannot set the size of a terminal: %w", err)
		}
	}
	if owner.change {
		// As runc does; a file system that has no owners to give keeps what there is.
		_ = unix.Fchown(slave, owner.uid, -1)
	}
	return t, slave, nil
}

// resize sets the size; the kernel tells the processes.
func (t *terminal) resize(size protocol.Size) error {
	conn, err := t.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot resize the terminal: %w", err)
	}
	var ioctl error
	if err := conn.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	}); err != nil {
		return fmt.Errorf("cannot resize the terminal: %w", err)
	}
	if ioctl != nil {
		return fmt.Errorf("cannot resize the terminal: %w", ioctl)
	}
	return nil
}
