package link

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ends bound what the kernel holds back, under whatever lies on the socket.
func TestTune(t *testing.T) {
	h, s := newTestHub(t, Options{})
	c := byHand(t, s, protocolPlain)
	claimByHand(t, c, "run-1", goodSecret, claim{fresh: true, token: newToken(), epoch: 1})
	l, err := h.Accept(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	l.r.mu.Lock()
	hub := l.r.carrier
	l.r.mu.Unlock()
	for name, c := range map[string]*carrier{"dialler": c, "hub": hub} {
		raw, err := c.raw.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if err := raw.Control(func(fd uintptr) {
			got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		}); err != nil {
			t.Fatal(err)
		}
		if err != nil || got != notSent {
			t.Errorf("%s: TCP_NOTSENT_LOWAT is %d, %v", name, got, err)
		}
	}
}
