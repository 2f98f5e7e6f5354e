package agent

import (
	"os"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// oomInterval is how often the kernel is asked whether it has killed something, while nothing ends. A container may not
// register for being told.
const oomInterval = time.Second

// oomWatch tells when the kernel kills a process of the container for want of memory.
type oomWatch struct {
	groups cgroups
	blind  bool // the group is not the container's own, or does not count

	mu     sync.Mutex
	before int // counted before this run of the process
	told   int // of the kills since then
}

// newOOMWatch begins to count. The container's process does not run yet.
func newOOMWatch(groups cgroups) *oomWatch {
	w := &oomWatch{groups: groups}
	own := func(pid int) bool { return pid == os.Getpid() || isBelow(pid, os.Getpid()) }
	var counts bool
	w.before, counts = groups.oomKills()
	w.blind = !counts || groups.shared("memory", own)
	return w
}

// look reports whether anything was killed since the beginning, and whether some of it is told for the first time.
func (w *oomWatch) look() (any, more bool) {
	if w.blind {
		return false, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.groups.oomKills()
	if kills := n - w.before; ok && kills > w.told {
		w.told, more = kills, true
	}
	return w.told > 0, more
}

// lookForOOM tells of what was killed since the last look, and reports whether anything was in this run of the process.
func (a *Agent) lookForOOM(i *incarnation) bool {
	killed, more := i.oom.look()
	if more {
		a.events.add(protocol.Event{Kind: protocol.EventOOM, Incarnation: i.number})
	}
	return killed
}

// watchForOOM looks until the process has ended.
func (a *Agent) watchForOOM(i *incarnation) {
	if i.oom.blind {
		return
	}
	tick := time.NewTicker(oomInterval)
	defer tick.Stop()
	for {
		select {
		case <-i.process.done:
			return
		case <-tick.C:
			a.lookForOOM(i)
		}
	}
}
