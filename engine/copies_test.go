package engine_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine"
)

func oneFile(t *testing.T, name, content string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func (r *rig) copyIn(id, path string, archive io.Reader) error {
	return r.b.Containers.WriteTree(r.t.Context(), id, path, sockerless.WriteOptions{}, archive)
}

// kept is what is on the disk for containers that have not run.
func (r *rig) kept() []string {
	r.t.Helper()
	all, err := filepath.Glob(filepath.Join(r.dir, "copies", "*", "*"))
	if err != nil {
		r.t.Fatal(err)
	}
	loose, _ := filepath.Glob(filepath.Join(r.dir, "copies", "new-*"))
	return append(all, loose...)
}

// What is copied before the start outlives the backend, and is there again in every fresh file system.
func TestCopyBeforeStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	dir := t.TempDir()
	id := r.create(sh("cat " + dir + "/f; rm " + dir + "/f"))
	if err := r.copyIn(id, dir, oneFile(t, "f", "copied\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/f"); err == nil {
		t.Error("it is there before the start")
	}
	r.reopen()
	for _, want := range []string{"copied\n", "copied\ncopied\n"} {
		exit := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		if u := exit(); u.ExitCode != 0 {
			t.Errorf("exit %+v", u)
		}
		if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != want {
			t.Errorf("output %q, want %q", got, want)
		}
		eventually(t, "the agent leaves, so that the next start is a new execution", func() bool {
			_, err := r.b.Containers.Stat(t.Context(), id, "/")
			return sockerless.ErrorCode(err) == sockerless.EUNSUPPORTED
		})
	}
	if err := r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is kept of a removed container", func() bool { return len(r.kept()) == 0 })
}

// A restart in place has the files as they are.
func TestCopyBeforeStartIsNotRepeatedInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}})
	dir := t.TempDir()
	id := r.create(sh("cat " + dir + "/f; echo changed >" + dir + "/f"))
	if err := r.copyIn(id, dir, oneFile(t, "f", "copied\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		exit := r.wait(id, docker.WaitConditionNextExit)
		r.start(id)
		exit()
	}
	if got := r.logs(id, sockerless.LogOptions{Tail: -1}); got != "copied\nchanged\n" {
		t.Errorf("output %q", got)
	}
}

// What has no place is refused, leaves nothing behind, and takes no place from others.
func TestCopyBeforeStartHasALimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{engine: engine.Options{CopyLimit: 100 << 10}})
	dir := t.TempDir()
	a, b := r.create(sh("true")), r.create(sh("cat "+dir+"/f | wc -c"))
	if err := r.copyIn(a, dir, oneFile(t, "f", strings.Repeat("x", 60<<10))); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := r.copyIn(b, dir, oneFile(t, "f", strings.Repeat("x", 60<<10)))
		if err == nil || !strings.Contains(err.Error(), "no space left on device: the files that are copied into containers before their start may take 102400 bytes") {
			t.Errorf("too much: %v", err)
		}
	}
	if n := len(r.kept()); n != 1 {
		t.Errorf("%d files are kept", n)
	}
	r.reopen() // which counts again
	if err := r.copyIn(b, dir, oneFile(t, "f", strings.Repeat("x", 60<<10))); err == nil {
		t.Error("too much after a restart")
	}
	// A petabyte of nothing takes what its archive does, and to look through that takes no time.
	if err := r.copyIn(r.create(sh("true")), dir, bytes.NewReader(sparseFile(t, 1<<50))); err != nil {
		t.Error(err)
	}
	// An upload that is cut off is no copy.
	cut, err := io.ReadAll(oneFile(t, "f", strings.Repeat("x", 20<<10)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.copyIn(b, dir, io.MultiReader(bytes.NewReader(cut[:10<<10]), broken{})); err == nil {
		t.Error("a cut upload went well")
	}
	if err := r.b.Containers.Remove(t.Context(), a, sockerless.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the place is free again", func() bool {
		return r.copyIn(b, dir, oneFile(t, "f", strings.Repeat("x", 60<<10))) == nil
	})
	exit := r.wait(b, docker.WaitConditionNextExit)
	r.start(b)
	exit()
	if got := r.logs(b, sockerless.LogOptions{Tail: -1}); strings.TrimSpace(got) != "61440" {
		t.Errorf("output %q", got)
	}
}

// sparseFile is a tar of a file that is one hole, in GNU's old form, which archive/tar reads and does not write.
func sparseFile(t *testing.T, size uint64) []byte {
	t.Helper()
	archive, err := io.ReadAll(oneFile(t, "hole", ""))
	if err != nil {
		t.Fatal(err)
	}
	h := archive[:512]
	number := func(at int, n uint64) {
		h[at] = 0x80
		binary.BigEndian.PutUint64(h[at+4:], n)
	}
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number(386, size) // the one part's offset, and its length
	number(398, 0)
	number(483, size)
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return archive
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Copies that race with the start arrive all the same: before it or into the running container.
func TestCopyWhileStarting(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r := newRig(t, rigOptions{reverse: reverse})
		dir := t.TempDir()
		id := r.create(sh("exec sleep 1000"))
		done := make(chan error, 1)
		go func() { // ends with the start
			done <- r.b.Containers.Start(t.Context(), id)
		}()
		n := 0
		for started := false; !started || n < 5; n++ {
			if err := r.copyIn(id, dir, oneFile(t, "f"+strings.Repeat("x", n%200), "x")); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				started = true
			default:
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != min(n, 200) {
			t.Errorf("%d files of %d, %v", len(entries), n, err)
		}
		if err := r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
}
