package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/rogpeppe/go-internal/testscript"
)

// figure NAME CONTAINER: prints one of the figures of docker stats, by the names below.
func cmdFigure(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || figures[args[0]] == nil {
		ts.Fatalf("usage: figure NAME CONTAINER")
	}
	status, text, err := ask(machineOf(ts).socket, http.MethodGet, "/containers/"+args[1]+"/stats?stream=false&one-shot=true", "")
	ts.Check(err)
	if status != http.StatusOK {
		ts.Fatalf("%d %s", status, text)
	}
	var s docker.StatsResponse
	ts.Check(json.Unmarshal(text, &s))
	fmt.Fprintln(ts.Stdout(), figures[args[0]](&s))
}

// figures are in milliseconds and bytes.
var figures = map[string]func(*docker.StatsResponse) uint64{
	"cpu":      func(s *docker.StatsResponse) uint64 { return s.CPUStats.CPUUsage.TotalUsage / uint64(time.Millisecond) },
	"memory":   memoryInUse,
	"limit":    func(s *docker.StatsResponse) uint64 { return s.MemoryStats.Limit },
	"received": func(s *docker.StatsResponse) uint64 { return s.Networks["eth0"].RxBytes },
	"sent":     func(s *docker.StatsResponse) uint64 { return s.Networks["eth0"].TxBytes },
	"read":     func(s *docker.StatsResponse) uint64 { return blockBytes(s, "read") },
	"written":  func(s *docker.StatsResponse) uint64 { return blockBytes(s, "write") },
}

// memoryInUse is what the docker CLI shows: without the files that the kernel can drop, which are called by another name in
// version 1.
func memoryInUse(s *docker.StatsResponse) uint64 {
	idle, ok := s.MemoryStats.Stats["total_inactive_file"]
	if !ok {
		idle = s.MemoryStats.Stats["inactive_file"]
	}
	return s.MemoryStats.Usage - min(s.MemoryStats.Usage, idle)
}

func blockBytes(s *docker.StatsResponse, op string) (n uint64) {
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		if strings.EqualFold(e.Op, op) {
			n += e.Value
		}
	}
	return n
}

// grown BEFORE AFTER WANT: a figure has grown by WANT, to 5 %.
func cmdGrown(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: grown BEFORE AFTER WANT")
	}
	var n [3]float64
	for i, arg := range args {
		var err error
		n[i], err = strconv.ParseFloat(arg, 64)
		ts.Check(err)
	}
	got, want := n[1]-n[0], n[2]
	ts.Logf("%.0f more, of %.0f: %+.2f %%", got, want, 100*(got-want)/want)
	if !(want > 0 && math.Abs(got-want) <= want*0.05) {
		ts.Fatalf("from %s to %s is %.0f more, want %.0f", args[0], args[1], got, want)
	}
}
