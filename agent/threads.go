package agent

import (
	"io"
	"net/http"
	"runtime"
	"sync"
)

// spareThreads is how many threads the agent has from the start: calls of the kernel that take their time, such as those
// about files, hold one each.
const spareThreads = 32

// Of the spare threads, what is asked about files takes as many at most as fileTurns, and what starts execs as
// execTurns, so that those still start when a file system hangs. The others are for the agent's own doings.
const (
	fileTurns = 16
	execTurns = 8
)

// keepThreads makes threads, which Go never gives back, while there are some to be had. When the container has taken all
// the processes that there may be, Go's runtime ends a program that needs one more.
func keepThreads() {
	var here, all sync.WaitGroup
	here.Add(spareThreads)
	for range spareThreads {
		all.Go(func() { // ends when all have a thread of their own
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			here.Done()
			here.Wait()
		})
	}
	all.Wait()
}

// turns are how many may be in the kernel at a time. The rest waits.
type turns chan struct{}

func (t turns) take()    { t <- struct{}{} }
func (t turns) release() { <-t }

// handle serves a request once it has its turn, which it gives up while it waits for the peer.
func (t turns) handle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case t <- struct{}{}:
		case <-r.Context().Done():
			return // nobody waits for the answer
		}
		own := &turn{all: t}
		defer own.end()
		if r.Body != http.NoBody {
			r.Body = &turnBody{r.Body, own}
		}
		next.ServeHTTP(&turnWriter{w, own}, r)
	})
}

// turn is that of one request.
type turn struct {
	all  turns
	mu   sync.Mutex
	away int // how many goroutines of the request wait for the peer
	over bool
}

// wait gives the turn up until f has returned.
func (t *turn) wait(f func()) {
	t.mu.Lock()
	if t.away++; t.away == 1 && !t.over {
		t.all.release()
	}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.away--; t.away == 0 && !t.over {
			t.all.take()
		}
	}()
	f()
}

func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over = true; t.away == 0 {
		t.all.release()
	}
}

type turnBody struct {
	io.ReadCloser
	turn *turn
}

func (b *turnBody) Read(p []byte) (n int, err error) {
	b.turn.wait(func() { n, err = b.ReadCloser.Read(p) })
	return n, err
}

type turnWriter struct {
	http.ResponseWriter
	turn *turn
}

// Unwrap is what http.ResponseController finds the rest with.
func (w *turnWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *turnWriter) Write(p []byte) (n int, err error) {
	w.turn.wait(func() { n, err = w.ResponseWriter.Write(p) })
	return n, err
}

// FlushError is http.ResponseController's Flush.
func (w *turnWriter) FlushError() (err error) {
	w.turn.wait(func() { err = http.NewResponseController(w.ResponseWriter).Flush() })
	return err
}
