package engine

import (
	"context"
	"time"

	"github.com/sockerless/sockerless"
)

// sizePatience is how long a size waits for a link: a list asks for that of many containers.
const sizePatience = 5 * time.Second

// Size says how much the container takes.
func (s containerService) Size(ctx context.Context, ref string) (*sockerless.ContainerSize, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	size := &sockerless.ContainerSize{}
	if size.Written, err = c.written(ctx); err != nil {
		return nil, err
	}
	size.Whole = max(size.Written, 0)
	image, err := s.opt.Images.Find(ctx, c.view.Load().Image)
	switch {
	case err == nil:
		size.Whole += image.Size
	case sockerless.ErrorCode(err) != sockerless.ENOTFOUND: // else it was forgotten here
		return nil, err
	}
	return size, ctx.Err()
}

// written is how much the container has written; -1 if its agent cannot say.
func (c *container) written(ctx context.Context) (int64, error) {
	soon, cancel := context.WithTimeout(ctx, sizePatience)
	defer cancel()
	a, err := c.filesAgent(soon)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case sockerless.ErrorCode(err) == sockerless.EUNSUPPORTED: // there is no file system, or not yet
		return 0, nil
	default:
		return -1, nil
	}
	a.open.Add(1)
	defer a.leave()
	size, err := a.client.Size(ctx)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		c.e.log.Warn("cannot tell a container's size", "container", c.id, "error", err)
		return -1, nil
	}
	return size.Bytes, nil
}
