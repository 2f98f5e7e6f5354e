package agent_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// changes lists what the agent tells: "*" is touched, "@" a mount.
func (b *box) changes(req protocol.ChangesRequest) ([]string, error) {
	b.t.Helper()
	var all []string
	for c, err := range b.Changes(b.ctx(), req) {
		if err != nil {
			return all, err
		}
		line := string(c.Path)
		if os.FileMode(c.Mode).IsDir() {
			line += "/"
		}
		if c.Touched {
			line += "*"
		}
		if c.Mounted {
			line += "@"
		}
		if !strings.HasPrefix(line, "/tmp/agent-test-") {
			all = append(all, line)
		}
	}
	return all, nil
}

func TestChanges(t *testing.T) {
	b, root := newRoot(t, nil)
	os.WriteFile(root+"/etc/new", nil, 0o644)
	os.MkdirAll(root+"/data/deep/er", 0o755)
	got, err := b.changes(protocol.ChangesRequest{Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	// The root was touched by the mount points that the test has made after the agent began, if it was quick.
	got = slices.DeleteFunc(got, func(line string) bool {
		return strings.Count(line, "/") < 2 || line == "/" || slices.Contains([]string{"/bin/", "/tmp/", "/tmp/*", "/sys/", "/dev/@", "/proc/@", "/volume/@"}, line)
	})
	want := []string{"/data/deep/*", "/data/deep/er/*", "/etc/*", "/etc/hosts@", "/etc/new*"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What is moved is told whole when it is asked for.
	os.Rename(root+"/data", root+"/moved")
	if got, err = b.changes(protocol.ChangesRequest{Path: "/moved", All: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/*", "/deep/*", "/deep/er/*"}, got); diff != "" {
		t.Error(diff)
	}
}

// What was there before the agent began has not changed since, and what was touched in any way has.
func TestChangesSinceTheBegin(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"quiet/deep", "loud", "gone"} {
		os.MkdirAll(dir+"/"+d, 0o755)
	}
	for _, f := range []string{"quiet/f", "quiet/deep/f", "loud/written", "loud/chmod", "loud/linked", "loud/same", "loud/kept", "gone/f"} {
		os.WriteFile(dir+"/"+f, []byte("x"), 0o644)
	}
	time.Sleep(50 * time.Millisecond) // the clock of files is coarse
	b := newBox(t, boxOptions{})
	os.WriteFile(dir+"/loud/written", []byte("y"), 0o644)
	os.Chmod(dir+"/loud/chmod", 0o600)
	os.Link(dir+"/loud/linked", dir+"/loud/link")
	old := time.Unix(1e9, 0)
	os.WriteFile(dir+"/loud/same", []byte("x"), 0o644)
	os.Chtimes(dir+"/loud/same", old, old)
	os.Remove(dir + "/gone/f")
	var got []string
	for c, err := range b.Changes(b.ctx(), protocol.ChangesRequest{Path: wire.Bytes(dir)}) {
		if err != nil {
			t.Fatal(err)
		}
		line := string(c.Path)
		if c.Touched {
			line += "*"
		}
		got = append(got, line)
	}
	want := []string{"/gone*", "/loud*", "/loud/chmod*", "/loud/kept", "/loud/link*", "/loud/linked*", "/loud/same*", "/loud/written*"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is written counts once, whatever it is called, and not what was there before or has gone.
func TestSize(t *testing.T) {
	b, root := newRoot(t, nil)
	size := func() int64 {
		t.Helper()
		got, err := b.Size(b.ctx())
		if err != nil {
			t.Fatal(err)
		}
		return got.Bytes
	}
	before := size()
	os.WriteFile(root+"/data/new", make([]byte, 1000), 0o644)
	os.Link(root+"/data/new", root+"/data/deep/again")
	os.WriteFile(root+"/gone", make([]byte, 1000), 0o644)
	os.Remove(root + "/gone")
	if got := size() - before; got != 1000 {
		t.Errorf("1000 bytes in a file are %d", got)
	}
}

// A user can have changed nothing in what it may not even see.
func TestChangesAsAnOrdinaryUser(t *testing.T) {
	b, root := newRoot(t, &syscall.Credential{Uid: 1000, Gid: 1000})
	os.Mkdir(root+"/data/closed", 0o700)
	if _, err := b.changes(protocol.ChangesRequest{Path: "/"}); err != nil {
		t.Error(err)
	}
	os.Chmod(root+"/data/closed", 0o733)
	_, err := b.changes(protocol.ChangesRequest{Path: "/"})
	wantCode(t, err, protocol.CodePermission)
}
