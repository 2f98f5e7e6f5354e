package agent

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killPatience is how long killDescendants tries. What it cannot end by then is not ours to signal, or hangs in the kernel.
const killPatience = 5 * time.Second

// killDescendants kills every process below this one, and returns once none is left alive. It never touches others:
// the agent may share its pid namespace, and orphans below it stay below it because it is a subreaper.
func killDescendants() {
	deadline := time.Now().Add(killPatience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		alive := descendants(os.Getpid())
		if len(alive) == 0 || time.Now().After(deadline) {
			return
		}
		// What is stopped cannot fork, so that even processes which multiply come to an end.
		for _, p := range alive {
			_ = p.signal(syscall.SIGSTOP) // it has ended, or is another user's
		}
		for _, p := range alive {
			_ = p.signal(syscall.SIGKILL) // as above
		}
		time.Sleep(pause)
	}
}

// seen is a process as a scan of /proc found it. Its start time tells it from a later one with the same pid.
type seen struct {
	pid, parent int
	state       byte // of the first thread
	threads     int
	started     string
}

// descendants returns the living processes below a process.
func descendants(root int) []seen {
	return slices.DeleteFunc(family(root), func(p seen) bool {
		// A first thread that has ended says nothing of the others.
		return p.state == 'X' || p.state == 'Z' && p.threads <= 1
	})
}

// family returns the processes below a process, the dead ones that nobody has waited for included.
func family(root int) []seen {
	children := map[int][]seen{}
	for _, p := range scan() {
		children[p.parent] = append(children[p.parent], p)
	}
	var all []seen
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			next = append(next, p.pid)
			all = append(all, p)
		}
	}
	return all
}

func scan() []seen {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var all []seen
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := look(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

func look(pid int) (seen, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return seen{}, false
	}
	return parseStat(b)
}

// parseStat reads pid, state, parent, threads and start time of a /proc/PID/stat. The name, in parentheses, may hold anything.
func parseStat(b []byte) (seen, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return seen{}, false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	f := bytes.Fields(b[end+1:])
	if err != nil || len(f) < 20 || len(f[0]) != 1 {
		return seen{}, false
	}
	parent, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return seen{}, false
	}
	threads, err := strconv.Atoi(string(f[17]))
	if err != nil {
		return seen{}, false
	}
	return seen{pid: pid, state: f[0][0], threads: threads, parent: parent, started: string(f[19])}, true
}

// signal signals this process and no later one with its pid. ESRCH: it has ended.
func (p seen) signal(sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == unix.ENOSYS || err == unix.EPERM {
		return syscall.Kill(p.pid, sig) // kernels and sandboxes without pidfds
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if now, ok := look(p.pid); !ok || now.started != p.started {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}
