package link

import "testing"

// No message of a few bytes comes behind the others.
func TestPiece(t *testing.T) {
	for _, c := range []struct{ n, messages, least int }{
		{1, 1, 1},
		{64 << 10, 1, 64 << 10},
		{128<<10 + 8, 1, 128<<10 + 8}, // with a frame's header
		{maxPiece, 1, maxPiece},
		{maxPiece + 1, 2, maxPiece / 2},
		{256 << 10, 2, 128 << 10},
		{256<<10 + 9, 2, 128 << 10}, // with a chunk's header
		{256<<10 - 64<<10 + 9, 2, 96 << 10},
		{1 << 20, 8, 128 << 10},
	} {
		messages, least := 0, c.n
		for left := c.n; left > 0; messages++ {
			p := piece(left)
			if p < 1 || p > min(left, maxPiece) {
				t.Fatalf("%d of %d bytes", p, left)
			}
			least = min(least, p)
			left -= p
		}
		if messages != c.messages || least < c.least {
			t.Errorf("%d bytes: %d messages of at least %d, want %d of %d", c.n, messages, least, c.messages, c.least)
		}
	}
}
