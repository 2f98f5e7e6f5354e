package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/link"
)

// run is the live side of a container's run: one execution in the cloud, from the wish to its end. One goroutine steps
// it from stage to stage; the stage itself is stored in the container's record. A request changes the stage under the
// container's lock and nudges.
type run struct {
	e         *Engine
	c         *container
	id        string
	logs      *logstore.Log
	recovered bool // stored by an earlier process

	offers chan *link.Link // agents that say they are this run's
	words  chan word       // from the agent's feed
	nudges chan struct{}   // the stage was changed by a request
	hurry  chan struct{}   // the cloud should be asked now
	over   chan struct{}   // closed when the goroutine has ended

	// Set by the stepping goroutine, which alone reads agent; others read current and, under c.mu, linked.
	agent   *agent
	current atomic.Pointer[agent]
	linked  chan struct{}  // closed while there is an agent
	joined  []*lateSession // of a start that is under way; guarded by c.mu
	heard   heard          // guarded by c.mu
	telling sync.Mutex     // held while the agent is told the restart policy

	// Of the stepping goroutine alone.
	dialling context.CancelFunc
	poll     *time.Timer
	answers  chan answer
	asking   bool // an answer will come
	replaced bool // another agent came for the execution: the replica was taken away and run again
	backoff  time.Duration
	silent   atomic.Bool // the agent does not answer, so it is not asked to end either
	trouble  bool        // the store does not take what is to be stored
	accepted *acceptance // the driver's answer to the start; nil before
	early    []word      // that came before the start was answered; each has an agent that waits for stored
}

// word is what the agent says of the container's process: one of its events.
type word struct {
	protocol.Event
	stored chan struct{} // closed when it is dealt with, which lets it be acknowledged
}

// acceptance is what the driver has answered to a start. It is kept until it is stored, so that it is asked once: every
// further Start would be one more execution.
type acceptance struct {
	run driver.Run
	err error
}

const (
	offersKept  = 8
	pollFirst   = 5 * time.Second // after a link's end, before the cloud is asked
	pollSoon    = time.Second     // when there is a reason to ask
	pollMost    = time.Minute
	checkLinked = 5 * time.Second // how often a link is looked at for a cut; asks nobody
)

// newRun makes the live side of c.rec.Run and makes it known to agents. c.mu is held.
func (c *container) newRun() (*run, error) {
	logs, err := c.e.logs.Log(c.id, c.rec.Limits)
	if err != nil {
		return nil, err
	}
	r := &run{
		e: c.e, c: c, id: c.rec.Run.ID, logs: logs,
		offers: make(chan *link.Link, offersKept), words: make(chan word), nudges: make(chan struct{}, 1),
		hurry: make(chan struct{}, 1), answers: make(chan answer, 1), over: make(chan struct{}), linked: make(chan struct{}),
	}
	c.e.mu.Lock()
	c.e.runs[r.id] = r
	c.e.mu.Unlock()
	c.run, c.prev = r, r
	return r, nil
}

// step goes through the stages until the run is over or the engine closes.
func (r *run) step() {
	defer r.finish()
	r.poll = time.NewTimer(pollFirst)
	defer r.poll.Stop()
	for r.e.ctx.Err() == nil {
		if r.trouble {
			r.trouble = false
			select {
			case <-time.After(time.Second):
			case <-r.e.ctx.Done():
			}
		}
		switch r.stage() {
		case stageIntent:
			r.place()
		case stagePlaced:
			r.meet()
		case stageLinked:
			r.begin()
		case stageRunning:
			r.watch()
		case stageExited:
			r.stay()
		case stageEnding:
			r.end()
		case stageOver:
			return
		}
	}
}

// stage is where the run is.
func (r *run) stage() stage {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.rec.Run.Stage
}

// to stores the next stage, unless a request has changed it from the one expected.
func (r *run) to(from, next stage, also func(*record)) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	if r.c.rec.Run.Stage != from {
		return
	}
	if r.c.rec.Removed { // the tombstone says enough: the deletion of the job ends everything
		run := *r.c.rec.Run
		run.Stage = next
		r.c.rec.Run = &run
		return
	}
	r.must(r.c.change(func(rec *record) {
		rec.Run.Stage = next
		if also != nil {
			also(rec)
		}
	}))
}

// must tells that something could not be stored. The stage is as before, so it is tried again, a second later.
func (r *run) must(err error) {
	if err != nil {
		r.e.log.Error("cannot store what became of a container", "container", r.c.id, "error", err)
		r.trouble = true
	}
}

func (r *run) nudge() {
	select {
	case r.nudges <- struct{}{}:
	default:
	}
}

func (r *run) warn(text string, err error) {
	if r.e.ctx.Err() == nil {
		r.e.log.Warn(text, "container", r.c.id, "run", r.id, "error", err)
	}
}

func (r *run) logBase() uint64 {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.rec.Run.LogBase
}

// driverRun is what the driver is asked about.
func (r *run) driverRun() driver.Run {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.rec.Run.Run
}

// finish lets go of everything. The stage is over, or the engine closes.
func (r *run) finish() {
	r.stopDialling()
	r.c.mu.Lock()
	a := r.agent
	r.setAgent(nil)
	r.c.mu.Unlock()
	if a != nil {
		a.close()
	}
	if err := r.e.logs.Release(r.c.id); err != nil {
		r.warn("log records are lost", err)
	}
	if r.stage() == stageOver {
		r.e.execs.lost(r)
	}
	r.c.mu.Lock()
	r.saveHealth()
	if r.c.run == r {
		r.c.run = nil
	}
	r.e.mu.Lock()
	delete(r.e.runs, r.id) // no offer comes after this
	r.e.mu.Unlock()
	r.c.mu.Unlock()
	for {
		select {
		case l := <-r.offers:
			closeLink(l)
			continue
		default:
		}
		break
	}
	close(r.over)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.later()
}

// dropEarly lets go of words that change nothing any more, and of their agent, which waits until they are dealt with.
func (r *run) dropEarly() {
	for _, w := range r.early {
		close(w.stored)
	}
	r.early = nil
}

// happening is what next has waited for.
type happening int

const (
	nudged   happening = iota // a request has changed something, or the engine closes
	linkUp                    // there is an agent now
	linkDown                  // there is none any more
	said                      // the agent says what became of the process
	ended                     // the cloud says that the execution has ended, or does not know it
	polled                    // the cloud says that it goes on, and why it does not come up
	timedOut
)

// news comes with a happening.
type news struct {
	word   word
	answer answer
	gone   error // why the link ended
}

// answer is what the cloud says of an execution.
type answer struct {
	status driver.Status
	reason string // why it does not come up; asked before there was a link only
	goes   bool   // something of it may run on
	err    error
}

// left is what is to be done about an execution that has ended.
func (a answer) left() stage {
	if a.goes {
		return stageEnding
	}
	return stageOver
}

// another is the answer of a platform that runs a replica again, as Container Apps does after preempting one although
// no retry was asked for (microsoft/azure-container-apps#1477). The first one's process is gone.
var another = news{answer: answer{
	status: driver.Status{Phase: driver.PhaseEnded, Reason: "the platform took the replica away and ran it again"}, goes: true,
}}

// next waits for something to happen. A word that comes before the process is known to run is kept for watch. It takes
// agents that are the run's own and turns others away, dials where agents are dialled, and asks the cloud, with back-off,
// only while there is no link.
func (r *run) next(timeout <-chan time.Time) (happening, news) {
	var down <-chan struct{}
	if r.agent != nil {
		down = r.agent.link.Done()
	} else {
		r.dial()
	}
	for {
		select {
		case <-r.e.ctx.Done():
			return nudged, news{}
		case <-r.nudges:
			return nudged, news{}
		case w := <-r.words:
			if r.stage() == stageLinked { // of the process whose start is not answered yet
				r.early = append(r.early, w)
				continue
			}
			return said, news{word: w}
		case <-timeout:
			return timedOut, news{}
		case l := <-r.offers:
			if r.adopt(l) {
				return linkUp, news{}
			}
			if r.replaced && !r.isLinked() {
				return ended, another
			}
		case <-down:
			gone := r.lose()
			if r.replaced {
				return ended, another
			}
			return linkDown, news{gone: gone}
		case <-r.hurry:
			r.pollIn(pollSoon)
		case <-r.poll.C:
			if r.isLinked() {
				r.backoff = 0
				r.poll.Reset(checkLinked)
				continue
			}
			r.ask()
		case got := <-r.answers:
			r.asking = false
			switch {
			case r.isLinked():
			case got.err != nil:
				r.warn("cannot ask for the status of an execution", got.err)
			case got.status.Phase == driver.PhaseEnded || got.status.Phase == driver.PhaseGone:
				return ended, news{answer: got}
			default:
				return polled, news{answer: got}
			}
		}
	}
}

// pollIn asks the cloud after d, and more and more seldom after that.
func (r *run) pollIn(d time.Duration) {
	r.backoff = d
	r.poll.Reset(d)
}

// ask asks the cloud how far the execution is. The answer comes later: a cloud that takes its time must not keep an
// agent waiting.
func (r *run) ask() {
	r.backoff = min(max(2*r.backoff, pollFirst), pollMost)
	r.poll.Reset(r.backoff)
	if r.asking {
		return
	}
	early := r.stage() == stagePlaced
	r.asking = r.e.background(func() { // ends with the driver's answer, or with the engine
		var got answer
		if got.status, got.err = r.e.opt.Driver.Status(r.e.ctx, r.driverRun()); got.err == nil && early {
			got.reason = r.explain()
		}
		r.answers <- got // there is room for the one answer that is awaited
	})
}

// adopt takes an agent if it is the run's own: the first one that comes for the execution, and that one again.
func (r *run) adopt(l *link.Link) bool {
	hello := l.Peer()
	r.c.mu.Lock()
	rec := r.c.rec.Run
	own := rec.Stage != stageEnding && rec.Stage != stageOver &&
		(hello.Execution == "" || hello.Execution == rec.Run.Execution) &&
		(rec.Boot == "" || rec.Boot == hello.BootID)
	if own && rec.Boot == "" {
		// Stored before it is told anything: after a crash another one must not be taken for the first.
		err := r.c.change(func(rec *record) {
			rec.Run.Boot = hello.BootID
			if rec.Run.Stage == stagePlaced {
				rec.Run.Stage = stageLinked
			}
		})
		if err != nil {
			r.c.mu.Unlock()
			r.must(err)
			closeLink(l) // it comes again
			return false
		}
	}
	last := rec.LastEvent
	if !own && hello.Execution == rec.Run.Execution && (rec.Stage == stageLinked || rec.Stage == stageRunning) {
		r.replaced = true
	}
	r.c.mu.Unlock()
	if !own {
		r.e.turnAway(l)
		return false
	}
	r.stopDialling()
	old := r.agent
	if old != nil {
		old.close() // before the new one's feeds: only one may append to the log
	}
	a := newAgent(r, l, last)
	r.c.mu.Lock()
	r.setAgent(a)
	r.c.mu.Unlock()
	r.backoff = 0
	r.poll.Reset(checkLinked)
	r.e.log.Debug("agent linked", "container", r.c.id, "run", r.id, "execution", hello.Execution)
	return true
}

// setAgent: c.mu is held.
func (r *run) setAgent(a *agent) {
	switch {
	case r.agent == nil && a != nil:
		close(r.linked)
	case r.agent != nil && a == nil:
		r.linked = make(chan struct{})
	}
	r.agent = a
	r.current.Store(a)
}

// lose lets go of a link that has ended and returns why it has.
func (r *run) lose() error {
	r.c.mu.Lock()
	a := r.agent
	r.setAgent(nil)
	r.c.mu.Unlock()
	a.close()
	err := a.link.Err()
	r.e.log.Debug("link ended", "container", r.c.id, "run", r.id, "reason", err)
	if errors.Is(err, link.ErrClosed) {
		r.pollIn(pollSoon) // a goodbye: the agent has gone
	} else {
		r.pollIn(pollFirst)
	}
	return err
}

// dial begins to dial the agent, where agents are dialled. What comes of it is an offer.
func (r *run) dial() {
	d, ok := driver.As[driver.Dialer](r.e.opt.Driver)
	if !ok || r.dialling != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.e.ctx)
	r.dialling = cancel
	run := r.driverRun()
	secret, _ := r.e.opt.Key.Secret(r.id) // of a length that there is
	if !r.e.background(func() {           // ends with ctx
		for {
			l, err := link.Dial(ctx, r.target(d, run), link.Identity{
				Role: link.Backend, ID: r.id, Secret: secret, Hello: link.Hello{Version: r.e.opt.Version},
			}, link.Options{Logger: r.e.log})
			pause := pollFirst
			switch {
			case err == nil && ctx.Err() == nil && r.e.offer(r, l):
				select { // the link that is taken ends ctx; one that could not be stored is closed, and wanted again
				case <-l.Done():
					err, pause = l.Err(), pollSoon
				case <-ctx.Done():
				}
			case err == nil:
				closeLink(l)
				err = link.ErrClosed
			}
			if ctx.Err() != nil {
				return
			}
			r.warn("cannot link to an agent", err)
			r.askSoon()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	}) {
		cancel()
	}
}

// askSoon makes the cloud be asked soon.
func (r *run) askSoon() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

func (r *run) stopDialling() {
	if r.dialling != nil {
		r.dialling()
		r.dialling = nil
	}
}

// cannotRun is the error of a start that came to nothing for a reason of the platform's.
func cannotRun(c *container, reason string) error {
	return sockerless.Errorf(sockerless.EINTERNAL, "cannot start container %s: %s", c.id[:12], reason)
}
