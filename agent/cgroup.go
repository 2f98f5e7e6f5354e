package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// cgroups are the control groups that the agent is in, in one hierarchy (version 2), in one a controller (version 1), or
// in both kinds.
type cgroups struct {
	base string            // of all paths: "/", but in tests
	v2   string            // the group's folder; empty without that hierarchy
	v1   map[string]string // by controller
}

// findCgroups finds the groups by what the kernel says of mounts and memberships. With a namespace of its own, a
// container sees its group as the root; without one, the mount often begins at the container's group.
func findCgroups(base string) cgroups {
	c := cgroups{base: base, v1: map[string]string{}}
	mine, err := os.ReadFile(filepath.Join(base, "proc/self/cgroup"))
	if err != nil {
		return c
	}
	mounts, err := os.ReadFile(filepath.Join(base, "proc/self/mountinfo"))
	if err != nil {
		return c
	}
	members := parseMembership(string(mine))
	for line := range strings.Lines(string(mounts)) {
		m, ok := parseCgroupMount(line)
		if !ok {
			continue
		}
		if m.controllers == nil {
			if at, ok := members[""]; ok && c.v2 == "" {
				c.v2 = c.folder(m, at)
			}
			continue
		}
		for _, name := range m.controllers {
			if at, ok := members[name]; ok && c.v1[name] == "" {
				c.v1[name] = c.folder(m, at)
			}
		}
	}
	return c
}

// folder is where a group is below a mount; the mount itself if the group is not below it.
func (c cgroups) folder(m cgroupMount, group string) string {
	rel, below := strings.CutPrefix(group, strings.TrimSuffix(m.root, "/"))
	if below && (rel == "" || rel[0] == '/') && !strings.HasPrefix(group, "/..") {
		dir := filepath.Join(c.base, m.point, rel)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir
		}
	}
	return filepath.Join(c.base, m.point)
}

// file returns a file's content: of the version 1 controller if there is one, else of version 2. Empty if it is not there.
func (c cgroups) file(controller, v1Name, v2Name string) (content string, isV2 bool) {
	if dir := c.v1[controller]; dir != "" && v1Name != "" {
		return string(readSome(filepath.Join(dir, v1Name), 1<<20)), false
	}
	if c.v2 != "" && v2Name != "" {
		return string(readSome(filepath.Join(c.v2, v2Name), 1<<20)), true
	}
	return "", false
}

// shared says whether others than the agent and what it has started are in the group of a controller: then what the
// group counts is not the container's. own says whether a process is the container's.
func (c cgroups) shared(controller string, own func(pid int) bool) bool {
	text, _ := c.file(controller, "cgroup.procs", "cgroup.procs")
	pids := strings.Fields(text)
	for _, p := range pids {
		pid, err := strconv.Atoi(p)
		if err != nil || pid == 0 || !own(pid) { // 0: of another pid namespace
			return true
		}
	}
	return len(pids) == 0
}

// parseMembership reads a /proc/PID/cgroup: the group by controller; version 2's by "".
func parseMembership(text string) map[string]string {
	members := map[string]string{}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, name := range strings.Split(parts[1], ",") {
			members[name] = parts[2]
		}
	}
	return members
}

// cgroupMount is the mount of a hierarchy.
type cgroupMount struct {
	root, point string
	controllers []string // nil: version 2
}

// parseCgroupMount reads a line of a /proc/PID/mountinfo; false if it is of another file system.
func parseCgroupMount(line string) (cgroupMount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, super := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(super) < 3 {
		return cgroupMount{}, false
	}
	m := cgroupMount{root: unescape(fields[3]), point: unescape(fields[4])}
	switch super[0] {
	case "cgroup2":
		return m, true
	case "cgroup":
		m.controllers = strings.Split(super[2], ",")
		return m, true
	}
	return cgroupMount{}, false
}

// unescape undoes \040 and the like of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// cpu reads what the group has used.
func (c cgroups) cpu() *protocol.CPUStats {
	if dir := c.v1["cpuacct"]; dir != "" {
		total, ok := count(string(readSome(filepath.Join(dir, "cpuacct.usage"), 1<<10)))
		if !ok {
			return nil
		}
		s := &protocol.CPUStats{Total: time.Duration(total)}
		split := pairs(string(readSome(filepath.Join(dir, "cpuacct.stat"), 1<<10)))
		s.User, s.System = ticks(split["user"]), ticks(split["system"])
		if text, v2 := c.file("cpu", "cpu.stat", ""); !v2 {
			t := pairs(text)
			s.Periods, s.Throttled, s.ThrottledTime = t["nr_periods"], t["nr_throttled"], time.Duration(t["throttled_time"])
		}
		return s
	}
	text, _ := c.file("cpuacct", "", "cpu.stat")
	t := pairs(text)
	if _, ok := t["usage_usec"]; !ok {
		return nil
	}
	micro := func(key string) time.Duration { return time.Duration(t[key]) * time.Microsecond }
	return &protocol.CPUStats{
		Total: micro("usage_usec"), User: micro("user_usec"), System: micro("system_usec"),
		Periods: t["nr_periods"], Throttled: t["nr_throttled"], ThrottledTime: micro("throttled_usec"),
	}
}

// memory reads what the group has, and may have. Limit is 0 where there is none.
func (c cgroups) memory() *protocol.MemoryStats {
	text, v2 := c.file("memory", "memory.usage_in_bytes", "memory.current")
	usage, ok := count(text)
	if !ok {
		return nil
	}
	m := &protocol.MemoryStats{Usage: usage}
	text, _ = c.file("memory", "memory.stat", "memory.stat")
	m.Stats = pairs(text)
	text, _ = c.file("memory", "memory.limit_in_bytes", "memory.max")
	m.Limit, _ = count(text) // "max" is no number, and none
	if v2 {
		text, _ = c.file("memory", "", "memory.events")
		m.Failures = pairs(text)["oom"]
		return m
	}
	if above, ok := m.Stats["hierarchical_memory_limit"]; ok {
		m.Limit = min(m.Limit, above)
	}
	text, _ = c.file("memory", "memory.max_usage_in_bytes", "")
	m.MaxUsage, _ = count(text)
	text, _ = c.file("memory", "memory.failcnt", "")
	m.Failures, _ = count(text)
	return m
}

// pids counts the group's threads, and how many it may have: 0 is any number.
func (c cgroups) pids() *protocol.PidsStats {
	text, _ := c.file("pids", "pids.current", "pids.current")
	n, ok := count(text)
	if !ok {
		return nil
	}
	text, _ = c.file("pids", "pids.max", "pids.max")
	limit, _ := count(text)
	return &protocol.PidsStats{Current: n, Limit: limit}
}

// block reads what the group has read from and written to devices.
func (c cgroups) block() *protocol.BlockStats {
	if c.v1["blkio"] != "" {
		b := &protocol.BlockStats{}
		text, _ := c.file("blkio", "blkio.throttle.io_service_bytes_recursive", "")
		bytes, ok := parseBlkio(text)
		if !ok {
			return nil
		}
		b.Bytes = bytes
		text, _ = c.file("blkio", "blkio.throttle.io_serviced_recursive", "")
		b.Operations, _ = parseBlkio(text)
		return b
	}
	if c.v2 == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(c.v2, "io.stat"))
	if err != nil {
		return nil
	}
	return parseIOStat(string(data))
}

// parseBlkio reads version 1's lines: "8:0 Read 4096", and at the end "Total 4096".
func parseBlkio(text string) ([]protocol.BlockEntry, bool) {
	entries := []protocol.BlockEntry{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		e, ok := blockEntry(f[0], strings.ToLower(f[1]), f[2])
		if ok {
			entries = append(entries, e)
		}
	}
	return entries, text != ""
}

// parseIOStat reads version 2's: "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0".
func parseIOStat(text string) *protocol.BlockStats {
	b := &protocol.BlockStats{Bytes: []protocol.BlockEntry{}}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			var op string
			list := &b.Bytes
			switch key {
			case "rbytes":
				op = "read"
			case "wbytes":
				op = "write"
			case "rios":
				op, list = "read", &b.Operations
			case "wios":
				op, list = "write", &b.Operations
			default:
				continue
			}
			if e, ok := blockEntry(f[0], op, value); ok {
				*list = append(*list, e)
			}
		}
	}
	return b
}

func blockEntry(device, op, value string) (protocol.BlockEntry, bool) {
	major, minor, ok := strings.Cut(device, ":")
	if !ok {
		return protocol.BlockEntry{}, false
	}
	e := protocol.BlockEntry{Op: op}
	var errs [3]error
	e.Major, errs[0] = strconv.ParseUint(major, 10, 32)
	e.Minor, errs[1] = strconv.ParseUint(minor, 10, 32)
	e.Value, errs[2] = strconv.ParseUint(value, 10, 64)
	return e, errs == [3]error{}
}

// oomKills counts the processes that the kernel has killed for memory in the group. It is false where that cannot be
// seen: version 1 counts since Linux 4.13.
func (c cgroups) oomKills() (int, bool) {
	text, _ := c.file("memory", "memory.oom_control", "memory.events")
	n, ok := pairs(text)["oom_kill"]
	return int(min(n, 1<<31)), ok
}

// count reads a number that is alone in a file.
func count(text string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	return n, err == nil
}

// pairs reads lines of a name and a number. Others are left out.
func pairs(text string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if n, isNumber := count(value); ok && isNumber {
			m[key] = n
		}
	}
	return m
}
