package fields

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/signal"

	"github.com/sockerless/sockerless"
)

// minimumMemory is dockerd's own: below it its runtime cannot start.
const minimumMemory = 6 << 20

// validate refuses, in dockerd's words, what dockerd refuses.
func validate(req *sockerless.CreateRequest) error {
	invalid := func(format string, args ...any) error {
		return sockerless.Errorf(sockerless.EINVALID, format, args...)
	}
	c := req.Config
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", short(c.WorkingDir))
	}
	for _, env := range c.Env {
		if name, _, _ := strings.Cut(env, "="); name == "" {
			return invalid("invalid environment variable: %s", short(env))
		}
	}
	if c.StopSignal != "" {
		if _, err := signal.ParseSignal(c.StopSignal); err != nil {
			return invalid("invalid signal: %s", short(c.StopSignal))
		}
	}
	if err := validateHealth(c.Healthcheck); err != nil {
		return err
	}
	h := req.HostConfig
	if h == nil {
		return nil
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return invalid("%s", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	switch {
	case h.Memory < 0 || h.Memory > 0 && h.Memory < minimumMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case h.NanoCPUs < 0:
		return invalid("range of CPUs is from 0.01 up: got %.2f", float64(h.NanoCPUs)/1e9)
	case h.NanoCPUs > 0 && h.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
	case h.NanoCPUs > 0 && h.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set.")
	case h.CPUPeriod != 0 && (h.CPUPeriod < 1000 || h.CPUPeriod > 1_000_000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case h.CPUQuota > 0 && h.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case h.Memory > 0 && h.MemorySwap > 0 && h.MemorySwap < h.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case h.Memory == 0 && h.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case h.Memory > 0 && h.MemoryReservation > h.Memory:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	case !h.IpcMode.Valid():
		return invalid("invalid IPC mode: %s", short(string(h.IpcMode)))
	case !h.PidMode.Valid():
		return invalid("invalid PID mode: %s", short(string(h.PidMode)))
	case !h.UTSMode.Valid():
		return invalid("invalid UTS mode: %s", short(string(h.UTSMode)))
	}
	for _, u := range h.Ulimits {
		if u == nil {
			return invalid("invalid ulimit: null")
		}
		if _, err := u.GetRlimit(); err != nil {
			return invalid("invalid ulimit type: %s", short(u.Name))
		}
		if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
			return invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
	}
	return nil
}

// judgeLogOpts knows the options of Docker's json-file and local log drivers; any other is an error in Docker too. What
// the values of those that are honoured may be is the engine's to say.
func judgeLogOpts(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	driver := req.HostConfig.LogConfig.Type
	switch driver {
	case "":
		driver = "json-file"
	case "json-file", "local":
	default:
		return Honoured, "", nil // the driver is refused, so its options need not be
	}
	invalid := func(format string, args ...any) (Verdict, string, error) {
		return "", "", sockerless.Errorf(sockerless.EINVALID, format, args...)
	}
	options := req.HostConfig.LogConfig.Config
	var idle []string
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		switch name {
		case "max-size", "max-file":
		case "compress":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return invalid("invalid boolean value for compress: %s", short(value))
			}
			if files := options["max-file"]; on && driver == "json-file" && (options["max-size"] == "" || files == "" || files == "1") {
				return invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
			}
			if on {
				idle = append(idle, name)
			}
		case "mode":
			if value != "" && value != "blocking" && value != "non-blocking" {
				return invalid("logger: logging mode not supported: %s", short(value))
			}
			if value == "non-blocking" {
				idle = append(idle, name)
			}
		case "max-buffer-size":
			if options["mode"] != "non-blocking" {
				return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
			}
			if _, err := units.RAMInBytes(value); err != nil {
				return invalid("error parsing option max-buffer-size: %w", err)
			}
			idle = append(idle, name)
		case "labels", "labels-regex", "env", "env-regex", "tag":
			if driver == "local" {
				return invalid("unknown log opt '%s' for log driver local", name)
			}
		default:
			if driver == "local" {
				return invalid("unknown log opt '%s' for log driver local", short(name))
			}
			return invalid("unknown log opt '%s' for json-file log driver", short(name))
		}
	}
	if len(idle) == 0 {
		return Honoured, "", nil
	}
	return Warned, "the log has no " + strings.Join(idle, ", "), nil
}

// judgePrivileged lets the reaper of Testcontainers pass: it asks for the right and does without it
// (testcontainers/moby-ryuk).
func judgePrivileged(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	switch {
	case !v.Bool():
		return Honoured, "", nil
	case isReaper(req):
		return Warned, "", nil
	}
	return Refused, "", nil
}

// judgeBinds tells people whose tests all fail with the reaper's container, which binds Docker's socket, what to do.
func judgeBinds(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	switch {
	case v.Len() == 0:
		return Honoured, "", nil
	case isReaper(req):
		return Refused, noteVolumes + "; Testcontainers does without its reaper if TESTCONTAINERS_RYUK_DISABLED=true", nil
	}
	return Refused, "", nil
}

func isReaper(req *sockerless.CreateRequest) bool {
	return req.Config.Labels["org.testcontainers.ryuk"] == "true"
}

// judgeHealthTest says what Docker keeps to itself: it runs no check of a type that it does not know.
func judgeHealthTest(_ *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	if v.Len() == 0 {
		return Honoured, "", nil
	}
	switch kind := v.Index(0).String(); kind {
	case "CMD", "CMD-SHELL", "NONE":
		return Honoured, "", nil
	default:
		return Warned, fmt.Sprintf("no health check has the type %q; CMD, CMD-SHELL and NONE are the ones there are", short(kind)), nil
	}
}

// validateHealth is dockerd's.
func validateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return sockerless.Errorf(sockerless.EINVALID, "%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return sockerless.Errorf(sockerless.EINVALID, "Retries in Healthcheck cannot be negative")
	}
	return nil
}

// judgeSwap passes --memory-swap equal to --memory: no swap, which is how it is.
func judgeSwap(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	if n := v.Int(); n == 0 || n == req.HostConfig.Memory {
		return Honoured, "", nil
	}
	return Warned, "", nil
}

// judgePaths tells "none of the paths", which is --security-opt systempaths=unconfined, from a list of one's own.
func judgePaths(_ *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	switch {
	case v.IsNil():
		return Honoured, "", nil
	case v.Len() == 0:
		return Refused, "", nil
	}
	return Warned, "Container Apps decides which paths of /proc and /sys are open", nil
}

func judgePlatform(_ *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	if RunsPlatform(v.String()) {
		return Honoured, "", nil
	}
	return Refused, "", nil
}

// RunsPlatform says whether a platform as users write it (linux/amd64, amd64, linux/x86_64) is the one that jobs run on.
// The empty one is.
func RunsPlatform(platform string) bool {
	parts := strings.Split(strings.ToLower(platform), "/")
	if parts[0] == "linux" {
		parts = parts[1:]
	}
	switch strings.Join(parts, "/") {
	case "", "amd64", "x86_64", "x86-64", "amd64/v1":
		return true
	}
	return false
}

// judgeNetworkMode tells a network of one's own, which is an object here, from the modes that promise something.
func judgeNetworkMode(_ *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	switch mode := container.NetworkMode(v.String()); {
	case mode == "" || mode.IsDefault() || mode.IsBridge():
		return Honoured, "", nil
	case mode.IsUserDefined():
		return Warned, noteNetwork, nil
	}
	return Refused, noteMode, nil
}

// judgeEndpoints looks at networks beyond the one that HostConfig.NetworkMode names: the CLI repeats that one here.
func judgeEndpoints(req *sockerless.CreateRequest, v reflect.Value) (Verdict, string, error) {
	var mode string
	if req.HostConfig != nil {
		mode = string(req.HostConfig.NetworkMode)
	}
	verdict := Honoured
	for _, k := range v.MapKeys() {
		switch name := k.String(); {
		case name == "host" || name == "none":
			return Refused, noteMode, nil
		case name != "default" && name != "bridge" && name != "" && name != mode:
			verdict = Warned
		}
	}
	return verdict, "", nil
}

// checkOlder judges fields that older versions of the API had and the structs of today have not.
func checkOlder(raw json.RawMessage) (warnings, refusals []string, err error) {
	if len(raw) == 0 {
		return nil, nil, nil
	}
	var older struct {
		MacAddress string // before 1.44, and still from clients that set both
		HostConfig *struct {
			KernelMemory    int64 // before 1.42
			KernelMemoryTCP int64
		}
	}
	if err := json.Unmarshal(raw, &older); err != nil {
		return nil, nil, sockerless.Errorf(sockerless.EINVALID, "invalid JSON: %w", err)
	}
	if older.MacAddress != "" {
		refusals = append(refusals, sentence(Refused, "--mac-address", noteAddress))
	}
	if h := older.HostConfig; h != nil && (h.KernelMemory > 0 || h.KernelMemoryTCP > 0) {
		warnings = append(warnings, sentence(Warned, "--kernel-memory", "Linux has given it up; --memory covers the kernel's memory"))
	}
	return warnings, refusals, nil
}

// text is a value as a user would write it.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	return fmt.Sprint(v.Interface())
}

// short bounds what a message repeats of a request.
func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
