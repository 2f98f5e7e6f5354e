//go:build linux

package runtime

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating system thread of its own, which ends with fn: fn may change the thread's namespaces,
// root and working folder. Processes that fn starts inherit these.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() { // ends with fn
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end before the process and /proc/self shows its namespaces: keep it
			// occupied, so that the next goroutine gets another.
			result <- onThread(fn)
			goruntime.UnlockOSThread()
			return
		}
		result <- fn() // still locked: the thread ends with the goroutine
	}()
	return <-result
}

// mountNamespace holds the mounts of all containers. It lives as long as this process has its descriptor open, so no crash
// leaves a mount behind. Mounts of the host go on appearing in it.
type mountNamespace struct {
	ns             *os.File
	overlay        bool   // whether overlays can be mounted here; set by probeOverlay
	overlayOptions string // ends with a comma unless empty
}

func newMountNamespace() (*mountNamespace, error) {
	m := &mountNamespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		m.ns, err = os.Open("/proc/thread-self/ns/mnt")
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// run runs fn inside, with dir as its working folder.
func (m *mountNamespace) run(dir string, fn func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(int(m.ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("setns", err)
		}
		if err := unix.Chdir(dir); err != nil {
			return fmt.Errorf("cannot change into %s: %w", dir, err)
		}
		return fn()
	})
}

func (m *mountNamespace) close() error { return m.ns.Close() }
