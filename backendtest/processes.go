package backendtest

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

var running = []test{
	{"output apart, exit code", func(s *session) {
		stdout, stderr, code := s.run(script("echo out; echo err >&2; exit 5"))
		s.same("stdout", stdout, "out\n")
		s.same("stderr", stderr, "err\n")
		s.same("exit code", code, 5)
	}},
	{"a short process loses no byte", func(s *session) {
		for range 10 {
			if stdout, _, _ := s.run([]string{"echo", "all of it"}); stdout != "all of it\n" {
				s.Fatalf("stdout %q", stdout)
			}
		}
	}},
	{"a terminal merges stderr", func(s *session) {
		stdout, _, code := s.run(script("echo out; echo err >&2; [ -t 0 ] && [ -t 1 ] && echo $TERM"), terminal)
		s.same("output", stdout, "out\r\nerr\r\nxterm\r\n")
		s.same("exit code", code, 0)
	}},
	{"input, and its end", func(s *session) {
		id := s.create([]string{"cat"}, interactive)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		if _, err := io.WriteString(attached, "to and fro\n"); err != nil {
			s.Fatal(err)
		}
		if err := attached.CloseWrite(); err != nil {
			s.Fatal(err)
		}
		stdout, _ := s.read(attached, false)
		s.same("stdout", stdout, "to and fro\n")
		s.same("exit code", exit().ExitCode, 0)
	}},
	{"input that is typed before the start", func(s *session) {
		id := s.create([]string{"cat"}, interactive)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		typed := make(chan error, 1)
		go func() { // ends when the process has taken it
			_, err := io.WriteString(attached, "early\n")
			if err == nil {
				err = attached.CloseWrite()
			}
			typed <- err
		}()
		time.Sleep(50 * time.Millisecond)
		s.start(id)
		stdout, _ := s.read(attached, false)
		s.same("stdout", stdout, "early\n")
		if err := <-typed; err != nil {
			s.Error(err)
		}
	}},
	{"without -i the input is empty", func(s *session) {
		stdout, _, code := s.run([]string{"cat"})
		s.same("stdout", stdout, "")
		s.same("exit code", code, 0)
	}},
	{"the environment is Docker's and nothing else", func(s *session) {
		id := s.create([]string{"env"}, env("MINE=a b=c", "EMPTY="))
		attached, exit := s.attach(id, bothStreams), s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		stdout, _ := s.read(attached, false)
		exit()
		got := map[string]string{}
		for line := range strings.Lines(stdout) {
			k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			got[k] = v
		}
		for k, want := range map[string]string{"MINE": "a b=c", "EMPTY": "", "FROM_IMAGE": "yes", "HOSTNAME": id[:12]} {
			if v, ok := got[k]; !ok || v != want {
				s.Errorf("%s is %q", k, v)
			}
		}
		for k := range got {
			switch k {
			case "MINE", "EMPTY", "FROM_IMAGE", "HOSTNAME", "PATH", "HOME", "PWD", "SHLVL", "_", "OLDPWD":
			default:
				s.Errorf("the process has %s=%s", k, got[k])
			}
		}
		if got["PATH"] == "" || got["HOME"] == "" {
			s.Errorf("PATH %q HOME %q", got["PATH"], got["HOME"])
		}
	}},
	{"the working directory is made", func(s *session) {
		dir := "/tmp/" + unique("dir") + "/deep"
		stdout, _, _ := s.run(script("pwd; rmdir "+dir), func(r *sockerless.CreateRequest) { r.Config.WorkingDir = dir })
		s.same("stdout", stdout, dir+"\n")
	}},
	{"arguments are passed as they are", func(s *session) {
		stdout, _, _ := s.run([]string{"echo", "a  b", "$HOME", `"q"`, "*"})
		s.same("stdout", stdout, "a  b $HOME \"q\" *\n")
	}},
	{"the state of a running one", func(s *session) {
		id := s.sleeper()
		c := s.find(id)
		if c.State.Status != docker.StateRunning || c.State.Pid == 0 || c.State.StartedAt.IsZero() || c.Run == nil || c.Run.Execution == "" {
			s.Errorf("state %+v run %+v", c.State, c.Run)
		}
	}},
	{"several at a time", func(s *session) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				res, err := s.b.Containers.Create(s.Context(), s.request(script(fmt.Sprintf("echo %d; exit %d", i, i))))
				if err != nil {
					s.Error(err)
					return
				}
				s.cleanup(res.ID)
				if err := s.b.Containers.Start(s.Context(), res.ID); err != nil {
					s.Error(err)
					return
				}
				exited := false
				for u, err := range s.b.Containers.Wait(s.Context(), res.ID, docker.WaitConditionNotRunning) {
					exited = exited || u.Exited && u.ExitCode == i
					if err != nil || u.Exited && !exited {
						s.Errorf("container %d ended as %+v, %v", i, u, err)
					}
				}
				var got []byte
				for rec, err := range s.b.Containers.Logs(s.Context(), res.ID, sockerless.LogOptions{Stdout: true, Tail: -1}) {
					if err != nil {
						s.Error(err)
					}
					got = append(got, rec.Data...)
				}
				if !exited || string(got) != fmt.Sprintf("%d\n", i) {
					s.Errorf("container %d has ended: %v, and wrote %q", i, exited, got)
				}
			})
		}
		all.Wait()
	}},
}

var failing = []test{
	{"a command that is not there", func(s *session) {
		id := s.create([]string{"no-such-command"})
		attached, exit := s.attach(id, bothStreams), s.wait(id, docker.WaitConditionNextExit)
		err := s.b.Containers.Start(s.Context(), id)
		s.refused(err, sockerless.EINVALID, `exec: "no-such-command": executable file not found in $PATH`, "OCI runtime create failed")
		if stdout, stderr := s.read(attached, false); stdout+stderr != "" {
			s.Errorf("output %q %q", stdout, stderr)
		}
		u := exit()
		s.same("exit code", u.ExitCode, 127)
		s.same("the wait's error, which the start's asker has", u.Error, "")
		c := s.find(id)
		s.same("status", c.State.Status, docker.StateCreated)
		s.same("exit code", c.State.ExitCode, 127)
		if !strings.Contains(c.State.Error, "no-such-command") {
			s.Errorf("state's error: %q", c.State.Error)
		}
	}},
	{"a file that cannot be executed", func(s *session) {
		id := s.create([]string{"/etc/passwd"})
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.EINVALID, "permission denied")
		s.same("exit code", s.find(id).State.ExitCode, 126)
	}},
	{"a user that is not there", func(s *session) {
		id := s.create(script("true"), func(r *sockerless.CreateRequest) { r.Config.User = "nobody-knows" })
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.EINVALID, "unable to find user nobody-knows: no matching entries in passwd file")
	}},
	{"with --rm nothing is left", func(s *session) {
		id := s.create([]string{"no-such-command"}, autoRemove)
		gone := s.wait(id, docker.WaitConditionRemoved)
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.EINVALID)
		s.same("exit code", gone().ExitCode, 127)
		_, err := s.b.Containers.Find(s.Context(), id)
		s.refused(err, sockerless.ENOTFOUND)
	}},
	{"it can be started again", func(s *session) {
		path := "/tmp/" + unique("command")
		id := s.create([]string{path})
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.EINVALID, "no such file or directory")
		s.refused(s.b.Containers.Start(s.Context(), id), sockerless.EINVALID, "no such file or directory")
	}},
	{"a container that is not there", func(s *session) {
		for what, err := range map[string]error{
			"start":   s.b.Containers.Start(s.Context(), "nobody"),
			"stop":    s.b.Containers.Stop(s.Context(), "nobody", sockerless.StopOptions{}),
			"restart": s.b.Containers.Restart(s.Context(), "nobody", sockerless.StopOptions{}),
			"kill":    s.b.Containers.Signal(s.Context(), "nobody", "TERM"),
			"remove":  s.b.Containers.Remove(s.Context(), "nobody", sockerless.RemoveOptions{}),
			"rename":  s.b.Containers.Rename(s.Context(), "nobody", "somebody"),
			"resize":  s.b.Containers.Resize(s.Context(), "nobody", sockerless.TerminalSize{}),
			"logs":    firstError(s.b.Containers.Logs(s.Context(), "nobody", sockerless.LogOptions{Stdout: true})),
		} {
			s.Log(what)
			s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
		}
		s.refused(s.b.Containers.Signal(s.Context(), "nobody", "TERM"), sockerless.ENOTFOUND, "Cannot kill container: nobody: No such container: nobody")
	}},
}

var attaching = []test{
	{"to a running one: what comes from now on", func(s *session) {
		id := s.create([]string{"cat"}, func(r *sockerless.CreateRequest) { r.Config.OpenStdin = true })
		s.start(id)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true, Stderr: true})
		if _, err := io.WriteString(attached, "hello\n"); err != nil {
			s.Fatal(err)
		}
		frame := make([]byte, 8+6)
		if _, err := io.ReadFull(attached, frame); err != nil || string(frame[8:]) != "hello\n" {
			s.Errorf("read %q, %v", frame, err)
		}
	}},
	{"several at a time see the same", func(s *session) {
		id := s.create(script("echo for all"))
		a, b := s.attach(id, bothStreams), s.attach(id, sockerless.AttachOptions{Stdout: true})
		s.start(id)
		for _, session := range []sockerless.Session{a, b} {
			stdout, _ := s.read(session, false)
			s.same("stdout", stdout, "for all\n")
		}
	}},
	{"only the streams asked for", func(s *session) {
		id := s.create(script("echo out; echo err >&2"))
		attached := s.attach(id, sockerless.AttachOptions{Stderr: true})
		s.start(id)
		stdout, stderr := s.read(attached, false)
		s.same("stdout", stdout, "")
		s.same("stderr", stderr, "err\n")
	}},
	{"with logs: no hole and no repetition at the seam", func(s *session) {
		seen := "/tmp/" + unique("seen")
		id := s.create(script("i=0; while :; do echo $i; i=$((i+1)); [ $((i%100)) = 0 ] && sleep 0.02 && [ -e " + seen + " ] && break; done; rm " + seen))
		s.start(id)
		s.awaitLog(id, "\n500\n")
		opt := bothStreams
		opt.Logs = true
		attached := s.attach(id, opt)
		s.execute(id, "touch "+seen)
		stdout, _ := s.read(attached, false)
		var want strings.Builder
		for i := range max(600, strings.Count(stdout, "\n")) {
			fmt.Fprintln(&want, i)
		}
		if stdout != want.String() {
			s.Errorf("%d bytes, want %d; begins %.40q and ends %q", len(stdout), want.Len(), stdout, stdout[max(0, len(stdout)-40):])
		}
	}},
	{"only what was written so far", func(s *session) {
		id := s.create(script("echo before"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		session, err := s.b.Containers.Attach(s.Context(), id, sockerless.AttachOptions{Stdout: true, Stderr: true, Logs: true})
		if err != nil {
			s.Fatal(err)
		}
		stdout, _ := s.read(session, false)
		s.same("stdout", stdout, "before\n")
	}},
	{"to an exited one, for its next start", func(s *session) {
		id := s.create(script("echo again"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		attached := s.attach(id, bothStreams)
		s.start(id)
		stdout, _ := s.read(attached, false)
		s.same("stdout", stdout, "again\n")
	}},
	{"detach keys leave the process", func(s *session) {
		since := time.Now()
		id := s.create([]string{"cat"}, terminal, func(r *sockerless.CreateRequest) { r.Config.OpenStdin = true })
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true, Stderr: true, DetachKeys: "ctrl-a,x"})
		s.start(id)
		if _, err := attached.Write([]byte{1, 'x'}); err != nil {
			s.Fatal(err)
		}
		s.read(attached, true)
		s.same("status", s.find(id).State.Status, docker.StateRunning)
		ofContainer := sockerless.Filters{"container": {id}}
		s.tell(sockerless.EventOptions{Since: since, Filters: ofContainer}, events.ActionDetach)

		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"cat"}, Tty: true, Stdin: true, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		exec, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Tty: true})
		if err != nil {
			s.Fatal(err)
		}
		if _, err := exec.Write([]byte{16, 17}); err != nil { // ctrl-p,ctrl-q
			s.Fatal(err)
		}
		s.read(exec, true)
		s.tell(sockerless.EventOptions{Since: since, Filters: ofContainer}, events.ActionExecDetach)
		_, err = s.b.Containers.Attach(s.Context(), id, sockerless.AttachOptions{Stream: true, Stdout: true, DetachKeys: "ctrl-shift-x"})
		s.refused(err, sockerless.EINVALID, "Invalid detach keys (ctrl-shift-x) provided")
	}},
	{"a client that leaves before the start", func(s *session) {
		id := s.create(script("echo still"))
		s.attach(id, bothStreams).Close()
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		s.same("log", s.logs(id, everything), "still\n")
	}},
	{"the terminal's size", func(s *session) {
		id := s.create(script("trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"), terminal,
			func(r *sockerless.CreateRequest) { r.Config.OpenStdin = true })
		if err := s.b.Containers.Resize(s.Context(), id, sockerless.TerminalSize{Rows: 17, Cols: 71}); err != nil {
			s.Fatal(err)
		}
		s.start(id)
		s.eventually("the first line", func() bool { return strings.Contains(s.logs(id, everything), "\n") })
		if strings.Contains(s.logs(id, everything), "not found") {
			s.Skip("the image has no stty")
		}
		s.awaitLog(id, "17 71")
		if err := s.b.Containers.Resize(s.Context(), id, sockerless.TerminalSize{Rows: 23, Cols: 45}); err != nil {
			s.Fatal(err)
		}
		s.awaitLog(id, "23 45")
	}},
	{"the size of a terminal that is not there", func(s *session) {
		id := s.sleeper()
		if err := s.b.Containers.Resize(s.Context(), id, sockerless.TerminalSize{Rows: 17, Cols: 71}); err != nil {
			s.Error(err)
		}
		x, _ := s.begin(id, sockerless.ExecConfig{Cmd: script("read x"), Stdin: true})
		if err := s.b.Execs.Resize(s.Context(), x, sockerless.TerminalSize{Rows: 17, Cols: 71}); err != nil {
			s.Error(err)
		}
	}},
	{"to a container that is not there", func(s *session) {
		_, err := s.b.Containers.Attach(s.Context(), "nobody", sockerless.AttachOptions{Stream: true, Stdout: true})
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
	}},
}

// exec runs an exec to its end.
func (s *session) exec(id string, config sockerless.ExecConfig) (stdout, stderr string, code int) {
	s.Helper()
	config.Stdout, config.Stderr = true, true
	x, err := s.b.Execs.Create(s.Context(), id, config)
	if err != nil {
		s.Fatal(err)
	}
	if e, err := s.b.Execs.Find(s.Context(), x); err != nil || e.ExitCode != nil || e.Running || e.Container != id {
		s.Fatalf("an exec that is not started: %+v, %v", e, err)
	}
	if c, err := s.b.Containers.Find(s.Context(), id); err != nil || !slices.Contains(c.Execs, x) {
		s.Errorf("the container does not list exec %s: %+v, %v", x, c, err)
	}
	session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Tty: config.Tty})
	if err != nil {
		s.Fatal(err)
	}
	if config.Stdin {
		if err := session.CloseWrite(); err != nil {
			s.Fatal(err)
		}
	}
	stdout, stderr = s.read(session, config.Tty)
	// At once: the exit is recorded before the output ends.
	e, err := s.b.Execs.Find(s.Context(), x)
	if err != nil {
		s.Fatal(err)
	}
	if e.ExitCode == nil || e.Running {
		s.Fatalf("no exit code right after the end of the output: %+v", e)
	}
	return stdout, stderr, *e.ExitCode
}

var execs = []test{
	{"output apart, exit code", func(s *session) {
		id := s.sleeper()
		stdout, stderr, code := s.exec(id, sockerless.ExecConfig{Cmd: script("echo out; echo err >&2; exit 42")})
		s.same("stdout", stdout, "out\n")
		s.same("stderr", stderr, "err\n")
		s.same("exit code", code, 42)
	}},
	{"exit codes are right each time", func(s *session) {
		id := s.sleeper()
		for i := range 30 {
			if _, _, code := s.exec(id, sockerless.ExecConfig{Cmd: script(fmt.Sprintf("exit %d", i))}); code != i {
				s.Errorf("exit code %d, want %d", code, i)
			}
		}
	}},
	{"environment, directory, terminal", func(s *session) {
		id := s.sleeper(env("A=container", "B=container"))
		stdout, _, _ := s.exec(id, sockerless.ExecConfig{
			Cmd: script("echo $A $B $FROM_IMAGE; pwd; [ -t 1 ] && echo terminal"), Env: []string{"B=exec"}, Dir: "/tmp", Tty: true,
		})
		s.same("output", stdout, "container exec yes\r\n/tmp\r\nterminal\r\n")
	}},
	{"input", func(s *session) {
		id := s.sleeper()
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		if err != nil {
			s.Fatal(err)
		}
		text := strings.Repeat("0123456789abcdef", 1<<16)
		go func() { // ends when cat has taken all
			io.WriteString(session, text) //nolint:errcheck // seen in what comes back
			session.CloseWrite()          //nolint:errcheck // as above
		}()
		if stdout, _ := s.read(session, false); stdout != text {
			s.Errorf("%d bytes came back of %d", len(stdout), len(text))
		}
	}},
	{"a command that is not there", func(s *session) {
		id := s.sleeper()
		stdout, _, code := s.exec(id, sockerless.ExecConfig{Cmd: []string{"no-such-command"}})
		s.same("exit code", code, 127)
		want := `OCI runtime exec failed: exec failed: unable to start container process: exec: "no-such-command": executable file not found in $PATH: unknown`
		s.same("stdout", stdout, want+"\r\n")
		_, _, code = s.exec(id, sockerless.ExecConfig{Cmd: []string{"/etc/passwd"}})
		s.same("exit code", code, 126)
	}},
	{"as many arguments as Linux takes, and no more", func(s *session) {
		id := s.sleeper()
		long := strings.Repeat("x", 100<<10)
		many := append(script(`echo $# $BIG$MORE | wc -c`), "sh")
		for range 9 {
			many = append(many, long)
		}
		stdout, _, code := s.exec(id, sockerless.ExecConfig{Cmd: many, Env: []string{"BIG=" + long, "MORE=" + long}})
		s.same("exit code", code, 0)
		s.same("bytes", strings.TrimSpace(stdout), fmt.Sprint(len("9 \n")+2*len(long)))
		for what, cmd := range map[string][]string{
			"one argument": {"echo", strings.Repeat("x", 200<<10)},
			"all of them":  append(slices.Clone(many), many[4:]...),
		} {
			config := sockerless.ExecConfig{Cmd: cmd}
			if what == "all of them" {
				for i := range 40 {
					config.Env = append(config.Env, fmt.Sprintf("V%d=%s", i, long))
				}
			}
			stdout, _, code = s.exec(id, config)
			if code != 126 || !strings.Contains(stdout, "argument list too long") {
				s.Errorf("%s: code %d, %.200q", what, code, stdout)
			}
		}
	}},
	{"detached", func(s *session) {
		id := s.sleeper()
		path := "/tmp/" + unique("detached")
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: script("echo x > " + path + "; sleep 0.1; rm " + path + "; exit 8")})
		if err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Detach: true})
		if err != nil || session != nil {
			s.Fatalf("session %v, %v", session, err)
		}
		s.eventually("it ends", func() bool {
			e, err := s.b.Execs.Find(s.Context(), x)
			if err != nil {
				s.Fatal(err)
			}
			return e.ExitCode != nil && *e.ExitCode == 8
		})
		bad, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"no-such-command"}})
		if err != nil {
			s.Fatal(err)
		}
		_, err = s.b.Execs.Start(s.Context(), bad, sockerless.ExecStartOptions{Detach: true})
		s.refused(err, sockerless.EINVALID, "executable file not found in $PATH")
	}},
	{"once", func(s *session) {
		id := s.sleeper()
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"cat"}, Stdin: true, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if e, err := s.b.Execs.Find(s.Context(), x); err != nil || !e.Running || e.ExitCode != nil || e.Pid == 0 {
			s.Errorf("while it runs: %+v, %v", e, err)
		}
		_, err = s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		s.refused(err, sockerless.ECONFLICT, x)
		if err := session.CloseWrite(); err != nil {
			s.Fatal(err)
		}
		s.read(session, false)
		_, err = s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		s.refused(err, sockerless.ECONFLICT, x)
	}},
	{"the terminal's size, before and after the start", func(s *session) {
		id := s.sleeper()
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: script("stty size; read x; stty size"), Tty: true, Stdin: true, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		if err := s.b.Execs.Resize(s.Context(), x, sockerless.TerminalSize{Rows: 17, Cols: 71}); err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Tty: true})
		if err != nil {
			s.Fatal(err)
		}
		line := make([]byte, 7)
		if _, err := io.ReadFull(session, line); err != nil {
			s.Fatal(err)
		}
		if strings.Contains(string(line), "stty") || strings.Contains(string(line), "sh:") {
			s.Skip("the image has no stty")
		}
		s.same("size", string(line), "17 71\r\n")
		if err := s.b.Execs.Resize(s.Context(), x, sockerless.TerminalSize{Rows: 23, Cols: 45}); err != nil {
			s.Fatal(err)
		}
		io.WriteString(session, "\n") //nolint:errcheck // seen in what comes back
		rest, _ := s.read(session, true)
		if !strings.Contains(rest, "23 45") {
			s.Errorf("size after the start: %q", rest)
		}
	}},
	{"only in a running container, only as it can be", func(s *session) {
		created := s.create(script("true"))
		_, err := s.b.Execs.Create(s.Context(), created, sockerless.ExecConfig{Cmd: []string{"true"}})
		s.refused(err, sockerless.ECONFLICT, "Container "+created+" is not running")
		id := s.sleeper()
		_, err = s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}, Privileged: true})
		s.refused(err, sockerless.EUNSUPPORTED, "--privileged")
		_, err = s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{})
		s.refused(err, sockerless.EINVALID, "No exec command specified")
		_, err = s.b.Execs.Create(s.Context(), "nobody", sockerless.ExecConfig{Cmd: []string{"true"}})
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"true"}})
		if err != nil {
			s.Fatal(err)
		}
		if err := s.b.Containers.Stop(s.Context(), id, sockerless.StopOptions{}); err != nil {
			s.Fatal(err)
		}
		_, err = s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		s.refused(err, sockerless.ECONFLICT, "is not running")
	}},
	{"an exec that is not there", func(s *session) {
		_, err := s.b.Execs.Find(s.Context(), "nobody")
		s.refused(err, sockerless.ENOTFOUND, "No such exec instance: nobody")
		_, err = s.b.Execs.Start(s.Context(), "nobody", sockerless.ExecStartOptions{})
		s.refused(err, sockerless.ENOTFOUND, "No such exec instance: nobody")
		s.refused(s.b.Execs.Resize(s.Context(), "nobody", sockerless.TerminalSize{}), sockerless.ENOTFOUND, "No such exec instance: nobody")
	}},
	{"an exec dies with its container", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		s.start(id)
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"sleep", "600"}, Stdout: true})
		if err != nil {
			s.Fatal(err)
		}
		session, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{})
		if err != nil {
			s.Fatal(err)
		}
		if err := s.b.Containers.Signal(s.Context(), id, "KILL"); err != nil {
			s.Fatal(err)
		}
		s.read(session, false)
		s.eventually("the exec is known to have been killed", func() bool {
			e, err := s.b.Execs.Find(s.Context(), x)
			return err == nil && e.ExitCode != nil && *e.ExitCode == 137
		})
	}},
}
