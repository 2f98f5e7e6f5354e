package agent

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, in which /proc counts: 100 on every architecture that we build for.
const ticksPerSecond = 100

func ticks(n uint64) time.Duration { return time.Duration(n) * (time.Second / ticksPerSecond) }

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// procStat is what /proc/PID/stat tells of a process; proc(5).
type procStat struct {
	pid       int
	command   string
	state     byte
	ppid      int
	pgrp      int
	session   int
	tty       int
	tpgid     int
	flags     uint64
	minFaults uint64
	majFaults uint64
	user      uint64 // in ticks, as system and start
	system    uint64

	childUser, childSystem uint64 // of children that it has waited for
	priority               int
	nice                   int
	threads                int
	start                  uint64 // after the machine's boot
	vsize                  uint64 // bytes
	processor              int
}

func readStat(pid int) (procStat, bool) {
	b, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return procStat{}, false
	}
	return parseProcStat(b)
}

// parseProcStat reads a /proc/PID/stat. The name, in parentheses, may hold anything.
func parseProcStat(b []byte) (procStat, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return procStat{}, false
	}
	p := procStat{command: string(b[open+1 : end])}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 37 || len(fields[0]) != 1 {
		return procStat{}, false
	}
	p.state = fields[0][0]
	ok := true
	signed := func(text []byte) int {
		n, err := strconv.ParseInt(string(text), 10, 64)
		ok = ok && err == nil
		return int(n)
	}
	counted := func(text []byte) uint64 {
		n, err := strconv.ParseUint(string(text), 10, 64)
		ok = ok && err == nil
		return n
	}
	p.pid = signed(bytes.TrimSpace(b[:open]))
	p.ppid, p.pgrp, p.session = signed(fields[1]), signed(fields[2]), signed(fields[3])
	p.tty, p.tpgid = signed(fields[4]), signed(fields[5])
	p.flags, p.minFaults, p.majFaults = counted(fields[6]), counted(fields[7]), counted(fields[9])
	p.user, p.system = counted(fields[11]), counted(fields[12])
	p.childUser, p.childSystem = uint64(max(0, signed(fields[13]))), uint64(max(0, signed(fields[14])))
	p.priority, p.nice, p.threads = signed(fields[15]), signed(fields[16]), signed(fields[17])
	p.start, p.vsize = counted(fields[19]), counted(fields[20])
	p.processor = signed(fields[36])
	return p, ok && p.pid > 0
}

// procStatus is what the columns of ps want of /proc/PID/status. Ids that could not be read are negative.
type procStatus struct {
	uid, gid [3]int // see actual, effective and saved
	locked   bool   // it has pages locked in memory
	rss      int64  // bytes; more exact than in stat
}

func readStatus(pid int) *procStatus { return parseStatus(readSome(procFile(pid, "status"), 64<<10)) }

func parseStatus(b []byte) *procStatus {
	st := &procStatus{uid: [3]int{-1, -1, -1}, gid: [3]int{-1, -1, -1}}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "Uid" && len(fields) >= 3:
			st.uid = threeIDs(fields)
		case key == "Gid" && len(fields) >= 3:
			st.gid = threeIDs(fields)
		case key == "VmLck" && len(fields) > 0:
			st.locked = fields[0] != "0"
		case key == "VmRSS" && len(fields) > 0:
			if n, err := strconv.ParseInt(fields[0], 10, 54); err == nil && n > 0 {
				st.rss = n << 10
			}
		}
	}
	return st
}

func threeIDs(fields []string) (ids [3]int) {
	for i := range ids {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			n = -1
		}
		ids[i] = n
	}
	return ids
}

// bootTime is when the machine came up, to a second; zero where that cannot be read.
func bootTime() time.Time {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 40); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

// totalMemory is the machine's, in bytes; 0 where that cannot be read.
func totalMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	n, _ := memTotal(b)
	return n
}

func memTotal(meminfo []byte) (int64, bool) {
	for line := range strings.Lines(string(meminfo)) {
		if value, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 54)
			return n << 10, err == nil && n >= 0
		}
	}
	return 0, false
}
