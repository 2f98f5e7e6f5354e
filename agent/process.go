package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// process is a process and the agent's ends of its streams.
type process struct {
	*child
	tty    *terminal // nil without one; then stdin and stdout are the same file as tty
	stdin  *os.File  // nil: empty from the start
	stdout *os.File  // nil: thrown away
	stderr *os.File
}

// streams says which of a process's streams the agent has an end of. A terminal has all.
type streams struct{ stdin, stdout, stderr bool }

// launch starts a process. The error is a refusal with a code where the request is the reason.
func (r *reaper) launch(spec protocol.Process, want streams, makeDir bool) (*process, error) {
	if err := checkProcess(spec); err != nil {
		return nil, err
	}
	id, err := findIdentity(spec.User, spec.Groups)
	if err != nil {
		return nil, err
	}
	limits, err := limitArgs(spec.Ulimits)
	if err != nil {
		return nil, err
	}
	dir := spec.Dir
	if dir == "" {
		dir = "/"
	}
	if err := enterable(dir, id, makeDir); err != nil {
		return nil, err
	}
	path, err := lookPath(spec.Args[0], dir, spec.Env, id)
	if err != nil {
		return nil, err
	}
	env := spec.Env
	if _, ok := lookupEnv(env, "HOME"); !ok {
		env = append(env[:len(env):len(env)], "HOME="+id.home) // as runc does
	}

	p := &process{}
	var theirs []int
	defer func() {
		for _, fd := range theirs {
			closeFD(fd)
		}
	}()
	if theirs, err = p.open(spec, want, id); err != nil {
		p.close()
		return nil, err
	}
	attr := &syscall.ProcAttr{
		Dir: dir,
		Env: env,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: spec.Tty, Credential: id.credential()},
	}
	if os.Getpid() != 1 {
		// Pid 1 takes its namespace along when it is killed; elsewhere the process would outlive the agent.
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	for _, fd := range theirs {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if limits == "" {
		p.child, err = r.start(path, spec.Args, attr, false)
	} else {
		p.child, err = r.startLimited(limits, path, spec.Args, attr)
	}
	if err != nil {
		p.close()
		return nil, startError(spec.Args[0], path, err)
	}
	return p, nil
}

// startLimited starts a process by way of RunLimited.
func (r *reaper) startLimited(limits, path string, args []string, attr *syscall.ProcAttr) (*child, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(pipe[0], true); err != nil { // so that it has a deadline
		closeFD(pipe[0])
		closeFD(pipe[1])
		return nil, err
	}
	status := os.NewFile(uintptr(pipe[0]), "status")
	defer status.Close()
	attr.Files = append(attr.Files, uintptr(pipe[1])) // limitedFD
	attr.Env = shield(attr.Env)
	c, err := r.start(selfExe, append([]string{"sockerless-agent", LimitedCommand, limits, path}, args...), attr, true)
	closeFD(pipe[1])
	if err != nil {
		return nil, err
	}
	err = status.SetReadDeadline(time.Now().Add(limitedPatience))
	var b []byte
	if err == nil {
		b, err = io.ReadAll(status)
	}
	if err != nil {
		c.signal(syscall.SIGKILL)
	}
	if err != nil || len(b) > 0 {
		<-c.done
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, wire.Errorf(protocol.CodeInvalid, "cannot start %s: something has stopped what was to set its ulimits", args[0])
		}
		if err != nil {
			return nil, err
		}
		return nil, syscall.Errno(b[0])
	}
	r.mu.Lock()
	c.helper = false
	r.mu.Unlock()
	return c, nil
}

// limitedPatience bounds the moment that a helper takes: a process of the same user may stop it, and nothing else starts or ends
// meanwhile.
const limitedPatience = 15 * time.Second

// LimitedCommand is the first argument by which the program knows that it is to be RunLimited with the rest of them.
const LimitedCommand = "limited"

// open makes the streams and returns the process's descriptors 0, 1 and 2, also beside an error.
func (p *process) open(spec protocol.Process, want streams, id identity) (theirs []int, err error) {
	if spec.Tty {
		t, slave, err := openTerminal(spec.Size, id)
		if err != nil {
			return nil, err
		}
		p.tty, p.stdin, p.stdout = t, t.File, t.File
		theirs = append(theirs, slave)
		for range 2 {
			fd, err := unix.FcntlInt(uintptr(slave), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return theirs, fmt.Errorf("cannot share the terminal: %w", err)
			}
			theirs = append(theirs, fd)
		}
		return theirs, nil
	}
	for _, s := range []struct {
		piped  bool
		ours   **os.File
		writes bool // the agent does
	}{{want.stdin, &p.stdin, true}, {want.stdout, &p.stdout, false}, {want.stderr, &p.stderr, false}} {
		if !s.piped {
			fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return theirs, fmt.Errorf("cannot open /dev/null: %w", err)
			}
			theirs = append(theirs, fd)
			continue
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return theirs, fmt.Errorf("cannot make a pipe: %w", err)
		}
		ours, their := pipe[0], pipe[1]
		if s.writes {
			// So that there is something to read while the next piece comes. Where the kernel gives a user no more, 64 KiB do, too.
			_, _ = unix.FcntlInt(uintptr(ours), unix.F_SETPIPE_SZ, 2*inputSize)
			ours, their = their, ours
		}
		theirs = append(theirs, their)
		if id.change {
			// So that the process can open its own /dev/stdout (moby/moby#31243); without the right to, it stays as it is.
			_ = unix.Fchown(their, id.uid, id.gid)
		}
		// Only the agent's end: the flag belongs to the open file, and programs do not expect it on theirs.
		if err := unix.SetNonblock(ours, true); err != nil {
			closeFD(ours)
			return theirs, fmt.Errorf("cannot prepare a pipe: %w", err)
		}
		*s.ours = os.NewFile(uintptr(ours), "pipe")
	}
	return theirs, nil
}

// close closes the agent's ends of the streams. It may be repeated.
func (p *process) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
}

// closeStdin ends the process's input. A terminal's has no end of its own.
func (p *process) closeStdin() {
	if p.stdin != nil && p.tty == nil {
		p.stdin.Close()
	}
}

// exit says how the process ended. It waits for that.
func (p *process) exit() *protocol.Exit {
	<-p.done
	e := &protocol.Exit{Code: p.status.ExitStatus(), Time: p.ended}
	if p.status.Signaled() {
		e.Signal = int(p.status.Signal())
		e.Code = 128 + e.Signal
	}
	return e
}

func checkProcess(spec protocol.Process) error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return wire.Errorf(protocol.CodeInvalid, "no command specified")
	}
	for _, list := range [][]string{spec.Args, spec.Env, {spec.Dir, spec.User}} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return wire.Errorf(protocol.CodeInvalid, "cannot pass %q to a process: it holds a NUL byte", s)
			}
		}
	}
	if spec.Dir != "" && !filepath.IsAbs(spec.Dir) {
		return wire.Errorf(protocol.CodeInvalid, "the working directory %q is invalid, it needs to be an absolute path", spec.Dir)
	}
	return nil
}

// enterable says why a directory cannot be a process's working directory, in the words that runc has for it.
func enterable(dir string, id identity, makeDir bool) error {
	var st unix.Stat_t
	err := stat(dir, &st)
	if errors.Is(err, os.ErrNotExist) && makeDir {
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = stat(dir, &st)
		}
	}
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = syscall.ENOTDIR
	}
	if err == nil && !id.may(&st, 1) {
		err = syscall.EACCES
	}
	if err != nil {
		return wire.Errorf(protocol.CodeNotExecutable, "chdir to cwd (%q) set in config.json failed: %v", dir, reason(err))
	}
	return nil
}

// lookPath finds a program as a process with this environment and directory would: a name without a slash in PATH.
func lookPath(name, dir string, env []string, id identity) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if err := executable(path, id); err != nil {
			code, text := protocol.CodeNotExecutable, reason(err)
			if errors.Is(err, os.ErrNotExist) {
				code, text = protocol.CodeNoCommand, fmt.Sprintf("stat %s: %v", name, text)
			}
			return "", wire.Errorf(code, "exec: %q: %v", name, text)
		}
		return path, nil
	}
	list, _ := lookupEnv(env, "PATH")
	for _, in := range filepath.SplitList(list) {
		if !filepath.IsAbs(in) {
			in = filepath.Join(dir, in)
		}
		if path := filepath.Join(in, name); executable(path, id) == nil {
			return path, nil
		}
	}
	return "", wire.Errorf(protocol.CodeNoCommand, "exec: %q: executable file not found in $PATH", name)
}

func executable(path string, id identity) error {
	var st unix.Stat_t
	if err := stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return syscall.EISDIR
	}
	if !id.may(&st, 1) {
		return syscall.EACCES
	}
	return nil
}

// startError gives a failed execution its code and the words of runc.
func startError(name, path string, err error) error {
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		return refused
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("cannot start %s: %w", name, err)
	}
	switch errno {
	case syscall.ENOENT: // the file is there, so it is a script's interpreter or a binary's loader that is not
		return wire.Errorf(protocol.CodeNoCommand, "exec %s: %v", path, errno)
	case syscall.EACCES, syscall.EPERM, syscall.ENOEXEC, syscall.EISDIR, syscall.ENOTDIR, syscall.ELOOP, syscall.ETXTBSY,
		syscall.E2BIG, syscall.EINVAL, syscall.ELIBBAD, syscall.ENAMETOOLONG:
		return wire.Errorf(protocol.CodeNotExecutable, "exec %s: %v", path, errno)
	}
	return fmt.Errorf("cannot start %s: %w", path, err)
}

func stat(path string, st *unix.Stat_t) error {
	for {
		err := unix.Stat(path, st)
		if err != unix.EINTR {
			return err
		}
	}
}

// reason is the error below what os adds to it.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// closeFD closes a descriptor, which fails only for one that is not open.
func closeFD(fd int) { _ = unix.Close(fd) }

// lookupEnv returns the last value of a variable, which is the one that counts.
func lookupEnv(env []string, name string) (value string, ok bool) {
	for _, e := range env {
		if k, v, found := strings.Cut(e, "="); found && k == name {
			value, ok = v, true
		}
	}
	return value, ok
}
