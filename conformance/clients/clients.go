//go:build linux

// Package clients holds Sockerless to clients that others wrote: docker compose, testcontainers-go and more, each pinned and
// got through its own package manager. Each has a folder here and a test that runs it against a host of its own, the whole
// stack on the simulator; `make conformance` runs them and prints what is proved and what waits.
//
// Commands are held to testscript sessions. What is a library has a program that runs cases and says in the Test Anything
// Protocol how they ended, see [TAP].
package clients

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Outcome is how a case of a client ended.
type Outcome struct {
	Name string
	OK   bool
	Skip string // the reason, if the case was skipped
	Log  string // what was said before and about it
}

var (
	tapCase = regexp.MustCompile(`^(not )?ok\b *\d* *(?:- )?(.*?)(?: *# *(?i:skip)\S*(.*))?$`)
	tapPlan = regexp.MustCompile(`^1\.\.(\d+)`)
)

// TAP reads what a client says, a line a case, and calls each as the lines come:
//
//	1..3
//	ok 1 - exec gives the exit code
//	not ok 2 - a log is followed
//	# what is said of case 2, before or after it
//	ok 3 - ports # SKIP the reason
//
// The plan, 1..N, may also come last; an error says that it is missing or that another number of cases ended, which is how a
// client that dies is found out. A skip needs a reason.
func TAP(r io.Reader, each func(Outcome)) error {
	var (
		last    *Outcome
		said    strings.Builder
		planned = -1
		ended   int
	)
	flush := func() {
		if last != nil {
			last.Log = said.String()
			each(*last)
			last = nil
			said.Reset()
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := tapPlan.FindStringSubmatch(line); m != nil && planned < 0 {
			fmt.Sscan(m[1], &planned) //nolint:errcheck // the expression matches digits
			continue
		}
		m := tapCase.FindStringSubmatch(line)
		if m == nil {
			if line != "" {
				said.WriteString(line + "\n")
			}
			continue
		}
		flush()
		ended++
		last = &Outcome{Name: m[2], OK: m[1] == "", Skip: strings.TrimSpace(m[3])}
		if strings.Contains(strings.ToLower(line), "# skip") && last.Skip == "" {
			last.OK = false
			said.WriteString("skipped without a reason\n")
		}
	}
	flush()
	switch {
	case lines.Err() != nil:
		return lines.Err()
	case planned < 0:
		return fmt.Errorf("it planned nothing (no line 1..N) and %d cases ended: %s", ended, said.String())
	case planned != ended:
		return fmt.Errorf("it planned %d cases and %d ended: %s", planned, ended, said.String())
	}
	return nil
}
