package engine_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine/store"
)

// held is a store that takes its time for what is removed: asked tells of it, answer lets it go on.
type held struct {
	store.Store
	asked, answer chan struct{}
}

func (s *held) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	if bytes.Contains(item.Value, []byte(`"Removed":true`)) {
		close(s.asked)
		<-s.answer
	}
	return s.Store.Put(ctx, table, item)
}

// counted is a connection that is missed when it is closed.
type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// TestAgentOfARemovedContainerWhileTheEngineCloses: the link to it is closed, though nobody is left to tell it to end.
func TestAgentOfARemovedContainerWhileTheEngineCloses(t *testing.T) {
	t.Parallel()
	r, f := newFaulty(t, rigOptions{})
	s := &held{Store: withStore(r).Store, asked: make(chan struct{}), answer: make(chan struct{})}
	id := r.create(sh("sleep 600"))
	r.start(id)
	r.close()

	var open atomic.Int64
	dialling, dial, dialled := make(chan struct{}, 8), make(chan struct{}), make(chan struct{}, 8)
	f.inject(func(f *faulty) {
		f.dial = func(ctx context.Context, run driver.Run) (net.Conn, error) {
			dialling <- struct{}{}
			<-dial
			d, _ := driver.As[driver.Dialer](f.Driver)
			conn, err := d.Dial(ctx, run)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			dialled <- struct{}{}
			return &counted{Conn: conn, open: &open}, nil
		}
	})
	r.opt.Store = s
	r.open()
	within(t, dialling)
	told := make(chan struct{})
	since := time.Now()
	go func() { // ends with the engine
		defer close(told)
		for range r.b.System.Events(t.Context(), sockerless.EventOptions{Since: since}) {
		}
	}()
	removed := make(chan error, 1)
	go func() { removed <- r.b.Containers.Remove(t.Context(), id, sockerless.RemoveOptions{Force: true}) }() // ends with the answer
	within(t, s.asked)
	close(dial)
	within(t, dialled)
	time.Sleep(200 * time.Millisecond) // until the link is made, and waits to be taken while the container is looked at
	closed := make(chan struct{})
	go func() { defer close(closed); r.close() }() // ends with the answer
	within(t, told)                                // the engine has begun to close
	close(s.answer)
	if err := within(t, removed); err != nil {
		t.Error(err)
	}
	within(t, closed)
	if n := open.Load(); n != 0 {
		t.Errorf("%d connections to agents are open, and the engine is closed", n)
	}
}

// forgetful is a store that does not take for the first time which agent has come.
type forgetful struct {
	store.Store
	refused atomic.Int64
}

func (s *forgetful) Put(ctx context.Context, table string, item store.Item) (store.Item, error) {
	if bytes.Contains(item.Value, []byte(`"Stage":"linked"`)) && s.refused.Add(1) == 1 {
		return store.Item{}, errors.New("no space left on device")
	}
	return s.Store.Put(ctx, table, item)
}

// TestAgentThatCannotBeStored is linked to again, also where agents are dialled.
func TestAgentThatCannotBeStored(t *testing.T) {
	t.Parallel()
	modes(t, func(t *testing.T, reverse bool) {
		r, f := newFaulty(t, rigOptions{reverse: reverse, mem: memdriver.Options{StartGrace: 2 * time.Minute}})
		s := &forgetful{Store: withStore(r).Store}
		r.close()
		r.opt.Store = s
		r.open()
		id := r.create(sh("sleep 600"))
		r.start(id)
		if n, starts := s.refused.Load(), f.calls.start.Load(); n < 2 || starts != 1 {
			t.Errorf("stored by try %d, with %d executions", n, starts)
		}
	})
}
