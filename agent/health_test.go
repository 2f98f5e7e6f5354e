package agent

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/agent/protocol"
)

// play watches a process for some time whose probes take a second each and end as the script says: one letter a probe,
// "+" well, "-" not, the last one for ever. It returns what was told and when, in seconds since the start:
// when the probe began, the status, the failing streak.
func play(t *testing.T, check protocol.HealthCheck, script string, limit time.Duration) (told []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		n := 0
		probe := func(ctx context.Context) protocol.ProbeResult {
			r := protocol.ProbeResult{Start: time.Now()}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			if script[min(n, len(script)-1)] == '-' {
				r.ExitCode = 1
			}
			n++
			r.End = time.Now()
			return r
		}
		h := newHealth(check, started, probe, func(is protocol.Health) {
			last := is.Log[len(is.Log)-1]
			told = append(told, fmt.Sprintf("%g %s %d", last.Start.Sub(started).Seconds(), is.Status, is.FailingStreak))
		})
		h.begin()
		time.Sleep(limit)
		h.end()
		synctest.Wait()
	})
	return told
}

func TestHealthRules(t *testing.T) {
	const s = time.Second
	for _, tc := range []struct {
		name   string
		check  protocol.HealthCheck
		script string
		limit  time.Duration
		want   string
	}{
		{
			name: "the first probe comes after an interval, the others as long after the end of the one before", script: "+", limit: 40 * s,
			check: protocol.HealthCheck{Interval: 10 * s, Retries: 3},
			want:  "10 healthy 0, 21 healthy 0, 32 healthy 0",
		},
		{
			name: "so many failures in a row", script: "--+---+-", limit: 19 * s,
			check: protocol.HealthCheck{Interval: s, Retries: 3},
			want: "1 starting 1, 3 starting 2, 5 healthy 0, 7 healthy 1, 9 healthy 2, 11 unhealthy 3, 13 healthy 0, 15 healthy 1, " +
				"17 healthy 2",
		},
		{
			name: "unhealthy stays until a success", script: "-", limit: 7 * s,
			check: protocol.HealthCheck{Interval: s, Retries: 1},
			want:  "1 unhealthy 1, 3 unhealthy 2, 5 unhealthy 3",
		},
		{
			name: "failures in the start period do not count", script: "-", limit: 21 * s,
			check: protocol.HealthCheck{Interval: 4 * s, StartInterval: 2 * s, StartPeriod: 9 * s, Retries: 2},
			// At 9 the period is over: the interval counts from the end of the probe before, with what was true then.
			want: "2 starting 0, 5 starting 0, 8 starting 0, 13 starting 1, 18 unhealthy 2",
		},
		{
			name: "a success ends the start period", script: "-+-", limit: 15 * s,
			check: protocol.HealthCheck{Interval: 3 * s, StartInterval: s, StartPeriod: time.Hour, Retries: 2},
			want:  "1 starting 0, 3 healthy 0, 7 healthy 1, 11 unhealthy 2",
		},
		{
			name: "a probe that begins in the start period is of it", script: "-", limit: 9 * s,
			check: protocol.HealthCheck{Interval: 2 * s, StartInterval: 4 * s, StartPeriod: 4*s + 1, Retries: 1},
			want:  "4 starting 0, 7 unhealthy 1",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(strings.Split(tc.want, ", "), play(t, tc.check, tc.script, tc.limit)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A pause ends the probe that runs without a result, and makes the process unhealthy; nothing is probed until begin,
// and the next probe comes an interval later. An end tells nothing more.
func TestHealthPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		var told []string
		var running, most int
		var mu sync.Mutex
		count := func(d int) {
			mu.Lock()
			defer mu.Unlock()
			running += d
			most = max(most, running)
		}
		probe := func(ctx context.Context) protocol.ProbeResult {
			count(1)
			defer count(-1)
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				time.Sleep(time.Second) // to be killed takes some time
			}
			return protocol.ProbeResult{Start: time.Now()}
		}
		h := newHealth(protocol.HealthCheck{Interval: 10 * time.Second, Retries: 1}, started, probe, func(is protocol.Health) {
			told = append(told, fmt.Sprintf("%g %s %v %d", time.Since(started).Seconds(), is.Status, is.Stopped, is.Probes))
		})
		h.begin()
		h.begin() // does nothing
		time.Sleep(24 * time.Second)
		h.pause() // under a probe that began at 23
		h.paused()
		if at := time.Since(started); at != 25*time.Second {
			t.Errorf("the pause took until %v", at)
		}
		h.pause() // does nothing
		h.paused()
		time.Sleep(time.Hour)
		h.begin()
		time.Sleep(15 * time.Second)
		h.pause()
		h.begin()                    // for the process could not be stopped
		time.Sleep(12 * time.Second) // a probe runs
		h.end()
		h.pause()
		h.paused()
		h.begin()
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"13 healthy false 1", "25 unhealthy true 1", "3638 healthy false 2"}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Error(diff)
		}
		if most != 1 {
			t.Errorf("%d probes at a time", most)
		}
	})
}

// A probe that does not end however it is asked holds up a pause for some seconds, and an end not at all.
func TestHealthWithAProbeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		h := newHealth(protocol.HealthCheck{Interval: time.Second, Retries: 1}, time.Now(), func(context.Context) protocol.ProbeResult {
			<-hang
			return protocol.ProbeResult{}
		}, func(is protocol.Health) {
			if !is.Stopped {
				t.Error("told", is)
			}
		})
		h.begin()
		time.Sleep(2 * time.Second)
		before := time.Now()
		h.pause()
		if took := time.Since(before); took != killPatience {
			t.Errorf("the pause took %v", took)
		}
		h.begin()
		before = time.Now()
		h.end()
		if took := time.Since(before); took != 0 {
			t.Errorf("the end took %v", took)
		}
		close(hang)
	})
}

func TestHealthEventsAreBounded(t *testing.T) {
	l := newEventLog()
	add := func(incarnation int, status protocol.HealthStatus, probes int) {
		l.add(protocol.Event{Kind: protocol.EventHealth, Incarnation: incarnation, Health: &protocol.Health{Status: status, Probes: uint64(probes)}})
	}
	show := func() (all []string) {
		for _, e := range l.events {
			if e.Kind != protocol.EventHealth {
				all = append(all, string(e.Kind))
				continue
			}
			all = append(all, fmt.Sprintf("%d %s %d", e.Incarnation, e.Health.Status, e.Health.Probes))
		}
		return all
	}
	want := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, show()); diff != "" {
			t.Error(diff)
		}
	}
	l.add(protocol.Event{Kind: protocol.EventStarted})
	for i := range 1000 {
		add(1, protocol.HealthStarting, i)
	}
	l.add(protocol.Event{Kind: protocol.EventExecExit})
	add(1, protocol.HealthHealthy, 1000)
	add(1, protocol.HealthHealthy, 1001)
	add(1, protocol.HealthUnhealthy, 1002)
	want("started", "1 starting 999", "exec-exit", "1 healthy 1001", "1 unhealthy 1002")
	l.ack(l.last() - 1)
	want("1 unhealthy 1002")
	l.ack(l.last())
	want("1 unhealthy 1002") // for a backend that was killed
	add(1, protocol.HealthUnhealthy, 1003)
	want("1 unhealthy 1003")
	l.ack(l.last())
	add(1, protocol.HealthHealthy, 1004)
	want("1 unhealthy 1003", "1 healthy 1004")
	l.add(protocol.Event{Kind: protocol.EventExited})
	add(2, protocol.HealthHealthy, 1)
	l.ack(l.last())
	want("2 healthy 1")
	for i := range 1000 {
		add(2, []protocol.HealthStatus{protocol.HealthUnhealthy, protocol.HealthHealthy}[i%2], i)
	}
	if got := show(); len(got) != maxHealth || got[maxHealth-1] != "2 healthy 999" || got[0] != fmt.Sprintf("2 unhealthy %d", 1000-maxHealth) {
		t.Error(len(got), got)
	}
}
