package agent

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// ulimits are the names that `docker run --ulimit` knows.
var ulimits = map[string]int{
	"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE,
	"nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
	"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING,
	"stack": unix.RLIMIT_STACK,
}

// limitArgs turns ulimits into the first argument of RunLimited, "" if there is nothing to do. A limit above the
// agent's own hard limit is refused: the platform gives no more, and a lower one would be a lie.
func limitArgs(limits []protocol.Ulimit) (string, error) {
	var args []string
	for _, l := range limits {
		which, ok := ulimits[l.Name]
		if !ok {
			return "", wire.Errorf(protocol.CodeInvalid, "cannot set ulimit %q: no such limit", l.Name)
		}
		var now unix.Rlimit
		if err := unix.Prlimit(0, which, nil, &now); err != nil {
			return "", fmt.Errorf("cannot read ulimit %s: %w", l.Name, err)
		}
		soft, hard := uint64(l.Soft), uint64(l.Hard) // -1 is RLIM_INFINITY
		if l.Soft < -1 || l.Hard < -1 || soft > hard {
			return "", wire.Errorf(protocol.CodeInvalid, "cannot set ulimit %s=%d:%d: the soft limit is above the hard one", l.Name, l.Soft, l.Hard)
		}
		if hard > now.Max {
			return "", wire.Errorf(protocol.CodePermission, "cannot set ulimit %s=%d:%d: the container's own hard limit is %d", l.Name, l.Soft, l.Hard, now.Max)
		}
		args = append(args, fmt.Sprintf("%d:%d:%d", which, soft, hard))
	}
	return strings.Join(args, ","), nil
}

// limitedFD is where RunLimited finds the pipe for its error.
const limitedFD = 3

// RunLimited is the start of a process that has ulimits of its own: it sets them on itself and executes the program.
// Nothing else can: prlimit on a child comes after its first instructions, and the agent must not limit itself.
// args are what limitArgs made, the path, and the argument vector. It returns on failure only, with the exit code.
func RunLimited(args []string) int {
	unix.CloseOnExec(limitedFD)
	if err := runLimited(args); err != nil {
		errno := syscall.EINVAL
		errors.As(err, &errno)
		_, _ = unix.Write(limitedFD, []byte{byte(errno)}) // without a reader there is nobody to tell
		return 126
	}
	return 0
}

func runLimited(args []string) error {
	if len(args) < 3 {
		return syscall.EINVAL
	}
	for _, limit := range strings.Split(args[0], ",") {
		var v [3]uint64
		parts := strings.Split(limit, ":")
		if len(parts) != len(v) {
			return syscall.EINVAL
		}
		for i := range v {
			var err error
			if v[i], err = strconv.ParseUint(parts[i], 10, 64); err != nil {
				return syscall.EINVAL
			}
		}
		// syscall's, not unix's: it also keeps Exec from restoring the limit on files that Go has raised.
		if err := syscall.Setrlimit(int(v[0]), &syscall.Rlimit{Cur: v[1], Max: v[2]}); err != nil {
			return err
		}
	}
	return syscall.Exec(args[1], args[2:], unshield(os.Environ()))
}

// shielded is before the variables that are for the user's program, and that Go's runtime in the helper is not to see.
const shielded = "\x01"

// shield hides GODEBUG and its like from a helper.
func shield(env []string) []string {
	out := make([]string, len(env))
	for i, e := range env {
		if strings.HasPrefix(e, "GO") {
			e = shielded + e
		}
		out[i] = e
	}
	return out
}

func unshield(env []string) []string {
	for i, e := range env {
		if rest, ok := strings.CutPrefix(e, shielded); ok && strings.HasPrefix(rest, "GO") {
			env[i] = rest
		}
	}
	return env
}
