//go:build linux

package host

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Import puts an image of this name into the host: this machine's static busybox, a few users, and files that
// are hard to run or to copy. A host that has an image of the name keeps it.
func (h *Host) Import(ctx context.Context, name string) error {
	if _, err := h.Client.ImageInspect(ctx, name); err == nil {
		return nil
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w: run `make setup-test` first", err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	list, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return err
	}
	rootfs, err := image(program, strings.Fields(string(list)))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker", "import", "-c", `CMD ["sh"]`, "-c", "ENV PATH=/bin", "-", name)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.Addr)
	cmd.Stdin = bytes.NewReader(rootfs)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker import: %w: %s", err, out)
	}
	return nil
}

// image is the root file system, as tar.
func image(program []byte, applets []string) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var errs []error
	add := func(h tar.Header, content string) {
		h.ModTime, h.Size = time.Unix(1577836800, 0), int64(len(content))
		errs = append(errs, w.WriteHeader(&h))
		_, err := io.WriteString(w, content)
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "data", "data/sub", "data/empty"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	add(tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, "")
	add(tar.Header{Typeflag: tar.TypeDir, Name: "home/app/", Mode: 0o755, Uid: 1000, Gid: 1000}, "")
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\napp:x:1000:1000:app:/home/app:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nusers:x:100:app\naudio:x:29:app\nnogroup:x:65534:\napp:x:1000:\n")
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(program))
	for _, name := range applets {
		if name != "busybox" {
			add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}, "")
		}
	}
	// What cannot be run.
	add(tar.Header{Name: "bin/nointerpreter", Mode: 0o755}, "#!/no/such/interpreter\n")
	add(tar.Header{Name: "bin/noformat", Mode: 0o755}, "no program\n")
	// What is copied.
	add(tar.Header{Name: "data/file", Mode: 0o640, Uid: 1000, Gid: 100}, "content of file\n")
	add(tar.Header{Name: "data/sub/inner", Mode: 0o600}, "content of inner\n")
	add(tar.Header{Name: "data/two words", Mode: 0o644}, "content of two words\n")
	add(tar.Header{Name: "data/setuid", Mode: 0o4755}, "content of setuid\n")
	add(tar.Header{Typeflag: tar.TypeLink, Name: "data/hard", Linkname: "data/file"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "data/link", Linkname: "file"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "data/abslink", Linkname: "/etc/group"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "data/dirlink", Linkname: "sub"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "data/dangling", Linkname: "/no/such/file"}, "")
	add(tar.Header{Typeflag: tar.TypeSymlink, Name: "data/loop", Linkname: "loop"}, "")
	add(tar.Header{Typeflag: tar.TypeFifo, Name: "data/fifo", Mode: 0o644}, "")
	errs = append(errs, w.Close())
	return buf.Bytes(), errors.Join(errs...)
}
