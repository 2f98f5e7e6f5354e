//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/go-archive"
	"golang.org/x/sys/unix"
)

// rootfs is one container's file system: an overlay over the image's layers, or a copy of them.
type rootfs struct {
	rt  *Runtime
	dir string // what Root.Path of the spec says
	// root opens it from any thread: the path itself means something only in the runtime's mount namespace.
	root    *os.Root
	mounted bool
}

// newRootfs makes the file system of img in dir, which exists.
func (rt *Runtime) newRootfs(img *image, dir string) (*rootfs, error) {
	r := &rootfs{rt: rt, dir: filepath.Join(dir, "rootfs")}
	if err := makeRoot(r.dir); err != nil {
		return nil, err
	}
	err := rt.mounts.run(rt.dir.layers, func() (err error) {
		if rt.mounts.overlay {
			if err := rt.mounts.mountOverlay(img.layers, dir, r.dir); err != nil {
				return err
			}
			r.mounted = true
		} else if err := copyLayers(img.layers, r.dir, rt.tarOptions()); err != nil {
			return err
		}
		r.root, err = os.OpenRoot(r.dir)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the container's file system: %w", err), r.close())
	}
	return r, nil
}

// mountOverlay is called in the namespace, in the folder of layers. upper and work go into dir.
func (m *mountNamespace) mountOverlay(layers []string, dir, merged string) error {
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err := makeRoot(d); err != nil {
			return err
		}
	}
	lower := make([]string, 0, len(layers))
	for _, l := range slices.Backward(layers) { // the topmost comes first
		lower = append(lower, l+"/fs")
	}
	options := m.overlayOptions + "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + escapeOption(upper) + ",workdir=" + escapeOption(work)
	if len(options) >= os.Getpagesize() {
		return fmt.Errorf("the image has too many layers (%d) for one overlay mount", len(layers))
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("cannot mount an overlay: %w", err)
	}
	return nil
}

// makeRoot makes what becomes a container's "/": every user must get through, whatever this process's umask is.
func makeRoot(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// escapeOption protects what separates mount options.
func escapeOption(path string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(path)
}

// probeOverlay finds out whether this kernel mounts overlays on the data folder's file system, and whether it knows
// volatile, which spares the syncs of files that nobody will read after a crash.
func (m *mountNamespace) probeOverlay(layers, scratch string, nested bool) error {
	marks := "" // where the marks of opaque folders are: root of a user namespace may not write trusted.*
	if nested {
		marks = "userxattr,"
	}
	for i, options := range []string{marks + "volatile,", marks} {
		dir := filepath.Join(scratch, fmt.Sprintf("overlay-%d", i))
		merged := filepath.Join(dir, "merged")
		if err := os.MkdirAll(merged, 0o755); err != nil {
			return err
		}
		m.overlayOptions = options
		err := m.run(layers, func() error {
			if err := m.mountOverlay([]string{emptyLayer}, dir, merged); err != nil {
				return err
			}
			// Whiteouts are made by renames that some file systems (an overlay itself) refuse below an overlay.
			file := filepath.Join(merged, "file")
			err := os.WriteFile(file, nil, 0o600)
			if err == nil {
				err = os.Remove(file)
			}
			return errors.Join(err, unix.Unmount(merged, unix.MNT_DETACH))
		})
		if err == nil {
			m.overlay = true
			return nil
		}
	}
	return nil
}

// copyLayers is called in the folder of layers, where there is no overlay.
func copyLayers(layers []string, to string, options *archive.TarOptions) error {
	for _, l := range layers {
		if l == emptyLayer {
			continue
		}
		file, err := os.Open(filepath.Join(l, "layer.tar"))
		if err != nil {
			return err
		}
		_, err = archive.ApplyUncompressedLayer(to, file, options)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// close unmounts; the folders are the caller's.
func (r *rootfs) close() error {
	var errs []error
	if r.root != nil {
		errs = append(errs, r.root.Close())
	}
	if r.mounted {
		errs = append(errs, r.rt.mounts.run("/", func() error {
			return os.NewSyscallError("umount", unix.Unmount(r.dir, unix.MNT_DETACH))
		}))
	}
	return errors.Join(errs...)
}
