package agent_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// newRoot is an agent in a root file system of its own, with mounts as a runtime makes them.
func newRoot(t *testing.T, credential *syscall.Credential) (b *box, root string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a root file system of its own")
	}
	if out, err := exec.Command("unshare", "-m", "mount", "--make-rprivate", "/").CombinedOutput(); err != nil {
		t.Skipf("cannot have mounts of its own here: %v: %s", err, out)
	}
	root = t.TempDir()
	os.Chmod(root, 0o755)
	os.Chmod(filepath.Dir(root), 0o755)
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "data/deep", "volume"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(root+"/tmp", 0o777|os.ModeSticky)
	os.WriteFile(root+"/etc/hosts", []byte("below\n"), 0o644)
	buildStatic(t, root+program)
	hosts := filepath.Join(t.TempDir(), "hosts")
	os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644)
	volume := t.TempDir()
	os.WriteFile(volume+"/content", []byte("of a volume"), 0o644)
	mounts := `mount --make-rprivate /
mount -t proc proc $0/proc
mount -t tmpfs tmpfs $0/dev
mkdir $0/dev/shm
touch $0/dev/null
mount --bind /dev/null $0/dev/null
mount --bind $1 $0/etc/hosts
mount --bind $2 $0/volume
shift 2
`
	into := `exec chroot $0 "$@"`
	if credential != nil {
		into = fmt.Sprintf(`exec chroot --userspec=%d:%d $0 "$@"`, credential.Uid, credential.Gid)
	}
	return newBox(t, boxOptions{root: root, wrap: []string{"unshare", "-m", "sh", "-ec", mounts + into, root, hosts, volume}}), root
}

// buildStatic builds the agent for a root file system without libraries, which one with the race detector needs.
func buildStatic(t *testing.T, to string) {
	t.Helper()
	build := exec.Command("go", "build", "-trimpath", "-o", to, "./cmd/sockerless-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	os.Chmod(filepath.Dir(to), 0o755)
}

// export reads the whole file system, but for the agent's program, which is there for the test alone.
func (b *box) export() []string {
	b.t.Helper()
	r, err := b.Export(b.ctx())
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(list(b.t, data), func(line string) bool { return strings.HasPrefix(line[2:], "tmp/agent-test-") })
}

func TestExport(t *testing.T) {
	b, root := newRoot(t, nil)
	os.WriteFile(root+"/data/deep/f", []byte("x"), 0o640)
	os.Link(root+"/data/deep/f", root+"/data/g")
	os.Symlink("/etc/hosts", root+"/data/link")
	syscall.Mkfifo(root+"/data/fifo", 0o600)
	long := strings.Repeat("n", 255)
	os.MkdirAll(root+"/data/"+long+"/"+long, 0o755)
	os.WriteFile(root+"/data/not\xffutf8", []byte("y"), 0o600)
	os.WriteFile(root+"/data/new\nline", []byte("z"), 0o600)
	if l, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err == nil {
		syscall.Bind(l, &syscall.SockaddrUnix{Name: root + "/data/s"})
		syscall.Close(l)
	}
	// What is mounted is empty, sockets and the agent's folder are left out, the root itself has no entry.
	want := []string{
		"5 bin/", "5 data/", "5 data/deep/", "0 data/deep/f x", "6 data/fifo", "1 data/g -> data/deep/f", "2 data/link -> /etc/hosts",
		"0 data/new\nline z", "5 data/" + long + "/", "5 data/" + long + "/" + long + "/", "0 data/not\xffutf8 y",
		"5 dev/", "5 etc/", "0 etc/hosts", "5 proc/", "5 sys/", "5 tmp/", "5 volume/",
	}
	if diff := cmp.Diff(want, b.export()); diff != "" {
		t.Error(diff)
	}
}

// Without rights an export says so before it begins: a tar without some files would look whole.
func TestExportAsAnOrdinaryUser(t *testing.T) {
	b, root := newRoot(t, &syscall.Credential{Uid: 1000, Gid: 1000})
	if got := b.export(); !slices.Contains(got, "0 etc/hosts") {
		t.Errorf("export: %q", got)
	}
	os.WriteFile(root+"/etc/shadow", nil, 0o600)
	_, err := b.Export(b.ctx())
	wantCode(t, err, protocol.CodePermission)
	if !strings.Contains(err.Error(), "/etc/shadow") || !strings.Contains(err.Error(), "uid 1000") {
		t.Error(err)
	}
	_, _, err = b.Read(b.ctx(), "/etc")
	wantCode(t, err, protocol.CodePermission)
	os.Remove(root + "/etc/shadow")
	os.Mkdir(root+"/data/closed", 0o700)
	_, err = b.Export(b.ctx())
	wantCode(t, err, protocol.CodePermission)
}

// What is the kernel's or Sockerless's is not there for a copy, by whatever way.
func TestCopyKeepsOut(t *testing.T) {
	b, root := newRoot(t, nil)
	os.Symlink("/proc/self", root+"/data/self")
	os.Symlink("/.sockerless", root+"/data/agent")
	for path, code := range map[string]string{
		"/proc/self/environ": protocol.CodeNoPath, "/proc/cpuinfo": protocol.CodeNoPath, "/proc/self/": protocol.CodeNoPath,
		"/proc/self/root/etc/hosts": protocol.CodeNoPath, "/proc/self/cwd/": protocol.CodeNoPath, "/data/self/environ": protocol.CodeNoPath,
		"/.sockerless": protocol.CodePermission, "/.sockerless/s": protocol.CodePermission, "/data/agent/": protocol.CodePermission,
		"/data/agent/s": protocol.CodePermission, "/data/../.sockerless/spool/.": protocol.CodePermission,
	} {
		_, err := b.Stat(b.ctx(), path)
		if !protocol.HasCode(err, code) {
			t.Errorf("stat of %s: %v, want %s", path, err, code)
		}
		if _, _, err = b.Read(b.ctx(), path); !protocol.HasCode(err, code) {
			t.Errorf("read of %s: %v, want %s", path, err, code)
		}
	}
	for _, path := range []string{"/proc", "/proc/", "/dev", "/etc/hosts", "/volume"} {
		if _, err := b.Stat(b.ctx(), path); err != nil {
			t.Errorf("stat of %s: %v", path, err)
		}
	}
	if diff := cmp.Diff([]string{"5 proc/"}, list(t, b.readTar("/proc"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"5 volume/", "0 volume/content of a volume"}, list(t, b.readTar("/volume"))); diff != "" {
		t.Error(diff)
	}
	before := tree(t, root+"/.sockerless")
	for _, test := range []struct {
		path    string
		entries []tar.Header
	}{
		{"/.sockerless", []tar.Header{file("s", "!")}},
		{"/data/agent", []tar.Header{file("x", "!")}},
		{"/", []tar.Header{file(".sockerless/x", "!")}},
		{"/", []tar.Header{file(".sockerless", "!")}},
		{"/", []tar.Header{{Typeflag: tar.TypeDir, Name: ".sockerless", Mode: 0o777}}},
		{"/", []tar.Header{symlink("l", "/.sockerless"), file("l/x", "!")}},
		{"/", []tar.Header{hardlink("x", ".sockerless/s")}},
		{"/", []tar.Header{file("proc", "!")}},
		{"/", []tar.Header{file("proc/self/oom_score_adj", "1000")}},
		{"/", []tar.Header{symlink("p", "/proc/self/root"), file("p/x", "!")}},
		{"/proc/self", []tar.Header{file("oom_score_adj", "1000")}},
		{"/proc/self/root/data", []tar.Header{file("x", "!")}},
	} {
		err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(test.path)}, bytes.NewReader(makeTar(t, test.entries...)))
		if err == nil {
			t.Errorf("writing %v to %s went well", test.entries, test.path)
		}
	}
	if diff := cmp.Diff(before, tree(t, root+"/.sockerless")); diff != "" {
		t.Error(diff)
	}
	// A whole root file system can be copied over itself all the same.
	body := makeTar(t, directory("proc"), directory("sys"), directory("dev"), file("etc/new", "1"))
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: "/"}, bytes.NewReader(body)); err != nil {
		t.Error(err)
	}
}

// A tree that changes all the time is read to its end, and nothing from outside it comes along.
func TestReadOfAMovingTree(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.Mkdir(dir+"/outside", 0o755)
	os.WriteFile(dir+"/outside/secret", []byte("secret"), 0o644)
	os.Mkdir(dir+"/tree", 0o755)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			at := fmt.Sprintf("%s/tree/%d", dir, i%20)
			os.MkdirAll(at+"/sub", 0o755)
			os.WriteFile(at+"/sub/f", []byte("f"), 0o644)
			os.Rename(at, at+".moved")
			os.Symlink("../outside", at)
			os.RemoveAll(at + ".moved")
			os.Remove(at)
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 200 {
		_, r, err := b.Read(b.ctx(), dir+"/tree")
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		list(t, data)
		if bytes.Contains(data, []byte("secret")) {
			t.Fatal("a file from outside the tree came along")
		}
	}
}

// The other way: while an archive is unpacked, a process makes links of its folders.
func TestWriteIntoAMovingTree(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.Mkdir(dir+"/outside", 0o755)
	os.Mkdir(dir+"/tree", 0o755)
	entries := []tar.Header{file("first", "1")}
	for i := range 300 {
		entries = append(entries, file(fmt.Sprintf("d/e/%d", i), "1"), directory("d"), file("other", "1"))
	}
	body := makeTar(t, entries...)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			os.Rename(dir+"/tree/d", dir+"/tree/moved")
			os.Symlink("../outside", dir+"/tree/d")
			os.Remove(dir + "/tree/d")
			os.RemoveAll(dir + "/tree/moved")
		}
	}()
	for range 50 {
		b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir + "/tree")}, bytes.NewReader(body))
	}
	close(stop)
	<-stopped
	if _, err := os.Stat(dir + "/tree/first"); err != nil {
		t.Errorf("nothing was written: %v", err)
	}
	if diff := cmp.Diff([]string(nil), tree(t, dir+"/outside")); diff != "" {
		t.Error(diff)
	}
}

// A file that shrinks is told, and a reader never takes the rest for a whole archive.
func TestReadOfAShrinkingFile(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	const size = 64 << 20
	f, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("x"), 1<<20)
	for range size >> 20 {
		f.Write(block)
	}
	_, r, err := b.Read(b.ctx(), dir+"/log")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	f.Truncate(1000)
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "log: it became shorter while it was read") {
		t.Errorf("the end is %v", err)
	}
}

// Sparse files cost what they hold: neither the agent's memory nor the disk's room grows with their size.
func TestSparseFiles(t *testing.T) {
	t.Parallel()
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	const size = 256 << 20 // several times what the agent may take
	f, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("begin"), 0)
	f.WriteAt([]byte("middle"), size/2+12345)
	f.Truncate(size)
	f.Close()
	_, r, err := b.Read(b.ctx(), dir+"/sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	os.Mkdir(dir+"/copy", 0o755)
	ctx := b.ctx()
	if err := b.Write(ctx, protocol.WriteRequest{Path: wire.Bytes(dir + "/copy")}, r); err != nil {
		t.Fatal(err)
	}
	c, err := os.Open(dir + "/copy/sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fi, _ := c.Stat()
	st := fi.Sys().(*syscall.Stat_t)
	if fi.Size() != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks", fi.Size(), st.Blocks)
	}
	buf := make([]byte, 8)
	c.ReadAt(buf, size/2+12345)
	if string(buf) != "middle\x00\x00" {
		t.Errorf("the middle is %q", buf)
	}
	c.ReadAt(buf, 0)
	if string(buf) != "begin\x00\x00\x00" {
		t.Errorf("the begin is %q", buf)
	}
	if rss := b.rss(); rss > 64<<20 {
		t.Errorf("the agent takes %d bytes", rss)
	}
}

// rss is the most memory that the agent has taken so far.
func (b *box) rss() int64 {
	b.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	b.t.Fatal("no VmHWM")
	return 0
}

// The disk is full: the copy says so, and the agent goes on.
func TestWriteToAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a small disk")
	}
	dir := t.TempDir()
	b := newBox(t, boxOptions{wrap: []string{"unshare", "-m", "sh", "-ec", `mount -t tmpfs -o size=1m tmpfs $0; exec "$@"`, dir}})
	err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, file("big", strings.Repeat("x", 2<<20)))))
	wantCode(t, err, protocol.CodeNoSpace)
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, file("big", "small")))); err != nil {
		t.Error(err)
	}
}

func TestWriteToAReadOnlyDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a disk")
	}
	dir := t.TempDir()
	b := newBox(t, boxOptions{wrap: []string{"unshare", "-m", "sh", "-ec", `mount -t tmpfs -o ro tmpfs $0; exec "$@"`, dir}})
	err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, file("f", "x"))))
	wantCode(t, err, protocol.CodePermission)
}

// Names are bytes, whatever they mean, in paths and in archives.
func TestNamesOfAnyBytes(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir() + "/d\xff\xfe"
	os.Mkdir(dir, 0o755)
	names := []string{"\xe9t\xe9", strings.Repeat("\xff", 255), "a\\b", "-rf", " ", "tab\t", "nl\n", "é", strings.Repeat("d/", 100) + strings.Repeat("x", 255)}
	var entries []tar.Header
	for _, name := range names {
		h := file(name, name)
		h.Format = tar.FormatPAX
		h.ModTime = time.Unix(1e9, 0)
		entries = append(entries, h)
	}
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, entries...))); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if data, err := os.ReadFile(dir + "/" + name); err != nil || string(data) != name {
			t.Errorf("%q: %q, %v", name, data, err)
		}
		if _, err := b.Stat(b.ctx(), dir+"/"+name); err != nil {
			t.Errorf("stat of %q: %v", name, err)
		}
	}
	to := t.TempDir()
	_, r, err := b.Read(b.ctx(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(to)}, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, dir), tree(t, to+"/d\xff\xfe")); diff != "" {
		t.Error(diff)
	}
	err = b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, file(strings.Repeat("n", 256), "x"))))
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a name of 256 bytes: %v", err)
	}
}
