package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
)

// metered is a driver whose cloud tells what is in use.
type metered struct {
	driver.Driver
	usage func(context.Context) ([]driver.Usage, error)
	asked atomic.Int64
}

func (m *metered) Unwrap() driver.Driver { return m.Driver }

func (m *metered) Usage(ctx context.Context) ([]driver.Usage, error) {
	m.asked.Add(1)
	return m.usage(ctx)
}

// TestMeter: docker info tells of the quota, asks for it once a minute at most, and does not wait for a cloud that hangs.
func TestMeter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		usage func(context.Context) ([]driver.Usage, error)
		want  string
	}{
		"told": {
			func(context.Context) ([]driver.Usage, error) {
				return []driver.Usage{{Name: "Cores", Used: 1.5, Limit: 100}}, nil
			},
			"[Cores 1.5 of 100 in use]",
		},
		"refused": {
			func(context.Context) ([]driver.Usage, error) {
				return nil, sockerless.Errorf(sockerless.EFORBIDDEN, "cannot read the quota: Azure answered 403")
			},
			"[Quota cannot read the quota: Azure answered 403]",
		},
		"silent": {
			func(ctx context.Context) ([]driver.Usage, error) { <-ctx.Done(); return nil, ctx.Err() },
			"[Quota not known yet]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m *metered
			r := newRig(t, rigOptions{engine: engine.Options{Linger: time.Minute}, wrap: func(d driver.Driver) driver.Driver {
				m = &metered{Driver: d, usage: c.usage}
				return m
			}})
			for range 3 {
				info, err := r.b.System.Info(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(fmt.Sprint(info.DriverStatus), c.want) {
					t.Errorf("the driver's lines are %v, want %s among them", info.DriverStatus, c.want)
				}
				if name == "silent" {
					break // each waits for the first answer, which does not come
				}
			}
			if n := m.asked.Load(); n != 1 {
				t.Errorf("the cloud was asked %d times", n)
			}
		})
	}
}
