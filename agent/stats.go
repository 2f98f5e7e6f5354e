package agent

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// usage remembers of a run of the process what its figures must not fall below: those that are made of several readings
// are not of one instant.
type usage struct {
	mu  sync.Mutex
	cpu time.Duration
}

// stats measures what the container uses. What the agent itself takes of its group is left out; what cannot be seen is
// absent.
func (a *Agent) stats(context.Context, struct{}) (protocol.Stats, error) {
	i, err := a.running()
	if err != nil {
		return protocol.Stats{}, err
	}
	s, all, err := a.reaper.measure(findCgroups("/"))
	if err != nil {
		return protocol.Stats{}, err
	}
	if s.Memory == nil {
		s.Memory = memoryOf(all)
	}
	if total := uint64(totalMemory()); s.Memory.Limit == 0 || s.Memory.Limit > total {
		s.Memory.Limit = total
	}
	s.Networks = networks("/")
	i.usage.mu.Lock()
	defer i.usage.mu.Unlock()
	i.usage.cpu = max(i.usage.cpu, s.CPU.Total)
	s.CPU.Total = i.usage.cpu
	return s, nil
}

// measure reads the control group where it is the container's own, and /proc where it is not. It returns the container's
// processes too, for the memory that it has not seen.
func (r *reaper) measure(groups cgroups) (s protocol.Stats, all []seen, err error) {
	r.mu.Lock() // nothing is forked or waited for between the readings
	defer r.mu.Unlock()
	s.Time = time.Now()
	if all, err = family(os.Getpid()); err != nil {
		return s, nil, err
	}
	known := map[int]bool{os.Getpid(): true}
	for _, p := range all {
		known[p.pid] = true
	}
	own := func(pid int) bool {
		if known[pid] {
			return true
		}
		_, there := look(pid) // made or ended between the two readings
		return !there || isBelow(pid, os.Getpid())
	}
	var ok bool
	if s.SystemCPU, s.OnlineCPUs, ok = machineCPU("/"); !ok {
		return s, nil, wire.Errorf(protocol.CodeInvalid, "cannot measure: /proc/stat cannot be read")
	}
	if !groups.shared("cpuacct", own) {
		s.CPU = groups.cpu()
	}
	if s.CPU != nil {
		user, system := selfUsage(syscall.RUSAGE_SELF)
		s.CPU.Total = max(0, s.CPU.Total-user-system)
		s.CPU.User, s.CPU.System = max(0, s.CPU.User-user), max(0, s.CPU.System-system)
	} else {
		s.CPU = cpuOf(all)
	}
	if !groups.shared("memory", own) {
		s.Memory = groups.memory()
	}
	if s.Memory != nil {
		s.Memory.Usage -= min(s.Memory.Usage, anonymous(os.Getpid()))
	}
	if !groups.shared("pids", own) {
		s.Pids = groups.pids()
	}
	if s.Pids != nil {
		if me, ok := look(os.Getpid()); ok {
			s.Pids.Current -= min(s.Pids.Current, uint64(me.threads))
		}
	} else {
		s.Pids = threadsOf(all)
	}
	if !groups.shared("blkio", own) {
		s.Block = groups.block()
	}
	return s, all, nil
}

// isBelow says whether a process descends from another.
func isBelow(pid, root int) bool {
	for range 1 << 12 { // a chain that changes under the look ends too
		p, ok := look(pid)
		if !ok || p.parent == root {
			return ok
		}
		pid = p.parent
	}
	return false
}

// cpuOf sums up processes, and those that the agent and they have waited for.
func cpuOf(all []seen) *protocol.CPUStats {
	var s protocol.CPUStats
	s.User, s.System = selfUsage(syscall.RUSAGE_CHILDREN)
	for _, p := range all {
		if st, ok := readStat(p.pid); ok {
			s.User += ticks(st.user + st.childUser)
			s.System += ticks(st.system + st.childSystem)
		}
	}
	s.Total = s.User + s.System
	return &s
}

func selfUsage(who int) (user, system time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0, 0 // it does not fail for these
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}

// memoryOf sums up what processes have in memory: their share of it where the kernel says so, else what is not a file's.
func memoryOf(all []seen) *protocol.MemoryStats {
	var m protocol.MemoryStats
	for _, p := range all {
		if share, ok := kilobytes(readSome(procFile(p.pid, "smaps_rollup"), 4<<10), "Pss"); ok {
			m.Usage += share
			continue
		}
		m.Usage += anonymous(p.pid)
	}
	return &m
}

// anonymous is the memory of a process that no file stands behind, in bytes.
func anonymous(pid int) uint64 {
	status := readSome(procFile(pid, "status"), 64<<10)
	private, _ := kilobytes(status, "RssAnon") // 0 where it is not told
	shared, _ := kilobytes(status, "RssShmem")
	return private + shared
}

// kilobytes reads a line like "Pss:   12 kB", in bytes.
func kilobytes(text []byte, key string) (uint64, bool) {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 54)
			return n << 10, err == nil
		}
	}
	return 0, false
}

func threadsOf(all []seen) *protocol.PidsStats {
	var s protocol.PidsStats
	for _, p := range all {
		s.Current += uint64(max(1, p.threads))
	}
	return &s
}

// machineCPU is the time that all processors have spent, idling included, and how many there are, as dockerd counts.
func machineCPU(base string) (total time.Duration, online int, ok bool) {
	text := readSome(filepath.Join(base, "proc/stat"), 1<<20)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			online++
			continue
		}
		if len(f) < 8 {
			return 0, 0, false
		}
		for _, v := range f[1:8] { // what follows is counted in these already
			n, err := strconv.ParseUint(v, 10, 54)
			if err != nil {
				return 0, 0, false
			}
			total += ticks(n)
		}
		ok = true
	}
	return total, online, ok
}

// networks reads what went over each interface but loopback; nil where that cannot be seen.
func networks(base string) map[string]protocol.NetworkStats {
	text, err := os.ReadFile(filepath.Join(base, "proc/self/net/dev"))
	if err != nil {
		return nil
	}
	return parseNetDev(string(text))
}

func parseNetDev(text string) map[string]protocol.NetworkStats {
	all := map[string]protocol.NetworkStats{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 12 {
			continue // a heading, or loopback
		}
		var n [12]uint64
		for i := range n {
			var err error
			if n[i], err = strconv.ParseUint(f[i], 10, 64); err != nil {
				ok = false
			}
		}
		if ok {
			all[name] = protocol.NetworkStats{
				RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
				TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
			}
		}
	}
	return all
}
