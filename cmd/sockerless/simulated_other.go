//go:build !linux

package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// simulated is a simulated Azure; it runs replicas with runc, so there is none on this system.
type simulated struct{ azcore.TokenCredential }

func startSimulated(context.Context, string, bool, time.Duration, *slog.Logger) (*simulated, error) {
	return nil, errors.New("cannot simulate Azure here: replicas run with runc, which needs Linux")
}

func (s *simulated) Environ() []string { return nil }
func (s *simulated) Registry() string  { return "" }
func (s *simulated) Close() error      { return nil }
