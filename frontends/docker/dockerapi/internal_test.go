package dockerapi

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
)

func TestStatusLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		want  string
		state sockerless.State
	}{
		{"Created", sockerless.State{Status: container.StateCreated}},
		{"Up 5 seconds", sockerless.State{Status: container.StateRunning, StartedAt: ago(5 * time.Second)}},
		{"Up About an hour (health: starting)", sockerless.State{Status: container.StateRunning, StartedAt: ago(time.Hour), Health: &container.Health{Status: container.Starting}}},
		{"Up 3 weeks (unhealthy)", sockerless.State{Status: container.StateRunning, StartedAt: ago(21 * 24 * time.Hour), Health: &container.Health{Status: container.Unhealthy}}},
		{"Up 2 hours", sockerless.State{Status: container.StateRunning, StartedAt: ago(2 * time.Hour), Health: &container.Health{Status: container.NoHealthcheck}}},
		{"Up 2 minutes (Paused)", sockerless.State{Status: container.StatePaused, StartedAt: ago(2 * time.Minute)}},
		{"Restarting (1) 3 seconds ago", sockerless.State{Status: container.StateRestarting, ExitCode: 1, FinishedAt: ago(3 * time.Second)}},
		{"Exited (137) 2 minutes ago", sockerless.State{Status: container.StateExited, ExitCode: 137, FinishedAt: ago(2 * time.Minute)}},
		{"Removal In Progress", sockerless.State{Status: container.StateRemoving}},
		{"Dead", sockerless.State{Status: container.StateDead}},
	} {
		if got := statusLine(&c.state, now); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestInstant(t *testing.T) {
	for text, want := range map[string]time.Time{
		"1700000000":            time.Unix(1700000000, 0),
		"1700000000.5":          time.Unix(1700000000, 500000000),
		"1700000000.000000007":  time.Unix(1700000000, 7),
		"1700000000.0000000079": time.Unix(1700000000, 7),
		"-1":                    time.Unix(-1, 0),
	} {
		if got, err := parseInstant(text); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "1.x", "1.-5", "1.+5", ".", "2025-01-01T00:00:00Z", "10m"} {
		if got, err := parseInstant(text); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestPullRef(t *testing.T) {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for _, c := range []struct{ from, tag, want string }{
		{"alpine", "3", "alpine:3"},
		{"docker.io/library/alpine", "3", "alpine:3"},
		{"alpine:3", "", "alpine:3"},
		{"localhost:5000/a/b", "c", "localhost:5000/a/b:c"},
		{"alpine", digest, "alpine@" + digest},
		{"alpine@" + digest, "", "alpine@" + digest},
	} {
		if got, err := pullRef(c.from, c.tag); err != nil || got != c.want {
			t.Errorf("%s %s: %s, %v", c.from, c.tag, got, err)
		}
	}
	for _, c := range []struct{ from, tag string }{{"alpine", ""}, {"A", "1"}, {"alpine", "a b"}, {"alpine:1", "2"}, {"", "1"}, {"alpine", "sha256:1"}} {
		if got, err := pullRef(c.from, c.tag); err == nil {
			t.Errorf("%q %q: %s", c.from, c.tag, got)
		}
	}
}

// session is a process's output without a process.
type session struct{ io.Reader }

func (session) Write(b []byte) (int, error) { return len(b), nil }
func (session) CloseWrite() error           { return nil }
func (session) Close() error                { return nil }

// FuzzFraming: whatever the output and however it is read, framing and unframing undo each other.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("hello"), 3)
	f.Add([]byte{}, 1)
	f.Add(bytes.Repeat([]byte("x"), 70000), 70000)
	f.Fuzz(func(t *testing.T, output []byte, piece int) {
		if piece < 1 || piece > 1<<20 {
			return
		}
		framed := &framing{Session: session{bytes.NewReader(output)}}
		plain := &unframing{Session: session{framed}}
		var got bytes.Buffer
		buf := make([]byte, piece)
		for {
			n, err := plain.Read(buf)
			got.Write(buf[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got.Bytes(), output) {
			t.Errorf("%d bytes became %d", len(output), got.Len())
		}
		var demuxed bytes.Buffer
		if _, err := stdcopy.StdCopy(&demuxed, io.Discard, &framing{Session: session{bytes.NewReader(output)}}); err != nil || !bytes.Equal(demuxed.Bytes(), output) {
			t.Errorf("stdcopy: %d bytes of %d, %v", demuxed.Len(), len(output), err)
		}
	})
}

// FuzzUnframing: frames of any kind give what they hold, and their end is an end only between two of them.
func FuzzUnframing(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x03out\x02\x00\x00\x00\x00\x00\x00\x03err"), 2)
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\xff\x01\x02\x03\xff\xff\xff\xffcut"), 100)
	f.Fuzz(func(t *testing.T, frames []byte, piece int) {
		if piece < 1 || piece > 1<<20 {
			return
		}
		var want []byte
		whole := true
		for rest := frames; len(rest) > 0; {
			if len(rest) < frameHeader {
				whole = false
				break
			}
			size := int(binary.BigEndian.Uint32(rest[4:]))
			rest = rest[frameHeader:]
			if size > len(rest) {
				size, whole = len(rest), false
			}
			want, rest = append(want, rest[:size]...), rest[size:]
			if !whole {
				break
			}
		}
		u := &unframing{Session: session{bytes.NewReader(frames)}}
		var got bytes.Buffer
		buf := make([]byte, piece)
		for {
			n, err := u.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				if errors.Is(err, io.EOF) != whole {
					t.Errorf("whole: %v, and it ends with %v", whole, err)
				}
				break
			}
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%q, want %q", got.Bytes(), want)
		}
	})
}

// TestCutFrame: output that ends within a frame is not whole.
func TestCutFrame(t *testing.T) {
	for _, cut := range []string{"\x01\x00\x00", "\x01\x00\x00\x00\x00\x00\x00"} {
		u := &unframing{Session: session{bytes.NewReader([]byte(cut))}}
		if _, err := u.Read(make([]byte, 10)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", cut, err)
		}
	}
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{`{"label":{"a":true}}`, `{"label":["a"]}`, `[]`, `{"a":null}`, `null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFilters(text)
		if err != nil {
			if sockerless.ErrorCode(err) != sockerless.EINVALID {
				t.Errorf("%v", err)
			}
			return
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseFilters(string(b))
		if err != nil || len(got) > 0 && !cmp.Equal(got, again) {
			t.Errorf("%v became %v, %v", got, again, err)
		}
	})
}

func FuzzVersion(f *testing.F) {
	f.Add("/v1.51/info")
	f.Add("/v/x")
	f.Add("/v99999999999999999999.1/x")
	f.Fuzz(func(t *testing.T, path string) {
		rest, v, err := splitVersion(path)
		if err == nil && v.supported() == nil && rest != path && len(rest) >= len(path) {
			t.Errorf("%q became %q of %v", path, rest, v)
		}
	})
}

// TestTable: the table has nothing that Docker's newest specification does not list, but for what dockerd serves beside it.
func TestTable(t *testing.T) {
	specs, err := schematest.Open()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	spec, version, err := specs.Newest()
	if err != nil {
		t.Fatal(err)
	}
	unlisted := map[string]bool{
		"POST /grpc":         true, // buildx speaks to BuildKit over it
		"POST /build/cancel": true, // moby/moby daemon/server/router/build
	}
	for _, r := range table {
		if op := r.method + " " + r.path; !slices.Contains(spec.Operations(), op) && !unlisted[op] {
			t.Errorf("%s is no operation of %s", op, version)
		}
	}
}

// TestListHealth: since API 1.52 lists tell how a container that runs is, and "none" of all others.
func TestListHealth(t *testing.T) {
	sick := &container.Health{Status: container.Unhealthy, FailingStreak: 3}
	for _, c := range []struct {
		state sockerless.State
		want  container.HealthSummary
	}{
		{sockerless.State{Status: container.StateRunning, Health: sick}, container.HealthSummary{Status: container.Unhealthy, FailingStreak: 3}},
		{sockerless.State{Status: container.StateExited, Health: sick}, container.HealthSummary{Status: container.NoHealthcheck}},
		{sockerless.State{Status: container.StateRunning}, container.HealthSummary{Status: container.NoHealthcheck}},
	} {
		s := summarize(&sockerless.Container{Config: &container.Config{}, State: c.state}, time.Now(), version{1, 52})
		if *s.Health != c.want {
			t.Errorf("%+v is told as %+v, want %+v", c.state, *s.Health, c.want)
		}
	}
}
