package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/engine/images"
	"github.com/sockerless/sockerless/wire"
)

// What one commit may have: its list of changes is held in memory.
const (
	maxCommitted      = 1 << 20
	maxCommittedBytes = 128 << 20
	// packBytes is how many bytes of paths an agent is asked for at once. A file with several names that are asked for apart
	// is in the layer several times.
	packBytes = 4 << 20
)

// Commit makes an image of a container. What has changed in it is found as for docker diff; the agent sends those files
// alone.
func (s containerService) Commit(ctx context.Context, ref string, opt sockerless.CommitOptions) (id string, err error) {
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	status, gone := c.rec.State.Status, c.removed
	c.mu.Unlock()
	if gone || status == docker.StateRemoving {
		return "", sockerless.Errorf(sockerless.ECONFLICT, "You cannot commit container %s which is being removed", c.id)
	}
	from := clone(c.view.Load())
	if opt.Config, err = committedConfig(from.Config, opt); err != nil {
		return "", err
	}
	if opt.Pause && status == docker.StateRunning {
		unpause, err := s.pausedFor(ctx, c)
		if err != nil {
			return "", err
		}
		defer unpause()
	}
	changes, err := s.committed(ctx, c)
	if err != nil {
		return "", err
	}
	var layer io.Reader // nil if nothing has changed
	if len(changes) > 0 {
		a, err := c.filesAgent(ctx)
		if err != nil {
			return "", err
		}
		a.open.Add(1)
		defer a.leave()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, w := io.Pipe()
		defer r.Close()
		go func() { w.CloseWithError(c.lost(ctx, writeLayer(ctx, w, a.client, changes))) }() // ends with r
		layer = r
	}
	if id, err = s.opt.Images.Commit(ctx, from, opt, layer); err != nil {
		return "", fileError(err, "/", ref)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event(events.ActionCommit, map[string]string{"comment": opt.Comment, "imageID": id, "imageRef": opt.Ref})
	return id, nil
}

// committedConfig is what the new image says to its containers: what was asked for, changed, the container's filled in.
func committedConfig(of *docker.Config, opt sockerless.CommitOptions) (*docker.Config, error) {
	asked := opt.Config
	if asked == nil {
		asked = of
	}
	config := clone(asked)
	if err := images.ApplyChanges(config, opt.Changes); err != nil {
		return nil, err
	}
	if opt.Config == nil {
		return config, nil
	}
	onBuild := config.OnBuild // it is the image's alone in a container, and of the one that is made here it is what was asked for
	if err := merge(config, clone(of)); err != nil {
		return nil, err
	}
	config.OnBuild = onBuild
	return config, nil
}

// pausedFor pauses a container that runs, and returns what lets it go on. One that has ended or was paused meanwhile is
// left as it is.
func (s containerService) pausedFor(ctx context.Context, c *container) (unpause func(), err error) {
	err = s.setPaused(ctx, c.id, true)
	switch {
	case sockerless.ErrorCode(err) == sockerless.ECONFLICT:
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("cannot commit container %s with its processes paused, try without: %w", c.id[:12], err)
	}
	return func() {
		// Whoever asked may have gone, and the container must not stay so.
		if err := s.setPaused(context.WithoutCancel(ctx), c.id, false); err != nil && sockerless.ErrorCode(err) != sockerless.ECONFLICT {
			s.log.Warn("cannot unpause a container after its commit", "container", c.id, "error", err)
		}
	}, nil
}

// committed lists what has changed in a container, in the order of a walk.
func (s containerService) committed(ctx context.Context, c *container) (list []docker.FilesystemChange, err error) {
	bytes := 0
	large := false
	err = s.changes(ctx, c.id, func(change docker.FilesystemChange) bool {
		bytes += len(change.Path)
		large = len(list) >= maxCommitted || bytes > maxCommittedBytes
		list = append(list, change)
		return !large
	})
	if large {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot commit container %s: more than %d files have changed in it", c.id[:12], maxCommitted)
	}
	slices.SortFunc(list, func(a, b docker.FilesystemChange) int { return images.WalkOrder(a.Path, b.Path) })
	return list, err
}

// writeLayer writes a layer of changes: what was added or changed, as the agent sends it, then a mark for what is gone.
func writeLayer(ctx context.Context, w io.Writer, client *protocol.Client, changes []docker.FilesystemChange) error {
	out := tar.NewWriter(w)
	var paths []wire.Bytes
	bytes := 0
	for i, change := range changes {
		if change.Kind != docker.ChangeDelete {
			paths = append(paths, wire.Bytes(change.Path))
			bytes += len(change.Path)
		}
		if len(paths) > 0 && (bytes >= packBytes || i == len(changes)-1) {
			if err := copyPacked(ctx, out, client, paths); err != nil {
				return err
			}
			paths, bytes = nil, 0
		}
	}
	for _, change := range changes {
		if change.Kind == docker.ChangeDelete {
			// image-spec, layer.md, "Whiteouts".
			dir, base := path.Split(strings.TrimPrefix(change.Path, "/"))
			if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base, Format: tar.FormatPAX}); err != nil {
				return err
			}
		}
	}
	return out.Close()
}

// lost gives an error of the link to the agent its code; the agent's own have theirs.
func (c *container) lost(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || sockerless.ErrorCode(err) != sockerless.EINTERNAL {
		return err
	}
	return sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot read what has changed in container %s: %w", c.id[:12], err)
}

// copyPacked copies what an agent packs, without the end mark.
func copyPacked(ctx context.Context, out *tar.Writer, client *protocol.Client, paths []wire.Bytes) error {
	packed, err := client.Pack(ctx, protocol.PackRequest{Paths: paths})
	if err != nil {
		return err
	}
	defer packed.Close()
	for in := tar.NewReader(packed); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Format = tar.FormatPAX
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}
