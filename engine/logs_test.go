package engine_test

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/tape"
)

// logged reads a log in which every jump of the numbers has a Gap record before it. It returns the lines, and what the
// gaps say.
func (r *rig) logged(id string) (lines, gaps []string) {
	r.t.Helper()
	next := uint64(1)
	for rec, err := range r.b.Containers.Logs(r.t.Context(), id, sockerless.LogOptions{Stdout: true, Stderr: true, Tail: -1}) {
		switch {
		case err != nil:
			r.t.Fatal(err)
		case rec.Stream == tape.Gap:
			gaps = append(gaps, string(rec.Data))
		case rec.Seq != next:
			r.t.Fatalf("record %d comes behind %d, and nothing says so", rec.Seq, next-1)
		default:
			lines = append(lines, string(rec.Data))
		}
		next = rec.Seq + 1
	}
	return lines, gaps
}

// TestLostRecordsAreTold: a log may have holes, and never a silent one.
func TestLostRecordsAreTold(t *testing.T) {
	t.Parallel()
	// A file is the sign to go on, another one that all is written.
	stop := func(go_, done, what string) docker.Config {
		return sh("echo begin; seq 1 50000; echo one; while [ ! -e " + go_ + " ]; do sleep .05; done; " + what + "; echo end; touch " + done + "; sleep 600")
	}
	touch := func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	for _, test := range []struct {
		name, what string
		away       bool               // the rest is written while the backend is
		lose       func(string, *rig) // what happens to the container's log meanwhile
		gap        string
	}{
		{"the backend was away for longer than the agent's spool holds", "yes $(printf %02000d 0) | head -c 80000000; echo", true,
			func(string, *rig) {}, "records were dropped before they could be stored"},
		{"what was acknowledged is lost here", "true", false, func(dir string, r *rig) {
			if err := os.RemoveAll(dir); err != nil {
				r.t.Fatal(err)
			}
		}, "records"},
		{"a file is cut", "true", false, func(dir string, r *rig) {
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(files) == 0 {
				r.t.Fatal(files, err)
			}
			if err := os.Truncate(files[0], 10000); err != nil {
				r.t.Fatal(err)
			}
		}, "records were stored by the backend and are lost there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{reverse: true, engine: engine.Options{Linger: time.Minute}})
			dir := t.TempDir()
			goOn, done := filepath.Join(dir, "go"), filepath.Join(dir, "done")
			id := r.create(stop(goOn, done, test.what), func(req *sockerless.CreateRequest) {
				req.HostConfig.LogConfig.Config = map[string]string{"max-size": "-1"}
			})
			r.start(id)
			eventually(t, "the first part is stored", func() bool {
				lines, _ := r.logged(id)
				return len(lines) == 50002
			})
			time.Sleep(3 * time.Second) // until it is acknowledged too
			r.close()
			test.lose(filepath.Join(r.dir, "logs", id), r)
			if test.away {
				touch(t, goOn)
				eventually(t, "all is written", func() bool { return exists(done) })
			}
			if r.hub != nil {
				r.hub.Close()
				r.newHub()
			}
			r.open()
			touch(t, goOn)
			eventually(t, "the backend has its agent again", func() bool { return r.exec(id, "echo", "works") == "works\n" })
			for deadline := time.Now().Add(2 * time.Minute); !strings.HasSuffix(r.logs(id, sockerless.LogOptions{Tail: 1}), "end\n"); {
				if time.Now().After(deadline) {
					t.Fatal("the end is not stored")
				}
				time.Sleep(100 * time.Millisecond)
			}
			lines, gaps := r.logged(id)
			if len(gaps) != 1 || !strings.Contains(gaps[0], test.gap) || len(lines) == 0 || !strings.HasSuffix(lines[len(lines)-1], "end\n") {
				t.Errorf("%d lines, gaps %q", len(lines), gaps)
			}
		})
	}
}

// noArchive is a driver whose cloud keeps no output.
type noArchive struct{ driver.Driver }

func (n noArchive) Unwrap() driver.Driver { return n.Driver }

func (noArchive) Logs(context.Context, driver.Run, time.Time) iter.Seq2[driver.Line, error] {
	return func(func(driver.Line, error) bool) {}
}

// A backend on another machine has the store and not the data folder: what was there is not missing silently.
func TestAnotherDataFolder(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{wrap: func(d driver.Driver) driver.Driver { return noArchive{d} }})
	wrote := r.create(sh("echo hi"))
	end := r.wait(wrote, docker.WaitConditionNextExit)
	r.start(wrote)
	end()
	silent := r.create(sh("true"))
	copied := r.create(sh("cat /tmp/file"))
	if err := r.copyIn(copied, "/tmp", oneFile(t, "file", "hi")); err != nil {
		t.Fatal(err)
	}
	r.close()
	for _, dir := range []string{"logs", "copies"} {
		if err := os.RemoveAll(filepath.Join(r.dir, dir)); err != nil {
			t.Fatal(err)
		}
	}
	r.opt.Lost = time.Now()
	r.open()
	if lines, gaps := r.logged(wrote); len(lines) != 0 || len(gaps) != 1 || !strings.Contains(gaps[0], "in a data folder that the backend does not have any more") {
		t.Errorf("the log that is lost has lines %q and gaps %q", lines, gaps)
	}
	end = r.wait(silent, docker.WaitConditionNextExit)
	r.start(silent)
	end()
	if lines, gaps := r.logged(silent); len(lines)+len(gaps) != 0 {
		t.Errorf("a log of the new folder has lines %q and gaps %q", lines, gaps)
	}
	err := r.b.Containers.Start(t.Context(), copied)
	if err == nil || !strings.HasSuffix(err.Error(), "they were in a data folder that the backend does not have any more") {
		t.Errorf("the start of a container whose copied files are lost: %v", err)
	}
}
