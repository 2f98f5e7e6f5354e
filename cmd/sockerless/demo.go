package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// step is one line of the demo: what a user would type.
type step struct {
	say   string   // printed above the command, if set
	args  []string // of docker
	typed string   // what is typed into the terminal that the command has; empty: it has none
	until string   // the output that a command without an end of its own is watched for
}

// docker runs docker commands: the CLI, or Docker's Go client where there is no CLI.
type docker interface {
	// run runs one command and copies what it prints to out. until, if set, ends it once that was printed.
	run(ctx context.Context, s step, out io.Writer) error
}

// steps are the walk-through. dir holds the files that go in and out.
func steps(acr, dir string) []step {
	image := acr + "/minibox:latest"
	note, back := filepath.Join(dir, "note.txt"), filepath.Join(dir, "hostname.txt")
	line := func(s string) []string { return strings.Fields(s) }
	return []step{
		{say: "An image is resolved in its registry; its layers stay there.", args: line("pull " + image)},
		{
			say:  "A container is a Container Apps Job execution.",
			args: append(line("run --rm "+image+" echo"), "Hello from Azure Container Apps!"),
		},
		{say: "create makes no Azure call; start makes one job and one execution.", args: line("create --name myjob " + image + " tail -f /dev/null")},
		{args: line("start myjob")},
		{args: line("ps -a")},
		{say: "An agent in the container answers for it: exec, a terminal, files.", args: line("exec myjob ls /")},
		{args: line("exec myjob cat /etc/os-release")},
		{args: line("exec -it myjob sh"), typed: "echo typed into a terminal\nexit\n"},
		{args: line("cp " + note + " myjob:/tmp/test.txt")},
		{args: line("exec myjob cat /tmp/test.txt")},
		{args: line("cp myjob:/etc/hostname " + back)},
		{
			say:  "Logs come from the agent, at once.",
			args: append(line("run -d --name talker "+image+" sh -c"), "for i in 1 2 3; do echo line $i; sleep 0.3; done"),
		},
		{args: line("logs -f talker"), until: "line 3"},
		{args: line("logs --timestamps talker")},
		{args: line("inspect -f {{.State.Status}} myjob")},
		{say: "stop asks, waits, and tells how it ended; restart keeps the files.", args: line("stop -t 1 myjob")},
		{args: line("restart -t 1 myjob")},
		{args: line("exec myjob cat /tmp/test.txt")},
		{args: line("stop -t 1 myjob")},
		{args: line("rm myjob")},
		{args: line("wait talker")},
		{args: line("container prune -f")},
		{args: line("ps -a")},
	}
}

// demo runs the walk-through on a simulated Azure of its own, shows every command and what it prints, and ends.
func demo(ctx context.Context, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "sockerless-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "note.txt"), []byte("a note from outside\n"), 0o600); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "# Starting a simulated Azure, the backend and the frontend.")
	h, err := startHost(ctx, hostOptions{
		Sim: true, Addr: "unix://" + filepath.Join(dir, "docker.sock"), Data: filepath.Join(dir, "data"), Stderr: stderr,
	})
	if err != nil {
		return err
	}
	runErr := runSteps(ctx, h, dir, stdout)
	closeErr := h.Close()
	if runErr == nil && closeErr == nil {
		fmt.Fprintln(stdout, "# Done: nothing is left running.")
	}
	return errors.Join(runErr, closeErr)
}

func runSteps(ctx context.Context, h *host, dir string, stdout io.Writer) error {
	var d docker
	if path, err := exec.LookPath("docker"); err == nil {
		d = &cli{path: path, host: h.Addr, config: filepath.Join(dir, "docker-config")}
	} else {
		fmt.Fprintln(stdout, "# There is no docker CLI here: Docker's Go client stands in for it.")
		c, err := newGoClient(h.Addr)
		if err != nil {
			return err
		}
		defer c.close()
		d = c
	}
	fmt.Fprintf(stdout, "export DOCKER_HOST=%s\nexport ACR_SERVER=%s\n", h.Addr, h.ACR)
	for _, s := range steps(h.ACR, dir) {
		if s.say != "" {
			fmt.Fprintf(stdout, "\n# %s\n", s.say)
		}
		fmt.Fprintf(stdout, "$ docker %s\n", quote(s.args))
		start := time.Now()
		stepCtx, cancel := context.WithTimeout(ctx, 3*time.Minute)
		err := d.run(stepCtx, s, stdout)
		cancel()
		if err != nil {
			return fmt.Errorf("docker %s: %w", quote(s.args), err)
		}
		if took := time.Since(start); took > time.Second {
			fmt.Fprintf(stdout, "# (%.1f s: the simulator is as slow as a platform is)\n", took.Seconds())
		}
	}
	return nil
}

// quote writes arguments as one would type them.
func quote(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if strings.ContainsAny(a, " $;!'\"*") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words[i] = a
	}
	return strings.Join(words, " ")
}
