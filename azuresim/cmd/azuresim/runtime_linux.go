package main

import (
	"log/slog"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/runtime"
)

// newRuntime makes what runs the replicas, with its files in dir.
func newRuntime(dir string, log *slog.Logger) (azuresim.Runtime, error) {
	return runtime.New(runtime.Options{Dir: dir, Logger: log})
}
