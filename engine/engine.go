// Package engine knows Docker's rules. It implements every service of a sockerless.Backend over any driver.
//
// What it must not forget is in a store, one item a container, written before it is told to anybody. Each container has
// its own lock and, while it runs, one goroutine that steps it through its run (file run.go); nothing else waits for the
// cloud. What a container's process does is asked of the agent beside it, over a link.
package engine

import (
	"archive/tar"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/engine/store"
	"github.com/sockerless/sockerless/link"
)

// ImageStore is what the engine needs of images.
type ImageStore interface {
	sockerless.ImageService

	// Credential returns what a user gave at the pull from the repository of source (repository@digest), or nil. It is
	// known as long as the repository is, of images too that were removed while containers use them.
	Credential(source string) *driver.Credential

	// Files yields the files that the layers of a source make, in images.WalkOrder; a directory that no layer describes has no
	// ModTime.
	Files(ctx context.Context, source string) iter.Seq2[*tar.Header, error]

	// ReadTree returns what a source has at a clean path as a tar, in which the path is called name.
	ReadTree(ctx context.Context, source, at, name string) (io.ReadCloser, error)

	// Commit makes an image of a container's image and a layer, a tar in the form of image-spec's changesets; one that has no
	// entry adds none. It pushes the image into the configured registry, records it and returns its id.
	Commit(ctx context.Context, from *sockerless.Container, opt sockerless.CommitOptions, layer io.Reader) (string, error)

	// SetInUse takes the function that lists the containers of an image.
	SetInUse(containers func(imageID string) []string)

	// SetTell takes the function that is told what happens to images, in the words of Docker's events.
	SetTell(tell func(action events.Action, actor string, attributes map[string]string))

	// Auth tries credentials against their registry.
	Auth(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error)
}

// Options are the settings of an engine.
type Options struct {
	Dir    string        // the engine's files: state, logs. Required.
	Driver driver.Driver // required; the engine does not close it
	Store  store.Store   // nil: a file in Dir, which the engine closes
	Images ImageStore    // required
	Lost   time.Time     // Dir is new since then, and the store is not: what the one before had is gone; zero: nothing is
	Key    Key           // the backend's; see LoadKey. Required.

	// Links brings the agents that dial in. Without it the driver must be a driver.Dialer.
	Links *link.Hub

	Linger     time.Duration // how long an exited container's agent stays; 0: not at all
	CopyLimit  int64         // bytes of what is copied into containers before their start, of all of them; 0: 4 GiB
	StartWait  time.Duration // how long Start waits for the agent's word; 0: 50 s
	MaxRuntime time.Duration // of one execution; 0: 7 days
	SweepEvery time.Duration // between two listings for orphans, while there may be any; 0: 1 min
	Version    string        // of the program, for docker version
	Logger     *slog.Logger  // nil: none
}

const (
	defaultCopyLimit  = 4 << 30
	defaultStartWait  = 50 * time.Second // clients give up after 60
	defaultMaxRuntime = 7 * 24 * time.Hour
	defaultSweep      = time.Minute
	orphanTime        = 15 * time.Minute // how long an agent that nobody links to stays after the exit
)

// Engine is a Backend over one driver. Close it.
type Engine struct {
	opt    Options
	log    *slog.Logger
	store  store.Store
	own    bool // the store is ours to close
	logs   *logstore.Store
	copies *copies
	events *eventLog
	execs  *execTable
	meter  meter
	id     string // of this installation, for docker info

	networks *shelf[network.Network]
	volumes  *shelf[volume.Volume]

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine of the engine
	reaps  chan struct{}  // a place for each deletion that is under way

	mu         sync.RWMutex
	containers map[string]*container // by id
	order      []*container          // the same, the newest first; nil: to be sorted again
	names      map[string]*container
	runs       map[string]*run // wanted ones, by run id
	buried     map[string]bool // ids of removed containers whose job may still be there
	suspicion  int             // sweeps still to be made for what may be in the cloud and not in the store
	closed     bool
}

// Open opens the engine on opt.Dir. Containers are as they were stored; what runs in the cloud goes on, and is linked
// and resumed behind this call, as is what a crash left half done. The caller closes the engine.
func Open(ctx context.Context, opt Options) (*Engine, error) {
	if err := opt.complete(); err != nil {
		return nil, fmt.Errorf("cannot open engine: %w", err)
	}
	e := &Engine{
		opt:        opt,
		log:        opt.Logger,
		store:      opt.Store,
		reaps:      make(chan struct{}, 8),
		containers: make(map[string]*container),
		names:      make(map[string]*container),
		runs:       make(map[string]*run),
		buried:     make(map[string]bool),
	}
	e.execs = newExecTable()
	e.id = e.opt.Key.derive("installation", 16)
	if e.store == nil {
		s, err := store.Open(filepath.Join(opt.Dir, "state.db"))
		if err != nil {
			return nil, fmt.Errorf("cannot open engine: %w", err)
		}
		e.store, e.own = s, true
	}
	var err error
	if e.logs, err = logstore.Open(filepath.Join(opt.Dir, "logs")); err != nil {
		e.closeFiles() //nolint:errcheck // the first error is the one to tell
		return nil, fmt.Errorf("cannot open engine: %w", err)
	}
	if e.copies, err = openCopies(filepath.Join(opt.Dir, "copies"), opt.CopyLimit); err != nil {
		e.closeFiles() //nolint:errcheck // as above
		return nil, fmt.Errorf("cannot open engine: %w", err)
	}
	if e.events, err = openEventLog(opt.Dir, e.log); err != nil {
		e.closeFiles() //nolint:errcheck // as above
		return nil, fmt.Errorf("cannot open engine: %w", err)
	}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	err = e.openNetworks(ctx)
	if err == nil {
		e.volumes, err = openShelf[volume.Volume](ctx, e.store, volumeTable)
	}
	if err == nil {
		err = e.recover(ctx)
	}
	if err != nil {
		e.cancel()
		e.work.Wait()
		e.closeFiles() //nolint:errcheck // as above
		return nil, fmt.Errorf("cannot open engine: %w", err)
	}
	if err := e.copies.tidy(e.exists); err != nil {
		e.log.Warn("cannot delete what was copied into containers that are gone", "error", err)
	}
	opt.Images.SetInUse(e.usersOf)
	opt.Images.SetTell(func(action events.Action, actor string, attributes map[string]string) {
		e.tell(events.ImageEventType, action, actor, attributes)
	})
	if opt.Links != nil {
		e.work.Go(e.acceptAgents) // ends with e.ctx
	}
	e.work.Go(e.sweeps) // ends with e.ctx
	return e, nil
}

func (o *Options) complete() error {
	switch {
	case o.Dir == "":
		return errors.New("no Dir")
	case o.Driver == nil:
		return errors.New("no Driver")
	case o.Images == nil:
		return errors.New("no Images")
	case len(o.Key) != keySize:
		return fmt.Errorf("a Key of %d bytes, want %d", len(o.Key), keySize)
	}
	if _, dials := driver.As[driver.Dialer](o.Driver); !dials && o.Links == nil {
		return errors.New("no Links, and a driver that cannot dial agents")
	}
	if o.CopyLimit == 0 {
		o.CopyLimit = defaultCopyLimit
	}
	if o.StartWait == 0 {
		o.StartWait = defaultStartWait
	}
	if o.MaxRuntime == 0 {
		o.MaxRuntime = defaultMaxRuntime
	}
	if o.SweepEvery == 0 {
		o.SweepEvery = defaultSweep
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Backend returns the services of this engine.
func (e *Engine) Backend() *sockerless.Backend {
	return &sockerless.Backend{
		Containers: containerService{e},
		Execs:      execService{e},
		Images:     imageService{e.opt.Images, e},
		Networks:   networkService{e},
		Volumes:    volumeService{e},
		System:     systemService{e},
	}
}

// Close ends the engine's work and leaves the containers running: the next Open finds them. It returns when nothing of
// it runs any more, or with ctx's error when that ends first. It may be repeated.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.events.close()
	ended := make(chan struct{})
	go func() { // ends with the work, which e.ctx ends
		e.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for the engine's end: %w", ctx.Err())
	}
	if !first {
		return nil
	}
	return e.closeFiles()
}

func (e *Engine) closeFiles() error {
	var errs []error
	if e.events != nil {
		e.events.shutdown()
	}
	if e.logs != nil {
		errs = append(errs, e.logs.Close())
	}
	if e.own {
		errs = append(errs, e.store.Close())
	}
	return errors.Join(errs...)
}

// background runs f on a goroutine of the engine's, unless that is closing. f ends with e.ctx.
func (e *Engine) background(f func()) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return false
	}
	e.work.Go(f)
	return true
}

const keySize = 32

// Key is a backend's key: 32 random bytes from which the secret of each run is made. Who has it can be that backend.
type Key []byte

// LoadKey reads the key in a folder, and makes one if there is none. The file is readable by its owner only.
func LoadKey(dir string) (Key, error) {
	path := filepath.Join(dir, "key")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(dir, path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load the backend's key: %w", err)
	}
	if len(b) != keySize {
		return nil, fmt.Errorf("cannot load the backend's key: %s has %d bytes, want %d", path, len(b), keySize)
	}
	return b, nil
}

// newKey writes the key whole or not at all: a cut one would lock every running agent out.
func newKey(dir, path string) (Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the backend's key: %w", err)
	}
	key := make([]byte, keySize)
	rand.Read(key)                        // it never fails
	f, err := os.CreateTemp(dir, "key-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("cannot make the backend's key: %w", err)
	}
	_, err = f.Write(key)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // the first error is the one to tell
		return nil, fmt.Errorf("cannot make the backend's key: %w", err)
	}
	return key, nil
}

// Secret returns the 32-byte secret of a run; it is what link.NewHub asks for. It knows every run, those that nobody
// wants any more too: their agents are let in to be told to end, where a refusal would leave them guessing.
func (k Key) Secret(runID string) ([]byte, bool) {
	b, err := hkdf.Key(sha256.New, k, nil, "sockerless run "+runID, 32)
	return b, err == nil
}

func (k Key) derive(what string, n int) string {
	b, err := hkdf.Key(sha256.New, k, nil, "sockerless "+what, n)
	if err != nil {
		panic(err) // lengths that HKDF cannot make: not these
	}
	return hex.EncodeToString(b)
}

// newID returns n random bytes in hexadecimal.
func newID(n int) string {
	b := make([]byte, n)
	rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}
