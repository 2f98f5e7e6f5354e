package logstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/tape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var begin = time.Unix(1_700_000_000, 0)

func record(seq uint64, text string) tape.Record {
	return tape.Record{Seq: seq, Time: begin.Add(time.Duration(seq) * time.Second), Stream: tape.Stdout, Data: []byte(text)}
}

// open returns a log and its folder.
func open(t *testing.T, limits logstore.Limits) (*logstore.Store, *logstore.Log, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := logstore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := s.Log("c", limits)
	if err != nil {
		t.Fatal(err)
	}
	return s, l, filepath.Join(dir, "c")
}

func write(t *testing.T, l *logstore.Log, records ...tape.Record) {
	t.Helper()
	for _, r := range records {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, l *logstore.Log, q logstore.Query) []string {
	t.Helper()
	var got []string
	for r, err := range l.Records(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.Data))
	}
	return got
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

var all = logstore.Query{Tail: -1}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	s, l, _ := open(t, logstore.Limits{})
	want := []tape.Record{
		{Seq: 1, Time: begin, Stream: tape.Stdout, Data: []byte("out\n")},
		{Seq: 2, Time: begin.Add(1), Stream: tape.Stderr, Partial: true, Data: []byte{0, 255, '\n', 0}},
		{Seq: 7, Time: begin.Add(2), Stream: tape.Gap, Data: []byte("4 records are lost\n")},
		{Seq: 8, Time: begin.Add(3), Stream: tape.Stderr, Data: bytes.Repeat([]byte("x"), 16<<10)},
	}
	write(t, l, want...)
	write(t, l, want[1]) // a repetition
	for range 2 {
		var got []tape.Record
		for r, err := range l.Records(t.Context(), all) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		same(t, got, want)
		same(t, l.Last(), uint64(8))
		if err := s.Release("c"); err != nil {
			t.Fatal(err)
		}
		var err error
		if l, err = s.Log("c", logstore.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNothingIsMadeBeforeTheFirstRecord(t *testing.T) {
	_, l, dir := open(t, logstore.Limits{})
	same(t, read(t, l, all), []string(nil))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a folder: %v", err)
	}
}

func TestTornEndIsCutOff(t *testing.T) {
	s, l, dir := open(t, logstore.Limits{})
	write(t, l, record(1, "one\n"), record(2, "two\n"), record(3, "three\n"))
	if err := s.Release("c"); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole) - 1; cut > 0; cut -= 7 {
		if err := os.WriteFile(files[0], whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := s.Log("c", logstore.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		n := l.Last()
		if n > 2 {
			t.Fatalf("cut at %d of %d, and there are %d records", cut, len(whole), n)
		}
		write(t, l, record(n+1, "next\n"))
		want := append([]string{"one\n", "two\n"}[:n:n], "next\n")
		same(t, read(t, l, all), want)
		if err := s.Release("c"); err != nil {
			t.Fatal(err)
		}
		if files, _ = filepath.Glob(filepath.Join(dir, "*.log")); len(files) != 1 {
			t.Fatalf("files %q", files)
		}
	}
}

func TestRotation(t *testing.T) {
	s, l, dir := open(t, logstore.Limits{MaxSize: 1000, MaxFiles: 3})
	for i := range uint64(200) {
		write(t, l, record(i+1, fmt.Sprintf("line %d\n", i+1)))
		if i%10 == 0 {
			l.Flush()
		}
	}
	check := func() {
		t.Helper()
		got := read(t, l, all)
		rotated := "older records were dropped by rotation (max-size, max-file)\n"
		if got[0] != rotated {
			t.Errorf("it begins with %q", got[0])
		}
		same(t, read(t, l, logstore.Query{Tail: -1, Since: begin.Add(time.Second)})[0], rotated)
		got = got[1:]
		if len(got) < 40 || len(got) > 100 || got[len(got)-1] != "line 200\n" {
			t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
		}
		for i, line := range got {
			if want := fmt.Sprintf("line %d\n", 200-len(got)+i+1); line != want {
				t.Fatalf("line %q, want %q", line, want)
			}
		}
		same(t, read(t, l, logstore.Query{Tail: 45}), got[len(got)-45:])
		same(t, read(t, l, logstore.Query{Tail: 1000}), got)
		same(t, read(t, l, logstore.Query{Tail: -1, Since: begin.Add(190 * time.Second)}), got[len(got)-11:])
	}
	check()
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	same(t, len(files), 3)
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 1000 {
			t.Errorf("%s has %d bytes, %v", f, st.Size(), err)
		}
	}
	if err := s.Release("c"); err != nil {
		t.Fatal(err)
	}
	var err error
	if l, err = s.Log("c", logstore.Limits{MaxSize: 1000, MaxFiles: 3}); err != nil {
		t.Fatal(err)
	}
	check()
}

// TestDamage damages the files of a log as power cuts and disks do. What is whole still comes, in order, with a Gap record
// for the rest, and the log goes on.
func TestDamage(t *testing.T) {
	limits := logstore.Limits{MaxSize: 200, MaxFiles: 9} // five records in each file
	const n = 15
	cut := func(keep int) func([]byte) []byte { return func(b []byte) []byte { return b[:keep] } }
	flip := func(at ...int) func([]byte) []byte {
		return func(b []byte) []byte {
			for _, i := range at {
				b[i] ^= 0xff
			}
			return b
		}
	}
	for name, c := range map[string]struct {
		file   int
		damage func([]byte) []byte
		want   string // the numbers; lost ones are in brackets, with a plus at the log's end
	}{
		"first file empty":             {0, cut(0), "[5] 6 7 8 9 10 11 12 13 14 15"},
		"first file torn at once":      {0, cut(5), "[5] 6 7 8 9 10 11 12 13 14 15"},
		"first file torn later":        {0, cut(80), "1 2 [3] 6 7 8 9 10 11 12 13 14 15"},
		"first file, first length":     {0, flip(3), "[1] 2 3 4 5 6 7 8 9 10 11 12 13 14 15"},
		"first file, second record":    {0, flip(60), "1 [1] 3 4 5 6 7 8 9 10 11 12 13 14 15"},
		"middle file empty":            {1, cut(0), "1 2 3 4 5 [5] 11 12 13 14 15"},
		"middle file torn at once":     {1, cut(30), "1 2 3 4 5 [5] 11 12 13 14 15"},
		"middle file torn later":       {1, cut(50), "1 2 3 4 5 6 [4] 11 12 13 14 15"},
		"middle file, scattered":       {1, flip(9, 60, 150), "1 2 3 4 5 [2] 8 [1] 10 11 12 13 14 15"},
		"last file empty":              {2, cut(0), "1 2 3 4 5 6 7 8 9 10 +"},
		"last file torn at once":       {2, cut(37), "1 2 3 4 5 6 7 8 9 10 +"},
		"last file torn later":         {2, cut(110), "1 2 3 4 5 6 7 8 9 10 11 12 +"},
		"last file, first record":      {2, flip(9), "1 2 3 4 5 6 7 8 9 10 [1] 12 13 14 15"},
		"last file, its last checksum": {2, flip(38*4 + 5), "1 2 3 4 5 6 7 8 9 10 11 12 13 14 +"},
		"last file, only zeros":        {2, func(b []byte) []byte { return make([]byte, len(b)) }, "1 2 3 4 5 6 7 8 9 10 +"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l, dir := open(t, limits)
			for i := range uint64(n) {
				write(t, l, record(i+1, fmt.Sprintf("line %02d\n", i+1)))
			}
			if err := s.Release("c"); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			same(t, len(files), 3)
			b, err := os.ReadFile(files[c.file])
			if err != nil {
				t.Fatal(err)
			}
			same(t, len(b), 5*38)
			if err := os.WriteFile(files[c.file], c.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // opening changes nothing
				if l, err = s.Log("c", limits); err != nil {
					t.Fatal(err)
				}
				same(t, numbers(t, l), c.want)
				for q := range 5 {
					want := strings.Fields(c.want)
					got := strings.Fields(numbersOf(read(t, l, logstore.Query{Tail: q + 1})))
					if len(got) < q+1 || strings.Join(got, " ") != strings.Join(want[len(want)-len(got):], " ") {
						t.Errorf("tail %d: %q of %q", q+1, got, want)
					}
				}
				if err := s.Release("c"); err != nil {
					t.Fatal(err)
				}
			}
			if l, err = s.Log("c", limits); err != nil {
				t.Fatal(err)
			}
			missing := n - l.Last()
			write(t, l, record(n+1, "line 16\n"), record(n+2, "line 17\n"))
			want := strings.Replace(c.want, "+", fmt.Sprintf("[%d]", missing), 1) + " 16 17"
			same(t, numbers(t, l), want)
			if err := s.Release("c"); err != nil {
				t.Fatal(err)
			}
			if l, err = s.Log("c", limits); err != nil {
				t.Fatal(err)
			}
			same(t, numbers(t, l), want)
		})
	}
}

func numbers(t *testing.T, l *logstore.Log) string {
	t.Helper()
	return numbersOf(read(t, l, all))
}

func numbersOf(lines []string) string {
	var got []string
	for _, line := range lines {
		var n int
		if _, err := fmt.Sscanf(line, "line %d\n", &n); err == nil {
			got = append(got, fmt.Sprint(n))
		} else if _, err := fmt.Sscanf(line, "%d records are lost", &n); err == nil {
			got = append(got, fmt.Sprintf("[%d]", n))
		} else if strings.HasPrefix(line, "the records from here on are lost") {
			got = append(got, "+")
		} else {
			got = append(got, line)
		}
	}
	return strings.Join(got, " ")
}

// TestNoFolder has a file where the log's folder should be.
func TestNoFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "c"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := logstore.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := s.Log("c", logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, numbers(t, l), "+")
	if err := l.Append(record(1, "line 1\n")); err == nil {
		t.Error("the record is stored")
	}
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	write(t, l, record(2, "line 2\n"))
	same(t, numbers(t, l), "[1] 2")
}

// The pieces of a long line count one by one, as with dockerd, and gaps do not.
func TestTailCountsRecords(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{})
	part := func(seq uint64, stream tape.Stream, text string) tape.Record {
		r := record(seq, text)
		r.Stream, r.Partial = stream, !strings.HasSuffix(text, "\n")
		return r
	}
	write(t, l,
		part(1, tape.Stdout, "one\n"),
		part(2, tape.Stdout, "t"), part(3, tape.Stdout, "w"), part(4, tape.Stdout, "o\n"),
		part(5, tape.Stderr, "three\n"),
		part(6, tape.Gap, "1 lost\n"),
		part(7, tape.Stdout, "unfinished"),
	)
	for n, want := range map[int]string{
		0: "", 1: "1 lost\n|unfinished", 2: "three\n|1 lost\n|unfinished", 3: "o\n|three\n|1 lost\n|unfinished",
		4: "w|o\n|three\n|1 lost\n|unfinished", 9: "one\n|t|w|o\n|three\n|1 lost\n|unfinished",
	} {
		if got := strings.Join(read(t, l, logstore.Query{Tail: n}), "|"); got != want {
			t.Errorf("tail %d: %q, want %q", n, got, want)
		}
	}
}

// A file that begins with the piece of a line that began long ago does not hide what was written since.
func TestPieceOfAnOldLine(t *testing.T) {
	s, l, _ := open(t, logstore.Limits{MaxSize: 200, MaxFiles: 9})
	for i := range uint64(30) {
		r := record(i+1, fmt.Sprintf("line %d\n", i+1))
		if i%2 == 1 {
			r.Time, r.Stream, r.Later, r.Partial = begin, tape.Stderr, i > 1, true
			r.Data = bytes.TrimSpace(r.Data)
		}
		write(t, l, r)
	}
	want := []string{"line 25\n", "line 27\n", "line 29\n"}
	since := logstore.Query{Tail: -1, Since: begin.Add(24 * time.Second)}
	same(t, read(t, l, since), want)
	if err := s.Release("c"); err != nil {
		t.Fatal(err)
	}
	l, err := s.Log("c", logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, read(t, l, since), want)
}

func TestTimes(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{})
	write(t, l, record(1, "1"), record(2, "2"), record(3, "3"))
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	same(t, read(t, l, logstore.Query{Tail: -1, Since: at(2)}), []string{"2", "3"})
	same(t, read(t, l, logstore.Query{Tail: -1, Until: at(2)}), []string{"1", "2"})
	same(t, read(t, l, logstore.Query{Tail: -1, UpTo: 2}), []string{"1", "2"})
	same(t, read(t, l, logstore.Query{Tail: 2, Until: at(2)}), []string{"2"})
}

// TestFollow reads beside a writer, over rotations, to the end.
// A client that goes away ends its loop and its context at once; nothing may be yielded after that.
func TestLeaveWithTheContext(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{})
	for i := range uint64(3) {
		if err := l.Append(record(i+1, "line\n")); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range l.Records(ctx, logstore.Query{Tail: -1, Follow: make(chan struct{})}) {
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		break
	}
}

func TestFollow(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{MaxSize: 20_000, MaxFiles: 3})
	const n = 5000
	write(t, l, record(1, "line 1\n"))
	ended := make(chan struct{})
	turns := make(chan struct{}, 200) // the writer stays near, so that no file goes unread
	go func() {                       // ends after n records
		defer close(ended)
		for i := uint64(2); i <= n; i++ {
			select {
			case turns <- struct{}{}:
			case <-t.Context().Done(): // the reader has failed
				return
			}
			if err := l.Append(record(i, fmt.Sprintf("line %d\n", i))); err != nil {
				t.Error(err)
			}
		}
	}()
	next := 1
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for r, err := range l.Records(ctx, logstore.Query{Tail: -1, Follow: ended}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("line %d\n", next); string(r.Data) != want {
			t.Fatalf("%q, want %q", r.Data, want)
		}
		if next > 1 {
			<-turns
		}
		next++
	}
	same(t, next-1, n)
}

func TestFollowEndsWithItsContext(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{})
	write(t, l, record(1, "1"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var last error
	for _, err := range l.Records(ctx, logstore.Query{Tail: -1, Follow: make(chan struct{})}) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("the last error is %v", last)
	}
}

func TestRemoveUnderAReader(t *testing.T) {
	s, l, dir := open(t, logstore.Limits{})
	write(t, l, record(1, "1"), record(2, "2"))
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, err := range l.Records(ctx, logstore.Query{Tail: -1, Follow: make(chan struct{})}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 1 {
			if err := s.Remove("c"); err != nil {
				t.Fatal(err)
			}
		}
	}
	same(t, seen, 2)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there still: %v", err)
	}
	if err := s.Remove("c"); err != nil {
		t.Error(err)
	}
	if err := l.Append(record(3, "3")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("append after the removal: %v", err)
	}
}

func TestSkippedRecordsLeaveAMark(t *testing.T) {
	_, l, _ := open(t, logstore.Limits{})
	write(t, l, record(1, "1\n"), record(12, "12\n"), record(5, "late\n"))
	got := read(t, l, all)
	if len(got) != 3 || got[0] != "1\n" || !strings.HasPrefix(got[1], "10 records are lost") || got[2] != "12\n" {
		t.Errorf("got %q", got)
	}
}

// TestFullDisk loses records, says so in the log, and goes on when there is room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	defer syscall.Unmount(dir, 0)
	s, err := logstore.Open(filepath.Join(dir, "logs"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, err := s.Log("c", logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, l, record(1, "before\n"))
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for i := range uint64(10) {
		l.Append(record(i+2, strings.Repeat("x", 4096)))
	}
	if err := l.Flush(); err == nil {
		t.Error("no error on a full disk")
	}
	same(t, l.Last(), uint64(11))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, l, record(12, "after\n"))
	got := read(t, l, all)
	if len(got) != 3 || got[0] != "before\n" || !strings.HasPrefix(got[1], "10 records are lost: ") || got[2] != "after\n" {
		t.Errorf("got %d records: %.60q", len(got), got)
	}
}

func TestParseLimits(t *testing.T) {
	for _, c := range []struct {
		driver, size, file string
		want               logstore.Limits
		bad                bool
	}{
		{size: "10k", want: logstore.Limits{MaxSize: 10_000, MaxFiles: 1}},
		{driver: "json-file", size: "1.5g", want: logstore.Limits{MaxSize: 1_500_000_000, MaxFiles: 1}},
		{driver: "local", size: "1m", want: logstore.Limits{MaxSize: 1_000_000}},
		{file: "3", want: logstore.Limits{MaxFiles: 3}},
		{},
		{size: "10m", file: "5", want: logstore.Limits{MaxSize: 10_000_000, MaxFiles: 5}},
		{size: "-1", want: logstore.Limits{MaxSize: -1}},
		{size: "ten", bad: true}, {size: "0", bad: true}, {file: "0", bad: true}, {file: "x", bad: true},
	} {
		options := map[string]string{}
		if c.size != "" {
			options["max-size"] = c.size
		}
		if c.file != "" {
			options["max-file"] = c.file
		}
		got, err := logstore.ParseLimits(c.driver, options, units.FromHumanSize)
		if (err != nil) != c.bad {
			t.Errorf("%v: %v", options, err)
		}
		if !c.bad {
			same(t, got, c.want)
		}
	}
}

// FuzzOpen opens files of any content: no panic, and what is appended after it is read back.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 18, 1, 2, 3, 4})
	f.Add(bytes.Repeat([]byte{255}, 100))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "c"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "c", "00000000000000000001.log"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := logstore.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l, err := s.Log("c", logstore.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if l.Last() == 1<<64-1 {
			return
		}
		write(t, l, record(l.Last()+1, "last\n"))
		got := read(t, l, logstore.Query{Tail: 1})
		if len(got) == 0 || got[len(got)-1] != "last\n" {
			t.Errorf("the last line is %q", got)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	s, err := logstore.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Log("c", logstore.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 99) + "\n")
	b.SetBytes(int64(len(line)))
	for i := range b.N {
		l.Append(tape.Record{Seq: uint64(i + 1), Time: begin, Stream: tape.Stdout, Data: line})
	}
}

func BenchmarkRead(b *testing.B) {
	s, err := logstore.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Log("c", logstore.Limits{MaxSize: -1})
	if err != nil {
		b.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 99) + "\n")
	b.SetBytes(int64(len(line)))
	for i := range b.N {
		l.Append(tape.Record{Seq: uint64(i + 1), Time: begin, Stream: tape.Stdout, Data: line})
	}
	b.ResetTimer()
	for _, err := range l.Records(b.Context(), all) {
		if err != nil {
			b.Fatal(err)
		}
	}
}
