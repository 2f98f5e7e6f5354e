package images

import (
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"github.com/sockerless/sockerless"
)

// ApplyChanges changes a config by the Dockerfile instructions that `--change` of docker import and docker commit takes.
// Whatever it does not know or cannot read is EINVALID. It writes into the config's maps and lists.
func ApplyChanges(cfg *container.Config, changes []string) error {
	commanded := false
	for _, line := range logicalLines(changes) {
		word, rest, _ := strings.Cut(strings.TrimLeftFunc(line, unicode.IsSpace), " ")
		if i := strings.IndexFunc(word, unicode.IsSpace); i >= 0 { // a tab after the instruction
			word, rest = word[:i], word[i:]+" "+rest
		}
		name := strings.ToUpper(word)
		apply, ok := instructions[name]
		if !ok {
			return sockerless.Errorf(sockerless.EINVALID, "%s is not a valid change command", bounded(word))
		}
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return sockerless.Errorf(sockerless.EINVALID, "%s requires at least one argument", name)
		}
		switch {
		case name == "CMD":
			commanded = true
		case name == "ENTRYPOINT" && !commanded:
			cfg.Cmd = nil // an entrypoint of one's own makes the command that was there meaningless
		}
		if err := apply(cfg, rest); err != nil {
			return sockerless.Errorf(sockerless.EINVALID, "%s: %w", name, err)
		}
	}
	return nil
}

// logicalLines joins continued lines and drops comments and empty ones, as in a Dockerfile.
func logicalLines(changes []string) []string {
	var out []string
	var line strings.Builder
	for _, part := range strings.Split(strings.Join(changes, "\n"), "\n") {
		trimmed := strings.TrimRight(part, " \t\r")
		if t := strings.TrimSpace(trimmed); t == "" || strings.HasPrefix(t, "#") {
			continue
		}
		if head, more := strings.CutSuffix(trimmed, `\`); more {
			line.WriteString(head)
			continue
		}
		line.WriteString(trimmed)
		out = append(out, line.String())
		line.Reset()
	}
	if line.Len() > 0 {
		out = append(out, line.String())
	}
	return out
}

// changeError is a plain sentence; ApplyChanges names the instruction.
type changeError string

func (e changeError) Error() string { return string(e) }

// instructions are those that dockerd allows here.
var instructions = map[string]func(cfg *container.Config, rest string) error{
	"CMD":         func(cfg *container.Config, rest string) error { cfg.Cmd = command(rest); return nil },
	"ENTRYPOINT":  func(cfg *container.Config, rest string) error { cfg.Entrypoint = command(rest); return nil },
	"ENV":         changeEnv,
	"EXPOSE":      changeExpose,
	"HEALTHCHECK": changeHealthcheck,
	"LABEL":       changeLabel,
	"ONBUILD":     changeOnbuild,
	"STOPSIGNAL":  changeStopSignal,
	"USER":        changeUser,
	"VOLUME":      changeVolume,
	"WORKDIR":     changeWorkdir,
}

// command reads the exec form, a JSON list, or else the shell form.
func command(rest string) []string {
	if list, ok := jsonList(rest); ok {
		return list
	}
	return []string{"/bin/sh", "-c", rest}
}

func jsonList(s string) ([]string, bool) {
	var list []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

func changeEnv(cfg *container.Config, rest string) error {
	pairs, err := pairs(rest, cfg.Env)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		cfg.Env = setEnv(cfg.Env, p[0], p[1])
	}
	return nil
}

func setEnv(env []string, name, value string) []string {
	for i, e := range env {
		if n, _, _ := strings.Cut(e, "="); n == name {
			env[i] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

func changeLabel(cfg *container.Config, rest string) error {
	pairs, err := pairs(rest, cfg.Env)
	if err != nil {
		return err
	}
	if cfg.Labels == nil {
		cfg.Labels = map[string]string{}
	}
	for _, p := range pairs {
		cfg.Labels[p[0]] = p[1]
	}
	return nil
}

// pairs reads `a=b c="d e"`, or the old form `a b c`, which is one pair.
func pairs(rest string, env []string) ([][2]string, error) {
	words, err := split(rest)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(words[0], "=") {
		i := strings.IndexFunc(rest, unicode.IsSpace)
		if i < 0 {
			return nil, changeError("must have two arguments")
		}
		value, err := expand(strings.TrimSpace(rest[i:]), env)
		return [][2]string{{rest[:i], value}}, err
	}
	var out [][2]string
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, changeError("can't find = in " + strconv.Quote(bounded(w)) + ". Must be of the form: name=value")
		}
		if name, err = expand(name, env); err != nil {
			return nil, err
		}
		if value, err = expand(value, env); err != nil {
			return nil, err
		}
		if name == "" {
			return nil, changeError("names can not be blank")
		}
		out = append(out, [2]string{name, value})
	}
	return out, nil
}

func changeExpose(cfg *container.Config, rest string) error {
	words, err := expandAll(rest, cfg.Env)
	if err != nil {
		return err
	}
	if cfg.ExposedPorts == nil {
		cfg.ExposedPorts = network.PortSet{}
	}
	for _, w := range words {
		ports, proto, _ := strings.Cut(w, "/")
		if proto = strings.ToLower(proto); proto == "" {
			proto = "tcp"
		}
		from, to, ranged := strings.Cut(ports, "-")
		if !ranged {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		switch {
		case err1 != nil || err2 != nil || low == 0 || low > high:
			return changeError("invalid containerPort: " + bounded(w))
		case proto != "tcp" && proto != "udp" && proto != "sctp":
			return changeError("invalid proto: " + bounded(proto))
		}
		for port := low; port <= high; port++ {
			p, _ := network.PortFrom(uint16(port), network.IPProtocol(proto)) // not ok only without a protocol
			cfg.ExposedPorts[p] = struct{}{}
		}
	}
	return nil
}

func changeHealthcheck(cfg *container.Config, rest string) error {
	h := container.HealthConfig{}
	durations := map[string]*time.Duration{
		"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval,
	}
	for strings.HasPrefix(rest, "--") {
		var option string
		option, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		name, value, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		if at, ok := durations[name]; ok {
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 || d > 0 && d < time.Millisecond {
				return changeError("--" + name + " wants a duration of at least 1ms: " + bounded(value))
			}
			*at = d
			continue
		}
		n, err := strconv.Atoi(value)
		if name != "retries" {
			return changeError("unknown flag: " + bounded(name))
		}
		if err != nil || n < 0 {
			return changeError("--retries wants a number: " + bounded(value))
		}
		h.Retries = n
	}
	kind, rest, _ := strings.Cut(rest, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if rest != "" || h.Interval+h.Timeout+h.StartPeriod+h.StartInterval != 0 || h.Retries != 0 {
			return changeError("NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		if rest == "" {
			return changeError("missing command after CMD")
		}
		if list, ok := jsonList(rest); ok {
			h.Test = append([]string{"CMD"}, list...)
		} else {
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return changeError("unknown type " + strconv.Quote(bounded(kind)) + " (try CMD)")
	}
	cfg.Healthcheck = &h
	return nil
}

func changeOnbuild(cfg *container.Config, rest string) error {
	trigger, _, _ := strings.Cut(rest, " ")
	switch strings.ToUpper(trigger) {
	case "ONBUILD":
		return changeError("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
	case "MAINTAINER", "FROM":
		return changeError(strings.ToUpper(trigger) + " isn't allowed as an ONBUILD trigger")
	}
	cfg.OnBuild = append(cfg.OnBuild, rest)
	return nil
}

func changeStopSignal(cfg *container.Config, rest string) error {
	name, err := expand(rest, cfg.Env)
	if err != nil {
		return err
	}
	if _, err := signal.ParseSignal(name); err != nil {
		return changeError("invalid signal: " + bounded(name))
	}
	cfg.StopSignal = name
	return nil
}

func changeUser(cfg *container.Config, rest string) error {
	words, err := expandAll(rest, cfg.Env)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return changeError("requires exactly one argument")
	}
	cfg.User = words[0]
	return nil
}

func changeVolume(cfg *container.Config, rest string) error {
	list, ok := jsonList(rest)
	if !ok {
		var err error
		if list, err = expandAll(rest, cfg.Env); err != nil {
			return err
		}
	}
	if cfg.Volumes == nil {
		cfg.Volumes = map[string]struct{}{}
	}
	for _, v := range list {
		if strings.TrimSpace(v) == "" {
			return changeError("a volume can not be an empty string")
		}
		cfg.Volumes[v] = struct{}{}
	}
	return nil
}

func changeWorkdir(cfg *container.Config, rest string) error {
	dir, err := expand(rest, cfg.Env)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", cfg.WorkingDir, dir)
	}
	cfg.WorkingDir = path.Clean(dir)
	return nil
}
