package engine_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine"
)

// TestStalledStreamsAreBounded: clients that never read and processes that never do cost windows and buffers, whatever
// is written to them, here and in the agent.
func TestStalledStreamsAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{reverse: true, engine: engine.Options{Linger: time.Minute}})
	id := r.create(sh("sleep 600"))
	r.start(id)
	agent := r.agentOf(id)
	const streams, bound = 60, 160 << 20
	before := heap()
	for i := range streams {
		config := sockerless.ExecConfig{Cmd: []string{"cat", "/dev/zero"}, Stdout: true}
		if i%2 == 0 {
			config = sockerless.ExecConfig{Cmd: []string{"sleep", "600"}, Stdin: true, Stdout: true}
		}
		x, err := r.b.Execs.Create(t.Context(), id, config)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.b.Execs.Start(t.Context(), x, sockerless.ExecStartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if i%2 == 0 {
			go func() { // ends with the session
				for {
					if _, err := s.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			}()
		}
	}
	var most uint64
	var rss int
	for range 20 { // while it fills up, and after
		time.Sleep(100 * time.Millisecond)
		most, rss = max(most, heap()), max(rss, resident(t, agent))
	}
	t.Logf("%d streams: %d MiB more here, %d MiB in the agent", streams, (most-min(most, before))>>20, rss>>20)
	if most > before+bound {
		t.Errorf("%d MiB became %d", before>>20, most>>20)
	}
	if rss > bound {
		t.Errorf("the agent has %d MiB", rss>>20)
	}
	if out := r.exec(id, "echo", "works"); out != "works\n" {
		t.Errorf("another exec: %q", out)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// agentOf returns the pid of a running container's agent.
func (r *rig) agentOf(id string) int {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.find(id).State.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	pid := 0
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "PPid: %d", &pid)
	}
	return pid
}

// processState is the letter that ps shows, or nothing if there is no such process.
func processState(pid int) (state string) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "State: %s", &state)
	}
	return state
}

func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	kib := 0
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &kib)
	}
	return kib << 10
}
