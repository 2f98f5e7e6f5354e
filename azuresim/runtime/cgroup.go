//go:build linux

package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// cgroups knows where this machine's control groups are. The containers' groups lie flat in the root of each hierarchy,
// named azuresim-<tag of the data folder>-<container>, so that nothing but a name is needed to find and remove them.
type cgroups struct {
	mounts  []string // one a hierarchy; one in all with version 2
	memory  string   // the one with the memory controller
	unified bool     // version 2
	swap    bool     // swap is counted
	prefix  string
	limits  bool // whether runc could set limits; found by the probe
}

func findCgroups(dir string) (*cgroups, error) {
	sum := sha256.Sum256([]byte(dir))
	c := &cgroups{prefix: "azuresim-" + hex.EncodeToString(sum[:4]) + "-"}
	list, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the mounts of this machine: %w", err)
	}
	for _, m := range list {
		c.mounts = append(c.mounts, m.Mountpoint)
		if m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), "memory") {
			c.memory = m.Mountpoint
		}
		if m.FSType == "cgroup2" && m.Mountpoint == "/sys/fs/cgroup" {
			c.memory, c.unified = m.Mountpoint, true
		}
	}
	_, err = os.Stat(filepath.Join(c.memory, "memory.memsw.limit_in_bytes"))
	c.swap = c.unified || c.memory != "" && err == nil
	return c, nil
}

// path is the CgroupsPath of a container.
func (c *cgroups) path(container string) string { return "/" + c.prefix + container }

// oomKilled reports whether the kernel killed a process of the container for want of memory. The group must still be there.
func (c *cgroups) oomKilled(container string) bool {
	if c.memory == "" {
		return false
	}
	file := "memory.oom_control"
	if c.unified {
		file = "memory.events"
	}
	data, err := os.ReadFile(filepath.Join(c.memory, c.path(container), file))
	if err != nil {
		return false // no limits on this machine
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			n, _ := strconv.Atoi(v)
			return n > 0
		}
	}
	return false
}

// remove removes the container's groups and kills what is in them.
func (c *cgroups) remove(container string) error {
	var errs []error
	for _, mount := range c.mounts {
		errs = append(errs, removeGroup(filepath.Join(mount, c.path(container))))
	}
	return errors.Join(errs...)
}

// sweep kills what is left in groups of this data folder and removes them.
func (c *cgroups) sweep() error {
	var errs []error
	for _, mount := range c.mounts {
		groups, err := filepath.Glob(filepath.Join(mount, c.prefix+"*"))
		if err != nil {
			return err
		}
		for _, g := range groups {
			errs = append(errs, removeGroup(g))
		}
	}
	return errors.Join(errs...)
}

// removeGroup kills and removes a group and those below it (a container with a writable cgroup file system makes some).
func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for try := 0; ; try++ {
		data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for line := range strings.Lines(string(data)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
		// Busy until the kernel has buried the last process.
		if err = unix.Rmdir(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if try == 100 {
			return fmt.Errorf("cannot remove control group %s: %w", dir, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
