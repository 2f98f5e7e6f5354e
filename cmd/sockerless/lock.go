//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dirLock keeps a data folder for one process. It ends with the process, however that ends.
type dirLock struct{ f *os.File }

// lockDir makes the folder if it is not there. A folder in use is refused by name.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot use data folder %s: %w", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot use data folder %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot use data folder %s: another `sockerless up` runs on it; end that, or choose another with -data", dir)
		}
		return nil, fmt.Errorf("cannot use data folder %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) Close() error { return l.f.Close() }
