package aca

import (
	"flag"
	"fmt"
	"time"
)

// Settings are what a program can be told by environment variables and by the flags that mirror them. A flag wins over
// its variable.
type Settings struct {
	flags *flag.FlagSet
	env   []setting
}

type setting struct{ env, flag string }

// SettingError is a missing or malformed setting. Its text names the setting and is one line.
type SettingError struct {
	Env, Flag string // the names of the setting
	Problem   string // "is not set", "is no URL", ...
}

// Error names the variable and the flag.
func (e *SettingError) Error() string {
	return fmt.Sprintf("%s (flag -%s) %s", e.Env, e.Flag, e.Problem)
}

// NewSettings returns settings that define their flags in fs.
func NewSettings(fs *flag.FlagSet) *Settings { return &Settings{flags: fs} }

// String defines a text setting that is stored in p. The default is p's value.
func (s *Settings) String(p *string, env, name, usage string) {
	s.flags.StringVar(p, name, *p, usage+" ("+env+")")
	s.env = append(s.env, setting{env, name})
}

// Duration defines a duration setting that is stored in p, as in 90s or 1h30m. The default is p's value.
func (s *Settings) Duration(p *time.Duration, env, name, usage string) {
	s.flags.DurationVar(p, name, *p, usage+" ("+env+")")
	s.env = append(s.env, setting{env, name})
}

// Load sets what getenv knows; an empty variable is one that is not set. Call it before the flags are parsed.
// A malformed value is a *SettingError.
func (s *Settings) Load(getenv func(string) string) error {
	for _, v := range s.env {
		text := getenv(v.env)
		if text == "" {
			continue
		}
		if err := s.flags.Set(v.flag, text); err != nil {
			return &SettingError{v.env, v.flag, fmt.Sprintf("is %q, which is no duration such as 90s", text)}
		}
	}
	return nil
}
