//go:build linux

package clients_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sockerless/sockerless/conformance/host"
)

var dockerd = flag.Bool("dockerd", false, "hold compose's sessions to the dockerd in $PATH too; needs root")

// TestCompose runs the sessions of compose/testdata by docker compose, which is a plugin of the docker CLI, and those of
// compose/waiting, which end in a skip when they have seen that something is refused as it should.
func TestCompose(t *testing.T) {
	_, env := open(t)
	runSessions(t, env, "testdata", "waiting")
}

// TestComposeOnDockerd holds the sessions themselves to a dockerd.
func TestComposeOnDockerd(t *testing.T) {
	if !*dockerd {
		t.Skip("`make conformance` asks a dockerd too")
	}
	h, err := host.Dockerd(context.Background(), folder(t))
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no dockerd in PATH")
	} else if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, h)
	const image = "sockerless-conformance:1"
	if err := h.Import(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	runSessions(t, append(environment(t, h), "IMAGE="+image), "testdata")
}

// runSessions runs each session of these folders as one case, in a project of its own. Sessions may say, beside testscript's
// own commands, `eventually [!] COMMAND...`: it repeats a command until it succeeds, or fails.
func runSessions(t *testing.T, env []string, folders ...string) {
	plugin := buildCompose(t)
	var sessions []string
	for _, folder := range folders {
		found, err := filepath.Glob(filepath.Join("compose", folder, "*.txtar"))
		if err != nil || len(found) == 0 {
			t.Fatal("no sessions in ", folder, err)
		}
		sessions = append(sessions, found...)
	}
	for _, session := range sessions {
		testscript.RunT(counted{t}, testscript.Params{
			Files: []string{session},
			Setup: func(e *testscript.Env) error {
				config := filepath.Join(e.WorkDir, ".docker")
				plugins := filepath.Join(config, "cli-plugins")
				if err := os.MkdirAll(plugins, 0o700); err != nil {
					return err
				}
				e.Vars = append(append(e.Vars, env...), "HOME="+e.WorkDir, "DOCKER_CONFIG="+config, "COMPOSE_PROJECT_NAME="+strings.TrimSuffix(filepath.Base(session), ".txtar"))
				return os.Symlink(plugin, filepath.Join(plugins, "docker-compose"))
			},
			Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"eventually": eventually},
			Deadline:            time.Now().Add(clientTime),
			RequireExplicitExec: true,
		})
	}
}

// counted counts testscript's cases.
type counted struct{ *testing.T }

func (c counted) Run(name string, f func(testscript.T)) {
	check(c.T, name, func(t *testing.T) { f(counted{t}) })
}

// Skip counts a session that says `skip REASON`.
func (c counted) Skip(reason ...any) { wait(c.T, fmt.Sprint(reason...)) }

// Log shows what a session did if it fails.
func (c counted) Log(args ...any) {
	c.Cleanup(func() {
		if c.Failed() {
			c.T.Log(args...)
		}
	})
}

// Verbose says that a session which passes need not be shown.
func (c counted) Verbose() bool { return false }

// eventually [!] COMMAND ARGS... is told of in runSessions.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	fails := args[0] == "!"
	if fails {
		args = args[1:]
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if (err != nil) == fails {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never: %s (%v)", strings.Join(args, " "), err)
		}
	}
}

// buildCompose builds docker compose, whose version is that of compose/go.mod, and returns its path. It builds once for the
// versions that go.mod and go.sum name: it takes minutes where nothing is cached.
func buildCompose(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("compose", name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, fmt.Sprintf("docker-compose-%x", sum.Sum(nil)[:8]))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	const pkg = "github.com/docker/compose/v5/cmd"
	version, err := goTool(t, "compose", "list", "-m", "-f", "{{.Version}}", "github.com/docker/compose/v5")
	if err != nil {
		t.Fatal(err)
	}
	set := "-X github.com/docker/compose/v5/internal.Version=" + strings.TrimSpace(version)
	if _, err := goTool(t, "compose", "build", "-trimpath", "-ldflags", "-s -w "+set, "-o", path+".new", pkg); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// goTool runs the go command in a client's module and returns what it printed.
func goTool(t *testing.T, dir string, args ...string) (string, error) {
	cmd := command(t, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), dir, "go", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}
