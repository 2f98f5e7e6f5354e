package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/wire"
)

const (
	callTimeout  = 10 * time.Second // for an agent's answer to a question that needs no work
	ackDelay     = 100 * time.Millisecond
	stallTimeout = 30 * time.Second // without one more record, though linked, while an exit waits for the last ones
)

// agent is the one agent that a run obeys, on its present link. It ends with that link.
type agent struct {
	run    *run
	link   *link.Link
	client *protocol.Client
	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	work   sync.WaitGroup // the feeds
	acks   chan struct{}  // there is something to acknowledge
	hold   atomic.Int32   // who needs that nothing more is acknowledged for a moment
	seen   atomic.Uint64  // events up to this number are dealt with
	open   atomic.Int64   // sessions that are not closed
}

// newAgent begins to follow an agent's events and logs.
func newAgent(r *run, l *link.Link, lastEvent uint64) *agent {
	ctx, cancel := context.WithCancel(r.e.ctx)
	a := &agent{run: r, link: l, client: protocol.NewClient(l.Open), ctx: ctx, cancel: cancel, acks: make(chan struct{}, 1)}
	a.seen.Store(lastEvent)
	stop := make(chan struct{})
	context.AfterFunc(ctx, func() { close(stop) })
	a.work.Go(func() { // ends with the link or with ctx
		select {
		case <-l.Done():
			cancel()
		case <-stop:
		}
	})
	a.work.Go(a.followEvents)   // these three end with ctx
	a.work.Go(a.followLogs)     //
	a.work.Go(a.acknowledgeAll) //
	return a
}

// close ends the link. The agent behind it goes on.
func (a *agent) close() {
	a.cancel()
	a.work.Wait()
	a.client.Close()
	closeLink(a.link)
}

// alive says whether the link has not ended; it may be cut at the moment.
func (a *agent) alive() bool {
	select {
	case <-a.link.Done():
		return false
	default:
		return true
	}
}

// followEvents deals with the agent's events one after the other.
func (a *agent) followEvents() {
	for {
		for ev, err := range a.client.Events(a.ctx, a.seen.Load()) {
			if err != nil {
				a.run.warn("the agent's events were cut off", err)
				break
			}
			if !a.handle(ev) {
				return
			}
			a.seen.Store(ev.Seq)
			a.acknowledge()
		}
		if !a.pause() {
			return
		}
	}
}

// handle returns false when the agent's time is over.
func (a *agent) handle(ev protocol.Event) bool {
	switch ev.Kind {
	case protocol.EventExited, protocol.EventStarted, protocol.EventStays:
		if ev.Kind == protocol.EventExited && ev.Exit == nil {
			return true
		}
		if ev.Kind != protocol.EventStarted && !a.logged(ev.LastLog) {
			return false
		}
		w := word{Event: ev, stored: make(chan struct{})}
		select {
		case a.run.words <- w:
		case <-a.ctx.Done():
			return false
		}
		select {
		case <-w.stored:
		case <-a.ctx.Done():
			return false
		}
	case protocol.EventExecExit:
		a.run.e.execs.exited(ev.Exec, ev.Exit)
	case protocol.EventDetached:
		a.run.detached(ev)
	case protocol.EventHealth:
		a.run.hearHealth(ev)
	case protocol.EventPaused, protocol.EventUnpaused:
		return a.run.turned(a.ctx, ev)
	case protocol.EventOOM:
		return a.run.outOfMemory(a.ctx, ev)
	}
	return true
}

// logged waits until the records up to one of the agent's numbers are stored.
func (a *agent) logged(last uint64) bool {
	base := a.run.logBase()
	for {
		before := a.run.logs.Last()
		ctx, cancel := context.WithTimeout(a.ctx, stallTimeout)
		err := a.run.logs.Wait(ctx, base+last)
		cancel()
		if err == nil {
			return true
		}
		if a.ctx.Err() != nil {
			return false
		}
		if a.link.Connected() && a.run.logs.Last() == before {
			a.run.warn("the last log records do not come; the exit is recorded without them", err)
			return true
		}
	}
}

// followLogs stores what the agent sends.
func (a *agent) followLogs() {
	base := a.run.logBase()
	for {
		after := max(a.run.logs.Last(), base) - base // a power cut can leave the log shorter than it was
		for rec, err := range a.client.Logs(a.ctx, protocol.LogsRequest{After: after, Follow: true}) {
			if err != nil {
				a.run.warn("the agent's log was cut off", err)
				break
			}
			rec.Seq += base
			if err := a.run.logs.Append(rec); err != nil {
				a.run.warn("log records are lost", err)
			}
			a.acknowledge()
		}
		if !a.pause() {
			return
		}
	}
}

// pause waits before a feed is asked for again; false when the link has ended.
func (a *agent) pause() bool {
	select {
	case <-a.ctx.Done():
		return false
	case <-time.After(time.Second):
		return true
	}
}

func (a *agent) acknowledge() {
	select {
	case a.acks <- struct{}{}:
	default:
	}
}

// acknowledgeAll tells the agent now and then what is stored here.
func (a *agent) acknowledgeAll() {
	for {
		select {
		case <-a.acks:
		case <-a.ctx.Done():
			return
		}
		select {
		case <-time.After(ackDelay):
		case <-a.ctx.Done():
			return
		}
		if a.hold.Load() > 0 {
			a.acknowledge() // again, after ackDelay
			continue
		}
		a.ack() //nolint:errcheck // told by the feeds if the link is broken, and repeated with the next record
	}
}

// ack acknowledges all that is stored.
func (a *agent) ack() error {
	last := a.run.logs.Last()
	if err := a.run.logs.Flush(); err != nil {
		a.run.warn("log records are lost", err)
	}
	ctx, cancel := context.WithTimeout(a.ctx, callTimeout)
	defer cancel()
	req := protocol.AckRequest{Event: a.seen.Load()}
	if base := a.run.logBase(); last > base {
		req.Log = last - base
	}
	return a.client.Ack(ctx, req)
}

// release tells an agent to end; what it runs is killed.
func (a *agent) release() error {
	ctx, cancel := context.WithTimeout(a.ctx, callTimeout)
	defer cancel()
	return a.client.Release(ctx)
}

// acceptAgents gives the agents that dial in to their runs.
func (e *Engine) acceptAgents() {
	for {
		l, err := e.opt.Links.Accept(e.ctx)
		if err != nil {
			if !errors.Is(err, link.ErrClosed) && e.ctx.Err() == nil {
				e.log.Error("no more agents can link", "error", err)
			}
			return
		}
		e.mu.RLock()
		r := e.runs[l.ID()]
		e.mu.RUnlock()
		switch {
		case r == nil:
			e.turnAway(l)
		case !e.offer(r, l):
			e.background(func() { closeLink(l) }) // ends within the link's own 2 s
		}
	}
}

// offer gives a link to its run. False: the run is over, or has more of them at once than any has.
func (e *Engine) offer(r *run, l *link.Link) bool {
	e.mu.RLock() // over the hand-over too: a run that ends takes no offer after it has left e.runs
	defer e.mu.RUnlock()
	if e.runs[r.id] != r {
		return false
	}
	select {
	case r.offers <- l:
		return true
	default:
		return false
	}
}

// turnAway ends an agent that nobody wants: of a run that is over, or a second one of a run that has its own.
func (e *Engine) turnAway(l *link.Link) {
	e.log.Info("an agent that is not wanted is told to end", "run", l.ID(), "execution", l.Peer().Execution)
	if !e.background(func() { // ends within callTimeout and the link's own 2 s
		ctx, cancel := context.WithTimeout(e.ctx, callTimeout)
		defer cancel()
		client := protocol.NewClient(l.Open)
		if err := client.Release(ctx); err != nil {
			e.log.Debug("an agent that is not wanted does not answer", "run", l.ID(), "error", err)
		}
		client.Close()
		closeLink(l)
	}) {
		closeLink(l) // a link that this end has dialled would be dialled again until it is given up
	}
}

// closeLink says goodbye. A link that is broken is over all the same.
func closeLink(l *link.Link) { _ = l.Close() }

// tracked is a session that the agent must not be told to leave under. It passes bytes on as they are.
type tracked struct {
	*wire.Conn
	once  sync.Once
	agent *agent
}

func (a *agent) track(c *wire.Conn) *tracked {
	a.open.Add(1)
	return &tracked{Conn: c, agent: a}
}

// leave counts one reader less; the last one may be what a run's end waits for.
func (a *agent) leave() {
	if a.open.Add(-1) == 0 {
		a.run.nudge()
	}
}

// Close ends the session.
func (t *tracked) Close() error {
	t.once.Do(t.agent.leave)
	return t.Conn.Close()
}
