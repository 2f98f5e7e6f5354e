package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

type tapeStream = tape.Stream

const (
	stdout = tape.Stdout
	stderr = tape.Stderr
)

// attach joins the streams of the running process, or of the next one.
func (a *Agent) attach(ctx context.Context, req protocol.AttachRequest, accept func() (*wire.Conn, error)) error {
	if !req.Stdin && !req.Stdout && !req.Stderr {
		return wire.Errorf(protocol.CodeInvalid, "cannot attach to no stream at all")
	}
	c := newAttached(req.Stdout, req.Stderr, connected(ctx))
	a.gate.RLock()
	i, err := a.attachable(req)
	if err != nil {
		a.gate.RUnlock()
		return err
	}
	m, err := a.output.join(c, req.Replay, req.After)
	if err != nil {
		a.gate.RUnlock()
		return err
	}
	if i.over() {
		a.output.leave(c)
		c.finish()
	}
	a.gate.RUnlock()
	defer a.output.leave(c)
	defer c.close()
	defer m.release()

	conn, err := accept()
	if err != nil {
		return err
	}
	heard := make(chan struct{})
	go func() { // ends when the client's input does, or conn is closed behind the end of this function
		defer close(heard)
		a.attachInput(conn, req, i, c)
	}()
	if err := m.replay(conn, c); err != nil {
		return err
	}
	m.release()
	buf := make([]byte, 0, frameHeader+readSize)
	for {
		b := c.pop(buf)
		if b == nil {
			break
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	if c.abandoned() {
		return conn.Reset()
	}
	err = conn.CloseWrite()
	a.hearOut(heard)
	return err
}

// hearOut waits until a client has closed its side, which it does when it has read everything, so that the agent's end does not
// come before. A client that takes its time delays that end for endPatience.
func (a *Agent) hearOut(heard <-chan struct{}) {
	select {
	case <-heard:
		return
	case <-a.over:
	}
	select {
	case <-heard:
	case <-time.After(endPatience):
	}
}

// attachable returns the incarnation that a client wants to join. a.gate is held for reading.
func (a *Agent) attachable(req protocol.AttachRequest) (*incarnation, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.coming
	if i == nil {
		i = a.now
	} else if a.releasing || a.terminating {
		return nil, wire.Errorf(protocol.CodeNotRunning, "the agent ends, so nothing is going to run") // who waits is joined elsewhere
	}
	if req.Incarnation == 0 {
		return i, nil
	}
	number := 0 // of the last one
	if a.now != nil {
		number = a.now.number
	}
	switch {
	case req.Incarnation == number && (a.coming == nil || req.Replay):
		return a.now, nil
	case req.Incarnation == number+1 && a.coming != nil:
		return i, nil
	}
	return nil, wire.Errorf(protocol.CodeNotRunning, "run %d of the process is not there: the last one is %d", req.Incarnation, number)
}

// replay writes what a client has missed.
func (m *missed) replay(conn *wire.Conn, c *attached) error {
	if m.records == nil {
		return nil
	}
	out := bufio.NewWriterSize(conn, readSize)
	send := func(stream tape.Stream, data []byte) (err error) {
		if stream == tape.Gap {
			stream = stderr
		}
		if !c.wants(stream) || len(data) == 0 {
			return nil
		}
		if !m.raw {
			var head [frameHeader]byte
			putHeader(head[:], stream, len(data))
			_, err = out.Write(head[:])
		}
		if err == nil {
			_, err = out.Write(data)
		}
		c.took(len(data))
		return err
	}
	for more := (<-chan struct{})(nil); more == nil && m.records.after < m.last; {
		var err error
		more, _ = m.records.each(func(rec tape.Record) bool {
			if rec.Seq <= m.last || rec.Stream == tape.Gap {
				err = send(rec.Stream, rec.Data)
			}
			return err == nil && rec.Seq < m.last
		})
		if err != nil {
			return err
		}
	}
	for _, stream := range []tape.Stream{stdout, stderr} {
		if err := send(stream, m.rest[stream]); err != nil {
			return err
		}
	}
	return out.Flush()
}

// attachInput carries a client's input until its end.
func (a *Agent) attachInput(conn *wire.Conn, req protocol.AttachRequest, i *incarnation, c *attached) {
	select {
	case <-i.begun:
	case <-c.gone:
		return
	case <-a.over:
		return
	}
	in := &input{conn: conn, keys: req.DetachKeys}
	open := req.Stdin && i.process.stdin != nil
	if open {
		in.file = i.process.stdin
	}
	once := open && i.request.StdinOnce && i.process.tty == nil
	end := in.run()
	if once {
		i.process.closeStdin()
	}
	switch {
	case end == inputEnd && open && !once:
		c.finish() // dockerd ends a session whose input has ended, unless that is the end of the process's input
	case end == inputDetached:
		a.events.add(protocol.Event{Kind: protocol.EventDetached, Incarnation: i.number})
		c.close()
	case end == inputCut:
		c.close()
	}
}

// input is a client's input on its way to a process.
type input struct {
	conn *wire.Conn
	file *os.File // nil: it is thrown away
	keys []byte
}

type inputOutcome int

const (
	inputEnd      inputOutcome = iota // the client has ended its input
	inputCut                          // the client is gone
	inputDetached                     // it has typed the detach keys
)

// inputSize is what one read of a client's input takes at most: what a message of a link carries.
const inputSize = 128 << 10

var inputBuffers = sync.Pool{New: func() any { b := make([]byte, inputSize); return &b }}

// run reads until the end, also when the process takes no more: the client is not to wait for a process that has closed its input.
func (in *input) run() inputOutcome {
	buf := inputBuffers.Get().(*[]byte)
	defer inputBuffers.Put(buf)
	r := &detachReader{r: in.conn, keys: in.keys}
	for {
		n, err := r.Read(*buf)
		if n > 0 && in.file != nil {
			if _, err := in.file.Write((*buf)[:n]); err != nil {
				in.file = nil
			}
		}
		switch {
		case r.detached && err == io.EOF: //nolint:errorlint // detachReader's own
			return inputDetached
		case errors.Is(err, io.EOF):
			return inputEnd
		case err != nil:
			return inputCut
		}
	}
}
