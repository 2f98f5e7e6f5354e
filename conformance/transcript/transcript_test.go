//go:build linux

package transcript_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/sockerless/sockerless/conformance/host"
	"github.com/sockerless/sockerless/conformance/transcript"
)

var (
	dockerd = flag.Bool("dockerd", false, "hold the recorded answers to the dockerd in $PATH; needs root")
	update  = flag.Bool("update", false, "with -dockerd: record the answers anew")
)

// TestSockerless holds our whole stack, on the simulator, to what dockerd answered.
func TestSockerless(t *testing.T) {
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.Sockerless(context.Background(), bin, folder(t), "-sim-calm")
	if err != nil {
		t.Fatal(err)
	}
	used := make([]bool, len(transcript.Known))
	play(t, h, func(t *testing.T, s transcript.Script, ours []transcript.Answer) {
		docker := recorded(t, s)
		if len(docker) != len(ours) {
			t.Fatalf("%d answers are recorded of %d calls: go test ./conformance/transcript -dockerd -update", len(docker), len(ours))
		}
		for _, d := range transcript.Compare(s.Name, docker, ours) {
			explained := false
			for i, e := range transcript.Known {
				if e.Covers(d) {
					used[i], explained = true, true
					break
				}
			}
			if !explained {
				t.Error(d)
			}
		}
	})
	if t.Failed() {
		return
	}
	for i, e := range transcript.Known {
		if !used[i] {
			t.Errorf("explained and not there (any more, or explained before): %s: %s %s: %s", e.Calls, e.At, e.Ours, e.Why)
		}
	}
}

// TestDockerd holds the recorded answers to a dockerd.
func TestDockerd(t *testing.T) {
	if !*dockerd {
		t.Skip("`make conformance` asks a dockerd")
	}
	h, err := host.Dockerd(context.Background(), folder(t))
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no dockerd in PATH")
	} else if err != nil {
		t.Fatal(err)
	}
	v, err := h.Client.ServerVersion(context.Background(), client.ServerVersionOptions{})
	if err != nil || !strings.HasPrefix(v.Version, transcript.Engine) {
		if err := errors.Join(err, h.Stop()); err != nil {
			t.Fatal(err)
		}
		t.Skipf("the answers are those of %s, and the dockerd in PATH is %s", transcript.Engine, v.Version)
	}
	play(t, h, func(t *testing.T, s transcript.Script, answers []transcript.Answer) {
		if *update {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", " ")
			if err := enc.Encode(answers); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(answersOf(s), buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		if diff := cmp.Diff(recorded(t, s), decoded(t, answers)); diff != "" {
			t.Errorf("(- recorded, + got):\n%s", diff)
		}
	})
}

// play holds every conversation with h, and ends it.
func play(t *testing.T, h *host.Host, check func(*testing.T, transcript.Script, []transcript.Answer)) {
	defer func() {
		if t.Failed() {
			t.Log(h.Log())
		}
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := h.Import(context.Background(), transcript.ImageName); err != nil {
		t.Fatal(err)
	}
	scripts, err := transcript.Scripts()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		t.Run(s.Name, func(t *testing.T) {
			answers, err := transcript.Play(t.Context(), h, s)
			if err != nil {
				t.Fatal(err)
			}
			check(t, s, answers)
		})
	}
}

func answersOf(s transcript.Script) string { return filepath.Join("answers", s.Name+".json") }

func recorded(t *testing.T, s transcript.Script) []transcript.Answer {
	t.Helper()
	b, err := os.ReadFile(answersOf(s))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b)
}

// decoded is what would be read if answers had been recorded.
func decoded(t *testing.T, answers []transcript.Answer) []transcript.Answer {
	t.Helper()
	b, err := json.Marshal(answers)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, b)
}

func decode(t *testing.T, b []byte) (answers []transcript.Answer) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&answers); err != nil {
		t.Fatal(err)
	}
	return answers
}

// folder is a new one with a short name: the path of a unix socket has 107 bytes at most.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "trans")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
