package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/tape"
)

func openStdin(r *sockerless.CreateRequest) { r.Config.OpenStdin = true }

// begin starts an exec and returns its id and session.
func (s *session) begin(id string, config sockerless.ExecConfig) (string, sockerless.Session) {
	s.Helper()
	x, err := s.b.Execs.Create(s.Context(), id, config)
	if err != nil {
		s.Fatal(err)
	}
	session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Tty: config.Tty})
	if err != nil {
		s.Fatal(err)
	}
	s.bound(session)
	return x, session
}

// vanish does what a client's end does that is gone.
func vanish(session sockerless.Session) {
	if r, ok := session.(interface{ Reset() error }); ok {
		r.Reset() //nolint:errcheck // it is closed in any case
	}
	session.Close()
}

// undisturbed checks that another exec works as if it were alone.
func (s *session) undisturbed(id string) {
	s.Helper()
	stdout, stderr, code := s.exec(id, sockerless.ExecConfig{Cmd: script("echo out; echo err >&2; exit 7")})
	if stdout != "out\n" || stderr != "err\n" || code != 7 {
		s.Errorf("another exec: %q %q %d", stdout, stderr, code)
	}
}

// flood writes to a session until it takes no more, and returns how the writing has ended.
func flood(session sockerless.Session, size int) <-chan error {
	done := make(chan error, 1)
	go func() { // ends when all is taken, or the session is closed
		chunk := make([]byte, 1<<20)
		for n := 0; n < size; n += len(chunk) {
			if _, err := session.Write(chunk); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return done
}

var streaming = []test{
	{"clients that never read hold up nobody else", func(s *session) {
		id := s.create([]string{"cat", "/dev/zero"})
		stuck := s.attach(id, bothStreams)
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		follow, stop := iter.Pull2(s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{Stdout: true, Tail: -1, Follow: true}))
		defer stop()
		if _, err, ok := follow(); err != nil || !ok {
			s.Fatal(err)
		}
		for range 5 {
			s.begin(id, sockerless.ExecConfig{Cmd: []string{"cat", "/dev/zero"}, Stdout: true})
		}
		for range 3 {
			s.undisturbed(id)
		}
		if _, err := io.ReadFull(stuck, make([]byte, 100_000)); err != nil {
			s.Errorf("it reads at last: %v", err)
		}
		if err := s.b.Containers.Signal(s.Context(), id, "KILL"); err != nil {
			s.Fatal(err)
		}
		if u := exit(); u.ExitCode != 137 {
			s.Errorf("exit code %d", u.ExitCode)
		}
	}},
	{"who attaches behind a client that never reads", func(s *session) {
		id := s.create([]string{"cat", "/dev/zero"})
		s.attach(id, bothStreams)
		s.start(id)
		time.Sleep(500 * time.Millisecond) // until all between is full
		late := s.attach(id, bothStreams)
		read := make(chan error, 1)
		go func() { // ends with the session
			_, err := io.CopyN(io.Discard, late, 10<<20)
			read <- err
		}()
		select {
		case err := <-read:
			if err != nil {
				s.Error(err)
			}
		case <-time.After(patience):
			s.Error("it gets nothing")
		}
	}},
	{"a process that never reads its input", func(s *session) {
		id := s.create([]string{"sleep", "600"}, openStdin)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true})
		s.start(id)
		_, session := s.begin(id, sockerless.ExecConfig{Cmd: []string{"sleep", "600"}, Stdin: true, Stdout: true})
		const size = 100 << 20
		ends := map[sockerless.Session]<-chan error{attached: flood(attached, size), session: flood(session, size)}
		for range 3 {
			s.undisturbed(id)
		}
		for session, end := range ends {
			select {
			case err := <-end:
				s.Errorf("100 MB have gone somewhere: %v", err)
			default:
			}
			vanish(session)
			select {
			case err := <-end:
				if err == nil {
					s.Error("100 MB have gone somewhere")
				}
			case <-time.After(patience):
				s.Error("the writer is not let go")
			}
		}
		s.undisturbed(id)
	}},
	{"clients that vanish", func(s *session) {
		id := s.create(script("read go; i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done"), openStdin)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true})
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		// What reads has the end of its input, and what writes goes on.
		reader, session := s.begin(id, sockerless.ExecConfig{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
		vanish(session)
		s.eventually("the exec whose client is gone ends", func() bool {
			x, err := s.b.Execs.Find(s.Context(), reader)
			return err == nil && x.ExitCode != nil && *x.ExitCode == 0
		})
		ctx, leave := context.WithCancel(s.Context())
		follower := make(chan error, 1)
		go func() { // ends with ctx
			follower <- firstError(s.b.Containers.Logs(ctx, id, sockerless.LogOptions{Stdout: true, Tail: -1, Follow: true}))
		}()
		if _, err := io.WriteString(attached, "go\n"); err != nil {
			s.Fatal(err)
		}
		if _, err := io.ReadFull(attached, make([]byte, 20)); err != nil {
			s.Fatal(err)
		}
		vanish(attached)
		leave()
		if err := <-follower; err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("the follower: %v", err)
		}
		if u := exit(); u.ExitCode != 0 {
			s.Errorf("exit code %d", u.ExitCode)
		}
		if n := strings.Count(s.logs(id, everything), "\n"); n != 5000 {
			s.Errorf("%d lines of 5000", n)
		}
	}},
	{"100 execs at a time", func(s *session) {
		id := s.sleeper()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				in := strings.Repeat(fmt.Sprintf("%03d\n", i), 5000)
				x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{
					Cmd: script(fmt.Sprintf("cat; echo %d >&2; exit %d", i, i)), Stdin: true, Stdout: true, Stderr: true,
				})
				if err != nil {
					s.Error(err)
					return
				}
				session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
				if err != nil {
					s.Error(err)
					return
				}
				s.bound(session)
				go func() { // ends with the process, which reads it all
					if _, err := io.WriteString(session, in); err == nil {
						session.CloseWrite() //nolint:errcheck // what has come back tells
					}
				}()
				stdout, stderr, err := demux(session)
				session.Close()
				if err != nil || stdout != in || stderr != fmt.Sprintln(i) {
					s.Errorf("exec %d: %d bytes of %d, %q, %v", i, len(stdout), len(in), stderr, err)
				}
				if e, err := s.b.Execs.Find(s.Context(), x); err != nil || e.ExitCode == nil || *e.ExitCode != i {
					s.Errorf("exec %d: %+v, %v", i, e, err)
				}
			})
		}
		all.Wait()
	}},
	{"a follower that is slow, over rotations", func(s *session) {
		id := s.create(script("x=$(while :; do printf 0123456789; i=$((i+1)); [ $i = 100 ] && break; done); i=0; while [ $i -lt 30000 ]; do echo $x; i=$((i+1)); done"),
			func(r *sockerless.CreateRequest) {
				r.HostConfig.LogConfig.Config = map[string]string{"max-size": "100k", "max-file": "2"}
			})
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		next, gaps, seen, held := uint64(1), 0, 0, false
		for rec, err := range s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{Stdout: true, Stderr: true, Tail: -1, Follow: true}) {
			switch {
			case err != nil:
				s.Fatal(err)
			case rec.Stream == tape.Gap:
				gaps++
			case rec.Seq != next:
				s.Fatalf("record %d comes behind %d, and nothing says so", rec.Seq, next-1)
			default:
				seen++
			}
			next = rec.Seq + 1
			if !held {
				held = true
				exit() // 30 MB later, of which 200 kB are kept
			}
		}
		if next != 30001 || gaps == 0 || seen > 29000 {
			s.Errorf("it ends at %d, with %d gaps and %d records", next-1, gaps, seen)
		}
	}},
}
