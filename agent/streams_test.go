package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// until reads from a session up to some text.
func until(t *testing.T, s io.Reader, text string) string {
	t.Helper()
	var got []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte(text)) {
		if _, err := s.Read(b); err != nil {
			t.Fatalf("%v after %q; want %q", err, got, text)
		}
		got = append(got, b[0])
	}
	return string(got)
}

func (b *box) attach(req protocol.AttachRequest) *wire.Conn {
	b.t.Helper()
	s, err := b.Attach(b.ctx(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { s.Close() })
	return s
}

func TestTerminal(t *testing.T) {
	b := newBox(t, boxOptions{})
	s := b.attach(protocol.AttachRequest{Stdin: true, Stdout: true, Stderr: true})
	p := sh("tty; stty size; read line; echo got $line; stty size; echo err >&2; exit 3")
	p.Tty, p.Size = true, &protocol.Size{Rows: 33, Cols: 99}
	b.start(protocol.StartRequest{Process: p, OpenStdin: true})
	until(t, s, "33 99\r\n")
	if err := b.Resize(b.ctx(), protocol.ResizeRequest{Size: protocol.Size{Rows: 40, Cols: 120}}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, "hello\r")
	rest, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("hello\r\ngot hello\r\n40 120\r\nerr\r\n", string(rest)); diff != "" {
		t.Error(diff)
	}
	if exit := b.exited(1); exit.Code != 3 {
		t.Errorf("exit %+v", exit)
	}
	if logs := b.logs(); !strings.HasSuffix(logs, "40 120\r\nerr\r\n") {
		t.Errorf("logs %q", logs)
	}
}

func TestExecTerminal(t *testing.T) {
	b := sleeper(t)
	p := sh("read line; echo got $line; stty size; test -t 0 && test -t 1 && test -t 2 && exit 4")
	p.Tty, p.Size = true, &protocol.Size{Rows: 10, Cols: 20}
	s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: "x", Process: p, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := b.Resize(b.ctx(), protocol.ResizeRequest{Exec: "x", Size: protocol.Size{Rows: 11, Cols: 22}}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, "you\r")
	out, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("you\r\ngot you\r\n11 22\r\n", string(out)); diff != "" {
		t.Error(diff)
	}
	if state, err := b.ExecState(b.ctx(), "x"); err != nil || state.Exit == nil || state.Exit.Code != 4 {
		t.Errorf("%+v, %v", state, err)
	}
	wantCode(t, b.Resize(b.ctx(), protocol.ResizeRequest{Exec: "x"}), protocol.CodeNotRunning)
	wantCode(t, b.Resize(b.ctx(), protocol.ResizeRequest{Exec: "nosuch"}), protocol.CodeNoExec)
}

// The output of a terminal whose process ends at once is complete.
func TestTerminalLosesNothing(t *testing.T) {
	b := sleeper(t)
	for i := range 50 {
		p := sh("seq 1 2000; exit 1")
		p.Tty = true
		out, _, code := b.exec(p, "")
		if want := 2000; strings.Count(out, "\r\n") != want || !strings.HasSuffix(out, "\r\n2000\r\n") || code != 1 {
			t.Fatalf("run %d: %d lines of %d, code %d", i, strings.Count(out, "\n"), want, code)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	keys := []byte{16, 17} // ctrl-p, ctrl-q
	b := newBox(t, boxOptions{})
	p := sh("stty raw -echo; echo ready; cat")
	p.Tty = true
	b.start(protocol.StartRequest{Process: p, OpenStdin: true})
	s := b.attach(protocol.AttachRequest{Stdin: true, Stdout: true, DetachKeys: keys, Replay: true})
	until(t, s, "ready")
	io.WriteString(s, "a\x10b\x10\x10c")
	until(t, s, "a\x10b\x10\x10c")
	io.WriteString(s, "d\x10")
	until(t, s, "d")
	io.WriteString(s, "\x11")
	if rest, err := io.ReadAll(s); err != nil || strings.Trim(string(rest), "\r\n") != "" {
		t.Errorf("after the detach: %q, %v", rest, err)
	}
	// The process goes on, and has not seen the keys.
	s = b.attach(protocol.AttachRequest{Stdin: true, Stdout: true, DetachKeys: keys})
	io.WriteString(s, "e")
	if got := until(t, s, "e"); got != "e" {
		t.Errorf("%q", got)
	}

	e, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: "x", Process: p, Stdin: true, Stdout: true, DetachKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	until(t, e, "ready")
	e.Write(keys)
	if _, err := io.ReadAll(e); err != nil {
		t.Error(err)
	}
	if state, err := b.ExecState(b.ctx(), "x"); err != nil || !state.Running {
		t.Errorf("the exec after the detach: %+v, %v", state, err)
	}
}

func TestAttachStdin(t *testing.T) {
	for _, test := range []struct {
		name      string
		once      bool
		openStdin bool
		want      string
		runs      bool // after the client's end of input
	}{
		{"StdinOnce ends the process's input", true, true, "input\nend\n", false},
		{"without it the session ends and the process waits", false, true, "input\n", true},
		{"no input at all", false, false, "end\n", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBox(t, boxOptions{})
			s := b.attach(protocol.AttachRequest{Stdin: true, Stdout: true})
			io.WriteString(s, "input\n") // before the start
			b.start(protocol.StartRequest{Process: sh("cat; echo end"), OpenStdin: test.openStdin, StdinOnce: test.once})
			var got string
			if test.openStdin {
				head := make([]byte, 8+len("input\n"))
				if _, err := io.ReadFull(s, head); err != nil {
					t.Fatal(err)
				}
				got = string(head[8:])
			}
			s.CloseWrite()
			rest, err := io.ReadAll(s)
			if err != nil {
				t.Fatal(err)
			}
			out, _ := split(t, rest)
			if diff := cmp.Diff(test.want, got+string(out)); diff != "" {
				t.Error(diff)
			}
			if state, _ := b.State(b.ctx()); (state.Phase == protocol.PhaseRunning) != test.runs {
				t.Errorf("phase %s", state.Phase)
			}
		})
	}
}

func TestManyClientsSeeTheSame(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	const clients = 5
	sums := make(chan string, clients)
	for range clients {
		s := b.attach(protocol.AttachRequest{Stdout: true})
		go func() { // ends with the process
			data, err := io.ReadAll(s)
			out, _, bad := frames(data)
			if err := errors.Join(err, bad); err != nil {
				t.Error(err)
			}
			sums <- fmt.Sprintf("%d %x", len(out), sha256.Sum256(out))
		}()
	}
	b.start(protocol.StartRequest{Process: sh("seq 1 500000")})
	first := <-sums
	for range clients - 1 {
		if next := <-sums; next != first {
			t.Errorf("%s and %s", first, next)
		}
	}
	if logs := b.logs(); fmt.Sprintf("%d %x", len(logs), sha256.Sum256([]byte(logs))) != first {
		t.Error("the log is another")
	}
}

// A client that never reads holds the process up while it is alone, and not for ever beside one that does.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	stuck := b.attach(protocol.AttachRequest{Stdout: true})
	s := b.attach(protocol.AttachRequest{Stdout: true})
	b.start(protocol.StartRequest{Process: sh("head -c 12000000 /dev/zero; echo end")})
	execs := make(chan error, 3)
	go func() { // ends with the process
		for range cap(execs) { // they do not notice
			_, _, code, err := b.tryExec(sh("true"), "")
			if err == nil && code != 0 && code != 137 {
				err = fmt.Errorf("code %d", code)
			}
			execs <- err
		}
	}()
	data, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := split(t, data); len(out) != 12000004 {
		t.Errorf("%d bytes", len(out))
	}
	// What it has missed is an error, not a silence.
	if _, err := io.ReadAll(stuck); err == nil {
		t.Error("the stuck client's stream has a proper end")
	}
	if exit := b.exited(1); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	for range cap(execs) {
		if err := <-execs; err != nil && !protocol.HasCode(err, protocol.CodeNotRunning) { // the process may be the quicker one
			t.Errorf("an exec beside the stuck client: %v", err)
		}
	}
}

func TestClientThatVanishes(t *testing.T) {
	b := newBox(t, boxOptions{})
	s := b.attach(protocol.AttachRequest{Stdout: true})
	b.start(protocol.StartRequest{Process: sh("sleep 0.2; head -c 30000000 /dev/zero; echo end")})
	s.Reset()
	begin := time.Now()
	if exit := b.exited(1); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	if d := time.Since(begin); d > time.Minute { // a client whose link is cut is waited for 90 s
		t.Errorf("it took %v", d)
	}
}

func TestReplayHasNoSeam(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf end")})
	for range 5 {
		s := b.attach(protocol.AttachRequest{Stdout: true, Replay: true, Incarnation: 1})
		data, err := io.ReadAll(s)
		if err != nil {
			t.Fatal(err)
		}
		out, _ := split(t, data)
		var want strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&want, "line %d\n", i)
		}
		want.WriteString("end")
		if diff := cmp.Diff(want.String(), string(out)); diff != "" {
			t.Fatal(diff)
		}
	}
	_, err := b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true, Incarnation: 1})
	wantCode(t, err, protocol.CodeNotRunning)
	_, err = b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true, Incarnation: 3})
	wantCode(t, err, protocol.CodeNotRunning)
	_, err = b.Attach(b.ctx(), protocol.AttachRequest{})
	wantCode(t, err, protocol.CodeInvalid)
}

// The beginning of a line that has no end yet is not in the log, and still reaches who attaches.
func TestReplayBringsTheUnfinishedLine(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("echo whole; printf 'login: '; read x; echo $x"), OpenStdin: true})
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
		if err != nil || string(r.Data) != "whole\n" {
			t.Fatalf("%q, %v", r.Data, err)
		}
		break
	}
	time.Sleep(50 * time.Millisecond)
	s := b.attach(protocol.AttachRequest{Stdin: true, Stdout: true, Replay: true})
	until(t, s, "login: ")
	io.WriteString(s, "me\n")
	until(t, s, "me\n")
}

func TestBulkExecBothWays(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	const size = 32 << 20
	s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: "bulk", Process: sh("tee /dev/stderr | sha256sum >&2"), Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	out, _, _ := b.exec(sh(fmt.Sprintf("head -c %d /dev/urandom | base64 -w0 | tee /tmp/%s | sha256sum >&2; cat /tmp/%s; rm /tmp/%s", size, b.runID, b.runID, b.runID)), "")
	if _, err := base64.StdEncoding.DecodeString(out); err != nil || len(out) != base64.StdEncoding.EncodedLen(size) {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	back, _, _ := b.exec(sh("sha256sum"), out)
	if want := fmt.Sprintf("%x  -\n", sha256.Sum256([]byte(out))); back != want {
		t.Errorf("%q, want %q", back, want)
	}
}

// 100 execs at a time, some of which nobody reads, some of whose processes never read.
func TestExecsDoNotDisturbEachOther(t *testing.T) {
	b := sleeper(t)
	for i := range 20 {
		s, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: fmt.Sprint("silent", i), Process: sh("cat /dev/zero"), Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w, err := b.Exec(b.ctx(), protocol.ExecRequest{ID: fmt.Sprint("deaf", i), Process: sh("exec sleep 100"), Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		go w.Write(make([]byte, 1<<20))
	}
	done := make(chan error)
	const n = 60
	for i := range n {
		go func() {
			out, _, code, err := b.tryExec(sh(fmt.Sprintf("echo %d; exit %d", i, i)), "")
			if err == nil && (out != fmt.Sprintf("%d\n", i) || code != i) {
				err = fmt.Errorf("exec %d: %q, %d", i, out, code)
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestLogsFollow(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("for i in 1 2 3; do echo $i; sleep 0.05; done")})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := time.Now()
	var got []string
	for r, err := range b.Logs(ctx, protocol.LogsRequest{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %d %s", r.Seq, r.Stream, r.Data))
		if r.Time.After(time.Now()) || r.Time.Before(begin.Add(-time.Minute)) {
			t.Errorf("record %d is of %v", r.Seq, r.Time)
		}
		if len(got) == 3 {
			break
		}
	}
	if diff := cmp.Diff([]string{"1 1 1\n", "2 1 2\n", "3 1 3\n"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestManyLinesWithoutABackend(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("seq 1 1000000"), LogLimit: 1 << 30})
	b.disconnect()
	time.Sleep(100 * time.Millisecond)
	b.connect()
	b.exited(1)
	n, last := 0, ""
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		last = string(r.Data)
	}
	if n != 1000000 || last != "1000000\n" {
		t.Errorf("%d records, the last is %q", n, last)
	}
}

// With nobody there the oldest records go, and a gap says how many.
func TestLogOverflow(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.disconnect()
	b.connect()
	b.start(protocol.StartRequest{Process: sh("seq 1 1000000"), LogLimit: 1 << 20})
	b.exited(1)
	next := uint64(0)
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		if next == 0 {
			if r.Stream != 3 || !strings.Contains(string(r.Data), "records were dropped") || r.Seq == 0 {
				t.Fatalf("the first record is %+v", r)
			}
		} else if want := fmt.Sprintf("%d\n", next); string(r.Data) != want || r.Seq != next {
			t.Fatalf("record %d is %q", r.Seq, r.Data)
		}
		next = r.Seq + 1
	}
	if next != 1000001 {
		t.Errorf("the last record is %d", next-1)
	}
}

// What is acknowledged is dropped, and who wants it back is told to ask where it is stored. A replay that has begun
// gets all that it was promised.
func TestReplayOfWhatIsStored(t *testing.T) {
	b := newBox(t, boxOptions{})
	b.start(protocol.StartRequest{Process: sh("seq 1 100000; read x"), OpenStdin: true})
	for r, err := range b.Logs(b.ctx(), protocol.LogsRequest{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq == 100000 {
			break
		}
	}
	s := b.attach(protocol.AttachRequest{Stdout: true, Stdin: true, Replay: true})
	if err := b.Ack(b.ctx(), protocol.AckRequest{Log: 100000}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, "\n")
	data, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := split(t, data); strings.Count(string(out), "\n") != 100000 {
		t.Errorf("%d lines", strings.Count(string(out), "\n"))
	}
	_, err = b.Attach(b.ctx(), protocol.AttachRequest{Stdout: true, Replay: true, Incarnation: 1})
	wantCode(t, err, protocol.CodeGone)
	s = b.attach(protocol.AttachRequest{Stdout: true, Replay: true, After: 100000, Incarnation: 1})
	if data, err := io.ReadAll(s); err != nil || len(data) != 0 {
		t.Errorf("%q, %v", data, err)
	}
}
