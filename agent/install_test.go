package agent_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestInstalledIsNotReplaced: the platform's folder is open to all, and what is installed in it is nobody else's to replace.
func TestInstalledIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	for range 2 {
		if out, err := exec.Command(program, "install", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		st, err := os.Stat(dir)
		if err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
	}
	needsRoot(t)
	if err := os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755); err != nil { // others come this far
		t.Fatal(err)
	}
	other := exec.Command("/bin/mv", filepath.Join(dir, "agent"), filepath.Join(dir, "mine"))
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if out, err := other.CombinedOutput(); err == nil {
		t.Errorf("another user has moved the agent: %s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "agent")); errors.Is(err, os.ErrNotExist) {
		t.Error("the agent is gone")
	}

	// A folder of another user's stays as it is, and is no reason to fail.
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(filepath.Join(dir, "spool"))
	foreign := exec.Command(program, "install", dir)
	foreign.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 23456, Gid: 23456}}
	if out, err := foreign.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
