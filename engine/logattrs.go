package engine

import (
	"os"
	"regexp"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// logAttributes are what `docker logs --details` shows beside each line: the labels and variables that the options of
// the log name, and its tag. Only Docker's json-file has them.
func logAttributes(rec *record) (map[string]string, error) {
	options := rec.HostConfig.LogConfig.Config
	if len(options) == 0 || rec.HostConfig.LogConfig.Type == "local" {
		return nil, nil
	}
	env := make(map[string]string, len(rec.Config.Env))
	for _, kv := range rec.Config.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	attrs := make(map[string]string)
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", rec.Config.Labels}, {"env", env}} {
		for name := range strings.SplitSeq(options[from.option], ",") {
			if v, ok := from.values[name]; ok {
				attrs[name] = v
			}
		}
		pattern := options[from.option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "failed to initialize logging driver: %w", err)
		}
		for name, v := range from.values {
			if re.MatchString(name) {
				attrs[name] = v
			}
		}
	}
	tag, err := logTag(options["tag"], rec)
	if err != nil {
		return nil, err
	}
	if tag != "" {
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

var tagMark = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// logTag fills in the marks that Docker documents for tags. A tag is a template of Go's in Docker; what else that
// language can do is refused, for a template that loops would loop in the backend.
func logTag(tag string, rec *record) (string, error) {
	var unknown string
	if _, rest, ok := strings.Cut(tagMark.ReplaceAllString(tag, ""), "{{"); ok {
		unknown = "{{" + rest
	}
	out := tagMark.ReplaceAllStringFunc(tag, func(mark string) string {
		name := tagMark.FindStringSubmatch(mark)[1]
		switch name {
		case ".ID":
			return rec.ID[:12]
		case ".FullID":
			return rec.ID
		case ".Name":
			return rec.Name
		case ".ImageID":
			return rec.Image[:min(12, len(rec.Image))]
		case ".ImageFullID":
			return rec.Image
		case ".ImageName":
			return rec.Config.Image
		case ".DaemonName":
			return "docker"
		case ".Command":
			return commandLine(rec.Config)
		case ".Hostname":
			host, err := os.Hostname()
			if err != nil {
				unknown = name
			}
			return host
		}
		unknown = mark
		return ""
	})
	if unknown != "" {
		return "", sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --log-opt tag: only the marks {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}}, {{.DaemonName}}, {{.Command}} and {{.Hostname}} are filled in, not %q", unknown)
	}
	return out, nil
}

func commandLine(c *docker.Config) string {
	return strings.Join(append(c.Entrypoint[:len(c.Entrypoint):len(c.Entrypoint)], c.Cmd...), " ")
}
