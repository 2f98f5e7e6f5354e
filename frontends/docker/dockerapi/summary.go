package dockerapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// summary is a container as `docker ps` wants it.
type summary struct {
	container.Summary
	Ports  []port
	Health *container.HealthSummary `json:",omitempty"` // since 1.52; before it is in Status alone
}

// port is one in the list of a summary. That of Docker's own package always has an IP, which is empty here.
type port struct {
	PrivatePort uint16
	Type        string
}

func summarize(c *sockerless.Container, now time.Time, v version) *summary {
	s := &summary{Summary: container.Summary{
		ID:      c.ID,
		Names:   []string{"/" + c.Name},
		Image:   c.Config.Image,
		ImageID: c.Image,
		Command: commandLine(c.Config),
		Created: c.Created.Unix(),
		Labels:  orEmptyMap(c.Config.Labels),
		State:   c.State.Status,
		Status:  statusLine(&c.State, now),
		Mounts:  []container.MountPoint{},
	}, Ports: []port{}}
	for p := range ports(c) {
		s.Ports = append(s.Ports, port{PrivatePort: p.Num(), Type: string(p.Proto())})
	}
	slices.SortFunc(s.Ports, func(a, b port) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type))
	})
	s.HostConfig.NetworkMode = networkMode(c)
	if c.HostConfig != nil {
		s.HostConfig.Annotations = c.HostConfig.Annotations
	}
	s.NetworkSettings = &container.NetworkSettingsSummary{Networks: endpoints(c)}
	if !v.before(52) {
		s.Health = &container.HealthSummary{Status: container.NoHealthcheck}
		if health := c.State.Health; health != nil && c.State.Status == container.StateRunning {
			s.Health.Status, s.Health.FailingStreak = health.Status, health.FailingStreak
		}
	}
	return s
}

// command returns what runs, as Docker tells it: the executable and its arguments.
func command(config *container.Config) (path string, args []string) {
	all := append(append([]string{}, config.Entrypoint...), config.Cmd...)
	if len(all) == 0 {
		return "", []string{}
	}
	return all[0], all[1:]
}

// commandLine is the COMMAND column: dockerd quotes an argument with a blank in it and no other.
func commandLine(config *container.Config) string {
	path, args := command(config)
	for _, arg := range args {
		if strings.Contains(arg, " ") {
			arg = "'" + arg + "'"
		}
		path += " " + arg
	}
	return path
}

// statusLine is the STATUS column.
func statusLine(s *sockerless.State, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch s.Status {
	case container.StateRunning:
		if s.Health != nil && s.Health.Status != container.NoHealthcheck {
			health := string(s.Health.Status)
			if s.Health.Status == container.Starting {
				health = "health: starting"
			}
			return fmt.Sprintf("Up %s (%s)", since(s.StartedAt), health)
		}
		return "Up " + since(s.StartedAt)
	case container.StatePaused:
		return fmt.Sprintf("Up %s (Paused)", since(s.StartedAt))
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case container.StateRemoving:
		return "Removal In Progress"
	case container.StateDead:
		return "Dead"
	case container.StateCreated:
		return "Created"
	}
	if s.FinishedAt.IsZero() {
		return ""
	}
	return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
}
