//go:build linux

package runtime

import (
	"math"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sockerless/sockerless/azuresim"
)

// capabilities are containerd's default set: Container Apps runs unprivileged containers and has no way to ask for more
// (microsoft/azure-container-apps#1232).
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// pidsLimit is generous for a program and small for a fork bomb.
const pidsLimit = 4096

// specVersion is what Debian 12's runc 1.1.5 knows. Nothing newer is used: no time namespace, no idmapped mounts.
const specVersion = "1.0.2"

// newSpec is the runc configuration around process.
func (rt *Runtime) newSpec(process *specs.Process, hostname, rootDir, netPath, cgroup string, mounts []specs.Mount, limits *specs.LinuxResources) *specs.Spec {
	return &specs.Spec{
		Version:  specVersion,
		Process:  process,
		Root:     &specs.Root{Path: rootDir},
		Hostname: hostname,
		Mounts:   append(rt.systemMounts(), mounts...),
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Resources:   limits,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.CgroupNamespace}, {Type: specs.NetworkNamespace, Path: netPath},
			},
			MaskedPaths: []string{
				"/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
				"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       seccomp(),
		},
	}
}

func (rt *Runtime) systemMounts() []specs.Mount {
	terminals := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if !rt.single {
		terminals = append(terminals, "gid=5")
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: terminals},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
}

// newLimits are the control group settings for res: what it leaves out is not limited. swap says whether this kernel counts
// swap; a container gets none.
func newLimits(res azuresim.Resources, swap bool) *specs.LinuxResources {
	out := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, // runc adds the usual ones
		Pids:    &specs.LinuxPids{Limit: ptr(int64(pidsLimit))},
	}
	if res.CPU > 0 {
		const period = 100_000 // microseconds
		out.CPU = &specs.LinuxCPU{
			Quota:  ptr(max(int64(math.Round(res.CPU*period)), 1000)),
			Period: ptr(uint64(period)),
			Shares: ptr(max(uint64(math.Round(res.CPU*1024)), 2)),
		}
	}
	if res.MemoryBytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: ptr(res.MemoryBytes)}
		if swap {
			out.Memory.Swap = ptr(res.MemoryBytes)
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }
