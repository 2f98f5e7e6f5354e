package agent

import (
	"bytes"
	"errors"
	"fmt"
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
		alive, err := descendants(os.Getpid())
		if err == nil && len(alive) == 0 || err != nil && childless() || time.Now().After(deadline) {
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

// childless reports whether this process has no child, not even one to wait for: then nothing is below it. It needs no /proc.
func childless() bool {
	return unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil) == unix.ECHILD
}

// seen is a process as a scan of /proc found it. Its start time tells it from a later one with the same pid.
type seen struct {
	pid, parent int
	state       byte // of the first thread
	threads     int
	started     string
}

// descendants returns the living processes below a process.
func descendants(root int) ([]seen, error) {
	all, err := family(root)
	return slices.DeleteFunc(all, func(p seen) bool {
		// A first thread that has ended says nothing of the others.
		return p.state == 'X' || p.state == 'Z' && p.threads <= 1
	}), err
}

// family returns the processes below a process, the dead ones that nobody has waited for included.
func family(root int) ([]seen, error) {
	found, err := scan()
	if err != nil {
		return nil, err
	}
	children := map[int][]seen{}
	for _, p := range found {
		children[p.parent] = append(children[p.parent], p)
	}
	var all []seen
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			next = append(next, p.pid)
			all = append(all, p)
		}
	}
	return all, nil
}

// scan returns all processes. It is an error if one that there may be cannot be looked at: to have missed it would be to
// take it for ended.
func scan() ([]seen, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var all []seen
	me := false
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := readStatOf(pid)
		if exhausted(err) {
			return nil, fmt.Errorf("cannot list processes: %w", err)
		}
		if p, ok := parseStat(b); err == nil && ok {
			all = append(all, p)
			me = me || pid == os.Getpid()
		}
	}
	if !me {
		return nil, errors.New("cannot list processes: /proc cannot be read")
	}
	return all, nil
}

// exhausted is true for what says nothing of a file, but that there is no descriptor or memory to look at it.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func look(pid int) (seen, bool) {
	b, err := readStatOf(pid)
	if err != nil {
		return seen{}, false
	}
	return parseStat(b)
}

func readStatOf(pid int) ([]byte, error) { return os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat") }

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
