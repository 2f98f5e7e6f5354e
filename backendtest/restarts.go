package backendtest

import (
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

func policy(name docker.RestartPolicyMode, most int) option {
	return func(r *sockerless.CreateRequest) {
		r.HostConfig.RestartPolicy = docker.RestartPolicy{Name: name, MaximumRetryCount: most}
	}
}

// untilRestarting waits until a container with the policy always, whose process ends at once, is in the pause before one of its
// restarts, or a later one.
func (s *session) untilRestarting(id string, count int) {
	s.Helper()
	s.eventually("it is restarting", func() bool {
		c := s.find(id)
		return c.State.Status == docker.StateRestarting && c.RestartCount >= count
	})
}

// inPause waits until such a container is in a pause in which much can be asked.
func (s *session) inPause(id string) {
	s.Helper()
	s.untilRestarting(id, 8) // 12.8 s
}

var restarting = []test{
	{"on-failure has a limit", func(s *session) {
		since := time.Now()
		id := s.create(script("echo run; exit 3"), policy("on-failure", 2))
		next := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		s.same("exit code of the first run", next().ExitCode, 3)
		s.eventually("it has ended", func() bool { return s.find(id).State.Status == docker.StateExited })
		c := s.find(id)
		s.same("restarts", c.RestartCount, 2)
		s.same("exit code", c.State.ExitCode, 3)
		s.same("log", s.logs(id, everything), strings.Repeat("run\n", 3))
		var told []string
		s.eventually("all is told", func() bool { // a state is seen a moment before its event
			told = s.tell(sockerless.EventOptions{Since: since, Until: time.Now(), Filters: sockerless.Filters{
				"container": {id}, "event": {"start", "die", "restart"},
			}}, "")
			return len(told) >= 6
		})
		s.same("events", told, []string{"start", "die", "start", "die", "start", "die"})
	}},
	{"on-failure ends with a success", func(s *session) {
		id := s.create([]string{"true"}, policy("on-failure", 0))
		next := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		s.same("exit code", next().ExitCode, 0)
		s.same("status", s.find(id).State.Status, docker.StateExited)
		s.same("restarts", s.find(id).RestartCount, 0)
	}},
	{"what is stopped stays so", func(s *session) {
		id := s.sleeper(policy("always", 0))
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.same("status", s.find(id).State.Status, docker.StateExited)
		s.same("restarts", s.find(id).RestartCount, 0)
	}},
	{"the pause can be stopped", func(s *session) {
		id := s.create(script("exit 4"), policy("unless-stopped", 0))
		s.start(id)
		s.inPause(id)
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.ENOTMODIFIED)
		_, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}})
		s.refused(err, sockerless.ECONFLICT, "is restarting, wait until the container is running")
		_, err = s.b.Containers.Attach(s.Context(), id, sockerless.AttachOptions{Stream: true, Stdout: true})
		s.refused(err, sockerless.ECONFLICT, "is restarting, wait until the container is running")
		s.refused(s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}), sockerless.ECONFLICT, "container is restarting")
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		c := s.find(id)
		s.same("status", c.State.Status, docker.StateExited)
		s.same("exit code", c.State.ExitCode, 4)
	}},
	{"update changes the policy", func(s *session) {
		id := s.create(script("exit 4"), policy("always", 0))
		s.start(id)
		s.untilRestarting(id, 5) // in a pause of 1.6 s, and if that is over: what runs again has the new policy, too
		warnings, err := s.b.Containers.Update(s.Context(), id, docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "no"}})
		if err != nil || len(warnings) > 0 {
			s.Errorf("update: %q, %v", warnings, err)
		}
		s.eventually("it has ended", func() bool { return s.find(id).State.Status == docker.StateExited })
		s.same("policy", s.find(id).HostConfig.RestartPolicy.Name, docker.RestartPolicyDisabled)
	}},
	{"update refuses by name", func(s *session) {
		id := s.create([]string{"true"})
		_, err := s.b.Containers.Update(s.Context(), id, docker.UpdateConfig{Resources: docker.Resources{DeviceCgroupRules: []string{"c"}}})
		s.refused(err, sockerless.EUNSUPPORTED, "--device-cgroup-rule")
		_, err = s.b.Containers.Update(s.Context(), id, docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "sometimes"}})
		s.refused(err, sockerless.EINVALID, "unknown policy 'sometimes'")
		rm := s.create([]string{"true"}, autoRemove)
		_, err = s.b.Containers.Update(s.Context(), rm, docker.UpdateConfig{RestartPolicy: docker.RestartPolicy{Name: "always"}})
		s.refused(err, sockerless.ECONFLICT, "Restart policy cannot be updated because AutoRemove is enabled for the container")
		_, err = s.b.Containers.Update(s.Context(), "nobody", docker.UpdateConfig{})
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
		_, err = s.b.Containers.Create(s.Context(), s.request([]string{"true"}, autoRemove, policy("always", 0)))
		s.refused(err, sockerless.EINVALID, "can't create 'AutoRemove' container with restart policy")
	}},
}
