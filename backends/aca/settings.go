package aca

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Settings are what a program can be told by environment variables and by the flags that mirror them. A flag wins over
// its variable.
type Settings struct {
	flags *flag.FlagSet
	env   []setting
}

type setting struct {
	env, flag, form string

	secret *string // where a setting without a flag goes
	usage  string  // of one
}

// SettingError is a missing or malformed setting. Its text names the setting and is one line.
type SettingError struct {
	Env, Flag string // the names of the setting; a secret has no flag
	Problem   string // "is not set", "is no URL", ...
}

// Error names the variable and the flag.
func (e *SettingError) Error() string {
	if e.Flag == "" {
		return e.Env + " " + e.Problem
	}
	return fmt.Sprintf("%s (flag -%s) %s", e.Env, e.Flag, e.Problem)
}

// NewSettings returns settings that define their flags in fs.
func NewSettings(fs *flag.FlagSet) *Settings { return &Settings{flags: fs} }

// String defines a text setting that is stored in p. The default is p's value.
func (s *Settings) String(p *string, env, name, usage string) {
	s.flags.StringVar(p, name, *p, usage+" ("+env+")")
	s.env = append(s.env, setting{env: env, flag: name, form: "text"})
}

// Secret defines a text setting that is stored in p and has no flag: everybody on a machine can read the arguments of its
// programs.
func (s *Settings) Secret(p *string, env, usage string) {
	s.env = append(s.env, setting{env: env, secret: p, usage: usage})
}

// Variables are the names of all variables.
func (s *Settings) Variables() (names []string) {
	for _, v := range s.env {
		names = append(names, v.env)
	}
	return names
}

// PrintSecrets writes what the help of flags cannot tell: the variables that have none.
func (s *Settings) PrintSecrets(w io.Writer) {
	for _, v := range s.env {
		if v.secret != nil {
			fmt.Fprintf(w, "  %s\n    \t%s\n", v.env, v.usage)
		}
	}
}

// Duration defines a duration setting that is stored in p, as in 90s or 1h30m. The default is p's value.
func (s *Settings) Duration(p *time.Duration, env, name, usage string) {
	s.flags.DurationVar(p, name, *p, usage+" ("+env+")")
	s.env = append(s.env, setting{env: env, flag: name, form: "duration such as 90s"})
}

// Size defines a setting of bytes that is stored in p, as in 512m or 4g. The default is p's value.
func (s *Settings) Size(p *int64, env, name, usage string) {
	s.flags.Var((*byteSize)(p), name, usage+" ("+env+")")
	s.env = append(s.env, setting{env: env, flag: name, form: "size such as 4g"})
}

// byteSize is a flag.Value.
type byteSize int64

// String implements flag.Value.
func (s *byteSize) String() string {
	return strings.ReplaceAll(units.CustomSize("%g%s", float64(*s), 1024, []string{"b", "k", "m", "g", "t"}), " ", "")
}

// Set implements flag.Value.
func (s *byteSize) Set(text string) error {
	n, err := units.RAMInBytes(text)
	if err == nil {
		*s = byteSize(n)
	}
	return err
}

// Load sets what getenv knows; an empty variable is one that is not set. Call it before the flags are parsed.
// A malformed value is a *SettingError.
func (s *Settings) Load(getenv func(string) string) error {
	for _, v := range s.env {
		text := getenv(v.env)
		if text == "" {
			continue
		}
		if v.secret != nil {
			*v.secret = text
			continue
		}
		if err := s.flags.Set(v.flag, text); err != nil {
			return &SettingError{v.env, v.flag, fmt.Sprintf("is %q, which is no %s", text, v.form)}
		}
	}
	return nil
}
