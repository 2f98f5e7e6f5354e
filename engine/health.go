package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless/agent/protocol"
)

// Docker's defaults for what a health check leaves open, and its number of results in inspect.
const (
	defaultProbeInterval = 30 * time.Second
	defaultProbeTimeout  = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultProbeRetries  = 3
	probesShown          = 5
)

// healthPause is how often a container's health is stored at most. A change that is not stored is told again by the
// agent, should this process be killed.
const healthPause = time.Second

// heard is what a run's agent has said of the health. The container's lock guards it.
type heard struct {
	last    protocol.Event
	saved   time.Time // when it was stored
	unsaved bool      // the status in the store is another one
}

// probeCommand is what a container's health check runs, or nil without one. A type that Docker does not know is none.
func probeCommand(config *docker.Config) []string {
	if config.Healthcheck == nil || len(config.Healthcheck.Test) == 0 {
		return nil
	}
	args := config.Healthcheck.Test[1:]
	switch config.Healthcheck.Test[0] {
	case "CMD":
		return append([]string{}, args...)
	case "CMD-SHELL":
		shell := config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, args)
	}
	return nil
}

// healthCheck is what the agent is asked to probe: like an exec, as the container's user with its environment.
func healthCheck(config *docker.Config, process protocol.Process) *protocol.HealthCheck {
	args := probeCommand(config)
	if args == nil {
		return nil
	}
	h := config.Healthcheck
	process.Args, process.Env = args, environment(config, false)
	process.Tty, process.Size = false, nil
	return &protocol.HealthCheck{
		Process: process,
		// An image's are not checked by create.
		Interval:      max(given(h.Interval, defaultProbeInterval), docker.MinimumDuration),
		Timeout:       max(given(h.Timeout, defaultProbeTimeout), docker.MinimumDuration),
		StartPeriod:   given(h.StartPeriod, 0),
		StartInterval: max(given(h.StartInterval, defaultStartInterval), docker.MinimumDuration),
		Retries:       given(h.Retries, defaultProbeRetries),
	}
}

func given[T int | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// newHealth is the health of a container that begins to run. As in Docker, the log goes on.
func (rec *record) newHealth() *docker.Health {
	if probeCommand(rec.Config) == nil {
		return nil
	}
	h := &docker.Health{Status: docker.Starting, Log: []*docker.HealthcheckResult{}}
	if old := rec.State.Health; old != nil {
		h.Log = old.Log
	}
	return h
}

// oldHealth is the health of a container that does not run any more: unhealthy, as in Docker.
func (rec *record) oldHealth() *docker.Health {
	if rec.State.Health == nil {
		return nil
	}
	h := *rec.State.Health
	h.Status = docker.Unhealthy
	return &h
}

// hearHealth takes an event of the health. It may come again, and, on a new link, long after it has happened.
func (r *run) hearHealth(ev protocol.Event) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if ev.Health == nil || ev.Seq <= max(r.heard.last.Seq, r.c.rec.Run.Heard) {
		return
	}
	r.heard.last = ev
	r.takeHealth()
}

// takeHealth makes what was heard the container's health, once the container runs. Changes of the status are stored; the
// results of probes are kept in memory, and stored with whatever else is. c.mu is held.
func (r *run) takeHealth() {
	c, ev := r.c, r.heard.last
	rec := c.rec
	alive := rec.State.Status == docker.StateRunning || rec.State.Status == docker.StatePaused
	if ev.Health == nil || c.run != r || rec.Run.Stage != stageRunning || !alive || rec.Run.Incarnation != ev.Incarnation || rec.State.Health == nil {
		return
	}
	old := rec.State.Health
	next := &docker.Health{
		Status: docker.HealthStatus(ev.Health.Status), FailingStreak: ev.Health.FailingStreak, Log: slices.Clone(old.Log),
	}
	results := ev.Health.Log
	if ev.Health.Probes > rec.Run.Probes {
		results = results[max(0, len(results)-int(min(ev.Health.Probes-rec.Run.Probes, probesShown))):]
	} else {
		results = nil
	}
	for _, p := range results {
		c.probed(p)
		next.Log = append(next.Log, probeResult(p, rec.Config.Healthcheck))
	}
	next.Log = next.Log[max(0, len(next.Log)-probesShown):]

	run := *rec.Run
	run.Heard, run.Probes = ev.Seq, ev.Health.Probes
	c.rec.Run, c.rec.State.Health = &run, next
	c.publish()
	if next.Status != old.Status {
		r.heard.unsaved = true
		if !ev.Health.Stopped {
			c.event(events.ActionHealthStatus+": "+events.Action(next.Status), nil)
		}
	}
	if time.Since(r.heard.saved) >= healthPause {
		r.saveHealth()
	}
}

// saveHealth stores a status that is not, unless the container's end has. c.mu is held.
func (r *run) saveHealth() {
	if !r.heard.unsaved || r.c.run != r || r.c.rec.Removed || r.c.rec.Run.Stage != stageRunning {
		return
	}
	r.heard.saved = time.Now()
	if err := r.c.change(func(*record) {}); err != nil {
		r.warn("cannot store a container's health", err)
		return
	}
	r.heard.unsaved = false
}

// probed tells the events that dockerd has for a probe, which is an exec there. They come together, after it. c.mu is held.
func (c *container) probed(p protocol.ProbeResult) {
	args := probeCommand(c.rec.Config)
	id := newID(32)
	if len(args) > 0 {
		command := events.Action(args[0] + " " + strings.Join(args[1:], " "))
		c.minorEvent(events.ActionExecCreate+": "+command, map[string]string{"execID": id})
		c.minorEvent(events.ActionExecStart+": "+command, map[string]string{"execID": id})
	}
	if p.Refused == "" {
		c.minorEvent(events.ActionExecDie, map[string]string{"execID": id, "exitCode": strconv.Itoa(p.ExitCode)})
	}
}

// probeResult is what inspect shows of a probe, in dockerd's words.
func probeResult(p protocol.ProbeResult, check *docker.HealthConfig) *docker.HealthcheckResult {
	r := &docker.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output}
	if p.Truncated {
		r.Output += "..."
	}
	switch {
	case p.Late:
		text := fmt.Sprintf("Health check exceeded timeout (%v)", given(check.Timeout, defaultProbeTimeout))
		if r.Output != "" {
			text += ": " + r.Output
		}
		r.ExitCode, r.Output = -1, text
	case p.Refused != "":
		_, err := refusal(p.Refused, p.Output, "OCI runtime exec failed: exec failed: unable to start container process: ")
		r.ExitCode, r.Output = -1, err.Error()
	}
	return r
}
