package agent_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/sockerless/sockerless/agent/protocol"
)

// descriptors and resident memory of the agent, in KiB.
func (b *box) footprint() (fds, rss int) {
	b.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	if err != nil {
		b.t.Skipf("cannot look into the agent: %v", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &rss)
	}
	return len(entries), rss
}

// goroutines makes the agent tell its goroutines, which is its end.
func (b *box) goroutines() string {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		b.t.Fatal(err)
	}
	<-b.ended
	_, dump, ok := strings.Cut(b.stderr.String(), "SIGABRT: abort")
	if !ok {
		b.t.Fatalf("the agent does not tell its goroutines: %.500s", b.stderr)
	}
	b.stderr.Reset()
	return dump
}

var goroutine = regexp.MustCompile(`(?m)^goroutine \d+ (gp=\S+ m=\S+ )?(mp=\S+ )?\[`)

// Execs of every kind leave no descriptor, no goroutine and no memory behind.
func TestExecsLeaveNothing(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	runs := 1000
	if os.Getenv("SOCKERLESS_SOAK") != "" {
		runs = 10000
	}
	round := func(n, from int) {
		for i := range n {
			p := sh("echo x; exit 1")
			p.Tty = i%3 == 0
			if i%10 == 9 {
				id := fmt.Sprint("gone", from+i)
				s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: id, Process: sh("cat; head -c 300000 /dev/zero"), Stdin: true, Stdout: true})
				if err != nil {
					t.Fatal(err)
				}
				s.Reset()
				continue
			}
			if _, _, code, err := b.tryExec(p, ""); code != 1 || err != nil {
				t.Fatalf("exec %d: %d, %v", i, code, err)
			}
			if _, _, _, err := b.tryExec(protocol.Process{Args: []string{"/nosuch"}}, ""); err == nil {
				t.Fatal("a missing command runs")
			}
		}
	}
	round(100, 0)
	fds, rss := b.footprint()
	round(runs, 100)
	var moreFDs, moreRSS int
	if !comes(func() bool { moreFDs, moreRSS = b.footprint(); return moreFDs <= fds }) {
		t.Errorf("%d descriptors became %d", fds, moreFDs)
	}
	if len(buildFlags) == 0 && moreRSS > rss+6<<10 { // the race detector keeps a history
		t.Errorf("%d KiB became %d", rss, moreRSS)
	}
	idle := sleeper(t)
	idle.exec(sh("true"), "")
	dump := b.goroutines()
	have, want := len(goroutine.FindAllString(dump, -1)), len(goroutine.FindAllString(idle.goroutines(), -1))
	if want < 5 || have > want+5 { // a kept connection of the client's more or less
		t.Errorf("%d goroutines, one that has done nothing has %d:\n%.20000s", have, want, dump)
	}
}
