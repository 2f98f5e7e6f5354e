package applet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/sockerless/sockerless/azuresim/minibox"
)

// bin is a folder with the real program and its links; every test runs it with this folder alone as PATH.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		program, err := minibox.Build(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if bin, err = os.MkdirTemp("", "minibox-bin-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		list, err := exec.Command(program, "--list").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		for _, name := range strings.Fields(string(list)) {
			if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// command runs a script of minibox's sh, in dir.
func command(ctx context.Context, dir, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sh"), "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + bin, "HOME=/nowhere", "TZ=UTC"}
	cmd.WaitDelay = time.Second
	return cmd
}

func TestScripts(t *testing.T) {
	for name, c := range map[string]struct {
		script, out string
		code        int
		stderr      string // a part of it
	}{
		// the shell
		"loops, pipes, functions":      {script: `f() { echo "<$1>"; }; for i in 1 2 3; do f $i; done | tail -n 2`, out: "<2>\n<3>\n"},
		"variables and expansion":      {script: `x=abc.tar; echo ${x%.tar} ${#x} $((6*7)) "$(echo sub)"`, out: "abc 7 42 sub\n"},
		"exit code":                    {script: "exit 9", code: 9},
		"status of the last command":   {script: "true; false", code: 1},
		"missing command":              {script: "nosuch", code: 127, stderr: "nosuch: not found"},
		"errexit":                      {script: "set -e; false; echo no", code: 1},
		"nounset":                      {script: "set -u; echo $nope", code: 1, stderr: "unbound"},
		"pipefail":                     {script: "set -o pipefail; false | true", code: 1},
		"trap on exit":                 {script: "trap 'echo bye' EXIT; echo hi; exit 3", out: "hi\nbye\n", code: 3},
		"trap at the end":              {script: "trap 'echo bye' EXIT; echo hi", out: "hi\nbye\n"},
		"background and wait":          {script: "sleep 0.1 & wait; echo waited", out: "waited\n"},
		"here document":                {script: "cat <<E\na $((1+1))\nE", out: "a 2\n"},
		"redirections":                 {script: "echo a > f; echo b >> f; cat < f; cat nosuch 2> g; wc -l < g", out: "a\nb\n1\n"},
		"a killed child":               {script: "sh -c 'kill -9 $$'; echo $?", out: "137\n"},
		"exec replaces":                {script: "sh -c 'echo $$; exec sh -c \"echo \\$\\$\"' | sort -u | wc -l", out: "1\n"},
		"exec redirects":               {script: "exec > f; echo hidden", out: ""},
		"exec in a subshell does not":  {script: "(exec echo a); echo b", out: "a\nb\n"},
		"exec of nothing":              {script: "exec nosuch; echo no", code: 127, stderr: "nosuch"},
		"umask":                        {script: "umask 077; umask; touch f; ls -l f | cut -c1-10", out: "0077\n-rw-------\n"},
		"what stands before a mistake": {script: "echo before\nif", out: "before\n", code: 2, stderr: "sh:"},
		"name and parameters":          {script: `sh -c 'echo $0 $1 $#' name a b`, out: "name a 2\n"},
		"commands on stdin":            {script: `printf 'read x; echo got $x\nline\ncat\nrest\n' | sh`, out: "got line\nrest\n"},
		"a script file":                {script: `echo 'echo $0 $1; exit 4' > s; sh s arg`, out: "s arg\n", code: 4},
		"a missing script":             {script: "sh nosuch", code: 127, stderr: "nosuch"},
		"unknown option":               {script: "sh -Z", code: 2, stderr: "-Z"},
		"test and [":                   {script: `[ -d . ] && [ 2 -gt 1 ] && ! [ a = b ] && test -n x && echo ok`, out: "ok\n"},

		// text
		"echo":                {script: `echo -n a; echo -e 'b\tc\x41'; echo -x`, out: "ab\tcA\n-x\n"},
		"printf":              {script: `printf '%s-%03d\n' a 5 b 6`, out: "a-005\nb-006\n"},
		"cat -n":              {script: `printf 'a\nb' | cat -n`, out: "     1\ta\n     2\tb"},
		"head":                {script: "seq 20 | head -n 2; seq 20 | head -1; printf abcdef | head -c 3", out: "1\n2\n1\nabc"},
		"head of two":         {script: "echo a > a; echo b > b; head -n 1 a b", out: "==> a <==\na\n\n==> b <==\nb\n"},
		"tail":                {script: "seq 20 | tail -n 2; seq 5 > f; tail -n +4 f; tail -c 2 f; tail -3 f | head -n 1; printf 'x\\ny' | tail -n 1", out: "19\n20\n4\n5\n5\n3\ny"},
		"wc":                  {script: `printf 'a b\nc\n' | wc -l; printf 'a b\nc' > f; wc -w f; wc -c < f; wc f f | tail -n 1`, out: "2\n3 f\n5\n      2       6      10 total\n"},
		"grep":                {script: `printf 'abc\nxyz\nABC\n' > f; grep -in abc f; grep -c . f; grep -v b f; grep -o 'y.' f; grep -q zzz f; echo $?`, out: "1:abc\n3:ABC\n3\nxyz\nABC\nyz\n1\n"},
		"grep basic":          {script: `printf 'a+b\naab\n(x)\n' > f; grep 'a+b' f; grep 'a\+b' f; grep '(x)' f; grep -E 'a+b' f; grep -F '(x)' f; grep '^*' f || echo none`, out: "a+b\naab\n(x)\naab\n(x)\nnone\n"},
		"grep brackets":       {script: `printf 'a]b\nc-d\n' | grep '[]]'; printf 'ab1\n' | grep -o '[[:digit:]]'`, out: "a]b\n1\n"},
		"grep recursive":      {script: `mkdir d; echo hit > d/x; echo miss > d/y; grep -r hit d; grep -rl hit`, out: "d/x:hit\nd/x\n"},
		"grep a missing file": {script: "grep x nosuch", code: 2, stderr: "nosuch: No such file"},
		"sort":                {script: `printf 'b 2\na 10\nc 1\na 10\n' > f; sort f | head -n 1; sort -k2 -n f | head -n 1; sort -u f | wc -l; sort -r f | head -n 1`, out: "a 10\nc 1\n3\nc 1\n"},
		"cut":                 {script: `printf 'a:b:c\nplain\n' > f; cut -d: -f1,3 f; cut -c2- f`, out: "a:c\nplain\n:b:c\nlain\n"},
		"tr":                  {script: `echo hello | tr a-y b-z; echo aabbc | tr -s ab; echo a1b2 | tr -d 0-9; echo Ab | tr '[:lower:]' '[:upper:]'`, out: "ifmmp\nabc\nab\nAB\n"},
		"sha256sum":           {script: `printf abc | sha256sum; printf abc > f; sha256sum f > s; sha256sum -c s; echo x >> f; sha256sum -c s`, out: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\nf: OK\nf: FAILED\n", code: 1, stderr: "did NOT match"},
		"seq":                 {script: `seq 3; seq 5 -2 1; seq 0.5 0.5 1.5; seq -s , 3; seq 3 1`, out: "1\n2\n3\n5\n3\n1\n0.5\n1.0\n1.5\n1,2,3\n"},
		"tee":                 {script: `echo a | tee f; echo b | tee -a f; cat f`, out: "a\nb\na\nb\n"},
		"yes":                 {script: `yes | head -n 3 | wc -c; yes no | head -n 1`, out: "6\nno\n"},

		// files
		"ls":               {script: "mkdir d; touch d/b d/a d/.h; ls d; ls -a d | wc -l; ls -A d | head -n 1; ls -d d; ls d/a nosuch", out: "a\nb\n5\n.h\nd\nd/a\n", code: 1, stderr: "nosuch: No such file"},
		"ls -l":            {script: "printf 12345 > f; chmod 640 f; ls -l f | cut -c1-10; ls -ln f | tr -s ' ' | cut -d' ' -f5; ln -s f l; ls -l l | grep -o 'l -> f'", out: "-rw-r-----\n5\nl -> f\n"},
		"ls -R":            {script: "mkdir -p a/b; touch a/b/c; ls -R a", out: "a:\nb\n\na/b:\nc\n"},
		"mkdir and rmdir":  {script: "mkdir -p a/b/c; mkdir a || echo there; rmdir a/b/c; ls a/b; rmdir a", out: "there\n", code: 1, stderr: "not empty"},
		"rm":               {script: "mkdir d; touch d/f f; rm f; rm -f f nosuch; rm d || rm -r d; ls; rm nosuch", code: 1, stderr: "cannot remove 'nosuch'"},
		"rm of the root":   {script: "rm -rf /", code: 1, stderr: "refusing"},
		"cp":               {script: "echo a > f; cp f g; mkdir d; cp f g d; ls d; cp d e; cp -r d e; ls e; cp f f", out: "f\ng\nf\ng\n", code: 1, stderr: "same file"},
		"cp -a keeps":      {script: "mkdir d; echo a > d/f; chmod 751 d/f; touch -d '2001-02-03 04:05' d/f; ln -s f d/l; cp -a d e; ls -l e | grep -c 'l -> f'; ls -l e/f | cut -c1-10; date -r e/f +%F", out: "1\n-rwxr-x--x\n2001-02-03\n"},
		"cp into itself":   {script: "mkdir d; cp -r d d/e", code: 1, stderr: "into itself"},
		"mv":               {script: "echo a > f; mv f g; mkdir d; mv g d; cat d/g; mv nosuch x", out: "a\n", code: 1, stderr: "nosuch"},
		"ln":               {script: "echo a > f; ln f g; ln -s f h; cat g h; readlink h; ln -sf g h; readlink h", out: "a\na\nf\ng\n"},
		"chmod":            {script: "touch f; for m in 600 u+x go=r +w a-x u=rwx,g=u,o= u+s; do chmod $m f; ls -l f | cut -c1-10; done", out: "-rw-------\n-rwx------\n-rwxr--r--\n-rwxrw-rw-\n-rw-rw-rw-\n-rwxrwx---\n-rwsrwx---\n"},
		"chmod -R":         {script: "mkdir -p d/e; touch d/e/f; chmod -R 700 d; ls -l d/e | cut -c1-10", out: "-rwx------\n"},
		"touch":            {script: "touch -d @0 f; date -u -r f +%s; touch -c g; ls", out: "0\nf\n"},
		"find":             {script: "mkdir -p d/e; touch d/a.txt d/e/b.txt; find d -type f | sort; find d -name '*.txt' -maxdepth 1; find d ! -type f | sort; find d -name a.txt -exec echo {} ';'; (cd d; find . -name b.txt)", out: "d/a.txt\nd/e/b.txt\nd/a.txt\nd\nd/e\nd/a.txt\n./e/b.txt\n"},
		"dd":               {script: "printf 0123456789 > f; dd if=f bs=2 skip=1 count=2 status=none; dd if=f of=g bs=1k status=none; cat g; printf xx | dd of=g bs=1 seek=3 conv=notrunc status=none; cat g; dd if=/dev/zero bs=1M count=3 status=none | wc -c", out: "234501234567890" + "12xx56789" + "3145728\n"},
		"tar":              {script: "mkdir -p d/e; echo a > d/f; ln -s f d/l; ln d/f d/h; chmod 640 d/f; tar cf t.tar d; rm -r d; tar tf t.tar; tar xf t.tar; cat d/h; ls -l d/f | cut -c1-10; readlink d/l", out: "d/\nd/e/\nd/f\nd/h\nd/l\na\n-rw-r-----\nf\n"},
		"tar by pipe":      {script: "mkdir -p d x; echo a > d/f; tar -czC d . | tar -xzC x; cat x/f", out: "a\n"},
		"tar excludes":     {script: "mkdir d; touch d/a d/b; tar -cf - --exclude a d | tar -t", out: "d/\nd/b\n"},
		"basename dirname": {script: "basename /a/b.c .c; basename /; dirname /a/b; dirname a; dirname /", out: "b\n/\n/a\n.\n/\n"},

		// processes and the system
		"env":          {script: "env -i A=1 " + "env; X=2 env | grep ^X=; env A=1 printenv A; env -u HOME printenv HOME", out: "A=1\nX=2\n1\n", code: 1},
		"env missing":  {script: "env nosuch", code: 127, stderr: "nosuch"},
		"sleep":        {script: "sleep 0.01 0.01s && sleep x", code: 2, stderr: "invalid time"},
		"kill":         {script: "sleep 100 & sh -c 'kill -TERM $$' ; echo $?; kill -0 $$ && echo alive; kill -l | head -n 1; kill -NOPE 1", out: "143\nalive\nHUP\n", code: 2, stderr: "NOPE"},
		"date":         {script: "date -u -d @86400 '+%Y-%m-%d %H:%M:%S %a %j'; date -d 2024-02-29 +%d; date +%Q", out: "1970-01-02 00:00:00 Fri 002\n29\n", code: 2, stderr: "%Q"},
		"uname":        {script: "uname; uname -z", out: "Linux\n", code: 2, stderr: "-z"},
		"tty":          {script: "tty < /dev/null; stty size < /dev/null", out: "not a tty\n", code: 1, stderr: "standard input"},
		"ps":           {script: "ps -o pid,comm | grep -c \"^ *$$ \"; ps aux | head -n 1 | grep -c COMMAND; ps -o nope", out: "1\n1\n", code: 2, stderr: "nope"},
		"pwd":          {script: "mkdir d; cd d; pwd | grep -c '/d$'", out: "1\n"},
		"nc nobody":    {script: "nc -z 127.0.0.1 1", code: 1, stderr: "refused"},
		"true, false":  {script: "env true && env false", code: 1},
		"an id's name": {script: "id -u | grep -c '^[0-9]*$'; whoami | wc -l", out: "1\n1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := command(ctx, t.TempDir(), c.script)
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
				t.Fatal(err)
			}
			if out.String() != c.out || cmd.ProcessState.ExitCode() != c.code {
				t.Errorf("printed %q and ended with %d, want %q and %d; stderr %q", out.String(), cmd.ProcessState.ExitCode(), c.out, c.code, stderr.String())
			}
			if !strings.Contains(stderr.String(), c.stderr) || c.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stderr %q does not say %q", stderr.String(), c.stderr)
			}
		})
	}
}

func TestUnknownOptionsAreRefusedByName(t *testing.T) {
	for _, name := range []string{"basename", "cat", "chmod", "chown", "cp", "cut", "date", "dirname", "env", "find", "grep", "head", "hostname", "id", "ln", "ls", "mkdir",
		"mv", "nc", "ps", "pwd", "readlink", "rm", "rmdir", "seq", "sh", "sha256sum", "sleep", "sort", "stty", "tail", "tar", "tee", "touch", "tr", "uname", "wc"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(filepath.Join(bin, name), "-~")
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 2 && name != "stty" || !strings.Contains(string(out), "~") && name != "stty" {
				t.Errorf("ended with %v and said %q", err, out)
			}
		})
	}
}

func TestTailFollows(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	if err := os.WriteFile(file, []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "tail"), "-n", "1", "-f", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	expect(t, out, "two\n")
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "three")
	expect(t, out, "three\n")
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // a truncation is seen by size
	fmt.Fprintln(f, "four")
	expect(t, out, "four\n")
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	done := make(chan error, 1)
	go func() { _, err := io.ReadFull(r, buf); done <- err }() // ends with the bytes or the process
	select {
	case err := <-done:
		if err != nil || string(buf) != want {
			t.Fatalf("read %q, %v, want %q", buf, err, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no %q", want)
	}
}

func TestDefaultSignalsEndAnApplet(t *testing.T) {
	for _, argv := range [][]string{{"sleep", "100"}, {"tail", "-f", "/dev/null"}, {"sh", "-c", "while true; do sleep 0.01; done"}} {
		t.Run(argv[0], func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(bin, argv[0]), argv[1:]...)
			cmd.Env = []string{"PATH=" + bin}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
				t.Errorf("ended with %v", cmd.ProcessState)
			}
		})
	}
}

func TestInteractiveShell(t *testing.T) {
	cmd := exec.Command(filepath.Join(bin, "sh"))
	cmd.Env = []string{"PATH=" + bin}
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 97})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	defer cmd.Process.Kill()
	prompt := "$ "
	if os.Geteuid() == 0 {
		prompt = "# "
	}
	// read returns what the terminal shows up to the next prompt.
	read := func(end string) string {
		t.Helper()
		tty.SetReadDeadline(time.Now().Add(time.Minute))
		var all []byte
		buf := make([]byte, 1)
		for !strings.HasSuffix(string(all), end) {
			if _, err := tty.Read(buf); err != nil {
				t.Fatalf("read %q: %v", all, err)
			}
			all = append(all, buf[0])
		}
		return strings.TrimSuffix(string(all), end)
	}
	read(prompt)
	for _, c := range []struct{ typed, shown string }{
		{"echo hi\n", "echo hi\r\nhi\r\n"},
		{"\n", "\r\n"},
		{"stty size\n", "stty size\r\n31 97\r\n"},
		{"tty | cut -c1-8\n", "tty | cut -c1-8\r\n/dev/pts\r\n"},
		{"false; echo $?\n", "false; echo $?\r\n1\r\n"},
		{"nosuch\n", "nosuch\r\nsh: nosuch: not found\r\n"},
		{"x=5; cd /\n", "x=5; cd /\r\n"},
		{"echo $x; pwd\n", "echo $x; pwd\r\n5\r\n/\r\n"},
		{"if\nthen true; fi )\n", ""}, // a mistake does not end it
		{"echo still\n", "echo still\r\nstill\r\n"},
	} {
		if _, err := tty.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		shown := read(prompt)
		if c.shown == "" {
			continue
		}
		if shown != c.shown {
			t.Errorf("after %q the terminal shows %q, want %q", c.typed, shown, c.shown)
		}
	}
	// Ctrl-C ends the foreground and not the shell.
	tty.WriteString("sleep 100\n")
	read("sleep 100\r\n")
	for end := time.Now().Add(time.Minute); !sleeps(cmd.Process.Pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("sleep does not run")
		}
	}
	tty.WriteString("\x03")
	read(prompt)
	tty.WriteString("echo $?\n")
	if got := read(prompt); !strings.Contains(got, "130") {
		t.Errorf("after Ctrl-C: %q", got)
	}
	tty.WriteString("exit 6\n")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 6 {
		t.Errorf("ended with %v, want 6", err)
	}
}

// sleeps reports whether the shell's child is a sleep that has the terminal.
func sleeps(shell int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", shell))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			args, _ := os.ReadFile("/proc/" + child + "/cmdline")
			stat, _ := os.ReadFile("/proc/" + child + "/stat")
			_, after, _ := strings.Cut(string(stat), ") ")
			f := strings.Fields(after) // state, parent, group, session, terminal, its foreground
			if strings.Contains(string(args), "sleep\x00100\x00") && len(f) > 5 && f[2] == f[5] {
				return true
			}
		}
	}
	return false
}

func TestNetcat(t *testing.T) {
	// Below those that others are given for the asking: nobody is to take it meanwhile.
	port := 20000 + rand.IntN(10000)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server := command(ctx, t.TempDir(), fmt.Sprintf("echo from server | nc -l -p %d", port))
	var got bytes.Buffer
	server.Stdout = &got
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	client := command(ctx, t.TempDir(), fmt.Sprintf("until echo from client | nc 127.0.0.1 %d 2> /dev/null; do sleep 0.05; done", port))
	out, err := client.Output()
	if err != nil || string(out) != "from server\n" {
		t.Errorf("the client read %q, %v", out, err)
	}
	if err := server.Wait(); err != nil || got.String() != "from client\n" {
		t.Errorf("the server read %q, %v", got.String(), err)
	}
}

func TestOwnership(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := command(ctx, t.TempDir(), "mkdir d; touch d/f; chown -R 7:8 d; ls -ln d | tr -s ' ' | cut -d' ' -f3,4; chown :9 d; ls -lnd d | tr -s ' ' | cut -d' ' -f3,4").Output()
	if err != nil || string(out) != "7 8\n7 9\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}
