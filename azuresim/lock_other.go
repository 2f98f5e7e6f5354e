//go:build !unix

package azuresim

import (
	"errors"
	"fmt"
)

type dirLock struct{}

func lockDir(dir string) (*dirLock, error) {
	return nil, fmt.Errorf("cannot lock %s: %w", dir, errors.ErrUnsupported)
}

func (l *dirLock) release() error { return nil }
