package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// probeOutput is how much of a probe's output is kept, as by dockerd. The rest is read and thrown away.
const probeOutput = 4096

// prober runs the probes of one incarnation, one after the other.
type prober struct {
	agent       *Agent
	incarnation *incarnation
	check       protocol.HealthCheck
	last        *process // that did not end when it was killed, or nil
}

// run runs one probe and kills it, with all that is below it and in its process group, after the timeout or when ctx ends.
func (p *prober) run(ctx context.Context) protocol.ProbeResult {
	r := protocol.ProbeResult{Start: time.Now()}
	if p.last != nil {
		// Probes that cannot be killed, being another user's or stuck in the kernel, must not pile up.
		if !p.last.gone(ctx, p.check.Timeout) {
			r.End, r.Late = time.Now(), true
			return r
		}
		p.last = nil
	}
	proc, err := p.launch()
	if err != nil {
		r.End, r.Refused, r.Output = time.Now(), "internal", err.Error()
		if e, ok := errors.AsType[*wire.Error](err); ok {
			r.Refused = e.Code
		}
		return r
	}
	out := listen(proc)
	ended := proc.gone(ctx, p.check.Timeout)
	r.Late = !ended && ctx.Err() == nil
	if !ended {
		killAll(proc.child)
		if !proc.gone(context.Background(), killPatience) {
			p.last = proc
		}
	}
	if ended {
		out.finish(&p.agent.left)
	} else {
		out.cut()
	}
	r.Output, r.Truncated = out.text()
	r.End = time.Now()
	if p.last == nil {
		r.ExitCode, r.End = proc.exit().Code, proc.exit().Time
	}
	return r
}

// launch starts a probe's process, unless the container's has ended.
func (p *prober) launch() (*process, error) {
	a := p.agent
	a.gate.RLock()
	defer a.gate.RUnlock()
	i, err := a.running()
	if err == nil && (a.closing || i != p.incarnation) {
		err = errNotRunning()
	}
	if err != nil {
		return nil, err
	}
	return a.reaper.launch(p.check.Process, streams{stdout: true, stderr: true}, false)
}

// gone waits for a process's end until ctx or the patience ends, and reports whether it has come.
func (p *process) gone(ctx context.Context, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.exited()
}

// killAll kills a process that leads its group, what is below it, and its group.
func killAll(c *child) {
	// What is stopped cannot fork, so the second pass finds all of them. Where none can be looked for, its group has to do.
	for range 2 {
		c.signal(syscall.SIGSTOP)
		below, _ := descendants(c.pid)
		for _, p := range below {
			_ = p.signal(syscall.SIGSTOP) // it has ended, or is another user's
		}
	}
	below, _ := descendants(c.pid)
	for _, p := range below {
		_ = p.signal(syscall.SIGKILL) // as above
	}
	c.reaper.mu.Lock()
	defer c.reaper.mu.Unlock()
	if c.reaper.children[c.pid] == c {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL) // as above
	}
}

// listener keeps the beginning of what a probe writes.
type listener struct {
	process *process
	drains  []*drain
	ended   []bool // by drain: nobody has the other end any more
	output  sync.WaitGroup

	mu        sync.Mutex
	kept      []byte
	truncated bool
}

// listen reads a process's output. finish or cut ends it.
func listen(p *process) *listener {
	l := &listener{process: p, ended: make([]bool, 2)}
	for n, f := range []*os.File{p.stdout, p.stderr} {
		d := &drain{file: f, quiet: quiet}
		l.drains = append(l.drains, d)
		l.output.Go(func() { // ends after the process, see drain, or with cut
			l.ended[n] = d.run(l.take)
		})
	}
	return l
}

func (l *listener) take(buf []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := buf[frameHeader:]
	n := min(len(data), probeOutput-len(l.kept))
	l.kept = append(l.kept, data[:n]...)
	l.truncated = l.truncated || n < len(data)
}

// finish reads the rest behind the process's exit. What it left in the background keeps its pipes.
func (l *listener) finish(left *leftovers) {
	for _, d := range l.drains {
		d.stop()
	}
	l.output.Wait()
	for n, d := range l.drains {
		if l.ended[n] {
			d.file.Close()
		} else {
			left.add(d.file)
		}
	}
}

// cut reads no more: nobody is to be left.
func (l *listener) cut() {
	l.process.close()
	l.output.Wait()
}

func (l *listener) text() (kept string, truncated bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.kept), l.truncated
}
