package backendtest

import (
	"slices"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// check gives a container a health check by a script, in quick succession; two failures are enough.
func check(script string) option {
	return func(r *sockerless.CreateRequest) {
		r.Config.Healthcheck = &docker.HealthConfig{
			Test: []string{"CMD-SHELL", script}, Interval: 20 * time.Millisecond, Timeout: patience, Retries: 2,
		}
	}
}

// healthy waits until a container has a health as wanted.
func (s *session) healthy(id string, want func(*docker.Health) bool) *docker.Health {
	s.Helper()
	var h *docker.Health
	s.eventually("its health is as wanted", func() bool {
		h = s.find(id).State.Health
		return h != nil && want(h)
	})
	return h
}

func is(status docker.HealthStatus) func(*docker.Health) bool {
	return func(h *docker.Health) bool { return h.Status == status }
}

var health = []test{
	{"a container without a check has none", func(s *session) {
		id := s.sleeper()
		if h := s.find(id).State.Health; h != nil {
			s.Errorf("%+v", h)
		}
	}},
	{"from starting to healthy to unhealthy, and back", func(s *session) {
		since := time.Now()
		flag := "/tmp/" + unique("flag")
		id := s.create(script("exec sleep 1000"), check("echo looked; test ! -e "+flag))
		if h := s.find(id).State.Health; h != nil {
			s.Errorf("before the start: %+v", h)
		}
		s.start(id)
		if h := s.find(id).State.Health; h == nil || h.Log == nil {
			s.Errorf("after the start: %+v", h)
		}
		h := s.healthy(id, is(docker.Healthy))
		last := h.Log[len(h.Log)-1]
		if h.FailingStreak != 0 || last.ExitCode != 0 || last.Output != "looked\n" || last.Start.IsZero() || last.End.Before(last.Start) {
			s.Errorf("healthy: %+v, last %+v", h, last)
		}
		s.execute(id, "touch "+flag)
		h = s.healthy(id, is(docker.Unhealthy))
		if last = h.Log[len(h.Log)-1]; h.FailingStreak < 2 || last.ExitCode != 1 {
			s.Errorf("unhealthy: %+v, last %+v", h, last)
		}
		s.execute(id, "rm "+flag)
		s.healthy(id, is(docker.Healthy))
		h = s.healthy(id, func(h *docker.Health) bool { return len(h.Log) >= 5 })
		if len(h.Log) != 5 || !slices.IsSortedFunc(h.Log, func(a, b *docker.HealthcheckResult) int { return a.Start.Compare(b.Start) }) {
			s.Errorf("the log has %d results", len(h.Log))
		}

		var told []string
		s.eventually("all is told", func() bool { // a state is seen a moment before its event
			told = nil
			opt := sockerless.EventOptions{Since: since, Until: time.Now(), Filters: sockerless.Filters{"container": {id}}}
			probe := 0 // how far the events of a probe are
			for m := range s.events(s.Context(), opt) {
				command := "/bin/sh -c echo looked; test ! -e " + flag
				switch m.Action {
				case events.ActionExecCreate + ": " + events.Action(command), events.ActionExecStart + ": " + events.Action(command):
					probe++
				case events.ActionExecDie:
					if probe == 2 && m.Actor.Attributes["exitCode"] != "" {
						told = append(told, "probe")
					}
					probe = 0
				default:
					if strings.HasPrefix(string(m.Action), "health_status") {
						told = append(told, string(m.Action))
					}
				}
			}
			return slices.Contains(told, "probe") && len(slices.DeleteFunc(slices.Clone(told), func(t string) bool { return t == "probe" })) >= 3
		})
		told = slices.DeleteFunc(told, func(t string) bool { return t == "probe" })
		s.same("events", told, []string{"health_status: healthy", "health_status: unhealthy", "health_status: healthy"})
	}},
	{"the start period", func(s *session) {
		id := s.create(script("exec sleep 1000"), check("exit 1"), func(r *sockerless.CreateRequest) {
			r.Config.Healthcheck.StartPeriod, r.Config.Healthcheck.StartInterval = time.Hour, 10*time.Millisecond
			r.Config.Healthcheck.Interval = time.Hour
		})
		s.start(id)
		h := s.healthy(id, func(h *docker.Health) bool { return len(h.Log) == 5 })
		if h.Status != docker.Starting || h.FailingStreak != 0 {
			s.Errorf("%+v", h)
		}
	}},
	{"a probe that takes too long", func(s *session) {
		id := s.create(script("exec sleep 1000"), check("echo begun; sleep 1000"), func(r *sockerless.CreateRequest) {
			r.Config.Healthcheck.Timeout, r.Config.Healthcheck.Retries = 100*time.Millisecond, 1
		})
		s.start(id)
		h := s.healthy(id, is(docker.Unhealthy))
		if r := h.Log[0]; r.ExitCode != -1 || strings.TrimSuffix(r.Output, ": begun\n") != "Health check exceeded timeout (100ms)" {
			s.Errorf("%+v", r)
		}
	}},
	{"a command that is not there", func(s *session) {
		id := s.create(script("exec sleep 1000"), check(""), func(r *sockerless.CreateRequest) {
			r.Config.Healthcheck.Test = []string{"CMD", "nope"}
		})
		s.start(id)
		h := s.healthy(id, is(docker.Unhealthy))
		s.same("exit code", h.Log[0].ExitCode, -1)
		s.same("output", h.Log[0].Output,
			`OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`)
	}},
	{"much output", func(s *session) {
		id := s.create(script("exec sleep 1000"), check("while echo 0123456; do :; done | head -c 10000"))
		s.start(id)
		h := s.healthy(id, is(docker.Healthy))
		s.same("output", h.Log[0].Output, strings.Repeat("0123456\n", 512)+"...")
	}},
	{"a probe is a process of the container", func(s *session) {
		dir := "/tmp/" + unique("dir")
		id := s.create(script("exec sleep 1000"), env("MINE=x"), check("echo $MINE $FROM_IMAGE $HOSTNAME; pwd"), func(r *sockerless.CreateRequest) {
			r.Config.WorkingDir = dir
		})
		s.start(id)
		h := s.healthy(id, is(docker.Healthy))
		s.same("output", h.Log[0].Output, "x yes "+id[:12]+"\n"+dir+"\n")
		s.execute(id, "rmdir "+dir)
	}},
	{"an end makes it unhealthy, a start begins anew with the log", func(s *session) {
		id := s.create(script("trap 'exit 0' TERM; while :; do sleep 0.05; done"), check("true"))
		s.start(id)
		s.healthy(id, func(h *docker.Health) bool { return h.Status == docker.Healthy && len(h.Log) == 5 })
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		before := s.find(id).State.Health
		if before == nil || before.Status != docker.Unhealthy || len(before.Log) != 5 {
			s.Fatalf("after the end: %+v", before)
		}
		s.start(id)
		h := s.find(id).State.Health
		if h == nil || h.FailingStreak != 0 || len(h.Log) != 5 {
			s.Fatalf("after the second start: %+v", h)
		}
		s.healthy(id, is(docker.Healthy))
		s.healthy(id, func(h *docker.Health) bool { return h.Log[0].Start.After(before.Log[4].Start) })
	}},
	{"a restart by the policy begins anew", func(s *session) {
		file := "/tmp/" + unique("first")
		id := s.create(script("test -e "+file+" && exec sleep 1000; touch "+file+"; while test ! -e "+file+"2; do sleep 0.02; done; exit 1"),
			check("test ! -e "+file+"2"), func(r *sockerless.CreateRequest) {
				r.HostConfig.RestartPolicy = docker.RestartPolicy{Name: docker.RestartPolicyAlways}
			})
		s.start(id)
		s.healthy(id, is(docker.Healthy))
		first := s.find(id).State.StartedAt
		s.execute(id, "touch "+file+"2")
		s.eventually("it runs again", func() bool {
			st := s.find(id).State
			return st.Status == docker.StateRunning && st.StartedAt.After(first)
		})
		s.healthy(id, is(docker.Unhealthy)) // of the new process, for the file is there still
		s.execute(id, "rm "+file+"2")
		s.healthy(id, is(docker.Healthy))
	}},
	{"a pause makes it unhealthy and is no event, what follows is", func(s *session) {
		since := time.Now()
		id := s.create(script("exec sleep 1000"), check("true"))
		s.start(id)
		s.healthy(id, is(docker.Healthy))
		if err := s.b.Containers.Pause(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		h := s.healthy(id, is(docker.Unhealthy))
		time.Sleep(100 * time.Millisecond) // for probes that should not be
		if now := s.find(id).State.Health; now.FailingStreak != 0 || now.Status != docker.Unhealthy || now.Log[len(now.Log)-1].End != h.Log[len(h.Log)-1].End {
			s.Errorf("paused: %+v, later %+v", h, now)
		}
		if err := s.b.Containers.Unpause(s.Context(), id); err != nil {
			s.Fatal(err)
		}
		s.healthy(id, is(docker.Healthy))
		s.eventually("the changes are told", func() bool {
			var told []string
			opt := sockerless.EventOptions{Since: since, Until: time.Now(), Filters: sockerless.Filters{"container": {id}}}
			for m := range s.events(s.Context(), opt) {
				if !strings.HasPrefix(string(m.Action), "exec_") {
					told = append(told, string(m.Action))
				}
			}
			return strings.Join(told, ", ") == "create, start, health_status: healthy, pause, unpause, health_status: healthy"
		})
	}},
	{"switched off", func(s *session) {
		id := s.create(script("trap 'exit 0' TERM; while :; do sleep 0.05; done"), func(r *sockerless.CreateRequest) {
			r.Config.Healthcheck = &docker.HealthConfig{Test: []string{"NONE"}}
		})
		s.start(id)
		if h := s.find(id).State.Health; h != nil {
			s.Errorf("%+v", h)
		}
	}},
	{"in a list", func(s *session) {
		l := unique("health")
		id := s.create(script("exec sleep 1000"), label(l, "1"), check("exit 1"))
		s.start(id)
		s.healthy(id, is(docker.Unhealthy))
		for _, tc := range []struct {
			status string
			want   int
		}{{"unhealthy", 1}, {"healthy", 0}, {"none", 0}} {
			n := 0
			for _, err := range s.b.Containers.List(s.Context(), sockerless.ListOptions{Filters: sockerless.Filters{"label": {l}, "health": {tc.status}}}) {
				if err != nil {
					s.Fatal(err)
				}
				n++
			}
			s.same(tc.status, n, tc.want)
		}
	}},
	{"what Docker refuses", func(s *session) {
		_, err := s.b.Containers.Create(s.Context(), s.request(script("true"), check("true"), func(r *sockerless.CreateRequest) {
			r.Config.Healthcheck.Interval = time.Microsecond
		}))
		s.refused(err, sockerless.EINVALID, "Interval in Healthcheck cannot be less than 1ms")
	}},
}

// execute runs a script in a container to its end.
func (s *session) execute(id, text string) {
	s.Helper()
	x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: script(text), Stdout: true, Stderr: true})
	if err != nil {
		s.Fatal(err)
	}
	session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
	if err != nil {
		s.Fatal(err)
	}
	if stdout, stderr := s.read(session, false); stdout+stderr != "" {
		s.Errorf("%s says %q %q", text, stdout, stderr)
	}
}
