//go:build linux

package conformance_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/conformance"
	"github.com/sockerless/sockerless/conformance/host"
)

var (
	update  = flag.Bool("update", false, "write docs/conformance.md")
	dockerd = flag.Bool("dockerd", false, "hold the table to the dockerd in $PATH too; needs root")
	other   = flag.String("host", "", "a DOCKER_HOST to ask, instead of ours")
	show    = flag.Bool("show", false, "print the answers, and hold them to nothing: for new cases")
)

// TestSockerless holds our whole stack, on the simulator, to the table.
func TestSockerless(t *testing.T) {
	if *other != "" {
		h, err := host.At(*other)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, h, conformance.Case.Docker)
		return
	}
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	h, err := host.Sockerless(context.Background(), bin, folder(t), "-sim-calm")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, h, conformance.Case.Sockerless)
}

// TestDockerd holds the table itself to a dockerd.
func TestDockerd(t *testing.T) {
	if !*dockerd {
		t.Skip("`make conformance` asks a dockerd too")
	}
	h, err := host.Dockerd(context.Background(), folder(t))
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no dockerd in PATH")
	} else if err != nil {
		t.Fatal(err)
	}
	ask(t, h, conformance.Case.Docker)
}

// folder is a new one with a short name: the path of a unix socket has 107 bytes at most.
func folder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "conf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// openTime is for a host that answers nothing.
const openTime = 5 * time.Minute

// ask asks h every case, and ends it.
func ask(t *testing.T, h *host.Host, want func(conformance.Case) conformance.Answer) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.Log())
		}
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	s, err := conformance.Open(ctx, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), openTime)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, c := range conformance.Cases() {
		t.Run(c.Group+"/"+c.Name, func(t *testing.T) {
			t.Parallel()
			got, err := s.Run(t.Context(), c)
			if *show {
				t.Logf("SHOW %s\t%s\t%q\t%q\t%d\t%v", c.Group, c.Name, got.Out, got.Err, got.Code, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want(c), got); diff != "" {
				t.Errorf("%s\n(- wanted, + got):\n%s", c.Script, diff)
			}
		})
	}
}

// TestTable wants a table that can be read: each case once, and a reason for each difference.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range conformance.Cases() {
		name := c.Group + "/" + c.Name
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if (c.Ours == nil) != (c.Why == "") {
			t.Errorf("%s: an answer of ours and a reason come together", name)
		}
		if c.Ours != nil && *c.Ours == c.Want {
			t.Errorf("%s: it does not differ", name)
		}
		if (c.Script == "") == (c.Ask == nil) {
			t.Errorf("%s: it is a script or asks the API", name)
		}
	}
}

// TestPage wants the page that the table makes.
func TestPage(t *testing.T) {
	page := filepath.Join("..", "docs", "conformance.md")
	want, err := conformance.Markdown()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Fatalf("%s is stale (go test ./conformance -run TestPage -update):\n%s", page, diff)
	}
}
