//go:build race

package agent_test

// Under the race detector the agent is built with it too.
func init() { buildFlags = append(buildFlags, "-race") }
