package store

import (
	"context"
	"os"
	"sync"
)

// Queue brings the writes of an implementation to the one goroutine that commits them, so that those that come at the same
// time share a commit. W is a pointer to a struct with a Pending in it.
type Queue[W pending] struct {
	writes chan W

	mu     sync.RWMutex // held for reading while a write is handed over
	closed bool
}

type pending interface{ wait(context.Context) error }

// Pending is what a Queue knows of a write.
type Pending struct {
	Err  error // what became of it; whoever commits it sets it before Done
	done chan struct{}
}

// NewPending returns that of a write which nobody has decided.
func NewPending() Pending { return Pending{done: make(chan struct{})} }

// Done says that the write is decided. It is called once.
func (p *Pending) Done() { close(p.done) }

func (p *Pending) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NewQueue returns a queue in which so many writes wait before the next one's Commit does.
func NewQueue[W pending](size int) *Queue[W] {
	return &Queue[W]{writes: make(chan W, size)}
}

// Commit hands a write over and waits until it is decided. A ctx that ends leaves it open what became of it. After Close it
// is os.ErrClosed.
func (q *Queue[W]) Commit(ctx context.Context, w W) error {
	if err := q.handOver(ctx, w); err != nil {
		return err
	}
	return w.wait(ctx)
}

func (q *Queue[W]) handOver(ctx context.Context, w W) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed {
		return os.ErrClosed
	}
	select {
	case q.writes <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Waiting gives the writes to whoever commits them. It is closed behind the last one.
func (q *Queue[W]) Waiting() <-chan W { return q.writes }

// Fill appends the writes that wait already, as long as there are fewer than most.
func (q *Queue[W]) Fill(batch []W, most int) []W {
	for len(batch) < most {
		select {
		case w, ok := <-q.writes:
			if !ok {
				return batch
			}
			batch = append(batch, w)
		default:
			return batch
		}
	}
	return batch
}

// Close lets no more writes in. Those that are in it are still to be committed. It returns false if it was closed before.
func (q *Queue[W]) Close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	close(q.writes)
	return true
}
