package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

// Attach connects to the process's streams; before the process runs it stands until it does.
func (s containerService) Attach(ctx context.Context, ref string, opt sockerless.AttachOptions) (sockerless.Session, error) {
	c, err := s.locked(ref)
	if err != nil {
		return nil, err
	}
	tty := c.rec.Config.Tty
	keys, err := detachKeys(opt.DetachKeys, tty)
	if err == nil && c.rec.State.Status == docker.StatePaused {
		err = sockerless.Errorf(sockerless.ECONFLICT, "container %s is paused, unpause the container before attach", c.id)
	}
	if err == nil && c.restarting() {
		err = sockerless.Errorf(sockerless.ECONFLICT, "container %s is restarting, wait until the container is running", c.id)
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	c.event(events.ActionAttach, nil)
	w := attachment{tty: tty, logs: opt.Logs, req: protocol.AttachRequest{
		Stdin: opt.Stdin && c.rec.Config.OpenStdin, Stdout: opt.Stdout, Stderr: opt.Stderr, DetachKeys: keys,
	}}
	if !opt.Stream {
		limits := c.rec.Limits
		c.mu.Unlock()
		if !opt.Logs {
			return &finished{}, nil
		}
		logs, err := s.logs.Log(c.id, limits)
		if err != nil {
			return nil, err
		}
		s.upToDate(ctx, c, logs)
		return &finished{head: w.head(logs, logs.Last())}, nil
	}
	if c.rec.Run != nil && c.rec.Run.Stage == stageRunning && c.run != nil {
		r := c.run
		c.mu.Unlock()
		a, err := r.linkedAgent(ctx)
		if err != nil {
			return nil, err
		}
		return w.open(ctx, a)
	}
	late := &lateSession{c: c, want: w, ready: make(chan struct{}), closed: make(chan struct{})}
	c.pending = append(c.pending, late)
	c.mu.Unlock()
	return late, nil
}

// attachment is what an attach wants.
type attachment struct {
	tty  bool
	logs bool // first what was written so far
	req  protocol.AttachRequest
}

// open joins the process's streams at the agent.
func (w attachment) open(ctx context.Context, a *agent) (sockerless.Session, error) {
	if !w.logs {
		conn, err := a.client.Attach(ctx, w.req)
		if err != nil {
			return nil, attachError(err)
		}
		return a.track(conn), nil
	}
	// What is stored here comes from here, what is not from the agent: it must not drop it before it has been asked.
	a.hold.Add(1)
	time.AfterFunc(replayTime, func() { a.hold.Add(-1) })
	base := a.run.logBase()
	for {
		last := a.run.logs.Last()
		req := w.req
		req.Replay, req.After = true, max(last, base)-base
		conn, err := a.client.Attach(ctx, req)
		if protocol.HasCode(err, protocol.CodeGone) && a.run.logs.Last() > last {
			continue
		}
		if err != nil {
			return nil, attachError(err)
		}
		return &replayed{tracked: a.track(conn), head: w.head(a.run.logs, last)}, nil
	}
}

// replayTime is what an agent is given to read its records again before it may drop them.
const replayTime = 2 * time.Second

func attachError(err error) error {
	if protocol.HasCode(err, protocol.CodeNotRunning) {
		return errNotRunning
	}
	return err
}

var errNotRunning = sockerless.Errorf(sockerless.ECONFLICT, "cannot attach to a stopped container, start it first")

// head gives the stored records up to a number in the form that the session has.
func (w attachment) head(logs *logstore.Log, last uint64) *head {
	if last == 0 {
		return nil
	}
	h := &head{tty: w.tty, req: w.req}
	h.next, h.stop = iter.Pull2(logs.Records(context.Background(), logstore.Query{Tail: -1, UpTo: last}))
	return h
}

// head reads stored records as the bytes of a session. It is closed when its session is.
type head struct {
	tty  bool
	req  protocol.AttachRequest
	buf  []byte
	next func() (tape.Record, error, bool)
	stop func()
}

// Read returns io.EOF once, where what is live begins.
func (h *head) Read(b []byte) (int, error) {
	for len(h.buf) == 0 {
		rec, err, ok := h.next()
		if !ok {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		if rec.Stream == tape.Stdout && !h.req.Stdout || rec.Stream != tape.Stdout && !h.req.Stderr {
			continue
		}
		if !h.tty {
			h.buf = append(h.buf, byte(min(rec.Stream, tape.Stderr)), 0, 0, 0)
			h.buf = binary.BigEndian.AppendUint32(h.buf, uint32(len(rec.Data)))
		}
		h.buf = append(h.buf, rec.Data...)
	}
	n := copy(b, h.buf)
	h.buf = h.buf[n:]
	return n, nil
}

// replayed is a session that begins with stored records.
type replayed struct {
	*tracked
	mu   sync.Mutex // held while head is read, and while it is stopped
	head *head
}

func (r *replayed) Read(b []byte) (int, error) {
	r.mu.Lock()
	if r.head != nil {
		n, err := r.head.Read(b)
		if !errors.Is(err, io.EOF) {
			r.mu.Unlock()
			return n, err
		}
		r.head.stop()
		r.head = nil
	}
	r.mu.Unlock()
	return r.tracked.Read(b)
}

// Close ends the session.
func (r *replayed) Close() error {
	err := r.tracked.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.head != nil {
		r.head.stop()
		r.head = nil
	}
	return err
}

// finished is a session without a process: what it has to say, then the end.
type finished struct {
	mu   sync.Mutex
	text []byte
	head *head
}

func (f *finished) Read(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.text) > 0 {
		n := copy(b, f.text)
		f.text = f.text[n:]
		return n, nil
	}
	if f.head != nil {
		return f.head.Read(b)
	}
	return 0, io.EOF
}

func (f *finished) Write(b []byte) (int, error) { return len(b), nil } // nobody reads it, as with a closed stdin
func (f *finished) CloseWrite() error           { return nil }

func (f *finished) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head != nil {
		f.head.stop()
		f.head = nil
	}
	f.text = nil
	return nil
}

// lateSession is an attach that stands before the process runs. What is written to it waits until then.
type lateSession struct {
	c    *container
	want attachment

	ready   chan struct{} // closed by join or fail
	closed  chan struct{} // closed by Close
	once    sync.Once
	session sockerless.Session // valid after ready; nil: there is none
	err     error
	failed  atomic.Bool // the process was never started: whatever ends the session is its end
}

// join gives the session to whoever holds this one. It is called once, or fail is.
func (l *lateSession) join(s sockerless.Session) {
	l.session = s
	close(l.ready)
	select {
	case <-l.closed:
		s.Close()
	default:
	}
}

// fail ends it without a process; nil is the end of an empty output.
func (l *lateSession) fail(err error) {
	l.err = err
	close(l.ready)
}

func (l *lateSession) wait() (sockerless.Session, error) {
	select {
	case <-l.ready:
	case <-l.closed:
		return nil, io.ErrClosedPipe
	case <-l.c.e.ctx.Done():
		return nil, closing()
	}
	if l.session == nil && l.err == nil {
		return nil, io.EOF
	}
	return l.session, l.err
}

func (l *lateSession) Read(b []byte) (int, error) {
	s, err := l.wait()
	if err != nil {
		return 0, err
	}
	n, err := s.Read(b)
	if err != nil && l.failed.Load() {
		err = io.EOF
	}
	return n, err
}

func (l *lateSession) Write(b []byte) (int, error) {
	s, err := l.wait()
	if errors.Is(err, io.EOF) {
		err = io.ErrClosedPipe
	}
	if err != nil {
		return 0, err
	}
	return s.Write(b)
}

// CloseWrite waits for the process too: an end of input before the start is an end of input after it.
func (l *lateSession) CloseWrite() error {
	s, err := l.wait()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.CloseWrite()
}

// Reset ends the session as a client does that has vanished.
func (l *lateSession) Reset() error {
	select {
	case <-l.ready:
		if r, ok := l.session.(interface{ Reset() error }); ok {
			r.Reset() //nolint:errcheck // it is closed below, whatever it says
		}
	default:
	}
	return l.Close()
}

// Close ends the session.
func (l *lateSession) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.c.mu.Lock()
	l.c.pending = slices.DeleteFunc(l.c.pending, func(p *lateSession) bool { return p == l })
	l.c.mu.Unlock()
	select {
	case <-l.ready:
		if l.session != nil {
			return l.session.Close()
		}
	default: // join closes it
	}
	return nil
}

// attachPending joins those who attached before the process runs. If the link has trouble they go on waiting.
func (r *run) attachPending(ctx context.Context, a *agent) error {
	for {
		r.c.mu.Lock()
		if len(r.c.pending) == 0 {
			r.c.mu.Unlock()
			return nil
		}
		late := r.c.pending[0]
		r.c.pending = r.c.pending[1:]
		r.c.mu.Unlock()
		s, err := late.want.open(ctx, a)
		_, refused := errors.AsType[*wire.Error](err)
		switch {
		case err == nil:
			r.c.mu.Lock()
			r.joined = append(r.joined, late)
			r.c.mu.Unlock()
			late.join(s)
		case refused:
			r.warn("cannot attach to a container that is being started", err)
			late.fail(err)
		default:
			r.c.mu.Lock()
			switch r.c.rec.Run.Stage {
			case stageLinked, stageRunning:
				r.c.pending = append([]*lateSession{late}, r.c.pending...)
			case stageExited:
				late.fail(errNotJoined)
			default: // the start was cancelled, and who else waited was told then
				late.fail(nil)
			}
			r.c.mu.Unlock()
			return err
		}
	}
}

// errNotJoined ends a session whose process has run without it.
var errNotJoined = sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot attach: the process has ended before its streams could be joined")

// Resize sets the size of the container's terminal. Before the start it is remembered; without a terminal it is taken for
// nothing, as by dockerd.
func (s containerService) Resize(ctx context.Context, ref string, size sockerless.TerminalSize) error {
	c, err := s.locked(ref)
	if err != nil {
		return err
	}
	c.size = &size
	if c.rec.Run == nil || c.rec.Run.Stage != stageRunning || c.run == nil {
		c.mu.Unlock()
		return nil
	}
	r, tty := c.run, c.rec.Config.Tty
	c.mu.Unlock()
	if tty {
		err = r.call(ctx, func(a *agent) error {
			return a.client.Resize(a.ctx, protocol.ResizeRequest{Size: protocol.Size{Rows: size.Rows, Cols: size.Cols}})
		})
	}
	if protocol.HasCode(err, protocol.CodeNotRunning) {
		return c.refuse()
	}
	if protocol.HasCode(err, protocol.CodeInvalid) {
		return sockerless.Errorf(sockerless.EINVALID, "cannot resize container %s: %s", c.id[:12], err)
	}
	if err == nil {
		c.mu.Lock()
		c.event(events.ActionResize, map[string]string{"height": strconv.Itoa(int(size.Rows)), "width": strconv.Itoa(int(size.Cols))})
		c.mu.Unlock()
	}
	return err
}

// detachKeys reads Docker's notation ("ctrl-p,ctrl-q", "a,b") into the bytes that a terminal sends. Without a terminal
// there are none.
func detachKeys(keys string, tty bool) ([]byte, error) {
	if keys == "" {
		keys = "ctrl-p,ctrl-q"
	}
	var seq []byte
	for key := range strings.SplitSeq(keys, ",") {
		switch rest, ctrl := strings.CutPrefix(key, "ctrl-"); {
		case len(key) == 1:
			seq = append(seq, key[0])
		case key == "DEL":
			seq = append(seq, 127)
		case ctrl && len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'z':
			seq = append(seq, rest[0]-'a'+1)
		case ctrl && len(rest) == 1 && strings.Contains("@[\\]^_", rest):
			seq = append(seq, rest[0]-'@')
		default:
			return nil, sockerless.Errorf(sockerless.EINVALID, "Invalid detach keys (%s) provided", keys)
		}
	}
	if !tty {
		return nil, nil
	}
	return seq, nil
}

// upToDate waits a moment until what the process has written by now is stored, if its agent can be asked.
func (e *Engine) upToDate(ctx context.Context, c *container, logs *logstore.Log) {
	c.mu.Lock()
	r := c.run
	c.mu.Unlock()
	if r == nil {
		return
	}
	a := r.current.Load()
	if a == nil || !a.link.Connected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, upToDateWait)
	defer cancel()
	st, err := a.client.State(ctx)
	if err != nil {
		return // what is stored is still true
	}
	logs.Wait(ctx, r.logBase()+st.LastLog) //nolint:errcheck // as above
}

const upToDateWait = 5 * time.Second
