package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

func TestMerge(t *testing.T) {
	image := func() *docker.Config {
		return &docker.Config{
			User: "app", Env: []string{"PATH=/image", "A=image"}, Cmd: []string{"serve"}, Entrypoint: []string{"/entry"},
			WorkingDir: "/srv", StopSignal: "SIGQUIT", Labels: map[string]string{"l": "image", "only": "image"},
			ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}},
			Volumes:      map[string]struct{}{"/data": {}},
			Healthcheck:  &docker.HealthConfig{Test: []string{"CMD", "check"}, Interval: time.Minute},
		}
	}
	for _, c := range []struct {
		name string
		user docker.Config
		want func(*docker.Config)
	}{
		{"nothing of one's own", docker.Config{}, func(*docker.Config) {}},
		{"a command keeps the entrypoint", docker.Config{Cmd: []string{"x"}}, func(c *docker.Config) { c.Cmd = []string{"x"} }},
		{"an entrypoint drops the command", docker.Config{Entrypoint: []string{"e"}}, func(c *docker.Config) {
			c.Entrypoint, c.Cmd = []string{"e"}, nil
		}},
		{"an empty entrypoint takes the image's away", docker.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, func(c *docker.Config) {
			c.Entrypoint, c.Cmd = nil, []string{"x"}
		}},
		{"environment by name", docker.Config{Env: []string{"A=mine", "B=mine"}}, func(c *docker.Config) {
			c.Env = []string{"A=mine", "B=mine", "PATH=/image"}
		}},
		{"labels, ports and volumes are added", docker.Config{
			Labels: map[string]string{"l": "mine"}, Volumes: map[string]struct{}{"/mine": {}},
			ExposedPorts: network.PortSet{network.MustParsePort("90/tcp"): {}},
		}, func(c *docker.Config) {
			c.Labels["l"] = "mine"
			c.Volumes["/mine"] = struct{}{}
			c.ExposedPorts[network.MustParsePort("90/tcp")] = struct{}{}
		}},
		{"what is set wins", docker.Config{User: "me", WorkingDir: "/w", StopSignal: "SIGINT"}, func(c *docker.Config) {
			c.User, c.WorkingDir, c.StopSignal = "me", "/w", "SIGINT"
		}},
		{"a healthcheck is filled in", docker.Config{Healthcheck: &docker.HealthConfig{Interval: time.Second}}, func(c *docker.Config) {
			c.Healthcheck.Interval = time.Second
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := image()
			c.want(want)
			got := c.user
			if err := merge(&got, image()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, &got, cmp.Comparer(func(a, b network.Port) bool { return a == b })); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if err := merge(&docker.Config{}, nil); sockerless.ErrorCode(err) != sockerless.EINVALID {
		t.Errorf("no command at all: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	config := &docker.Config{Hostname: "h", Env: []string{"A=1", "TERM=dumb", "HOSTNAME"}}
	same(t, environment(config, true), []string{"PATH=" + defaultPath, "TERM=dumb", "A=1"})
	same(t, override([]string{"A=1", "B=2"}, []string{"B", "C", "D=", "A=x=y"}), []string{"A=x=y", "D="})
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestMadeUpNames(t *testing.T) {
	e := &Engine{names: map[string]*container{}}
	for range 5000 { // more than there are pairs
		name, err := e.reserve("", &container{})
		if err != nil || !validName.MatchString(name) || !strings.Contains(name, "_") {
			t.Fatalf("%q, %v", name, err)
		}
	}
	same(t, len(e.names), 5000)
}

func TestDetachKeys(t *testing.T) {
	for _, c := range []struct {
		keys string
		want []byte
		bad  bool
	}{
		{keys: "", want: []byte{16, 17}}, {keys: "ctrl-a", want: []byte{1}}, {keys: "a,ctrl-@,DEL", want: []byte{'a', 0, 127}},
		{keys: "ctrl-[,ctrl-_", want: []byte{27, 31}}, {keys: "ctrl-A", bad: true}, {keys: "ab", bad: true}, {keys: ",", bad: true},
	} {
		got, err := detachKeys(c.keys, true)
		if (err != nil) != c.bad || !bytes.Equal(got, c.want) {
			t.Errorf("%q: %v, %v", c.keys, got, err)
		}
	}
	if got, err := detachKeys("ctrl-a", false); err != nil || got != nil {
		t.Errorf("without a terminal: %v, %v", got, err)
	}
}

func FuzzDetachKeys(f *testing.F) {
	f.Add("ctrl-p,ctrl-q")
	f.Add("ctrl-\\,DEL,x")
	f.Fuzz(func(t *testing.T, keys string) {
		got, err := detachKeys(keys, true)
		if err == nil && len(got) == 0 {
			t.Errorf("%q is no error and no keys", keys)
		}
	})
}

func TestPruneUntil(t *testing.T) {
	for v, want := range map[string]time.Time{
		"1700000000":            time.Unix(1700000000, 0),
		"1700000000.5":          time.Unix(1700000000, 5e8),
		"2023-01-02T03:04:05Z":  time.Date(2023, 1, 2, 3, 4, 5, 0, time.UTC),
		"2023-01-02":            time.Date(2023, 1, 2, 0, 0, 0, 0, time.Local),
		"2023-01-02T03:04":      time.Date(2023, 1, 2, 3, 4, 0, 0, time.Local),
		"1700000000.1234567899": time.Unix(1700000000, 123456789),
	} {
		if got, err := pruneUntil([]string{v}); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", v, got, err)
		}
	}
	if got, err := pruneUntil([]string{"1h30m"}); err != nil || time.Since(got).Round(time.Minute) != 90*time.Minute {
		t.Errorf("1h30m: %v, %v", got, err)
	}
	for _, bad := range [][]string{{"x"}, {""}, {"1h", "2h"}, {"2023-13-01"}} {
		if _, err := pruneUntil(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzPruneUntil(f *testing.F) {
	f.Add("1h")
	f.Add("1700000000.5")
	f.Add("2023-01-02T03:04:05Z")
	f.Fuzz(func(t *testing.T, v string) {
		if at, err := pruneUntil([]string{v}); err == nil && at.IsZero() && !strings.HasPrefix(v, "0001") {
			t.Errorf("%q is no time and no error", v)
		}
	})
}

func TestSignals(t *testing.T) {
	for name, want := range map[string]string{"TERM": "SIGTERM", "sigkill": "SIGKILL", "15": "SIGTERM", "9": "SIGKILL", "SIGIO": "SIGIO", "USR1": "SIGUSR1"} {
		sig, err := parseSignal(name)
		if err != nil || sigName(sig) != want {
			t.Errorf("%s is %s, %v", name, sigName(sig), err)
		}
	}
	for _, bad := range []string{"", "NOPE", "0", "65", "-1", "9.5"} {
		if _, err := parseSignal(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	c := &sockerless.Container{
		Config: &docker.Config{
			Env: []string{"a"}, Labels: map[string]string{"a": "1"}, Healthcheck: &docker.HealthConfig{Test: []string{"x"}},
			ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}},
		},
		HostConfig: &docker.HostConfig{
			PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "8080"}}},
			DNS:          []netip.Addr{netip.MustParseAddr("::1")}, Resources: docker.Resources{Ulimits: []*docker.Ulimit{{Name: "nofile"}}},
		},
		State: sockerless.State{StartedAt: time.Now()}, Raw: []byte("{}"),
	}
	compare := cmp.Options{
		cmp.Comparer(func(a, b network.Port) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
	before, after := clone(c), clone(c)
	if diff := cmp.Diff(c, after, compare); diff != "" {
		t.Fatalf("want -, got +:\n%s", diff)
	}
	after.Config.Env[0], after.Config.Labels["a"], after.Config.Healthcheck.Test[0] = "b", "2", "y"
	after.HostConfig.PortBindings[network.MustParsePort("80/tcp")][0].HostPort = "9090"
	after.HostConfig.Ulimits[0].Name, after.Raw[0] = "core", '['
	if diff := cmp.Diff(before, c, compare); diff != "" {
		t.Errorf("the copy shares memory; want -, got +:\n%s", diff)
	}
}

func TestKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadKey(dir)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the key has changed: %v", err)
	}
	st, err := os.Stat(filepath.Join(dir, "key"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	a, _ := first.Secret("a")
	b, _ := first.Secret("b")
	more, _ := again.Secret("a")
	if len(a) != 32 || bytes.Equal(a, b) || !bytes.Equal(a, more) {
		t.Error("secrets are not one of their own for each run")
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(dir); err == nil {
		t.Error("a cut key is taken")
	}
}

// BenchmarkList lists 1,000 containers.
func BenchmarkList(b *testing.B) {
	e := &Engine{containers: map[string]*container{}}
	for i := range 1000 {
		rec := record{
			ID: fmt.Sprintf("%064d", i), Name: fmt.Sprintf("c%d", i), Created: time.Unix(int64(i), 0), Raw: make([]byte, 3000),
			Config:     &docker.Config{Env: []string{"PATH=/bin", "A=b"}, Cmd: []string{"sleep", "600"}, Labels: map[string]string{"a": "b"}},
			HostConfig: &docker.HostConfig{Binds: []string{"a:b"}},
			State:      sockerless.State{Status: docker.StateExited},
		}
		e.containers[rec.ID] = newContainer(e, rec, "1")
	}
	for b.Loop() {
		n := 0
		for _, err := range (containerService{e}).List(b.Context(), sockerless.ListOptions{All: true}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}

func TestLogAttributes(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		name    string
		driver  string
		options map[string]string
		want    map[string]string
		code    sockerless.Code
	}{
		{name: "none are asked for", options: map[string]string{"max-size": "1m"}},
		{name: "by name", options: map[string]string{"labels": "a,nosuch", "env": "E1,"}, want: map[string]string{"a": "1", "E1": "v1=x"}},
		{name: "by pattern", options: map[string]string{"labels-regex": "^z", "env-regex": "E."}, want: map[string]string{"zz": "9", "E1": "v1=x", "E2": ""}},
		{name: "a variable wins over a label", options: map[string]string{"labels": "both", "env": "both"}, want: map[string]string{"both": "env"}},
		{name: "a tag", options: map[string]string{"tag": "{{.ID}} {{ .FullID }} {{.Name}} {{.ImageID}} {{.ImageFullID}} {{.ImageName}} {{.DaemonName}} {{.Command}} }{"},
			want: map[string]string{"tag": id[:12] + " " + id + " web sha256:abcde sha256:abcdef alpine:3 docker sh -c true }{"}},
		{name: "local has none", driver: "local", options: map[string]string{"labels": "a"}},
		{name: "a bad pattern", options: map[string]string{"env-regex": "("}, code: sockerless.EINVALID},
		{name: "a template that loops", options: map[string]string{"tag": "{{range 1000000000}}{{end}}"}, code: sockerless.EUNSUPPORTED},
		{name: "a mark without its end", options: map[string]string{"tag": "{{.ID}} {{.Name"}, code: sockerless.EUNSUPPORTED},
	} {
		rec := &record{
			ID: id, Name: "web", Image: "sha256:abcdef",
			Config: &docker.Config{
				Image: "alpine:3", Labels: map[string]string{"a": "1", "zz": "9", "both": "label"}, Env: []string{"E1=v1=x", "E2=", "odd", "both=env"},
				Entrypoint: []string{"sh", "-c"}, Cmd: []string{"true"},
			},
			HostConfig: &docker.HostConfig{LogConfig: docker.LogConfig{Type: c.driver, Config: c.options}},
		}
		got, err := logAttributes(rec)
		if diff := cmp.Diff(c.want, got); diff != "" || sockerless.ErrorCode(err) != c.code {
			t.Errorf("%s: %v %s", c.name, err, diff)
		}
	}
}

// TestIdleExecsAreBounded: those that are never started. The oldest of a container go; what was started stays.
func TestIdleExecsAreBounded(t *testing.T) {
	table := newExecTable()
	one, other := &container{id: "one"}, &container{id: "other"}
	for _, c := range []*container{one, other} {
		c.view.Store(&sockerless.Container{State: sockerless.State{Status: docker.StateRunning}})
	}
	add := func(c *container, id string, started bool) {
		table.add(&execution{id: id, c: c, started: started, made: time.Now()})
	}
	add(one, "started", true)
	add(other, "another's", false)
	for i := range 10 * execsIdle {
		add(one, fmt.Sprint(i), false)
	}
	if _, err := table.find("0"); sockerless.ErrorCode(err) != sockerless.ENOTFOUND {
		t.Errorf("the oldest: %v", err)
	}
	for _, id := range []string{"started", "another's", fmt.Sprint(10*execsIdle - 1), fmt.Sprint(10*execsIdle - execsIdle/2)} {
		if _, err := table.find(id); err != nil {
			t.Error(err)
		}
	}
	same(t, len(table.byID) <= execsIdle+2, true)
	same(t, len(table.idle[one]) <= execsIdle, true)
	table.drop("one")
	same(t, len(table.byID), 1)
	same(t, len(table.idle), 1)
}

// A clock that is set back between two backends does not delay a restart by more than its pause.
func TestUntilAgain(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name    string
		again   time.Duration // from now
		backoff time.Duration
		want    time.Duration
	}{
		{"it has just been decided", 2 * time.Second, 2 * time.Second, 2 * time.Second},
		{"some of it has passed", time.Second, 2 * time.Second, time.Second},
		{"all of it has", -time.Hour, 2 * time.Second, 0},
		{"the clock was set back", 3 * time.Hour, 2 * time.Second, 2 * time.Second},
		{"at once", 0, 0, 0},
	} {
		rec := record{Again: now.Add(c.again), Backoff: c.backoff}
		if got := rec.untilAgain(now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
