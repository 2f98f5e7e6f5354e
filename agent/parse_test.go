package agent

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

func TestDetachReader(t *testing.T) {
	for _, test := range []struct {
		name, keys, in, want string
		detached             bool
	}{
		{"no keys", "", "abc", "abc", false},
		{"the sequence", "pq", "abpqcd", "ab", true},
		{"one key", "q", "abqcd", "ab", true},
		{"at once", "pq", "pq", "", true},
		{"a beginning that is none", "pq", "apbpc", "apbpc", false},
		{"a beginning at the end", "pq", "ap", "ap", false},
		{"a key twice breaks it, as in dockerd", "pq", "ppq", "ppq", false},
		{"longer", "abc", "ababcx", "ababcx", false},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader, "data with the end": iotest.DataErrReader,
		} {
			t.Run(test.name+"/"+how, func(t *testing.T) {
				d := &detachReader{r: wrap(strings.NewReader(test.in)), keys: []byte(test.keys)}
				got, err := io.ReadAll(d)
				if string(got) != test.want || d.detached != test.detached || err != nil {
					t.Errorf("%q, detached %v, %v", got, d.detached, err)
				}
			})
		}
	}
	failed := errors.New("cut")
	d := &detachReader{r: io.MultiReader(strings.NewReader("ap"), iotest.ErrReader(failed)), keys: []byte("pq")}
	if got, err := io.ReadAll(d); string(got) != "ap" || !errors.Is(err, failed) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzDetach compares with a search in the whole input.
func FuzzDetach(f *testing.F) {
	f.Add([]byte("pq"), []byte("abpqcd"), 1)
	f.Add([]byte{16, 17}, []byte{16, 16, 17}, 2)
	f.Fuzz(func(t *testing.T, keys, in []byte, size int) {
		if len(keys) == 0 {
			return
		}
		d := &detachReader{r: bytes.NewReader(in), keys: keys}
		var got []byte
		for buf := make([]byte, max(1, min(size, 100))); ; {
			n, err := d.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil {
				break
			}
		}
		if !bytes.HasPrefix(in, got) {
			t.Fatalf("%q is not the beginning of %q", got, in)
		}
		if d.detached {
			if !bytes.HasPrefix(in[len(got):], keys) {
				t.Fatalf("it detached behind %q in %q", got, in)
			}
		} else if len(got) != len(in) {
			t.Fatalf("%q became %q", in, got)
		}
	})
}

func TestParseStat(t *testing.T) {
	tail := " 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
	for _, test := range []struct {
		name, in string
		want     seen
		ok       bool
	}{
		{"plain", "12 (sh) S 7 12 12" + tail, seen{pid: 12, parent: 7, state: 'S', threads: 1, started: "4711"}, true},
		{"a name with everything in it", "12 (a) Z 1 (b c)) R 7 12 12" + tail, seen{pid: 12, parent: 7, state: 'R', threads: 1, started: "4711"}, true},
		{"cut off", "12 (sh) S 7", seen{}, false},
		{"no name", "12 S 7" + tail, seen{}, false},
		{"empty", "", seen{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseStat([]byte(test.in))
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(seen{})); diff != "" || ok != test.ok {
				t.Errorf("ok %v %s", ok, diff)
			}
		})
	}
	me, ok := look(os.Getpid())
	if !ok || me.pid != os.Getpid() || me.parent != os.Getppid() {
		t.Errorf("this process: %+v, %v", me, ok)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) Z 1 (b c)) R 7 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	f.Fuzz(func(_ *testing.T, in []byte) { parseStat(in) })
}

func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"TERM", "SIGTERM", "15", "RTMIN+3", "0", "-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if sig, err := parseSignal(s); err == nil && (sig < 1 || sig > 64) {
			t.Errorf("%q is signal %d", s, sig)
		}
	})
}

func FuzzUserSpec(f *testing.F) {
	for _, s := range []string{"", "root", "0:0", "nobody:daemon", ":", "1:", ":1", "4294967296", "-1"} {
		f.Add(s, "daemon")
	}
	f.Fuzz(func(t *testing.T, spec, group string) {
		if id, err := findIdentity(spec, []string{group}); err == nil && (id.uid < 0 || id.gid < 0) {
			t.Errorf("%q is %+v", spec, id)
		}
	})
}

// FuzzUnpack unpacks hostile archives and looks whether anything outside the target has changed.
func FuzzUnpack(f *testing.F) {
	pack := func(entries ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			w.WriteHeader(&h)
		}
		w.Flush()
		return b.Bytes()
	}
	link := func(name, target string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	f.Add(pack(file("a"), file("d/b")), false)
	f.Add(pack(link("l", ".."), file("l/outside/x")), true)
	f.Add(pack(link("l", "../outside"), tar.Header{Typeflag: tar.TypeDir, Name: "l/", Mode: 0o700}, file("l/x")), false)
	f.Add(pack(link("a", "b/.."), link("b", "../outside"), file("a/secret")), false)
	f.Add(pack(tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "../outside/secret"}, file("x")), false)
	f.Fuzz(func(t *testing.T, archive []byte, keep bool) {
		if len(archive) > 8<<10 {
			return
		}
		dir := t.TempDir()
		target, outside := filepath.Join(dir, "target"), filepath.Join(dir, "outside")
		for _, d := range []string{target, outside} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		secret := filepath.Join(outside, "secret")
		if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := newUnpacker(t.Context(), protocol.WriteRequest{Path: wire.Bytes(target), NoOverwriteDirNonDir: keep})
		if err != nil {
			t.Fatal(err)
		}
		x.unpack(bytes.NewReader(archive))
		x.close()
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Fatalf("beside the target: %v, %v", entries, err)
		}
		entries, err = os.ReadDir(outside)
		if err != nil || len(entries) != 1 {
			t.Fatalf("outside: %v, %v", entries, err)
		}
		fi, err := os.Lstat(secret)
		if err != nil || fi.Mode() != 0o600 || fi.Size() != 6 {
			t.Fatalf("the secret: %v, %v", fi, err)
		}
		filepath.WalkDir(target, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				os.Chmod(path, 0o700) // so that the folder can be removed
			}
			return nil
		})
	})
}

// FuzzPSArgs: what is accepted has a column of pids and no more columns than there may be.
func FuzzPSArgs(f *testing.F) {
	for _, args := range []string{"", "-ef", "aux", "-aux", "-eo pid,comm=NAME,args", "--format pid", "o pid", "-lFyj", "-o pid=,cmd", "-o\x00", "-é"} {
		f.Add(args)
	}
	f.Fuzz(func(t *testing.T, args string) {
		cols, err := parsePS(args)
		if err != nil {
			if !protocol.HasCode(err, protocol.CodeInvalid) {
				t.Errorf("%q: %v", args, err)
			}
			return
		}
		if len(cols) > maxColumns || !slices.ContainsFunc(cols, func(c column) bool { return c.title == "PID" }) {
			t.Errorf("%q: %d columns", args, len(cols))
		}
		p := &psProcess{psShared: &psShared{names: map[string]string{}, mostShown: 100}, status: parseStatus(nil)}
		for _, c := range cols {
			c.show(p) // of a process of which nothing is known
		}
	})
}

// FuzzProcStat: a process chooses its own name, and the rest may be another kernel's.
func FuzzProcStat(f *testing.F) {
	own, _ := os.ReadFile("/proc/self/stat")
	f.Add(own)
	f.Add([]byte("1 (a) b) (c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1000 10 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0"))
	f.Add([]byte("1 (x) S"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parseProcStat(b)
		s, okSeen := parseStat(b)
		if ok && (p.pid <= 0 || okSeen && (p.pid != s.pid || p.ppid != s.parent || p.state != s.state)) {
			t.Errorf("%+v, %+v", p, s)
		}
		parseStatus(b)
		memTotal(b)
	})
}
