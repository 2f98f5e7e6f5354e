package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// BenchmarkStartUp is the agent's start beside that of the least that Go can be: ms each, and how much more it is.
func BenchmarkStartUp(b *testing.B) {
	dir := b.TempDir()
	source := filepath.Join(dir, "hello.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	hello := filepath.Join(dir, "hello")
	build := exec.Command("go", "build", "-o", hello, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	median := func(argv ...string) float64 {
		var all []time.Duration
		for range 50 {
			begin := time.Now()
			if err := exec.Command(argv[0], argv[1:]...).Run(); err != nil {
				b.Fatal(err)
			}
			all = append(all, time.Since(begin))
		}
		slices.Sort(all)
		return float64(all[len(all)/2].Microseconds()) / 1000
	}
	for b.Loop() {
		least := median(hello)
		ours := median(program, "--version")
		b.ReportMetric(least, "ms-hello")
		b.ReportMetric(ours, "ms-agent")
		b.ReportMetric(ours-least, "ms-more")
	}
}

// BenchmarkMemoryIdle is the resident memory of an agent that is linked, and whose process sleeps.
func BenchmarkMemoryIdle(b *testing.B) {
	box := benchBox(b)
	for b.Loop() {
		time.Sleep(time.Second)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", box.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		for _, name := range []string{"VmRSS", "RssAnon"} {
			var kib float64
			if n, _ := fmt.Sscanf(line, name+": %f kB", &kib); n == 1 {
				b.ReportMetric(kib/1024, "MiB-"+name)
			}
		}
	}
}
