package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

// What the kernel shows, of version 2 and of version 1. The numbers are of a group that has burnt two seconds and has 64 MB.
var (
	v2Files = map[string]string{
		"cgroup.procs":   "1\n7\n",
		"cpu.stat":       "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 40\nnr_throttled 3\nthrottled_usec 70000\nnr_bursts 0\nburst_usec 0\n",
		"memory.current": "71303168\n", "memory.max": "134217728\n", "memory.events": "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
		"memory.stat":  "anon 67108864\nfile 4194304\nkernel 131072\ninactive_file 2097152\nactive_file 2097152\nslab 1\n",
		"pids.current": "9\n", "pids.max": "4096\n",
		"io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:1 \n8:16 rbytes=512 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
	}
	v1Files = map[string]string{
		"cpu/cgroup.procs": "1\n7\n", "cpu/cpu.stat": "nr_periods 40\nnr_throttled 3\nthrottled_time 70000000\n",
		"cpuacct/cgroup.procs": "1\n7\n", "cpuacct/cpuacct.usage": "2000000000\n", "cpuacct/cpuacct.stat": "user 150\nsystem 50\n",
		"memory/cgroup.procs": "1\n7\n", "memory/memory.usage_in_bytes": "71303168\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
		"memory/memory.max_usage_in_bytes": "80000000\n", "memory/memory.failcnt": "3\n",
		"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"memory/memory.stat":        "cache 4194304\nrss 67108864\ninactive_file 1\nhierarchical_memory_limit 134217728\ntotal_cache 4194304\ntotal_inactive_file 2097152\n",
		"pids/cgroup.procs":         "1\n7\n", "pids/pids.current": "9\n", "pids/pids.max": "max\n",
		"blkio/cgroup.procs":                              "1\n7\n",
		"blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\nTotal 12288\n",
		"blkio/blkio.throttle.io_serviced_recursive":      "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
	}
)

// fakeKernel writes files below a folder, and returns it.
func fakeKernel(t *testing.T, files map[string]string, below map[string]map[string]string) string {
	t.Helper()
	base := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		write(name, content)
	}
	for dir, list := range below {
		for name, content := range list {
			write(filepath.Join(dir, name), content)
		}
	}
	return base
}

func entry(major, minor uint64, op string, value uint64) protocol.BlockEntry {
	return protocol.BlockEntry{Major: major, Minor: minor, Op: op, Value: value}
}

// v1Mounts are the lines of mountinfo of version 1's hierarchies, each mounted from a root.
func v1Mounts(root string) string {
	var b strings.Builder
	b.WriteString("31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n")
	for _, name := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		b.WriteString("32 31 0:29 " + root + " /sys/fs/cgroup/" + name + " ro,nosuid master:1 - cgroup cgroup rw," + name + "\n")
	}
	return b.String()
}

func v1Members(path string) string {
	return "9:name=systemd:/\n8:pids:" + path + "\n7:blkio:" + path + "\n4:memory:" + path + "\n2:cpuacct:" + path + "\n1:cpu:" + path + "\n"
}

// moved is v1Files with the group at a path below each hierarchy.
func moved(path string) map[string]string {
	files := map[string]string{}
	for name, content := range v1Files {
		controller, file, _ := strings.Cut(name, "/")
		files[controller+path+"/"+file] = content
		files[controller+"/cgroup.procs"] = "1\n7\n4711\n"
	}
	return files
}

func TestCgroups(t *testing.T) {
	const fs = "sys/fs/cgroup"
	v2Mount := "35 31 0:41 %s /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"
	wantV2 := protocol.Stats{
		CPU: &protocol.CPUStats{
			Total: 2 * time.Second, User: 1500 * time.Millisecond, System: 500 * time.Millisecond,
			Periods: 40, Throttled: 3, ThrottledTime: 70 * time.Millisecond,
		},
		Memory: &protocol.MemoryStats{Usage: 71303168, Limit: 134217728, Failures: 3, Stats: pairs(v2Files["memory.stat"])},
		Pids:   &protocol.PidsStats{Current: 9, Limit: 4096},
		Block: &protocol.BlockStats{
			Bytes:      []protocol.BlockEntry{entry(8, 0, "read", 4096), entry(8, 0, "write", 8192), entry(8, 16, "read", 512), entry(8, 16, "write", 0)},
			Operations: []protocol.BlockEntry{entry(8, 0, "read", 1), entry(8, 0, "write", 2), entry(8, 16, "read", 1), entry(8, 16, "write", 0)},
		},
	}
	wantV1 := protocol.Stats{
		CPU: wantV2.CPU,
		Memory: &protocol.MemoryStats{
			Usage: 71303168, MaxUsage: 80000000, Limit: 134217728, Failures: 3, Stats: pairs(v1Files["memory/memory.stat"]),
		},
		Pids: &protocol.PidsStats{Current: 9},
		Block: &protocol.BlockStats{
			Bytes: []protocol.BlockEntry{
				entry(8, 0, "read", 4096), entry(8, 0, "write", 8192), entry(8, 0, "sync", 12288), entry(8, 0, "async", 0), entry(8, 0, "discard", 0), entry(8, 0, "total", 12288),
			},
			Operations: []protocol.BlockEntry{entry(8, 0, "read", 1), entry(8, 0, "write", 2)},
		},
	}
	mount := func(root string) string { return strings.Replace(v2Mount, "%s", root, 1) }
	for _, test := range []struct {
		name            string
		members, mounts string
		below           map[string]map[string]string
		want            protocol.Stats
		kills           int // -1: not counted
	}{
		{"version 2, a namespace of its own", "0::/\n", mount("/"), map[string]map[string]string{fs: v2Files}, wantV2, 2},
		{
			"version 2, the host's namespace", "0::/kubepods/pod1/abc\n", mount("/"),
			map[string]map[string]string{fs + "/kubepods/pod1/abc": v2Files, fs: {"cgroup.procs": "1\n", "cpu.stat": "usage_usec 9\n"}}, wantV2, 2,
		},
		{
			"version 2, the host's namespace, and a mount that begins at the group", "0::/kubepods/pod1/abc\n", mount("/kubepods/pod1/abc"),
			map[string]map[string]string{fs: v2Files}, wantV2, 2,
		},
		{"version 2, outside of the namespace's root", "0::/../abc\n", mount("/.."), map[string]map[string]string{fs: v2Files}, wantV2, 2},
		{"version 1, a namespace of its own", v1Members("/"), v1Mounts("/"), map[string]map[string]string{fs: v1Files}, wantV1, 2},
		{"version 1, the host's namespace", v1Members("/docker/abc"), v1Mounts("/"), map[string]map[string]string{fs: moved("/docker/abc")}, wantV1, 2},
		{
			"version 1, the host's namespace, and mounts that begin at the group", v1Members("/docker/abc"), v1Mounts("/docker/abc"),
			map[string]map[string]string{fs: v1Files}, wantV1, 2,
		},
		{
			"both: version 2 without controllers", v1Members("/") + "0::/\n",
			v1Mounts("/") + "41 31 0:38 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
			map[string]map[string]string{fs: v1Files, fs + "/unified": {"cgroup.procs": "1\n7\n", "cpu.stat": "usage_usec 5\n"}}, wantV1, 2,
		},
		{"none", "", "23 0 0:1 / / rw - ext4 /dev/root rw\n", nil, protocol.Stats{}, -1},
		{"mounted, and empty", "0::/\n", mount("/"), map[string]map[string]string{fs: {"cgroup.procs": "1\n"}}, protocol.Stats{}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := fakeKernel(t, map[string]string{"proc/self/cgroup": test.members, "proc/self/mountinfo": test.mounts}, test.below)
			c := findCgroups(base)
			got := protocol.Stats{CPU: c.cpu(), Memory: c.memory(), Pids: c.pids(), Block: c.block()}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if n, ok := c.oomKills(); ok != (test.kills >= 0) || ok && n != test.kills {
				t.Errorf("%d kills, %v", n, ok)
			}
			if test.want.CPU == nil {
				return
			}
			for _, controller := range []string{"cpuacct", "memory", "pids", "blkio"} {
				if c.shared(controller, func(pid int) bool { return pid == 1 || pid == 7 }) {
					t.Errorf("%s: the group is the container's own", controller)
				}
				if !c.shared(controller, func(pid int) bool { return pid == 1 }) {
					t.Errorf("%s: 7 is somebody else's", controller)
				}
			}
		})
	}
}

func TestSharedWithAnotherNamespace(t *testing.T) {
	base := fakeKernel(t, map[string]string{
		"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "35 31 0:41 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
	}, map[string]map[string]string{"sys/fs/cgroup": {"cgroup.procs": "1\n0\n"}})
	if !findCgroups(base).shared("memory", func(int) bool { return true }) {
		t.Error("a process of a foreign pid namespace was not seen")
	}
}

func TestMachineCPU(t *testing.T) {
	base := fakeKernel(t, map[string]string{
		"proc/stat": "cpu  100 1 200 1000 10 0 5 7 50 0\ncpu0 50 1 100 500 5 0 5 7 50 0\ncpu1 50 0 100 500 5 0 0 0 0 0\nintr 5 0\nbtime 1700000000\n",
	}, nil)
	total, online, ok := machineCPU(base)
	if total != 13160*time.Millisecond || online != 2 || !ok {
		t.Errorf("%v of %d, %v", total, online, ok)
	}
	if _, _, ok := machineCPU(t.TempDir()); ok {
		t.Error("without /proc/stat")
	}
}

func TestNetDev(t *testing.T) {
	got := parseNetDev(`Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9577599669 1122343    0    0    0     0          0         0 9577599669 1122343    0    0    0     0       0          0
  eth0: 225749743   11936    1    2    0     0          0         0   890324    8590    3    4    0     0       0          0
  bad0: x y
`)
	want := map[string]protocol.NetworkStats{"eth0": {RxBytes: 225749743, RxPackets: 11936, RxErrors: 1, RxDropped: 2, TxBytes: 890324, TxPackets: 8590, TxErrors: 3, TxDropped: 4}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzCgroupFiles: other kernels and sandboxes write these files.
func FuzzCgroupFiles(f *testing.F) {
	for _, files := range []map[string]string{v2Files, v1Files} {
		for _, content := range files {
			f.Add(content)
		}
	}
	f.Add(v1Mounts(`/a\040b`))
	f.Add(v1Members("/../x"))
	f.Fuzz(func(t *testing.T, text string) {
		parseBlkio(text)
		parseIOStat(text)
		parseNetDev(text)
		parseMembership(text)
		for line := range strings.Lines(text) {
			if m, ok := parseCgroupMount(line); ok && m.point == "" {
				t.Errorf("%q is mounted nowhere", line)
			}
		}
		for key := range pairs(text) {
			if strings.ContainsAny(key, " \n") {
				t.Errorf("a name %q", key)
			}
		}
		kilobytes([]byte(text), "Pss")
		count(text)
	})
}

// FuzzCgroupMounts: wherever the kernel says that the group is, nothing is read above the mount.
func FuzzCgroupMounts(f *testing.F) {
	f.Add("/", "/")
	f.Add("/docker/abc", "/docker/abc")
	f.Add("/..", "/../../etc")
	f.Add("/a", "/a/../../..")
	base := f.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "mnt"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, root, group string) {
		dir := cgroups{base: base}.folder(cgroupMount{root: root, point: "/mnt"}, group)
		if rel, err := filepath.Rel(filepath.Join(base, "mnt"), dir); err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			t.Errorf("root %q, group %q: %s", root, group, dir)
		}
	})
}
