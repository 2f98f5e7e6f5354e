package agent

import (
	"bufio"
	"os"
	"path"
	"strconv"
	"strings"
)

// oomKills returns how many processes the kernel has killed for memory in the container's cgroup. It is false where
// that cannot be seen.
func oomKills() (int, bool) {
	for _, file := range oomFiles() {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		n, ok := oomCount(bufio.NewScanner(f))
		f.Close()
		if ok {
			return n, true
		}
	}
	return 0, false
}

// oomCount reads the value of oom_kill: a line of memory.events (v2) and of memory.oom_control (v1, since Linux 4.13).
func oomCount(lines *bufio.Scanner) (int, bool) {
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, err := strconv.Atoi(v)
			return n, err == nil
		}
	}
	return 0, false
}

// oomFiles are the places where the count may be: the cgroup's own path, and, where a container sees that path from
// outside its cgroup namespace or mount, the mount's root.
func oomFiles() []string {
	const mount = "/sys/fs/cgroup"
	var files []string
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[1] == "":
			files = append(files, path.Join(mount, parts[2], "memory.events"), path.Join(mount, "memory.events"))
		case strings.Contains(","+parts[1]+",", ",memory,"):
			files = append(files, path.Join(mount, "memory", parts[2], "memory.oom_control"), path.Join(mount, "memory", "memory.oom_control"))
		}
	}
	return files
}
