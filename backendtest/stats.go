package backendtest

import (
	"context"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// measure returns the one answer of a question for figures.
func (s *session) measure(id string, opt sockerless.StatsOptions) *docker.StatsResponse {
	s.Helper()
	var found *docker.StatsResponse
	for v, err := range s.b.Containers.Stats(s.Context(), id, opt) {
		if err != nil {
			s.Fatal(err)
		}
		if found != nil {
			s.Fatal("more than one answer")
		}
		found = v
	}
	if found == nil {
		s.Fatal("no answer")
	}
	return found
}

var statistics = []test{
	{"of a container that works", func(s *session) {
		n := unique("stats")
		id := s.create(script("while :; do :; done"), name(n))
		s.start(id)
		v := s.measure(id, sockerless.StatsOptions{})
		if v.ID != id || v.Name != "/"+n || v.Read.IsZero() || !v.Read.After(v.PreRead) || v.PreRead.IsZero() {
			s.Errorf("%+v", v)
		}
		cpu, system := v.CPUStats.CPUUsage.TotalUsage-v.PreCPUStats.CPUUsage.TotalUsage, v.CPUStats.SystemUsage-v.PreCPUStats.SystemUsage
		if cpu == 0 || system == 0 || cpu > system+uint64(time.Second) || v.CPUStats.OnlineCPUs == 0 {
			s.Errorf("processor time: %+v, before it %+v", v.CPUStats, v.PreCPUStats)
		}
		if v.MemoryStats.Usage == 0 || v.MemoryStats.Limit < v.MemoryStats.Usage || v.PidsStats.Current == 0 {
			s.Errorf("memory %+v, processes %+v", v.MemoryStats, v.PidsStats)
		}
		once := s.measure(id, sockerless.StatsOptions{OneShot: true})
		if once.Read.IsZero() || !once.PreRead.IsZero() || once.PreCPUStats.CPUUsage.TotalUsage != 0 ||
			once.CPUStats.CPUUsage.TotalUsage < v.CPUStats.CPUUsage.TotalUsage {
			s.Errorf("at once: %+v", once)
		}
	}},
	{"of one that does not run", func(s *session) {
		n := unique("still")
		id := s.create([]string{"sleep", "600"}, name(n))
		for _, opt := range []sockerless.StatsOptions{{}, {OneShot: true}} {
			v := s.measure(id, opt)
			if v.ID != id || v.Name != "/"+n || !v.Read.IsZero() || v.MemoryStats.Usage != 0 || v.Networks != nil {
				s.Errorf("%+v", v)
			}
		}
	}},
	{"a stream, until it is removed", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		s.start(id)
		ctx, cancel := context.WithTimeout(s.Context(), patience)
		defer cancel()
		n, empty, begun := 0, 0, false
		var before *docker.StatsResponse
		for v, err := range s.b.Containers.Stats(ctx, id, sockerless.StatsOptions{Stream: true}) {
			if err != nil {
				s.Fatal(err)
			}
			if !begun || v == nil {
				s.same("the stream's beginning", v == nil && !begun, true)
				begun = true
				continue
			}
			switch {
			case v.Read.IsZero():
				if empty++; empty == 2 {
					if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}); err != nil {
						s.Fatal(err)
					}
				}
				continue
			case before == nil:
				if !v.PreRead.IsZero() {
					s.Errorf("the first one has one before it: %+v", v)
				}
			case !v.PreRead.Equal(before.Read) || v.PreCPUStats.SystemUsage != before.CPUStats.SystemUsage:
				s.Errorf("%+v, after %+v", v, before)
			}
			before = v
			if n++; n == 2 {
				if err := s.b.Containers.Signal(s.Context(), id, "KILL"); err != nil {
					s.Fatal(err)
				}
			}
		}
		if n < 2 || empty < 2 {
			s.Errorf("%d with figures, %d without", n, empty)
		}
	}},
	{"of a paused one", func(s *session) {
		id := s.counter()
		s.pauseIt(id)
		if v := s.measure(id, sockerless.StatsOptions{OneShot: true}); v.PidsStats.Current == 0 || v.MemoryStats.Usage == 0 {
			s.Errorf("%+v", v)
		}
	}},
	{"refusals", func(s *session) {
		s.refused(firstError(s.b.Containers.Stats(s.Context(), "nobody", sockerless.StatsOptions{})), sockerless.ENOTFOUND, "No such container: nobody")
		id := s.create([]string{"sleep", "600"})
		s.refused(firstError(s.b.Containers.Stats(s.Context(), id, sockerless.StatsOptions{Stream: true, OneShot: true})),
			sockerless.EINVALID, "cannot have stream=true and one-shot=true")
	}},
}
