package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/engine/store"
)

const table = "containers"

// record is a container as it is stored.
type record struct {
	ID               string
	Name             string
	Created          time.Time
	Platform         string                    `json:",omitempty"`
	Config           *docker.Config            `json:",omitempty"`
	HostConfig       *docker.HostConfig        `json:",omitempty"`
	NetworkingConfig *network.NetworkingConfig `json:",omitempty"`
	Raw              json.RawMessage           `json:",omitempty"`
	Image            string
	ImageRef         string
	ImageUser        string `json:",omitempty"` // what the platform runs the agent as
	Limits           logstore.Limits
	State            sockerless.State
	Run              *runRecord `json:",omitempty"` // the latest

	RestartCount int           `json:",omitempty"` // by the policy, since the last start that was asked for
	Backoff      time.Duration `json:",omitempty"` // the pause before the latest of them
	Stopped      bool          `json:",omitempty"` // somebody has asked for the end: no policy restarts it
	// Again is when a new execution is to be placed, once the present one is over. Zero: none is.
	Again time.Time

	// Copied says that files were copied into it before its first start: Engine.copies has them.
	Copied bool `json:",omitempty"`

	// Removed makes the record a tombstone: the container is gone, its job may be there still.
	Removed bool `json:",omitempty"`
}

// stage is how far a run is. The order is that of a run's life.
type stage string

const (
	stageIntent  stage = "intent"  // wanted; whether the cloud knows is open
	stagePlaced  stage = "placed"  // the cloud has accepted the execution
	stageLinked  stage = "linked"  // its one agent is known; the process is to be started, or started again
	stageRunning stage = "running" // the process runs
	stageExited  stage = "exited"  // it has ended; the agent may be there still
	stageEnding  stage = "ending"  // the execution is not wanted any more and may be there still
	stageOver    stage = "over"    // nothing is left of it but the job
)

// runRecord is one execution as it is stored.
type runRecord struct {
	ID          string // the agent links under it
	Stage       stage
	Run         driver.Run // without an Execution until the cloud has accepted it
	Wanted      time.Time
	Boot        string // the boot id of the one agent that is obeyed
	Key         string // of the latest start of the process
	Incarnation int    // how often the process was started
	Previous    string // the execution before this one
	LogBase     uint64 // what is added to the agent's numbers of log records
	LastEvent   uint64 // the agent's events up to this one are dealt with
	Heard       uint64 `json:",omitempty"` // the agent's event that State.Health is from
	Probes      uint64 `json:",omitempty"` // how many of the incarnation's probes are in it

	Policy  protocol.RestartPolicy // as the agent knows it
	Resized bool                   // CPU or memory were changed since it was placed

	// Exited is when the exit was stored, whenever it was: the linger counts from then, also by a later engine.
	Exited time.Time
}

// container is a container in memory. Its lock is held over writes to the store and over nothing else that waits.
type container struct {
	e    *Engine
	id   string
	view atomic.Pointer[sockerless.Container] // for readers; never nil, never changed

	mu      sync.Mutex
	rec     record // as stored, but for the health, which may be newer
	version string
	removed bool
	attempt *attempt       // the start that is under way, or nil
	run     *run           // the live side of rec.Run; nil if that is over
	prev    *run           // the latest run, over or not; nil if this process has seen none
	pending []*lateSession // attached before the process runs
	waits   map[*wait]struct{}
	changed chan struct{}            // closed when view is another one; nil if nobody waits for that
	size    *sockerless.TerminalSize // of the terminal, set before the start
	keep    int                      // restarts under way: AutoRemove waits, and the agent stays
	turns   int                      // how often this process has stored that the container was paused, or goes on
	// untold is why a start failed after its asker was told that it goes well. Only that is told to waits: the CLI takes
	// a wait's error for one of its own, and leaves with 125 whatever the exit code (docker/cli, container/utils.go).
	untold string
}

func newContainer(e *Engine, rec record, version string) *container {
	c := &container{e: e, id: rec.ID, rec: rec, version: version, waits: make(map[*wait]struct{})}
	c.publish()
	return c
}

// publish makes what is stored visible. c.mu is held, or c is new.
func (c *container) publish() {
	v := &sockerless.Container{
		ID: c.rec.ID, Name: c.rec.Name, Created: c.rec.Created, Platform: c.rec.Platform,
		Config: c.rec.Config, HostConfig: c.rec.HostConfig, NetworkingConfig: c.rec.NetworkingConfig, Raw: c.rec.Raw,
		Image: c.rec.Image, ImageRef: c.rec.ImageRef,
		State: c.rec.State, RestartCount: c.rec.RestartCount,
	}
	v.LogAttributes, _ = logAttributes(&c.rec) // create has refused what is wrong
	if r := c.rec.Run; r != nil {
		v.Run = &sockerless.Run{Job: r.Run.Job, Execution: r.Run.Execution, Incarnation: r.Incarnation}
	}
	c.view.Store(v)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// awaitChange returns a channel that is closed when view is another one. c.mu is held.
func (c *container) awaitChange() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// change stores what f makes of the record, then makes it visible. If it cannot be stored, nothing has changed.
// c.mu is held.
func (c *container) change(f func(*record)) error {
	next := c.rec
	if next.Run != nil {
		r := *next.Run
		next.Run = &r
	}
	f(&next)
	value, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("cannot store container %s: %w", c.id, err)
	}
	// Not the caller's context: a write that is given up half way leaves open what is stored.
	item, err := c.e.store.Put(context.WithoutCancel(c.e.ctx), table, store.Item{Key: c.id, Value: value, Version: c.version})
	if err != nil {
		return fmt.Errorf("cannot store container %s: %w", c.id, err)
	}
	c.rec, c.version = next, item.Version
	c.publish()
	return nil
}

// running says whether Docker would call the container running: one that is being started, and one that will be
// restarted, included. c.mu is held.
func (c *container) running() bool {
	switch c.rec.State.Status {
	case docker.StateRunning, docker.StatePaused, docker.StateRestarting:
		return true
	}
	return c.attempt != nil
}

// restarting says whether the process has ended and a policy will run it again. c.mu is held.
func (c *container) restarting() bool { return c.rec.State.Status == docker.StateRestarting }

// held says whether a restart is under way.
func (c *container) held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keep > 0
}

// name is for messages. c.mu is held.
func (c *container) name() string { return "/" + c.rec.Name }

// find returns the container that ref means: a whole id, a name, or an unambiguous prefix of an id.
func (e *Engine) find(ref string) (*container, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if ref == "" {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid container name or ID: value is empty")
	}
	if c := e.containers[ref]; c != nil {
		return c, nil
	}
	if c := e.names[trimSlash(ref)]; c != nil {
		return c, nil
	}
	var found *container
	for id, c := range e.containers {
		if len(id) > len(ref) && id[:len(ref)] == ref {
			if found != nil {
				return nil, sockerless.Errorf(sockerless.EINVALID, "multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such container: %s", ref)
	}
	return found, nil
}

// exists says whether there is a container with this id, or something of it.
func (e *Engine) exists(id string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.containers[id] != nil || e.buried[id]
}

// locked returns the container that ref means with its lock held.
func (e *Engine) locked(ref string) (*container, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.removed {
		c.mu.Unlock()
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such container: %s", ref)
	}
	return c, nil
}

func trimSlash(name string) string {
	if len(name) > 0 && name[0] == '/' {
		return name[1:]
	}
	return name
}

// containerService is the engine's ContainerService; its methods are in the files of their nouns.
type containerService struct{ *Engine }

// Find returns one container.
func (s containerService) Find(ctx context.Context, ref string) (*sockerless.Container, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	found := clone(c.view.Load())
	found.Execs = s.execs.of(c.id)
	return found, ctx.Err()
}
