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

var errBudget = errors.New("the window budget is used up")

// windowBudget bounds what all streams' windows of a link grow by, so that many streams that nobody reads do not cost
// the largest window each.
type windowBudget struct {
	mu    sync.Mutex
	used  int
	limit int
	all   *windowBudget // of all links of a hub, which this one's use counts in too; nil for a link that stands alone
}

// take takes size bytes if both budgets have them.
func (b *windowBudget) take(size int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+size > b.limit || b.all != nil && !b.all.take(size) {
		return false
	}
	b.used += size
	return true
}

// now is how much is taken.
func (b *windowBudget) now() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *windowBudget) give(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= size
	if b.all != nil {
		b.all.give(size)
	}
}

// span returns one stream's part.
func (b *windowBudget) span() (yamux.MemoryManager, error) { return &windowSpan{budget: b}, nil }

// windowSpan is one stream's part of the budget.
type windowSpan struct {
	budget *windowBudget

	mu    sync.Mutex
	used  int
	ended bool
}

// ReserveMemory takes size bytes from the budget for a larger window; a first window is not counted, since
// the number of streams bounds those.
func (s *windowSpan) ReserveMemory(size int, priority uint8) error {
	if priority > growPriority {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !s.budget.take(size) {
		return errBudget
	}
	s.used += size
	return nil
}

// ReleaseMemory gives size bytes back.
func (s *windowSpan) ReleaseMemory(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size = min(size, s.used)
	s.used -= size
	s.budget.give(size)
}

// Done gives everything back at the stream's end.
func (s *windowSpan) Done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget.give(s.used)
	s.used, s.ended = 0, true
}
