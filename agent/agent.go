// Package agent answers for a container from inside it.
//
// The agent is the program that a job's replica starts in place of the user's. It links to a backend and holds the user's
// process until it is told to start; then it runs it, and beside it what `docker exec` wants; it carries streams and
// files, numbers the output, and tells how the process ended. It decides nothing that is Docker's to decide: package
// protocol lists what it can be asked, and the engine has Docker's rules.
//
// A process started here is not pid 1 of its pid namespace, even if the agent is: signals have their default actions,
// so one without a handler for SIGTERM dies of it, where Docker's first process ignores it.
package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// ExitAgent is the exit code when the agent itself is the reason for the end: it was never told to start, or cannot work.
const ExitAgent = 125

// Agent is one agent. There is at most one in a process: it reaps all that the process starts.
type Agent struct {
	settings Settings
	version  string
	log      *slog.Logger
	bootID   string
	began    clocks
	reaper   *reaper
	tape     *logTape
	events   *eventLog
	tee      *tee
	output   *output
	execs    *execTable
	starts   turns // of execs; taken before gate
	left     leftovers
	server   *http.Server
	requests *requests

	over    chan struct{} // closed when the agent has decided to end
	ctx     context.Context
	stopped context.CancelFunc // ends ctx; nothing waits for anybody after it

	// gate is held for reading while something is started beside the process or joins it, and for writing while that
	// begins or ends. It is taken before mu.
	gate    sync.RWMutex
	closing bool       // the process has exited; what it left is being ended. Guarded by gate.
	paused  *paused    // nil: it is not. Guarded by gate.
	turning sync.Mutex // held over a pause and its end; taken before gate

	mu          sync.Mutex
	phase       protocol.Phase
	now         *incarnation // the running or last one; nil before the first
	coming      *incarnation // the next one, if none runs; attach may wait for it
	stay        stay
	again       again
	starting    bool // a start is under way: the agent does not end meanwhile
	releasing   bool
	terminating bool  // the platform has asked for the end
	unreached   error // why the last attempts to link failed; nil when one succeeded
	code        int   // valid when over is closed

	asked struct { // the last start that was asked for and has succeeded
		key    string
		result protocol.StartResult
	}
}

// incarnation is one run of the container's process.
type incarnation struct {
	begun chan struct{} // closed when it runs; what is below is valid then
	ended chan struct{} // closed when its exit is recorded

	number  int
	request protocol.StartRequest
	result  protocol.StartResult
	process *process
	killed  atomic.Bool // the grace of a stop has passed
	drains  []*drain
	drained sync.WaitGroup
	oom     *oomWatch
	usage   usage
	health  *health // nil without a check

	exit *protocol.Exit // valid when ended is closed
}

func newIncarnation() *incarnation {
	return &incarnation{begun: make(chan struct{}), ended: make(chan struct{})}
}

// over reports whether the exit is recorded.
func (i *incarnation) over() bool {
	select {
	case <-i.ended:
		return true
	default:
		return false
	}
}

// New prepares this process to be an agent. It hides the process from others of the same user, and waits for all of
// the process's children from then on. version is told to the backend. Run it, once.
func New(s Settings, version string, log *slog.Logger) (*Agent, error) {
	// A process of the same user must not read the secret out of the agent's memory, its descriptors or its
	// environment; proc(5), /proc/PID/: "ptrace access mode".
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot hide the agent from its user's processes: %w", err)
	}
	// What the platform has left open is not for the user's processes; runc does the same.
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	unix.Umask(0o022) // what dockerd's containers start with
	for name, v := range s.Environ {
		// In Go's copy only; the kernel's, which others can read, stays empty.
		if err := os.Setenv(name, v); err != nil {
			return nil, fmt.Errorf("cannot use %s: %w", name, err)
		}
	}
	keepThreads()
	boot := make([]byte, 16)
	rand.Read(boot)
	r, err := newReaper()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		settings: s,
		version:  version,
		log:      log,
		bootID:   hex.EncodeToString(boot),
		began:    readClocks(),
		reaper:   r,
		tape:     newLogTape(spoolDir(s.Dir)),
		events:   newEventLog(),
		tee:      newTee(os.Stdout, os.Stderr),
		execs:    newExecTable(),
		starts:   make(turns, execTurns),
		requests: newRequests(),
		over:     make(chan struct{}),
		phase:    protocol.PhaseHeld,
		coming:   newIncarnation(),
	}
	a.output = newOutput(a.tape, a.tee)
	a.ctx, a.stopped = context.WithCancel(context.Background())
	a.server = a.newServer()
	return a, nil
}

// State tells what the agent knows of itself.
func (a *Agent) state(context.Context, struct{}) (protocol.State, error) {
	s := protocol.State{
		BootID:    a.bootID,
		Execution: a.settings.Execution,
		LastLog:   a.tape.last(),
		LastEvent: a.events.last(),
		Uid:       os.Geteuid(),
		Gid:       os.Getegid(),
		Addresses: addresses(),
	}
	s.Hostname, _ = os.Hostname() // empty where there is none
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Phase = a.phase
	if i := a.now; i != nil {
		s.Incarnation, s.Pid, s.Started = i.number, i.result.Pid, i.result.Started
		if a.phase != protocol.PhaseRunning {
			s.Exit = i.exit
		}
	}
	return s, nil
}

// start runs the container's process.
func (a *Agent) start(_ context.Context, req protocol.StartRequest) (protocol.StartResult, error) {
	if req.Linger < 0 || req.Orphan < 0 || req.LogLimit < 0 || req.Restarts < 0 || req.Backoff < 0 {
		return protocol.StartResult{}, wire.Errorf(protocol.CodeInvalid, "a duration, a limit or a count is negative")
	}
	if err := checkHealth(req.Health); err != nil {
		return protocol.StartResult{}, err
	}
	a.gate.Lock()
	defer a.gate.Unlock()
	a.mu.Lock()
	if req.Key != "" && a.asked.key == req.Key {
		defer a.mu.Unlock()
		return a.asked.result, nil
	}
	if err := a.startable(); err != nil {
		a.mu.Unlock()
		return protocol.StartResult{}, err
	}
	if a.phase == protocol.PhaseRestarting {
		a.again.timer.Stop() // it is run now; who asks has not heard of the pause yet
	}
	a.starting = true
	a.plan() // the linger's end waits
	a.mu.Unlock()
	res, err := a.run(req)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.starting = false
	if err != nil && a.phase == protocol.PhaseRestarting {
		a.stays(nil)
	}
	a.plan()
	if err == nil {
		a.asked.key, a.asked.result = req.Key, res
	}
	return res, err
}

// startable says why the process cannot be started now. a.mu is held.
func (a *Agent) startable() error {
	over := a.releasing || a.terminating
	select {
	case <-a.over:
		over = true
	default:
	}
	switch {
	case a.phase == protocol.PhaseRunning:
		return wire.Errorf(protocol.CodeRunning, "the process runs")
	case over:
		return wire.Errorf(protocol.CodeNotRunning, "the agent ends")
	}
	return nil
}

// run runs the process: for the first time, or again. a.gate is held.
func (a *Agent) run(req protocol.StartRequest) (protocol.StartResult, error) {
	a.mu.Lock()
	before, i := a.now, a.coming
	again := a.phase == protocol.PhaseRestarting && !a.starting
	a.mu.Unlock()
	if before != nil {
		killDescendants() // what came to life behind the last exit's back
	}
	i.oom = newOOMWatch(findCgroups("/"))
	a.tape.setLimit(req.LogLimit)
	a.output.begin(req.Process.Tty)
	p, err := a.reaper.launch(req.Process, streams{stdin: req.OpenStdin, stdout: true, stderr: true}, true)
	if err != nil {
		return protocol.StartResult{}, err
	}

	i.number, i.request, i.process = 1, req, p
	if before != nil {
		i.number = before.number + 1
	}
	i.result = protocol.StartResult{Pid: p.pid, Incarnation: i.number, Started: time.Now()}
	i.health = a.watchHealth(i)
	a.mu.Lock()
	if !again {
		a.again.begin(req)
	}
	a.phase, a.now, a.coming = protocol.PhaseRunning, i, nil
	a.plan()
	a.events.add(protocol.Event{
		Kind: protocol.EventStarted, Time: i.result.Started, Incarnation: i.number, Pid: p.pid, Restarts: a.again.count,
	})
	a.mu.Unlock()
	close(i.begun)
	a.pump(i)
	i.health.begin()
	go a.watch(i)       // ends after the process
	go a.watchForOOM(i) // ends with the process
	return i.result, nil
}

// watch sees an incarnation through to its end: the process exits; what it leaves is killed, as the end of a pid
// namespace would; its output is read; then the exit is recorded, and the last to know are the attached clients.
func (a *Agent) watch(i *incarnation) {
	<-i.process.done
	i.health.end()
	a.gate.Lock()
	a.closing, a.paused = true, nil
	a.gate.Unlock()
	killDescendants()
	a.left.close()
	a.output.exited()
	for _, d := range i.drains {
		d.stop()
	}
	i.drained.Wait()
	exit := i.process.exit()
	exit.OOM = a.lookForOOM(i)
	exit.Killed = i.killed.Load() && exit.Signal == int(syscall.SIGKILL)
	i.process.close()

	a.gate.Lock()
	defer a.gate.Unlock()
	a.closing = false
	a.tape.flush(time.Now())
	i.exit = exit
	close(i.ended)
	a.exited(i)
	a.output.finish()
}

// exited records an exit and decides what follows it. a.gate is held.
func (a *Agent) exited(i *incarnation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.tape.last()
	e := protocol.Event{
		Kind: protocol.EventExited, Time: i.exit.Time, Incarnation: i.number, Pid: i.process.pid, Exit: i.exit, LastLog: last,
		Leaving: a.releasing || a.terminating,
	}
	if !e.Leaving {
		e.Restart = a.again.after(i.exit, i.exit.Time.Sub(i.result.Started))
	}
	e.Restarts = a.again.count
	seq := a.events.add(e)
	a.coming = newIncarnation()
	if e.Restart != nil {
		a.phase = protocol.PhaseRestarting
		a.again.timer = time.AfterFunc(e.Restart.Pause, a.restart)
		return
	}
	a.phase = protocol.PhaseExited
	a.stay.exited(time.Now(), seq, last)
	a.plan()
}

// pump carries the process's output.
func (a *Agent) pump(i *incarnation) {
	for stream, f := range map[tapeStream]*os.File{stdout: i.process.stdout, stderr: i.process.stderr} {
		if f == nil {
			continue
		}
		d := &drain{file: f, quiet: quiet} // who could have inherited it is killed before it counts
		i.drains = append(i.drains, d)
		i.drained.Go(func() { // ends after the process, see drain
			d.run(func(buf []byte) { a.output.write(a.ctx, stream, buf) })
		})
	}
}

// stop sends a signal to the process, and kills all there is after the grace.
func (a *Agent) stop(_ context.Context, req protocol.StopRequest) (struct{}, error) {
	sig, err := parseSignal(req.Signal)
	if err != nil {
		return struct{}{}, err
	}
	err = a.ask(true, func(i *incarnation) error {
		if !a.pass(i, sig) {
			return errNotRunning()
		}
		if req.Grace >= 0 {
			go func() { // ends with the process, or the grace
				select {
				case <-i.process.done:
				case <-time.After(req.Grace):
					i.killed.Store(true)
					i.process.signal(syscall.SIGKILL) // its end kills the others
				}
			}()
		}
		return nil
	})
	if err == nil && req.Resume {
		err = a.goOn(sig)
	}
	return struct{}{}, err
}

// signal sends a signal to the process alone, as dockerd does.
func (a *Agent) signal(_ context.Context, req protocol.SignalRequest) (struct{}, error) {
	sig, err := parseSignal(req.Signal)
	if err != nil {
		return struct{}{}, err
	}
	err = a.ask(req.Final, func(i *incarnation) error {
		if !a.pass(i, sig) {
			return errNotRunning()
		}
		return nil
	})
	if err == nil && req.Final {
		err = a.goOn(sig)
	}
	return struct{}{}, err
}

// resize sets the size of the container's terminal, or of an exec's.
func (a *Agent) resize(_ context.Context, req protocol.ResizeRequest) (struct{}, error) {
	var p *process
	if req.Exec != "" {
		var err error
		if p, err = a.execs.process(req.Exec); err != nil {
			return struct{}{}, err
		}
	} else {
		i, err := a.running()
		if err != nil {
			return struct{}{}, err
		}
		p = i.process
	}
	switch {
	case p.exited():
		return struct{}{}, errNotRunning()
	case p.tty == nil:
		return struct{}{}, wire.Errorf(protocol.CodeInvalid, "cannot resize: the process has no terminal")
	}
	return struct{}{}, p.tty.resize(req.Size)
}

// ack forgets what the backend has stored.
func (a *Agent) ack(_ context.Context, req protocol.AckRequest) (struct{}, error) {
	a.tape.ack(req.Log)
	a.events.ack(req.Event)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stay.acked(time.Now(), req)
	a.plan()
	return struct{}{}, nil
}

// release ends the agent, and before it what runs.
func (a *Agent) release(context.Context, struct{}) (struct{}, error) {
	a.leave(&a.releasing, syscall.SIGKILL) // watch kills the others, and plans the end
	return struct{}{}, nil
}

// terminate does what the platform's SIGTERM asks for: the process gets it, and the agent ends soon after it.
func (a *Agent) terminate(sig syscall.Signal) {
	a.leave(&a.terminating, sig)
	_ = a.goOn(sig) // the platform kills what goes on waiting
}

// leave begins the agent's end. A start that is under way sees it when it is done.
func (a *Agent) leave(why *bool, sig syscall.Signal) {
	a.mu.Lock()
	*why = true
	a.mu.Unlock()
	a.gate.RLock()
	defer a.gate.RUnlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.phase {
	case protocol.PhaseRunning:
		a.now.process.signal(sig)
	case protocol.PhaseRestarting:
		a.stays(nil)
	default:
		a.plan()
	}
}

// running returns the incarnation that runs.
func (a *Agent) running() (*incarnation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != protocol.PhaseRunning {
		return nil, errNotRunning()
	}
	return a.now, nil
}

func errNotRunning() error { return wire.Errorf(protocol.CodeNotRunning, "the process does not run") }

// closeOnExec keeps every descriptor but the first three from what the agent starts.
func closeOnExec() error {
	err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	entries, listErr := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if listErr != nil {
		return fmt.Errorf("cannot close the platform's descriptors: %w", errors.Join(err, listErr))
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// addresses are the replica's own, without loopback.
func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // a sandbox without netlink
	}
	var list []string
	for _, addr := range all {
		if ip, ok := addr.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			list = append(list, ip.IP.String())
		}
	}
	return list
}
