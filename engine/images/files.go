package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sockerless/sockerless"
)

// listingsLimit is how many bytes of listings are kept on disk: those of some hundred images.
const listingsLimit = 512 << 20

// Files yields the files of an image, given as repository@digest, as its layers make them: a directory before what is in
// it, names in the order of their bytes, each a header as a tar of the whole root file system would have it, without the
// root itself. Hard links are files; the ModTime of a directory that no layer has an entry for is zero.
//
// What the layers say is read from the registry once and kept by their digests, so the first call for an image takes as
// long as a pull of what is new in it.
func (s *Service) Files(ctx context.Context, source string) iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		digests, err := s.layersOf(ctx, source)
		if err != nil {
			yield(nil, err)
			return
		}
		layers, err := s.listings(ctx, source, digests)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() {
			for _, l := range layers {
				l.close()
			}
		}()
		if err := merge(layers, func(l *listed) bool { return yield(l.header(), nil) }); err != nil {
			yield(nil, err)
		}
	}
}

func (l *listed) header() *tar.Header {
	h := &tar.Header{
		Typeflag: byte(l.mode >> 16), Name: l.path, Linkname: l.link, Mode: int64(l.mode & 0o7777),
		Uid: l.uid, Gid: l.gid, Size: l.size, ModTime: l.time,
	}
	if h.Typeflag != tar.TypeSymlink {
		h.Linkname = ""
	}
	if l.kind == implied {
		h.ModTime = time.Time{}
	}
	return h
}

// merge reads layers, the lowest first, side by side, and gives what is seen of them together, until do returns false.
// It holds a line of each layer, and the directories above the present one.
func merge(layers []*listing, do func(*listed) bool) error {
	type frame struct {
		path string
		hide int // what layers below this one have in the directory is not seen
	}
	stack := []frame{{}}
	for {
		at, some := "", false
		for _, l := range layers {
			if !l.over && (!some || WalkOrder(l.next.path, at) < 0) {
				at, some = l.next.path, true
			}
		}
		if !some {
			return nil
		}
		for top := stack[len(stack)-1].path; top != "" && !strings.HasPrefix(at, top+"/"); top = stack[len(stack)-1].path {
			stack = stack[:len(stack)-1]
		}
		hide := stack[len(stack)-1].hide
		below := hide // of what is in it, if it is a directory
		var seen *listed
		for i, l := range layers {
			for !l.over && l.next.path == at {
				line := l.next
				line.layer = i
				if err := l.advance(); err != nil {
					return err
				}
				switch {
				case line.kind == whiteout:
					hide, below, seen = max(hide, i), max(below, i), nil
				case i < hide:
				case line.kind == opaque:
					below = max(below, i)
				case line.mode>>16 != tar.TypeDir || seen != nil && seen.mode>>16 != tar.TypeDir:
					seen, below = &line, max(below, i)
				case line.kind == entry || seen == nil:
					seen = &line
				}
			}
		}
		if at == "" {
			stack[0].hide = below
			continue
		}
		if seen != nil && !do(seen) {
			return nil
		}
		stack = append(stack, frame{at, below})
	}
}

// listings opens the listings of an image's layers, the lowest first. The caller closes them.
func (s *Service) listings(ctx context.Context, source string, layers []string) (open []*listing, err error) {
	defer func() {
		if err != nil {
			for _, l := range open {
				l.close()
			}
			open = nil
		}
	}()
	for _, layer := range layers {
		l, err := s.listing(ctx, source, layer)
		if err != nil {
			return open, err
		}
		open = append(open, l)
	}
	return open, nil
}

// layersOf returns the digests of an image's layers, from its record, or, where it is removed, from its registry.
func (s *Service) layersOf(ctx context.Context, source string) ([]string, error) {
	s.mu.RLock()
	for _, img := range s.images {
		for _, src := range img.value.Sources {
			if src.Name == source {
				var digests []string
				for _, l := range src.Layers {
					digests = append(digests, l.Digest)
				}
				s.mu.RUnlock()
				return digests, nil
			}
		}
	}
	s.mu.RUnlock()
	repo, digest, _ := strings.Cut(source, "@")
	name, err := s.repository(repo)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(name.Digest(digest), s.pulling(ctx, source)...)
	if err != nil {
		return nil, registryError(ctx, name.RegistryStr(), err)
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, registryError(ctx, name.RegistryStr(), err)
	}
	var digests []string
	for _, l := range m.Layers {
		digests = append(digests, l.Digest.String())
	}
	return digests, nil
}

// pulling are the options with which a source's own credentials are shown.
func (s *Service) pulling(ctx context.Context, source string) []remote.Option {
	var auth *authn.AuthConfig
	if c := s.Credential(source); c != nil {
		auth = &authn.AuthConfig{Username: c.Username, Password: c.Password}
	}
	return s.registryOptions(ctx, auth)
}

// listing opens a layer's listing, and makes it first where there is none.
func (s *Service) listing(ctx context.Context, source, digest string) (*listing, error) {
	dir := s.opt.ListingDir
	name := filepath.Join(dir, strings.ReplaceAll(digest, ":", "-"))
	if l, err := openListing(name); err == nil {
		now := time.Now()
		os.Chtimes(name, now, now) //nolint:errcheck // it is thrown away sooner then
		return l, nil
	}
	// One at a time: each takes memory, and who waits for the same layer finds it made.
	select {
	case s.listingTurn <- struct{}{}:
		defer func() { <-s.listingTurn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l, err := openListing(name); err == nil {
		return l, nil
	}
	var all []listed
	err := s.readLayer(ctx, source, digest, func(content io.Reader) (err error) {
		all, err = readListing(content)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep the listing of a layer: %w", err)
	}
	s.makeRoom()
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return nil, fmt.Errorf("cannot keep the listing of a layer: %w", err)
	}
	err = errors.Join(writeListing(f, all), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return nil, fmt.Errorf("cannot keep the listing of a layer: %w", err)
	}
	return openListing(name)
}

// readLayer gives do the tar of a layer, as its registry has it. Only when it returns nil is it sure that the registry has
// sent what the digest says.
func (s *Service) readLayer(ctx context.Context, source, digest string, do func(io.Reader) error) error {
	repo, _, _ := strings.Cut(source, "@")
	name, err := s.repository(repo)
	if err != nil {
		return err
	}
	layer, err := remote.Layer(name.Digest(digest), s.pulling(ctx, source)...)
	if err != nil {
		return registryError(ctx, name.RegistryStr(), err)
	}
	blob, err := layer.Compressed() // verified at its end
	if err != nil {
		return registryError(ctx, name.RegistryStr(), err)
	}
	defer blob.Close()
	in := withContext(ctx, blob)
	plain, err := decompress(in)
	if err != nil {
		return fmt.Errorf("cannot read layer %s: %w", digest, err)
	}
	defer plain.Close()
	limit := &bounder{w: io.Discard, left: s.opt.SpoolLimit, limit: s.opt.SpoolLimit}
	content := io.TeeReader(plain, limit)
	if err = do(content); err == nil {
		_, err = io.Copy(io.Discard, io.MultiReader(content, in))
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || sockerless.ErrorCode(err) != sockerless.EINTERNAL:
		return registryError(ctx, name.RegistryStr(), err)
	}
	return fmt.Errorf("cannot read layer %s: %w", digest, err)
}

// makeRoom deletes the listings that were not used for longest, where there are too many. Those that are open stay
// readable.
func (s *Service) makeRoom() {
	entries, err := os.ReadDir(s.opt.ListingDir)
	if err != nil {
		return
	}
	type kept struct {
		name string
		used time.Time
		size int64
	}
	var all []kept
	total := int64(0)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			all = append(all, kept{filepath.Join(s.opt.ListingDir, e.Name()), fi.ModTime(), fi.Size()})
			total += fi.Size()
		}
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, k := range all {
		if total <= listingsLimit {
			return
		}
		if os.Remove(k.name) == nil {
			total -= k.size
		}
	}
}
