package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/tape"
)

// records reads what a tape holds after a number.
func records(t *testing.T, l *logTape, after uint64) []tape.Record {
	t.Helper()
	var all []tape.Record
	for r, err := range l.read(context.Background(), after, false, nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		r.Data = bytes.Clone(r.Data)
		all = append(all, r)
	}
	return all
}

func summary(records []tape.Record) []string {
	var all []string
	for _, r := range records {
		partial := ""
		if r.Later {
			partial = "-"
		}
		if r.Partial {
			partial += "+"
		}
		data := string(r.Data)
		if len(data) > 20 {
			data = fmt.Sprintf("%.3s...%d", data, len(data))
		}
		all = append(all, fmt.Sprintf("%d %d%s %q", r.Seq, r.Stream, partial, data))
	}
	return all
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name   string
		chunks []string // to stdout
		want   []string
	}{
		{"lines", []string{"a\nb\n"}, []string{`1 1 "a\n"`, `2 1 "b\n"`}},
		{"a line in pieces", []string{"a", "b", "c\nd"}, []string{`1 1 "abc\n"`, `2 1 "d"`}},
		{"empty lines", []string{"\n\n"}, []string{`1 1 "\n"`, `2 1 "\n"`}},
		{"nothing", []string{""}, nil},
		{"no end", []string{"abc"}, []string{`1 1 "abc"`}},
		{"just as long as a record", []string{long + "\n"}, []string{`1 1+ "xxx...16384"`, `2 1- "\n"`}},
		{"the same in pieces", []string{long, "\n"}, []string{`1 1+ "xxx...16384"`, `2 1- "\n"`}},
		{"the same without an end", []string{long}, []string{`1 1+ "xxx...16384"`}},
		{"one shorter", []string{long[1:] + "\n"}, []string{`1 1 "xxx...16384"`}},
		{"one longer", []string{long + "y\n"}, []string{`1 1+ "xxx...16384"`, `2 1- "y\n"`}},
		{"one longer, in pieces", []string{long[:10], long[10:], "y", "\nz\n"}, []string{`1 1+ "xxx...16384"`, `2 1- "y\n"`, `3 1 "z\n"`}},
		{"very long", []string{long + long + long + "y"}, []string{`1 1+ "xxx...16384"`, `2 1-+ "xxx...16384"`, `3 1-+ "xxx...16384"`, `4 1- "y"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLogTape(t.TempDir())
			for _, c := range test.chunks {
				l.write(tape.Stdout, []byte(c), time.Unix(1, 0))
			}
			l.flush(time.Unix(1, 0))
			if diff := cmp.Diff(test.want, summary(records(t, l, 0))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The pieces of a line have one time, as with dockerd, also if it comes slowly; and what is behind it has its own.
func TestPiecesHaveOneTime(t *testing.T) {
	l := newLogTape(t.TempDir())
	long := strings.Repeat("x", maxLine)
	l.write(tape.Stdout, []byte(long), time.Unix(1, 0))
	l.write(tape.Stderr, []byte("err\n"), time.Unix(2, 0))
	l.write(tape.Stdout, []byte(long), time.Unix(3, 0))
	l.write(tape.Stdout, []byte("end\nnext\n"), time.Unix(4, 0))
	l.write(tape.Stdout, []byte(long), time.Unix(5, 0))
	l.flush(time.Unix(6, 0))
	l.write(tape.Stdout, []byte("of another run\n"), time.Unix(7, 0))
	var got []string
	for _, r := range records(t, l, 0) {
		got = append(got, fmt.Sprint(r.Time.Unix(), " ", r.Later))
	}
	want := []string{"1 false", "2 false", "1 true", "1 true", "4 false", "5 false", "7 false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStreamsAreApart(t *testing.T) {
	l := newLogTape(t.TempDir())
	l.write(tape.Stdout, []byte("out"), time.Unix(1, 5))
	l.write(tape.Stderr, []byte("err\n"), time.Unix(2, 5))
	l.write(tape.Stdout, []byte("put\n"), time.Unix(3, 5))
	want := []tape.Record{
		{Seq: 1, Time: time.Unix(2, 5), Stream: tape.Stderr, Data: []byte("err\n")},
		{Seq: 2, Time: time.Unix(3, 5), Stream: tape.Stdout, Data: []byte("output\n")},
	}
	if diff := cmp.Diff(want, records(t, l, 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[1:], records(t, l, 1)); diff != "" {
		t.Error(diff)
	}
}

// fill writes n records of 1000 bytes each.
func fill(l *logTape, n int) {
	line := []byte(strings.Repeat("x", 999) + "\n")
	for range n {
		l.write(tape.Stdout, line, time.Unix(1, 0))
	}
}

// consecutive checks that records count from first to last without a hole.
func consecutive(t *testing.T, got []tape.Record, first, last uint64) {
	t.Helper()
	for i, r := range got {
		if r.Seq != first+uint64(i) {
			t.Fatalf("record %d is number %d", i, r.Seq)
		}
	}
	if len(got) == 0 || got[len(got)-1].Seq != last {
		t.Fatalf("%d records from %d, want up to %d", len(got), first, last)
	}
}

func TestSpool(t *testing.T) {
	l := newLogTape(t.TempDir() + "/made/when/needed")
	defer l.spool.close()
	l.setLimit(16 << 20)
	fill(l, 10000)
	consecutive(t, records(t, l, 0), 1, 10000)
	consecutive(t, records(t, l, 5000), 5001, 10000)
	if l.spool.used < 20 {
		t.Errorf("%d slots in use", l.spool.used)
	}
	l.ack(9500)
	consecutive(t, records(t, l, 9500), 9501, 10000)
	if l.spool.used != 0 {
		t.Errorf("%d slots in use after all in them was acknowledged", l.spool.used)
	}
	fill(l, 10000)
	consecutive(t, records(t, l, 10000), 10001, 20000)
}

func TestOldestGoesFirst(t *testing.T) {
	for name, dir := range map[string]string{"spool full": t.TempDir(), "no spool": "/proc/nosuch", "disk full": "/dev/full"} {
		t.Run(name, func(t *testing.T) {
			l := newLogTape(dir)
			defer l.spool.close()
			if dir == "/dev/full" {
				full, err := os.OpenFile(dir, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				l.spool.file = full
			}
			l.setLimit(2 * segmentSize)
			fill(l, 10000)
			got := records(t, l, 0)
			gap := got[0]
			if gap.Stream != tape.Gap || string(gap.Data) != fmt.Sprintf("%d records were dropped before they could be stored\n", gap.Seq) {
				t.Errorf("the gap is %d %q", gap.Seq, gap.Data)
			}
			consecutive(t, got[1:], gap.Seq+1, 10000)
			if kept := len(got) - 1; kept < 900 || kept > 1700 {
				t.Errorf("%d records are kept", kept)
			}
			// Whoever is within what is kept sees no gap.
			consecutive(t, records(t, l, 9990), 9991, 10000)
			if got := records(t, l, 10000); len(got) != 0 {
				t.Errorf("behind the end: %v", summary(got))
			}
		})
	}
}

// A reader whose place is dropped under it goes on behind the gap.
func TestReaderIsOvertaken(t *testing.T) {
	l := newLogTape(t.TempDir())
	defer l.spool.close()
	l.setLimit(1)
	fill(l, 100)
	next, gaps := uint64(1), 0
	for r, err := range l.read(context.Background(), 0, false, nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Stream == tape.Gap {
			gaps++
		} else if r.Seq != next {
			t.Fatalf("record %d after %d", r.Seq, next-1)
		}
		if r.Seq == 50 {
			fill(l, 5000)
		}
		next = r.Seq + 1
	}
	if next != 5101 || gaps != 1 {
		t.Errorf("it ended at %d with %d gaps", next-1, gaps)
	}
}

// With a backend that follows, a full tape waits; for one that does nothing, not for long; for none, not at all.
func TestFullTapeWaitsForABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogTape("/proc/nosuch")
		l.setLimit(1)
		full := func() time.Duration {
			begin := time.Now()
			l.room(t.Context())
			return time.Since(begin)
		}
		fill(l, 2000)
		if d := full(); d != 0 {
			t.Errorf("without a backend it waits %v", d)
		}
		connected := true
		ctx, cancel := context.WithCancel(t.Context())
		follow := func() {
			for range l.read(ctx, 0, true, nil, func() bool { return connected }) {
			}
		}
		go follow()
		synctest.Wait()
		go func() {
			time.Sleep(3 * time.Second)
			l.ack(2000)
		}()
		if d := full(); d != 3*time.Second {
			t.Errorf("a backend acknowledges after 3 s, and it waits %v", d)
		}
		fill(l, 2000)
		synctest.Wait()
		if d := full(); d < stallPatience || d > stallPatience+2*time.Second {
			t.Errorf("a backend does nothing, and it waits %v", d)
		}
		connected = false
		l.ack(0)
		if d := full(); d != 0 {
			t.Errorf("the link is cut, and it waits %v", d)
		}
		cancel()
		synctest.Wait()
	})
}

// A disk that takes nothing costs no record while a backend reads, however slowly.
func TestFullDiskHoldsTheProcessUp(t *testing.T) {
	for name, dir := range map[string]string{"no spool": "/proc/nosuch", "disk full": "/dev/full"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLogTape(dir)
				defer l.spool.close()
				if dir == "/dev/full" {
					full, err := os.OpenFile(dir, os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					l.spool.file = full
				}
				ctx, cancel := context.WithCancel(t.Context())
				var got []tape.Record
				go func() { // ends with ctx
					for r, err := range l.read(ctx, 0, true, nil, func() bool { return true }) {
						if err != nil {
							t.Error(err)
						}
						r.Data = nil
						if got = append(got, r); len(got)%100 == 0 {
							time.Sleep(time.Second)
							l.ack(r.Seq)
						}
					}
				}()
				synctest.Wait()
				for range 200 {
					l.room(t.Context())
					fill(l, 60)
					l.mu.Lock()
					n := len(l.segments)
					l.mu.Unlock()
					if n > 2*memorySegments {
						t.Fatalf("%d segments in memory", n)
					}
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				consecutive(t, got, 1, 12000)
				cancel()
				synctest.Wait()
			})
		})
	}
}

// FuzzLines checks that records put together are what was written, whatever the pieces.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbc\n\nd"), 3)
	f.Add(bytes.Repeat([]byte("x"), 3*maxLine), maxLine)
	f.Add(append(bytes.Repeat([]byte("x"), maxLine), '\n'), maxLine)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		if piece < 1 {
			piece = 1
		}
		l := newLogTape("/proc/nosuch")
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			l.write(tape.Stdout, rest[:n], time.Unix(1, 0))
			rest = rest[n:]
		}
		l.flush(time.Unix(1, 0))
		var all []byte
		got := records(t, l, 0)
		for i, r := range got {
			all = append(all, r.Data...)
			end := bytes.HasSuffix(r.Data, []byte("\n"))
			if n := bytes.Count(r.Data, []byte("\n")); n > 1 || n == 1 && !end {
				t.Errorf("record %d holds more than a line", r.Seq)
			}
			if r.Partial != (!end && len(r.Data) == maxLine) || r.Later != (i > 0 && got[i-1].Partial) {
				t.Errorf("record %d of %d: partial %v, later %v", r.Seq, len(r.Data), r.Partial, r.Later)
			}
			if len(r.Data) > maxLine {
				t.Errorf("record %d has %d bytes", r.Seq, len(r.Data))
			}
		}
		if len(data) < 1<<20 && !bytes.Equal(all, data) {
			t.Errorf("%d bytes became %d", len(data), len(all))
		}
	})
}
