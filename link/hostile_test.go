package link_test

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sockerless/sockerless/link"
)

// An agent that opens a stream has ended its own link, and nobody else's: a backend takes none of an agent's.
func TestAgentThatOpensStreams(t *testing.T) {
	r := newRig(t, link.Options{MaxPause: 10 * time.Millisecond, MaxStreams: -1}, nil)
	// Only the hub's end is under test; the agent takes what the backend opens.
	r.opt.MaxStreams = 0
	agent, backend := r.link()
	r.id.ID = "run-2"
	quiet, other := r.link()
	s, err := agent.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	<-backend.Done()
	if err := backend.Err(); !errors.Is(err, link.ErrBroken) {
		t.Errorf("the hub's end: %v, want ErrBroken", err)
	}
	_ = s.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the agent's stream: %v, want its link's end", err)
	}
	o, a := stream(t, other, quiet)
	go func() { _, _ = io.Copy(a, a); _ = a.CloseWrite() }() // ends with the stream
	if _, err := o.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = o.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(o, make([]byte, 1)); err != nil {
		t.Errorf("the other agent's link: %v", err)
	}
}
