package engine

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

func openEvents(t *testing.T, dir string) *eventLog {
	t.Helper()
	l, err := openEventLog(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.shutdown)
	return l
}

func numbered(n int) events.Message {
	return events.Message{
		Type: events.ContainerEventType, Action: "create", Scope: "local", Actor: events.Actor{ID: fmt.Sprint(n)},
		TimeNano: time.Now().UnixNano(),
	}
}

// kept returns the ids of all that a log holds, in order of time.
func kept(t *testing.T, l *eventLog) []string {
	t.Helper()
	var ids []string
	var last int64
	for n := l.from(true); ; {
		got, next, _, _, lost := l.after(n)
		if lost || len(got) > eventBatch {
			t.Fatalf("after %d: %d events, lost: %v", n, len(got), lost)
		}
		if len(got) == 0 {
			return ids
		}
		for _, m := range got {
			if m.TimeNano <= last {
				t.Fatalf("%d after %d", m.TimeNano, last)
			}
			last = m.TimeNano
			ids = append(ids, m.Actor.ID)
		}
		n = next
	}
}

func TestEventsSurvive(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for round := range 3 {
		l := openEvents(t, dir)
		for i := range 100 {
			id := round*100 + i
			l.add(numbered(id), false)
			want = append(want, fmt.Sprint(id))
		}
		if got := kept(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: %d events, want %d", round, len(got), len(want))
		}
		l.shutdown()
		l.shutdown()
	}
	info, err := os.Stat(filepath.Join(dir, "events.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
}

// TestEventsBounded: what is kept is bounded in number and bytes, in memory and in the file, and a follower that falls
// behind is told.
func TestEventsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		count, size int
	}{
		"number": {3 * eventsKept, 0},
		"bytes":  {100, eventBytes / 10},
		"one that is larger than all that may be": {3, eventBytes + 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := openEvents(t, dir)
			start := l.from(false)
			var bytes int64
			for i := range c.count {
				m := numbered(i)
				m.Actor.Attributes = map[string]string{"label": strings.Repeat("x", c.size)}
				l.add(m, false)
				bytes += int64(c.size)
			}
			if _, _, _, _, lost := l.after(start); !lost {
				t.Error("who is behind is not told")
			}
			got := kept(t, l)
			if len(got) == 0 || len(got) > eventsKept || got[len(got)-1] != fmt.Sprint(c.count-1) {
				t.Errorf("%d are kept, of them the last is %s", len(got), got[len(got)-1])
			}
			if l.bytes > eventBytes && len(l.all) > 1 {
				t.Errorf("%d bytes in %d events", l.bytes, len(l.all))
			}
			l.shutdown()
			info, err := os.Stat(filepath.Join(dir, "events.jsonl"))
			if err != nil || info.Size() > 2*eventBytes+int64(c.size)+1<<20 {
				t.Errorf("the file has %d bytes, %v", info.Size(), err)
			}
			if again := kept(t, openEvents(t, dir)); fmt.Sprint(again) != fmt.Sprint(got) {
				t.Errorf("%d after a restart, want %d", len(again), len(got))
			}
		})
	}
}

func TestEventsOfADamagedFile(t *testing.T) {
	dir := t.TempDir()
	l := openEvents(t, dir)
	for i := range 3 {
		l.add(numbered(i), false)
	}
	l.shutdown()
	path := filepath.Join(dir, "events.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	damaged := append(append(lines[0], "\x00\x00nonsense\n"...), lines[2]...)
	damaged = append(damaged, lines[2][:10]...) // a write that a crash has cut
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	l = openEvents(t, dir)
	if got := kept(t, l); fmt.Sprint(got) != "[0 2]" {
		t.Errorf("kept %v", got)
	}
	l.add(numbered(9), false)
	l.shutdown()
	if b, err = os.ReadFile(path); err != nil || bytes.Contains(b, []byte("nonsense")) {
		t.Errorf("the damage is left: %v", err)
	}
	if got := kept(t, openEvents(t, dir)); fmt.Sprint(got) != "[0 2 9]" {
		t.Errorf("kept %v", got)
	}
}

// TestEventsWithoutADisk: what cannot be written is kept in memory, told in the log, and written once that is possible.
func TestEventsWithoutADisk(t *testing.T) {
	dir := t.TempDir()
	l := openEvents(t, dir)
	// A folder in the new file's place: it cannot be made, whoever runs this test.
	if err := os.Mkdir(filepath.Join(dir, "events.jsonl.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.anew = true // as after a write that failed
	l.mu.Unlock()
	l.add(numbered(1), false)
	l.add(numbered(2), false)
	if got := kept(t, l); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("kept %v", got)
	}
	// It may not have been tried yet; it has been with the next event, or will be.
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		tried := len(l.pending) == 0
		l.mu.Unlock()
		if tried {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing is written")
		}
	}
	if err := os.Remove(filepath.Join(dir, "events.jsonl.new")); err != nil {
		t.Fatal(err)
	}
	l.add(numbered(3), false)
	l.shutdown()
	if got := kept(t, openEvents(t, dir)); fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("kept %v", got)
	}
}

// BenchmarkEvent is what an event costs who tells it.
func BenchmarkEvent(b *testing.B) {
	l, err := openEventLog(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer l.shutdown()
	m := numbered(1)
	m.Actor.Attributes = map[string]string{"image": "alpine", "name": "box", "com.docker.compose.project": "p", "com.docker.compose.service": "s"}
	for b.Loop() {
		l.add(m, false)
	}
}

// TestMinorEventsGoFirst: what probes tell, however much it is, drives nothing else out, is not in the file, and does not
// make anybody miss something.
func TestMinorEventsGoFirst(t *testing.T) {
	dir := t.TempDir()
	l := openEvents(t, dir)
	start := l.from(false)
	var want []string
	for i := range 20 * eventsKept {
		if i%(eventsKept/2) == 0 {
			l.add(numbered(i), false)
			want = append(want, fmt.Sprint(i))
		}
		m := numbered(i)
		m.Action = events.ActionExecDie
		l.add(m, true)
	}
	if len(l.all) > eventsKept {
		t.Errorf("%d are kept", len(l.all))
	}
	var got []string
	last := 0
	for n := start; ; {
		some, next, _, _, lost := l.after(n)
		if lost {
			t.Fatal("lost")
		}
		if len(some) == 0 {
			if next != l.from(false) {
				t.Errorf("next is %d, want %d", next, l.from(false))
			}
			break
		}
		for _, m := range some {
			if m.Action == "create" {
				got = append(got, m.Actor.ID)
			}
			fmt.Sscan(m.Actor.ID, &last)
		}
		n = next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || last != 20*eventsKept-1 {
		t.Errorf("%d of %d are kept, the last of all is %d", len(got), len(want), last)
	}
	l.shutdown()
	if again := kept(t, openEvents(t, dir)); fmt.Sprint(again) != fmt.Sprint(want) {
		t.Errorf("after a restart: %v", again)
	}
}

// BenchmarkEventFanOut is one event on its way to 100 followers.
func BenchmarkEventFanOut(b *testing.B) {
	l, err := openEventLog(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer l.shutdown()
	var got sync.WaitGroup
	for range 100 {
		go func() { // ends with the log
			n := l.from(false)
			for {
				all, next, changed, closed, _ := l.after(n)
				n = next
				for range all {
					got.Done()
				}
				if len(all) == 0 && closed {
					return
				}
				if len(all) == 0 {
					<-changed
				}
			}
		}()
	}
	time.Sleep(100 * time.Millisecond) // until they follow
	m := numbered(1)
	for b.Loop() {
		got.Add(100)
		l.add(m, false)
		got.Wait()
	}
}
