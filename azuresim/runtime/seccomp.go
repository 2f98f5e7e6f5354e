//go:build linux

package runtime

import (
	goruntime "runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// blocked are the system calls that a container without extra capabilities cannot make on a containerd or Docker host; see
// "Significant syscalls blocked by the default profile" in Docker's documentation. They answer EPERM. The rest is allowed:
// written this way round the filter is a tenth as long, and as quick to load. A call that the kernel does not know fails by
// itself.
var blocked = strings.Fields(`
	acct add_key bpf clock_settime clock_settime64 delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick
	get_kernel_syms get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load
	keyctl lookup_dcookie mbind migrate_pages mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree
	perf_event_open pidfd_getfd pivot_root process_madvise query_module quotactl quotactl_fd reboot request_key set_mempolicy
	set_mempolicy_home_node setdomainname sethostname setns settimeofday stime swapoff swapon _sysctl sysfs syslog umount umount2
	unshare uselib userfaultfd ustat vhangup vm86 vm86old`)

func seccomp() *specs.LinuxSeccomp {
	// personality may only ask for Linux (0), uname26, or what is set; anything else switches protections off.
	other := func(mask, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 0, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}
	}
	const newNamespace = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	deny := func(names []string, errno uint, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &errno, Args: args}
	}
	out := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: map[string][]specs.Arch{
			"amd64": {specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
			"arm64": {specs.ArchAARCH64, specs.ArchARM},
		}[goruntime.GOARCH],
		Syscalls: []specs.LinuxSyscall{
			deny(blocked, uint(unix.EPERM)),
			// Its flags are behind a pointer that a filter cannot follow; ENOSYS makes C libraries fall back to clone.
			deny([]string{"clone3"}, uint(unix.ENOSYS)),
			deny([]string{"socket"}, uint(unix.EPERM), specs.LinuxSeccompArg{Index: 0, Value: unix.AF_VSOCK, Op: specs.OpEqualTo}),
		},
	}
	// A rule matches exact bits only, so "any of these flags" is one rule a flag.
	for bit := uint64(1); bit != 0; bit <<= 1 {
		if newNamespace&bit != 0 {
			out.Syscalls = append(out.Syscalls, deny([]string{"clone"}, uint(unix.EPERM), other(bit, bit)))
		}
	}
	const addrNoRandomize, mmapPageZero, readImpliesExec = 0x0040000, 0x0100000, 0x0400000
	for _, bit := range []uint64{addrNoRandomize, mmapPageZero, readImpliesExec} {
		arg := other(bit|1<<31, bit) // not for 0xffffffff, which only asks
		out.Syscalls = append(out.Syscalls, deny([]string{"personality"}, uint(unix.EPERM), arg))
	}
	return out
}
