//go:build !linux

// Package runtime runs the simulator's replicas with runc, which exists on Linux only.
package runtime

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/sockerless/sockerless/azuresim"
)

// Options configure New; see the Linux build.
type Options struct {
	Dir        string
	Runc       string
	Logger     *slog.Logger
	Transport  http.RoundTripper
	CacheBytes int64
	RetryPause time.Duration
}

// Runtime cannot be made here.
type Runtime struct{}

var errLinux = errors.New("cannot run replicas: the simulator needs Linux (a virtual machine will do)")

// Enter does nothing here.
func Enter() error { return nil }

// New fails: containers need Linux.
func New(Options) (*Runtime, error) { return nil, errLinux }

// Start implements azuresim.Runtime.
func (*Runtime) Start(context.Context, azuresim.ReplicaSpec) (azuresim.Replica, error) {
	return nil, errLinux
}

// Close implements azuresim.Runtime.
func (*Runtime) Close() error { return nil }

// PruneLayers fails as New does.
func (*Runtime) PruneLayers() (int64, error) { return 0, errLinux }

// Answer does nothing: there are no replicas that connect.
func (*Runtime) Answer(uint16, func(net.Conn)) {}
