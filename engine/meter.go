package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sockerless/sockerless/driver"
)

const (
	meterEvery = time.Minute      // between two questions to the cloud, however often `docker info` is asked
	meterTime  = 20 * time.Second // for one answer
	meterWait  = 3 * time.Second  // that `docker info` waits for the first one
)

// meter remembers what the cloud has last said of its quota.
type meter struct {
	mu      sync.Mutex
	usage   []driver.Usage
	err     error
	at      time.Time     // of the latest answer
	pending chan struct{} // closed when the question under way is answered; nil: there is none
}

// usage returns lines for `docker info` on what is in use. What was said up to a minute ago is good; older words are
// still told while the cloud is asked again.
func (e *Engine) usage(ctx context.Context) [][2]string {
	source, ok := driver.As[driver.Meter](e.opt.Driver)
	if !ok {
		return nil
	}
	m := &e.meter
	m.mu.Lock()
	if m.pending == nil && time.Since(m.at) > meterEvery {
		pending := make(chan struct{})
		if e.background(func() { m.ask(e.ctx, source, pending) }) { // ends with the answer, or in meterTime
			m.pending = pending
		}
	}
	pending, first := m.pending, m.at.IsZero()
	m.mu.Unlock()
	if first && pending != nil {
		select {
		case <-pending:
		case <-time.After(meterWait):
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.at.IsZero():
		return [][2]string{{"Quota", "not known yet"}}
	case m.err != nil:
		return [][2]string{{"Quota", m.err.Error()}}
	}
	var lines [][2]string
	for _, u := range m.usage {
		lines = append(lines, [2]string{u.Name, fmt.Sprintf("%g of %g in use", u.Used, u.Limit)})
	}
	return lines
}

func (m *meter) ask(ctx context.Context, source driver.Meter, pending chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, meterTime)
	defer cancel()
	usage, err := source.Usage(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.usage, m.err, m.at, m.pending = usage, err, time.Now(), nil
	close(pending)
}
