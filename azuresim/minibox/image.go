// Package minibox makes a small OCI image from Go alone: one static program (cmd/minibox, its applets in applet), links to
// it in /bin, and the few files that a Linux userland is expected to have. The simulator pushes it into its registry, so
// that there is something to run on a machine without internet.
package minibox

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// applets are the links in /bin: what `minibox --list` prints (a test compares).
var applets = []string{
	"[", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "dirname", "echo", "env", "false", "find", "grep", "head", "hostname",
	"id", "kill", "ln", "ls", "mkdir", "mv", "nc", "printenv", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "seq", "sh", "sha256sum", "sleep",
	"sort", "stty", "sync", "tail", "tar", "tee", "test", "touch", "tr", "true", "tty", "uname", "wc", "whoami", "yes",
}

const version = "1"

var files = map[string]string{
	"etc/os-release": "NAME=\"Minibox\"\nID=minibox\nVERSION_ID=" + version + "\nPRETTY_NAME=\"Minibox " + version + "\"\n" +
		"HOME_URL=\"https://github.com/sockerless/sockerless\"\n",
	"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/home/app:/bin/sh\n",
	"etc/group":  "root:x:0:\ntty:x:5:\nusers:x:100:app\nnogroup:x:65534:\napp:x:1000:\n",
	"etc/hosts":  "127.0.0.1\tlocalhost\n",
}

type folder struct {
	mode     int64
	uid, gid int
}

var folders = map[string]folder{
	"bin": {0o755, 0, 0}, "dev": {0o755, 0, 0}, "etc": {0o755, 0, 0}, "home": {0o755, 0, 0}, "home/app": {0o755, 1000, 1000}, "proc": {0o555, 0, 0},
	"root": {0o700, 0, 0}, "run": {0o755, 0, 0}, "sys": {0o555, 0, 0}, "tmp": {0o1777, 0, 0}, "var": {0o755, 0, 0}, "var/tmp": {0o1777, 0, 0},
}

// Image builds the image from the program at path (see Binary), for the architecture of this process. The same program
// makes the same image, to the digest.
func Image(path string) (v1.Image, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the minibox program: %w", err)
	}
	content, err := layer(program)
	if err != nil {
		return nil, err
	}
	rootfs, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("cannot make minibox's layer: %w", err)
	}
	// The compressed bytes are kept: without this each read of the layer compresses again.
	zipped, err := rootfs.Compressed()
	if err != nil {
		return nil, fmt.Errorf("cannot make minibox's layer: %w", err)
	}
	blob, err := io.ReadAll(zipped)
	if err != nil {
		return nil, fmt.Errorf("cannot make minibox's layer: %w", err)
	}
	diffID, err := rootfs.DiffID()
	if err != nil {
		return nil, fmt.Errorf("cannot make minibox's layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:   knownLayer{static.NewLayer(blob, types.OCILayer), diffID, content},
		History: v1.History{CreatedBy: "minibox", Created: v1.Time{Time: epoch}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make the minibox image: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("cannot make the minibox image: %w", err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Created = v1.Time{Time: epoch}
	config.Config = v1.Config{
		Cmd:    []string{"sh"},
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{"org.opencontainers.image.title": "minibox", "org.opencontainers.image.version": version},
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("cannot make the minibox image: %w", err)
	}
	return img, nil
}

// epoch is the time of every file, so that builds compare equal.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func layer(program []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) error {
		h.ModTime, h.Format, h.Size = epoch, tar.FormatUSTAR, int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			return fmt.Errorf("cannot write %s into minibox's layer: %w", h.Name, err)
		}
		_, err := w.Write(content)
		return err
	}
	var names []string
	for name := range folders {
		names = append(names, name)
	}
	slices.Sort(names) // parents come before what is in them
	for _, name := range names {
		f := folders[name]
		if err := add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: f.mode, Uid: f.uid, Gid: f.gid}, nil); err != nil {
			return nil, err
		}
	}
	names = names[:0]
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(files[name])); err != nil {
			return nil, err
		}
	}
	if err := add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/minibox", Mode: 0o755}, program); err != nil {
		return nil, err
	}
	for _, name := range applets {
		if err := add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "minibox", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// knownLayer is a blob whose uncompressed form is known too.
type knownLayer struct {
	v1.Layer
	diffID v1.Hash
	plain  []byte
}

func (l knownLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }
func (l knownLayer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.plain)), nil
}
