package agent_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

func TestFirstProcess(t *testing.T) {
	b := newBox(t, boxOptions{})
	s, err := b.State(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if s.Phase != protocol.PhaseHeld || s.Execution != "job-abc" || s.BootID == "" {
		t.Errorf("state of a held agent: %+v", s)
	}
	out, exit := b.run(protocol.StartRequest{Process: sh("echo one; echo two; exit 5")})
	if diff := cmp.Diff("one\ntwo\n", out); diff != "" {
		t.Error(diff)
	}
	if exit.Code != 5 || exit.Signal != 0 {
		t.Errorf("exit %+v", exit)
	}
	if diff := cmp.Diff("one\ntwo\n", b.logs()); diff != "" {
		t.Error(diff)
	}
	if err := b.Release(b.ctx()); err != nil {
		t.Fatal(err)
	}
	if code := b.code(); code != 5 {
		t.Errorf("the agent's code is %d", code)
	}
}
