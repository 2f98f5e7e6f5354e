package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
)

// TestUsersInAPipe: a container that makes a pipe of its list of users holds up nobody.
func TestUsersInAPipe(t *testing.T) {
	b, root := newRoot(t, nil)
	for _, name := range []string{"passwd", "group"} {
		if err := unix.Mkfifo(filepath.Join(root, "etc", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs a static busybox:", err)
	}
	if err := os.WriteFile(root+"/bin/busybox", data, 0o755); err != nil {
		t.Fatal(err)
	}
	res := b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/busybox", "sleep", "1000"}, User: "1:2"}})
	_, rows := b.top("-eo user,group,pid")
	if len(rows) == 0 {
		t.Error("no process is listed")
	}
	for _, row := range rows {
		if row[0] != "1" || row[1] != "2" {
			t.Errorf("%q", row)
		}
	}
	if err := b.Signal(b.ctx(), protocol.SignalRequest{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	b.exited(res.Incarnation)
}
