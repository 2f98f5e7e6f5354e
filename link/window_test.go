package link

import (
	"testing"
	"testing/synctest"
	"time"
)

// A window grows while it holds its sender up, and no further: what is above that is a queue on the link.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name      string
		roundTrip time.Duration
		rate      int // bytes in a millisecond that the path or the reader takes at most
		budget    int
		want      int
	}{
		{"on this machine", 100 * time.Microsecond, 500 << 10, 1 << 30, fastWindow},
		{"on this machine, and slow", 100 * time.Microsecond, 50 << 10, 1 << 30, firstWindow},
		{"on this machine, and busy", time.Millisecond, 500 << 10, 1 << 30, 4 * firstWindow},
		{"far away", 30 * time.Millisecond, 100 << 10, 1 << 30, 16 * firstWindow},
		{"far away and slow", 30 * time.Millisecond, 5 << 10, 1 << 30, firstWindow},
		{"farther than it grows", time.Second, 100 << 10, 1 << 30, 8 << 20},
		{"without a budget", 30 * time.Millisecond, 100 << 10, firstWindow - 1, firstWindow},
		{"before it is known", 0, 500 << 10, 1 << 30, fastWindow},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := &windowBudget{limit: c.budget}
				w := window{budget: budget, most: 8 << 20, size: firstWindow, left: firstWindow}
				for range 200 { // the sender has used the window up, and half of it is read
					half := (w.size + 1) / 2
					time.Sleep(max(c.roundTrip/2, time.Duration(half)*time.Millisecond/time.Duration(c.rate)))
					if !w.came(half) {
						t.Fatal("it closes")
					}
					if more := w.took(half, c.roundTrip); more < half {
						t.Fatalf("%d of %d bytes are given back", more, half)
					}
				}
				if w.size != c.want {
					t.Errorf("it has grown to %d KiB, want %d", w.size>>10, c.want>>10)
				}
				if got := budget.now(); got != w.size-firstWindow {
					t.Errorf("%d bytes of the budget are used, %d are needed", got, w.size-firstWindow)
				}
				w.end()
				w.end()
				if got := budget.now(); got != 0 || w.took(w.size, time.Hour) != 0 {
					t.Errorf("after the end %d bytes of the budget are used", got)
				}
			})
		})
	}
}
