//go:build linux

package clients_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTestcontainers runs the tests of the module testcontainers, which use testcontainers-go. Its reaper's image is on no
// module proxy, so the library is told to do without; TestReaper is held to what a reaper needs.
func TestTestcontainers(t *testing.T) {
	_, env := open(t)
	settings, err := goTool(t, "testcontainers", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS")
	if err != nil {
		t.Fatal(err)
	}
	var vars map[string]string
	if err := json.Unmarshal([]byte(settings), &vars); err != nil {
		t.Fatal(err)
	}
	for k, v := range vars {
		env = append(env, k+"="+v)
	}
	env = append(env, "GOWORK=off", "TMPDIR="+os.TempDir(), "TESTCONTAINERS_RYUK_DISABLED=true")
	cmd := command(t, env, "testcontainers", "go", "test", "-json", "-count=1", "-timeout=8m", ".")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := runGoTest(t, out); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
}

var goTestPlace = regexp.MustCompile(`^ *\S+_test\.go:\d+: `)

// runGoTest reads what go test -json says, and makes a case of each test that has no subtests, and of each subtest.
func runGoTest(t *testing.T, r io.Reader) error {
	var (
		said    = map[string]string{} // by test
		parents = map[string]bool{}
		ended   int
		lines   = json.NewDecoder(r)
	)
	for {
		var e struct{ Action, Test, Output string }
		err := lines.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		switch e.Action {
		case "run":
			if i := strings.LastIndex(e.Test, "/"); i > 0 {
				parents[e.Test[:i]] = true
			}
		case "output":
			said[e.Test] += e.Output
		case "pass", "fail", "skip":
			if e.Test == "" || parents[e.Test] && e.Action != "fail" {
				continue
			}
			ended++
			check(t, strings.TrimPrefix(e.Test, "Test"), func(t *testing.T) {
				switch e.Action {
				case "fail":
					t.Fatal(said[e.Test])
				case "skip":
					for line := range strings.Lines(said[e.Test]) {
						if place := goTestPlace.FindString(line); place != "" {
							wait(t, strings.TrimSpace(strings.TrimPrefix(line, place)))
						}
					}
					t.Fatal("skipped without a reason")
				}
			})
		}
	}
	if ended == 0 {
		return errors.New("no test ran: " + said[""])
	}
	return nil
}
