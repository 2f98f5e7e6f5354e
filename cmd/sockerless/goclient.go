package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// goClient runs the demo's commands with Docker's Go client, where there is no docker CLI. It knows the commands that
// the demo uses, and refuses others.
type goClient struct{ c *client.Client }

func newGoClient(host string) (*goClient, error) {
	c, err := client.New(client.WithHost(host))
	return &goClient{c}, err
}

func (g *goClient) close() { g.c.Close() }

func (g *goClient) run(ctx context.Context, s step, out io.Writer) error {
	verb, args := s.args[0], s.args[1:]
	switch verb {
	case "pull":
		return g.pull(ctx, args[0], out)
	case "create", "run":
		return g.create(ctx, verb == "run", args, out)
	case "start":
		_, err := g.c.ContainerStart(ctx, args[0], client.ContainerStartOptions{})
		return err
	case "exec":
		return g.exec(ctx, args, s.typed, out)
	case "logs":
		return g.logs(ctx, args, s.until, out)
	case "inspect":
		r, err := g.c.ContainerInspect(ctx, args[len(args)-1], client.ContainerInspectOptions{})
		if err == nil {
			fmt.Fprintln(out, r.Container.State.Status)
		}
		return err
	case "stop", "restart":
		second := 1
		name := args[len(args)-1]
		var err error
		if verb == "stop" {
			_, err = g.c.ContainerStop(ctx, name, client.ContainerStopOptions{Timeout: &second})
		} else {
			_, err = g.c.ContainerRestart(ctx, name, client.ContainerRestartOptions{Timeout: &second})
		}
		return err
	case "wait":
		code, err := exitOf(g.c.ContainerWait(ctx, args[0], client.ContainerWaitOptions{}))
		if err == nil {
			fmt.Fprintln(out, code)
		}
		return err
	case "rm":
		_, err := g.c.ContainerRemove(ctx, args[0], client.ContainerRemoveOptions{})
		return err
	case "cp":
		return g.copy(ctx, args[0], args[1])
	case "ps":
		r, err := g.c.ContainerList(ctx, client.ContainerListOptions{All: true})
		for _, c := range r.Items {
			fmt.Fprintln(out, c.ID[:12], strings.Join(c.Names, " "), c.Image, c.Status)
		}
		return err
	case "container":
		r, err := g.c.ContainerPrune(ctx, client.ContainerPruneOptions{})
		for _, id := range r.Report.ContainersDeleted {
			fmt.Fprintln(out, "deleted", id)
		}
		return err
	}
	return fmt.Errorf("the demo's stand-in for the CLI does not know %q", verb)
}

func (g *goClient) pull(ctx context.Context, image string, out io.Writer) error {
	r, err := g.c.ImagePull(ctx, image, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer r.Close()
	for m, err := range r.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, strings.TrimSpace(m.ID+" "+m.Status))
	}
	return nil
}

// create serves `create --name N IMAGE...`, `run -d --name N IMAGE...` and `run --rm IMAGE...`.
func (g *goClient) create(ctx context.Context, run bool, args []string, out io.Writer) error {
	opt := client.ContainerCreateOptions{HostConfig: &container.HostConfig{}}
	detach := false
	for strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "--name":
			opt.Name, args = args[1], args[1:]
		case "--rm":
			opt.HostConfig.AutoRemove = true
		case "-d":
			detach = true
		}
		args = args[1:]
	}
	opt.Config = &container.Config{Image: args[0], Cmd: args[1:], AttachStdout: !detach, AttachStderr: !detach}
	c, err := g.c.ContainerCreate(ctx, opt)
	if err != nil {
		return err
	}
	if !run || detach {
		fmt.Fprintln(out, c.ID)
	}
	if !run {
		return nil
	}
	if detach {
		_, err := g.c.ContainerStart(ctx, c.ID, client.ContainerStartOptions{})
		return err
	}
	a, err := g.c.ContainerAttach(ctx, c.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return err
	}
	defer a.Close()
	wait := g.c.ContainerWait(ctx, c.ID, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := g.c.ContainerStart(ctx, c.ID, client.ContainerStartOptions{}); err != nil {
		return err
	}
	if _, err := stdcopy.StdCopy(out, out, a.Reader); err != nil {
		return err
	}
	code, err := exitOf(wait)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
}

// exitOf waits for what a wait was asked for.
func exitOf(wait client.ContainerWaitResult) (int64, error) {
	select {
	case r := <-wait.Result:
		return r.StatusCode, nil
	case err := <-wait.Error:
		return 0, err
	}
}

func (g *goClient) exec(ctx context.Context, args []string, typed string, out io.Writer) error {
	tty := args[0] == "-it"
	if tty {
		args = args[1:]
	}
	e, err := g.c.ExecCreate(ctx, args[0], client.ExecCreateOptions{TTY: tty, AttachStdin: tty, AttachStdout: true, AttachStderr: true, Cmd: args[1:]})
	if err != nil {
		return err
	}
	a, err := g.c.ExecAttach(ctx, e.ID, client.ExecAttachOptions{TTY: tty})
	if err != nil {
		return err
	}
	defer a.Close()
	if tty {
		if _, err := io.WriteString(a.Conn, typed); err != nil {
			return err
		}
		if _, err := io.Copy(out, a.Reader); err != nil {
			return err
		}
	} else if _, err := stdcopy.StdCopy(out, out, a.Reader); err != nil {
		return err
	}
	r, err := g.c.ExecInspect(ctx, e.ID, client.ExecInspectOptions{})
	if err == nil && r.ExitCode != 0 {
		err = fmt.Errorf("exit code %d", r.ExitCode)
	}
	return err
}

func (g *goClient) logs(ctx context.Context, args []string, until string, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := g.c.ContainerLogs(ctx, args[len(args)-1], client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: args[0] == "-f", Timestamps: args[0] == "--timestamps",
	})
	if err != nil {
		return err
	}
	defer r.Close()
	seen := &watcher{out: out, until: until, found: cancel}
	_, err = stdcopy.StdCopy(seen, seen, r)
	if seen.done() {
		return nil
	}
	return err
}

// copy serves `cp FILE CONTAINER:PATH` and `cp CONTAINER:FILE PATH`, for one small file.
func (g *goClient) copy(ctx context.Context, from, to string) error {
	if name, file, ok := strings.Cut(to, ":"); ok {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := errors.Join(
			w.WriteHeader(&tar.Header{Name: path.Base(file), Mode: 0o644, Size: int64(len(text))}),
			second(w.Write(text)), w.Close(),
		); err != nil {
			return err
		}
		_, err = g.c.CopyToContainer(ctx, name, client.CopyToContainerOptions{DestinationPath: path.Dir(file), Content: &archive})
		return err
	}
	name, file, _ := strings.Cut(from, ":")
	r, err := g.c.CopyFromContainer(ctx, name, client.CopyFromContainerOptions{SourcePath: file})
	if err != nil {
		return err
	}
	defer r.Content.Close()
	archive := tar.NewReader(r.Content)
	if _, err := archive.Next(); err != nil {
		return err
	}
	text, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

func second(_ int, err error) error { return err }
