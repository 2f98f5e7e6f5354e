package engine

import (
	"context"
	"io"
	"os"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// runningAgent returns the agent of a container whose process runs, waiting for it while it is being started. check is
// asked with the lock held whether it may be waited for.
func (c *container) runningAgent(ctx context.Context, check func(*container) error) (*agent, error) {
	for {
		c.mu.Lock()
		if err := check(c); err != nil {
			c.mu.Unlock()
			return nil, err
		}
		r, a := c.run, c.attempt
		c.mu.Unlock()
		if a == nil && r != nil {
			return r.linkedAgent(ctx)
		}
		var settled <-chan struct{}
		if a != nil {
			settled = a.settled
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.e.ctx.Done():
			return nil, closing()
		}
	}
}

// filesAgent returns the agent that has the container's files: it runs, or has ended just now.
func (c *container) filesAgent(ctx context.Context) (*agent, error) {
	return c.runningAgent(ctx, func(c *container) error {
		switch {
		case c.restarting() && c.rec.Run.Stage != stageRunning:
			return sockerless.Errorf(sockerless.ECONFLICT,
				"cannot copy files of container %s: its job execution has ended, and it is restarting in a new one", c.id[:12])
		case c.running() || c.run != nil && c.rec.Run.Stage == stageExited:
			return nil
		case c.rec.Run == nil:
			return sockerless.Errorf(sockerless.EUNSUPPORTED,
				"cannot copy files of container %s: it was never started, and Container Apps has no file system for it before that", c.id[:12])
		}
		return sockerless.Errorf(sockerless.EUNSUPPORTED,
			"cannot copy files of container %s: it has exited, and its file system went with the job execution %s later", c.id[:12], c.e.opt.Linger)
	})
}

// Stat describes a path inside the container.
func (s containerService) Stat(ctx context.Context, ref, path string) (*docker.PathStat, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	unborn, err := c.unborn(ctx)
	if err != nil {
		return nil, err
	}
	if unborn {
		return c.preview().stat(ctx, ref, absolute(path))
	}
	a, err := c.filesAgent(ctx)
	if err != nil {
		return nil, err
	}
	st, err := a.client.Stat(ctx, absolute(path))
	if err != nil {
		return nil, fileError(err, path, ref)
	}
	return pathStat(st), nil
}

// ReadTree returns the path as a tar stream.
func (s containerService) ReadTree(ctx context.Context, ref, path string) (*docker.PathStat, io.ReadCloser, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, nil, err
	}
	unborn, err := c.unborn(ctx)
	if err != nil {
		return nil, nil, err
	}
	if unborn {
		return c.preview().read(ctx, ref, absolute(path))
	}
	a, err := c.filesAgent(ctx)
	if err != nil {
		return nil, nil, err
	}
	st, body, err := a.client.Read(ctx, absolute(path))
	if err != nil {
		return nil, nil, fileError(err, path, ref)
	}
	c.mu.Lock()
	c.event(events.ActionArchivePath, nil)
	c.mu.Unlock()
	a.open.Add(1)
	return pathStat(st), &download{ReadCloser: body, agent: a}, nil
}

// Export returns the container's root file system as a tar stream.
func (s containerService) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	unborn, err := c.unborn(ctx)
	if err != nil {
		return nil, err
	}
	if unborn {
		return c.preview().tree(ctx, "", "")
	}
	a, err := c.filesAgent(ctx)
	if err != nil {
		return nil, err
	}
	body, err := a.client.Export(ctx)
	if err != nil {
		return nil, fileError(err, "/", ref)
	}
	c.mu.Lock()
	c.event(events.ActionExport, nil)
	c.mu.Unlock()
	a.open.Add(1)
	return &download{ReadCloser: body, agent: a}, nil
}

// download is a stream that the agent must not be told to leave under.
type download struct {
	io.ReadCloser
	agent  *agent
	closed bool
}

// Close ends the download. It is not called concurrently.
func (d *download) Close() error {
	if !d.closed {
		d.closed = true
		d.agent.leave()
	}
	return d.ReadCloser.Close()
}

// WriteTree unpacks a tar stream into an existing folder.
func (s containerService) WriteTree(ctx context.Context, ref, path string, opt sockerless.WriteOptions, tar io.Reader) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	unborn, err := c.unborn(ctx)
	if err != nil {
		return err
	}
	if unborn {
		return c.keepCopy(ctx, ref, path, opt, tar)
	}
	return c.writeTree(ctx, ref, path, opt, tar)
}

func (c *container) writeTree(ctx context.Context, ref, path string, opt sockerless.WriteOptions, tar io.Reader) error {
	a, err := c.filesAgent(ctx)
	if err != nil {
		return err
	}
	err = a.client.Write(ctx, copied{Path: wire.Bytes(absolute(path)), Options: opt}.request(protocol.WriteRequest{User: c.view.Load().Config.User}), tar)
	if err != nil {
		return fileError(err, path, ref)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event(events.ActionExtractToDir, nil)
	return nil
}

func absolute(path string) string {
	if len(path) == 0 || path[0] != '/' {
		return "/" + path
	}
	return path
}

func pathStat(st protocol.FileStat) *docker.PathStat {
	return &docker.PathStat{Name: st.Name, Size: st.Size, Mode: os.FileMode(st.Mode), Mtime: st.ModTime, LinkTarget: st.LinkTarget}
}

// fileError gives an agent's refusal Docker's words.
func fileError(err error, path, ref string) error {
	switch {
	case protocol.HasCode(err, protocol.CodeNoPath):
		return sockerless.Errorf(sockerless.ENOTFOUND, "Could not find the file %s in container %s", path, ref)
	case protocol.HasCode(err, protocol.CodeNotDirectory):
		return sockerless.Errorf(sockerless.EINVALID, "extraction point is not a directory")
	case protocol.HasCode(err, protocol.CodeDirConflict), protocol.HasCode(err, protocol.CodeInvalid):
		return sockerless.Errorf(sockerless.EINVALID, "%s", err)
	case protocol.HasCode(err, protocol.CodePermission):
		return sockerless.Errorf(sockerless.EFORBIDDEN, "%s", err)
	case protocol.HasCode(err, protocol.CodeNoSpace):
		return sockerless.Errorf(sockerless.EINTERNAL, "%s", err)
	}
	return err
}
