package link

import "fmt"

// Number is the stream's id on its link.
func (s *Stream) Number() uint32 { return s.id }

// Left says what this end of the link still keeps of its streams, and is empty if that is nothing.
func (l *Link) Left() string {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	m := l.mux
	kept := fmt.Sprintf("%d streams, %d closing, %d of the peer's (%d to accept), %d waiting to write, %d bytes of window, %d of replay",
		len(m.streams), len(m.closing), m.incoming, len(m.accept), len(l.r.writers), m.budget.now(), l.r.out.cost)
	nothing := len(m.streams)+len(m.closing)+len(m.accept)+len(l.r.writers)+m.budget.now()+l.r.out.cost == 0
	// After the link's end nobody counts its streams any more.
	if nothing && (m.incoming == 0 || l.r.err != nil) {
		return ""
	}
	return kept
}
