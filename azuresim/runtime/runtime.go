//go:build linux

// Package runtime runs the simulator's replicas for real, without a container engine: images are pulled from their
// registry and unpacked into a cache of layers, and each container is run by the runc program (from $PATH) with the
// namespaces, capabilities, system call filter and limits that Container Apps' nodes give.
//
// A replica has a network namespace of its own, shared by its containers, with one interface on a virtual network in this
// process (network.go): no firewall rule, bridge or route of the host is touched. It reaches the host's loopback as
// host.azuresim.internal (TCP by the kernel, see gate.go), the internet as this process does, and nothing reaches it but
// Replica.DialContext and its neighbours. Its file systems are mounted in a mount namespace that this process alone holds, so that neither mounts nor
// network namespaces can outlive it; what can (processes, control groups, folders) is ended by a watcher process the moment
// this one dies, and swept by the next New on the same folder.
//
// It is not a security boundary beyond what runc with these settings is. Not enforced: the size of the ephemeral storage,
// and CPU, memory and process limits where the control groups of this machine cannot be written (told once in the log).
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	runc "github.com/containerd/go-runc"
	"github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/azuresim"
)

// Options configure New. Only Dir is required.
type Options struct {
	// Dir is the data folder: the cache of layers (kept between runs) and the running replicas. One runtime at a time.
	Dir string
	// Runc is the program to use; empty: "runc" in $PATH and the sbin folders.
	Runc string
	// Logger receives what an operator should know; nil: slog.Default().
	Logger *slog.Logger
	// Transport carries the requests to registries; nil: go-containerregistry's default.
	Transport http.RoundTripper
	// CacheBytes bounds the unpacked layers kept on disk beside those in use; 0: 8 GiB.
	CacheBytes int64
	// RetryPause is the pause after the first failed pull or start of a container; it doubles up to 5 minutes, as
	// kubelet's back-off does. 0: 10 seconds.
	RetryPause time.Duration
}

// Runtime implements azuresim.Runtime.
type Runtime struct {
	opt     Options
	log     *slog.Logger
	dir     folders
	lock    *os.File
	guard   *guard
	runc    *runc.Runc
	cgroups *cgroups
	mounts  *mountNamespace
	net     *network
	images  *imageStore

	nested bool // in a user namespace, see Enter
	single bool // in which root is the only user

	ctx    context.Context // ended by Close; downloads and back-offs hang on it
	cancel context.CancelFunc

	mu       sync.Mutex
	closed   bool
	replicas map[string]*replica
}

var _ azuresim.Runtime = (*Runtime)(nil)

// Answer gives to take what the replicas connect to at a port of the host's loopback that this process serves itself, instead
// of copying to that port and back. The connections have the replicas' addresses. take gets one after the other and must not
// keep the next one waiting; it closes them. nil ends that.
func (rt *Runtime) Answer(port uint16, take func(net.Conn)) { rt.net.answer(port, take) }

// folders are the places in Options.Dir.
type folders struct{ root, layers, replicas, runc string }

// New opens the data folder, ends what a killed predecessor left in it, and runs a container that does nothing to find out
// whether this machine lets it. The error names the fix. The caller closes the runtime.
func New(opt Options) (_ *Runtime, err error) {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.CacheBytes == 0 {
		opt.CacheBytes = 8 << 30
	}
	if opt.RetryPause == 0 {
		opt.RetryPause = 10 * time.Second
	}
	if opt.Dir == "" {
		return nil, errors.New("cannot run replicas: no data folder given")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("cannot run replicas as an ordinary user: the program must call Enter first, or run as root")
	}
	if fd, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("cannot run replicas: this kernel is too old, Linux 5.10 is the oldest: %w", err)
	} else if err := unix.Close(fd); err != nil {
		return nil, err
	}
	program, err := findRunc(opt.Runc)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot use data folder %s: %w", opt.Dir, err)
	}
	rt := &Runtime{
		opt: opt, log: opt.Logger, replicas: map[string]*replica{},
		nested: userns.RunningInUserNS(), single: singleUser(),
		dir: folders{root: root, layers: filepath.Join(root, "layers"), replicas: filepath.Join(root, "replicas"), runc: filepath.Join(root, "runc")},
	}
	rt.ctx, rt.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			_ = rt.release() // err is what went wrong
		}
	}()
	for _, dir := range []string{rt.dir.root, rt.dir.layers, rt.dir.replicas, rt.dir.runc} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the data folder: %w", err)
		}
	}
	if rt.single {
		rt.log.Warn("the containers have no user but root: images that need another cannot run (apt-get install uidmap, and a range in /etc/subuid and /etc/subgid)")
	}
	if rt.lock, err = lockFolder(root); err != nil {
		return nil, err
	}
	rt.runc = &runc.Runc{Command: program, Root: rt.dir.runc, LogFormat: runc.JSON, Setpgid: true}
	if _, err := rt.runc.Version(rt.ctx); err != nil {
		return nil, fmt.Errorf("cannot run replicas: %s does not work: %w (apt-get install runc)", program, err)
	}
	if rt.cgroups, err = findCgroups(root); err != nil {
		return nil, err
	}
	if err := rt.sweep(); err != nil {
		return nil, fmt.Errorf("cannot clear away what a killed simulator left in %s: %w", root, err)
	}
	if rt.guard, err = startGuard(program, rt.dir.runc, rt.lock); err != nil {
		return nil, err
	}
	if rt.mounts, err = newMountNamespace(); err != nil {
		return nil, fmt.Errorf("cannot make a mount namespace: %w (in a container: run it with --privileged)", err)
	}
	if rt.net, err = newNetwork(rt.log); err != nil {
		return nil, err
	}
	if rt.images, err = newImageStore(rt); err != nil {
		return nil, err
	}
	if err := rt.probe(); err != nil {
		return nil, err
	}
	return rt, nil
}

func findRunc(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if path, err := exec.LookPath("runc"); err == nil {
		return path, nil
	}
	// Debian installs it to /usr/sbin, which is not in every user's $PATH.
	for _, path := range []string{"/usr/local/sbin/runc", "/usr/sbin/runc", "/sbin/runc"} {
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New("cannot run replicas: the runc program is not installed (apt-get install runc)")
}

// Start implements azuresim.Runtime.
func (rt *Runtime) Start(_ context.Context, spec azuresim.ReplicaSpec) (azuresim.Replica, error) {
	if err := validate(&spec); err != nil {
		return nil, fmt.Errorf("cannot start replica %q: %w", spec.Name, err)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.closed {
		return nil, fmt.Errorf("cannot start replica %q: the runtime is closed", spec.Name)
	}
	if _, taken := rt.replicas[spec.Name]; taken {
		return nil, fmt.Errorf("cannot start replica %q: there is one of that name", spec.Name)
	}
	r := newReplica(rt, spec)
	rt.replicas[spec.Name] = r
	go r.run() // ends when its containers have ended or were given up, and what they used is freed
	return r, nil
}

// validate checks what becomes a path or an index here; the control plane has checked the rest.
func validate(spec *azuresim.ReplicaSpec) error {
	if !plainName(spec.Name) {
		return errors.New("not a name")
	}
	if len(spec.Containers) == 0 {
		return errors.New("no containers")
	}
	if spec.Hostname == "" {
		spec.Hostname = spec.Name
	}
	volumes := map[string]bool{}
	for _, name := range spec.EmptyDirs {
		if !plainName(name) {
			return fmt.Errorf("volume %q: not a name", name)
		}
		volumes[name] = true
	}
	for name, dir := range spec.Shares {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("volume %q: %q is not an absolute path", name, dir)
		}
		volumes[name] = true
	}
	names := map[string]bool{}
	for _, list := range [][]azuresim.ContainerSpec{spec.Init, spec.Containers} {
		for _, c := range list {
			if c.Name == "" || names[c.Name] {
				return fmt.Errorf("container name %q is empty or used twice", c.Name)
			}
			names[c.Name] = true
			for _, m := range c.Mounts {
				if !volumes[m.Volume] {
					return fmt.Errorf("container %s: no volume %q", c.Name, m.Volume)
				}
				if !filepath.IsAbs(m.Path) {
					return fmt.Errorf("container %s: mount path %q is not absolute", c.Name, m.Path)
				}
			}
		}
	}
	if spec.Output == nil {
		spec.Output = func(string, string, []byte) {}
	}
	if spec.Events == nil {
		spec.Events = func(azuresim.Event) {}
	}
	return nil
}

// plainName reports whether s is safe as a file name, a container id and part of a control group's name.
func plainName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// PruneLayers removes the unpacked layers that no replica uses and returns the bytes that they took.
func (rt *Runtime) PruneLayers() (int64, error) { return rt.images.prune(0) }

// forget is called by a replica that is done and swept.
func (rt *Runtime) forget(r *replica) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.replicas[r.spec.Name] == r {
		delete(rt.replicas, r.spec.Name)
	}
}

// Close implements azuresim.Runtime. It may be repeated.
func (rt *Runtime) Close() error {
	rt.mu.Lock()
	again := rt.closed
	rt.closed = true
	var running []*replica
	for _, r := range rt.replicas {
		running = append(running, r)
	}
	rt.mu.Unlock()
	for _, r := range running {
		r.Stop(0)
	}
	for _, r := range running {
		<-r.swept
	}
	if again {
		return nil
	}
	return rt.release()
}

// release frees what New took, the youngest first.
func (rt *Runtime) release() error {
	rt.cancel()
	var errs []error
	if rt.images != nil {
		rt.images.wait()
	}
	if rt.net != nil {
		rt.net.close()
	}
	if rt.mounts != nil {
		errs = append(errs, rt.mounts.close())
	}
	if rt.guard != nil {
		errs = append(errs, rt.guard.close())
	}
	if rt.cgroups != nil {
		errs = append(errs, rt.cgroups.sweep())
	}
	if rt.lock != nil {
		errs = append(errs, rt.lock.Close())
	}
	return errors.Join(errs...)
}

// counter numbers what must be unique in this process.
type counter struct{ n atomic.Uint64 }

func (c *counter) next() uint64 { return c.n.Add(1) }
