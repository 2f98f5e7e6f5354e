// Package logstore keeps what containers wrote: for each container a few files of bounded size, the oldest thrown away
// first. It stores the records of package tape as they came from the agent, so that logs can be read when the agent is
// gone, and so that the agent need not keep what is stored here.
//
// A file is a run of frames: length and CRC-32C of the record, the record in tape's binary form, the length again, so
// that the last lines are found from the end. What a crash has torn at the end of
// the last file is cut off by the next write. Damage elsewhere costs the records that it hit: the next whole frame is
// looked for, and a Gap record tells of the numbers between.
package logstore

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Limits bound one container's log.
type Limits struct {
	MaxSize  int64 // bytes of one file; negative: no bound; 0: 20 MB
	MaxFiles int   // 0: 5
}

func (l Limits) withDefaults() Limits {
	if l.MaxSize == 0 {
		l.MaxSize = 20_000_000
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = 5
	}
	return l
}

// Store holds the logs of one folder. It is safe for concurrent use: one log's disk accesses hold up no other log.
type Store struct {
	dir string

	mu     sync.Mutex
	closed bool
	logs   map[string]*entry
}

// entry is one id's place in the store.
type entry struct {
	users int // of mu, who wait for it too; under Store.mu

	mu  sync.Mutex
	log *Log // nil: not open
}

// Open opens the store in a folder, and makes that if it is missing. The caller closes the store.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open log store: %w", err)
	}
	return &Store{dir: dir, logs: make(map[string]*entry)}, nil
}

// lock gives one id to the caller until unlock.
func (s *Store) lock(id string) (*entry, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, os.ErrClosed
	}
	e := s.logs[id]
	if e == nil {
		e = &entry{}
		s.logs[id] = e
	}
	e.users++
	s.mu.Unlock()
	e.mu.Lock()
	s.mu.Lock()
	closed := s.closed // meanwhile: Close may have been here already
	s.mu.Unlock()
	if closed {
		s.unlock(id, e)
		return nil, os.ErrClosed
	}
	return e, nil
}

func (s *Store) unlock(id string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.users--
	if e.users == 0 && e.log == nil && s.logs[id] == e {
		delete(s.logs, id)
	}
	e.mu.Unlock()
}

// Log returns the log of a container, opened at its first use. The limits hold from then on. It makes no file before
// the first record. The same id gives the same Log until Release or Remove. A log that is damaged, or that cannot be read
// just now, is opened all the same: what is missing is told to who reads it. The error is os.ErrClosed after Close.
func (s *Store) Log(id string, limits Limits) (*Log, error) {
	e, err := s.lock(id)
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of %s: %w", id, err)
	}
	defer s.unlock(id, e)
	if e.log == nil {
		e.log = openLog(filepath.Join(s.dir, id), limits.withDefaults())
	}
	return e.log, nil
}

// Release writes out what is buffered of a log and closes its file; the next Log opens it again.
func (s *Store) Release(id string) error {
	e, err := s.lock(id)
	if err != nil {
		return nil //nolint:nilerr // Close has done it
	}
	defer s.unlock(id, e)
	return e.close()
}

// close: e.mu is held.
func (e *entry) close() error {
	if e.log == nil {
		return nil
	}
	l := e.log
	e.log = nil
	return l.close()
}

// Remove deletes a container's log. Removing what is not there is not an error. Who reads it goes on to its end.
func (s *Store) Remove(id string) error {
	e, err := s.lock(id)
	if err != nil {
		return fmt.Errorf("cannot remove the log of %s: %w", id, err)
	}
	defer s.unlock(id, e)
	closed := e.close()
	if err := os.RemoveAll(filepath.Join(s.dir, id)); err != nil {
		return fmt.Errorf("cannot remove the log of %s: %w", id, err)
	}
	if closed != nil {
		return fmt.Errorf("cannot remove the log of %s: %w", id, closed)
	}
	return nil
}

// Close writes out what is buffered and closes all files. It waits for the calls that have begun.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	logs := s.logs
	s.logs = make(map[string]*entry)
	s.mu.Unlock()
	var first error
	for _, e := range logs {
		e.mu.Lock()
		if err := e.close(); err != nil && first == nil {
			first = err
		}
		e.mu.Unlock()
	}
	return first
}
