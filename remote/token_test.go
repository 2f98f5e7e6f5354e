package remote_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/remote"
)

func TestDialRefusals(t *testing.T) {
	for addr, want := range map[string]string{
		"":                          "it must be unix:///path, http://host:port or https://host[:port]",
		"localhost:9100":            "it must be unix:///path",
		"tcp://localhost:9100":      "it must be unix:///path",
		"unix://":                   "it must be unix:///path",
		"unix://host/path":          "it must be unix:///path",
		"http://":                   "it must be unix:///path",
		"http://u:secret@h:1":       "it may hold no user, query or fragment",
		"http://localhost:1?token=": "it may hold no user, query or fragment",
		"http://[::1":               "missing ']' in host",
	} {
		c, err := remote.Dial(addr, remote.DialOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %s", addr, err, want)
		}
		if c != nil {
			c.Close()
		}
	}
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if _, err := remote.ReadToken(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	made, err := remote.CreateToken(path)
	if err != nil || made == (remote.Token{}) {
		t.Fatalf("%v, %v", made, err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, read := range []func(string) (remote.Token, error){remote.CreateToken, remote.ReadToken} {
		if again, err := read(path); err != nil || again != made {
			t.Errorf("%v, %v", again, err)
		}
	}
	for _, text := range []string{"", "x", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 128), strings.Repeat("z", 64)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func(string) (remote.Token, error){remote.CreateToken, remote.ReadToken} {
			if got, err := read(path); err == nil || got != (remote.Token{}) {
				t.Errorf("%q: %v, %v", text, got, err)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	for _, key := range []string{"SOCKERLESS_DATA_DIR", "XDG_STATE_HOME", "LocalAppData"} {
		t.Setenv(key, "")
	}
	want := func(want string) {
		t.Helper()
		if got, err := remote.DefaultDataDir(); err != nil || got != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
	want(filepath.Join(home, ".local", "state", "sockerless"))
	t.Setenv("XDG_STATE_HOME", "relative")
	want(filepath.Join(home, ".local", "state", "sockerless"))
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	want(filepath.Join(home, "state", "sockerless"))
	t.Setenv("SOCKERLESS_DATA_DIR", filepath.Join(home, "data"))
	want(filepath.Join(home, "data"))
}
