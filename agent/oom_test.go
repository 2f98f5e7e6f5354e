package agent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// memoryGroup makes a cgroup with a limit and returns it, or skips the test.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("sockerless-test-%d", os.Getpid())
	dir, file := filepath.Join("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control"); err == nil && strings.Contains(string(controllers), "memory") {
		dir, file = filepath.Join("/sys/fs/cgroup", name), "memory.max"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs a memory cgroup: %v", err)
	}
	t.Cleanup(func() {
		for range 100 { // the kernel takes its time with a group whose processes have just ended
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("cannot remove the cgroup")
	})
	if err := os.WriteFile(filepath.Join(dir, file), []byte(fmt.Sprint(limit)), 0o644); err != nil {
		t.Skipf("needs a memory cgroup: %v", err)
	}
	os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0o644) // v2 with swap
	return dir
}

func TestOutOfMemoryIsTold(t *testing.T) {
	needsRoot(t)
	group := memoryGroup(t, 64<<20)
	b := newBox(t, boxOptions{})
	if err := os.WriteFile(group+"/cgroup.procs", []byte(fmt.Sprint(b.cmd.Process.Pid)), 0o644); err != nil {
		t.Skipf("needs a memory cgroup: %v", err)
	}
	_, exit := b.run(protocol.StartRequest{Process: sh("exec sleep 0.1")})
	if exit.OOM || exit.Code != 0 {
		t.Errorf("an ordinary exit: %+v", exit)
	}
	_, exit = b.run(protocol.StartRequest{Process: protocol.Process{Args: []string{"tail", "/dev/zero"}, Env: []string{path}}})
	if !exit.OOM || exit.Code != 137 || exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("the exit of what took too much: %+v", exit)
	}
	for e, err := range b.Events(b.ctx(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == protocol.EventOOM {
			if e.Incarnation != 2 {
				t.Errorf("event %+v", e)
			}
			break
		}
	}
	if err := b.Release(b.ctx()); err != nil {
		t.Fatal(err)
	}
	b.code()
}
