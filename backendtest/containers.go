package backendtest

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
)

var creating = []test{
	{"a container is created and not started", func(s *session) {
		id := s.create(script("true"))
		c := s.find(id)
		s.same("status", c.State.Status, docker.StateCreated)
		if len(id) != 64 || c.ID != id || c.Name == "" || c.Created.IsZero() || c.Image == "" || c.State.Pid != 0 {
			s.Errorf("created: %+v", c)
		}
		s.same("hostname", c.Config.Hostname, id[:12])
	}},
	{"the image's config is merged in", func(s *session) {
		id := s.create(nil, env("MINE=1"), label("mine", "1"))
		c := s.find(id)
		if !slices.Contains(c.Config.Env, "MINE=1") || !slices.Contains(c.Config.Env, "FROM_IMAGE=yes") {
			s.Errorf("env: %q", c.Config.Env)
		}
		if len(c.Config.Cmd) == 0 && len(c.Config.Entrypoint) == 0 {
			s.Error("no command from the image")
		}
		over := s.find(s.create(script("true"), env("FROM_IMAGE=no")))
		if !slices.Contains(over.Config.Env, "FROM_IMAGE=no") || slices.Contains(over.Config.Env, "FROM_IMAGE=yes") {
			s.Errorf("env: %q", over.Config.Env)
		}
	}},
	{"an entrypoint makes the image's command meaningless", func(s *session) {
		id := s.create(nil, func(r *sockerless.CreateRequest) { r.Config.Entrypoint = []string{"echo"} })
		if c := s.find(id); len(c.Config.Cmd) != 0 {
			s.Errorf("command: %q", c.Config.Cmd)
		}
	}},
	{"unknown fields survive", func(s *session) {
		raw := json.RawMessage(`{"Image":"x","FromTheFuture":[1,2]}`)
		id := s.create(script("true"), func(r *sockerless.CreateRequest) { r.Raw = raw })
		if c := s.find(id); !strings.Contains(string(c.Raw), "FromTheFuture") {
			s.Errorf("raw: %s", c.Raw)
		}
	}},
	{"an image that was never pulled", func(s *session) {
		req := s.request(nil)
		req.Config.Image = "never-pulled:1"
		_, err := s.b.Containers.Create(s.Context(), req)
		s.refused(err, sockerless.ENOTFOUND, "No such image: ", "never-pulled:1")
	}},
	{"a refused option names itself and leaves nothing", func(s *session) {
		n := unique("refused")
		_, err := s.b.Containers.Create(s.Context(), s.request(script("true"), name(n),
			func(r *sockerless.CreateRequest) { r.HostConfig.Privileged = true }))
		s.refused(err, sockerless.EUNSUPPORTED, "--privileged")
		_, err = s.b.Containers.Find(s.Context(), n)
		s.refused(err, sockerless.ENOTFOUND)
	}},
	{"no command", func(s *session) {
		_, err := s.b.Containers.Create(s.Context(), s.request(nil,
			func(r *sockerless.CreateRequest) { r.Config.Entrypoint = []string{""} }))
		// The image has a command, so taking away an entrypoint that it has not changes nothing.
		if err != nil {
			s.refused(err, sockerless.EINVALID, "no command specified")
		}
		_, err = s.b.Containers.Create(s.Context(), sockerless.CreateRequest{})
		s.refused(err, sockerless.EINVALID)
	}},
	{"a name is taken once", func(s *session) {
		n := unique("taken")
		id := s.create(script("true"), name(n))
		_, err := s.b.Containers.Create(s.Context(), s.request(script("true"), name("/"+n)))
		s.refused(err, sockerless.ECONFLICT, `Conflict. The container name "/`+n+`" is already in use by container "`+id+
			`". You have to remove (or rename) that container to be able to reuse that name.`)
	}},
	{"names have rules", func(s *session) {
		for _, bad := range []string{"a", "-a", "a b", "ä1", "a/b", "//ab"} {
			_, err := s.b.Containers.Create(s.Context(), s.request(script("true"), name(bad)))
			s.refused(err, sockerless.EINVALID, "Invalid container name ("+bad+"), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
		}
	}},
	{"a reference is an id, the begin of one, or a name", func(s *session) {
		n := unique("found")
		id := s.create(script("true"), name(n))
		for _, ref := range []string{id, id[:12], n, "/" + n} {
			s.same(ref, s.find(ref).ID, id)
		}
		for _, ref := range []string{"nobody", id + "0", "/"} {
			_, err := s.b.Containers.Find(s.Context(), ref)
			s.refused(err, sockerless.ENOTFOUND, "No such container: "+ref)
		}
	}},
	{"a begin of several ids means none", func(s *session) {
		digits := map[byte]bool{}
		for range 17 {
			id := s.create(script("true"))
			if digits[id[0]] {
				_, err := s.b.Containers.Find(s.Context(), id[:1])
				s.refused(err, sockerless.EINVALID, "multiple IDs found with provided prefix: "+id[:1])
				return
			}
			digits[id[0]] = true
		}
		s.Error("17 ids begin with 17 different digits out of 16")
	}},
	{"what is returned is a copy", func(s *session) {
		id := s.create(script("true"), label("k", "v"))
		c := s.find(id)
		c.Config.Labels["k"], c.Name, c.Config.Cmd[0] = "changed", "changed", "changed"
		if again := s.find(id); again.Config.Labels["k"] != "v" || again.Name == "changed" || again.Config.Cmd[0] != "sh" {
			s.Errorf("changed from outside: %+v", again)
		}
	}},
	{"rename", func(s *session) {
		old, renamed, taken := unique("old"), unique("new"), unique("taken")
		id := s.create(script("true"), name(old))
		s.create(script("true"), name(taken))
		if err := s.b.Containers.Rename(s.Context(), old, renamed); err != nil {
			s.Fatal(err)
		}
		s.same("name", s.find(id).Name, renamed)
		_, err := s.b.Containers.Find(s.Context(), old)
		s.refused(err, sockerless.ENOTFOUND)
		s.refused(s.b.Containers.Rename(s.Context(), id, taken), sockerless.ECONFLICT, "is already in use by container")
		s.refused(s.b.Containers.Rename(s.Context(), id, "b ad"), sockerless.EINVALID, "Invalid container name (/b ad)")
		s.refused(s.b.Containers.Rename(s.Context(), id, ""), sockerless.EINVALID)
		s.create(script("true"), name(old)) // free again
	}},
}

var listing = []test{
	{"running ones, or all, the newest first", func(s *session) {
		l := unique("list")
		first := s.create(script("true"), label(l, "1"))
		second := s.sleeper(label(l, "2"))
		mine := sockerless.Filters{"label": {l}}
		s.same("running", s.list(sockerless.ListOptions{Filters: mine}), []string{second})
		s.same("all", s.list(sockerless.ListOptions{All: true, Filters: mine}), []string{second, first})
		s.same("the last one", s.list(sockerless.ListOptions{Limit: 1, Filters: mine}), []string{second})
	}},
	{"filters", func(s *session) {
		l, n := unique("filter"), unique("web")
		a := s.create(script("exit 7"), label(l, "a"), name(n))
		b := s.create(script("true"), label(l, "b"), func(r *sockerless.CreateRequest) { r.HostConfig.Binds = nil })
		exit := s.wait(a, docker.WaitConditionNextExit)
		s.start(a)
		exit()
		for _, c := range []struct {
			name   string
			filter sockerless.Filters
			want   []string
		}{
			{"label with value", sockerless.Filters{"label": {l + "=a"}}, []string{a}},
			{"two labels, both needed", sockerless.Filters{"label": {l, l + "=b"}}, []string{b}},
			{"name", sockerless.Filters{"name": {n}}, []string{a}},
			{"name as an expression", sockerless.Filters{"name": {"^/?" + n[:len(n)-1] + ".$"}}, []string{a}},
			{"id", sockerless.Filters{"id": {b[:20]}}, []string{b}},
			{"exit code", sockerless.Filters{"exited": {"7"}, "label": {l}}, []string{a}},
			{"another exit code", sockerless.Filters{"exited": {"0"}, "label": {l}}, nil},
			{"status", sockerless.Filters{"status": {"created"}, "label": {l}}, []string{b}},
			{"two statuses, one needed", sockerless.Filters{"status": {"created", "exited"}, "label": {l}}, []string{b, a}},
			{"before", sockerless.Filters{"before": {b}, "label": {l}}, []string{a}},
			{"since", sockerless.Filters{"since": {a}, "label": {l}}, []string{b}},
			{"ancestor", sockerless.Filters{"ancestor": {s.Image}, "label": {l}}, []string{b, a}},
			{"unknown ancestor", sockerless.Filters{"ancestor": {"nobody:1"}, "label": {l}}, nil},
			{"health", sockerless.Filters{"health": {"none"}, "label": {l}}, []string{b, a}},
			{"not a task", sockerless.Filters{"is-task": {"false"}, "label": {l}}, []string{b, a}},
			{"a task", sockerless.Filters{"is-task": {"true"}, "label": {l}}, nil},
			{"network", sockerless.Filters{"network": {"bridge"}, "label": {l}}, []string{b, a}},
			{"volume", sockerless.Filters{"volume": {"nobody"}, "label": {l}}, nil},
			{"publish", sockerless.Filters{"publish": {"80"}, "label": {l}}, nil},
			{"expose", sockerless.Filters{"expose": {"80/tcp"}, "label": {l}}, nil},
		} {
			s.Run(c.name, func(t *testing.T) {
				sub := *s
				sub.T = t
				sub.same("ids", sub.list(sockerless.ListOptions{All: true, Filters: c.filter}), c.want)
			})
		}
	}},
	{"what is no filter", func(s *session) {
		for _, f := range []sockerless.Filters{
			{"nonsense": {"1"}}, {"status": {"asleep"}}, {"exited": {"x"}}, {"health": {"so-so"}}, {"is-task": {"maybe"}}, {"publish": {"x"}},
		} {
			s.refused(firstError(s.b.Containers.List(s.Context(), sockerless.ListOptions{Filters: f})), sockerless.EINVALID, "invalid filter '")
		}
		err := firstError(s.b.Containers.List(s.Context(), sockerless.ListOptions{Filters: sockerless.Filters{"before": {"nobody"}}}))
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"with what a list shows, and whole in an inspect", func(s *session) {
		id := s.create(script("true"), func(r *sockerless.CreateRequest) {
			r.Raw = json.RawMessage(`{"FromTheFuture":1}`)
			r.HostConfig.Annotations = map[string]string{"a": "b"}
			r.HostConfig.RestartPolicy.MaximumRetryCount = 3
			r.HostConfig.RestartPolicy.Name = docker.RestartPolicyOnFailure
			r.Config.Labels = map[string]string{"team": "a"}
			r.Config.Env = []string{"A=1"}
			r.Config.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}}
		})
		whole := s.find(id)
		want := &sockerless.Container{
			ID: id, Name: whole.Name, Created: whole.Created, Image: whole.Image, NetworkingConfig: whole.NetworkingConfig, State: whole.State,
			Config: &docker.Config{
				Image: whole.Config.Image, Entrypoint: whole.Config.Entrypoint, Cmd: whole.Config.Cmd,
				Labels: whole.Config.Labels, ExposedPorts: whole.Config.ExposedPorts,
			},
			HostConfig: &docker.HostConfig{NetworkMode: whole.HostConfig.NetworkMode, Annotations: whole.HostConfig.Annotations},
		}
		found := 0
		for c, err := range s.b.Containers.List(s.Context(), sockerless.ListOptions{All: true, Filters: sockerless.Filters{"id": {id}}}) {
			if err != nil {
				s.Fatal(err)
			}
			found++
			if !reflect.DeepEqual(c, want) {
				s.Errorf("a list has %+v, want %+v", c, want)
			}
		}
		s.same("listed", found, 1)
		s.same("the retries of the restart policy", whole.HostConfig.RestartPolicy.MaximumRetryCount, 3)
		s.same("an annotation", whole.HostConfig.Annotations["a"], "b")
		s.same("a variable", slices.Contains(whole.Config.Env, "A=1"), true)
	}},
	{"of images, with how many containers are made of each", func(s *session) {
		image := s.find(s.create(script("true"))).Image
		found := false
		for img, err := range s.b.Images.List(s.Context(), sockerless.ImageListOptions{All: true}) {
			if err != nil {
				s.Fatal(err)
			}
			found = found || img.ID == image && img.Containers > 0
		}
		s.same("a container is made of the image of one", found, true)
	}},
	{"a loop may be left", func(s *session) {
		s.create(script("true"))
		for _, err := range s.b.Containers.List(s.Context(), sockerless.ListOptions{All: true}) {
			if err != nil {
				s.Error(err)
			}
			break
		}
	}},
}

var stopping = []test{
	{"by the stop signal, with the process's own exit code", func(s *session) {
		id := s.sleeper()
		exit := s.wait(id, docker.WaitConditionNotRunning)
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", exit().ExitCode, 3)
		s.same("status", s.find(id).State.Status, docker.StateExited)
		s.refused(s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}), sockerless.ENOTMODIFIED)
	}},
	{"killed after the grace", func(s *session) {
		since := time.Now()
		id := s.create(script("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
		s.start(id)
		s.awaitLog(id, "ready")
		grace := 300 * time.Millisecond
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{Grace: &grace}); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", s.find(id).State.ExitCode, 137)
		opt := sockerless.EventOptions{Since: since, Filters: sockerless.Filters{"container": {id}}}
		s.same("events", strings.Join(s.tell(opt, events.ActionStop), " "), "create start kill kill die stop")
	}},
	{"by the container's own stop signal", func(s *session) {
		id := s.create(script("trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done"),
			func(r *sockerless.CreateRequest) { r.Config.StopSignal = "SIGUSR1" })
		s.start(id)
		s.awaitLog(id, "ready")
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", s.find(id).State.ExitCode, 4)
	}},
	{"kill", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		if err := s.b.Containers.Signal(s.Context(), id, ""); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", exit().ExitCode, 137)
		s.refused(s.b.Containers.Signal(s.Context(), id, "TERM"), sockerless.ECONFLICT, id+" is not running")
	}},
	{"signals by name and number", func(s *session) {
		id := s.create(script("trap 'echo usr1' USR1; trap 'echo usr2' USR2; echo ready; while :; do sleep 0.05; done"))
		s.start(id)
		s.awaitLog(id, "ready")
		for _, c := range []struct{ signal, log string }{
			{"USR1", "ready\nusr1\n"}, {"SIGUSR2", "ready\nusr1\nusr2\n"}, {"10", "ready\nusr1\nusr2\nusr1\n"},
		} {
			if err := s.b.Containers.Signal(s.Context(), id, c.signal); err != nil {
				s.Fatal(err)
			}
			s.awaitLog(id, c.log)
		}
		s.refused(s.b.Containers.Signal(s.Context(), id, "NONSENSE"), sockerless.EINVALID, "Invalid signal: NONSENSE")
	}},
	{"start of a running one, stop of a created one", func(s *session) {
		id := s.sleeper()
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.ENOTMODIFIED)
		created := s.create(script("true"))
		s.refused(s.b.Containers.Stop(s.Context(), created, sockerless.StopOptions{}), sockerless.ENOTMODIFIED)
	}},
	{"restart keeps the files while the container lingers", func(s *session) {
		if !s.Linger {
			s.Skip("this backend's containers do not linger")
		}
		path := "/tmp/" + unique("kept")
		id := s.create(script("trap 'exit 0' TERM; if [ -e " + path + " ]; then echo again; else : > " + path +
			"; echo once; fi; while :; do sleep 0.05; done"))
		s.start(id)
		s.awaitLog(id, "once")
		if err := s.b.Containers.Restart(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.awaitLog(id, "again")
		c := s.find(id)
		s.same("status", c.State.Status, docker.StateRunning)
		s.same("incarnation", c.Run.Incarnation, 2)
		s.exec(id, sockerless.ExecConfig{Cmd: []string{"rm", "-f", path}})
	}},
	{"restart of a created one starts it", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		if err := s.b.Containers.Restart(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		s.same("status", s.find(id).State.Status, docker.StateRunning)
	}},
	{"an exited container starts again", func(s *session) {
		id := s.create(script("echo run; exit 2"))
		for i := range 3 {
			exit := s.wait(id, docker.WaitConditionNextExit)
			s.start(id)
			s.same("exit code", exit().ExitCode, 2)
			s.same("log", s.logs(id, everything), strings.Repeat("run\n", i+1))
		}
	}},
}

var removing = []test{
	{"a running one is refused, unless by force", func(s *session) {
		n := unique("busy")
		id := s.sleeper(name(n))
		err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{})
		s.refused(err, sockerless.ECONFLICT,
			`cannot remove container "/`+n+`": container is running: stop the container before removing or force remove`)
		gone, stopped := s.wait(id, docker.WaitConditionRemoved), s.wait(id, docker.WaitConditionNextExit)
		if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{Force: true}); err != nil {
			s.Fatal(err)
		}
		s.same("exit code", stopped().ExitCode, 137)
		gone()
		_, err = s.b.Containers.Find(s.Context(), id)
		s.refused(err, sockerless.ENOTFOUND, "No such container: "+id)
		s.refused(s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}), sockerless.ENOTFOUND)
		s.create(script("true"), name(n)) // the name is free at once
	}},
	{"a created one and an exited one", func(s *session) {
		created, exited := s.create(script("true")), s.create(script("true"))
		exit := s.wait(exited, docker.WaitConditionNextExit)
		s.start(exited)
		exit()
		for _, id := range []string{created, exited} {
			if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}); err != nil {
				s.Error(err)
			}
		}
	}},
	{"--rm removes it after the exit", func(s *session) {
		id := s.create(script("echo last words; exit 6"), autoRemove)
		attached, gone := s.attach(id, bothStreams), s.wait(id, docker.WaitConditionRemoved)
		s.start(id)
		stdout, _ := s.read(attached, false)
		s.same("stdout", stdout, "last words\n")
		s.same("exit code", gone().ExitCode, 6)
		_, err := s.b.Containers.Find(s.Context(), id)
		s.refused(err, sockerless.ENOTFOUND)
	}},
	{"a slow reader of a removed one loses nothing", func(s *session) {
		const lines = 60_000
		id := s.create(script("i=0; while [ $i -lt 600 ]; do printf '%0100d\\n' 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1; i=$((i+1)); done"), autoRemove)
		attached, gone := s.attach(id, bothStreams), s.wait(id, docker.WaitConditionRemoved)
		s.start(id)
		time.Sleep(time.Second)
		stdout, _ := s.read(attached, false)
		s.same("lines", strings.Count(stdout, "\n"), lines)
		gone()
	}},
	{"prune", func(s *session) {
		l := unique("prune")
		running := s.sleeper(label(l, "1"))
		exited, created, other := s.create(script("true"), label(l, "1")), s.create(script("true"), label(l, "2")), s.create(script("true"))
		exit := s.wait(exited, docker.WaitConditionNextExit)
		s.start(exited)
		exit()
		old, err := s.b.Containers.Prune(s.Context(), sockerless.Filters{"label": {l}, "until": {"1h"}})
		if err != nil || len(old.ContainersDeleted) != 0 {
			s.Errorf("pruned what is younger than an hour: %v %v", old, err)
		}
		report, err := s.b.Containers.Prune(s.Context(), sockerless.Filters{"label": {l}})
		if err != nil {
			s.Fatal(err)
		}
		got := slices.Sorted(slices.Values(report.ContainersDeleted))
		s.same("deleted", got, slices.Sorted(slices.Values([]string{exited, created})))
		for _, id := range []string{running, other} {
			s.find(id)
		}
		_, err = s.b.Containers.Prune(s.Context(), sockerless.Filters{"nonsense": {"1"}})
		s.refused(err, sockerless.EINVALID, "invalid filter 'nonsense'")
		_, err = s.b.Containers.Prune(s.Context(), sockerless.Filters{"until": {"soon"}})
		s.refused(err, sockerless.EINVALID, "invalid filter 'until=soon'")
	}},
}

var waiting = []test{
	{"not-running of what does not run comes at once", func(s *session) {
		id := s.create(script("exit 9"))
		s.same("before the start", s.wait(id, docker.WaitConditionNotRunning)().ExitCode, 0)
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		s.same("next exit", exit().ExitCode, 9)
		s.same("after the exit", s.wait(id, docker.WaitConditionNotRunning)().ExitCode, 9)
		s.same("no condition", s.wait(id, "")().ExitCode, 9)
	}},
	{"next-exit of an exited one waits for the next", func(s *session) {
		id := s.create(script("true"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		ctx, cancel := context.WithTimeout(s.Context(), 200*time.Millisecond)
		defer cancel()
		if err := firstError(s.b.Containers.Wait(ctx, id, docker.WaitConditionNextExit)); err == nil || ctx.Err() == nil {
			s.Errorf("the wait ended with %v", err)
		}
	}},
	{"removed", func(s *session) {
		id := s.create(script("true"))
		gone := s.wait(id, docker.WaitConditionRemoved)
		if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}); err != nil {
			s.Fatal(err)
		}
		gone()
	}},
	{"an unknown condition, an unknown container", func(s *session) {
		id := s.create(script("true"))
		s.refused(firstError(s.b.Containers.Wait(s.Context(), id, "asleep")), sockerless.EINVALID, "asleep")
		s.refused(firstError(s.b.Containers.Wait(s.Context(), "nobody", "")), sockerless.ENOTFOUND, "No such container: nobody")
	}},
}
