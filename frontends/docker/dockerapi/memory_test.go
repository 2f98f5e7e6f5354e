package dockerapi_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"iter"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/tape"
)

// memory is a small Backend whose containers are child processes of the test and whose files are in memory. It knows
// enough of Docker's rules for the API's shapes; the rules themselves are the engine's to keep and to test.
type memory struct {
	t testing.TB

	mu         sync.Mutex
	changed    *sync.Cond // anything below
	containers []*box
	execs      map[string]*sockerless.Exec
	images     []*sockerless.Image
	networks   []*network.Inspect
	volumes    []*volume.Volume
	auth       *registry.AuthConfig // of the latest pull
	created    *sockerless.CreateRequest
	stopped    *sockerless.StopOptions
	limit      int
	filters    sockerless.Filters
	events     []events.Message
	archive    []byte // of the latest import, load or write
	sizes      []sockerless.TerminalSize
	psArgs     string

	statsOptions []sockerless.StatsOptions
	written      *sockerless.WriteOptions
	children     sync.WaitGroup
}

type box struct {
	sockerless.Container
	log      []tape.Record
	attached []*pipeEnd
	stdin    io.WriteCloser
	cmd      *exec.Cmd
	files    map[string]string
}

func newMemory(t testing.TB) *memory {
	m := &memory{t: t, execs: map[string]*sockerless.Exec{}}
	m.changed = sync.NewCond(&m.mu)
	m.addImage("busybox:latest", &container.Config{Env: []string{"PATH=/usr/bin:/bin"}, Labels: map[string]string{"of": "image"}})
	t.Cleanup(func() {
		m.mu.Lock()
		for _, c := range m.containers {
			if c.cmd != nil && c.State.Pid != 0 { // paused, perhaps
				c.cmd.Process.Kill()
			}
		}
		m.mu.Unlock()
		m.children.Wait()
	})
	return m
}

// wake has those that wait look at their contexts. It takes the lock: who has looked and does not wait yet would miss it.
func (m *memory) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed.Broadcast()
}

func (m *memory) backend() *sockerless.Backend {
	return &sockerless.Backend{Containers: memContainers{m}, Execs: memExecs{m}, Images: memImages{m}, Networks: memNetworks{m}, Volumes: memVolumes{m}, System: memSystem{m}}
}

func (m *memory) addImage(tag string, defaults *container.Config) *sockerless.Image {
	img := &sockerless.Image{
		ID:       "sha256:" + newID(),
		Tags:     []string{tag},
		Digests:  []string{strings.Split(tag, ":")[0] + "@sha256:" + newID()},
		Config:   json.RawMessage(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"],"Labels":{"of":"image"}},"history":[{"comment":"made"}]}`),
		Defaults: defaults,
		Created:  time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC),
		Size:     1234,
		Layers:   []sockerless.Layer{{Digest: "sha256:" + newID(), DiffID: "sha256:" + newID(), Size: 1234}},
		Platform: "linux/amd64",
	}
	m.images = append(m.images, img)
	return img
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// find: m.mu is held.
func (m *memory) find(ref string) (*box, error) {
	for _, c := range m.containers {
		if c.Name == ref {
			return c, nil
		}
	}
	for _, c := range m.containers {
		if len(ref) >= 8 && strings.HasPrefix(c.ID, ref) {
			return c, nil
		}
	}
	return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such container: %s", ref)
}

type memContainers struct{ *memory }

func (m memContainers) Create(_ context.Context, req sockerless.CreateRequest) (*sockerless.CreateResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.created = &req
	if req.HostConfig.Privileged {
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --privileged: there are no privileges here")
	}
	i := slices.IndexFunc(m.images, func(img *sockerless.Image) bool {
		return slices.Contains(img.Tags, req.Config.Image) || slices.Contains(img.Tags, req.Config.Image+":latest")
	})
	if i < 0 {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such image: %s", req.Config.Image)
	}
	c := &box{Container: sockerless.Container{
		ID: newID(), Name: req.Name, Created: time.Now(),
		Config: req.Config, HostConfig: req.HostConfig, NetworkingConfig: req.NetworkingConfig, Raw: req.Raw,
		Image: m.images[i].ID, State: sockerless.State{Status: container.StateCreated},
	}, files: map[string]string{"/etc/hostname": "box\n"}}
	if c.NetworkingConfig == nil || len(c.NetworkingConfig.EndpointsConfig) == 0 {
		c.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"bridge": {}}}
	}
	if c.Name == "" {
		c.Name = "made_up" + c.ID[:4]
	}
	if other, err := m.find(c.Name); err == nil {
		return nil, sockerless.Errorf(sockerless.ECONFLICT, `Conflict. The container name "/%s" is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.`, c.Name, other.ID)
	}
	c.Config.Env = append(slices.Clone(m.images[i].Defaults.Env), c.Config.Env...)
	m.containers = append([]*box{c}, m.containers...)
	m.event(events.ContainerEventType, events.ActionCreate, c.ID, map[string]string{"image": c.Config.Image, "name": c.Name})
	return &sockerless.CreateResult{ID: c.ID}, nil
}

// event: m.mu is held.
func (m *memory) event(kind events.Type, action events.Action, id string, attributes map[string]string) {
	now := time.Now()
	m.events = append(m.events, events.Message{
		Type: kind, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	})
	m.changed.Broadcast()
}

func (m memContainers) Find(_ context.Context, ref string) (*sockerless.Container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	found := c.Container
	return &found, nil
}

func (m memContainers) List(_ context.Context, opt sockerless.ListOptions) iter.Seq2[*sockerless.Container, error] {
	return func(yield func(*sockerless.Container, error) bool) {
		m.mu.Lock()
		var found []*sockerless.Container
		m.limit, m.filters = opt.Limit, opt.Filters
		for _, c := range m.containers {
			if opt.All || opt.Limit > 0 || c.State.Status == container.StateRunning {
				copied := c.Container
				found = append(found, &copied)
			}
		}
		m.mu.Unlock()
		for key := range opt.Filters {
			if key != "label" && key != "name" {
				yield(nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", key))
				return
			}
		}
		for _, c := range found {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (m memContainers) Start(_ context.Context, ref string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if c.State.Status == container.StateRunning {
		return sockerless.Errorf(sockerless.ENOTMODIFIED, "it runs")
	}
	argv := append(slices.Clone(c.Config.Entrypoint), c.Config.Cmd...)
	c.cmd = exec.Command(argv[0], argv[1:]...)
	c.cmd.Env = c.Config.Env
	c.cmd.Stdout = &boxWriter{m.memory, c, tape.Stdout}
	c.cmd.Stderr = &boxWriter{m.memory, c, tape.Stderr}
	if c.Config.Tty {
		c.cmd.Stderr = c.cmd.Stdout
	}
	if c.Config.OpenStdin {
		c.stdin, _ = c.cmd.StdinPipe()
	}
	if err := c.cmd.Start(); err != nil {
		c.State.Status, c.State.ExitCode, c.State.Error = container.StateExited, 127, err.Error()
		m.changed.Broadcast()
		return sockerless.Errorf(sockerless.EINVALID, "failed to create task: %v", err)
	}
	c.State = sockerless.State{Status: container.StateRunning, Pid: c.cmd.Process.Pid, StartedAt: time.Now()}
	m.event(events.ContainerEventType, events.ActionStart, c.ID, map[string]string{"image": c.Config.Image})
	for _, p := range c.attached {
		m.feed(c, p)
	}
	m.children.Go(func() { // ends with the child
		c.cmd.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		c.State.Status, c.State.FinishedAt, c.State.ExitCode, c.State.Pid = container.StateExited, time.Now(), c.cmd.ProcessState.ExitCode(), 0
		if c.State.ExitCode < 0 {
			c.State.ExitCode = 137
		}
		m.event(events.ContainerEventType, events.ActionDie, c.ID, map[string]string{"image": c.Config.Image})
		for _, p := range c.attached {
			p.CloseWrite()
		}
		c.attached = nil
		if c.HostConfig.AutoRemove {
			m.containers = slices.DeleteFunc(m.containers, func(o *box) bool { return o == c })
		}
		m.changed.Broadcast()
	})
	return nil
}

// feed passes an attached client's input on. m.mu is held.
func (m *memory) feed(c *box, p *pipeEnd) {
	in := c.stdin
	if in == nil || !p.stdin {
		return
	}
	go func() { // ends when either end closes the session
		io.Copy(in, p.TCPConn)
		in.Close()
	}()
}

// boxWriter is an output of a child: the log and whoever is attached get it.
type boxWriter struct {
	m      *memory
	c      *box
	stream tape.Stream
}

func (w *boxWriter) Write(b []byte) (int, error) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	for line := range bytes.Lines(b) {
		w.c.log = append(w.c.log, tape.Record{
			Seq: uint64(len(w.c.log) + 1), Time: time.Now(), Stream: w.stream, Partial: !bytes.HasSuffix(line, []byte("\n")), Data: bytes.Clone(line),
		})
	}
	for _, p := range w.c.attached {
		if w.c.Config.Tty {
			p.Write(b)
		} else {
			p.Write(frame(byte(w.stream), b))
		}
	}
	w.m.changed.Broadcast()
	return len(b), nil
}

func frame(stream byte, data []byte) []byte {
	n := len(data)
	return append([]byte{stream, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, data...)
}

func (m memContainers) Stop(_ context.Context, ref string, opt sockerless.StopOptions) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopped = &opt
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if c.State.Status != container.StateRunning {
		return sockerless.Errorf(sockerless.ENOTMODIFIED, "it does not run")
	}
	c.cmd.Process.Kill()
	for c.State.Status == container.StateRunning {
		m.changed.Wait()
	}
	return nil
}

func (m memContainers) Restart(ctx context.Context, ref string, opt sockerless.StopOptions) error {
	if err := m.Stop(ctx, ref, opt); err != nil && sockerless.ErrorCode(err) != sockerless.ENOTMODIFIED {
		return err
	}
	return m.Start(ctx, ref)
}

func (m memContainers) Signal(_ context.Context, ref, signal string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if c.State.Status != container.StateRunning {
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is not running", c.ID)
	}
	if signal != "SIGKILL" {
		return sockerless.Errorf(sockerless.EINVALID, "Invalid signal: %s", signal)
	}
	return c.cmd.Process.Kill()
}

func (m memContainers) Update(_ context.Context, ref string, config container.UpdateConfig) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	c.HostConfig.RestartPolicy = config.RestartPolicy
	return []string{"updated"}, nil
}

func (m memContainers) Pause(_ context.Context, ref string) error {
	return m.setPaused(ref, container.StateRunning, container.StatePaused)
}

func (m memContainers) Unpause(_ context.Context, ref string) error {
	return m.setPaused(ref, container.StatePaused, container.StateRunning)
}

func (m memContainers) setPaused(ref string, from, to container.ContainerState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if c.State.Status != from {
		return sockerless.Errorf(sockerless.ECONFLICT, "Container %s is %s", c.ID, c.State.Status)
	}
	c.State.Status = to
	return nil
}

func (m memContainers) Rename(_ context.Context, ref, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err == nil {
		c.Name = name
	}
	return err
}

func (m memContainers) Remove(_ context.Context, ref string, opt sockerless.RemoveOptions) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if c.State.Status == container.StateRunning {
		if !opt.Force {
			return sockerless.Errorf(sockerless.ECONFLICT, `cannot remove container "/%s": container is running: stop the container before removing or force remove`, c.Name)
		}
		c.cmd.Process.Kill()
	}
	m.containers = slices.DeleteFunc(m.containers, func(o *box) bool { return o == c })
	return nil
}

func (m memContainers) Prune(context.Context, sockerless.Filters) (*container.PruneReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var report container.PruneReport
	m.containers = slices.DeleteFunc(m.containers, func(c *box) bool {
		gone := c.State.Status != container.StateRunning
		if gone {
			report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		}
		return gone
	})
	return &report, nil
}

func (m memContainers) Wait(ctx context.Context, ref string, condition container.WaitCondition) iter.Seq2[sockerless.WaitUpdate, error] {
	return func(yield func(sockerless.WaitUpdate, error) bool) {
		m.mu.Lock()
		c, err := m.find(ref)
		if err != nil {
			m.mu.Unlock()
			yield(sockerless.WaitUpdate{}, err)
			return
		}
		started := c.State.StartedAt
		m.mu.Unlock()
		if !yield(sockerless.WaitUpdate{}, nil) {
			return
		}
		defer context.AfterFunc(ctx, m.wake)()
		m.mu.Lock()
		for ctx.Err() == nil {
			s := c.State
			if s.Status == container.StateExited || condition == container.WaitConditionNotRunning && s.Status == container.StateCreated {
				if condition != container.WaitConditionNextExit || !s.StartedAt.Equal(started) || s.Error != "" {
					break
				}
			}
			m.changed.Wait()
		}
		s, err := c.State, ctx.Err()
		m.mu.Unlock()
		yield(sockerless.WaitUpdate{Exited: true, ExitCode: s.ExitCode, Error: s.Error}, err)
	}
}

func (m memContainers) Resize(_ context.Context, ref string, size sockerless.TerminalSize) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.find(ref)
	m.sizes = append(m.sizes, size)
	return err
}

func (m memContainers) Top(ctx context.Context, ref, psArgs string) (*container.TopResponse, error) {
	c, err := m.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.psArgs = psArgs
	return &container.TopResponse{
		Titles:    []string{"PID", "CMD"},
		Processes: [][]string{{strconv.Itoa(c.State.Pid), strings.Join(c.Config.Cmd, " ")}},
	}, nil
}

func (m memContainers) Stats(ctx context.Context, ref string, opt sockerless.StatsOptions) iter.Seq2[*container.StatsResponse, error] {
	return func(yield func(*container.StatsResponse, error) bool) {
		c, err := m.Find(ctx, ref)
		if err != nil {
			yield(nil, err)
			return
		}
		m.mu.Lock()
		m.statsOptions = append(m.statsOptions, opt)
		m.mu.Unlock()
		if opt.Stream && !yield(nil, nil) {
			return
		}
		if c.Config.Labels["agent"] == "away" {
			<-ctx.Done()
			yield(nil, ctx.Err())
			return
		}
		for i := range 3 {
			v := &container.StatsResponse{ID: c.ID, Name: "/" + c.Name, Read: time.Unix(1700000000+int64(i), 0).UTC()}
			v.CPUStats.CPUUsage.TotalUsage = uint64(i)
			v.Networks = map[string]container.NetworkStats{"eth0": {RxBytes: 5}}
			if !yield(v, nil) || !opt.Stream {
				return
			}
		}
	}
}

func (m memContainers) Logs(ctx context.Context, ref string, opt sockerless.LogOptions) iter.Seq2[sockerless.LogRecord, error] {
	return func(yield func(sockerless.LogRecord, error) bool) {
		defer context.AfterFunc(ctx, m.wake)()
		for next := 0; ; {
			m.mu.Lock()
			c, err := m.find(ref)
			for err == nil && opt.Follow && next == len(c.log) && c.State.Status == container.StateRunning && ctx.Err() == nil {
				m.changed.Wait()
			}
			if err == nil {
				err = ctx.Err()
			}
			var some []tape.Record
			if err == nil {
				if next == 0 && opt.Tail >= 0 {
					next = max(0, len(c.log)-opt.Tail)
				}
				some = slices.Clone(c.log[next:])
				next = len(c.log)
			}
			m.mu.Unlock()
			if err != nil {
				yield(tape.Record{}, err)
				return
			}
			if len(some) == 0 {
				return
			}
			for _, rec := range some {
				if rec.Stream == tape.Stdout && !opt.Stdout || rec.Stream == tape.Stderr && !opt.Stderr {
					continue
				}
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// pipeEnd is the process's end of a session.
type pipeEnd struct {
	*net.TCPConn
	stdin bool
}

// pipe returns two ends of a connection.
func pipe(t testing.TB) (*pipeEnd, *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return &pipeEnd{TCPConn: a.(*net.TCPConn)}, b.(*net.TCPConn)
}

func (m memContainers) Attach(_ context.Context, ref string, opt sockerless.AttachOptions) (sockerless.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	process, client := pipe(m.t)
	process.stdin = opt.Stdin
	c.attached = append(c.attached, process)
	if c.State.Status == container.StateRunning {
		m.feed(c, process)
	}
	return client, nil
}
