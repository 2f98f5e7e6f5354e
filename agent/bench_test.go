package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// benchBox is a box with a process to exec beside.
func benchBox(b *testing.B) *box {
	b.Helper()
	box := newBox(b, boxOptions{})
	box.start(protocol.StartRequest{Process: sh("exec sleep 10000")})
	return box
}

func BenchmarkExecTrue(b *testing.B) {
	box := benchBox(b)
	p := protocol.Process{Args: []string{"/bin/true"}}
	for b.Loop() {
		if _, _, code, err := box.tryExec(p, ""); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
}

func BenchmarkExecTrueWithUlimits(b *testing.B) {
	box := benchBox(b)
	p := protocol.Process{Args: []string{"/bin/true"}, Ulimits: []protocol.Ulimit{{Name: "core"}}}
	for b.Loop() {
		if _, _, code, err := box.tryExec(p, ""); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
}

const bulk = 256 << 20

func BenchmarkExecOut(b *testing.B) {
	box := benchBox(b)
	b.SetBytes(bulk)
	for n := 0; b.Loop(); n++ {
		s, err := box.Exec(box.ctx(), protocol.ExecRequest{ID: fmt.Sprint(n), Process: sh(fmt.Sprintf("head -c %d /dev/zero", bulk)), Stdout: true})
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 128<<10)); err != nil || n < bulk {
			b.Fatal(n, err)
		}
		s.Close()
	}
}

func BenchmarkExecIn(b *testing.B) {
	box := benchBox(b)
	b.SetBytes(bulk)
	data := make([]byte, 1<<20)
	for n := 0; b.Loop(); n++ {
		s, err := box.Exec(box.ctx(), protocol.ExecRequest{ID: fmt.Sprint(n), Process: sh("cat >/dev/null"), Stdin: true, Stdout: true})
		if err != nil {
			b.Fatal(err)
		}
		for range bulk >> 20 {
			if _, err := s.Write(data); err != nil {
				b.Fatal(err)
			}
		}
		s.CloseWrite()
		io.Copy(io.Discard, s)
		s.Close()
	}
}

func BenchmarkReadFile(b *testing.B) {
	box := benchBox(b)
	path := b.TempDir() + "/f"
	os.WriteFile(path, make([]byte, bulk), 0o644)
	b.SetBytes(bulk)
	for b.Loop() {
		_, r, err := box.Read(box.ctx(), path)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 128<<10)); err != nil || n < bulk {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

func BenchmarkWriteFile(b *testing.B) {
	box := benchBox(b)
	path := b.TempDir()
	os.WriteFile(path+"/f", make([]byte, bulk), 0o644)
	data := box.readTar(path + "/f")
	b.SetBytes(bulk)
	for b.Loop() {
		if err := box.Write(box.ctx(), protocol.WriteRequest{Path: wire.Bytes(path)}, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogLines is what a process that prints lines can get rid of while a backend follows and stores.
func BenchmarkLogLines(b *testing.B) {
	box := newBox(b, boxOptions{})
	const lines = 1000000
	var begin time.Time
	for b.Loop() {
		begin = time.Now()
		res := box.start(protocol.StartRequest{Process: sh(fmt.Sprintf("yes 'a line of a log that is about as long as lines of logs are' | head -n %d", lines))})
		state, _ := box.State(box.ctx())
		n := uint64(0)
		for r, err := range box.Logs(box.ctx(), protocol.LogsRequest{After: uint64(res.Incarnation-1) * lines, Follow: true}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
			if n%10000 == 0 {
				box.Ack(box.ctx(), protocol.AckRequest{Log: r.Seq})
			}
			if n == lines {
				break
			}
		}
		_ = state
		box.exited(res.Incarnation)
	}
	b.ReportMetric(lines/time.Since(begin).Seconds(), "lines/s")
}

func BenchmarkStartUp(b *testing.B) {
	for b.Loop() {
		if err := exec.Command(program, "--version").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMemoryIdle(b *testing.B) {
	box := benchBox(b)
	for b.Loop() {
		time.Sleep(time.Second)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", box.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "VmHWM") {
			b.Log(strings.TrimSpace(line))
		}
	}
}
