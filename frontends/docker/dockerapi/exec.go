package dockerapi

import (
	"net/http"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

func (a *api) createExec(w http.ResponseWriter, r *request) error {
	var in container.ExecCreateRequest
	if _, err := r.required(w, &in); err != nil {
		return err
	}
	if len(in.Cmd) == 0 {
		return sockerless.Errorf(sockerless.EINVALID, "No exec command specified")
	}
	if r.version.before(42) {
		in.ConsoleSize = nil
	}
	size, err := consoleSize(in.ConsoleSize)
	if err != nil {
		return err
	}
	id, err := a.backend.Execs.Create(r.Context(), r.name, sockerless.ExecConfig{
		Cmd:        in.Cmd,
		Env:        in.Env,
		User:       in.User,
		Dir:        in.WorkingDir,
		Tty:        in.Tty,
		Stdin:      in.AttachStdin,
		Stdout:     in.AttachStdout,
		Stderr:     in.AttachStderr,
		Privileged: in.Privileged,
		DetachKeys: in.DetachKeys,
		Size:       size,
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, common.IDResponse{ID: id})
	return nil
}

func (a *api) startExec(w http.ResponseWriter, r *request) error {
	var in container.ExecStartRequest
	if _, err := r.body(w, &in); err != nil {
		return err
	}
	if r.version.before(42) || !in.Tty {
		in.ConsoleSize = nil
	}
	size, err := consoleSize(in.ConsoleSize)
	if err != nil {
		return err
	}
	exec, err := a.backend.Execs.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	session, err := a.backend.Execs.Start(r.Context(), exec.ID, sockerless.ExecStartOptions{Detach: in.Detach, Tty: in.Tty, Size: size})
	if err != nil {
		return err
	}
	if in.Detach {
		return writeNothing(w, http.StatusOK)
	}
	// Who starts the exec says how the output is to be framed, whatever its terminal was when it was created.
	switch {
	case exec.Config.Tty && !in.Tty:
		session = &framing{Session: session}
	case !exec.Config.Tty && in.Tty:
		session = &unframing{Session: session}
	}
	return a.hijack(w, r, r.streamType(in.Tty), session, func() { a.cut.add(exec.ID) })
}

func (a *api) resizeExec(w http.ResponseWriter, r *request) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	if err := a.backend.Execs.Resize(r.Context(), r.name, size); err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

func (a *api) inspectExec(w http.ResponseWriter, r *request) error {
	exec, err := a.backend.Execs.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	if a.cut.take(exec.ID) && exec.ExitCode == nil {
		return sockerless.Errorf(sockerless.EUNAVAILABLE, "the session of exec %s was cut off: its output is not whole, and it may still run", exec.ID[:min(12, len(exec.ID))])
	}
	process := &container.ExecProcessConfig{
		Tty:        exec.Config.Tty,
		Arguments:  []string{},
		Privileged: &exec.Config.Privileged,
		User:       exec.Config.User,
	}
	if len(exec.Config.Cmd) > 0 {
		process.Entrypoint = exec.Config.Cmd[0]
		process.Arguments = append(process.Arguments, exec.Config.Cmd[1:]...)
	}
	writeJSON(w, http.StatusOK, container.ExecInspectResponse{
		ID:            exec.ID,
		Running:       exec.Running,
		ExitCode:      exec.ExitCode,
		ProcessConfig: process,
		OpenStdin:     exec.Config.Stdin,
		OpenStderr:    exec.Config.Stderr,
		OpenStdout:    exec.Config.Stdout,
		ContainerID:   exec.Container,
		DetachKeys:    []byte{},
		Pid:           exec.Pid,
	})
	return nil
}

// cutExecs are the execs whose sessions were cut off. A docker CLI on a unix socket sees an end then, asks for the exit code,
// and takes none for 0: who asks first is told instead. More than a client could ask about are not kept.
type cutExecs struct {
	mu  sync.Mutex
	ids []string
}

const cutExecsKept = 256

func (c *cutExecs) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids[max(0, len(c.ids)-cutExecsKept+1):], id)
}

// take says whether the exec is one of them, once.
func (c *cutExecs) take(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.ids, id)
	if i >= 0 {
		c.ids = slices.Delete(c.ids, i, i+1)
	}
	return i >= 0
}
