//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sockerless/sockerless/azuresim"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newProcess is what a container's first process runs as, by Kubernetes' rules: command replaces the image's ENTRYPOINT and
// CMD, args its CMD; $(NAME) in them and in the environment is replaced by the container's own variables.
func newProcess(c azuresim.ContainerSpec, hostname string, config v1.Config, root *os.Root) (*specs.Process, error) {
	own := map[string]string{}
	var env []string
	set := func(kv string) {
		name, _, _ := strings.Cut(kv, "=")
		for i, old := range env {
			if strings.HasPrefix(old, name+"=") {
				env[i] = kv
				return
			}
		}
		env = append(env, kv)
	}
	set(defaultPath)
	set("HOSTNAME=" + hostname)
	for _, kv := range config.Env {
		set(kv)
	}
	for _, kv := range c.Env {
		name, value, _ := strings.Cut(kv, "=")
		value = expand(value, own)
		own[name] = value
		set(name + "=" + value)
	}
	var argv []string
	for _, list := range [][]string{c.Command, c.Args} {
		for _, a := range list {
			argv = append(argv, expand(a, own))
		}
	}
	if len(c.Command) == 0 {
		image := append([]string{}, config.Entrypoint...)
		if len(c.Args) == 0 {
			image = append(image, config.Cmd...)
		}
		argv = append(image, argv...)
	}
	if len(argv) == 0 {
		return nil, errors.New("no command specified: the image has none and the job's template gives none")
	}
	who, err := lookupUser(config.User, root)
	if err != nil {
		return nil, err
	}
	cwd := config.WorkingDir
	if cwd == "" {
		cwd = "/"
	}
	if !strings.HasPrefix(cwd, "/") {
		cwd = "/" + cwd
	}
	return &specs.Process{
		User: who, Args: argv, Env: env, Cwd: cwd,
		Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
	}, nil
}

// expand replaces $(NAME) by the variable, $$ by $, and leaves what names no variable as it stands: Kubernetes' rule for
// command, args and env.
func expand(s string, vars map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		switch s[1] {
		case '$':
			b.WriteByte('$')
			s = s[2:]
			continue
		case '(':
			if end := strings.IndexByte(s, ')'); end > 0 {
				if v, ok := vars[s[2:end]]; ok {
					b.WriteString(v)
				} else {
					b.WriteString(s[:end+1])
				}
				s = s[end+1:]
				continue
			}
		}
		b.WriteByte('$')
		s = s[1:]
	}
}

// lookupUser resolves the image's USER in the image's own /etc/passwd and /etc/group; numbers need not be in them.
func lookupUser(name string, root *os.Root) (specs.User, error) {
	passwd, err := openIfThere(root, "etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	defer passwd.Close()
	group, err := openIfThere(root, "etc/group")
	if err != nil {
		return specs.User{}, err
	}
	defer group.Close()
	found, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, passwd, group)
	if err != nil {
		return specs.User{}, fmt.Errorf("cannot run as the image's user %q: %w", name, err)
	}
	who := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, g := range found.Sgids {
		who.AdditionalGids = append(who.AdditionalGids, uint32(g))
	}
	return who, nil
}

// openIfThere opens a file of the image, or /dev/null when there is none. os.Root refuses absolute links, which in an image
// mean the image's own root.
func openIfThere(root *os.Root, name string) (*os.File, error) {
	for range 10 {
		to, err := root.Readlink(name)
		if err != nil || !path.IsAbs(to) {
			break
		}
		name = strings.TrimPrefix(path.Clean(to), "/")
	}
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(os.DevNull)
	}
	return f, err
}
