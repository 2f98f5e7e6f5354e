// Package images knows the images that containers are made of: which tag means which digest, and what an image's config
// says. The layers stay in their registries, where Container Apps pulls them from.
//
// A pull resolves a reference once and records the digest; from then on jobs run that digest, whatever becomes of the
// tag. `docker load` and `docker import` bring images that no registry has yet: they are pushed into the configured one.
// The records are kept in a store and in memory. A [Service] implements sockerless.ImageService.
package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/store"
)

// Options are a Service's surroundings. The zero value pulls anonymously and refuses load and import.
type Options struct {
	// Registry is the login server that load and import push to, such as example.azurecr.io.
	Registry string
	// Keychain opens registries for the backend itself, with ACR's token flow for instance. Credentials that a user
	// gives go before it.
	Keychain authn.Keychain
	// Insecure says whether a registry (host or host:port) may be spoken to over plain HTTP. nil: only one on loopback,
	// as with Docker.
	Insecure func(host string) bool
	// Transport carries the requests; nil: one with time limits.
	Transport http.RoundTripper
	UserAgent string
	Logger    *slog.Logger // nil: none
	// SpoolDir holds an archive while load and import push it; empty: os.TempDir. SpoolLimit is how many bytes one
	// archive may take there, unpacked; 0: 32 GiB.
	SpoolDir   string
	SpoolLimit int64
	// ListingDir keeps what Files has read of layers; empty: a folder in SpoolDir.
	ListingDir string
}

// Service implements sockerless.ImageService. It is safe for concurrent use.
type Service struct {
	opt   Options
	store store.Store
	log   *slog.Logger

	carrier *guard

	listingTurn chan struct{} // held by who makes a listing
	treeTurn    chan struct{} // held by who reads a tree

	// change is held by whoever changes records, from looking at them until the store has them. Readers take mu only.
	change sync.Mutex

	mu     sync.RWMutex
	images map[string]*stored[record]
	refs   map[string]*stored[refRecord]
	logins map[string]*stored[login]
	inUse  func(imageID string) []string
	tell   func(action events.Action, actor string, attributes map[string]string)
}

var _ sockerless.ImageService = (*Service)(nil)

// The store's tables.
const (
	tableImages = "images"       // by id
	tableRefs   = "image-refs"   // by full reference: docker.io/library/alpine:latest, docker.io/library/alpine@sha256:...
	tableLogins = "image-logins" // by full repository name
)

// record is one image. It does not change but for its sources.
type record struct {
	ID       string
	Config   json.RawMessage
	Platform string
	Parent   string `json:",omitempty"` // the image of the container that it was committed from
	Recorded time.Time
	Sources  []source // the latest last
}

// source is one place that an image can be pulled from.
type source struct {
	Name   string // repository@digest of the platform's manifest
	Media  string
	Layers []sockerless.Layer
	Pulled time.Time
}

// refRecord is what a tag or a digest means.
type refRecord struct {
	Ref    string // the key
	Image  string // an id
	Source string // a source of that image
	Time   time.Time
}

// login is what a user gave to pull from one repository, for the jobs that will pull from it. It is a secret: it is in the
// store's file, which only its owner reads, and it is never logged.
type login struct{ Username, Password string }

type stored[T any] struct {
	value   T
	version string
}

const defaultSpoolLimit = 32 << 30

// Open reads the records. The store stays the caller's.
func Open(ctx context.Context, st store.Store, opt Options) (*Service, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Insecure == nil {
		opt.Insecure = onLoopback
	}
	if opt.Transport == nil {
		opt.Transport = newTransport()
	}
	if opt.SpoolDir == "" {
		opt.SpoolDir = os.TempDir()
	}
	if opt.ListingDir == "" {
		opt.ListingDir = filepath.Join(opt.SpoolDir, "listings")
	}
	if opt.SpoolLimit == 0 {
		opt.SpoolLimit = defaultSpoolLimit
	}
	carrier := &guard{next: opt.Transport, insecure: opt.Insecure}
	opt.Transport = carrier
	s := &Service{
		opt: opt, store: st, log: opt.Logger, carrier: carrier, listingTurn: make(chan struct{}, 1), treeTurn: make(chan struct{}, 1),
		images: map[string]*stored[record]{},
		refs:   map[string]*stored[refRecord]{},
		logins: map[string]*stored[login]{},
		inUse:  func(string) []string { return nil },
		tell:   func(events.Action, string, map[string]string) {},
	}
	if err := errors.Join(
		read(ctx, st, tableImages, s.images),
		read(ctx, st, tableRefs, s.refs),
		read(ctx, st, tableLogins, s.logins),
	); err != nil {
		return nil, err
	}
	return s, nil
}

// Close drops idle connections to registries. What is going on is not stopped.
func (s *Service) Close() { s.carrier.CloseIdleConnections() }

// SetInUse tells how to find the ids of the containers that are made of an image. Call it once, before Remove may be
// called; until then no image counts as used.
func (s *Service) SetInUse(inUse func(imageID string) []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse = inUse
}

// SetTell takes the function that is told what happens to images, in the words of Docker's events. Call it once, before
// anything happens; it must not wait.
func (s *Service) SetTell(tell func(action events.Action, actor string, attributes map[string]string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell = tell
}

// event tells that something happened to an image: actor is what Docker calls it there, an id or a reference.
func (s *Service) event(action events.Action, actor, name string, labels map[string]string) {
	s.mu.RLock()
	tell := s.tell
	s.mu.RUnlock()
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	attributes["name"] = name
	tell(action, actor, attributes)
}

// labelsOf returns the labels of an image that there is.
func (s *Service) labelsOf(id string) map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	rec := s.images[id]
	if rec == nil {
		return nil
	}
	img, err := s.view(id, rec.value.Sources[len(rec.value.Sources)-1].Name, nil)
	if err != nil {
		return nil
	}
	return img.Defaults.Labels
}

// Count returns how many images there are.
func (s *Service) Count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.images)
}

// Credential returns what a user gave to pull from the repository of source (repository@digest), or nil. It works for
// images that were removed while containers use them.
func (s *Service) Credential(source string) *driver.Credential {
	repo, _, _ := strings.Cut(source, "@")
	s.mu.RLock()
	defer s.mu.RUnlock()
	l, ok := s.logins[repo]
	if !ok {
		return nil
	}
	server, _, _ := strings.Cut(repo, "/")
	return &driver.Credential{Server: server, Username: l.value.Username, Password: l.value.Password}
}

// addition is an image to be recorded together with what now means it.
type addition struct {
	record record // with exactly one source
	refs   []string
	login  *login // nil: the repository needs none
}

// add records an image; refs that meant another one mean this one now. It says whether any of that was news.
func (s *Service) add(ctx context.Context, a addition) (news bool, err error) {
	// A client that goes away between two writes must not leave half of them.
	ctx = context.WithoutCancel(ctx)
	s.change.Lock()
	defer s.change.Unlock()

	src := a.record.Sources[0]
	repo, _, _ := strings.Cut(src.Name, "@")
	if err := s.setLogin(ctx, repo, a.login); err != nil {
		return false, err
	}
	rec, version := a.record, ""
	s.mu.RLock()
	old := s.images[rec.ID]
	s.mu.RUnlock()
	if old == nil {
		news = true
	} else {
		rec, version = old.value, old.version
		known := func(o source) bool { return o.Name == src.Name }
		news = !slices.ContainsFunc(rec.Sources, known)
		rec.Sources = append(slices.DeleteFunc(slices.Clone(rec.Sources), known), src)
	}
	// The image goes first: a crash after it leaves an image without a name, never a name without an image.
	if err := save(ctx, s, tableImages, s.images, rec.ID, rec, version); err != nil {
		return false, err
	}
	for _, ref := range a.refs {
		changed, err := s.point(ctx, refRecord{ref, rec.ID, src.Name, src.Pulled})
		if err != nil {
			return false, err
		}
		news = news || changed
	}
	return news, nil
}

// point makes a reference mean an image, and says whether that is news. s.change is held.
func (s *Service) point(ctx context.Context, r refRecord) (changed bool, err error) {
	s.mu.RLock()
	old := s.refs[r.Ref]
	s.mu.RUnlock()
	var version string
	if old != nil {
		if old.value.Image == r.Image && old.value.Source == r.Source {
			return false, nil
		}
		version = old.version
	}
	return true, save(ctx, s, tableRefs, s.refs, r.Ref, r, version)
}

// setLogin keeps l for a repository, or forgets what was kept if l is nil. A new password also replaces the one of the
// same user elsewhere in that registry, which is no longer good. s.change is held.
func (s *Service) setLogin(ctx context.Context, repo string, l *login) error {
	host, _, _ := strings.Cut(repo, "/")
	stale := map[string]*stored[login]{}
	s.mu.RLock()
	for name, old := range s.logins {
		same := l != nil && strings.HasPrefix(name, host+"/") && old.value.Username == l.Username
		if (name == repo || same) && (l == nil || old.value != *l) {
			stale[name] = old
		}
	}
	_, known := s.logins[repo]
	s.mu.RUnlock()
	if l != nil && !known {
		stale[repo] = &stored[login]{}
	}
	for name, old := range stale {
		var err error
		if l == nil {
			err = remove(ctx, s, tableLogins, s.logins, name)
		} else {
			err = save(ctx, s, tableLogins, s.logins, name, *l, old.version)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// save writes a value to the store, then to the view. s.change is held.
func save[T any](ctx context.Context, s *Service, table string, view map[string]*stored[T], key string, value T, version string) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot encode %s of %s: %w", key, table, err)
	}
	item, err := s.store.Put(ctx, table, store.Item{Key: key, Value: data, Version: version})
	if err != nil {
		return fmt.Errorf("cannot store %s in %s: %w", key, table, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	view[key] = &stored[T]{value, item.Version}
	return nil
}

// remove takes a value from the store, then from the view. s.change is held.
func remove[T any](ctx context.Context, s *Service, table string, view map[string]*stored[T], key string) error {
	s.mu.RLock()
	old, ok := view[key]
	s.mu.RUnlock()
	if !ok {
		return nil
	}
	if err := s.store.Delete(ctx, table, key, old.version); err != nil {
		return fmt.Errorf("cannot delete %s from %s: %w", key, table, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(view, key)
	return nil
}

func read[T any](ctx context.Context, st store.Store, table string, view map[string]*stored[T]) error {
	for item, err := range st.List(ctx, table) {
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", table, err)
		}
		v := &stored[T]{version: item.Version}
		if err := json.Unmarshal(item.Value, &v.value); err != nil {
			return fmt.Errorf("cannot read %s of %s: %w", item.Key, table, err)
		}
		view[item.Key] = v
	}
	return nil
}

func onLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
