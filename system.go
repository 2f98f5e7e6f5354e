package sockerless

import (
	"context"
	"iter"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
)

// SystemService is what can be asked of the backend itself.
type SystemService interface {
	// Info describes the backend and what it holds.
	Info(ctx context.Context) (*system.Info, error)

	// Version names the backend's components. The frontend adds its own and the API's versions.
	Version(ctx context.Context) (*system.VersionResponse, error)

	// Auth tries credentials against their registry.
	Auth(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error)

	// Events yields what happened since opt.Since, then what happens, until opt.Until or for ever. Its first message is
	// empty, comes at once, and says that it listens: nothing that happens after it is missed.
	Events(ctx context.Context, opt EventOptions) iter.Seq2[events.Message, error]
}

// EventOptions selects events.
type EventOptions struct {
	Since, Until time.Time // zero: now; for ever
	Filters      Filters
}
