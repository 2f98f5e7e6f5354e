package agent

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

const (
	execMemory = 10 * time.Minute // how long an exec that has ended is known
	maxExecs   = 4096             // that are known, ended ones included
)

// exec runs a process and joins its streams to a session. A process whose client vanishes goes on, with its input at
// the end and its output thrown away, as dockerd has it.
func (a *Agent) exec(_ context.Context, req protocol.ExecRequest, accept func() (*wire.Conn, error)) error {
	s, err := a.startExec(req, streams{stdin: req.Stdin, stdout: req.Stdout, stderr: req.Stderr})
	if err != nil {
		return err
	}
	s.mute = req.Process.Tty && !req.Stdout && !req.Stderr
	heard := make(chan struct{})
	if s.conn, err = accept(); err != nil {
		s.dead.Store(true)
		s.process.closeStdin()
	} else {
		go func() { // ends when the client's input does, or conn is closed behind the end of this function
			defer close(heard)
			s.input(req)
		}()
	}
	s.run()
	if err != nil || s.dead.Load() {
		return err
	}
	err = s.conn.CloseWrite()
	a.hearOut(heard)
	return err
}

// execDetached runs a process whose streams nobody wants.
func (a *Agent) execDetached(_ context.Context, req protocol.ExecRequest) (protocol.ExecState, error) {
	s, err := a.startExec(req, streams{})
	if err != nil {
		return protocol.ExecState{}, err
	}
	s.dead.Store(true)
	go s.run() // ends after the process
	return a.execs.state(req.ID)
}

func (a *Agent) execState(_ context.Context, ref protocol.ExecRef) (protocol.ExecState, error) {
	return a.execs.state(ref.ID)
}

// startExec starts the process of an exec and records its exit, when that comes.
func (a *Agent) startExec(req protocol.ExecRequest, want streams) (*execSession, error) {
	if req.ID == "" || len(req.ID) > 256 {
		return nil, wire.Errorf(protocol.CodeInvalid, "an exec needs an id of at most 256 bytes")
	}
	a.starts.take()
	defer a.starts.release()
	a.gate.RLock()
	defer a.gate.RUnlock()
	i, err := a.running()
	if err == nil && a.closing {
		err = errNotRunning()
	}
	if err == nil && a.paused != nil {
		err = wire.Errorf(protocol.CodePaused, "the process is paused")
	}
	if err != nil {
		return nil, err
	}
	e := &execution{id: req.ID}
	if err := a.execs.reserve(e); err != nil {
		return nil, err
	}
	p, err := a.reaper.launch(req.Process, want, false)
	if err != nil {
		a.execs.forget(e)
		return nil, err
	}
	a.execs.run(e, p)
	s := &execSession{process: p, left: &a.left, recorded: make(chan struct{}), detached: func() {
		a.events.add(protocol.Event{Kind: protocol.EventDetached, Incarnation: i.number, Exec: e.id})
	}}
	go func() { // ends after the process
		exit := p.exit()
		exit.OOM = exit.Signal == int(syscall.SIGKILL) && a.lookForOOM(i)
		a.execs.record(e, exit)
		a.events.add(protocol.Event{Kind: protocol.EventExecExit, Time: exit.Time, Incarnation: i.number, Pid: p.pid, Exec: e.id, Exit: exit})
		close(s.recorded)
	}()
	return s, nil
}

// execSession is an exec's process and the client's side of it.
type execSession struct {
	process  *process
	left     *leftovers
	recorded chan struct{} // closed when the exit is
	detached func()        // tells that the client has typed the detach keys
	conn     *wire.Conn    // nil if dead from the start
	mu       sync.Mutex    // one frame after the other
	mute     bool          // the client wants no output; a terminal has some all the same
	dead     atomic.Bool   // nobody reads
}

// run carries the output until its end, and returns when the exit is recorded too.
func (s *execSession) run() {
	var output sync.WaitGroup
	var drains []*drain
	for stream, f := range map[tapeStream]*os.File{stdout: s.process.stdout, stderr: s.process.stderr} {
		if f == nil {
			continue
		}
		d := &drain{file: f, quiet: quietLimit}
		if s.process.tty != nil {
			d.quiet = quiet // a terminal hangs up with its first process
		}
		drains = append(drains, d)
		output.Go(func() { // ends after the process, see drain
			ended := d.run(func(buf []byte) { s.take(stream, buf) })
			switch {
			case s.process.tty != nil: // closed below, for it is the input too
			case ended:
				f.Close()
			default:
				s.left.add(f)
			}
		})
	}
	<-s.process.done
	for _, d := range drains {
		d.stop()
	}
	output.Wait()
	<-s.recorded
	if s.process.tty != nil {
		s.process.close()
	} else {
		s.process.closeStdin() // the others are closed, or left to be read
	}
}

// take writes output to the client, and waits for it: an exec whose client does not read stops, alone.
func (s *execSession) take(stream tapeStream, buf []byte) {
	if s.mute || s.dead.Load() {
		return
	}
	if s.process.tty != nil {
		buf = buf[frameHeader:]
	} else {
		putHeader(buf, stream, len(buf)-frameHeader)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.conn.Write(buf); err != nil {
		s.end()
	}
}

// input carries the client's input until its end.
func (s *execSession) input(req protocol.ExecRequest) {
	in := &input{conn: s.conn, keys: req.DetachKeys}
	if req.Stdin {
		in.file = s.process.stdin
	}
	switch in.run() {
	case inputEnd:
		if s.process.tty != nil && req.Stdin {
			s.end() // a terminal has no end of input; dockerd ends the session
		}
		s.process.closeStdin()
	case inputDetached:
		s.detached()
		s.end()
		s.process.closeStdin()
	case inputCut:
		s.end()
		s.process.closeStdin()
	}
}

// end closes the session and leaves the process.
func (s *execSession) end() {
	if !s.dead.Swap(true) {
		s.conn.Close()
	}
}

// execution is what is known of an exec, guarded by the table's mu.
type execution struct {
	id      string
	pid     int
	process *process       // nil before it runs, and after
	exit    *protocol.Exit // nil before
}

// execTable knows the execs that run, and those that have ended for some time.
type execTable struct {
	mu    sync.Mutex
	byID  map[string]*execution
	ended []*execution // in order
}

func newExecTable() *execTable { return &execTable{byID: map[string]*execution{}} }

// reserve takes an id.
func (t *execTable) reserve(e *execution) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune()
	if t.byID[e.id] != nil {
		return wire.Errorf(protocol.CodeInvalid, "exec %s is started already", e.id)
	}
	if len(t.byID) >= maxExecs {
		return wire.Errorf(protocol.CodeNoSpace, "cannot exec: %d processes run already", len(t.byID))
	}
	t.byID[e.id] = e
	return nil
}

func (t *execTable) forget(e *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, e.id)
}

func (t *execTable) run(e *execution, p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.pid, e.process = p.pid, p
}

func (t *execTable) record(e *execution, exit *protocol.Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.process, e.exit = nil, exit
	t.ended = append(t.ended, e)
}

// state says what became of an exec whose process has been started.
func (t *execTable) state(id string) (protocol.ExecState, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.find(id)
	if err != nil {
		return protocol.ExecState{}, err
	}
	return protocol.ExecState{ID: e.id, Pid: e.pid, Running: e.exit == nil, Exit: e.exit}, nil
}

// process returns the process of an exec that runs.
func (t *execTable) process(id string) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.find(id)
	if err == nil && e.exit != nil {
		err = errNotRunning()
	}
	if err != nil {
		return nil, err
	}
	return e.process, nil
}

// find: t.mu is held.
func (t *execTable) find(id string) (*execution, error) {
	t.prune()
	e := t.byID[id]
	if e == nil || e.pid == 0 {
		return nil, wire.Errorf(protocol.CodeNoExec, "no such exec: %s", id)
	}
	return e, nil
}

// prune forgets what ended long ago, and the oldest where there are too many. t.mu is held.
func (t *execTable) prune() {
	n := 0
	for n < len(t.ended) && (len(t.byID)-n >= maxExecs || time.Since(t.ended[n].exit.Time) > execMemory) {
		delete(t.byID, t.ended[n].id)
		n++
	}
	t.ended = t.ended[n:]
}
