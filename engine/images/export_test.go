package images

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
)

// Bound is the writer between an archive and the disk.
func Bound(w io.Writer, limit int64, dir string) io.Writer {
	return &bounder{w: w, left: limit, limit: limit, dir: dir}
}

// Watch runs work as a layer is pushed.
func Watch(ctx context.Context, say func(jsonstream.Message) error, count *atomic.Int64, work func(context.Context) error) error {
	p := &push{host: "example.azurecr.io", say: say}
	return p.watch(ctx, "abc", "Pushing", 100, count, work)
}

// Changes applies the changes of docker import to an empty config.
func Changes(changes ...string) (container.Config, error) {
	var c container.Config
	err := ApplyChanges(&c, changes)
	return c, err
}
