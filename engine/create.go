package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/fields"
	"github.com/sockerless/sockerless/engine/logstore"
)

// Create records a container: one write to the store and no call to the cloud.
func (s containerService) Create(ctx context.Context, req sockerless.CreateRequest) (*sockerless.CreateResult, error) {
	if req.Config == nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "config cannot be empty in order to create a container")
	}
	req = detach(req)
	warnings, err := fields.Check(&req)
	if err != nil {
		return nil, err
	}
	image, err := s.opt.Images.Find(ctx, req.Config.Image)
	if err != nil {
		return nil, err
	}
	more, err := fields.CheckImage(image, &req)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	rec, err := s.newRecord(image, req)
	if err != nil {
		return nil, err
	}
	if more, err = s.opt.Driver.Check(s.spec(rec)); err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	c := newContainer(s.Engine, rec, "")
	if rec.Name, err = s.reserve(req.Name, c); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.change(func(r *record) { *r = rec }); err != nil {
		s.release(rec.Name, c)
		return nil, err
	}
	s.mu.Lock()
	s.containers[c.id] = c
	s.order = nil
	s.mu.Unlock()
	c.event(events.ActionCreate, nil)
	if warnings == nil {
		warnings = []string{}
	}
	return &sockerless.CreateResult{ID: c.id, Warnings: warnings}, nil
}

// detach copies what the caller may go on changing, and fills in what may be left out.
func detach(req sockerless.CreateRequest) sockerless.CreateRequest {
	c := clone(&sockerless.Container{
		Config: req.Config, HostConfig: req.HostConfig, NetworkingConfig: req.NetworkingConfig, Raw: req.Raw,
	})
	req.Config, req.HostConfig, req.NetworkingConfig, req.Raw = c.Config, c.HostConfig, c.NetworkingConfig, c.Raw
	if req.HostConfig == nil {
		req.HostConfig = &docker.HostConfig{}
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	return req
}

// newRecord makes the record of a container that can be, but for its name.
func (e *Engine) newRecord(image *sockerless.Image, req sockerless.CreateRequest) (record, error) {
	rec := record{
		ID: newID(32), Created: time.Now().UTC(), Platform: req.Platform,
		Config: req.Config, HostConfig: req.HostConfig, NetworkingConfig: req.NetworkingConfig, Raw: req.Raw,
		Image: image.ID, ImageRef: image.Source,
		State: sockerless.State{Status: docker.StateCreated},
	}
	if image.Defaults != nil {
		rec.ImageUser = image.Defaults.User
	}
	defaults := clone(&sockerless.Container{Config: image.Defaults}).Config
	if err := merge(rec.Config, defaults); err != nil {
		return record{}, err
	}
	if rec.Config.Hostname == "" {
		rec.Config.Hostname = rec.ID[:12]
	}
	e.settleEndpoints(&rec)
	var err error
	rec.Limits, err = logstore.ParseLimits(rec.HostConfig.LogConfig.Type, rec.HostConfig.LogConfig.Config, units.FromHumanSize)
	if err != nil {
		return record{}, sockerless.Errorf(sockerless.EINVALID, "failed to initialize logging driver: %w", err)
	}
	if _, err := logAttributes(&rec); err != nil {
		return record{}, err
	}
	return rec, nil
}

// spec is what the driver is asked to run. It has no ID and no secret before a start.
func (e *Engine) spec(rec record) driver.Spec {
	r := rec.HostConfig.Resources
	cpu := float64(r.NanoCPUs) / 1e9
	if cpu == 0 && r.CPUQuota > 0 {
		period := r.CPUPeriod
		if period == 0 {
			period = 100_000 // the kernel's default, in µs
		}
		cpu = float64(r.CPUQuota) / float64(period)
	}
	return driver.Spec{
		Container: rec.ID, Name: rec.Name,
		Image: rec.ImageRef, User: rec.ImageUser,
		CPU: math.Round(cpu*1000) / 1000, Memory: r.Memory,
		MaxRuntime: e.opt.MaxRuntime, Orphan: orphanTime,
	}
}

// imageService is the store of images with what only the engine knows of them.
type imageService struct {
	ImageStore
	e *Engine
}

// List yields images.
func (s imageService) List(ctx context.Context, opt sockerless.ImageListOptions) iter.Seq2[*sockerless.Image, error] {
	return func(yield func(*sockerless.Image, error) bool) {
		users := map[string]int{}
		for _, c := range s.e.all() {
			users[c.Image]++
		}
		for img, err := range s.ImageStore.List(ctx, opt) {
			if img != nil {
				img.Containers = users[img.ID]
			}
			if !yield(img, err) {
				return
			}
		}
	}
}

// usersOf lists the containers of an image.
func (e *Engine) usersOf(imageID string) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var ids []string
	for id, c := range e.containers {
		if c.view.Load().Image == imageID {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Rename gives the container another name.
func (s containerService) Rename(_ context.Context, ref, name string) error {
	if name == "" || name == "/" {
		return sockerless.Errorf(sockerless.EINVALID, "Neither old nor new names may be empty")
	}
	c, err := s.locked(ref)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	old := c.rec.Name
	if trimSlash(name) == old {
		return sockerless.Errorf(sockerless.EINVALID, "Renaming a container with the same name as its current name")
	}
	if name, err = s.reserve("/"+trimSlash(name), c); err != nil {
		return sockerless.Errorf(sockerless.ErrorCode(err), "Error when allocating new name: %w", err)
	}
	if err := c.change(func(r *record) { r.Name = name }); err != nil {
		s.release(name, c)
		return err
	}
	s.release(old, c)
	c.event(events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}

// refuse tells why a container's process cannot be asked for something, in Docker's words.
func (c *container) refuse() error {
	return sockerless.Errorf(sockerless.ECONFLICT, "container %s is not running", c.id)
}

var errClosing = errors.New("the backend is closing")

func closing() error {
	return sockerless.Errorf(sockerless.EUNAVAILABLE, "%w", fmt.Errorf("cannot do that now: %w", errClosing))
}
