package backendtest

import (
	"slices"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// pauseIt pauses a container.
func (s *session) pauseIt(id string) {
	s.Helper()
	if err := s.b.Containers.Pause(s.Context(), id); err != nil {
		s.Fatal(err)
	}
	s.same("status", s.find(id).State.Status, docker.StatePaused)
}

// counter is a container that writes lines for ever, and ends with 3 on SIGTERM and 4 on SIGUSR1.
func (s *session) counter(options ...option) string {
	s.Helper()
	id := s.create(script("trap 'exit 3' TERM; trap 'exit 4' USR1; trap : USR2; while :; do echo line; sleep 0.02; done"), options...)
	s.start(id)
	s.awaitLog(id, "line\nline\n")
	return id
}

func stopSignal(name string) option {
	return func(r *sockerless.CreateRequest) { r.Config.StopSignal = name }
}

var pausing = []test{
	{"nothing runs until it is unpaused", func(s *session) {
		id := s.counter()
		s.pauseIt(id)
		// What was written before the pause may still be on its way.
		var before int
		s.eventually("no more comes", func() bool {
			n := len(s.logs(id, everything))
			time.Sleep(200 * time.Millisecond)
			before = len(s.logs(id, everything))
			return n == before
		})
		c := s.find(id)
		if c.State.Pid == 0 || c.State.StartedAt.IsZero() {
			s.Errorf("state %+v", c.State)
		}
		s.same("listed", s.list(sockerless.ListOptions{Filters: sockerless.Filters{"id": {id}}}), []string{id})
		s.same("by status", s.list(sockerless.ListOptions{Filters: sockerless.Filters{"id": {id}, "status": {"paused"}}}), []string{id})
		if running := s.list(sockerless.ListOptions{Filters: sockerless.Filters{"id": {id}, "status": {"running"}}}); len(running) != 0 {
			s.Errorf("running: %q", running)
		}
		if _, err := s.b.Containers.Stat(s.Context(), id, "/etc/passwd"); err != nil {
			s.Errorf("files of a paused container: %v", err)
		}
		s.eventually("all its processes stand still", func() bool { // one stops as soon as it has a processor
			res, err := s.b.Containers.Top(s.Context(), id, "-eo pid,state")
			if err != nil || len(res.Processes) == 0 {
				s.Fatalf("processes of a paused container: %+v, %v", res, err)
			}
			return !slices.ContainsFunc(res.Processes, func(p []string) bool {
				return !strings.Contains("TDZ", p[1]) // D waits in vfork for a T
			})
		})
		if err := s.b.Containers.Unpause(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		s.same("status", s.find(id).State.Status, docker.StateRunning)
		s.eventually("it goes on", func() bool { return len(s.logs(id, everything)) > before })
	}},
	{"what a paused one cannot do", func(s *session) {
		id := s.counter(name(unique("paused")))
		s.pauseIt(id)
		s.refused(s.b.Containers.Pause(s.Context(), id), sockerless.ECONFLICT, "Container "+id+" is already paused")
		_, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}})
		s.refused(err, sockerless.ECONFLICT, "Container "+id+" is paused, unpause the container before exec")
		_, err = s.b.Containers.Attach(s.Context(), id, sockerless.AttachOptions{Stream: true, Stdout: true})
		s.refused(err, sockerless.ECONFLICT, "is paused, unpause the container before attach")
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.ECONFLICT, "cannot start a paused container, try unpause instead")
		s.refused(s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}), sockerless.ECONFLICT, "container is paused and must be unpaused first")
		if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{Force: true}); err != nil {
			s.Fatal(err)
		}
		_, err = s.b.Containers.Find(s.Context(), id)
		s.refused(err, sockerless.ENOTFOUND)
	}},
	{"an exec that was made before, and one that runs", func(s *session) {
		id := s.counter()
		made, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		runs, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: script("read x; echo got $x"), Stdin: true, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), runs, sockerless.ExecStartOptions{})
		if err != nil {
			s.Fatal(err)
		}
		s.pauseIt(id)
		if _, err := session.Write([]byte("it\n")); err != nil {
			s.Error(err)
		}
		_, err = s.b.Execs.Start(s.Context(), made, sockerless.ExecStartOptions{})
		s.refused(err, sockerless.ECONFLICT, "is paused, unpause the container before exec")
		if err := s.b.Containers.Unpause(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		stdout, _ := s.read(session, false)
		s.same("output", stdout, "got it\n")
		again, err := s.b.Execs.Start(s.Context(), made, sockerless.ExecStartOptions{})
		if err != nil {
			s.Fatal(err)
		}
		s.read(again, false)
	}},
	{"what is not paused", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		s.refused(s.b.Containers.Pause(s.Context(), id), sockerless.ECONFLICT, "Container "+id+" is not running")
		s.refused(s.b.Containers.Unpause(s.Context(), id), sockerless.ECONFLICT, "Container "+id+" is not running")
		s.start(id)
		s.refused(s.b.Containers.Unpause(s.Context(), id), sockerless.ECONFLICT, "Container "+id+" is not paused")
		s.refused(s.b.Containers.Pause(s.Context(), "nobody"), sockerless.ENOTFOUND, "No such container: nobody")
		s.refused(s.b.Containers.Unpause(s.Context(), "nobody"), sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"stop lets it go on, and end by itself", func(s *session) {
		id := s.counter()
		s.pauseIt(id)
		grace := patience
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{Grace: &grace}); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", s.find(id).State.ExitCode, 3)
	}},
	{"a signal that ends it lets it go on", func(s *session) {
		id := s.counter()
		exit := s.wait(id, docker.WaitConditionNotRunning)
		s.pauseIt(id)
		if err := s.b.Containers.Signal(s.Context(), id, "USR1"); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", exit().ExitCode, 4)
	}},
	{"of a container with a stop signal only that one does", func(s *session) {
		id := s.counter(stopSignal("SIGUSR1"))
		exit := s.wait(id, docker.WaitConditionNotRunning)
		s.pauseIt(id)
		if err := s.b.Containers.Signal(s.Context(), id, "TERM"); err != nil {
			s.Fatal(err)
		}
		s.same("status", s.find(id).State.Status, docker.StatePaused)
		if err := s.b.Containers.Unpause(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", exit().ExitCode, 3)
		id = s.counter(stopSignal("SIGUSR1"))
		exit = s.wait(id, docker.WaitConditionNotRunning)
		s.pauseIt(id)
		if err := s.b.Containers.Signal(s.Context(), id, "USR1"); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", exit().ExitCode, 4)
	}},
	{"kill ends it as it is, and it starts again", func(s *session) {
		id := s.counter()
		s.pauseIt(id)
		if err := s.b.Containers.Signal(s.Context(), id, "KILL"); err != nil {
			s.Fatal(err)
		}
		c := s.find(id)
		s.same("status", c.State.Status, docker.StateExited)
		s.same("exit code", c.State.ExitCode, 137)
		s.start(id)
		s.same("status", s.find(id).State.Status, docker.StateRunning)
	}},
	{"restart", func(s *session) {
		id := s.counter()
		s.pauseIt(id)
		if err := s.b.Containers.Restart(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.same("status", s.find(id).State.Status, docker.StateRunning)
	}},
	{"events", func(s *session) {
		since := time.Now()
		id := s.counter()
		for range 2 {
			s.pauseIt(id)
			if err := s.b.Containers.Unpause(s.Context(), id); err != nil {
				s.Fatal(err)
			}
		}
		if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{Force: true}); err != nil {
			s.Fatal(err)
		}
		opt := sockerless.EventOptions{Since: since, Filters: sockerless.Filters{"container": {id}}}
		got := strings.Join(s.tell(opt, events.ActionDestroy), " ")
		s.same("events", got, "create start pause unpause pause unpause kill die destroy")
	}},
}
