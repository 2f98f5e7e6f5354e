package dockerapi_test

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(shortDir(t), "docker.sock")
	l, err := dockerapi.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := dockerapi.Listen(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "another program answers on it") {
		t.Errorf("a live socket: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left behind: %v", err)
	}

	// What a killed process leaves.
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err = dockerapi.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	l.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dockerapi.Listen(t.Context(), "unix://"+path); err == nil || !strings.Contains(err.Error(), "it is no socket") {
		t.Errorf("a file: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is %q", b)
	}
}

func TestListenRefusals(t *testing.T) {
	for addr, want := range map[string]string{
		"":                                   "it must be unix:///path",
		"/tmp/x.sock":                        "it must be unix:///path",
		"unix://":                            "it has no path",
		"unix:///nosuchfolder/x.sock":        "no such file or directory",
		"unix://" + strings.Repeat("/x", 60): "the path has 120 bytes, a socket's may have 103",
		"tcp://127.0.0.1":                    "it must be tcp://host:port",
		"tcp://:2375":                        "served on loopback only: use tcp://127.0.0.1:2375",
		"tcp://0.0.0.0:2375":                 "served on loopback only",
		"tcp://192.0.2.1:2375":               "served on loopback only",
		"tcp://example.com:2375":             "served on loopback only",
		"tcp://127.0.0.1:99999":              "invalid port",
		"http://127.0.0.1:1":                 "http is none of unix, tcp and npipe",
	} {
		l, err := dockerapi.Listen(t.Context(), addr)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cannot listen on") {
			t.Errorf("%q: %v, want %s", addr, err, want)
		}
	}
	if runtime.GOOS != "windows" {
		if _, err := dockerapi.Listen(t.Context(), "npipe:////./pipe/x"); err == nil {
			t.Error("a named pipe here")
		}
	}
	for _, addr := range []string{"tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://[::1]:0"} {
		l, err := dockerapi.Listen(t.Context(), addr)
		if err != nil {
			if strings.Contains(addr, "::1") {
				t.Logf("no IPv6 here: %v", err)
				continue
			}
			t.Fatal(err)
		}
		if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
			t.Errorf("%s listens on %v", addr, ip)
		}
		l.Close()
	}
}
