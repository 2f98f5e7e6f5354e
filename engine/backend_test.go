package engine_test

import (
	"testing"
	"time"

	"github.com/sockerless/sockerless/backendtest"
	"github.com/sockerless/sockerless/engine"
)

func TestBackend(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		backendtest.Run(t, func(t *testing.T) *backendtest.Target {
			r := newRig(t, rigOptions{reverse: reverse, engine: engine.Options{Linger: time.Minute}})
			return &backendtest.Target{Backend: r.b, Image: "shell", Linger: true}
		})
	})
}
