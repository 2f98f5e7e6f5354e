package agent

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Settings are what an agent is told by the platform that starts it.
type Settings struct {
	RunID     string        // 32 hexadecimal digits: the link's id
	Secret    []byte        // 32 bytes: the link's secret
	Callback  string        // the URL of the hub to dial; empty: Listen is set
	Listen    string        // host:port or unix:/path where a hub is served
	Proxy     string        // the URL of the proxy to Callback, directProxy for none, or empty: what Environ says
	CA        []byte        // PEM: the only authorities that an https callback is verified by; empty: the system's
	Hold      time.Duration // how long an agent waits to be told to start
	Orphan    time.Duration // how long it stays after an exit that nobody acknowledges, unless Start says otherwise
	Dir       string        // the agent's own folder: the program, and spool/
	Execution string        // the platform's name for this execution

	Environ map[string]string // the variables that lead to the hub, see pathVariables
}

// directProxy as Settings.Proxy says that no proxy leads to the hub, whatever the image's environment says.
const directProxy = "direct"

const (
	defaultHold   = 10 * time.Minute
	defaultOrphan = 15 * time.Minute
)

// pathVariables are read by net/http and crypto/x509 on the way to the hub.
var pathVariables = []string{
	"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
}

// ReadSettings reads the settings from the environment. The error names the variable that is missing or wrong.
func ReadSettings(getenv func(string) string) (Settings, error) {
	s := Settings{
		RunID:     getenv("SOCKERLESS_RUN_ID"),
		Listen:    getenv("SOCKERLESS_AGENT_LISTEN"),
		Dir:       getenv("SOCKERLESS_DIR"),
		Execution: getenv("CONTAINER_APP_JOB_EXECUTION_NAME"),
		Environ:   map[string]string{},
	}
	if b, err := hex.DecodeString(s.RunID); err != nil || len(b) != 16 {
		return s, errors.New("SOCKERLESS_RUN_ID is not 32 hexadecimal digits")
	}
	var err error
	s.Secret, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(getenv("SOCKERLESS_RUN_SECRET"), "="))
	if err != nil || len(s.Secret) != 32 {
		return s, errors.New("SOCKERLESS_RUN_SECRET is not the base64url of 32 bytes")
	}
	callback := getenv("SOCKERLESS_CALLBACK_URL")
	switch {
	case callback == "" && s.Listen == "":
		return s, errors.New("neither SOCKERLESS_CALLBACK_URL nor SOCKERLESS_AGENT_LISTEN is set")
	case callback != "" && s.Listen != "":
		return s, errors.New("SOCKERLESS_CALLBACK_URL and SOCKERLESS_AGENT_LISTEN are both set: want one")
	case callback != "":
		u, err := url.Parse(callback)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
			return s, errors.New("SOCKERLESS_CALLBACK_URL is not an http or https URL without user and query")
		}
		s.Callback = u.JoinPath("agent").String()
	case strings.HasPrefix(s.Listen, "unix:"):
		if !filepath.IsAbs(strings.TrimPrefix(s.Listen, "unix:")) {
			return s, errors.New("SOCKERLESS_AGENT_LISTEN is not unix: and an absolute path")
		}
	case !strings.Contains(s.Listen, ":"):
		return s, errors.New("SOCKERLESS_AGENT_LISTEN is neither host:port nor unix:/path")
	}
	if s.Proxy = getenv("SOCKERLESS_PROXY"); s.Proxy != "" && s.Proxy != directProxy {
		if u, err := url.Parse(s.Proxy); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return s, errors.New("SOCKERLESS_PROXY is neither an http or https URL nor " + directProxy)
		}
	}
	if ca := getenv("SOCKERLESS_CA"); ca != "" {
		if s.CA, err = base64.StdEncoding.DecodeString(ca); err != nil {
			return s, errors.New("SOCKERLESS_CA is not base64")
		}
		if !x509.NewCertPool().AppendCertsFromPEM(s.CA) {
			return s, errors.New("SOCKERLESS_CA holds no certificate in PEM form")
		}
	}
	if s.Hold, err = duration(getenv, "SOCKERLESS_HOLD", defaultHold); err != nil {
		return s, err
	}
	if s.Orphan, err = duration(getenv, "SOCKERLESS_ORPHAN", defaultOrphan); err != nil {
		return s, err
	}
	if s.Dir == "" {
		program, err := os.Executable()
		if err != nil {
			return s, fmt.Errorf("SOCKERLESS_DIR is not set, and the program's own folder is not known: %w", err)
		}
		s.Dir = filepath.Dir(program)
	}
	if !filepath.IsAbs(s.Dir) {
		return s, errors.New("SOCKERLESS_DIR is not an absolute path")
	}
	if s.Execution == "" {
		s.Execution = getenv("CONTAINER_APP_REPLICA_NAME")
	}
	for _, name := range pathVariables {
		if v := getenv(name); v != "" {
			s.Environ[name] = v
		}
	}
	return s, nil
}

func duration(getenv func(string) string, name string, unset time.Duration) (time.Duration, error) {
	v := getenv(name)
	if v == "" {
		return unset, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s is not a positive duration like 10m", name)
	}
	return d, nil
}

// Conceal executes this program again with an empty environment and the settings in a memory file, so that neither
// the secret nor anything else of the platform's can be read in /proc/PID/environ. It returns on failure only. args are the new process's arguments
// beside its name; the number of the descriptor is added to them. What it got is read by Concealed.
func Conceal(s Settings, args ...string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot pass on the settings: %w", err)
	}
	fd, err := unix.MemfdCreate("settings", 0)
	if err != nil {
		return fmt.Errorf("cannot make a memory file for the settings: %w", err)
	}
	f := os.NewFile(uintptr(fd), "settings")
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("cannot write the settings: %w", err)
	}
	argv := append([]string{os.Args[0]}, args...)
	argv = append(argv, fmt.Sprint(fd))
	if path, err := os.Executable(); err == nil {
		_ = syscall.Exec(path, argv, []string{}) // by its name, which ps shows; what is below works without that too
	}
	err = syscall.Exec(selfExe, argv, []string{})
	return fmt.Errorf("cannot execute the agent again: %w", err)
}

// Concealed reads what Conceal left in descriptor fd, and closes it.
func Concealed(fd int) (Settings, error) {
	var s Settings
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "settings")
	if f == nil {
		return s, errors.New("cannot read the settings: the descriptor is not open")
	}
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, fmt.Errorf("cannot read the settings: %w", err)
	}
	if err := json.NewDecoder(f).Decode(&s); err != nil {
		return s, fmt.Errorf("cannot read the settings: %w", err)
	}
	return s, nil
}

// selfExe is this program, whatever has become of its path.
const selfExe = "/proc/self/exe"
