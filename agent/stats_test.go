package agent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
)

// sources are where the agent may have its figures from.
var sources = []struct {
	name   string
	wrap   func(t *testing.T) []string // a program that starts another one there; it may skip the test
	memory bool                        // whether a control group tells it
}{
	{"processes", func(*testing.T) []string { return nil }, false},
	{"control groups", func(t *testing.T) []string { return inGroups(ownGroups(t, "")) }, true},
	{"control groups, in a namespace of their own", func(t *testing.T) []string {
		return slices.Concat(inGroups(ownGroups(t, "")), ownNamespace, remount)
	}, true},
	// As `docker run -v /sys/fs/cgroup:/sys/fs/cgroup:ro` does: what is mounted begins above the namespace's root, and which of
	// the groups there is the own one is not told.
	{"control groups, in a namespace that hides them", func(t *testing.T) []string {
		return slices.Concat(inGroups(ownGroups(t, "")), ownNamespace)
	}, false},
	// As below a service that was not given all controllers.
	{"a group of version 2 without controllers", func(t *testing.T) []string {
		if !exists("/sys/fs/cgroup/cgroup.controllers") {
			t.Skip("version 1 has a controller in each of its groups")
		}
		return inGroups(ownGroups(t, filepath.Base(ownGroups(t, "")[0])))
	}, false},
}

// ownGroups makes control groups, one in each hierarchy that counts, in the root or below another. It skips the test where
// that cannot be.
func ownGroups(t *testing.T, below string) (dirs []string) {
	t.Helper()
	needsRoot(t)
	name := filepath.Join(below, fmt.Sprintf("sockerless-stats-%d-%d", os.Getpid(), groupNumber.Add(1)))
	for _, controller := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		if mount := filepath.Join("/sys/fs/cgroup", controller); exists(mount + "/cgroup.procs") {
			dirs = append(dirs, filepath.Join(mount, name))
		}
	}
	if text, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control"); err == nil && strings.Contains(string(text), "memory") {
		dirs = []string{filepath.Join("/sys/fs/cgroup", name)}
	}
	if len(dirs) == 0 {
		t.Skip("needs control groups")
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("needs to make control groups: %v", err)
		}
		t.Cleanup(func() { // after the box's
			eventually(t, "the group can be removed", func() bool { return os.Remove(dir) == nil || !exists(dir) })
		})
	}
	return dirs
}

var groupNumber atomic.Int64

// inGroups is a program that starts another in groups: memory that a process has before it is moved stays where it was.
func inGroups(dirs []string) []string {
	return []string{"/bin/sh", "-c", "for d in " + strings.Join(dirs, " ") + `; do echo $$ > $d/cgroup.procs || exit 1; done; exec "$0" "$@"`}
}

var (
	ownNamespace = []string{"unshare", "--cgroup", "--mount"}
	// remount mounts the groups anew: then the namespace's root is what is seen.
	remount = []string{"/bin/sh", "-ec", `
		umount -R /sys/fs/cgroup
		v1=$(sed -n 's/^[0-9]*:\([a-z_,][a-z_,]*\):.*/\1/p' /proc/self/cgroup)
		[ -n "$v1" ] && mount -t tmpfs tmpfs /sys/fs/cgroup || mount -t cgroup2 -o ro cgroup2 /sys/fs/cgroup
		for controllers in $v1; do
			mkdir /sys/fs/cgroup/$controllers
			mount -t cgroup -o ro,$controllers cgroup /sys/fs/cgroup/$controllers
		done
		exec "$0" "$@"`}
)

func (b *box) stats() protocol.Stats {
	b.t.Helper()
	s, err := b.Stats(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	if s.CPU == nil || s.Memory == nil || s.Pids == nil || s.SystemCPU <= 0 || s.OnlineCPUs <= 0 || s.Time.IsZero() {
		b.t.Fatalf("%+v", s)
	}
	return s
}

// within says whether got is want, to a share.
func within(got, want, share float64) bool { return got >= want*(1-share) && got <= want*(1+share) }

// TestStatsAreRight compares with what processes know of themselves.
func TestStatsAreRight(t *testing.T) {
	for _, source := range sources {
		t.Run(source.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, boxOptions{wrap: source.wrap(t)})
			if _, err := b.Stats(b.ctx()); !protocol.HasCode(err, protocol.CodeNotRunning) {
				t.Errorf("before the start: %v", err)
			}
			b.start(protocol.StartRequest{Process: sh("sleep 1001 & exec sleep 1002")})
			eventually(t, "two threads are counted", func() bool { return b.stats().Pids.Current == 2 })
			before := b.stats()
			if source.memory != (before.Memory.Stats != nil) {
				t.Errorf("memory is not from %s: %+v", source.name, before.Memory)
			}
			if _, ok := before.Networks["lo"]; ok {
				t.Error("loopback is counted")
			}

			// Processor time, of a process that ends and of its child, against their own count. Twice, at once.
			burn := `burn() { while read -r s </proc/self/stat && set -- $s && [ $((${14} + ${15})) -lt 50 ]; do i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; done; }
				burn; (burn); times`
			type result struct {
				out string
				err error
			}
			results := make(chan result, 2)
			for range cap(results) {
				go func() { // ends with the exec
					out, errs, code, err := b.tryExec(sh(burn), "")
					if err == nil && code != 0 {
						err = errors.New(errs)
					}
					results <- result{out, err}
				}()
			}
			var burnt time.Duration
			for range cap(results) {
				r := <-results
				if r.err != nil {
					t.Fatal(r.err)
				}
				for _, field := range strings.Fields(r.out) { // 0m1.230000s, of the shell and of its children, user and system
					d, err := time.ParseDuration(field)
					if err != nil {
						t.Fatalf("times says %q", r.out)
					}
					burnt += d
				}
			}
			after := b.stats()
			got := after.CPU.Total - before.CPU.Total
			t.Logf("burnt %v, measured %v", burnt, got)
			if burnt < 500*time.Millisecond || !within(got.Seconds(), burnt.Seconds(), 0.05) {
				t.Errorf("processor time: %v, and the processes say %v", got, burnt)
			}
			if after.SystemCPU <= before.SystemCPU || after.Time.Before(before.Time) {
				t.Errorf("the machine's: %v, then %v", before.SystemCPU, after.SystemCPU)
			}

			// Memory: a buffer of which all but the last byte comes. What tail keeps is more, by how its reads are cut.
			const size = 192 << 20
			if _, err := b.ExecDetached(b.ctx(), protocol.ExecRequest{ID: "memory", Process: sh(fmt.Sprintf("(head -c %d /dev/zero; exec sleep 1003) | dd of=/dev/null bs=%d iflag=fullblock", size-1, size))}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "sleep is reached", func() bool { _, ok := b.states()["sleep 1003"]; return ok })
			var grown float64
			eventually(t, "dd has read all", func() bool {
				grown = float64(b.stats().Memory.Usage) - float64(before.Memory.Usage)
				return grown >= size*0.98
			})
			t.Logf("taken %d, measured %.0f", size, grown)
			if !within(grown, size, 0.05) {
				t.Errorf("memory: %.0f more, want %d", grown, size)
			}
			if limit := b.stats().Memory.Limit; limit < size {
				t.Errorf("limit %d", limit)
			}
		})
	}
}

// TestStatsNeverFall: figures that are made of several readings only grow while processes come and go.
func TestStatsNeverFall(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("while :; do (i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done) & (:) ; wait; done")})
	var last time.Duration
	for range 200 {
		s := b.stats()
		if s.CPU.Total < last {
			t.Fatalf("%v, then %v", last, s.CPU.Total)
		}
		last = s.CPU.Total
	}
	if last == 0 {
		t.Error("nothing is counted")
	}
}
