package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"iter"
	"os"
	"reflect"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
)

var logging = []test{
	{"all, the last lines, one stream", func(s *session) {
		// The streams are two pipes: what order they have in the log is known only of what is there before the next.
		id := s.create(script("echo 1; read go; echo 2 >&2; read go; echo 3; echo 4"), func(r *sockerless.CreateRequest) { r.Config.OpenStdin = true })
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true})
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		for _, line := range []string{"1", "2"} {
			s.awaitLog(id, line)
			if _, err := io.WriteString(attached, "\n"); err != nil {
				s.Fatal(err)
			}
		}
		exit()
		s.same("all", s.logs(id, everything), "1\n2\n3\n4\n")
		s.same("tail", s.logs(id, sockerless.LogOptions{Tail: 2}), "3\n4\n")
		s.same("tail of none", s.logs(id, sockerless.LogOptions{Tail: 0}), "")
		s.same("more than there are", s.logs(id, sockerless.LogOptions{Tail: 100}), "1\n2\n3\n4\n")
		s.same("stdout", s.logs(id, sockerless.LogOptions{Tail: -1, Stdout: true}), "1\n3\n4\n")
		s.same("stderr", s.logs(id, sockerless.LogOptions{Tail: -1, Stderr: true}), "2\n")
	}},
	{"no stream is a mistake", func(s *session) {
		id := s.create(script("true"))
		err := firstError(s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{}))
		s.refused(err, sockerless.EINVALID, "you must choose at least one stream")
	}},
	{"what was written before the question is there", func(s *session) {
		id := s.create([]string{"cat"}, func(r *sockerless.CreateRequest) { r.Config.OpenStdin = true })
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true, Stdout: true})
		s.start(id)
		for i := range 20 {
			line := strings.Repeat("x", i) + "\n"
			if _, err := io.WriteString(attached, line); err != nil {
				s.Fatal(err)
			}
			if _, err := io.ReadFull(attached, make([]byte, 8+len(line))); err != nil {
				s.Fatal(err)
			}
			if got := s.logs(id, sockerless.LogOptions{Tail: 1}); got != line {
				s.Fatalf("the last line is %q, want %q", got, line)
			}
		}
	}},
	{"times", func(s *session) {
		id := s.create(script("echo 1; sleep 0.3; echo 2; sleep 0.3; echo 3"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		var at []time.Time
		for rec, err := range s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{Stdout: true, Tail: -1}) {
			if err != nil {
				s.Fatal(err)
			}
			at = append(at, rec.Time)
		}
		if len(at) != 3 || !at[0].Before(at[1]) || !at[1].Before(at[2]) {
			s.Fatalf("times %v", at)
		}
		s.same("since", s.logs(id, sockerless.LogOptions{Tail: -1, Since: at[1]}), "2\n3\n")
		s.same("until", s.logs(id, sockerless.LogOptions{Tail: -1, Until: at[1]}), "1\n2\n")
		s.same("both", s.logs(id, sockerless.LogOptions{Tail: -1, Since: at[1], Until: at[1]}), "2\n")
	}},
	{"follow until the exit", func(s *session) {
		id := s.create(script("i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; printf end"))
		s.start(id)
		got := s.logs(id, sockerless.LogOptions{Tail: -1, Follow: true})
		if n := strings.Count(got, "line "); n != 50 || !strings.HasSuffix(got, "end") {
			s.Errorf("%d lines, ends with %q", n, got[max(0, len(got)-20):])
		}
	}},
	{"follow from the last lines", func(s *session) {
		id := s.create(script("echo 1; echo 2; echo ready; read go; echo 3"), openStdin)
		attached := s.attach(id, sockerless.AttachOptions{Stdin: true})
		s.start(id)
		s.awaitLog(id, "ready")
		got := ""
		for rec, err := range s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{Stdout: true, Tail: 1, Follow: true}) {
			if err != nil {
				s.Fatal(err)
			}
			if got += string(rec.Data); got == "ready\n" {
				if _, err := io.WriteString(attached, "\n"); err != nil {
					s.Fatal(err)
				}
			}
		}
		s.same("followed", got, "ready\n3\n")
	}},
	{"follow of what does not run ends", func(s *session) {
		id := s.create(script("true"))
		s.same("log", s.logs(id, sockerless.LogOptions{Tail: -1, Follow: true}), "")
	}},
	{"a follower may leave", func(s *session) {
		id := s.sleeper()
		for rec, err := range s.b.Containers.Logs(s.Context(), id, sockerless.LogOptions{Stdout: true, Tail: -1, Follow: true}) {
			if err != nil || string(rec.Data) != "ready\n" {
				s.Errorf("%q, %v", rec.Data, err)
			}
			break
		}
		ctx, cancel := context.WithTimeout(s.Context(), 200*time.Millisecond)
		defer cancel()
		if err := firstError(s.b.Containers.Logs(ctx, id, sockerless.LogOptions{Stdout: true, Tail: -1, Follow: true})); err == nil {
			s.Error("no error when the context ends a follow")
		}
	}},
	{"many lines, none lost", func(s *session) {
		id := s.create(script("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		if n := strings.Count(s.logs(id, everything), "\n"); n != 20000 {
			s.Errorf("%d lines of 20000", n)
		}
	}},
}

// archiveOf is a tar of a folder with files in it.
func archiveOf(s *session, dir string, files map[string]string) io.Reader {
	s.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if dir != ".." {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			s.Fatal(err)
		}
	}
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: dir + "/" + name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			s.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			s.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.Fatal(err)
	}
	return &archive
}

var files = []test{
	{"out and in", func(s *session) {
		id := s.sleeper()
		dir := "/tmp/" + unique("copied")
		s.exec(id, sockerless.ExecConfig{Cmd: []string{"mkdir", dir}})
		defer s.exec(id, sockerless.ExecConfig{Cmd: []string{"rm", "-r", dir}})
		content := bytes.Repeat([]byte("0123456789"), 100_000)
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o640, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)}); err != nil {
			s.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			s.Fatal(err)
		}
		if err := w.Close(); err != nil {
			s.Fatal(err)
		}
		if err := s.b.Containers.WriteTree(s.Context(), id, dir, sockerless.WriteOptions{}, &archive); err != nil {
			s.Fatal(err)
		}
		st, err := s.b.Containers.Stat(s.Context(), id, dir+"/file")
		if err != nil {
			s.Fatal(err)
		}
		if st.Name != "file" || st.Size != int64(len(content)) || st.Mode.Perm() != 0o640 || !st.Mtime.Equal(time.Unix(1e9, 0)) {
			s.Errorf("stat %+v", st)
		}
		st, body, err := s.b.Containers.ReadTree(s.Context(), id, dir+"/file")
		if err != nil {
			s.Fatal(err)
		}
		defer body.Close()
		s.same("name", st.Name, "file")
		r := tar.NewReader(body)
		h, err := r.Next()
		if err != nil {
			s.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || h.Name != "file" || !bytes.Equal(got, content) {
			s.Errorf("%s: %d bytes, %v", h.Name, len(got), err)
		}
		if _, err := r.Next(); err != io.EOF {
			s.Errorf("after the file: %v", err)
		}
	}},
	{"a folder", func(s *session) {
		id := s.sleeper()
		st, err := s.b.Containers.Stat(s.Context(), id, "/tmp")
		if err != nil || st.Mode&os.ModeDir == 0 {
			s.Errorf("stat %+v, %v", st, err)
		}
	}},
	{"what is not there", func(s *session) {
		id := s.sleeper()
		words := "Could not find the file /tmp/no-such-file in container " + id
		_, err := s.b.Containers.Stat(s.Context(), id, "/tmp/no-such-file")
		s.refused(err, sockerless.ENOTFOUND, words)
		_, _, err = s.b.Containers.ReadTree(s.Context(), id, "/tmp/no-such-file")
		s.refused(err, sockerless.ENOTFOUND, words)
		err = s.b.Containers.WriteTree(s.Context(), id, "/tmp/no-such-file", sockerless.WriteOptions{}, strings.NewReader(""))
		s.refused(err, sockerless.ENOTFOUND, words)
		_, err = s.b.Containers.Stat(s.Context(), "nobody", "/")
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"an export is a tar from the root, and may be left", func(s *session) {
		id := s.sleeper()
		body, err := s.b.Containers.Export(s.Context(), id)
		if err != nil {
			s.Fatal(err)
		}
		r := tar.NewReader(body)
		for range 20 { // the mem driver's container has all of this machine
			h, err := r.Next()
			if err != nil {
				s.Fatal(err)
			}
			if h.Name == "" || h.Name[0] == '/' || h.Name[0] == '.' && h.Typeflag == tar.TypeDir && len(h.Name) < 3 {
				s.Errorf("entry %q", h.Name)
			}
		}
		if err := body.Close(); err != nil {
			s.Error(err)
		}
		_, err = s.b.Containers.Export(s.Context(), "nobody")
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"into a container that has not run yet", func(s *session) {
		dir := "/tmp/" + unique("early")
		id := s.create(script("cat " + dir + "/one " + dir + "/two; rm -r " + dir))
		exit := s.wait(id, docker.WaitConditionNextExit)
		for _, files := range []map[string]string{{"one": "old", "two": "2\n"}, {"one": "1\n"}} {
			if err := s.b.Containers.WriteTree(s.Context(), id, "/", sockerless.WriteOptions{}, archiveOf(s, dir[1:], files)); err != nil {
				s.Fatal(err)
			}
		}
		err := s.b.Containers.WriteTree(s.Context(), id, "/", sockerless.WriteOptions{}, strings.NewReader(strings.Repeat("no tar", 1000)))
		s.refused(err, sockerless.EINVALID, "cannot read the archive")
		err = s.b.Containers.WriteTree(s.Context(), id, "/", sockerless.WriteOptions{}, archiveOf(s, "..", map[string]string{"x": ""}))
		s.refused(err, sockerless.EINVALID, "leads out of")
		s.start(id)
		exit()
		s.same("output", s.logs(id, everything), "1\n2\n")
	}},
	{"into a container that has not run yet, where it cannot be", func(s *session) {
		id := s.create(script("echo ran"))
		if err := s.b.Containers.WriteTree(s.Context(), id, "/no/such/folder", sockerless.WriteOptions{}, archiveOf(s, ".", map[string]string{"f": "x"})); err != nil {
			s.refused(err, sockerless.ENOTFOUND, "Could not find the file /no/such/folder")
			return // it knows the image's files
		}
		err := s.b.Containers.Start(s.Context(), id)
		if err == nil || !strings.Contains(err.Error(), "Could not find the file /no/such/folder") {
			s.Errorf("start: %v", err)
		}
		if got := s.logs(id, everything); got != "" {
			s.Errorf("it ran: %q", got)
		}
	}},
	{"nothing has changed in one that has not run", func(s *session) {
		id := s.create(script("true"))
		for change, err := range s.b.Containers.Changes(s.Context(), id) {
			s.Errorf("%+v, %v", change, err)
		}
		s.refused(firstError(s.b.Containers.Changes(s.Context(), "nobody")), sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"one that has not run takes what its image does", func(s *session) {
		id := s.create(script("true"))
		size, err := s.b.Containers.Size(s.Context(), id)
		if err != nil {
			s.Fatal(err)
		}
		found := false
		for img, err := range s.b.Images.List(s.Context(), sockerless.ImageListOptions{All: true}) {
			if err != nil {
				s.Fatal(err)
			}
			if img.ID == s.find(id).Image {
				found = true
				s.same("size", *size, sockerless.ContainerSize{Whole: img.Size})
			}
		}
		s.same("its image is listed", found, true)
		_, err = s.b.Containers.Size(s.Context(), "nobody")
		s.refused(err, sockerless.ENOTFOUND, "No such container: nobody")
	}},
	{"a commit that is refused changes nothing", func(s *session) {
		id := s.sleeper()
		commit := func(ref string, opt sockerless.CommitOptions) error {
			_, err := s.b.Containers.Commit(s.Context(), ref, opt)
			return err
		}
		s.refused(commit("nobody", sockerless.CommitOptions{}), sockerless.ENOTFOUND, "No such container: nobody")
		s.refused(commit(id, sockerless.CommitOptions{Pause: true, Changes: []string{"FROM x"}}), sockerless.EINVALID, "FROM is not a valid change command")
		if err := commit(id, sockerless.CommitOptions{Pause: true, Ref: "BAD"}); err == nil {
			s.Error("an image is called BAD")
		}
		if st := s.find(id).State; st.Status != docker.StateRunning {
			s.Errorf("the container is %s", st.Status)
		}
	}},
	{"paths are bytes", func(s *session) {
		id := s.sleeper()
		path := "/tmp/" + unique("any")
		quoted, plain := `"$(printf '`+path+`\377\376')"`, path+"\xff\xfe"
		s.exec(id, sockerless.ExecConfig{Cmd: script("mkdir " + quoted)})
		defer s.exec(id, sockerless.ExecConfig{Cmd: script("rmdir " + quoted)})
		if _, err := s.b.Containers.Stat(s.Context(), id, plain); err != nil {
			s.Error(err)
		}
		_, body, err := s.b.Containers.ReadTree(s.Context(), id, plain)
		if err != nil {
			s.Fatal(err)
		}
		body.Close()
		if err := s.b.Containers.WriteTree(s.Context(), id, plain, sockerless.WriteOptions{}, strings.NewReader("")); err != nil {
			s.Error(err)
		}
	}},
	{"of an exited one, while it lingers", func(s *session) {
		if !s.Linger {
			s.Skip("this backend's containers do not linger")
		}
		path := "/tmp/" + unique("left")
		id := s.create(script("echo x > " + path))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		if _, err := s.b.Containers.Stat(s.Context(), id, path); err != nil {
			s.Error(err)
		}
	}},
}

// events are what has happened and what happens. The beginning is looked at.
func (s *session) events(ctx context.Context, opt sockerless.EventOptions) iter.Seq[events.Message] {
	return func(yield func(events.Message) bool) {
		s.Helper()
		listens := false
		for m, err := range s.b.System.Events(ctx, opt) {
			switch {
			case err != nil:
				s.Fatalf("events: %v", err)
			case (m.Type == "") == listens:
				s.Fatalf("the events begin with, or have, %+v", m)
			case !listens:
				listens = true
			case !yield(m):
				return
			}
		}
		if !listens {
			s.Fatal("the events ended before they began")
		}
	}
}

// tell collects events of one container until the last one that is wanted has come.
func (s *session) tell(opt sockerless.EventOptions, until events.Action) []string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	var got []string
	for m := range s.events(ctx, opt) {
		got = append(got, string(m.Action))
		if m.Action == until {
			break
		}
	}
	return got
}

var eventing = []test{
	{"a container's life", func(s *session) {
		since := time.Now()
		l := unique("events")
		id := s.create(script("exit 3"), label(l, "1"))
		exit := s.wait(id, docker.WaitConditionNextExit)
		s.start(id)
		exit()
		if err := s.b.Containers.Remove(s.Context(), id, sockerless.RemoveOptions{}); err != nil {
			s.Fatal(err)
		}
		opt := sockerless.EventOptions{Since: since, Filters: sockerless.Filters{"container": {id}}}
		s.same("actions", s.tell(opt, events.ActionDestroy), []string{"create", "start", "die", "destroy"})
		opt.Filters = sockerless.Filters{"label": {l + "=1"}, "event": {"die"}, "type": {"container"}}
		opt.Until = time.Now()
		found := 0
		for m := range s.events(s.Context(), opt) {
			found++
			if m.Actor.Attributes["exitCode"] != "3" || m.Actor.ID != id || m.Actor.Attributes["image"] != s.Image || m.TimeNano == 0 {
				s.Errorf("event %+v", m)
			}
		}
		s.same("events by label", found, 1)
	}},
	{"as they happen", func(s *session) {
		l := unique("live")
		ctx, cancel := context.WithTimeout(s.Context(), patience)
		defer cancel()
		next, stop := iter.Pull2(s.b.System.Events(ctx, sockerless.EventOptions{Filters: sockerless.Filters{"label": {l}}}))
		defer stop()
		if m, err, _ := next(); err != nil || !reflect.DeepEqual(m, events.Message{}) {
			s.Errorf("the events begin with %+v, %v", m, err)
		}
		id := s.create(script("true"), label(l, "1"))
		if m, err, _ := next(); err != nil || m.Action != events.ActionCreate || m.Actor.ID != id {
			s.Errorf("event %+v, %v", m, err)
		}
		s.start(id)
		if m, err, _ := next(); err != nil || m.Action != events.ActionStart {
			s.Errorf("event %+v, %v", m, err)
		}
	}},
	{"until now ends", func(s *session) {
		opt := sockerless.EventOptions{Since: time.Now().Add(-time.Hour), Until: time.Now()}
		if err := firstError(s.b.System.Events(s.Context(), opt)); err != nil {
			s.Error(err)
		}
	}},
	{"what is no filter", func(s *session) {
		err := firstError(s.b.System.Events(s.Context(), sockerless.EventOptions{Filters: sockerless.Filters{"nonsense": {"1"}}}))
		s.refused(err, sockerless.EINVALID, "invalid filter 'nonsense'")
	}},
}

var system = []test{
	{"info", func(s *session) {
		s.create(script("true"))
		info, err := s.b.System.Info(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		if info.OSType != "linux" || info.Architecture != "x86_64" || info.NCPU <= 0 || info.MemTotal <= 0 || info.Driver == "" ||
			info.Containers < 1 || info.Images < 1 || info.Swarm.LocalNodeState != "inactive" || info.ServerVersion == "" {
			s.Errorf("info %+v", info)
		}
		if info.Containers != info.ContainersRunning+info.ContainersPaused+info.ContainersStopped {
			s.Errorf("%d containers are %d running, %d paused and %d stopped", info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped)
		}
	}},
	{"version", func(s *session) {
		v, err := s.b.System.Version(s.Context())
		if err != nil || v.Version == "" || v.Os != "linux" || len(v.Components) == 0 {
			s.Errorf("version %+v, %v", v, err)
		}
	}},
	{"auth reaches the registry's answer", func(s *session) {
		res, err := s.b.System.Auth(s.Context(), registry.AuthConfig{ServerAddress: "127.0.0.1:1", Username: "u", Password: "p"})
		if err == nil && res.Status == "" {
			s.Error("neither an error nor a status")
		}
	}},
}
