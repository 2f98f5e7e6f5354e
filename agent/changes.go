package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// clocks are the times that tell what has changed since the agent began: the kernel stamps changes of files with the one,
// which may be set, and the other goes on.
type clocks struct{ wall, boot time.Duration }

func readClocks() clocks {
	// The coarse one is what files are stamped with: never later than it.
	return clocks{clock(unix.CLOCK_REALTIME_COARSE), clock(unix.CLOCK_BOOTTIME)}
}

func clock(id int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil { // every Linux has these two
		return 0
	}
	return time.Duration(t.Nano())
}

// since is the earliest stamp that a change after c can have. Where the clock was set back, it is that much earlier.
func (c clocks) since() time.Duration {
	now := readClocks()
	return c.wall + min(0, (now.wall-now.boot)-(c.wall-c.boot))
}

// changes yields what was touched since the agent began, and what else is in directories that were: a file that has gone
// has touched its directory. With All it is everything below the path.
func (a *Agent) changes(ctx context.Context, req protocol.ChangesRequest, _ io.Reader) iter.Seq2[protocol.Change, error] {
	return func(yield func(protocol.Change, error) bool) {
		done := a.busy()
		defer done()
		if err := checkPath(string(req.Path)); err != nil {
			yield(protocol.Change{}, err)
			return
		}
		t, err := openTop(string(req.Path))
		if err != nil {
			yield(protocol.Change{}, err)
			return
		}
		defer t.close()
		s := &search{walk: a.walk(t, true), all: req.All, since: a.began.since(), yield: yield}
		err = s.walk.visit(t, "", func(at int, f *file) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return s.add(at, f)
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(protocol.Change{}, err)
		}
	}
}

// search is one look for changes.
type search struct {
	walk  *walk
	all   bool
	since time.Duration
	yield func(protocol.Change, error) bool

	open []string // the directories above, by rel
	hot  []bool   // whether they were touched
}

var errEnough = errors.New("the asker has left")

func (s *search) add(at int, f *file) error {
	for n := len(s.open); n > 0 && !within(f.rel, s.open[n-1]); n = len(s.open) {
		s.open, s.hot = s.open[:n-1], s.hot[:n-1]
	}
	touched := !f.hidden && f.touchedSince(s.since)
	above := s.all || len(s.hot) > 0 && s.hot[len(s.hot)-1]
	if touched || above {
		ok := s.yield(protocol.Change{
			Path: wire.Bytes(f.rel), Mode: uint32(fileMode(f.mode)), Uid: int(f.uid), Gid: int(f.gid), ModTime: f.modified(),
			Touched: touched, Mounted: f.hidden,
		}, nil)
		if !ok {
			return errEnough
		}
	}
	if !f.isDir() || f.hidden {
		return nil
	}
	s.open, s.hot = append(s.open, f.rel), append(s.hot, touched)
	return s.closed(at, f)
}

func (f *file) touchedSince(since time.Duration) bool {
	return time.Duration(f.ctime.Sec)*time.Second+time.Duration(f.ctime.Nsec) >= since
}

// manyNames is of how many files with several names a size remembers that they were counted; of others each name counts.
const manyNames = 1 << 16

// size adds up the files that were touched since the agent began.
func (a *Agent) size(ctx context.Context, _ struct{}) (out protocol.SizeResult, err error) {
	done := a.busy()
	defer done()
	t, err := openTop("/")
	if err != nil {
		return out, err
	}
	defer t.close()
	s := &search{walk: a.walk(t, true), since: a.began.since()}
	counted := map[inode]bool{}
	err = s.walk.visit(t, "", func(at int, f *file) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case f.hidden:
			return nil
		case f.isDir():
			return s.closed(at, f)
		case !f.touchedSince(s.since) || counted[f.inode]:
			return nil
		case f.nlink > 1 && len(counted) < manyNames:
			counted[f.inode] = true
		}
		out.Bytes += f.size
		return nil
	})
	return out, err
}

// closed leaves out a directory that this user can neither list nor change; one that it can only change is refused.
func (s *search) closed(at int, f *file) error {
	err := unix.Faccessat2(at, f.base, unix.R_OK|unix.X_OK, unix.AT_EACCESS)
	if !errors.Is(err, unix.EACCES) {
		return nil
	}
	if unix.Faccessat2(at, f.base, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
		return fs.SkipDir
	}
	return wire.Errorf(protocol.CodePermission, "cannot read %s: the container runs as uid %d, which may only write there",
		s.walk.path(f.rel), os.Geteuid())
}

// within says whether a path is below a directory; everything is below "".
func within(rel, dir string) bool {
	return dir == "" || len(rel) > len(dir) && rel[:len(dir)] == dir && rel[len(dir)] == '/'
}
