//go:build linux

package clients_test

import (
	"context"
	"errors"
	"os/exec"
	"testing"

	"github.com/sockerless/sockerless/conformance/host"
)

// python is Debian's, whose package python3-docker is meant: another Python in PATH does not see it.
const python = "/usr/bin/python3"

const noDockerPy = "docker-py is not here: scripts/setup conformance installs Debian's python3-docker"

// TestDockerPy runs the cases of docker-py, in the version that it negotiates and in the newest that the recorded dockerd
// knows, whose shapes are others.
func TestDockerPy(t *testing.T) {
	h, env := open(t)
	if !installed(t, exec.Command(python, "-c", "import docker"), noDockerPy) {
		return
	}
	if err := h.Import(t.Context(), testImage); err != nil {
		t.Fatal(err)
	}
	env = append(env, "ON=sockerless", "PULL="+h.Registry+"/minibox:latest", "IMAGE="+testImage)
	for _, version := range []string{"auto", "1.41"} {
		runTAP(t, command(t, append(env, "VERSION="+version), "dockerpy", python, "-B", "cases.py"), "in "+version)
	}
}

// TestDockerPyOnDockerd holds the cases themselves to a dockerd.
func TestDockerPyOnDockerd(t *testing.T) {
	env := openDockerd(t)
	if installed(t, exec.Command(python, "-c", "import docker"), noDockerPy) {
		runTAP(t, command(t, append(env, "VERSION=auto"), "dockerpy", python, "-B", "cases.py"), "in auto")
	}
}

// installed says whether a client can be loaded. If not, its cases wait, which is counted.
func installed(t *testing.T, load *exec.Cmd, reason string) bool {
	t.Helper()
	if load.Run() == nil {
		return true
	}
	check(t, "all cases", func(t *testing.T) { wait(t, reason) })
	return false
}

// testImage is the image that host.Import makes: the same on every host.
const testImage = "sockerless-conformance:1"

// openDockerd starts a dockerd, with an image and no registry, and returns the environment of its clients. The test is
// skipped where none is asked for, or there.
func openDockerd(t *testing.T) []string {
	t.Helper()
	if !*dockerd || !*all {
		t.Skip("`make conformance` asks a dockerd too")
	}
	h, err := host.Dockerd(context.Background(), folder(t))
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no dockerd in PATH")
	} else if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, h)
	if err := h.Import(t.Context(), testImage); err != nil {
		t.Fatal(err)
	}
	return append(environment(t, h), "ON=dockerd", "IMAGE="+testImage)
}
