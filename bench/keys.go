//go:build linux

package main

import (
	"context"
	"slices"
	"time"

	"github.com/moby/moby/client"
)

const (
	keys     = 300
	keyPause = 7 * time.Millisecond
)

// keyMeasurements are how long a terminal's echo of a key takes: alone, and beside a bulk in the same container. A bulk that is
// fast because everything else waits is no good; nine of ten keys are as fast as the row says.
func keyMeasurements() []measurement {
	all := []measurement{{name: "echo of a key, p90", unit: "ms", measure: boxed(echo)}}
	for _, b := range bulks {
		all = append(all, measurement{
			name: "echo of a key, p90, beside " + b.name, unit: "ms",
			measure: boxed(func(ctx context.Context, p *peer) (float64, error) {
				if err := b.prepare(ctx, p); err != nil {
					return 0, err
				}
				over, bulk := make(chan struct{}), make(chan error, 1)
				go func() { // ends with the move that is under way when the keys are over
					for {
						if err := b.move(ctx, p); err != nil {
							bulk <- err
							return
						}
						select {
						case <-over:
							bulk <- nil
							return
						default:
						}
					}
				}()
				v, err := echo(ctx, p)
				close(over)
				if berr := <-bulk; err == nil {
					err = berr
				}
				return v, err
			}),
		})
	}
	return all
}

// echo types keys into a terminal.
func echo(ctx context.Context, p *peer) (float64, error) {
	e, err := p.Client.ExecCreate(ctx, box, client.ExecCreateOptions{AttachStdin: true, AttachStdout: true, TTY: true, Cmd: []string{"cat"}})
	if err != nil {
		return 0, err
	}
	s, err := p.Client.ExecAttach(ctx, e.ID, client.ExecAttachOptions{TTY: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var took []time.Duration
	for range keys {
		start := time.Now()
		if _, err := s.Conn.Write([]byte("x")); err != nil {
			return 0, err
		}
		if _, err := s.Reader.ReadByte(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
		time.Sleep(keyPause)
	}
	slices.Sort(took)
	return float64(took[keys*9/10].Microseconds()) / 1000, nil
}
