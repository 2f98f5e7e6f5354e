package minibox

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func binary(t *testing.T) string {
	t.Helper()
	path, err := Build(t.Context()) // not Binary, which may find an older one
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryAppletHasItsLink(t *testing.T) {
	out, err := exec.Command(binary(t), "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	if listed := strings.Fields(string(out)); !slices.Equal(listed, applets) {
		t.Errorf("minibox --list says %v, the image links %v", listed, applets)
	}
}

func TestTheImageIsValidAndReproducible(t *testing.T) {
	path := binary(t)
	img, err := Image(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	again, err := Image(path)
	if err != nil {
		t.Fatal(err)
	}
	d1, err1 := img.Digest()
	d2, err2 := again.Digest()
	if d1 != d2 || err1 != nil || err2 != nil {
		t.Errorf("digests %v, %v; %v, %v", d1, d2, err1, err2)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]*tar.Header{}
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		entries[h.Name] = h
	}
	for name, mode := range map[string]int64{"tmp/": 0o1777, "root/": 0o700, "bin/minibox": 0o755, "etc/passwd": 0o644} {
		if h := entries[name]; h == nil || h.Mode != mode || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: %+v, want mode %o", name, h, mode)
		}
	}
	if h := entries["home/app/"]; h == nil || h.Uid != 1000 {
		t.Errorf("home/app: %+v", h)
	}
	if h := entries["bin/sh"]; h == nil || h.Linkname != "minibox" {
		t.Errorf("bin/sh: %+v", h)
	}
	config, err := img.ConfigFile()
	if err != nil || !slices.Equal(config.Config.Cmd, []string{"sh"}) || !strings.HasPrefix(config.Config.Env[0], "PATH=") {
		t.Errorf("config %+v, %v", config, err)
	}
}

func TestTheProgramIsSmallAndStatic(t *testing.T) {
	path := binary(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 6<<20 {
		t.Errorf("the program has %d bytes, more than 6 MiB", info.Size())
	}
}

func TestBinaryIsFoundBesideOrInPath(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "minibox")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got, err := Binary(t.Context()); got != fake || err != nil {
		t.Errorf("Binary() = %q, %v, want %q", got, err, fake)
	}
	t.Setenv("PATH", t.TempDir())
	if got, err := Binary(t.Context()); err == nil || !strings.Contains(err.Error(), "no go tool") {
		t.Errorf("Binary() without a go tool = %q, %v", got, err)
	}
}

func TestBinaryBuildsOnce(t *testing.T) {
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", strings.TrimSpace(string(goCache))) // it lies in the folder that moves
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	first, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, cache) {
		t.Errorf("built to %s, not below the cache folder", first)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(second)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !os.SameFile(before, after) {
		t.Error("the second call built again")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if _, err := Build(ctx); err == nil {
		t.Error("a build with an ended context succeeded")
	}
}

func BenchmarkTrue(b *testing.B) {
	path, err := Build(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := exec.Command(path, "true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
