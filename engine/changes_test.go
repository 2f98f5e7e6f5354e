package engine

import (
	"archive/tar"
	"fmt"
	"iter"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// The image of these tests. What ends in a slash is a directory.
func imageOf(paths ...string) iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		for _, p := range paths {
			name, isDir := strings.CutSuffix(p, "/")
			h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, ModTime: time.Unix(1e9, 0)}
			if isDir {
				h.Typeflag = tar.TypeDir
			}
			if !yield(h, nil) {
				return
			}
		}
	}
}

// What an agent tells: "*" is touched, "@" a mount, "!" of another time than in the image.
func toldOf(lines ...string) iter.Seq2[protocol.Change, error] {
	return func(yield func(protocol.Change, error) bool) {
		for _, line := range lines {
			name := strings.TrimRight(line, "*@!")
			marks := line[len(name):]
			c := protocol.Change{Mode: 0o755, ModTime: time.Unix(1e9, 7), Touched: strings.Contains(marks, "*"), Mounted: strings.Contains(marks, "@")}
			if strings.Contains(marks, "!") {
				c.ModTime = time.Unix(2e9, 0)
			}
			name, isDir := strings.CutSuffix(name, "/")
			if isDir {
				c.Mode |= uint32(os.ModeDir)
			}
			c.Path = wire.Bytes(name)
			if !yield(c, nil) {
				return
			}
		}
	}
}

func TestDiff(t *testing.T) {
	image := []string{"bin/", "bin/sh", "etc/", "etc/hosts", "etc/passwd", "opt/", "opt/a/", "opt/a/deep/", "opt/a/deep/f", "proc/", "proc/x", "tmp/", "tmp/old"}
	for _, test := range []struct {
		name   string
		told   []string
		want   []string
		nested map[string][]string
	}{
		{"nothing", []string{"/"}, nil, nil},
		{"a file in a directory", []string{"/", "/tmp/*!", "/tmp/new*", "/tmp/old"}, []string{"C /tmp", "A /tmp/new"}, nil},
		{"in the root, which is never told", []string{"/*", "/bin/", "/etc/", "/new*", "/opt/", "/proc/@", "/tmp/"}, []string{"A /new"}, nil},
		{"changed in place", []string{"/", "/etc/*", "/etc/hosts", "/etc/passwd*"}, []string{"C /etc/passwd"}, nil},
		{"gone", []string{"/", "/tmp/*!"}, []string{"C /tmp", "D /tmp/old"}, nil},
		{"a tree that is gone is one change", []string{"/*", "/bin/", "/etc/", "/proc/@", "/tmp/"}, []string{"D /opt"}, nil},
		{"a directory's own attributes", []string{"/", "/tmp/*!", "/tmp/old"}, []string{"C /tmp"}, nil},
		{"a directory that was copied up and is as it was", []string{"/", "/tmp/*", "/tmp/old"}, nil, nil},
		{"a file became a directory", []string{"/", "/etc/*!", "/etc/hosts", "/etc/passwd/*", "/etc/passwd/x*"}, []string{"C /etc", "C /etc/passwd", "A /etc/passwd/x"}, nil},
		{"a directory became a file", []string{"/*", "/bin/", "/etc/", "/opt*", "/proc/@", "/tmp/"}, []string{"C /opt"}, nil},
		{"mounts and what is below them", []string{"/*", "/bin/", "/etc/*", "/etc/hosts@", "/etc/passwd", "/mnt/@", "/opt/", "/proc/@", "/tmp/"}, nil, nil},
		{"the platform's, from before", []string{"/*", "/.dockerenv", "/bin/", "/etc/", "/opt/", "/proc/@", "/tmp/"}, nil, nil},
		{"the parent is told when a late child needs it", []string{"/", "/opt/*", "/opt/a/", "/opt/z*"}, []string{"C /opt", "A /opt/z"}, nil},
		{"moved", []string{"/", "/opt/*!", "/opt/b/*", "/opt/b/deep/", "/tmp/*", "/tmp/new*", "/tmp/old"},
			[]string{"C /opt", "D /opt/a", "A /opt/b", "A /opt/b/deep", "A /opt/b/deep/f", "A /opt/b/deep/g", "C /tmp", "A /tmp/new"},
			map[string][]string{"opt/b/deep": {"/", "/f", "/g*"}}},
		{"moved, and changed after that", []string{"/", "/opt/*!", "/opt/b/*", "/opt/b/deep/", "/opt/b/deep/g*"},
			[]string{"C /opt", "D /opt/a", "A /opt/b", "A /opt/b/deep", "A /opt/b/deep/g"},
			map[string][]string{"opt/b/deep": {"/", "/g*"}}},
		{"an added tree", []string{"/", "/tmp/*!", "/tmp/d/*", "/tmp/d/e/*", "/tmp/d/e/f*", "/tmp/old"}, []string{"C /tmp", "A /tmp/d", "A /tmp/d/e", "A /tmp/d/e/f"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := func(enough int) []string {
				var got []string
				d := &diff{
					yield: func(c docker.FilesystemChange) bool {
						got = append(got, fmt.Sprintf("%s %s", c.Kind, c.Path))
						return len(got) != enough
					},
					below: func(path string) iter.Seq2[protocol.Change, error] {
						if test.nested[path] == nil {
							t.Errorf("asked for %s", path)
						}
						return toldOf(test.nested[path]...)
					},
				}
				image, stopImage := iter.Pull2(imageOf(image...))
				defer stopImage()
				told, stopTold := iter.Pull2(toldOf(test.told...))
				defer stopTold()
				if err := d.run(image, told); err != nil {
					t.Fatal(err)
				}
				return got
			}
			if diff := cmp.Diff(test.want, all(-1)); diff != "" {
				t.Error(diff)
			}
			for n := range len(test.want) { // the asker may leave at any time
				if diff := cmp.Diff(test.want[:n+1], all(n+1)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestDiffErrors(t *testing.T) {
	bad := func(yield func(protocol.Change, error) bool) {
		if yield(protocol.Change{Mode: uint32(os.ModeDir)}, nil) {
			yield(protocol.Change{}, os.ErrPermission)
		}
	}
	d := &diff{yield: func(docker.FilesystemChange) bool { return true }}
	image, stop := iter.Pull2(imageOf("a"))
	defer stop()
	told, stopTold := iter.Pull2(bad)
	defer stopTold()
	if err := d.run(image, told); err == nil {
		t.Error("an agent's error is not told")
	}
}
