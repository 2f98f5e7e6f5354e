package dockerapi_test

import (
	"context"
	"io"
	"os/exec"

	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

type memExecs struct{ *memory }

func (m memExecs) Create(_ context.Context, ref string, config sockerless.ExecConfig) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.find(ref)
	if err != nil {
		return "", err
	}
	if c.State.Status != container.StateRunning {
		return "", sockerless.Errorf(sockerless.ECONFLICT, "container %s is not running", c.ID)
	}
	e := &sockerless.Exec{ID: newID(), Container: c.ID, Config: config}
	m.execs[e.ID] = e
	return e.ID, nil
}

func (m memExecs) Start(_ context.Context, id string, opt sockerless.ExecStartOptions) (sockerless.Session, error) {
	e, err := m.Find(context.Background(), id)
	if err != nil {
		return nil, err
	}
	process, client := pipe(m.t)
	if e.Config.Cmd[0] == "cut" {
		m.mu.Lock()
		m.execs[id].Running = true
		m.mu.Unlock()
		process.Write(frame(1, []byte("half")))
		process.SetLinger(0)
		process.Close()
		return client, nil
	}
	cmd := exec.Command(e.Config.Cmd[0], e.Config.Cmd[1:]...)
	cmd.Env = e.Config.Env
	cmd.Stdout, cmd.Stderr = io.Writer(process.TCPConn), io.Writer(process.TCPConn)
	if !e.Config.Tty {
		cmd.Stdout, cmd.Stderr = &frameWriter{process, 1}, &frameWriter{process, 2}
	}
	var in io.WriteCloser
	if e.Config.Stdin {
		in, _ = cmd.StdinPipe()
	}
	if err := cmd.Start(); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "OCI runtime exec failed: %v", err)
	}
	m.mu.Lock()
	m.execs[id].Running, m.execs[id].Pid = true, cmd.Process.Pid
	m.mu.Unlock()
	if in != nil {
		go func() { io.Copy(in, process.TCPConn); in.Close() }() // ends when either end closes the session
	}
	m.children.Go(func() { // ends with the child
		cmd.Wait()
		m.mu.Lock()
		code := cmd.ProcessState.ExitCode()
		m.execs[id].Running, m.execs[id].ExitCode = false, &code
		m.changed.Broadcast()
		m.mu.Unlock()
		process.CloseWrite()
	})
	if opt.Detach {
		return nil, nil
	}
	return client, nil
}

type frameWriter struct {
	w      io.Writer
	stream byte
}

func (f *frameWriter) Write(b []byte) (int, error) {
	_, err := f.w.Write(frame(f.stream, b))
	return len(b), err
}

func (m memExecs) Find(_ context.Context, id string) (*sockerless.Exec, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.execs[id]
	if e == nil {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such exec instance: %s", id)
	}
	found := *e
	return &found, nil
}

func (m memExecs) Resize(ctx context.Context, id string, size sockerless.TerminalSize) error {
	_, err := m.Find(ctx, id)
	return err
}
