package agent

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sockerless/sockerless/tape"
)

const (
	teeLimit = 1 << 20         // bytes that wait for the platform's log
	teeFlush = 2 * time.Second // how long the agent's end waits for them
)

// tee copies the container's output to the agent's own stdout and stderr, where the platform's log collects it. It
// never holds up the container: what the platform does not take in time is dropped, and the number of bytes told.
type tee struct {
	files [3]*os.File // by stream

	mu      sync.Mutex
	ready   bell
	queue   []teed
	size    int
	dropped int
	closed  bool
	done    chan struct{}
}

type teed struct {
	stream tape.Stream
	data   []byte
}

func newTee(stdout, stderr *os.File) *tee {
	t := &tee{done: make(chan struct{})}
	t.files[tape.Stdout], t.files[tape.Stderr] = stdout, stderr
	go t.run() // ends with close; where the platform has stopped reading for good, with the program
	return t
}

// write queues data, which nobody changes any more.
func (t *tee) write(stream tape.Stream, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.size+len(data) > teeLimit {
		t.dropped += len(data)
		return
	}
	if t.dropped > 0 {
		note := fmt.Appendf(nil, "sockerless-agent: %d bytes of output are missing here: the platform's log did not take them\n", t.dropped)
		t.queue = append(t.queue, teed{tape.Stderr, note})
		t.size += len(note)
		t.dropped = 0
	}
	t.queue = append(t.queue, teed{stream, data})
	t.size += len(data)
	t.ready.ring()
}

func (t *tee) run() {
	defer close(t.done)
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		for len(t.queue) == 0 && !t.closed {
			ready := t.ready.wait()
			t.mu.Unlock()
			<-ready
			t.mu.Lock()
		}
		if len(t.queue) == 0 {
			return
		}
		batch := t.queue
		t.queue = nil
		t.mu.Unlock()
		size := 0
		for _, b := range batch {
			_, _ = t.files[b.stream].Write(b.data) // the platform has closed its end: the tape has it all
			size += len(b.data)
		}
		t.mu.Lock()
		t.size -= size
	}
}

// close writes what is queued, for a bounded time.
func (t *tee) close() {
	t.mu.Lock()
	t.closed = true
	t.ready.ring()
	t.mu.Unlock()
	select {
	case <-t.done:
	case <-time.After(teeFlush):
	}
}
