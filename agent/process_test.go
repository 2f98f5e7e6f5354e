package agent_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
}

func TestWhatAProcessStartsWith(t *testing.T) {
	needsRoot(t)
	b := sleeper(t)
	for _, test := range []struct {
		name    string
		script  string
		process protocol.Process
		want    string
	}{
		{"environment, and HOME from passwd", "env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD= | sort", protocol.Process{Env: []string{"A=1", path}}, "A=1\nHOME=/root\n" + path + "\n"},
		{"HOME as given", "echo $HOME", protocol.Process{Env: []string{"HOME=/x", path}}, "/x\n"},
		{"HOME of another user", "echo $HOME", protocol.Process{Env: []string{path}, User: "nobody"}, "/nonexistent\n"},
		{"HOME of a number", "echo $HOME", protocol.Process{Env: []string{path}, User: "12345"}, "/\n"},
		{"no standard input", "cat", protocol.Process{}, ""},
		{"umask", "umask", protocol.Process{}, "0022\n"},
		{"directory", "pwd", protocol.Process{Dir: "/usr"}, "/usr\n"},
		{"root by default", "id -u; id -g", protocol.Process{}, "0\n0\n"},
		{"a name", "id -u; id -g; id -G", protocol.Process{User: "nobody"}, "65534\n65534\n65534\n"},
		{"numbers", "id -u; id -g", protocol.Process{User: "1234:5678"}, "1234\n5678\n"},
		{"a number that nobody has", "id -u; id -G", protocol.Process{User: "1234"}, "1234\n0\n"},
		{"a name and a group", "id -u; id -g", protocol.Process{User: "nobody:daemon"}, "65534\n1\n"},
		{"more groups", "id -G", protocol.Process{User: "nobody", Groups: []string{"daemon", "4321"}}, "65534 1 4321\n"},
		{"its own stdout can be opened", "echo x > /dev/stdout; echo y > /dev/stderr", protocol.Process{User: "nobody"}, "x\n"},
		{"a session of its own", "test $(ps -o sid= -p $$) = $$ && echo yes", protocol.Process{}, "yes\n"},
		{"signals at their defaults", "grep -E 'Sig(Blk|Ign)' /proc/self/status", protocol.Process{},
			"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
		{"no descriptors but its three", "exec ls /proc/self/fd", protocol.Process{}, "0\n1\n2\n3\n"}, // 3 is ls's own
		{"ulimits", "ulimit -Sn; ulimit -Hn; ulimit -c", protocol.Process{Ulimits: []protocol.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "core", Soft: 0, Hard: 0}}}, "100\n200\n0\n"},
		{"ulimits beside settings of Go's runtime", `echo "$GODEBUG $GOMAXPROCS"; ulimit -Sn`,
			protocol.Process{Env: []string{"PATH=/usr/bin:/bin", "GODEBUG=inittrace=1", "GOMAXPROCS=7"}, Ulimits: []protocol.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}}},
			"inittrace=1 7\n100\n"},
		{"ulimits of another user", "id -u; ulimit -n", protocol.Process{User: "nobody", Ulimits: []protocol.Ulimit{{Name: "nofile", Soft: 100, Hard: 100}}}, "65534\n100\n"},
		{"a relative command", "", protocol.Process{Args: []string{"./env", "A=1", "./printenv", "A"}, Dir: "/usr/bin"}, "1\n"},
		{"a relative PATH", "", protocol.Process{Args: []string{"echo", "x"}, Dir: "/usr", Env: []string{"PATH=bin"}}, "x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.t = t
			p := test.process
			if p.Args == nil {
				p.Args = []string{"/bin/sh", "-c", test.script}
			}
			if p.Env == nil {
				p.Env = []string{path}
			}
			out, errs, code := b.exec(p, "")
			if diff := cmp.Diff(test.want, withoutOwnSignals(out)); diff != "" || code != 0 {
				t.Errorf("code %d, stderr %q, %s", code, errs, diff)
			}
		})
	}
	b.t = t
	hard := func() (n int64) {
		var r syscall.Rlimit
		syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
		return int64(r.Max)
	}()
	p := sh("true")
	p.Ulimits = []protocol.Ulimit{{Name: "nofile", Soft: 10, Hard: hard + 1}}
	_, _, _, err := b.tryExec(p, "")
	wantCode(t, err, protocol.CodePermission)
	if want := fmt.Sprintf("cannot set ulimit nofile=10:%d: the container's own hard limit is %d", hard+1, hard); err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	p = protocol.Process{Args: []string{"/etc/passwd"}, Ulimits: []protocol.Ulimit{{Name: "core"}}}
	_, _, _, err = b.tryExec(p, "")
	wantCode(t, err, protocol.CodeNotExecutable)
}

func TestScriptsThatCannotRun(t *testing.T) {
	b := sleeper(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	os.WriteFile(dir+"/nointerpreter", []byte("#!/nosuch\n"), 0o755)
	os.WriteFile(dir+"/noformat", []byte("hello\n"), 0o755)
	for _, limits := range [][]protocol.Ulimit{nil, {{Name: "core"}}} { // both ways of starting
		_, _, _, err := b.tryExec(protocol.Process{Args: []string{dir + "/nointerpreter"}, Ulimits: limits}, "")
		wantCode(t, err, protocol.CodeNoCommand)
		if want := "exec " + dir + "/nointerpreter: no such file or directory"; err.Error() != want {
			t.Errorf("%q", err)
		}
		_, _, _, err = b.tryExec(protocol.Process{Args: []string{dir + "/noformat"}, Ulimits: limits}, "")
		wantCode(t, err, protocol.CodeNotExecutable)
		if want := "exec " + dir + "/noformat: exec format error"; err.Error() != want {
			t.Errorf("%q", err)
		}
	}
}

func TestOrdinaryUserStaysOne(t *testing.T) {
	needsRoot(t)
	b := newBox(t, boxOptions{credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	b.start(protocol.StartRequest{Process: sh("exec sleep 1000")})
	for _, user := range []string{"root", "0", "1000:1000", "nobody:daemon"} {
		p := sh("true")
		p.User = user
		_, _, _, err := b.tryExec(p, "")
		wantCode(t, err, protocol.CodeWrongUser)
	}
	p := sh("true")
	p.Groups = []string{"daemon"}
	_, _, _, err := b.tryExec(p, "")
	wantCode(t, err, protocol.CodeWrongUser)
	for _, user := range []string{"", "nobody", "65534", "nobody:nogroup"} {
		p := sh("id -u; id -g")
		p.User = user
		if out, _, _ := b.exec(p, ""); out != "65534\n65534\n" {
			t.Errorf("as %q: %q", user, out)
		}
	}
}

// A process of the same user cannot get at the secret, and none of the platform's environment reaches it.
func TestSecretStaysWithTheAgent(t *testing.T) {
	needsRoot(t)
	b := newBox(t, boxOptions{
		credential: &syscall.Credential{Uid: 65534, Gid: 65534},
		env:        []string{"AZURE_SOMETHING=platform", "HTTPS_PROXY=http://user:password@proxy.invalid:1"},
	})
	b.start(protocol.StartRequest{Process: sh("exec sleep 1000")})
	pid := b.cmd.Process.Pid
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // as root, to see what there is
	if err != nil || len(environ) > 0 {
		t.Errorf("the agent's environment: %q, %v", environ, err)
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if strings.Contains(string(cmdline), b.runID) {
		t.Errorf("the agent's arguments: %q", cmdline)
	}
	for _, script := range []string{
		"cat /proc/%d/environ", "ls /proc/%d/fd", "readlink -v /proc/%d/exe", "head -c 1 /proc/%d/mem", "cat /proc/%d/maps", "cat /proc/%d/auxv",
	} {
		if out, errs, code := b.exec(sh(fmt.Sprintf(script, pid)), ""); code == 0 || !strings.Contains(errs, "ermission denied") {
			t.Errorf("%s: %q, %q", script, out, errs)
		}
	}
	if _, err := exec.LookPath("strace"); err == nil {
		if _, errs, code := b.exec(sh(fmt.Sprintf("strace -p %d -e trace=none", pid)), ""); code == 0 || !strings.Contains(errs, "ermitted") {
			t.Errorf("ptrace: %q, code %d", errs, code)
		}
	}
	out, _, _ := b.exec(sh("env; cat /proc/$$/environ"), "")
	for _, no := range []string{"SOCKERLESS", "AZURE", "PROXY", "CONTAINER_APP"} {
		if strings.Contains(out, no) {
			t.Errorf("the process sees %s in %q", no, out)
		}
	}
}
