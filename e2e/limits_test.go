package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// condition answers [limits] and [blockio].
func condition(cond string) (bool, error) {
	switch cond {
	case "limits":
		return limited()
	case "blockio":
		return countsBlocks()
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// countsBlocks says whether the kernel counts what replicas write to a device, and they have one to write to. Version 1's
// counters stand still in newer kernels (6.18) unless a device is throttled.
func countsBlocks() (bool, error) {
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err != nil || !slices.Contains(strings.Fields(string(controllers)), "io") {
		return false, nil
	}
	dir, err := os.MkdirTemp("", "sl-blocks-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	return unix.Major(st.Dev) != 0, err // 0: of memory, or of a file system above others
}

// limited says whether the simulator can limit the memory of its replicas on this machine. Without that, a session that
// runs out of memory takes the machine's.
func limited() (bool, error) {
	dir := "/sys/fs/cgroup/memory"
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control"); err == nil && strings.Contains(string(controllers), "memory") {
		dir = "/sys/fs/cgroup"
	}
	probe, err := os.MkdirTemp(dir, "sockerless-e2e-") // sessions that run at once ask at once
	if err != nil {
		return false, nil
	}
	_, v1 := os.Stat(filepath.Join(probe, "memory.limit_in_bytes"))
	_, v2 := os.Stat(filepath.Join(probe, "memory.max"))
	return v1 == nil || v2 == nil, os.Remove(probe)
}
