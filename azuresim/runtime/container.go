//go:build linux

package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

// attempt is one run of a container: from its bundle to what remains to be freed.
type attempt struct {
	r    *replica
	spec azuresim.ContainerSpec
	id   string // of runc, its folder and its control group
	dir  string
	undo []func() error // in the order of making; run backwards

	stdio   *outputPipes
	runcPid atomic.Int64
	started bool
	init    *os.File // pidfd of the container's first process; nil if it ended before it could be opened
	ended   bool     // runc saw that process end
	dropped bool     // nobody took the output in time
}

// createError is an error before the container's process ran.
type createError struct{ err error }

func (e *createError) Error() string { return e.err.Error() }
func (e *createError) Unwrap() error { return e.err }

// run starts the container and returns when it has ended and its output was delivered. A *createError says that it never
// ran. Either way the caller calls free.
func (a *attempt) run(img *image) (azuresim.ContainerResult, error) {
	result := azuresim.ContainerResult{Name: a.spec.Name}
	if err := a.bundle(img); err != nil {
		return result, &createError{err}
	}
	stdio, err := newOutputPipes()
	if err != nil {
		return result, &createError{err}
	}
	a.stdio = stdio
	live, dead := make(chan struct{}), make(chan struct{})
	var pumps sync.WaitGroup
	for _, s := range []struct {
		name string
		r    *os.File
	}{{"stdout", stdio.outR}, {"stderr", stdio.errR}} {
		pumps.Go(func() { // ends with the pipe: runc holds the only other end and ends with the container
			defer s.r.Close()
			select {
			case <-live:
				splitLines(s.r, func(line []byte) { a.r.spec.Output(a.spec.Name, s.name, line) })
			case <-dead: // what is here is runc's complaint, and its log has it too
				_, _ = io.Copy(io.Discard, s.r)
			}
		})
	}

	rt := a.r.rt
	program := *rt.runc
	program.Log = filepath.Join(a.dir, "runc.log")
	pidFile := filepath.Join(a.dir, "pid")
	pids := make(chan int, 1)
	var status int
	var runErr error
	a.undo = append(a.undo, a.delete)
	exited := make(chan struct{})
	go func() { // ends with runc, which ends with the container
		defer close(exited)
		runErr = rt.mounts.run("/", func() (err error) {
			status, err = program.Run(context.Background(), a.id, a.dir, &runc.CreateOpts{
				IO: stdio, PidFile: pidFile, Started: pids,
				ExtraArgs: []string{"--keep"}, // the control group knows whether there was an OOM kill
			})
			var exit *runc.ExitError
			if errors.As(err, &exit) {
				err = nil
			}
			return err
		})
	}()
	select {
	case pid := <-pids:
		a.runcPid.Store(int64(pid))
	case <-exited:
	}
	stdio.closeWriters() // runc has its copies, or there is no runc

	a.watch(pidFile, exited)
	if a.started {
		result.StartedAt = time.Now()
		a.r.event("ContainerCreated", "Normal", a.spec.Name, "Created container '%s'", a.spec.Name)
		a.r.event("ContainerStarted", "Normal", a.spec.Name, "Started container '%s'", a.spec.Name)
		close(live)
		a.oversee(exited)
	}
	<-exited
	result.FinishedAt = time.Now()
	if !a.started {
		close(dead)
		pumps.Wait()
		if runErr == nil {
			runErr = errors.New(complaint(program.Log, status))
		}
		return result, &createError{runErr}
	}
	drained := make(chan struct{})
	go func() { pumps.Wait(); close(drained) }() // ends with the pumps
	timer := time.NewTimer(outputLinger)
	if a.dropped {
		timer.Reset(0)
	}
	select {
	case <-drained:
	case <-timer.C:
		a.dropOutput()
	}
	timer.Stop()
	result.ExitCode = status
	if a.ended = runErr == nil && status >= 0; !a.ended {
		result.ExitCode = 137 // runc itself was killed, with its container
	}
	result.OOMKilled = rt.cgroups.oomKilled(a.id)
	return result, nil
}

// watch waits until runc has started the container's process, or has given up.
func (a *attempt) watch(pidFile string, exited <-chan struct{}) {
	pause := time.Millisecond
	for {
		if data, err := os.ReadFile(pidFile); err == nil { // renamed into place, so it is whole
			a.started = true
			if pid, err := strconv.Atoi(string(data)); err == nil {
				a.init = openChild(pid, int(a.runcPid.Load()))
			}
			return
		}
		select {
		case <-exited:
			_, err := os.Stat(pidFile)
			a.started = err == nil
			return
		case <-a.r.kill:
			a.killRunc()
			<-exited
			return
		case <-time.After(pause):
		}
		pause = min(pause+pause/4, 50*time.Millisecond)
	}
}

// oversee carries the replica's stop to the running container. It returns when the container has ended and runc has, or
// was made to: runc stays until its output is taken, which is not certain to happen.
func (a *attempt) oversee(exited <-chan struct{}) {
	gone := make(chan struct{})
	if a.init == nil {
		close(gone)
	} else {
		defer a.init.Close()
		go func() { // ends with the process
			awaitEnd(a.init)
			close(gone)
		}()
	}
	stop, kill := a.r.stop, a.r.kill
	var late, untaken <-chan time.Time
	for {
		select {
		case <-exited:
			return
		case <-gone:
			gone, stop, kill, late = nil, nil, nil, nil
			untaken = time.After(outputLinger)
		case <-stop:
			stop = nil
			a.signal(unix.SIGTERM)
		case <-kill:
			stop, kill = nil, nil
			a.signal(unix.SIGKILL)
			late = time.After(killLinger)
		case <-untaken:
			a.dropOutput()
			untaken, late = nil, time.After(killLinger)
		case <-late:
			a.r.rt.log.Error("runc does not end with its container", "container", a.id)
			a.killRunc()
			return
		}
	}
}

const (
	outputLinger = 10 * time.Second // how long output of an ended container may wait to be taken
	killLinger   = 10 * time.Second // how long a process may take to end after SIGKILL: it may hang in the kernel
)

// dropOutput gives up what an ended container has written and nobody takes.
func (a *attempt) dropOutput() {
	if !a.dropped {
		a.dropped = true
		a.r.rt.log.Warn("output is not taken; the rest of it is dropped", "container", a.id)
		a.stdio.closeReaders()
	}
}

// awaitEnd returns when the process of the pidfd has ended, or the file is closed.
func awaitEnd(pidfd *os.File) {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool { // a pidfd is readable when the process has ended
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

// signal goes to the container's first process; the kernel ends the others with it.
func (a *attempt) signal(sig unix.Signal) {
	if a.init == nil {
		return // it ended before it could be opened
	}
	if err := unix.PidfdSendSignal(int(a.init.Fd()), sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		a.r.rt.log.Error("cannot signal a container", "container", a.id, "signal", sig, "error", err)
	}
}

// killRunc ends runc, which this process started and has not waited for yet.
func (a *attempt) killRunc() {
	pid := int(a.runcPid.Load())
	if pid <= 0 {
		return
	}
	if fd := openChild(pid, os.Getpid()); fd != nil {
		_ = unix.PidfdSendSignal(int(fd.Fd()), unix.SIGKILL, nil, 0) // ESRCH: it has ended
		fd.Close()
	}
}

// openChild opens pid if it is a child of parent: a pid alone may have been reused since it was written down.
func openChild(pid, parent int) *os.File {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		// After the name, which may contain anything but ends with the last parenthesis: state, parent, ...
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			return file
		}
	}
	file.Close()
	return nil
}

// bundle makes the container's folder: its file system and its configuration.
func (a *attempt) bundle(img *image) error {
	rt := a.r.rt
	if err := os.Mkdir(a.dir, 0o700); err != nil {
		return err
	}
	a.undo = append(a.undo, func() error { return os.RemoveAll(a.dir) })
	fsys, err := rt.newRootfs(img, a.dir)
	if err != nil {
		return err
	}
	a.undo = append(a.undo, fsys.close)
	process, err := newProcess(a.spec, a.r.spec.Hostname, img.config.Config, fsys.root)
	if err != nil {
		return err
	}
	var limits *specs.LinuxResources
	group := ""
	if rt.cgroups.limits {
		limits, group = newLimits(a.limits(), rt.cgroups.swap), rt.cgroups.path(a.id)
	}
	spec := rt.newSpec(process, a.r.spec.Hostname, fsys.dir, a.r.net.path(), group, a.mounts(), limits)
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.dir, "config.json"), data, 0o600)
}

// limits are the container's own, or the replica's where it has none.
func (a *attempt) limits() azuresim.Resources {
	res := a.spec.Resources
	if res.CPU == 0 {
		res.CPU = a.r.spec.Resources.CPU
	}
	if res.MemoryBytes == 0 {
		res.MemoryBytes = a.r.spec.Resources.MemoryBytes
	}
	return res
}

// mounts are the files that a kubelet writes, and the replica's volumes.
func (a *attempt) mounts() []specs.Mount {
	bind := func(source, to string, readOnly bool) specs.Mount {
		options := []string{"rbind", "rprivate"}
		if readOnly {
			options = append(options, "ro")
		}
		return specs.Mount{Destination: to, Type: "bind", Source: source, Options: options}
	}
	var out []specs.Mount
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		out = append(out, bind(filepath.Join(a.r.dir, name), "/etc/"+name, false))
	}
	for _, m := range a.spec.Mounts {
		source, isShare := a.r.spec.Shares[m.Volume]
		if !isShare {
			source = filepath.Join(a.r.dir, "volumes", m.Volume)
		}
		out = append(out, bind(source, m.Path, m.ReadOnly))
	}
	return out
}

// delete ends what may still run, and removes runc's state and the control groups. Killing by control group misses nothing:
// runc puts a container's first process into it before letting it go on. Without groups runc itself kills, by its state; it
// then waits for the system's pid 1 to bury the process, which may take seconds.
func (a *attempt) delete() error {
	rt := a.r.rt
	if !a.ended && !rt.cgroups.limits {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := rt.runc.Delete(ctx, a.id, &runc.DeleteOpts{Force: true}); err != nil {
			return fmt.Errorf("cannot delete container %s: %w", a.id, err)
		}
	}
	return errors.Join(rt.cgroups.remove(a.id), os.RemoveAll(filepath.Join(rt.dir.runc, a.id)))
}

// free undoes the attempt; what fails is told and left for the next New.
func (a *attempt) free() {
	for i := len(a.undo) - 1; i >= 0; i-- {
		if err := a.undo[i](); err != nil {
			a.r.rt.log.Error("cannot free what a container used", "container", a.id, "error", err)
		}
	}
	a.undo = nil
}

// complaint is the last error that runc wrote into its log.
func complaint(log string, status int) string {
	file, err := os.Open(log)
	if err != nil {
		return fmt.Sprintf("runc ended with status %d", status)
	}
	defer file.Close()
	message := ""
	lines := bufio.NewScanner(io.LimitReader(file, 1<<20))
	for lines.Scan() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			message = entry.Msg
		}
	}
	if message == "" {
		return fmt.Sprintf("runc ended with status %d", status)
	}
	return message
}

// outputPipes are the container's stdout and stderr; stdin is /dev/null.
type outputPipes struct{ outR, outW, errR, errW *os.File }

func newOutputPipes() (*outputPipes, error) {
	p := &outputPipes{}
	var err error
	if p.outR, p.outW, err = os.Pipe(); err != nil {
		return nil, err
	}
	if p.errR, p.errW, err = os.Pipe(); err != nil {
		p.outR.Close()
		p.outW.Close()
		return nil, err
	}
	return p, nil
}

// These make it a runc.IO.
func (p *outputPipes) Stdin() io.WriteCloser { return nil }
func (p *outputPipes) Stdout() io.ReadCloser { return p.outR }
func (p *outputPipes) Stderr() io.ReadCloser { return p.errR }
func (p *outputPipes) Set(cmd *exec.Cmd)     { cmd.Stdout, cmd.Stderr = p.outW, p.errW }
func (p *outputPipes) Close() error          { p.closeWriters(); p.closeReaders(); return nil }

func (p *outputPipes) closeWriters() { p.outW.Close(); p.errW.Close() }
func (p *outputPipes) closeReaders() { p.outR.Close(); p.errR.Close() }
