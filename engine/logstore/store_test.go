package logstore

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestALogThatIsBusyHoldsUpNoOther(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := s.lock("busy")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // ends when it is held up no more
		_, err := s.Log("other", Limits{})
		done <- errors.Join(err, s.Release("other"), s.Remove("other"))
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("another log is held up")
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
