package programs_test

import (
	"archive/tar"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/sockerless/sockerless/backends/aca/programs"
)

// build puts the smallest program there is into a folder, under the names of both of ours.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, programs.Agent), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, programs.Agent))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, programs.Backend), append(program, 0), 0o700); err != nil { // another file
		t.Fatal(err)
	}
	return dir
}

// contents lists what an image's layers hold, in order.
func contents(t *testing.T, image v1.Image) (all []string) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		files := tar.NewReader(r)
		for {
			h, err := files.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
				t.Errorf("%s is of %v", h.Name, h.ModTime)
			}
			all = append(all, fmt.Sprintf("%s %o %d", h.Name, h.Mode, h.Uid))
		}
	}
	return all
}

func TestLayout(t *testing.T) {
	from, dir := build(t), filepath.Join(t.TempDir(), "images")
	var digests [2][]string
	for i := range digests { // the second time over the first
		if err := programs.WriteLayout(dir, from); err != nil {
			t.Fatal(err)
		}
		images, err := programs.ReadLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range images {
			if err := validate.Image(n.Image); err != nil {
				t.Errorf("%s: %v", n.Repository, err)
			}
			digest, err := n.Image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			digests[i] = append(digests[i], n.Repository+" "+digest.String())
		}
	}
	if d := cmp.Diff(digests[0], digests[1]); d != "" {
		t.Errorf("the same programs give other images (-first +second):\n%s", d)
	}
	images, err := programs.ReadLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		programs.AgentRepository: {"sockerless-agent 755 0"},
		programs.BackendRepository: {"sockerless-agent 755 0", "tmp/ 1777 0", "var/ 755 0", "var/lib/ 755 0",
			"var/lib/sockerless/ 700 65532", "sockerless-backend-aca 755 0"},
	}
	for _, n := range images {
		if d := cmp.Diff(want[n.Repository], contents(t, n.Image)); d != "" {
			t.Errorf("%s holds (-want +got):\n%s", n.Repository, d)
		}
		config, err := n.Image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.OS != "linux" || config.Architecture != "amd64" || len(config.Config.Entrypoint) != 1 || !config.Created.IsZero() {
			t.Errorf("%s has configuration %+v", n.Repository, config)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

func TestLayoutRefusals(t *testing.T) {
	there := t.TempDir()
	if err := os.WriteFile(filepath.Join(there, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	from := build(t)
	foreign := t.TempDir()
	for _, name := range []string{programs.Agent, programs.Backend} {
		program, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint16(program[18:], uint16(elf.EM_AARCH64)) // where an ELF file says whose machine it is for
		if err := os.WriteFile(filepath.Join(foreign, name), program, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ dir, from, problem string }{
		"of a folder with something else": {there, from, "something else is there"},
		"of a program for another system": {filepath.Join(t.TempDir(), "images"), foreign, "no program for linux/amd64"},
		"without programs":                {filepath.Join(t.TempDir(), "images"), t.TempDir(), programs.Agent},
	} {
		if err := programs.WriteLayout(c.dir, c.from); err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: error is %v, want %q", name, err, c.problem)
		}
	}
	if _, err := os.Stat(filepath.Join(there, "precious")); err != nil {
		t.Error(err)
	}
	if _, err := programs.ReadLayout(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "make images") {
		t.Errorf("no images: error is %v", err)
	}
}

// A program that asks for a loader finds none in its image.
func TestDynamicPrograms(t *testing.T) {
	program, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip("there is no /bin/sh here")
	}
	if _, err := programs.AgentImage(program); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") && !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("error is %v", err)
	}
}
