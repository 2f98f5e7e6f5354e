//go:build linux

package runtime

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

func TestExitCodes(t *testing.T) {
	rt := need(t)
	for name, c := range map[string]struct {
		script string
		want   int
	}{
		"success":           {"true", 0},
		"any code":          {"exit 213", 213},
		"a child's signal":  {"sh -c 'kill -9 $$$$'", 137},
		"a missing child":   {"nosuchprogram", 127},
		"a signal to pid 1": {"kill -TERM 1; sleep 0.1; exit 3", 3}, // the kernel shields it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := one(t, launch(t, rt, sh(c.script)).wait(t)); got.ExitCode != c.want {
				t.Errorf("exit code %d, want %d", got.ExitCode, c.want)
			}
		})
	}
}

func TestCommandAndArgs(t *testing.T) {
	rt := need(t)
	image := variant(t, "entry:1", func(c *v1.Config) {
		c.Entrypoint, c.Cmd = []string{"echo", "entry"}, []string{"cmd"}
		c.Env = append(c.Env, "FROM=image", "BOTH=image")
	})
	for name, c := range map[string]struct {
		command, args []string
		want          string
	}{
		"the image's own":                     {nil, nil, "entry cmd"},
		"args replace CMD":                    {nil, []string{"args"}, "entry args"},
		"command replaces both":               {[]string{"echo", "command"}, nil, "command"},
		"both":                                {[]string{"echo", "command"}, []string{"args"}, "command args"},
		"own variables expand":                {nil, []string{"$(OWN) $(DERIVED)"}, "entry own own+"},
		"others do not":                       {nil, []string{"$(FROM) $(NONE) $$(OWN) $OWN $"}, "entry $(FROM) $(NONE) $(OWN) $OWN $"},
		"an empty string is a literal":        {nil, []string{""}, "entry "},
		"the environment wins over the image": {[]string{"printenv"}, []string{"FROM", "BOTH", "HOSTNAME"}, "image\nspec\nhost-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := launch(t, rt, azuresim.ReplicaSpec{Hostname: "host-1", Containers: []azuresim.ContainerSpec{{
				Image: image, Command: c.command, Args: c.args, Env: []string{"OWN=own", "DERIVED=$(OWN)+", "BOTH=spec"},
			}}})
			one(t, o.wait(t))
			if got := o.text("main/stdout"); got != c.want {
				t.Errorf("printed %q, want %q", got, c.want)
			}
		})
	}
}

func TestImageUser(t *testing.T) {
	rt := need(t)
	for user, want := range map[string]string{
		"":               "uid=0(root) gid=0(root) groups=0(root)",
		"app":            "uid=1000(app) gid=1000(app) groups=1000(app),100(users)",
		"1000":           "uid=1000(app) gid=1000(app) groups=1000(app),100(users)",
		"4242":           "uid=4242 gid=0(root) groups=0(root)",
		"4242:4343":      "uid=4242 gid=4343 groups=4343",
		"nobody:nogroup": "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)",
	} {
		t.Run("USER "+user, func(t *testing.T) {
			t.Parallel()
			image := variant(t, "user:"+strings.NewReplacer(":", "-").Replace("u"+user), func(c *v1.Config) { c.User = user })
			// Its own stdout must be openable again, as log files linked to /dev/stdout are.
			o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: image, Command: []string{"sh", "-c", "id > /dev/stdout"}}}})
			one(t, o.wait(t))
			if got := o.text("main/stdout"); got != want {
				t.Errorf("id prints %q, want %q; stderr %q", got, want, o.text("main/stderr"))
			}
		})
	}
}

func TestAUserThatIsNotInTheImageIsACreateFailure(t *testing.T) {
	rt := need(t)
	image := variant(t, "user:nosuch", func(c *v1.Config) { c.User = "nosuch" })
	o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: image, Command: []string{"true"}}}})
	until(t, "two failures", func() bool { return strings.Count(o.eventText(), "ContainerCreateFailure") >= 2 })
	o.Stop(0)
	if err := o.wait(t).Err; err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("error %v does not name the user", err)
	}
}

func TestWorkingFolderIsMade(t *testing.T) {
	rt := need(t)
	image := variant(t, "workdir:1", func(c *v1.Config) { c.WorkingDir = "/made/here" })
	o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: image, Command: []string{"pwd"}}}})
	one(t, o.wait(t))
	if got := o.text("main/stdout"); got != "/made/here" {
		t.Errorf("pwd prints %q", got)
	}
}

func TestTheContainersWorld(t *testing.T) {
	rt := need(t)
	for name, c := range map[string]struct{ script, want string }{
		"hostname":             {"hostname; cat /etc/hostname", "replica-x\nreplica-x"},
		"pid 1":                {"echo $$$$", "1"},
		"only its processes":   {"ps -o pid,comm | wc -l", "4"}, // title, sh, ps, wc
		"localhost resolves":   {"grep -c localhost /etc/hosts", "2"},
		"own name resolves":    {"hostname -i | cut -d. -f1,2", "100.100"},
		"name server":          {"cat /etc/resolv.conf", "nameserver 100.100.0.1"},
		"interfaces":           {"ls /sys/class/net", "eth0\nlo"},
		"tmp is for all":       {"ls -ld /tmp | cut -c1-10", "drwxrwxrwt"},
		"shm":                  {"grep -c ' /dev/shm tmpfs' /proc/mounts", "1"},
		"devices":              {"echo x > /dev/null && head -c 4 /dev/urandom | wc -c", "4"},
		"no host devices":      {"ls /dev/kvm /dev/vda /dev/net/tun 2>&1 | grep -c 'No such'", "3"},
		"proc/sys is readonly": {"echo 7 > /proc/sys/net/ipv4/ip_default_ttl; cat /proc/sys/net/ipv4/ip_default_ttl", "64"},
		"masked files":         {"wc -c < /proc/keys; ls /sys/firmware | wc -l", "0\n0"},
		"root is writable":     {"echo x > /file && cat /file", "x"},
		"capabilities":         {"grep CapBnd /proc/self/status | cut -f2", "00000000a80425fb"},
		"a filter is loaded":   {"grep ^Seccomp: /proc/self/status | cut -f2", "2"},
		"own cgroup namespace": {"cut -d: -f3 /proc/self/cgroup | sort -u", "/"},
		"stdin is empty":       {"cat | wc -c", "0"},
		"os-release":           {"grep ^NAME /etc/os-release", `NAME="Minibox"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := sh(c.script)
			spec.Hostname = "replica-x"
			o := launch(t, rt, spec)
			o.wait(t)
			if got := o.text("main/stdout"); got != c.want {
				t.Errorf("printed %q, want %q; stderr %q", got, c.want, o.text("main/stderr"))
			}
		})
	}
}

func TestInitContainersRunInOrderAndShareVolumes(t *testing.T) {
	rt := need(t)
	share := t.TempDir()
	if err := os.WriteFile(filepath.Join(share, "given"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := azuresim.Mount{Volume: "data", Path: "/data"}
	user := variant(t, "user:app", func(c *v1.Config) { c.User = "app" })
	o := launch(t, rt, azuresim.ReplicaSpec{
		EmptyDirs: []string{"data"},
		Shares:    map[string]string{"files": share},
		Init: []azuresim.ContainerSpec{
			{Name: "first", Command: []string{"sh", "-c", "ls -ld /data | cut -c1-10 > /data/log; sleep 0.2; echo first >> /data/log; chmod 666 /data/log"}, Mounts: []azuresim.Mount{data}},
			{Name: "second", Image: user, Command: []string{"sh", "-c", "echo second >> /data/log"}, Mounts: []azuresim.Mount{data}},
		},
		Containers: []azuresim.ContainerSpec{{
			Command: []string{"sh", "-c", "cat /data/log /files/given; echo back > /files/written; echo no > /readonly/x; echo readonly $?"},
			Mounts:  []azuresim.Mount{data, {Volume: "files", Path: "/files"}, {Volume: "files", Path: "/readonly", ReadOnly: true}},
		}},
	})
	result := o.wait(t)
	if result.Err != nil || len(result.Containers) != 3 || result.Containers[0].Name != "first" || result.Containers[2].Name != "main" {
		t.Fatalf("result %+v", result)
	}
	if got, want := o.text("main/stdout"), "drwxrwxrwx\nfirst\nsecond\nfrom the host\nreadonly 1"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if got, _ := os.ReadFile(filepath.Join(share, "written")); string(got) != "back\n" {
		t.Errorf("the share has %q", got)
	}
}

func TestAFailedInitContainerEndsTheReplica(t *testing.T) {
	rt := need(t)
	spec := sh("echo never")
	spec.Init = []azuresim.ContainerSpec{{Name: "bad", Command: []string{"sh", "-c", "exit 4"}}}
	o := launch(t, rt, spec)
	if c := one(t, o.wait(t)); c.Name != "bad" || c.ExitCode != 4 {
		t.Errorf("result %+v", c)
	}
	if got := o.text("main/stdout"); got != "" {
		t.Errorf("the main container ran: %q", got)
	}
}

func TestContainersOfAReplicaShareItsNetworkAndNotItsProcesses(t *testing.T) {
	rt := need(t)
	o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{
		{Name: "server", Command: []string{"sh", "-c", "echo hello | nc -l 7000"}},
		{Name: "client", Command: []string{"sh", "-c", "until nc 127.0.0.1 7000 < /dev/null; do sleep 0.05; done; ps -o comm | grep -cx nc"}},
	}})
	result := o.wait(t)
	if result.Err != nil || len(result.Containers) != 2 {
		t.Fatalf("result %+v", result)
	}
	if got := o.text("client/stdout"); got != "hello\n0" {
		t.Errorf("the client printed %q; stderr %q", got, o.text("client/stderr"))
	}
}

func TestOutputIsExact(t *testing.T) {
	rt := need(t)
	long := strings.Repeat("0123456789abcdef", 3000) // 48,000 bytes
	o := launch(t, rt, sh("printf 'a\\n\\nb\\r\\n'; for i in $(seq 3000); do printf 0123456789abcdef; done; echo; yes x | head -n 20000; printf end"))
	one(t, o.wait(t))
	lines := o.out["main/stdout"]
	if len(lines) != 3+3+20000+1 {
		t.Fatalf("%d lines", len(lines))
	}
	if lines[0] != "a" || lines[1] != "" || lines[2] != "b\r" || strings.Join(lines[3:6], "") != long || len(lines[3]) != maxLine {
		t.Errorf("lines %q, pieces of %d %d %d bytes", lines[:3], len(lines[3]), len(lines[4]), len(lines[5]))
	}
	if slices.ContainsFunc(lines[6:20006], func(s string) bool { return s != "x" }) || lines[20006] != "end" {
		t.Error("the short lines are not what was written")
	}
}

func TestABackgroundProcessDoesNotHoldTheEnd(t *testing.T) {
	rt := need(t)
	o := launch(t, rt, sh("sleep 1000 & echo done"))
	one(t, o.wait(t))
	if got := o.text("main/stdout"); got != "done" {
		t.Errorf("stdout %q", got)
	}
}

// TestOutputThatNobodyTakesDoesNotHoldTheEnd: a stuck receiver costs lines, not the replica.
func TestOutputThatNobodyTakesDoesNotHoldTheEnd(t *testing.T) {
	rt := need(t)
	stuck, begun := make(chan struct{}), make(chan struct{})
	defer close(stuck)
	begin := sync.OnceFunc(func() { close(begun) })
	ended := make(chan azuresim.ReplicaResult, 1)
	r, err := rt.Start(t.Context(), azuresim.ReplicaSpec{
		Name:       fmt.Sprintf("stuck-%d", names.next()),
		Containers: []azuresim.ContainerSpec{{Name: "main", Image: box(), Command: []string{"sh", "-c", "yes | head -c 1000000"}}},
		Output:     func(string, string, []byte) { begin(); <-stuck },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { <-r.Done(); ended <- r.Result() }() // ends with the replica
	select {
	case <-begun:
	case <-time.After(2 * time.Minute):
		t.Error("no output")
	}
	time.Sleep(300 * time.Millisecond) // the pipe fills
	r.Stop(0)
	select {
	case result := <-ended:
		if c := one(t, result); c.ExitCode == 0 {
			t.Errorf("result %+v of a container that could not write", c)
		}
	case <-time.After(killLinger + outputLinger + 2*time.Minute):
		t.Fatal("not done")
	}
}

func TestStop(t *testing.T) {
	rt := need(t)
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
		want   int
		least  time.Duration
	}{
		"a pid 1 that ignores SIGTERM is killed after the grace": {"echo up; sleep 1000", 400 * time.Millisecond, 137, 400 * time.Millisecond},
		"no grace": {"echo up; sleep 1000", 0, 137, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := launch(t, rt, sh(c.script))
			until(t, "the script", func() bool { return o.text("main/stdout") == "up" })
			start := time.Now()
			o.Stop(c.grace)
			if got := one(t, o.wait(t)); got.ExitCode != c.want {
				t.Errorf("exit code %d, want %d", got.ExitCode, c.want)
			}
			if took := time.Since(start); took < c.least {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestStopDuringTheStart(t *testing.T) {
	rt := need(t)
	for i := range 12 {
		t.Run(fmt.Sprint(i*5, " ms in"), func(t *testing.T) {
			o := launch(t, rt, sh("sleep 1000"))
			time.Sleep(time.Duration(i*5) * time.Millisecond)
			o.Stop(0)
			o.wait(t)
		})
	}
}

func TestAnEarlierEndOfTheGraceCounts(t *testing.T) {
	rt := need(t)
	o := launch(t, rt, sh("echo up; sleep 1000"))
	until(t, "the script", func() bool { return o.text("main/stdout") == "up" })
	o.Stop(time.Hour)
	o.Stop(2 * time.Hour)
	o.Stop(100 * time.Millisecond)
	if got := one(t, o.wait(t)); got.ExitCode != 137 {
		t.Errorf("exit code %d", got.ExitCode)
	}
}

func TestABadImageOrCommandStaysUntilStop(t *testing.T) {
	rt := need(t)
	for name, c := range map[string]struct {
		spec         azuresim.ContainerSpec
		reason, says string
	}{
		"missing image":   {azuresim.ContainerSpec{Image: host + "/nosuch:latest"}, "ImagePullFailure", "nosuch"},
		"dead registry":   {azuresim.ContainerSpec{Image: "127.0.0.1:1/x:latest"}, "ImagePullFailure", "refused"},
		"bad reference":   {azuresim.ContainerSpec{Image: "UPPER CASE"}, "ImagePullFailure", "UPPER"},
		"missing command": {azuresim.ContainerSpec{Command: []string{"/nosuch"}}, "ContainerCreateFailure", "/nosuch"},
		"not a program":   {azuresim.ContainerSpec{Command: []string{"/etc/passwd"}}, "ContainerCreateFailure", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{c.spec}})
			until(t, "a second failure", func() bool { return strings.Count(o.eventText(), c.reason) >= 2 })
			select {
			case <-o.Done():
				t.Fatal("the replica ended by itself")
			default:
			}
			if !strings.Contains(o.eventText(), c.says) {
				t.Errorf("events do not say %q:\n%s", c.says, o.eventText())
			}
			o.Stop(0)
			if err := o.wait(t).Err; err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not say %q", err, c.says)
			}
			if out := o.text("main/stdout") + o.text("main/stderr"); out != "" {
				t.Errorf("output %q of a container that never ran", out)
			}
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	rt := need(t)
	if !rt.cgroups.limits {
		t.Skip("control groups cannot be used here")
	}
	t.Parallel()
	spec := sh("dd if=/dev/zero of=/dev/null bs=200M count=1")
	spec.Containers[0].Resources.MemoryBytes = 64 << 20
	o := launch(t, rt, spec)
	if c := one(t, o.wait(t)); !c.OOMKilled || c.ExitCode == 0 {
		t.Errorf("result %+v, want an OOM kill", c)
	}
	if !strings.Contains(o.eventText(), "OOMKilled") {
		t.Errorf("events do not tell:\n%s", o.eventText())
	}
}

func TestCPULimit(t *testing.T) {
	rt := need(t)
	if !rt.cgroups.limits {
		t.Skip("control groups cannot be used here")
	}
	t.Parallel()
	// A busy loop wants more than 0.25 cores as soon as the machine has so much for it.
	spec := sh("throttled() { cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat 2>/dev/null | grep '^nr_throttled [1-9]'; }; until throttled; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; done")
	spec.Containers[0].Resources.CPU = 0.25
	o := launch(t, rt, spec)
	one(t, o.wait(t))
	if got := o.text("main/stdout"); !strings.HasPrefix(got, "nr_throttled ") {
		t.Errorf("the busy loop was not throttled: %q", got)
	}
}

// TestSystemCallFilter runs programs of one system call each that exit with its errno.
func TestSystemCallFilter(t *testing.T) {
	rt := need(t)
	if goruntime.GOARCH != "amd64" {
		t.Skip("the programs are amd64's")
	}
	share := t.TempDir()
	for name, c := range map[string]struct {
		number, a, b uint32
		want         int
	}{
		"getuid":                          {unix.SYS_GETUID, 0, 0, 0},
		"unshare a user namespace":        {unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, int(unix.EPERM)},
		"clone a user namespace":          {unix.SYS_CLONE, unix.CLONE_NEWUSER | uint32(unix.SIGCHLD), 0, int(unix.EPERM)},
		"clone3":                          {unix.SYS_CLONE3, 0, 0, int(unix.ENOSYS)},
		"keyctl":                          {unix.SYS_KEYCTL, 0, 0, int(unix.EPERM)},
		"io_uring_setup":                  {unix.SYS_IO_URING_SETUP, 1, 0, int(unix.EPERM)},
		"userfaultfd":                     {unix.SYS_USERFAULTFD, 1, 0, int(unix.EPERM)},
		"personality of Linux":            {unix.SYS_PERSONALITY, 0, 0, 0},
		"personality asked":               {unix.SYS_PERSONALITY, 0xffffffff, 0, 0},
		"personality without protections": {unix.SYS_PERSONALITY, 0x0040000, 0, int(unix.EPERM)},
		"a vsock":                         {unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, int(unix.EPERM)},
		"a unix socket":                   {unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 256 - 3}, // descriptor 3, negated
	} {
		code := []byte{0xb8}
		code = binary.LittleEndian.AppendUint32(code, c.number) // mov $number,%eax
		code = append(code, 0xbf)
		code = binary.LittleEndian.AppendUint32(code, c.a) // mov $a,%edi
		code = append(code, 0xbe)
		code = binary.LittleEndian.AppendUint32(code, c.b) // mov $b,%esi
		// xor %edx,%edx; syscall; neg %eax; mov %eax,%edi; mov $60,%eax; syscall
		code = append(code, 0x31, 0xd2, 0x0f, 0x05, 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05)
		program, err := staticProgram(elf.EM_X86_64, code)
		if err != nil {
			t.Fatal(err)
		}
		file := strings.ReplaceAll(name, " ", "-")
		if err := os.WriteFile(filepath.Join(share, file), program, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			o := launch(t, rt, azuresim.ReplicaSpec{Shares: map[string]string{"files": share}, Containers: []azuresim.ContainerSpec{{
				Command: []string{"/files/" + file}, Mounts: []azuresim.Mount{{Volume: "files", Path: "/files"}},
			}}})
			if got := one(t, o.wait(t)).ExitCode; got != c.want {
				t.Errorf("errno %d, want %d", got, c.want)
			}
		})
	}
}
