package engine

import (
	"context"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
)

// Top lists the container's processes.
func (s containerService) Top(ctx context.Context, ref, psArgs string) (*docker.TopResponse, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	a, err := c.runningAgent(ctx, (*container).mustRun)
	if err != nil {
		return nil, err
	}
	res, err := a.client.Top(ctx, psArgs)
	switch {
	case protocol.HasCode(err, protocol.CodeNotRunning):
		return nil, sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.id)
	case protocol.HasCode(err, protocol.CodeInvalid):
		return nil, sockerless.Errorf(sockerless.EINVALID, "%s", err)
	case err != nil:
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event(events.ActionTop, nil)
	return &docker.TopResponse{Titles: res.Titles, Processes: res.Processes}, nil
}

// mustRun refuses what is asked of a container's processes if there are none. c.mu is held.
func (c *container) mustRun() error {
	if c.restarting() {
		return isRestarting(c)
	}
	if !c.running() {
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.id)
	}
	return nil
}
