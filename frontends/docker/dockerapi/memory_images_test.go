package dockerapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing/iotest"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless"
)

type memImages struct{ *memory }

func (m memImages) Pull(_ context.Context, ref string, opt sockerless.PullOptions) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		m.mu.Lock()
		m.auth = opt.Auth
		m.mu.Unlock()
		switch ref {
		case "missing:latest":
			yield(jsonstream.Message{}, sockerless.Errorf(sockerless.ENOTFOUND, "manifest for missing:latest not found: manifest unknown: manifest unknown"))
		case "private:latest":
			yield(jsonstream.Message{}, sockerless.Errorf(sockerless.EUNAUTHORIZED, "unauthorized: authentication required"))
		case "broken:latest":
			if yield(jsonstream.Message{ID: "latest", Status: "Pulling from library/broken"}, nil) {
				yield(jsonstream.Message{}, sockerless.Errorf(sockerless.EUNAVAILABLE, "the registry went away"))
			}
		default:
			for _, msg := range []jsonstream.Message{
				{ID: "latest", Status: "Pulling from library/" + ref},
				{ID: "0123", Status: "Downloading", Progress: &jsonstream.Progress{Current: 1, Total: 2}},
				{Status: "Digest: sha256:" + newID()},
				{Status: "Status: Downloaded newer image for " + ref},
			} {
				if !yield(msg, nil) {
					return
				}
			}
			m.mu.Lock()
			m.addImage(ref, &container.Config{})
			m.mu.Unlock()
		}
	}
}

func (m memImages) Load(_ context.Context, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return m.take(tar, "Loaded image: busybox:latest\n")
}

func (m memImages) Import(_ context.Context, opt sockerless.ImportOptions, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return m.take(tar, fmt.Sprintf("%s %q %q", opt.Ref, opt.Changes, opt.Message))
}

func (m memImages) Push(ctx context.Context, ref string, opt sockerless.PushOptions) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		m.mu.Lock()
		m.auth = opt.Auth
		m.mu.Unlock()
		if !yield(jsonstream.Message{Status: fmt.Sprintf("The push refers to %s, all %v", ref, opt.All)}, nil) {
			return
		}
		if ref == "closed:latest" {
			yield(jsonstream.Message{}, sockerless.Errorf(sockerless.EFORBIDDEN, "denied: requested access to the resource is denied"))
			return
		}
		aux := json.RawMessage(`{"Tag":"latest","Digest":"sha256:x","Size":1}`)
		yield(jsonstream.Message{Aux: &aux}, nil)
	}
}

// Save is an archive that names the images; one of them cannot be saved whole.
func (m memImages) Save(ctx context.Context, refs []string) (io.ReadCloser, error) {
	for _, ref := range refs {
		if _, err := m.Find(ctx, ref); err != nil && ref != "cut" {
			return nil, err
		}
	}
	r := io.Reader(strings.NewReader(fmt.Sprintf("%q", refs)))
	if slices.Contains(refs, "cut") {
		r = io.MultiReader(r, iotest.ErrReader(io.ErrUnexpectedEOF))
	}
	return io.NopCloser(r), nil
}

func (m memImages) Search(_ context.Context, term string, opt sockerless.SearchOptions) ([]registry.SearchResult, error) {
	return []registry.SearchResult{{Name: term, Description: fmt.Sprint(opt.Limit, opt.Filters, opt.Auth != nil), StarCount: 1}}, nil
}

func (m memImages) Resolve(_ context.Context, ref string, _ *registry.AuthConfig) (*registry.DistributionInspect, error) {
	if ref != "busybox:latest" {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "manifest for %s not found: manifest unknown: manifest unknown", ref)
	}
	return &registry.DistributionInspect{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("x"), Size: 1},
		Platforms:  []ocispec.Platform{{OS: "linux", Architecture: "amd64"}},
	}, nil
}

// take answers before it has read, as a push into a registry does.
func (m *memory) take(tar io.Reader, done string) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		if !yield(jsonstream.Message{Status: "Loading", Progress: &jsonstream.Progress{Current: 1}}, nil) {
			return
		}
		b, err := io.ReadAll(tar)
		if err != nil {
			yield(jsonstream.Message{}, err)
			return
		}
		m.mu.Lock()
		m.archive = b
		m.mu.Unlock()
		yield(jsonstream.Message{Stream: done}, nil)
	}
}

func (m memImages) Find(_ context.Context, ref string) (*sockerless.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, img := range m.images {
		if slices.Contains(img.Tags, ref) || slices.Contains(img.Tags, ref+":latest") || img.ID == ref {
			return img, nil
		}
	}
	return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such image: %s", ref)
}

func (m memImages) List(context.Context, sockerless.ImageListOptions) iter.Seq2[*sockerless.Image, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*sockerless.Image
	for _, img := range m.images {
		shown := *img
		for _, c := range m.containers {
			if c.Image == img.ID {
				shown.Containers++
			}
		}
		all = append(all, &shown)
	}
	return func(yield func(*sockerless.Image, error) bool) {
		for _, img := range all {
			if !yield(img, nil) {
				return
			}
		}
	}
}

func (m memImages) Tag(ctx context.Context, ref, target string) error {
	img, err := m.Find(ctx, ref)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	img.Tags = append(img.Tags, target)
	return nil
}

func (m memImages) Remove(ctx context.Context, ref string, _ bool) ([]image.DeleteResponse, error) {
	img, err := m.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images = slices.DeleteFunc(m.images, func(i *sockerless.Image) bool { return i == img })
	return []image.DeleteResponse{{Untagged: ref}, {Deleted: img.ID}}, nil
}

type memSystem struct{ *memory }

func (m memSystem) Info(context.Context) (*system.Info, error) {
	return &system.Info{ID: "id", Name: "memory", Driver: "memory", OSType: "linux", Architecture: "x86_64", NCPU: 2, MemTotal: 1 << 30, ServerVersion: "1.0", CgroupDriver: "none", CgroupVersion: "2"}, nil
}

func (m memSystem) Version(context.Context) (*system.VersionResponse, error) {
	return &system.VersionResponse{Platform: system.PlatformInfo{Name: "Sockerless"}, Version: "1.0", Components: []system.ComponentVersion{{Name: "memory", Version: "1.0"}}}, nil
}

func (m memSystem) Auth(_ context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	if auth.Password != "right" {
		return nil, sockerless.Errorf(sockerless.EUNAUTHORIZED, "Get %q: unauthorized: incorrect username or password", "https://"+auth.ServerAddress+"/v2/")
	}
	return &registry.AuthResponse{Status: "Login Succeeded"}, nil
}

func (m memSystem) Events(ctx context.Context, opt sockerless.EventOptions) iter.Seq2[events.Message, error] {
	return func(yield func(events.Message, error) bool) {
		if opt.Filters["bad"] != nil {
			time.Sleep(200 * time.Millisecond) // it is far away
			yield(events.Message{}, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'bad'"))
			return
		}
		defer context.AfterFunc(ctx, m.wake)()
		m.mu.Lock()
		next := len(m.events)
		if !opt.Since.IsZero() {
			next = 0
		}
		m.mu.Unlock()
		if !yield(events.Message{}, nil) {
			return
		}
		for {
			m.mu.Lock()
			for next == len(m.events) && ctx.Err() == nil && opt.Until.IsZero() {
				m.changed.Wait()
			}
			some := slices.Clone(m.events[next:])
			next = len(m.events)
			m.mu.Unlock()
			if ctx.Err() != nil {
				yield(events.Message{}, ctx.Err())
				return
			}
			for _, e := range some {
				if !yield(e, nil) {
					return
				}
			}
			if !opt.Until.IsZero() {
				return
			}
		}
	}
}
