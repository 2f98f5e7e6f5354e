package engine

import (
	"maps"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// merge completes what the user asked for with what the image says, by the rules of dockerd.
func merge(user, image *docker.Config) error {
	if image == nil {
		image = &docker.Config{}
	}
	if user.User == "" {
		user.User = image.User
	}
	user.ExposedPorts = union(user.ExposedPorts, image.ExposedPorts)
	user.Volumes = union(user.Volumes, image.Volumes)
	user.Labels = union(user.Labels, image.Labels)
	if user.Labels == nil {
		user.Labels = map[string]string{}
	}
	for _, kv := range image.Env {
		key, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(user.Env, func(s string) bool { k, _, _ := strings.Cut(s, "="); return k == key }) {
			user.Env = append(user.Env, kv)
		}
	}
	// An entrypoint of one's own makes the image's command meaningless.
	if len(user.Entrypoint) == 0 {
		if len(user.Cmd) == 0 {
			user.Cmd, user.ArgsEscaped = image.Cmd, image.ArgsEscaped
		}
		if user.Entrypoint == nil {
			user.Entrypoint = image.Entrypoint
		}
	}
	mergeHealth(user, image)
	if user.WorkingDir == "" {
		user.WorkingDir = image.WorkingDir
	}
	if user.StopSignal == "" {
		user.StopSignal = image.StopSignal
	}
	if user.Shell == nil {
		user.Shell = image.Shell
	}
	user.OnBuild = image.OnBuild
	// --entrypoint "" says that the image's is not wanted.
	if len(user.Entrypoint) == 1 && user.Entrypoint[0] == "" {
		user.Entrypoint = nil
	}
	if len(user.Entrypoint) == 0 && len(user.Cmd) == 0 {
		return sockerless.Errorf(sockerless.EINVALID, "no command specified")
	}
	return nil
}

func mergeHealth(user, image *docker.Config) {
	if image.Healthcheck == nil {
		return
	}
	if user.Healthcheck == nil {
		h := *image.Healthcheck
		user.Healthcheck = &h
		return
	}
	u, i := user.Healthcheck, image.Healthcheck
	if len(u.Test) == 0 {
		u.Test = i.Test
	}
	if u.Interval == 0 {
		u.Interval = i.Interval
	}
	if u.Timeout == 0 {
		u.Timeout = i.Timeout
	}
	if u.StartPeriod == 0 {
		u.StartPeriod = i.StartPeriod
	}
	if u.StartInterval == 0 {
		u.StartInterval = i.StartInterval
	}
	if u.Retries == 0 {
		u.Retries = i.Retries
	}
}

// union adds to mine what is only in theirs.
func union[M ~map[K]V, K comparable, V any](mine, theirs M) M {
	if len(mine) == 0 {
		return maps.Clone(theirs)
	}
	for k, v := range theirs {
		if _, ok := mine[k]; !ok {
			mine[k] = v
		}
	}
	return mine
}

// defaultPath is what Docker gives a container whose image says nothing.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is what the container's process gets beside HOME: Docker's own variables, under the container's.
func environment(config *docker.Config, tty bool) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + config.Hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return override(env, config.Env)
}

// override sets or adds variables. An entry without "=" takes its variable away, as in Docker.
func override(env, more []string) []string {
	out := slices.Clone(env)
	for _, kv := range more {
		key, _, set := strings.Cut(kv, "=")
		i := slices.IndexFunc(out, func(s string) bool { k, _, _ := strings.Cut(s, "="); return k == key })
		switch {
		case i >= 0 && set:
			out[i] = kv
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		case set:
			out = append(out, kv)
		}
	}
	return out
}
