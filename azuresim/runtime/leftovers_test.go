//go:build linux

package runtime

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/azuresim"
)

// usage counts what a runtime could leak in this process and on this machine.
type usage struct{ goroutines, files, children, mounts, groups, states, folders int }

func measure(t testing.TB, rt *Runtime) usage {
	t.Helper()
	carrier.CloseIdleConnections()
	list := func(pattern string) int {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	u := usage{goroutines: goruntime.NumGoroutine(), files: list("/proc/self/fd/*"), states: list(rt.dir.runc + "/*"), folders: list(rt.dir.replicas + "/*")}
	u.groups = len(groups(rt))
	err := rt.mounts.run("/", func() error {
		data, err := os.ReadFile("/proc/thread-self/mounts")
		u.mounts = strings.Count(string(data), "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		u.children += len(strings.Fields(string(data)))
	}
	return u
}

func groups(rt *Runtime) (all []string) {
	for _, m := range rt.cgroups.mounts {
		found, _ := filepath.Glob(filepath.Join(m, rt.cgroups.prefix+"*"))
		all = append(all, found...)
	}
	return all
}

func TestManyReplicasLeaveNothing(t *testing.T) {
	rt := need(t)
	total := 240
	if testing.Short() {
		total = 40
	}
	round := func(count int) {
		work := make(chan int, count) // so that a worker that fails leaves nobody waiting
		var workers sync.WaitGroup
		for range 8 {
			workers.Go(func() {
				for i := range work {
					switch i % 6 {
					case 0: // a bad command
						o := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Command: []string{"/nosuch"}}}})
						until(t, "a failure", func() bool { return strings.Contains(o.eventText(), "ContainerCreateFailure") })
						o.Stop(0)
						<-o.Replica.(*replica).swept
					case 1: // stopped
						o := launch(t, rt, sh("sleep 60"))
						time.Sleep(time.Duration(i) * time.Millisecond)
						o.Stop(0)
						<-o.Replica.(*replica).swept
					default:
						spec := sh(fmt.Sprintf("echo %d; cat /data/x; exit %d", i, i%256))
						spec.EmptyDirs = []string{"data"}
						data := []azuresim.Mount{{Volume: "data", Path: "/data"}}
						spec.Containers[0].Mounts = data
						spec.Init = []azuresim.ContainerSpec{{Name: "init", Command: []string{"sh", "-c", "echo init > /data/x"}, Mounts: data}}
						o := launch(t, rt, spec)
						result := o.wait(t)
						if len(result.Containers) != 2 || result.Containers[1].ExitCode != i%256 {
							t.Errorf("replica %d: result %+v\n%s", i, result, o.eventText())
						}
						if got, want := o.text("main/stdout"), fmt.Sprintf("%d\ninit", i); got != want {
							t.Errorf("replica %d: stdout %q, want %q", i, got, want)
						}
						<-o.Replica.(*replica).swept
					}
				}
			})
		}
		for i := range count {
			work <- i
		}
		close(work)
		workers.Wait()
	}
	round(24) // pools and caches fill
	before := measure(t, rt)
	start := time.Now()
	round(total)
	t.Logf("%d replicas in %v", total, time.Since(start))
	var after usage
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		after = measure(t, rt)
		// Some goroutines and descriptors come and go with timers and idle connections to the registry.
		if after.goroutines <= before.goroutines+5 && after.files <= before.files+5 && after.children <= before.children &&
			after.mounts <= before.mounts && after.groups <= before.groups && after.states <= before.states && after.folders <= before.folders {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("before %+v, after %+v; control groups %v", before, after, groups(rt))
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	need(t)
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	own := carrier.Clone()
	defer own.CloseIdleConnections()
	rt, err := New(Options{Dir: dir, RetryPause: time.Hour, Transport: own, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	running := launch(t, rt, sh("echo up; sleep 100"))
	failing := launch(t, rt, azuresim.ReplicaSpec{Containers: []azuresim.ContainerSpec{{Image: host + "/nosuch"}}})
	until(t, "the container", func() bool { return running.text("main/stdout") == "up" })
	until(t, "the failure", func() bool { return strings.Contains(failing.eventText(), "ImagePullFailure") })
	if _, err := New(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another simulator") {
		t.Errorf("a second runtime on the folder: %v", err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	for _, o := range []*observed{running, failing} {
		select {
		case <-o.Done():
		default:
			t.Error("a replica is not done after Close")
		}
	}
	if _, err := rt.Start(t.Context(), sh("true")); err == nil {
		t.Error("Start after Close succeeded")
	}
	if err := rt.Close(); err != nil {
		t.Error("second Close:", err)
	}
	own.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

// mark is an argument of the victim's containers that no other test's have.
var mark = strconv.Itoa(1_000_000 + os.Getpid())

// victim is a simulator of its own process, which TestAKilledSimulatorLeavesNothing kills.
func victim(dir string) {
	host, mark = os.Getenv("AZURESIM_TEST_REGISTRY"), os.Getenv("AZURESIM_TEST_MARK")
	rt, err := New(Options{Dir: dir})
	if err == nil {
		for i := range 3 {
			_, err = rt.Start(context.Background(), azuresim.ReplicaSpec{
				Name: fmt.Sprintf("victim-%d", i), EmptyDirs: []string{"data"},
				Containers: []azuresim.ContainerSpec{{Name: "main", Image: box(), Command: []string{"sh", "-c", "echo up; exec sleep " + mark}, Mounts: []azuresim.Mount{{Volume: "data", Path: "/data"}}}},
				Output:     func(_, _ string, line []byte) { fmt.Println(string(line)) },
			})
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

// startVictim returns when its three containers run.
func startVictim(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AZURESIM_TEST_VICTIM="+dir, "AZURESIM_TEST_REGISTRY="+host, "AZURESIM_TEST_MARK="+mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // again, for a test that failed before it did
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() || lines.Text() != "up" {
			t.Fatalf("the victim says %q, %v", lines.Text(), lines.Err())
		}
	}
	until(t, "the containers", func() bool { return len(processes(t, mark)) == 3 })
	return cmd
}

func TestAKilledSimulatorLeavesNothing(t *testing.T) {
	need(t)
	dir := t.TempDir()
	cmd := startVictim(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()

	// The guard ends the containers without anybody's help ...
	until(t, "the end of the containers", func() bool { return len(processes(t, mark)) == 0 })
	// ... and the next New takes the folder and clears it.
	rt, err := New(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if u := measure(t, rt); u.groups+u.states+u.folders != 0 {
		t.Errorf("left behind: %+v", u)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("mounts of the data folder are left: %v", err)
	}
	o := launch(t, rt, sh("echo again"))
	one(t, o.wait(t))
}

func TestNewEndsWhatASimulatorAndItsGuardLeft(t *testing.T) {
	need(t)
	dir := t.TempDir()
	cmd := startVictim(t, dir)
	guards := 0
	for _, pid := range processes(t, "azuresim-guard") {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, after, _ := strings.Cut(string(stat), ") ") // its state and its parent
		if fields := strings.Fields(after); len(fields) < 2 || fields[1] != strconv.Itoa(cmd.Process.Pid) {
			continue // of another runtime
		}
		guard, err := os.FindProcess(pid)
		if err == nil {
			err = guard.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		guards++
	}
	if guards != 1 {
		t.Fatalf("found %d guards of the victim", guards)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if n := len(processes(t, mark)); n != 3 {
		t.Errorf("%d containers run on without simulator and guard: this test needs 3", n)
	}
	rt, err := New(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if n := len(processes(t, mark)); n != 0 {
		t.Errorf("%d containers run on", n)
	}
	if u := measure(t, rt); u.groups+u.states+u.folders != 0 {
		t.Errorf("left behind: %+v", u)
	}
}

// processes finds living processes by an argument.
func processes(t testing.TB, arg string) []int {
	t.Helper()
	dirs, err := fs.Glob(os.DirFS("/proc"), "[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, d := range dirs {
		line, err := os.ReadFile("/proc/" + d + "/cmdline")
		if err != nil {
			continue
		}
		for _, a := range strings.Split(string(line), "\x00") {
			if a == arg {
				pid, _ := strconv.Atoi(d)
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
