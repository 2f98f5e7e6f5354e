package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

const (
	execsKept = 5 * time.Minute // how long an exec can be asked about after its end
	// execsIdle is how many that were never started are kept of a container. The oldest are forgotten for more.
	execsIdle = 1024
)

// execTable holds the execs. They are not stored: like dockerd's, they end with the backend's knowledge of them.
type execTable struct {
	mu     sync.Mutex
	byID   map[string]*execution
	idle   map[*container][]*execution // in the order of creation; some may have been started or forgotten since
	pruned time.Time
}

// execution is one exec.
type execution struct {
	id     string
	c      *container
	config sockerless.ExecConfig
	made   time.Time

	mu      sync.Mutex
	started bool
	pid     int
	code    *int
	ended   time.Time
	size    *sockerless.TerminalSize
	run     *run
}

func newExecTable() *execTable {
	return &execTable{byID: make(map[string]*execution), idle: make(map[*container][]*execution)}
}

func (t *execTable) add(x *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.pruned) > execsKept/10 {
		t.pruned = time.Now()
		for id, old := range t.byID {
			if old.stale() {
				delete(t.byID, id)
			}
		}
	}
	t.byID[x.id] = x
	t.queue(x)
}

// queue bounds what a client that creates and never starts can leave behind. t.mu is held.
func (t *execTable) queue(x *execution) {
	q := append(t.idle[x.c], x)
	if len(q) > execsIdle {
		q = slices.DeleteFunc(q, func(x *execution) bool { return t.byID[x.id] != x || x.begun() })
	}
	if len(q) > execsIdle {
		for _, old := range q[:execsIdle/4] {
			delete(t.byID, old.id)
		}
		q = slices.Delete(q, 0, execsIdle/4)
	}
	t.idle[x.c] = q
}

// begun says whether the exec was started, or has ended.
func (x *execution) begun() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.started || x.code != nil
}

// stale says whether nobody can want it any more.
func (x *execution) stale() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.code != nil {
		return time.Since(x.ended) > execsKept
	}
	status := x.c.view.Load().State.Status
	return status != docker.StateRunning && status != docker.StatePaused && time.Since(x.made) > execsKept
}

func (t *execTable) find(id string) (*execution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.byID[id]
	if x == nil {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such exec instance: %s", id)
	}
	return x, nil
}

// exited records what the agent says of an exec.
func (t *execTable) exited(id string, exit *protocol.Exit) {
	t.mu.Lock()
	x := t.byID[id]
	t.mu.Unlock()
	if x != nil && exit != nil {
		x.end(exit.Code, exit.Time)
	}
}

// lost ends the execs of a run that is over, whose agent will say no more of them.
func (t *execTable) lost(r *run) {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.byID))
	t.mu.Unlock()
	for _, x := range all {
		x.mu.Lock()
		of := x.started && x.run == r
		x.mu.Unlock()
		if of {
			x.end(codeKilled, time.Now())
		}
	}
}

// of returns the ids of a container's execs that have not ended.
func (t *execTable) of(containerID string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, x := range t.byID {
		if x.c.id == containerID && !x.over() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (x *execution) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.code != nil
}

// drop forgets the execs of a removed container.
func (t *execTable) drop(containerID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.byID {
		if x.c.id == containerID {
			delete(t.byID, id)
		}
	}
	for c := range t.idle {
		if c.id == containerID {
			delete(t.idle, c)
		}
	}
}

// end records the exit, once.
func (x *execution) end(code int, at time.Time) {
	x.mu.Lock()
	if x.code != nil {
		x.mu.Unlock()
		return
	}
	x.code, x.ended = &code, at
	if x.ended.IsZero() {
		x.ended = time.Now()
	}
	x.mu.Unlock()
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	x.c.event(events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(code)})
}

// execService is the engine's ExecService.
type execService struct{ *Engine }

// Create records an exec.
func (s execService) Create(_ context.Context, ref string, config sockerless.ExecConfig) (string, error) {
	if len(config.Cmd) == 0 {
		return "", sockerless.Errorf(sockerless.EINVALID, "No exec command specified")
	}
	if config.Privileged {
		return "", sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --privileged: Container Apps runs unprivileged containers only")
	}
	c, err := s.locked(ref)
	if err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	if err := c.canExec(); err != nil {
		return "", err
	}
	if _, err := detachKeys(config.DetachKeys, config.Tty); err != nil {
		return "", err
	}
	for _, kv := range config.Env {
		if key, _, _ := strings.Cut(kv, "="); key == "" {
			return "", sockerless.Errorf(sockerless.EINVALID, "invalid environment variable: %s", kv)
		}
	}
	config.Cmd, config.Env = slices.Clone(config.Cmd), slices.Clone(config.Env)
	x := &execution{id: newID(32), c: c, config: config, made: time.Now(), size: config.Size}
	s.execs.add(x)
	c.event(events.ActionExecCreate+": "+events.Action(strings.Join(config.Cmd, " ")), map[string]string{"execID": x.id})
	return x.id, nil
}

// canExec: c.mu is held.
func (c *container) canExec() error {
	switch {
	case c.rec.State.Status == docker.StatePaused:
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is paused, unpause the container before exec", c.id)
	case c.restarting():
		return isRestarting(c)
	case !c.running():
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.id)
	}
	return nil
}

// Start runs the exec, once.
func (s execService) Start(ctx context.Context, id string, opt sockerless.ExecStartOptions) (sockerless.Session, error) {
	x, err := s.execs.find(id)
	if err != nil {
		return nil, err
	}
	if err := x.begin(); err != nil {
		return nil, err
	}
	session, err := x.start(ctx, opt)
	if err != nil {
		x.mu.Lock()
		x.started = x.code != nil // a start that did not reach the agent may be tried again
		x.mu.Unlock()
	}
	return session, err
}

// begin takes the one start that an exec has.
func (x *execution) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.code != nil:
		return sockerless.Errorf(sockerless.ECONFLICT, "Error: Exec command %s has already run", x.id)
	case x.started:
		return sockerless.Errorf(sockerless.ECONFLICT, "Error: Exec command %s is already running", x.id)
	}
	x.started = true
	return nil
}

func (x *execution) start(ctx context.Context, opt sockerless.ExecStartOptions) (sockerless.Session, error) {
	c := x.c
	a, err := c.runningAgent(ctx, (*container).canExec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	req := x.request(c.rec.Config, c.rec.HostConfig, opt)
	c.event(events.ActionExecStart+": "+events.Action(strings.Join(x.config.Cmd, " ")), map[string]string{"execID": x.id})
	c.mu.Unlock()
	x.mu.Lock()
	x.run = a.run
	x.mu.Unlock()
	var session sockerless.Session
	if opt.Detach {
		var st protocol.ExecState
		if st, err = a.client.ExecDetached(ctx, req); err == nil {
			x.mu.Lock()
			x.pid = st.Pid
			x.mu.Unlock()
			return nil, nil
		}
	} else {
		var conn *wire.Conn
		if conn, err = a.client.Exec(ctx, req); err == nil {
			session = a.track(conn)
			return session, nil
		}
	}
	refused, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return nil, err
	}
	if protocol.HasCode(err, protocol.CodeNotRunning) {
		return nil, sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.id)
	}
	code, text := refusal(refused.Code, refused.Error(), "OCI runtime exec failed: exec failed: unable to start container process: ")
	if code == codeEngine {
		code = codeNotExecutable // what dockerd records of an exec that it could not set up
	}
	x.end(code, time.Now())
	if opt.Detach {
		return nil, text
	}
	return &finished{text: message(text.Error(), x.config.Tty)}, nil
}

// request is what the agent is asked to run beside the container's process.
func (x *execution) request(config *docker.Config, host *docker.HostConfig, opt sockerless.ExecStartOptions) protocol.ExecRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	req := protocol.ExecRequest{
		ID: x.id,
		Process: protocol.Process{
			Args: x.config.Cmd,
			Env:  override(environment(config, x.config.Tty), x.config.Env),
			Dir:  firstOf(x.config.Dir, config.WorkingDir, "/"),
			User: firstOf(x.config.User, config.User),
			Tty:  x.config.Tty,
			// As dockerd has it: an exec is the container's process with another command.
			Groups: host.GroupAdd, Ulimits: ulimits(host),
		},
		Stdin: x.config.Stdin, Stdout: x.config.Stdout, Stderr: x.config.Stderr,
	}
	req.DetachKeys, _ = detachKeys(x.config.DetachKeys, x.config.Tty) // read at create
	if x.config.Tty && !x.config.Stdin {
		req.DetachKeys = nil
	}
	size := x.size
	if opt.Size != nil {
		size = opt.Size
	}
	if size != nil {
		req.Process.Size = &protocol.Size{Rows: size.Rows, Cols: size.Cols}
	}
	return req
}

// message is what a client sees of a command that could not be run.
func message(text string, tty bool) []byte {
	text += "\r\n"
	if tty {
		return []byte(text)
	}
	b := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(len(text)))
	return append(b, text...)
}

// Find returns one exec. If its end is not known yet, the agent is asked: a client that has seen the end of the output
// asks for the exit code at once, and the agent has that by then.
func (s execService) Find(ctx context.Context, id string) (*sockerless.Exec, error) {
	x, err := s.execs.find(id)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	open, r := x.started && x.code == nil, x.run
	x.mu.Unlock()
	if open && r != nil {
		x.refresh(ctx, r)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	out := &sockerless.Exec{
		ID: x.id, Container: x.c.id, Config: x.config, Pid: x.pid,
		Running: x.started && x.code == nil && x.run != nil,
	}
	out.Config.Cmd, out.Config.Env = slices.Clone(x.config.Cmd), slices.Clone(x.config.Env)
	if x.code != nil {
		code := *x.code
		out.ExitCode = &code
	}
	return out, nil
}

// refresh asks the run's agent what became of the exec. Without an agent, an exec of a run that is over was killed.
func (x *execution) refresh(ctx context.Context, r *run) {
	var st protocol.ExecState
	err := r.call(ctx, func(a *agent) (err error) {
		st, err = a.client.ExecState(a.ctx, x.id)
		return err
	})
	switch {
	case err == nil && st.Exit != nil:
		x.end(st.Exit.Code, st.Exit.Time)
	case err == nil:
		x.mu.Lock()
		x.pid = st.Pid
		x.mu.Unlock()
	case sockerless.ErrorCode(err) == sockerless.ECONFLICT:
		x.end(codeKilled, time.Now())
	}
}

// Resize sets the size of the exec's terminal. Before the start it is remembered; without a terminal it is taken for
// nothing, as by dockerd.
func (s execService) Resize(ctx context.Context, id string, size sockerless.TerminalSize) error {
	x, err := s.execs.find(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	x.size = &size
	r, running := x.run, x.started && x.code == nil
	x.mu.Unlock()
	if r == nil || !running || !x.config.Tty {
		return nil
	}
	err = r.call(ctx, func(a *agent) error {
		return a.client.Resize(a.ctx, protocol.ResizeRequest{Exec: id, Size: protocol.Size{Rows: size.Rows, Cols: size.Cols}})
	})
	switch {
	case protocol.HasCode(err, protocol.CodeNoExec), protocol.HasCode(err, protocol.CodeNotRunning):
		return nil // it has just ended, or is just being started, with this size
	case protocol.HasCode(err, protocol.CodeInvalid):
		return sockerless.Errorf(sockerless.EINVALID, "cannot resize exec %s: %s", id[:min(12, len(id))], err)
	}
	return err
}
