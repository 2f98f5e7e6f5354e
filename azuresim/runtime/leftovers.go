//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"
)

// lockFolder takes the data folder for this process. The guard of a predecessor that was killed a moment ago holds the
// lock until its containers are dead; that is waited for, a living simulator is not.
func lockFolder(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the data folder: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		text := make([]byte, 20)
		n, _ := file.ReadAt(text, 0) // nothing, from a holder that has not written yet, is waited for
		holder, perr := strconv.Atoi(string(text[:n]))
		if perr == nil && !errors.Is(unix.Kill(holder, 0), unix.ESRCH) || time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("cannot use data folder %s: another simulator runs on it (process %s)", dir, text[:n])
		}
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot lock data folder %s: %w", dir, err)
	}
	return file, nil
}

// sweep ends what a predecessor that was killed has left: containers by runc's state, stray processes by their control
// group, then the folders. Mounts and network namespaces died with it.
func (rt *Runtime) sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	states, err := os.ReadDir(rt.dir.runc)
	if err != nil {
		return err
	}
	for _, s := range states {
		// An error is a container whose state was never written; its processes are in its control group.
		if err := rt.runc.Delete(ctx, s.Name(), &runc.DeleteOpts{Force: true}); err != nil {
			rt.log.Debug("cannot delete a leftover container by its state", "container", s.Name(), "error", err)
		}
	}
	if err := rt.cgroups.sweep(); err != nil {
		return err
	}
	for _, dir := range []string{rt.dir.runc, rt.dir.replicas} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// guard is a shell that waits for the end of this process, however it comes, and then kills the containers that are left:
// runc's containers are not children of the simulator and would run on.
type guard struct {
	cmd   *exec.Cmd
	leash io.Closer // closed by close, or by the kernel when this process dies
}

// It ends after this process does, not with a context. The session of its own keeps Ctrl-C and a kill of the process group away from it.
const guardScript = `read line
for state in "$2"/*; do
	[ -d "$state" ] && "$1" --root "$2" delete --force "${state##*/}"
done
exit 0`

func startGuard(program, states string, lock *os.File) (*guard, error) {
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", guardScript, "azuresim-guard", program, states)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{lock} // the lock is free when both have ended
	leash, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot start the guard of the containers: %w", err)
	}
	return &guard{cmd: cmd, leash: leash}, nil
}

// close lets the guard end; there is nothing left for it to kill.
func (g *guard) close() error {
	g.leash.Close()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("the guard of the containers ended badly: %w", err)
	}
	return nil
}
