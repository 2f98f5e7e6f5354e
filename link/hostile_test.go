package link_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// An agent that opens streams without end gets nothing, costs nothing, and stops nobody: a backend takes none of an agent's.
func TestAgentThatOpensStreams(t *testing.T) {
	r := newRig(t, link.Options{KeepAlive: time.Second, MaxPause: 10 * time.Millisecond, MaxStreams: -1}, nil)
	// Only the hub's end is under test; the agent takes what the backend opens.
	r.opt.MaxStreams = 0
	agent, backend := r.link()
	r.id.ID = "run-2"
	quiet, other := r.link()
	before := heap()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var flood sync.WaitGroup
	for range 8 {
		flood.Go(func() {
			data := make([]byte, 200<<10)
			for range 60 {
				s, err := agent.Open(ctx)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				_ = s.SetDeadline(time.Now().Add(30 * time.Second))
				_, _ = s.Write(data)
				if _, err := s.Read(data[:1]); !errors.Is(err, link.ErrReset) {
					t.Errorf("a stream of the agent's: %v, want ErrReset", err)
				}
				_ = s.Close()
			}
		})
	}
	flood.Wait()
	if cost := int64(heap()-before) >> 20; cost > 32 {
		t.Errorf("the streams cost %d MiB", cost)
	}
	for _, way := range [][2]*link.Link{{backend, agent}, {other, quiet}} {
		o, a := stream(t, way[0], way[1])
		go func() { _, _ = io.Copy(a, a); _ = a.CloseWrite() }() // ends with the stream
		if _, err := o.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		_ = o.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(o, make([]byte, 1)); err != nil {
			t.Errorf("after the flood: %v", err)
		}
	}
}
