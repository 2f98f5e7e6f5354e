// Package drivertest holds the obligations of a driver.Driver as tests. Every driver runs them with Run.
package drivertest

import (
	"fmt"
	"os/exec"
	"path/filepath"
)

// BuildAgent builds the agent's program into a folder and returns its path. Tests call it in TestMain: the go command
// must be there.
func BuildAgent(dir string) (string, error) {
	path := filepath.Join(dir, "sockerless-agent")
	cmd := exec.Command("go", "build", "-o", path, "github.com/sockerless/sockerless/agent/cmd/sockerless-agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the agent: %w\n%s", err, out)
	}
	return path, nil
}
