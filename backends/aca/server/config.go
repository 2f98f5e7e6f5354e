package server

import (
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/remote"
)

// Config is everything that a backend for Container Apps can be told.
type Config struct {
	Azure     aca.Config
	Addr      string        // where the API and the agents' route are served: host:port
	DataDir   string        // state, key, token, logs; on a local disk
	State     string        // empty: in DataDir; else a table, as aca.StateProblem wants it: it has the key and the token too
	Token     string        // what frontends show, 64 hexadecimal digits; empty: the backend makes one, once
	CopyLimit int64         // bytes of what is copied into containers before their start, in all
	Linger    time.Duration // how long an exited container's replica stays
	StartWait time.Duration // how long a start waits for the agent's word
}

// The defaults of a backend.
const (
	defaultAddr      = ":9100"
	defaultLinger    = time.Minute
	defaultCopyLimit = 4 << 30
	defaultStartWait = 50 * time.Second // clients give up after 60
)

// DefaultConfig returns the defaults. It fails where no data folder can be chosen: without a home.
func DefaultConfig() (Config, error) {
	dir, err := remote.DefaultDataDir()
	if err != nil {
		return Config{}, err
	}
	return Config{Azure: aca.DefaultConfig(), Addr: defaultAddr, DataDir: dir, Linger: defaultLinger, CopyLimit: defaultCopyLimit, StartWait: defaultStartWait}, nil
}

// Settings defines the variables and flags of c in s, those of Azure included, but for Addr, which is a flag alone.
func (c *Config) Settings(s *aca.Settings) {
	c.Azure.Settings(s)
	s.String(&c.DataDir, "SOCKERLESS_DATA_DIR", "data-dir", "folder for state, key, token and logs, on a local disk")
	s.String(&c.State, "SOCKERLESS_STATE", "state", "where the state is kept: table://ACCOUNT/TABLE in Azure Table Storage, or a table's https URL; if it is not set, in the data folder")
	s.Secret(&c.Token, "SOCKERLESS_TOKEN", "what frontends prove themselves with, 64 hexadecimal digits; if it is not set, the backend makes it")
	s.Duration(&c.Linger, "SOCKERLESS_ACA_LINGER", "linger", "how long the replica of an exited container stays, for cp, logs and a quick restart")
	s.Size(&c.CopyLimit, "SOCKERLESS_COPY_LIMIT", "copy-limit", "how much may be copied into containers before their start, kept in the data folder, in all")
	s.Duration(&c.StartWait, "SOCKERLESS_ACA_START_WAIT", "start-wait", "how long docker start waits for the container before it goes on behind")
}

// Validate normalises c and says what is missing or malformed: an *aca.SettingError.
func (c *Config) Validate() error {
	if err := c.Azure.Validate(); err != nil {
		return err
	}
	if problem := aca.StateProblem(c.State); problem != "" {
		return &aca.SettingError{Env: "SOCKERLESS_STATE", Flag: "state", Problem: problem}
	}
	if _, ok := remote.ParseToken(c.Token); c.Token != "" && !ok { // it is not shown, whatever it is
		return &aca.SettingError{Env: "SOCKERLESS_TOKEN", Problem: "is not 64 hexadecimal digits"}
	}
	if c.Linger < 0 || c.Linger > maxLinger {
		return &aca.SettingError{Env: "SOCKERLESS_ACA_LINGER", Flag: "linger", Problem: fmt.Sprintf("is %v; it must be between 0s and %v", c.Linger, maxLinger)}
	}
	if c.CopyLimit <= 0 {
		return &aca.SettingError{Env: "SOCKERLESS_COPY_LIMIT", Flag: "copy-limit", Problem: "is no size above 0"}
	}
	if c.StartWait <= 0 {
		return &aca.SettingError{Env: "SOCKERLESS_ACA_START_WAIT", Flag: "start-wait", Problem: fmt.Sprintf("is %v; it must be above 0s", c.StartWait)}
	}
	if c.DataDir == "" {
		return &aca.SettingError{Env: "SOCKERLESS_DATA_DIR", Flag: "data-dir", Problem: "is not set"}
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return &aca.SettingError{Env: "SOCKERLESS_DATA_DIR", Flag: "data-dir", Problem: err.Error()}
	}
	c.DataDir = dir
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("-addr is %q, which is no address such as :9100", c.Addr)
	}
	return nil
}

// maxLinger keeps a slip of the finger from paying for idle replicas for days.
const maxLinger = 24 * time.Hour
