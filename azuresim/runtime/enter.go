//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// entered tells a process that Enter started it.
const entered = "AZURESIM_ENTERED"

// Enter lets an ordinary user run replicas: it starts this program again as root of a user namespace and stays in front of
// it, passing signals on, until it ends; then it exits with its status. In that second process, and for root, Enter returns
// nil. Call it first in main, before goroutines, files and flags: what the first process did is done twice.
//
// With a range in /etc/subuid and the newuidmap program the containers have users of their own; without, they have root
// alone, and images that need another user cannot run.
func Enter() error {
	if os.Getenv(entered) != "" {
		return awaitMapping()
	}
	if os.Geteuid() == 0 {
		return nil
	}
	status, err := runInside()
	if err != nil {
		return fmt.Errorf("cannot run replicas as an ordinary user: %w (%s; or run as root)", err, userNamespaceAdvice())
	}
	os.Exit(status)
	return nil
}

// awaitMapping returns when the process in front has written the id maps, which makes this one root.
func awaitMapping() error {
	gate := os.NewFile(3, "gate")
	defer gate.Close()
	if n, err := gate.Read(make([]byte, 1)); n == 0 {
		return fmt.Errorf("cannot run replicas as an ordinary user: no id maps: %w", err)
	}
	return os.Unsetenv(entered) // not for the processes that this one starts
}

// singleUser reports whether root is the only user of this process's namespace.
func singleUser() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(data))
	return err == nil && len(fields) == 3 && fields[2] == "1"
}

func runInside() (int, error) {
	ranges, rangeErr := subordinate()
	gateR, gateW, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer gateW.Close()
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...) // it ends by itself or by a signal
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), entered+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{gateR}
	var all []uintptr
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if known, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && known == 1 {
			all = append(all, c)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER,
		// An exec drops the capabilities of a user without a mapping, and gaining them by another exec would clear
		// Pdeathsig and close /proc/self: carry them over.
		AmbientCaps: all,
		Pdeathsig:   syscall.SIGKILL,
		Setpgid:     true, // the terminal's Ctrl-C comes once, through this process
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	goruntime.LockOSThread() // Pdeathsig means the death of this thread
	defer goruntime.UnlockOSThread()
	err = cmd.Start()
	gateR.Close()
	if err != nil {
		return 0, err
	}
	if rangeErr == nil {
		err = writeRanges(cmd.Process.Pid, ranges)
	} else {
		err = writeSingle(cmd.Process.Pid, strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid()))
	}
	if err == nil {
		_, err = gateW.Write([]byte{1})
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // it may have ended
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
				return 128 + int(ws.Signal()), nil
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}

// subordinate finds the ids that this user may give away.
func subordinate() (user.IdentityMapping, error) {
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return user.IdentityMapping{}, err
		}
	}
	me, err := user.CurrentUser()
	if err != nil {
		return user.IdentityMapping{}, err
	}
	m, err := user.LoadIdentityMapping(me.Name)
	if err == nil && (len(m.UIDMaps) == 0 || len(m.GIDMaps) == 0) {
		err = errors.New("no subordinate ids")
	}
	return m, err
}

func writeRanges(pid int, m user.IdentityMapping) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, c := range []struct {
		program string
		own     int
		maps    []user.IDMap
	}{{"newuidmap", os.Geteuid(), m.UIDMaps}, {"newgidmap", os.Getegid(), m.GIDMaps}} {
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(c.own), "1"}
		next := int64(1)
		for _, r := range c.maps {
			args = append(args, strconv.FormatInt(next, 10), strconv.FormatInt(r.ParentID, 10), strconv.FormatInt(r.Count, 10))
			next += r.Count
		}
		if out, err := exec.CommandContext(ctx, c.program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", c.program, err, out)
		}
	}
	return nil
}

func writeSingle(pid int, uid, gid string) error {
	dir := fmt.Sprintf("/proc/%d/", pid)
	for _, f := range []struct{ name, text string }{{"uid_map", "0 " + uid + " 1"}, {"setgroups", "deny"}, {"gid_map", "0 " + gid + " 1"}} {
		if err := os.WriteFile(dir+f.name, []byte(f.text), 0); err != nil {
			return err
		}
	}
	return nil
}

// userNamespaceAdvice names what forbids user namespaces on this machine.
func userNamespaceAdvice() string {
	for _, s := range []struct{ file, forbids, fix string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		if data, err := os.ReadFile(s.file); err == nil && string(data) == s.forbids+"\n" {
			return s.fix
		}
	}
	return "user namespaces must be allowed on this machine"
}
