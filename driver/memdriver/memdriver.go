//go:build linux

// Package memdriver is a driver whose cloud is this machine: each execution is the agent as a child process, without an
// image and without isolation. It is for fast tests of what lies above a driver.
//
// Containers see this machine's files and run as its user; an image's reference is ignored. Nothing is kept on disk,
// so the driver's jobs live as long as the Driver does: an engine may be closed and opened again over the same one.
// All children die with Close, and with the process that holds the driver, however that ends.
package memdriver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Options are the settings of a driver. Agent is required.
type Options struct {
	Agent       string        // path of the agent's binary
	CallbackURL string        // the link route that agents dial; empty: agents listen, see Forward
	Instance    string        // empty: "mem"
	StopGrace   time.Duration // from SIGTERM to SIGKILL; 0: 5 s
	StartGrace  time.Duration // what Info says; 0: 10 s
}

// Driver runs agents as children. Use New for agents that dial, NewForward for agents that listen.
type Driver struct {
	opt   Options
	dir   string // sockets and working folders
	spawn *spawner

	mu     sync.Mutex
	jobs   map[string]*job
	closed bool
}

// Forward is a Driver whose agents listen on unix sockets. It is a driver.Dialer.
type Forward struct{ *Driver }

// job is what ARM would call a job: the latest execution is the last one.
type job struct {
	name       string
	container  string
	executions []*execution
}

// New returns a driver whose agents dial opt.CallbackURL. The caller closes it.
func New(opt Options) (*Driver, error) {
	if opt.CallbackURL == "" {
		return nil, errors.New("cannot open memdriver: no CallbackURL for agents that dial")
	}
	return open(opt)
}

// NewForward returns a driver whose agents listen. The caller closes it.
func NewForward(opt Options) (*Forward, error) {
	opt.CallbackURL = ""
	d, err := open(opt)
	if err != nil {
		return nil, err
	}
	return &Forward{d}, nil
}

func open(opt Options) (*Driver, error) {
	if opt.StopGrace == 0 {
		opt.StopGrace = 5 * time.Second
	}
	if opt.StartGrace == 0 {
		opt.StartGrace = 10 * time.Second
	}
	if opt.Instance == "" {
		opt.Instance = "mem"
	}
	// Not a test's own folder: the path of a unix socket has 107 bytes at most.
	dir, err := os.MkdirTemp("", "mem")
	if err != nil {
		return nil, fmt.Errorf("cannot open memdriver: %w", err)
	}
	return &Driver{opt: opt, dir: dir, spawn: newSpawner(), jobs: make(map[string]*job)}, nil
}

// Info describes the driver.
func (d *Driver) Info() driver.Info {
	host, _ := os.Hostname() // for people only
	return driver.Info{
		Name:       "mem",
		Instance:   d.opt.Instance,
		Details:    map[string]string{"Host": host},
		StartGrace: d.opt.StartGrace,
	}
}

// Check refuses nothing but resources, which a child process cannot be given.
func (d *Driver) Check(spec driver.Spec) ([]string, error) {
	var warnings []string
	if spec.CPU > 0 || spec.Memory > 0 {
		warnings = append(warnings, "CPU and memory limits are not enforced by the mem driver")
	}
	return warnings, nil
}

// Start starts an agent, unless this start's runs already.
func (d *Driver) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	if err := ctx.Err(); err != nil {
		return driver.Run{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return driver.Run{}, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot start a job: the driver is closed")
	}
	name := "mem-" + spec.Container[:min(12, len(spec.Container))]
	j := d.jobs[name]
	made := j == nil
	if made {
		j = &job{name: name, container: spec.Container}
		d.jobs[name] = j
	}
	for _, x := range j.executions {
		if x.run.ID == spec.ID {
			return x.run, nil
		}
	}
	x, err := d.execute(j, spec)
	if err != nil {
		if made {
			delete(d.jobs, name)
		}
		return driver.Run{}, fmt.Errorf("cannot start job %s: %w", name, err)
	}
	j.executions = append(j.executions, x)
	return x.run, nil
}

// execute makes a new execution's folder and starts its agent. d.mu is held.
func (d *Driver) execute(j *job, spec driver.Spec) (*execution, error) {
	name := j.name + "-" + strings.ToLower(rand.Text()[:7])
	x := &execution{
		run:    driver.Run{Container: spec.Container, ID: spec.ID, Job: j.name, Execution: name},
		dir:    filepath.Join(d.dir, name),
		socket: filepath.Join(d.dir, name+".sock"),
	}
	if err := os.Mkdir(x.dir, 0o777); err != nil {
		return nil, err
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"SOCKERLESS_RUN_ID=" + spec.ID,
		"SOCKERLESS_RUN_SECRET=" + base64.RawURLEncoding.EncodeToString(spec.Secret),
		"SOCKERLESS_DIR=" + x.dir,
		"CONTAINER_APP_JOB_EXECUTION_NAME=" + name,
	}
	if d.opt.CallbackURL != "" {
		env = append(env, "SOCKERLESS_CALLBACK_URL="+d.opt.CallbackURL)
	} else {
		env = append(env, "SOCKERLESS_AGENT_LISTEN=unix:"+x.socket)
	}
	if spec.Orphan > 0 {
		env = append(env, "SOCKERLESS_ORPHAN="+spec.Orphan.String())
	}
	if err := x.start(d.spawn, d.opt.Agent, env, spec.MaxRuntime, d.opt.StopGrace); err != nil {
		return nil, errors.Join(err, os.RemoveAll(x.dir))
	}
	return x, nil
}

func (d *Driver) find(run driver.Run) *execution {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.jobs[run.Job]; j != nil {
		for _, x := range j.executions {
			if x.run.Execution == run.Execution {
				return x
			}
		}
	}
	return nil
}

// executions returns that of a run, or, without one, those of its job.
func (d *Driver) executions(run driver.Run) []*execution {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.jobs[run.Job]
	if j == nil {
		return nil
	}
	all := slices.Clone(j.executions)
	return slices.DeleteFunc(all, func(x *execution) bool { return run.Execution != "" && x.run.Execution != run.Execution })
}

// Status says how far the child is.
func (d *Driver) Status(ctx context.Context, run driver.Run) (driver.Status, error) {
	x := d.find(run)
	if x == nil {
		return driver.Status{Phase: driver.PhaseGone}, ctx.Err()
	}
	return x.status(), ctx.Err()
}

// Stop sends SIGTERM to the agent, and SIGKILL after the grace.
func (d *Driver) Stop(ctx context.Context, run driver.Run) error {
	if x := d.find(run); x != nil {
		x.stop(d.opt.StopGrace)
	}
	return ctx.Err()
}

// Remove ends the job's agents and forgets it.
func (d *Driver) Remove(ctx context.Context, run driver.Run) error {
	d.mu.Lock()
	j := d.jobs[run.Job]
	var all []*execution
	if j != nil {
		all = slices.Clone(j.executions)
	}
	d.mu.Unlock()
	for _, x := range all {
		x.stop(d.opt.StopGrace)
	}
	for _, x := range all {
		select {
		case <-x.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := x.clean(); err != nil {
			return fmt.Errorf("cannot remove job %s: %w", run.Job, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.jobs[run.Job] == j {
		delete(d.jobs, run.Job)
	}
	return nil
}

// Runs yields the latest run of every job.
func (d *Driver) Runs(ctx context.Context) iter.Seq2[driver.Run, error] {
	return func(yield func(driver.Run, error) bool) {
		d.mu.Lock()
		var runs []driver.Run
		for _, name := range slices.Sorted(maps.Keys(d.jobs)) {
			j := d.jobs[name]
			runs = append(runs, j.executions[len(j.executions)-1].run)
		}
		d.mu.Unlock()
		for _, r := range runs {
			if err := ctx.Err(); err != nil {
				yield(driver.Run{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Logs yields what the agent wrote to its own standard output and error.
func (d *Driver) Logs(ctx context.Context, run driver.Run, since time.Time) iter.Seq2[driver.Line, error] {
	return func(yield func(driver.Line, error) bool) {
		var lines []driver.Line
		for _, x := range d.executions(run) {
			lines = append(lines, x.output.since(since)...)
		}
		for _, line := range lines {
			if err := ctx.Err(); err != nil {
				yield(driver.Line{}, err)
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// Explain says with which words an agent ended.
func (d *Driver) Explain(ctx context.Context, run driver.Run) (string, error) {
	x := d.find(run)
	if x == nil {
		return "the execution is gone", ctx.Err()
	}
	return x.explain(), ctx.Err()
}

// Dial connects to the agent's socket.
func (f *Forward) Dial(ctx context.Context, run driver.Run) (net.Conn, error) {
	x := f.find(run)
	if x == nil || x.status().Phase == driver.PhaseEnded {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "cannot dial the agent of %s: the execution has ended", run.Execution)
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", x.socket)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot dial the agent of %s: %w", run.Execution, err)
	}
	return c, nil
}

// Close kills every child and deletes the folders. It may be repeated.
func (d *Driver) Close() error {
	d.mu.Lock()
	var all []*execution
	if !d.closed {
		d.closed = true
		for _, j := range d.jobs {
			all = append(all, j.executions...)
		}
	}
	d.mu.Unlock()
	for _, x := range all {
		x.stop(0)
	}
	for _, x := range all {
		<-x.done
	}
	d.spawn.close()
	return os.RemoveAll(d.dir)
}
