package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// condition answers [limits]: whether the simulator can limit the memory of its replicas on this machine. Without that, a
// session that runs out of memory takes the machine's.
func condition(cond string) (bool, error) {
	if cond != "limits" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	dir := "/sys/fs/cgroup/memory"
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control"); err == nil && strings.Contains(string(controllers), "memory") {
		dir = "/sys/fs/cgroup"
	}
	probe := filepath.Join(dir, fmt.Sprintf("sockerless-e2e-%d", os.Getpid()))
	if err := os.Mkdir(probe, 0o755); err != nil {
		return false, nil
	}
	_, v1 := os.Stat(filepath.Join(probe, "memory.limit_in_bytes"))
	_, v2 := os.Stat(filepath.Join(probe, "memory.max"))
	return v1 == nil || v2 == nil, os.Remove(probe)
}
