package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

func (a *api) createExec(w http.ResponseWriter, r *request) error {
	var in container.ExecCreateRequest
	if _, err := r.body(w, &in); err != nil {
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
	return a.hijack(w, r, r.streamType(in.Tty), session)
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
