package agent_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

func TestExecTellsEachExitCode(t *testing.T) {
	b := sleeper(t)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for n := range next {
				out, errs, code, err := b.tryExec(sh(fmt.Sprintf("echo out %d; echo err %d >&2; exit %d", n, n, n)), "")
				want := []string{fmt.Sprintf("out %d\n", n), fmt.Sprintf("err %d\n", n), fmt.Sprint(n)}
				if diff := cmp.Diff(want, []string{out, errs, fmt.Sprint(code)}); diff != "" || err != nil {
					t.Errorf("exec %d: %v %s", n, err, diff)
				}
			}
		})
	}
	for n := range 200 {
		next <- n
	}
	close(next)
	wg.Wait()
}

func TestExecRefusals(t *testing.T) {
	b := sleeper(t)
	for _, test := range []struct {
		name    string
		process protocol.Process
		code    string
		text    string
	}{
		{"missing in PATH", protocol.Process{Args: []string{"nosuch"}, Env: []string{path}}, protocol.CodeNoCommand,
			`exec: "nosuch": executable file not found in $PATH`},
		{"missing path", protocol.Process{Args: []string{"/nosuch"}}, protocol.CodeNoCommand,
			`exec: "/nosuch": stat /nosuch: no such file or directory`},
		{"not executable", protocol.Process{Args: []string{"/etc/passwd"}}, protocol.CodeNotExecutable,
			`exec: "/etc/passwd": permission denied`},
		{"a directory", protocol.Process{Args: []string{"/etc"}}, protocol.CodeNotExecutable,
			`exec: "/etc": is a directory`},
		{"no directory", protocol.Process{Args: []string{"/bin/true"}, Dir: "/nosuch"}, protocol.CodeNotExecutable,
			`chdir to cwd ("/nosuch") set in config.json failed: no such file or directory`},
		{"directory is a file", protocol.Process{Args: []string{"/bin/true"}, Dir: "/etc/passwd"}, protocol.CodeNotExecutable,
			`chdir to cwd ("/etc/passwd") set in config.json failed: not a directory`},
		{"directory is closed to the user", protocol.Process{Args: []string{"/bin/true"}, Dir: "/root", User: "nobody"}, protocol.CodeNotExecutable,
			`chdir to cwd ("/root") set in config.json failed: permission denied`},
		{"unknown user", protocol.Process{Args: []string{"/bin/true"}, User: "nosuch"}, protocol.CodeNoUser,
			`unable to find user nosuch: no matching entries in passwd file`},
		{"unknown group", protocol.Process{Args: []string{"/bin/true"}, User: "root:nosuch"}, protocol.CodeNoUser,
			`unable to find group nosuch: no matching entries in group file`},
		{"no command", protocol.Process{}, protocol.CodeInvalid, `no command specified`},
		{"NUL in an argument", protocol.Process{Args: []string{"a\x00b"}}, protocol.CodeInvalid,
			`cannot pass "a\x00b" to a process: it holds a NUL byte`},
		{"relative directory", protocol.Process{Args: []string{"/bin/true"}, Dir: "tmp"}, protocol.CodeInvalid,
			`the working directory "tmp" is invalid, it needs to be an absolute path`},
		{"unknown ulimit", protocol.Process{Args: []string{"/bin/true"}, Ulimits: []protocol.Ulimit{{Name: "wings"}}}, protocol.CodeInvalid,
			`cannot set ulimit "wings": no such limit`},
		{"ulimit upside down", protocol.Process{Args: []string{"/bin/true"}, Ulimits: []protocol.Ulimit{{Name: "nofile", Soft: 20, Hard: 10}}}, protocol.CodeInvalid,
			`cannot set ulimit nofile=20:10: the soft limit is above the hard one`},
	} {
		t.Run(test.name, func(t *testing.T) {
			b.t = t
			_, _, _, err := b.tryExec(test.process, "")
			wantCode(t, err, test.code)
			if diff := cmp.Diff(test.text, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
	b.t = t
}

func TestExecStdin(t *testing.T) {
	b := sleeper(t)
	in := strings.Repeat("0123456789abcde\n", 1<<16)
	out, _, code := b.exec(sh("cat; exit 3"), in)
	if out != in || code != 3 {
		t.Errorf("%d bytes of %d came back, code %d", len(out), len(in), code)
	}
}

// A daemon that an exec leaves behind holds its output open, and must not hold up its end.
func TestExecEndsBesideADaemon(t *testing.T) {
	b := sleeper(t)
	out, _, code := b.exec(sh("sleep 1000 & echo started"), "") // it has three minutes
	if out != "started\n" || code != 0 {
		t.Errorf("output %q, code %d", out, code)
	}
}

// What an exec leaves in the background is heard for a while after the exec's exit, and may write for as long as it likes.
func TestExecLeavesItsBackgroundAlone(t *testing.T) {
	b := sleeper(t)
	file := t.TempDir() + "/late"
	if out, _, code := b.exec(sh("(sleep 0.1; echo late; echo wrote >"+file+") & echo now; exit 3"), ""); out != "now\nlate\n" || code != 3 {
		t.Errorf("output %q, code %d", out, code)
	}
	eventually(t, "the background process writes its file", func() bool { return exists(file) })

	// Beyond the session's end: more than a pipe holds.
	fds, _ := b.footprint()
	file = t.TempDir() + "/later"
	out, _, code := b.exec(sh("(until [ -e "+file+".go ]; do sleep 0.05; done; head -c 300000 /dev/zero && echo wrote >"+file+") & echo now"), "")
	if out != "now\n" || code != 0 {
		t.Errorf("output %q, code %d", out, code)
	}
	if err := os.WriteFile(file+".go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on behind the session's end", func() bool { return exists(file) })
	var more int
	if !comes(func() bool { more, _ = b.footprint(); return more <= fds }) {
		t.Errorf("%d descriptors became %d", fds, more)
	}
}

func TestExecGoesOnWithoutItsClient(t *testing.T) {
	b := sleeper(t)
	s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: "x", Process: sh("echo go; cat >/dev/null; yes | head -c 1000000; exit 7"), Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(s, make([]byte, 11))
	s.Close()
	var state protocol.ExecState
	eventually(t, "the process has ended", func() bool {
		if state, err = b.ExecState(b.ctx(), "x"); err != nil {
			t.Fatal(err)
		}
		return state.Exit != nil
	})
	if state.Exit.Code != 7 {
		t.Errorf("exit %+v", state.Exit)
	}
}

func TestExecNeedsARunningProcess(t *testing.T) {
	b := newBox(t, boxOptions{})
	_, _, _, err := b.tryExec(sh("true"), "")
	wantCode(t, err, protocol.CodeNotRunning)
	_, err = b.ExecState(b.ctx(), "nosuch")
	wantCode(t, err, protocol.CodeNoExec)
	if _, err := b.ExecDetached(b.ctx(), protocol.ExecRequest{}); err == nil {
		t.Error("an exec without an id is taken")
	}
}
