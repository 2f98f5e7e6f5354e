//go:build linux

package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/azuresim"
)

// netLinger is how long the connections of ended containers may still deliver what was written.
const netLinger = 2 * time.Second

// maxRetryPause is where the back-off stops growing: kubelet's figure.
const maxRetryPause = 5 * time.Minute

// replica implements azuresim.Replica.
type replica struct {
	rt   *Runtime
	spec azuresim.ReplicaSpec
	dir  string
	net  *attachment // set before ready is closed

	ctx    context.Context // ended by Stop: pulls and back-offs hang on it
	cancel context.CancelFunc
	ready  chan struct{} // the network is there
	stop   chan struct{} // closed by the first Stop
	kill   chan struct{} // closed when its grace is over
	done   chan struct{}
	swept  chan struct{} // after done, when everything is freed

	mu     sync.Mutex
	killAt time.Time   // guarded; when timer fires
	timer  *time.Timer // nil before the first Stop

	attempts int
	result   azuresim.ReplicaResult // written before done is closed
}

func newReplica(rt *Runtime, spec azuresim.ReplicaSpec) *replica {
	r := &replica{
		rt: rt, spec: spec, dir: filepath.Join(rt.dir.replicas, spec.Name),
		ready: make(chan struct{}), stop: make(chan struct{}), kill: make(chan struct{}), done: make(chan struct{}), swept: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(rt.ctx)
	return r
}

// run is the replica's life.
func (r *replica) run() {
	defer close(r.swept)
	defer r.rt.forget(r)
	defer r.cancel()
	r.event("AssigningReplica", "Normal", "", "Replica '%s' has been scheduled to run on a node.", r.spec.Name)
	pulls := r.pullAll()
	defer func() {
		r.cancel()
		for _, p := range pulls {
			<-p.done
			if p.img != nil {
				r.rt.images.release(p.img)
			}
		}
	}()
	var attempts attemptList
	err := r.persist(r.prepare, func(err error) {
		r.event("ReplicaCreateFailure", "Warning", "", "Failed to create replica '%s': %v", r.spec.Name, err)
	})
	if err == nil {
		close(r.ready)
		err = r.runContainers(pulls, &attempts)
	}
	r.mu.Lock()
	r.result.Err = err
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	close(r.done)

	attempts.free()
	if r.net != nil {
		r.net.leave(netLinger)
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.rt.log.Error("cannot remove a replica's folder", "replica", r.spec.Name, "error", err)
	}
}

// attemptList collects what is freed after the replica's end is told: freeing takes longer than the run of `true`.
type attemptList struct {
	mu   sync.Mutex
	list []*attempt
}

func (l *attemptList) add(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, a)
}

func (l *attemptList) free() {
	var all sync.WaitGroup
	for _, a := range l.list {
		all.Go(a.free)
	}
	all.Wait()
}

// prepare makes the replica's folder, volumes and network.
func (r *replica) prepare() error {
	if err := os.RemoveAll(r.dir); err != nil { // of an earlier try
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "volumes"), 0o700); err != nil {
		return err
	}
	for _, name := range r.spec.EmptyDirs {
		dir := filepath.Join(r.dir, "volumes", name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask is
			return err
		}
	}
	a, err := r.rt.net.attach(r.spec.HTTPS)
	if err != nil {
		return err
	}
	for _, port := range r.spec.Loopback {
		if err := a.share(port); err != nil {
			a.leave(0)
			return err
		}
	}
	for name, text := range map[string]string{
		"hostname":    r.spec.Hostname + "\n",
		"resolv.conf": "nameserver " + gatewayIP.String() + "\n",
		"hosts": "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			a.addr.String() + "\t" + r.spec.Hostname + "\n",
	} {
		file := filepath.Join(r.dir, name)
		err := os.WriteFile(file, []byte(text), 0o644)
		if err == nil {
			err = os.Chmod(file, 0o644)
		}
		if err != nil {
			a.leave(0)
			return err
		}
	}
	r.net = a
	return nil
}

// pulling is one image on its way; img is nil when the replica was stopped first, and err then says what was in the way.
type pulling struct {
	done chan struct{}
	img  *image
	err  error
}

// pullAll starts all pulls at once, so that the main image is there when the init containers have ended.
func (r *replica) pullAll() map[string]*pulling {
	all := map[string]*pulling{}
	for _, list := range [][]azuresim.ContainerSpec{r.spec.Init, r.spec.Containers} {
		for _, c := range list {
			p := &pulling{done: make(chan struct{})}
			all[c.Name] = p
			go func() { // ends when the image is there or the replica is stopped
				defer close(p.done)
				p.err = r.persist(func() (err error) {
					r.event("PullingImage", "Normal", c.Name, "Pulling image '%s'", c.Image)
					start := time.Now()
					if p.img, err = r.rt.images.pull(r.ctx, c.Image, r.spec.Pull, r.spec.Insecure); err == nil {
						r.event("PulledImage", "Normal", c.Name, "Successfully pulled image '%s' in %s. Image size: %d bytes.", c.Image, time.Since(start).Round(time.Millisecond), p.img.size)
					}
					return err
				}, func(err error) {
					r.event("ImagePullFailure", "Warning", c.Name, "Failed to pull image '%s': %v", c.Image, err)
				})
				if p.err != nil {
					p.err = fmt.Errorf("cannot pull image %s: %w", c.Image, p.err)
				}
			}()
		}
	}
	return all
}

// persist repeats try until it succeeds or the replica is stopped: a replica with a bad image or command stays, as in
// Container Apps (microsoft/azure-container-apps#1023, #1163). tell hears of each failure.
func (r *replica) persist(try func() error, tell func(error)) error {
	pause := r.rt.opt.RetryPause
	var last error
	for {
		err := try()
		if err == nil {
			return nil
		}
		if r.ctx.Err() != nil {
			if last != nil && errors.Is(err, context.Canceled) {
				return last // the reason why it still tried is the better answer
			}
			return err
		}
		last = err
		tell(err)
		timer := time.NewTimer(pause)
		select {
		case <-r.ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, maxRetryPause)
	}
}

// runContainers runs the init containers one after the other and the others side by side.
func (r *replica) runContainers(pulls map[string]*pulling, attempts *attemptList) error {
	for _, c := range r.spec.Init {
		result, err := r.runContainer(c, pulls[c.Name], attempts)
		if err != nil {
			return fmt.Errorf("init container %s: %w", c.Name, err)
		}
		r.record(result)
		if result.ExitCode != 0 {
			return nil
		}
		if r.ctx.Err() != nil {
			return errors.New("stopped before its containers started")
		}
	}
	results := make([]azuresim.ContainerResult, len(r.spec.Containers))
	errs := make([]error, len(r.spec.Containers))
	var all sync.WaitGroup
	for i, c := range r.spec.Containers {
		all.Go(func() {
			if results[i], errs[i] = r.runContainer(c, pulls[c.Name], attempts); errs[i] != nil {
				errs[i] = fmt.Errorf("container %s: %w", c.Name, errs[i])
			}
		})
	}
	all.Wait()
	for i := range results {
		if errs[i] == nil {
			r.record(results[i])
		}
	}
	return errors.Join(errs...)
}

func (r *replica) record(result azuresim.ContainerResult) {
	r.result.Containers = append(r.result.Containers, result)
}

// runContainer runs one container to its end. The error is why it never ran although it was tried until Stop.
func (r *replica) runContainer(c azuresim.ContainerSpec, p *pulling, attempts *attemptList) (azuresim.ContainerResult, error) {
	<-p.done
	if p.err != nil {
		return azuresim.ContainerResult{}, p.err
	}
	var result azuresim.ContainerResult
	err := r.persist(func() error {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		a := r.newAttempt(c)
		var err error
		if result, err = a.run(p.img); err != nil {
			a.free()
			return err
		}
		attempts.add(a)
		return nil
	}, func(err error) {
		r.event("ContainerCreateFailure", "Warning", c.Name, "Failed to create container '%s': %v", c.Name, err)
	})
	if err != nil {
		return result, fmt.Errorf("cannot create the container: %w", err)
	}
	reason := "ProcessExited"
	if result.OOMKilled {
		reason = "OOMKilled"
	}
	r.event("ContainerTerminated", map[bool]string{true: "Normal", false: "Warning"}[result.ExitCode == 0], c.Name,
		"Container '%s' was terminated with exit code '%d' and reason '%s'", c.Name, result.ExitCode, reason)
	return result, nil
}

func (r *replica) newAttempt(c azuresim.ContainerSpec) *attempt {
	r.mu.Lock()
	r.attempts++
	n := r.attempts
	r.mu.Unlock()
	id := fmt.Sprintf("%s-%d", r.spec.Name, n)
	return &attempt{r: r, spec: c, id: id, dir: filepath.Join(r.dir, fmt.Sprintf("container-%d", n))}
}

func (r *replica) event(reason, kind, container, format string, args ...any) {
	r.spec.Events(azuresim.Event{Time: time.Now(), Reason: reason, Message: fmt.Sprintf(format, args...), Container: container, Type: kind})
}

// Stop implements azuresim.Replica. Of several calls the one with the earliest end counts.
func (r *replica) Stop(grace time.Duration) {
	grace = max(grace, 0)
	at := time.Now().Add(grace)
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
		return
	default:
	}
	if r.timer == nil {
		close(r.stop)
		r.cancel()
		r.killAt = at
		r.timer = time.AfterFunc(grace, func() { close(r.kill) })
		return
	}
	if at.Before(r.killAt) && r.timer.Stop() { // not fired yet: once it has, kill is closed
		r.killAt = at
		r.timer.Reset(grace)
	}
}

// Done implements azuresim.Replica.
func (r *replica) Done() <-chan struct{} { return r.done }

// Result implements azuresim.Replica.
func (r *replica) Result() azuresim.ReplicaResult {
	<-r.done
	return r.result
}

// DialContext implements azuresim.Replica. The error is ECONNREFUSED while the replica has no network yet.
func (r *replica) DialContext(ctx context.Context, port uint16) (net.Conn, error) {
	select {
	case <-r.ready:
		return r.net.dial(ctx, port)
	default:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
}
