package agent_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// A process of the container may send the agent whatever signal it likes. None but TERM and ABRT, and those that the
// kernel keeps from pid 1, does the agent any harm.
func TestSignalsDoTheAgentNoHarm(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh(`for s in HUP INT QUIT USR1 USR2 ALRM IO PWR TSTP TTIN TTOU; do trap : $s; done; echo ready; while :; do sleep 0.05; done`)})
	eventually(t, "the traps are set", func() bool { return b.logs() == "ready\n" })
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGABRT, 32, 33, 34: // Go leaves the last three as they are
			continue
		}
		if err := b.cmd.Process.Signal(sig); err != nil {
			t.Fatalf("%v: the agent has ended before it: %v", sig, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := b.State(b.ctx()); err != nil {
		t.Fatalf("%v\n%s", err, b.stderr)
	}
	if out, _, code := b.exec(sh("echo here"), ""); out != "here\n" || code != 0 {
		t.Errorf("%q, %d", out, code)
	}
}
