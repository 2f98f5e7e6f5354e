package link

import (
	"errors"
	"sync"

	"github.com/libp2p/go-yamux/v5"
)

// firstWindow is every stream's receive window at its start: yamux's specification fixes it.
const firstWindow = 256 << 10

// growPriority is what yamux asks for a larger window with; a new stream's first window has a higher one, and refusing that
// ends the session.
const growPriority = 128

var errBudget = errors.New("the link's window budget is used up")

// windowBudget bounds what all streams' windows of a link grow by, so that many streams that nobody reads do not cost
// the largest window each.
type windowBudget struct {
	mu    sync.Mutex
	used  int
	limit int
}

// span returns one stream's part.
func (b *windowBudget) span() (yamux.MemoryManager, error) { return &windowSpan{budget: b}, nil }

// windowSpan is one stream's part of the budget.
type windowSpan struct {
	budget *windowBudget
	used   int // guarded by budget.mu
	ended  bool
}

// ReserveMemory takes size bytes from the budget for a larger window; a first window is not counted, since
// the number of streams bounds those.
func (s *windowSpan) ReserveMemory(size int, priority uint8) error {
	if priority > growPriority {
		return nil
	}
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.ended || b.used+size > b.limit {
		return errBudget
	}
	b.used += size
	s.used += size
	return nil
}

// ReleaseMemory gives size bytes back.
func (s *windowSpan) ReleaseMemory(size int) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	size = min(size, s.used)
	b.used -= size
	s.used -= size
}

// Done gives everything back at the stream's end.
func (s *windowSpan) Done() {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= s.used
	s.used, s.ended = 0, true
}
