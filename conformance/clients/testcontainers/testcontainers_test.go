// Package testcontainers_test uses testcontainers-go as its users do: nothing here knows Sockerless but the words of what
// it refuses.
package testcontainers_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

var image = os.Getenv("IMAGE")

// run runs a container of the image, which ends with the test.
func run(t *testing.T, opts ...testcontainers.ContainerCustomizer) *testcontainers.DockerContainer {
	t.Helper()
	c, err := testcontainers.Run(t.Context(), image, opts...)
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sleeping is a command that says that it is there, and stays.
func sleeping(more ...string) testcontainers.CustomizeRequestOption {
	return testcontainers.WithCmd("sh", "-c", strings.Join(append(more, "echo it is ready", "exec sleep 100000"), "; "))
}

var ready = testcontainers.WithWaitStrategy(wait.ForLog("it is ready"))

// refused skips a test that waits for what the host refuses in these words. With any other end the test fails: what is
// not refused any more has to be proved.
func refused(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Fatalf("it was not refused with %q: %v", words, err)
	}
	t.Skip(words)
}

func output(t *testing.T, c testcontainers.Container, argv ...string) string {
	t.Helper()
	code, out, err := c.Exec(t.Context(), argv, tcexec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", argv, code, text)
	}
	return string(text)
}

func TestGenericContainerWithPublishedPort(t *testing.T) {
	c, err := testcontainers.Run(t.Context(), image, sleeping(), testcontainers.WithExposedPorts("8080/tcp"), ready)
	testcontainers.CleanupContainer(t, c)
	refused(t, err, "cannot use --publish: ports are not published to the client's machine")
}

func TestLogWait(t *testing.T) {
	c := run(t, sleeping("sleep 1"), ready)
	if !c.IsRunning() {
		t.Error("it does not run")
	}
	state, err := c.State(t.Context())
	if err != nil || state.Status != container.StateRunning || !state.Running {
		t.Errorf("%+v, %v", state, err)
	}
	r, err := c.Logs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); string(text) != "it is ready\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOtherWaits(t *testing.T) {
	for name, strategy := range map[string]wait.Strategy{
		"log that comes twice": wait.ForLog("again").WithOccurrence(2),
		"log by expression":    wait.ForLog("(?m)^it is .*y$").AsRegexp(),
		"exec":                 wait.ForExec([]string{"test", "-e", "/tmp/there"}),
		"exec with an answer":  wait.ForExec([]string{"cat", "/tmp/there"}).WithResponseMatcher(func(r io.Reader) bool { b, _ := io.ReadAll(r); return bytes.Contains(b, []byte("content")) }),
		"file":                 wait.ForFile("/tmp/there"),
		"all of them":          wait.ForAll(wait.ForLog("it is ready"), wait.ForFile("/tmp/there")),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, sleeping("echo again", "sleep 1", "echo again", "echo content >/tmp/there"), testcontainers.WithWaitStrategy(strategy))
		})
	}
	t.Run("health", func(t *testing.T) {
		health := testcontainers.WithConfigModifier(func(c *container.Config) {
			c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "test -e /tmp/there"}, Interval: 200 * time.Millisecond, Retries: 1000}
		})
		run(t, sleeping("sleep 1", "touch /tmp/there"), health, testcontainers.WithWaitStrategy(wait.ForHealthCheck()))
	})
	t.Run("exit", func(t *testing.T) {
		c := run(t, testcontainers.WithCmd("sh", "-c", "exit 3"), testcontainers.WithWaitStrategy(wait.ForExit()))
		if state, err := c.State(t.Context()); err != nil || state.ExitCode != 3 || state.Running {
			t.Errorf("%+v, %v", state, err)
		}
	})
	t.Run("a log that the container ends without", func(t *testing.T) {
		c, err := testcontainers.Run(t.Context(), image, testcontainers.WithCmd("sh", "-c", "exit 7"), ready)
		testcontainers.CleanupContainer(t, c)
		if err == nil || !strings.Contains(err.Error(), "code 7") {
			t.Errorf("%v", err)
		}
	})
}

func TestExec(t *testing.T) {
	c := run(t, sleeping(), ready)
	code, r, err := c.Exec(t.Context(), []string{"sh", "-c", "echo out; echo problem >&2; pwd; echo $COLOR; id -u; exit 5"},
		tcexec.WithWorkingDir("/tmp"), tcexec.WithEnv([]string{"COLOR=blue"}), tcexec.WithUser("root"), tcexec.Multiplexed())
	if err != nil || code != 5 {
		t.Fatal(code, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	slices.Sort(lines)
	if got := strings.Join(lines, " "); got != "/tmp 0 blue out problem" {
		t.Errorf("%q", text)
	}
	if code, _, err := c.Exec(t.Context(), []string{"no-such-program"}); err == nil && code != 126 && code != 127 {
		t.Errorf("no such program: %d, %v", code, err)
	}
}

func TestCopyBeforeStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "inside"), []byte("of a folder\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := run(t,
		testcontainers.WithFiles(
			testcontainers.ContainerFile{Reader: strings.NewReader("echo it is ready; cat /etc/made/by/us; exec sleep 100000\n"), ContainerFilePath: "/start.sh", FileMode: 0o755},
			testcontainers.ContainerFile{Reader: strings.NewReader("content\n"), ContainerFilePath: "/etc/made/by/us", FileMode: 0o640},
			testcontainers.ContainerFile{HostFilePath: dir, ContainerFilePath: "/tmp/folder", FileMode: 0o644},
		),
		testcontainers.WithCmd("sh", "/start.sh"),
		testcontainers.WithWaitStrategy(wait.ForLog("content")))
	if got := strings.Fields(output(t, c, "ls", "-ln", "/start.sh", "/etc/made/by/us")); len(got) != 18 || got[0] != "-rw-r-----" || got[2] != "0" || got[9] != "-rwxr-xr-x" {
		t.Errorf("%q", got)
	}
	if got := output(t, c, "sh", "-c", "cat /tmp/*/inside"); got != "of a folder\n" {
		t.Errorf("%q", got)
	}
}

func TestCopyAfterStart(t *testing.T) {
	c := run(t, sleeping(), ready)
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	if err := c.CopyToContainer(t.Context(), content, "/tmp/new/file", 0o600); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(output(t, c, "ls", "-ln", "/tmp/new/file")); len(got) != 9 || got[0] != "-rw-------" || got[4] != "1048576" {
		t.Errorf("%q", got)
	}
	r, err := c.CopyFileFromContainer(t.Context(), "/tmp/new/file")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "one")
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.CopyFileToContainer(t.Context(), path, "/tmp/one", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.CopyDirToContainer(t.Context(), dir, "/tmp/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	if got := output(t, c, "cat", "/tmp/one", "/tmp/dir/one"); got != "1\n1\n" {
		t.Errorf("%q", got)
	}
	if _, err := c.CopyFileFromContainer(t.Context(), "/no/such"); err == nil {
		t.Error("/no/such was copied")
	}
}

func TestStopAndStart(t *testing.T) {
	c := run(t, sleeping("test ! -e /kept || echo kept"), ready)
	output(t, c, "touch", "/kept")
	grace := time.Second
	if err := c.Stop(t.Context(), &grace); err != nil {
		t.Fatal(err)
	}
	if state, err := c.State(t.Context()); err != nil || state.Status != container.StateExited {
		t.Errorf("%+v, %v", state, err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	output(t, c, "test", "-e", "/kept")
}

// consumer keeps what it is given.
type consumer struct {
	mu  sync.Mutex
	got []string
}

func (c *consumer) Accept(l testcontainers.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, l.LogType+" "+string(l.Content))
}

func (c *consumer) has(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.got, line)
}

func TestLogConsumer(t *testing.T) {
	var lines consumer
	run(t, sleeping("echo problem >&2"), testcontainers.WithLogConsumers(&lines), ready)
	for deadline := time.Now().Add(time.Minute); !lines.has("STDERR problem\n") || !lines.has("STDOUT it is ready\n"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q", lines.got)
		}
	}
}

func TestHooksAndCommands(t *testing.T) {
	var order []string
	note := func(what string) testcontainers.ContainerHook {
		return func(context.Context, testcontainers.Container) error { order = append(order, what); return nil }
	}
	c, err := testcontainers.Run(t.Context(), image, sleeping(), ready,
		testcontainers.WithAdditionalLifecycleHooks(testcontainers.ContainerLifecycleHooks{
			PostCreates: []testcontainers.ContainerHook{note("created")}, PostStarts: []testcontainers.ContainerHook{note("started")},
			PostReadies: []testcontainers.ContainerHook{note("ready")}, PostTerminates: []testcontainers.ContainerHook{note("terminated")},
		}),
		testcontainers.WithAfterReadyCommand(testcontainers.NewRawCommand([]string{"touch", "/tmp/after"})))
	testcontainers.CleanupContainer(t, c)
	if err != nil {
		t.Fatal(err)
	}
	output(t, c, "test", "-e", "/tmp/after")
	if err := c.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "created started ready terminated" {
		t.Error(got)
	}
}

func TestNetworkAlias(t *testing.T) {
	nw, err := network.New(t.Context(), network.WithLabels(map[string]string{"of": "test"}))
	testcontainers.CleanupNetwork(t, nw)
	if err != nil {
		t.Fatal(err)
	}
	c := run(t, sleeping(), ready, network.WithNetwork([]string{"alias"}, nw))
	networks, err := c.Networks(t.Context())
	if err != nil || !slices.Equal(networks, []string{nw.Name}) {
		t.Errorf("%v, %v", networks, err)
	}
	aliases, err := c.NetworkAliases(t.Context())
	if err != nil || !slices.Contains(aliases[nw.Name], "alias") {
		t.Errorf("%v, %v", aliases, err)
	}
	if err := nw.Remove(t.Context()); err == nil {
		t.Error("a network that is in use was removed")
	}
}

func TestNamesBetweenContainers(t *testing.T) {
	nw, err := network.New(t.Context())
	testcontainers.CleanupNetwork(t, nw)
	if err != nil {
		t.Fatal(err)
	}
	run(t, sleeping(), ready, network.WithNetwork([]string{"server"}, nw))
	c := run(t, sleeping(), ready, network.WithNetwork([]string{"client"}, nw))
	if code, _, err := c.Exec(t.Context(), []string{"sh", "-c", "echo | nc server 1"}); err != nil || code == 0 {
		t.Errorf("%d, %v", code, err)
	}
	ip, err := c.ContainerIP(t.Context())
	if err != nil || ip != "" {
		t.Fatalf("%q, %v: containers have addresses, so names between them are to be proved", ip, err)
	}
	t.Skip("networks carry nothing between containers yet: inspect shows no address")
}

func TestLabels(t *testing.T) {
	labels := map[string]string{"com.example.Some-Label": "a value = with, all\nof it", "empty": ""}
	c := run(t, sleeping(), ready, testcontainers.WithLabels(labels))
	info, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range labels {
		if got, ok := info.Config.Labels[k]; !ok || got != v {
			t.Errorf("%s: %q", k, got)
		}
	}
	if info.Config.Labels["org.testcontainers.sessionId"] != testcontainers.SessionID() || info.Config.Labels["org.testcontainers"] != "true" {
		t.Errorf("%v", info.Config.Labels)
	}
}

func TestReuse(t *testing.T) {
	first := run(t, sleeping(), ready, testcontainers.WithReuseByName("reused"))
	second := run(t, sleeping(), ready, testcontainers.WithReuseByName("reused"))
	if first.GetContainerID() != second.GetContainerID() {
		t.Errorf("%s is not %s", first.GetContainerID(), second.GetContainerID())
	}
}

func TestNoSuchImage(t *testing.T) {
	c, err := testcontainers.Run(t.Context(), os.Getenv("REGISTRY")+"/nosuch:1", sleeping())
	testcontainers.CleanupContainer(t, c)
	if err == nil {
		t.Error("it runs")
	}
}

func TestTerminate(t *testing.T) {
	c := run(t, sleeping(), ready)
	if err := c.Terminate(t.Context(), testcontainers.StopTimeout(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inspect(t.Context()); err == nil {
		t.Error("it is still there")
	}
}

func TestParallel(t *testing.T) {
	for i := range 4 {
		t.Run(string(rune('a'+i)), func(t *testing.T) {
			t.Parallel()
			run(t, sleeping(), ready)
		})
	}
}

func TestMounts(t *testing.T) {
	c, err := testcontainers.Run(t.Context(), image, sleeping(), ready, testcontainers.WithMounts(testcontainers.VolumeMount("data", "/data")))
	testcontainers.CleanupContainer(t, c)
	refused(t, err, "volumes and mounts are not offered")
}
