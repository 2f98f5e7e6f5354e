package minibox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Binary finds the program for Image: `minibox` beside the running program, then in $PATH, else built from its sources with
// the go tool where both are on this machine, once a state of the sources, into the user's cache folder. The error says
// what to do when none of these work.
func Binary(ctx context.Context) (string, error) {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), "minibox"); executable(path) {
			return path, nil
		}
	}
	if path, err := exec.LookPath("minibox"); err == nil {
		return path, nil
	}
	path, err := Build(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot find the minibox program beside this one or in $PATH, and cannot build it: %w (make build puts it into bin/)", err)
	}
	return path, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Build compiles the program from its sources, which must be where they were when this package was compiled, unless the
// user's cache folder has it for this state of them.
func Build(ctx context.Context) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "cmd", "minibox", "main.go")); !filepath.IsAbs(dir) || err != nil {
		return "", errors.New("its sources are not on this machine")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", errors.New("there is no go tool in $PATH")
	}
	sum, err := sourceSum(dir)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil { // no $HOME, as under some init systems
		cache = filepath.Join(os.TempDir(), fmt.Sprintf("sockerless-cache-%d", os.Getuid()))
	}
	cache = filepath.Join(cache, "sockerless", "minibox")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(cache, sum[:16], "minibox")
	if executable(path) {
		return path, nil
	}
	tmp, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // gone already after the rename
	out := filepath.Join(tmp, "minibox")
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, "./cmd/minibox")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=")
	cmd.WaitDelay = 5 * time.Second
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, strings.TrimSpace(string(text)))
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, filepath.Dir(path)); err != nil && !executable(path) { // another builder may have been first
		return "", err
	}
	return path, nil
}

// sourceSum is a hash over everything that decides the program's bytes: its sources, the module's versions, the compiler.
func sourceSum(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOARCH)
	var names []string
	for _, sub := range []string{"applet", "cmd/minibox"} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	for root := dir; ; root = filepath.Dir(root) {
		if mod := filepath.Join(root, "go.mod"); fileExists(mod) {
			names = append(names, mod)
			break
		}
		if root == filepath.Dir(root) {
			return "", errors.New("no go.mod above its sources")
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(name))
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
