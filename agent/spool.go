package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// spool keeps log segments in one bounded file of equal slots, which has no name: it goes with the agent, and no other
// process finds it. The tape's lock guards everything but read.
type spool struct {
	dir   string
	slots int
	file  *os.File // made when it is first needed
	used  int      // slots of the file that were ever used
	empty []int    // of these, the free ones
	broke bool     // the folder takes no file
	stuck bool     // the disk took no more at the last write
}

// capacity is how many slots there are to be had, used ones included.
func (s *spool) capacity() int {
	switch {
	case s.broke:
		return 0
	case s.stuck:
		return s.used - len(s.empty)
	}
	return s.slots
}

func newSpool(dir string) *spool {
	return &spool{dir: dir, slots: defaultLogLimit / segmentSize}
}

// put writes a segment and returns its slot. It is false if the spool is full or cannot be written.
func (s *spool) put(data []byte) (slot int, ok bool) {
	if s.broke {
		return 0, false
	}
	if s.file == nil {
		if err := s.open(); err != nil {
			s.broke = true
			return 0, false
		}
	}
	switch n := len(s.empty); {
	case s.used-n >= s.slots:
		return 0, false
	case n > 0:
		slot, s.empty = s.empty[n-1], s.empty[:n-1]
	default:
		slot = s.used
		s.used++
	}
	if _, err := s.file.WriteAt(data, int64(slot)*segmentSize); err != nil {
		s.free(slot)
		s.stuck = true
		return 0, false
	}
	s.stuck = false
	return slot, true
}

func (s *spool) open() error {
	f, err := os.CreateTemp(s.dir, "log-")
	if errors.Is(err, os.ErrNotExist) {
		// The agent was not installed; then the folder is its own.
		if err = os.MkdirAll(s.dir, 0o700); err == nil {
			f, err = os.CreateTemp(s.dir, "log-")
		}
	}
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return err
	}
	s.file = f
	return nil
}

// read fills b from a slot that nobody frees meanwhile.
func (s *spool) read(b []byte, slot, offset int) error {
	if _, err := s.file.ReadAt(b, int64(slot)*segmentSize+int64(offset)); err != nil {
		return fmt.Errorf("cannot read the log's spool: %w", err)
	}
	return nil
}

// free gives a slot back, and the disk's space once all are free.
func (s *spool) free(slot int) {
	s.stuck = false // there may be room on the disk now
	s.empty = append(s.empty, slot)
	if len(s.empty) == s.used {
		s.used, s.empty = 0, s.empty[:0]
		_ = s.file.Truncate(0) // the bound holds without it
	}
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// MakeSpool makes the folder for the spools in an agent's own folder. Whoever the agent runs as may make files there.
func MakeSpool(dir string) error {
	path := spoolDir(dir)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return fmt.Errorf("cannot make the spool folder: %w", err)
	}
	// Beside the umask: MkdirAll's mode goes through it.
	if err := os.Chmod(path, 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("cannot open the spool folder to all users: %w", err)
	}
	return nil
}

func spoolDir(dir string) string { return filepath.Join(dir, "spool") }
