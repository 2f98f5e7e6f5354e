package agent_test

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

func (b *box) pack(paths ...string) ([]string, error) {
	b.t.Helper()
	var req protocol.PackRequest
	for _, p := range paths {
		req.Paths = append(req.Paths, wire.Bytes(p))
	}
	r, err := b.Pack(b.ctx(), req)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return list(b.t, data), nil
}

// TestPack: named files come, folders without what is in them; what is mounted, gone, behind a link or Sockerless's own does
// not.
func TestPack(t *testing.T) {
	b, root := newRoot(t, nil)
	os.WriteFile(root+"/data/deep/f", []byte("x"), 0o640)
	os.Link(root+"/data/deep/f", root+"/data/g")
	os.Symlink("deep", root+"/data/link")
	os.Symlink("/.sockerless", root+"/data/agent")
	syscall.Mkfifo(root+"/data/fifo", 0o600)
	os.WriteFile(root+"/data/not\xffutf8", []byte("y"), 0o600)
	os.WriteFile(root+"/top", []byte("z"), 0o600)
	got, err := b.pack("/.sockerless", "/.sockerless/spool", "/data", "/data/agent", "/data/agent/spool", "/data/deep", "/data/deep/f", "/data/fifo", "/data/g",
		"/data/link", "/data/link/f", "/data/not\xffutf8", "/data/nosuch", "/data/g/x", "/dev/null", "/etc/hosts", "/proc/self/environ", "/top", "/volume",
		"/volume/content", "/data/../top", "/")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"5 data/", "2 data/agent -> /.sockerless", "5 data/deep/", "0 data/deep/f x", "6 data/fifo", "1 data/g -> data/deep/f",
		"2 data/link -> deep", "0 data/not\xffutf8 y", "0 top z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The order is for speed alone.
	got, err = b.pack("/top", "/data/deep/f", "/bin", "/data")
	if diff := cmp.Diff([]string{"0 top z", "0 data/deep/f x", "5 bin/", "5 data/"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err = b.pack("data"); !protocol.HasCode(err, protocol.CodeInvalid) {
		t.Errorf("a relative path: %v", err)
	}
}

func TestPackAsAnOrdinaryUser(t *testing.T) {
	b, root := newRoot(t, &syscall.Credential{Uid: 1000, Gid: 1000})
	os.WriteFile(root+"/etc/shadow", nil, 0o600)
	if _, err := b.pack("/etc/shadow"); !protocol.HasCode(err, protocol.CodePermission) || !strings.Contains(err.Error(), "/etc/shadow") {
		t.Errorf("%v", err)
	}
}
