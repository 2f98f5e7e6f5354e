// Package logstore keeps what containers wrote: for each container a few files of bounded size, the oldest thrown away
// first. It stores the records of package tape as they came from the agent, so that logs can be read when the agent is
// gone, and so that the agent need not keep what is stored here.
//
// A file is a run of frames: length and CRC-32C of the record, the record in tape's binary form, the length again, so
// that the last lines are found from the end. A frame that a crash has torn is cut off when the file is opened.
package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Limits bound one container's log.
type Limits struct {
	MaxSize  int64 // bytes of one file; negative: no bound; 0: 10 MB
	MaxFiles int   // 0: 3
}

func (l Limits) withDefaults() Limits {
	if l.MaxSize == 0 {
		l.MaxSize = 10_000_000
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = 3
	}
	return l
}

// Store holds the logs of one folder. It is safe for concurrent use.
type Store struct {
	dir string

	mu   sync.Mutex
	logs map[string]*Log
}

// Open opens the store in a folder, and makes that if it is missing. The caller closes the store.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open log store: %w", err)
	}
	return &Store{dir: dir, logs: make(map[string]*Log)}, nil
}

// Log returns the log of a container, opened at its first use. The limits hold from then on. It makes no file before
// the first record. The same id gives the same Log until Release or Remove.
func (s *Store) Log(id string, limits Limits) (*Log, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[id]; l != nil {
		return l, nil
	}
	l, err := openLog(filepath.Join(s.dir, id), limits.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cannot open the log of %s: %w", id, err)
	}
	s.logs[id] = l
	return l, nil
}

// Release writes out what is buffered of a log and closes its file; the next Log opens it again.
func (s *Store) Release(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[id]
	if l == nil {
		return nil
	}
	delete(s.logs, id)
	return l.close()
}

// Remove deletes a container's log. Removing what is not there is not an error. Who reads it goes on to its end.
func (s *Store) Remove(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var closed error
	if l := s.logs[id]; l != nil {
		delete(s.logs, id)
		closed = l.close()
	}
	err := os.RemoveAll(filepath.Join(s.dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("cannot remove the log of %s: %w", id, err)
	}
	return nil
}

// Close writes out what is buffered and closes all files.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for id, l := range s.logs {
		if err := l.close(); err != nil && first == nil {
			first = err
		}
		delete(s.logs, id)
	}
	return first
}
