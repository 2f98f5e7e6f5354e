//go:build linux

package clients_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDockerode runs the cases of dockerode.
func TestDockerode(t *testing.T) {
	h, env := open(t)
	if !installDockerode(t) {
		return
	}
	if err := h.Import(t.Context(), testImage); err != nil {
		t.Fatal(err)
	}
	runTAP(t, command(t, append(env, "PULL="+h.Registry+"/minibox:latest", "IMAGE="+testImage), "dockerode", "node", "cases.js"), "dockerode")
}

// TestDockerodeOnDockerd holds the cases themselves to a dockerd.
func TestDockerodeOnDockerd(t *testing.T) {
	env := openDockerd(t)
	if installDockerode(t) {
		runTAP(t, command(t, env, "dockerode", "node", "cases.js"), "dockerode")
	}
}

// installDockerode has npm get what package-lock.json pins, if that is not there yet.
func installDockerode(t *testing.T) bool {
	t.Helper()
	installed, err := filepath.Glob("dockerode/node_modules/.package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(installed) > 0 {
		return true
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = "dockerode"
	out, err := npm.CombinedOutput()
	if err != nil {
		check(t, "all cases", func(t *testing.T) {
			wait(t, "dockerode cannot be had: "+err.Error()+": "+string(out[:min(len(out), 200)]))
		})
		return false
	}
	return true
}
