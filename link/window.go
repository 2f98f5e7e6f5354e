package link

import (
	"sync"
	"time"
)

// firstWindow is every stream's receive window at its start, at both ends: what a sender may send that has not been read. Three
// of the largest messages: one is sent, one is under way, one is read.
const firstWindow = 384 << 10

// Who reads faster than fast for half a window gets fastWindow, however short the way is: a program waits longer for a core than
// for the path.
const (
	fast       = 2 * time.Millisecond
	fastWindow = 1 << 20
)

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

// window is the receive window of one stream. It is guarded by its link's lock.
type window struct {
	budget *windowBudget
	most   int       // how far it grows
	size   int       // how much the peer may send ahead of the reader
	left   int       // of it, what the peer may still send
	read   int       // bytes read that the peer has not been told of
	told   time.Time // when it was told last
	ended  bool
}

// came counts n bytes that the peer has sent, and reports whether it was allowed to.
func (w *window) came(n int) bool {
	w.left -= n
	return w.left >= 0
}

// took counts n bytes that were read. It returns how many bytes the peer is to be told that it may send on top, and zero
// while those are few. roundTrip is zero if it is not known.
func (w *window) took(n int, roundTrip time.Duration) (more int) {
	w.read += n
	if w.ended || w.read < w.size/2 {
		return 0
	}
	now := time.Now()
	if grow := min(w.size, w.wanted(now.Sub(w.told), roundTrip)-w.size); grow > 0 && w.budget.take(grow) {
		w.size += grow
		w.read += grow
	}
	more, w.read, w.told = w.read, 0, now
	w.left += more
	return more
}

// wanted is how large it is to be when half of it was read within so long.
func (w *window) wanted(took, roundTrip time.Duration) int {
	switch {
	case took < roundTrip: // a sender that it holds up uses half of it in half a round trip
		return w.most
	case took < fast:
		return min(fastWindow, w.most)
	}
	return 0 // a larger window than is needed is a queue, which everything on the link waits behind
}

// end gives back what it has grown by.
func (w *window) end() {
	if w.ended {
		return
	}
	w.ended = true
	w.budget.give(w.size - firstWindow)
}
