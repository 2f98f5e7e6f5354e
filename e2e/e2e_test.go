// Package e2e runs sessions of the real docker CLI against the real programs: the simulator, the backend and the
// frontend, each a process of its own. A session is a txtar script in testdata; what the commands mean beside
// testscript's own is in commands_test.go.
package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
)

// modes are the ways in which the programs find each other: agents dial the backend; it dials them; and as the first,
// with the frontend on another machine than the backend.
var modes = []string{"reverse", "forward", "apart"}

func TestSessions(t *testing.T) {
	bin := programs(t)
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal("there are no sessions ", err)
	}
	specs, err := schematest.Open()
	if err != nil {
		t.Logf("answers are not held to Docker's specification: %v", err)
	}
	soak := os.Getenv("SOCKERLESS_SOAK") != ""
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(script), ".txtar")
		for _, mode := range modes {
			// A script says in its head in which modes it runs, and whether it is for the soak only.
			head, _, _ := strings.Cut(string(text), "\n\n")
			switch {
			case mode == "forward" && !strings.Contains(head, "Both agent modes.") && !strings.Contains(head, "All modes."):
				continue
			case mode == "apart" && !strings.Contains(head, "All modes."):
				continue
			}
			t.Run(name+"/"+mode, func(t *testing.T) {
				t.Parallel() // sessions wait for a slow Azure most of the time; the Makefile says how many run at once
				if strings.Contains(head, "Soak only.") && !soak {
					t.Skip("takes minutes: make soak runs it")
				}
				m := &machine{bin: bin, mode: mode, specs: specs, taps: map[string]*schematest.Tap{}, report: func(err error) { t.Errorf("not as specified: %v", err) }}
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(m.logs())
					}
					m.remove()
				})
				testscript.Run(t, testscript.Params{
					Files:               []string{script},
					Setup:               m.setup,
					Cmds:                commands,
					Condition:           condition,
					RequireExplicitExec: true,
				})
			})
		}
	}
}

// programs returns the folder of the built programs, or ends the test.
func programs(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"azuresim", "sockerless-backend-aca", "sockerless-frontend-docker", "sockerless-agent", "minibox", "images"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			t.Fatalf("%v: run `make build images` first", err)
		}
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Fatalf("%v: run `make setup-test` first", err)
	}
	return bin
}
