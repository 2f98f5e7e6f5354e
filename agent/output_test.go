package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockerless/sockerless/tape"
)

// newTestOutput is the output of a process without a terminal, and its client.
func newTestOutput(t *testing.T, connected *bool, others int) (*output, *attached) {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	platform := newTee(null, null)
	o := newOutput(newLogTape("/proc/nosuch"), platform)
	o.begin(false)
	c := newAttached(true, true, func() bool { return *connected })
	if _, err := o.join(c, false, 0); err != nil {
		t.Fatal(err)
	}
	for range others {
		other := newAttached(true, true, func() bool { return true })
		if _, err := o.join(other, false, 0); err != nil {
			t.Fatal(err)
		}
		go func() { // ends with finish
			for other.pop(nil) != nil {
			}
		}()
	}
	t.Cleanup(func() {
		o.finish()
		platform.close()
		null.Close()
	})
	return o, c
}

// send writes twice what a queue holds and returns how long that took.
func send(t *testing.T, o *output) time.Duration {
	begin := time.Now()
	buf := make([]byte, frameHeader+readSize)
	for range 2 * queueLimit / readSize {
		o.write(t.Context(), tape.Stdout, buf)
	}
	return time.Since(begin)
}

func TestWhomTheProcessWaitsFor(t *testing.T) {
	for _, test := range []struct {
		name      string
		connected bool
		others    int
		reads     time.Duration // when the client begins to read; 0: never
		wait      time.Duration
		lost      bool
	}{
		{"a client that is alone, for as long as it takes", true, 0, time.Hour, time.Hour, false},
		{"one whose link is cut, through most cuts", false, 0, 0, cutPatience, true},
		{"one whose link comes back in time", false, 0, time.Minute, time.Minute, false},
		{"one that does not read while others do, not for long", true, 2, 0, othersPatience, true},
		{"one of many that only paused", true, 2, 5 * time.Second, 5 * time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connected := test.connected
				o, c := newTestOutput(t, &connected, test.others)
				got := make(chan int)
				if test.reads > 0 {
					go func() { // ends with finish
						time.Sleep(test.reads)
						n := 0
						for b := c.pop(nil); b != nil; b = c.pop(nil) {
							n += len(b)
						}
						got <- n
					}()
				}
				if d := send(t, o); d < test.wait || d > test.wait+2*time.Second {
					t.Errorf("it waited %v, want %v", d, test.wait)
				}
				if c.abandoned() != test.lost {
					t.Errorf("given up: %v", c.abandoned())
				}
				o.finish()
				if test.reads > 0 {
					if n, want := <-got, 2*queueLimit+2*queueLimit/readSize*frameHeader; n != want {
						t.Errorf("%d bytes, want %d", n, want)
					}
				}
			})
		})
	}
}

// Who attaches behind a client that has stalled gets the output all the same, once that one has had its time; a client
// that is busy with what it missed is none that has stalled, and two of those are like one.
func TestWhoComesBehindAStalledClient(t *testing.T) {
	for _, test := range []struct {
		name   string
		reads  bool // the one that comes
		stdin  bool // it wants nothing but to write
		busy   bool // the one that is there takes its replay
		passes bool
	}{
		{"one that reads", true, false, false, true},
		{"one that stalls too", false, false, false, false},
		{"one that only writes", true, true, false, false},
		{"one that reads, behind one that reads something else", true, false, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connected := true
				o, stalled := newTestOutput(t, &connected, 0)
				written := make(chan time.Duration, 1)
				go func() { written <- send(t, o) }() // ends when it may, at the latest with exited
				time.Sleep(time.Hour)
				late := newAttached(!test.stdin, !test.stdin, func() bool { return true })
				if _, err := o.join(late, false, 0); err != nil {
					t.Fatal(err)
				}
				if test.reads {
					go func() { // ends with finish
						for late.pop(nil) != nil {
						}
					}()
				} else {
					for late.push(make([]byte, readSize), false) {
					}
				}
				if test.busy {
					go func() { // ends with the client
						for {
							select {
							case <-time.After(3 * time.Second):
								stalled.took(1)
							case <-stalled.gone:
								return
							}
						}
					}()
				}
				time.Sleep(time.Minute)
				select {
				case d := <-written:
					if !test.passes || d > time.Hour+othersPatience+2*time.Second || !stalled.abandoned() {
						t.Errorf("written after %v; given up: %v", d, stalled.abandoned())
					}
				default:
					if test.passes || stalled.abandoned() {
						t.Errorf("still waiting; given up: %v", stalled.abandoned())
					}
				}
				stalled.close()
				o.exited()
				synctest.Wait()
			})
		})
	}
}

// The exit of the process ends every wait, and what is left is queued all the same.
func TestTheExitDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connected := true
		o, c := newTestOutput(t, &connected, 0)
		go func() {
			time.Sleep(time.Minute)
			o.exited()
		}()
		if d := send(t, o); d != time.Minute {
			t.Errorf("it waited %v", d)
		}
		o.finish()
		n := 0
		for b := c.pop(nil); b != nil; b = c.pop(nil) {
			n += len(b)
		}
		if want := 2*queueLimit + 2*queueLimit/readSize*frameHeader; n != want {
			t.Errorf("%d bytes, want %d", n, want)
		}
	})
}

// A platform that does not take the log holds nobody up, and is told what it has missed.
func TestPlatformThatDoesNotRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	platform := newTee(w, w)
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	const lines = 3 << 10
	for range lines {
		platform.write(tape.Stdout, line)
	}
	read := make(chan []byte)
	go func() { // ends with the pipe
		all, _ := io.ReadAll(r)
		read <- all
	}()
	for deadline := time.Now().Add(time.Minute); platform.waiting() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	platform.write(tape.Stdout, []byte("after\n"))
	platform.close()
	w.Close()
	got := string(<-read)
	kept := strings.Count(got, string(line))
	want := fmt.Sprintf("sockerless-agent: %d bytes of output are missing here: the platform's log did not take them\nafter\n", (lines-kept)*len(line))
	if kept < 1000 || kept == lines || !strings.HasSuffix(got, want) {
		t.Errorf("%d lines, then %q; want %q", kept, got[kept*len(line):], want)
	}
}

// waiting reports whether something is.
func (t *tee) waiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size > 0
}
