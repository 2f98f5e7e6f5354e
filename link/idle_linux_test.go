package link_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// resident is a process's VmRSS in KiB.
func resident(b *testing.B, pid int) (kib int) {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if kib, err = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB"))); err != nil {
				b.Fatal(err)
			}
		}
	}
	return kib
}

// BenchmarkHubIdle is what ten thousand idle agents cost the process that has the hub, over real connections with a TLS of
// our own, keep-alives included. They are fewer where there are not enough descriptors for them.
func BenchmarkHubIdle(b *testing.B) {
	agents := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	if most := int(limit.Cur) - 200; agents > most {
		b.Logf("%d descriptors: %d agents instead of %d", limit.Cur, most, agents)
		agents = most
	}
	for range b.N {
		hub := exec.Command(os.Args[0])
		hub.Env = append(os.Environ(), hubVariable+"=1")
		in, err := hub.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := hub.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := hub.Start(); err != nil {
			b.Fatal(err)
		}
		url, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		before := resident(b, hub.Process.Pid)
		begin := time.Now()
		links := make([]*link.Link, agents)
		var dial sync.WaitGroup
		for w := range 32 {
			dial.Go(func() {
				for i := w; i < agents; i += 32 {
					id := link.Identity{Role: link.Agent, ID: fmt.Sprintf("run-%d", i), Secret: secret}
					l, err := link.Dial(context.Background(), link.Target{URL: strings.TrimSpace(url)}, id, link.Options{})
					if err != nil {
						b.Error(err)
						return
					}
					links[i] = l
				}
			})
		}
		dial.Wait()
		b.ReportMetric(float64(agents)/time.Since(begin).Seconds(), "links/s")
		time.Sleep(30 * time.Second) // a keep-alive or two
		b.ReportMetric(float64(resident(b, hub.Process.Pid)-before)/float64(agents), "KiB-RSS/agent")
		connected := 0
		for _, l := range links {
			if l != nil && l.Connected() && l.Stats().Carriers == 1 {
				connected++
			}
		}
		b.ReportMetric(float64(connected), "agents")
		_ = in.Close()
		if err := hub.Wait(); err != nil {
			b.Error(err)
		}
		var end sync.WaitGroup
		for _, l := range links {
			if l != nil {
				end.Go(func() { _ = l.Close() })
			}
		}
		end.Wait()
	}
}
