package images

import (
	"io"

	"github.com/moby/moby/api/types/container"
)

// Bound is the writer between an archive and the disk.
func Bound(w io.Writer, limit int64, dir string) io.Writer {
	return &bounder{w: w, left: limit, limit: limit, dir: dir}
}

// Changes applies the changes of docker import to an empty config.
func Changes(changes ...string) (container.Config, error) {
	var c container.Config
	err := applyChanges(&c, changes)
	return c, err
}
