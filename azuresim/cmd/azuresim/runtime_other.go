//go:build !linux

package main

import (
	"errors"
	"log/slog"

	"github.com/sockerless/sockerless/azuresim"
)

// newRuntime refuses: replicas are Linux containers.
func newRuntime(string, *slog.Logger) (azuresim.Runtime, error) {
	return nil, errors.New("cannot run replicas on this system: they are Linux containers; run azuresim on Linux")
}
