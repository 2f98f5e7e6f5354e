package agent_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// readTar reads a path through the agent.
func (b *box) readTar(path string) []byte {
	b.t.Helper()
	_, r, err := b.Read(b.ctx(), path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// list describes the entries of a tar, one a line.
func list(t testing.TB, data []byte) []string {
	t.Helper()
	var all []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		line := string(h.Typeflag) + " " + h.Name
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		if len(content) > 0 {
			line += " " + string(content)
		}
		all = append(all, line)
	}
}

// makeTar packs entries; a regular one's content is its Linkname.
func makeTar(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		var content string
		if h.Typeflag == tar.TypeReg {
			content, h.Linkname = h.Linkname, ""
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: content}
}
func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}
func hardlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}
func directory(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }

// tree describes what is below a folder, one line a file.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if rel == "." {
			return nil
		}
		line := fi.Mode().String() + " " + rel
		switch {
		case fi.Mode().IsRegular():
			content, _ := os.ReadFile(path)
			line += " " + string(content)
		case fi.Mode()&os.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(all)
	return all
}

func TestReadNames(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.MkdirAll(dir+"/d/sub", 0o755)
	os.WriteFile(dir+"/d/sub/f", []byte("x"), 0o644)
	os.Link(dir+"/d/sub/f", dir+"/d/sub/g")
	os.Symlink("d", dir+"/link")
	os.WriteFile(dir+"/one", []byte("1"), 0o644)
	if l, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0); err == nil {
		syscall.Bind(l, &syscall.SockaddrUnix{Name: dir + "/d/sub/socket"})
		syscall.Close(l)
	}
	for _, test := range []struct {
		name, path string
		want       []string
	}{
		{"a file has its own name", "/one", []string{"0 one 1"}},
		{"a directory is the first entry", "/d", []string{"5 d/", "5 d/sub/", "0 d/sub/f x", "1 d/sub/g -> d/sub/f"}},
		{"a slash changes nothing", "/d/", []string{"5 d/", "5 d/sub/", "0 d/sub/f x", "1 d/sub/g -> d/sub/f"}},
		{"a dot is the contents", "/d/.", []string{"5 ./", "5 ./sub/", "0 ./sub/f x", "1 ./sub/g -> ./sub/f"}},
		{"a link is itself", "/link", []string{"2 link -> d"}},
		{"a link with a slash is what is behind it", "/link/", []string{"5 link/", "5 link/sub/", "0 link/sub/f x", "1 link/sub/g -> link/sub/f"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, list(t, b.readTar(dir+test.path))); diff != "" {
				t.Error(diff)
			}
		})
	}
	stat, err := b.Stat(b.ctx(), dir+"/link")
	if err != nil || stat.Name != "link" || stat.LinkTarget != dir+"/d" || os.FileMode(stat.Mode)&os.ModeSymlink == 0 {
		t.Errorf("stat of a link: %+v, %v", stat, err)
	}
	for path, code := range map[string]string{
		dir + "/nosuch": protocol.CodeNoPath, dir + "/one/": protocol.CodeNotDirectory, dir + "/one/x": protocol.CodeNotDirectory,
		"relative": protocol.CodeInvalid, "/a\x00b": protocol.CodeInvalid, "": protocol.CodeInvalid,
	} {
		_, err := b.Stat(b.ctx(), path)
		wantCode(t, err, code)
		_, _, err = b.Read(b.ctx(), path)
		wantCode(t, err, code)
	}
}

func TestCopyKeepsWhatFilesAre(t *testing.T) {
	b := newBox(t, boxOptions{})
	from, to := t.TempDir(), t.TempDir()
	os.MkdirAll(from+"/d/sub", 0o755)
	os.WriteFile(from+"/d/sub/f", bytes.Repeat([]byte("0123456789"), 30000), 0o640)
	os.WriteFile(from+"/d/sub/setuid", []byte("s"), 0o644)
	os.Chmod(from+"/d/sub/setuid", 0o755|os.ModeSetuid)
	os.Link(from+"/d/sub/f", from+"/d/g")
	os.Symlink("/nowhere/at/all", from+"/d/dangling")
	os.Symlink("../../above", from+"/d/above")
	syscall.Mkfifo(from+"/d/fifo", 0o600)
	os.WriteFile(from+"/d/"+strings.Repeat("long", 50), []byte("long"), 0o600)
	os.Chmod(from+"/d/sub", 0o711|os.ModeSticky)
	when := time.Unix(1234567890, 0)
	os.Chtimes(from+"/d/sub/f", when, when)
	os.Chtimes(from+"/d/sub", when, when)
	if os.Geteuid() == 0 {
		os.Lchown(from+"/d/dangling", 12, 34)
		os.Lchown(from+"/d/sub/f", 12, 34)
	}
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(to)}, bytes.NewReader(b.readTar(from+"/d"))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, from), tree(t, to)); diff != "" {
		t.Error(diff)
	}
	for _, path := range []string{"/d/sub", "/d/sub/f"} {
		if fi, _ := os.Stat(to + path); !fi.ModTime().Equal(when) {
			t.Errorf("%s is of %v", path, fi.ModTime())
		}
	}
	for _, path := range []string{"/d/sub/f", "/d/dangling"} {
		var was, is syscall.Stat_t
		syscall.Lstat(from+path, &was)
		syscall.Lstat(to+path, &is)
		if was.Uid != is.Uid || was.Gid != is.Gid {
			t.Errorf("%s belongs to %d:%d, not %d:%d", path, is.Uid, is.Gid, was.Uid, was.Gid)
		}
	}
	var f, g syscall.Stat_t
	syscall.Stat(to+"/d/sub/f", &f)
	syscall.Stat(to+"/d/g", &g)
	if f.Ino != g.Ino {
		t.Error("a hard link became a copy")
	}
}

func TestWriteStaysInside(t *testing.T) {
	b := newBox(t, boxOptions{})
	for _, test := range []struct {
		name    string
		entries []tar.Header
		code    string   // "" is success
		want    []string // below the target
	}{
		{"dots in front", []tar.Header{file("../x", "!")}, protocol.CodeInvalid, nil},
		{"dots in the middle", []tar.Header{file("a/../../x", "!")}, protocol.CodeInvalid, nil},
		{"only dots", []tar.Header{file("..", "!")}, protocol.CodeInvalid, nil},
		{"absolute", []tar.Header{file("/etc/x", "1")}, "", []string{"drwxr-xr-x etc", "-rw-r--r-- etc/x 1"}},
		{"dots that stay", []tar.Header{file("a/../x", "1")}, "", []string{"-rw-r--r-- x 1"}},
		{"a relative link out", []tar.Header{symlink("l", "../outside"), file("l/x", "!")}, protocol.CodeInvalid, []string{"Lrwxrwxrwx l -> ../outside"}},
		{"an absolute link out", []tar.Header{symlink("l", "/tmp"), file("l/sockerless-escape", "!")}, protocol.CodeInvalid, []string{"Lrwxrwxrwx l -> /tmp"}},
		{"a link to the root", []tar.Header{symlink("l", "/"), directory("l/sockerless-escape")}, protocol.CodeInvalid, []string{"Lrwxrwxrwx l -> /"}},
		{"a chain out", []tar.Header{symlink("a", "b/../.."), directory("b"), file("a/x", "!")}, protocol.CodeInvalid,
			[]string{"Lrwxrwxrwx a -> b/../..", "drwxr-xr-x b"}},
		{"a loop", []tar.Header{symlink("a", "b"), symlink("b", "a"), file("a/x", "!")}, protocol.CodeInvalid,
			[]string{"Lrwxrwxrwx a -> b", "Lrwxrwxrwx b -> a"}},
		{"a hard link out", []tar.Header{hardlink("x", "../outside/secret")}, protocol.CodeInvalid, nil},
		{"a hard link through a link", []tar.Header{symlink("l", "../outside"), hardlink("x", "l/secret")}, protocol.CodeInvalid,
			[]string{"Lrwxrwxrwx l -> ../outside"}},
		{"a link is replaced, not followed", []tar.Header{symlink("x", "../outside/secret"), file("x", "1")}, "", []string{"-rw-r--r-- x 1"}},
		{"a link that stays inside", []tar.Header{directory("d"), symlink("l", "./d/../d"), file("l/x", "1")}, "",
			[]string{"Lrwxrwxrwx l -> ./d/../d", "drwxr-xr-x d", "-rw-r--r-- d/x 1"}},
		{"an unknown type", []tar.Header{{Typeflag: 'W', Name: "x"}}, protocol.CodeInvalid, nil},
		{"not a directory on the way", []tar.Header{file("f", "1"), file("f/x", "!")}, protocol.CodeNotDirectory, []string{"-rw-r--r-- f 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			os.Mkdir(dir+"/outside", 0o755)
			os.WriteFile(dir+"/outside/secret", []byte("secret"), 0o644)
			os.Mkdir(dir+"/target", 0o755)
			err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir + "/target")}, bytes.NewReader(makeTar(t, test.entries...)))
			if test.code == "" && err != nil {
				t.Error(err)
			} else if test.code != "" {
				wantCode(t, err, test.code)
			}
			want := append([]string{}, test.want...)
			sort.Strings(want)
			if diff := cmp.Diff(want, append([]string{}, tree(t, dir+"/target")...)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"-rw-r--r-- secret secret"}, tree(t, dir+"/outside")); diff != "" {
				t.Error("outside:", diff)
			}
		})
	}
	for _, path := range []string{"/tmp/sockerless-escape", "/sockerless-escape"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s has been made", path)
		}
	}
}

// An absolute link inside the target is followed: /var/run is one in most images.
func TestWriteFollowsAnAbsoluteLinkInside(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.MkdirAll(dir+"/run", 0o755)
	os.MkdirAll(dir+"/var", 0o755)
	os.Symlink(dir+"/run", dir+"/var/run")
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, file("var/run/pid", "1")))); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(dir + "/run/pid"); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestWriteOverWhatIsThere(t *testing.T) {
	b := newBox(t, boxOptions{})
	for _, test := range []struct {
		name  string
		entry tar.Header
		keep  bool // NoOverwriteDirNonDir
		code  string
		want  []string
	}{
		{"a file over a file", file("f", "new"), true, "", []string{"-rw-r--r-- d/x old", "-rw-r--r-- f new", "drwxr-xr-x d"}},
		{"a directory over a directory merges", directory("d"), true, "", []string{"-rw-r--r-- d/x old", "-rw-r--r-- f old", "drwxr-xr-x d"}},
		{"a file over a directory is refused", file("d", "new"), true, protocol.CodeDirConflict, []string{"-rw-r--r-- d/x old", "-rw-r--r-- f old", "drwxr-xr-x d"}},
		{"a directory over a file is refused", directory("f"), true, protocol.CodeDirConflict, []string{"-rw-r--r-- d/x old", "-rw-r--r-- f old", "drwxr-xr-x d"}},
		{"a file over a directory, if allowed", file("d", "new"), false, "", []string{"-rw-r--r-- d new", "-rw-r--r-- f old"}},
		{"a directory over a file, if allowed", directory("f"), false, "", []string{"-rw-r--r-- d/x old", "drwxr-xr-x d", "drwxr-xr-x f"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			os.Mkdir(dir+"/d", 0o755)
			os.WriteFile(dir+"/d/x", []byte("old"), 0o644)
			os.WriteFile(dir+"/f", []byte("old"), 0o644)
			err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir), NoOverwriteDirNonDir: test.keep}, bytes.NewReader(makeTar(t, test.entry)))
			if test.code == "" && err != nil {
				t.Error(err)
			} else if test.code != "" {
				wantCode(t, err, test.code)
			}
			if diff := cmp.Diff(test.want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWriteBadInput(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.WriteFile(dir+"/f", nil, 0o644)
	good := makeTar(t, file("x", "1"))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(good)
	z.Close()
	for _, test := range []struct {
		name, path string
		body       []byte
		code       string
	}{
		{"no such target", dir + "/nosuch", good, protocol.CodeNoPath},
		{"the target is a file", dir + "/f", good, protocol.CodeNotDirectory},
		{"relative", "x", good, protocol.CodeInvalid},
		{"not a tar", dir, bytes.Repeat([]byte("no"), 1000), protocol.CodeInvalid},
		{"cut off", dir, makeTar(t, file("x", strings.Repeat("1", 10000)))[:3000], protocol.CodeInvalid},
		{"xz", dir, []byte("\xfd7zXZ\x00 and so on"), protocol.CodeInvalid},
		{"zstd", dir, []byte("\x28\xb5\x2f\xfd and so on"), protocol.CodeInvalid},
		{"gzip", dir, packed.Bytes(), ""},
		{"empty", dir, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(test.path)}, bytes.NewReader(test.body))
			if test.code == "" && err != nil {
				t.Error(err)
			} else if test.code != "" {
				wantCode(t, err, test.code)
			}
		})
	}
}

func TestReadLeavesOutWhatIsNotTheContainers(t *testing.T) {
	b := newBox(t, boxOptions{})
	os.WriteFile(b.dir+"/mine", nil, 0o600)
	parent := filepath.Dir(b.dir)
	os.WriteFile(parent+"/theirs", nil, 0o600)
	name := filepath.Base(parent)
	if diff := cmp.Diff([]string{"5 " + name + "/", "0 " + name + "/theirs"}, list(t, b.readTar(parent))); diff != "" {
		t.Error(diff)
	}
}

// As an ordinary user the agent keeps what it can, and refuses to promise the rest.
func TestFilesAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	b := newBox(t, boxOptions{credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o777)
	os.WriteFile(dir+"/closed", []byte("x"), 0o600)
	_, _, err := b.Read(b.ctx(), dir+"/closed")
	wantCode(t, err, protocol.CodePermission)

	body := makeTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "f", Linkname: "1", Uid: 1000, Gid: 1000})
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	err = b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir), CopyUIDGID: true}, bytes.NewReader(body))
	wantCode(t, err, protocol.CodePermission)
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir), CopyUIDGID: true, User: "65534:65534"}, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	err = b.Write(b.ctx(), protocol.WriteRequest{Path: "/"}, bytes.NewReader(body))
	wantCode(t, err, protocol.CodePermission)
	err = b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(makeTar(t, tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3})))
	wantCode(t, err, protocol.CodePermission)
}

// What is zero takes no room on disk, and is there all the same.
func TestWriteMakesHoles(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	content := strings.Repeat("\x00", 10<<20) + "middle" + strings.Repeat("\x00", 10<<20)
	body := makeTar(t, file("holes", content), file("all", strings.Repeat("\x00", 1<<20)), file("none", ""))
	if err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(dir + "/holes"); err != nil || string(data) != content {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	for name, size := range map[string]int64{"holes": int64(len(content)), "all": 1 << 20, "none": 0} {
		var st syscall.Stat_t
		if err := syscall.Stat(dir+"/"+name, &st); err != nil || st.Size != size || st.Blocks > 1000 {
			t.Errorf("%s: %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
	}
}

// sparseBomb is an archive of 1.5 KiB whose one file has 1 EiB, all of it a hole, in the old form of GNU tar.
func sparseBomb(t *testing.T) []byte {
	t.Helper()
	body := makeTar(t, tar.Header{Typeflag: tar.TypeReg, Name: "bomb", Format: tar.FormatGNU})
	head := body[:512]
	head[156] = tar.TypeGNUSparse
	const size = 1 << 60
	big := func(at int, n uint64) {
		clear(head[at : at+12])
		head[at] = 0x80
		binary.BigEndian.PutUint64(head[at+4:at+12], n)
	}
	big(386, size) // the map: an empty piece at the end
	big(398, 0)
	big(483, size)
	copy(head[148:156], "        ")
	sum := 0
	for _, c := range head {
		sum += int(c)
	}
	copy(head[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return body
}

// A few bytes that tell of more zeros than the disk has room for are refused, whatever room they would take.
func TestWriteOfASparseBomb(t *testing.T) {
	body := sparseBomb(t)
	if h, err := tar.NewReader(bytes.NewReader(body)).Next(); err != nil || h.Size != 1<<60 {
		t.Fatalf("%+v, %v", h, err)
	}
	b := newBox(t, boxOptions{})
	err := b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(t.TempDir())}, bytes.NewReader(body))
	wantCode(t, err, protocol.CodeNoSpace)
}

// What a process puts in the place of a file that is being copied keeps its mode, owner and time: they go to the file that
// was made.
func TestWriteOfAReplacedFile(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	os.WriteFile(dir+"/theirs", []byte("theirs"), 0o600)
	when := time.Unix(1234567890, 0)
	os.Chtimes(dir+"/theirs", when, when)
	h := file("f", strings.Repeat("x", 1<<20))
	h.Mode, h.Uid, h.Gid, h.ModTime = 0o4777, 12, 34, time.Unix(1e9, 0)
	if os.Geteuid() != 0 {
		h.Uid, h.Gid = os.Geteuid(), os.Getegid()
	}
	body := makeTar(t, h)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the copy
		done <- b.Write(b.ctx(), protocol.WriteRequest{Path: wire.Bytes(dir)}, r)
		r.Close()
	}()
	w.Write(body[:len(body)/2])
	eventually(t, "the file is there", func() bool { fi, err := os.Stat(dir + "/f"); return err == nil && fi.Size() > 0 })
	var made, theirs syscall.Stat_t
	f, err := os.Open(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(os.Remove(dir+"/f"), os.Link(dir+"/theirs", dir+"/f")); err != nil {
		t.Fatal(err)
	}
	w.Write(body[len(body)/2:])
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	syscall.Stat(dir+"/theirs", &theirs)
	if theirs.Mode&0o7777 != 0o600 || int(theirs.Uid) != os.Geteuid() || theirs.Mtim.Sec != when.Unix() || theirs.Size != 6 {
		t.Errorf("theirs is changed: %o, of %d, %d bytes of %d", theirs.Mode, theirs.Uid, theirs.Size, theirs.Mtim.Sec)
	}
	syscall.Fstat(int(f.Fd()), &made)
	if made.Mode&0o7777 != 0o4777 || int(made.Uid) != h.Uid || made.Mtim.Sec != 1e9 || made.Size != 1<<20 {
		t.Errorf("the copy is not: %o, of %d, %d bytes of %d", made.Mode, made.Uid, made.Size, made.Mtim.Sec)
	}
}

// Folders in folders deeper than any path are refused by name before they cost memory, and a diff of theirs too.
func TestReadOfADeepTree(t *testing.T) {
	b := newBox(t, boxOptions{})
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 200)
	for range 100 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
	const reason = "the paths in it are longer than 8192 bytes"
	_, r, err := b.Read(b.ctx(), dir)
	if err == nil { // root looks as it goes
		_, err = io.Copy(io.Discard, r)
		r.Close()
	}
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("cp: %v", err)
	}
	_, err = b.changes(protocol.ChangesRequest{Path: wire.Bytes(dir), All: true})
	if err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("diff: %v", err)
	}
}
