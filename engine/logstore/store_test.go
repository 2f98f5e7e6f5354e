package logstore

import (
	"errors"
	"os"
	"testing"
)

// TestALogThatIsBusyHoldsUpNoOther hangs when it fails.
func TestALogThatIsBusyHoldsUpNoOther(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := s.lock("busy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Log("other", Limits{}); err != nil {
		t.Error(err)
	}
	if err := s.Release("other"); err != nil {
		t.Error(err)
	}
	if err := s.Remove("other"); err != nil {
		t.Error(err)
	}
	s.unlock("busy", busy)
	if n := len(s.logs); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Log("other", Limits{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a log of a closed store: %v", err)
	}
}
