package agent_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

// top lists the processes by pid.
func (b *box) top(args string) (titles []string, rows map[string][]string) {
	b.t.Helper()
	res, err := b.Top(b.ctx(), args)
	if err != nil {
		b.t.Fatal(err)
	}
	rows = map[string][]string{}
	at := slices.Index(res.Titles, "PID")
	for _, row := range res.Processes {
		if len(row) != len(res.Titles) {
			b.t.Fatalf("%d titles and a row of %d: %q", len(res.Titles), len(row), row)
		}
		rows[row[at]] = row
	}
	return res.Titles, rows
}

// TestTopIsAsPS compares with the ps of this machine.
func TestTopIsAsPS(t *testing.T) {
	if out, err := exec.Command("ps", "--version").Output(); err != nil || !strings.Contains(string(out), "procps") {
		t.Skip("needs the ps of procps")
	}
	b := newBox(t, boxOptions{})
	res := b.start(protocol.StartRequest{Process: protocol.Process{
		Args: []string{"/bin/sh", "-c", `nice -n 5 sleep 1001 & setsid sleep 1002 & sleep 0 & exec sleep 1003`}, Env: []string{path}, Tty: true,
	}})
	all := func() map[string][]string { _, rows := b.top("-eo pid,comm,state"); return rows }
	var rows map[string][]string
	if !comes(func() bool {
		rows = all()
		sleeping := 0
		for _, row := range rows {
			if row[1] == "sleep" && row[2] == "S" || row[1] == "sleep" && row[2] == "Z" {
				sleeping++
			}
		}
		return len(rows) == 4 && sleeping == 4 // the last one, whose parent does not wait, is a zombie
	}) {
		t.Fatalf("not the four processes: %q", rows)
	}
	if _, ok := all()[strconv.Itoa(res.Pid)]; !ok {
		t.Errorf("the container's own process %d is not in the list", res.Pid)
	}
	if _, ok := all()[strconv.Itoa(b.cmd.Process.Pid)]; ok {
		t.Error("the agent is in the list")
	}
	pids := make([]string, 0, 4)
	for pid := range all() {
		pids = append(pids, pid)
	}
	for _, args := range []string{
		"-f", "-l", "-F", "-fl", "-ly", "-j", "-jf", "-jl", "-w", "u", "l", "j", "-o pid,cmd", "-o pid,comm,args",
		"-o pid -o user,uid,euser,euid,ruser,ruid,suser,suid -o group,gid,egroup,egid,rgroup,rgid,sgid",
		"-opid,ppid,pgid,pgrp,sid,sess,tpgid,tty,tname,tt", "o pid,ni,nice,pri,opri,priority,nlwp,thcount,f,flags,addr",
		"-o pid,stat,s,state,vsz,vsize,sz,start_time,stime,bsdstart,start,time,cputime,bsdtime,cputimes,c,min_flt,maj_flt",
		"--format pid,rss,rsz,pmem,%cpu", "--format=pid,ucmd=HERE,ucomm", "-o pid=PID",
	} {
		q := "-q"
		if args[0] != '-' {
			q = "q" // one style at a time
		}
		// What changes with the time that has gone by may do so between the two.
		var diff string
		for try := 0; try == 0 || diff != "" && try < 20; try++ {
			out, err := exec.Command("ps", append(strings.Fields(args), q+strings.Join(pids, ","))...).CombinedOutput()
			if err != nil {
				diff = fmt.Sprintf("ps: %v, %s", err, out)
				continue
			}
			titles, rows := b.top(args)
			diff = unlike(string(out), titles, rows)
		}
		if diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
}

// unlike tells how rows differ from what ps has said.
func unlike(ps string, titles []string, rows map[string][]string) string {
	lines := strings.Split(strings.TrimSuffix(ps, "\n"), "\n")
	if want := strings.Fields(lines[0]); !slices.Equal(titles, want) {
		return fmt.Sprintf("titles %q, want %q", titles, want)
	}
	at := slices.Index(titles, "PID")
	got, want := map[string]string{}, map[string]string{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if i := slices.Index(titles, "WCHAN"); i >= 0 && rows[fields[at]] != nil {
			fields[i] = "-" // ps shortens it
			rows[fields[at]][i] = "-"
		}
		want[fields[at]] = strings.Join(fields, " ")
	}
	for pid, row := range rows {
		got[pid] = strings.Join(strings.Fields(strings.Join(row, " ")), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return "-ps +ours\n" + diff
	}
	return ""
}

func TestTopRefusesByName(t *testing.T) {
	b := newBox(t, boxOptions{})
	if _, err := b.Top(b.ctx(), ""); !protocol.HasCode(err, protocol.CodeNotRunning) {
		t.Errorf("before the start: %v", err)
	}
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	for args, want := range map[string]string{
		"-eL": `"-L"`, "-e --sort=-rss": `"--sort"`, "--forest": `"--forest"`, "17": `"1"`, "-": `"-"`, "aux -C sh": `"-C"`,
		"auxf": `"f"`, "-o": "format specification must follow -o", "-o pid,label": `format specifier "label"`,
		"-o user": "Couldn't find PID field in ps output", "-o pid=ID": "Couldn't find PID field", "-o pid,user=PIDS": `specifying "user=PIDS" is not allowed`,
		"u -o pid": "conflicting format options", "-o pid" + strings.Repeat(",c", 64): "more than 64 columns", "u l": `"l"`,
	} {
		_, err := b.Top(b.ctx(), args)
		if !protocol.HasCode(err, protocol.CodeInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	for _, args := range []string{"", "-ef", "-e -f", "aux", "-aux", "-auxww", "ax", "-A", "-eo pid", "axo pid,cmd"} {
		if _, rows := b.top(args); len(rows) != 1 {
			t.Errorf("%s: %q", args, rows)
		}
	}
}

// TestTopIsBounded: a process may have two megabytes of arguments, and write anything into them.
func TestTopIsBounded(t *testing.T) {
	b := newBox(t, boxOptions{})
	long := strings.Repeat("<\x1b[31m&>", 10_000)
	args := []string{"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait"}
	for range 20 {
		args = append(args, long)
	}
	b.start(protocol.StartRequest{Process: protocol.Process{Args: args, Env: []string{path}}})
	_, rows := b.top("-eo pid,cmd")
	for _, row := range rows {
		if len(row[1]) > 32<<10 || strings.ContainsAny(row[1], "\x1b\x00") {
			t.Errorf("%d bytes: %.100q", len(row[1]), row[1])
		}
	}
}

// TestTopHidesTheHelper: what sets the ulimits of a process is the agent's program until it becomes that process.
func TestTopHidesTheHelper(t *testing.T) {
	b := newBox(t, boxOptions{})
	limits := []protocol.Ulimit{{Name: "core", Soft: 0, Hard: 0}}
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}, Ulimits: limits}})
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() { // ends with stop
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, _, code, err := b.tryExec(protocol.Process{Args: []string{"/bin/true"}, Ulimits: limits}, ""); err != nil || code != 0 {
				failed <- fmt.Errorf("exec: %d, %w", code, err)
				return
			}
		}
	}()
	for range 300 {
		_, rows := b.top("-eo pid,args")
		for _, row := range rows {
			if !slices.Contains([]string{"/bin/sleep 1000", "/bin/true", "[true] <defunct>", "[true]"}, row[1]) {
				t.Fatalf("a process %q", row)
			}
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

func TestTopNamesUsers(t *testing.T) {
	needsRoot(t)
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}, User: "nobody"}})
	for range 2 {
		_, rows := b.top("")
		if len(rows) != 1 {
			t.Errorf("%q", rows)
		}
		for _, row := range rows {
			if row[0] != "nobody" {
				t.Errorf("%q", row)
			}
		}
	}
	b.exec(sh("true"), "")
	other := protocol.ExecRequest{ID: "x", Process: protocol.Process{Args: []string{"/bin/sleep", "1001"}, User: "12345:23456"}}
	if _, err := b.ExecDetached(b.ctx(), other); err != nil {
		t.Fatal(err)
	}
	_, rows := b.top("-eo pid,user,group,args")
	found := false
	for _, row := range rows {
		found = found || slices.Equal(row[1:], []string{"12345", "23456", "/bin/sleep 1001"})
	}
	if !found {
		t.Errorf("%q", rows)
	}
}

// TestThousandOrphansAreReaped: none of them is left as a zombie.
func TestThousandOrphansAreReaped(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: protocol.Process{Args: []string{"/bin/sleep", "1000"}}})
	if out, errs, code := b.exec(sh("i=0; while [ $i -lt 1000 ]; do (sleep 0.0$((i%10)) &); i=$((i+1)); done"), ""); code != 0 {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	var rows map[string][]string
	if !comes(func() bool { _, rows = b.top("-eo pid,ppid,stat,args"); return len(rows) == 1 }) {
		t.Fatalf("%d processes are left: %.300q", len(rows), rows)
	}
}
