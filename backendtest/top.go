package backendtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sockerless/sockerless"
)

var tops = []test{
	{"ps's default", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		s.start(id)
		res, err := s.b.Containers.Top(s.Context(), id, "")
		if err != nil {
			s.Fatal(err)
		}
		s.same("titles", res.Titles, []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"})
		if len(res.Processes) != 1 || len(res.Processes[0]) != 8 {
			s.Fatalf("processes: %q", res.Processes)
		}
		one := res.Processes[0]
		s.same("pid", one[1], strconv.Itoa(s.find(id).State.Pid))
		s.same("command", one[7], "sleep 600")
	}},
	{"arguments of ps, and execs too", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		s.start(id)
		x, err := s.b.Execs.Create(s.Context(), id, sockerless.ExecConfig{Cmd: []string{"sleep", "601"}})
		if err != nil {
			s.Fatal(err)
		}
		if _, err := s.b.Execs.Start(s.Context(), x, sockerless.ExecStartOptions{Detach: true}); err != nil {
			s.Fatal(err)
		}
		res, err := s.b.Containers.Top(s.Context(), id, "-eo pid,args=WHAT")
		if err != nil {
			s.Fatal(err)
		}
		s.same("titles", res.Titles, []string{"PID", "WHAT"})
		var commands []string
		for _, p := range res.Processes {
			commands = append(commands, p[1])
		}
		slices.Sort(commands)
		s.same("commands", commands, []string{"sleep 600", "sleep 601"})
		res, err = s.b.Containers.Top(s.Context(), id, "aux")
		if err != nil || strings.Join(res.Titles, " ") != "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND" {
			s.Errorf("aux: %+v, %v", res, err)
		}
	}},
	{"refusals", func(s *session) {
		id := s.create([]string{"sleep", "600"})
		_, err := s.b.Containers.Top(s.Context(), id, "")
		s.refused(err, sockerless.ECONFLICT, "Container "+id+" is not running")
		_, err = s.b.Containers.Top(s.Context(), "nobody", "")
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
		s.start(id)
		_, err = s.b.Containers.Top(s.Context(), id, "-e --forest")
		s.refused(err, sockerless.EINVALID, "--forest")
		_, err = s.b.Containers.Top(s.Context(), id, "-o user")
		s.refused(err, sockerless.EINVALID, "Couldn't find PID field in ps output")
	}},
}
