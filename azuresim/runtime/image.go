//go:build linux

package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/go-archive"
	"golang.org/x/sync/singleflight"
)

// image is a pulled image: its layers are unpacked, and stay so until release.
type image struct {
	config *v1.ConfigFile
	layers []string // names in the layer folder, the lowest first
	size   int64    // compressed, as Azure's system log tells it
}

// imageStore pulls images. Manifest and config are asked of the registry each time, with the puller's credentials, because
// Container Apps' nodes keep no images (microsoft/azure-container-apps#1111) and a missing role must show; the layers'
// contents are kept by digest.
type imageStore struct {
	rt     *Runtime
	flight singleflight.Group
	work   sync.WaitGroup
	tmp    counter

	mu   sync.Mutex
	used map[string]int // layer name to the number of images that hold it
}

// A layer lives in layers/<id>/: fs is its tree, size its bytes. id is the start of its digest, short because all of an
// image's layers must fit into one page of mount options.
const layerIDLen = 24

func newImageStore(rt *Runtime) (*imageStore, error) {
	s := &imageStore{rt: rt, used: map[string]int{}}
	unfinished, err := filepath.Glob(filepath.Join(rt.dir.layers, "tmp-*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range unfinished { // a pull that was killed
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("cannot clear the layer cache: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(rt.dir.layers, emptyLayer, "fs"), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the layer cache: %w", err)
	}
	return s, nil
}

// emptyLayer stands in for images without layers: an overlay needs one.
const emptyLayer = "empty"

// wait returns when no download goes on; the runtime's context must have ended.
func (s *imageStore) wait() { s.work.Wait() }

// pull resolves ref and makes sure that its layers are unpacked. The caller releases the image.
func (s *imageStore) pull(ctx context.Context, ref string, keys authn.Keychain, insecure func(string) bool) (*image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if insecure != nil && insecure(parsed.Context().RegistryStr()) {
		if parsed, err = name.ParseReference(ref, name.Insecure); err != nil {
			return nil, err
		}
	}
	if keys == nil {
		keys = authn.NewMultiKeychain() // anonymous; never this user's ~/.docker/config.json
	}
	options := []remote.Option{
		remote.WithAuthFromKeychain(keys),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goruntime.GOARCH}),
		remote.WithUserAgent("azuresim"),
	}
	if s.rt.opt.Transport != nil {
		options = append(options, remote.WithTransport(s.rt.opt.Transport))
	}
	desc, err := remote.Get(parsed, append(options, remote.WithContext(ctx))...)
	if err != nil {
		return nil, err
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != goruntime.GOARCH {
		return nil, fmt.Errorf("the image is for %s/%s and this machine is linux/%s", config.OS, config.Architecture, goruntime.GOARCH)
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return nil, fmt.Errorf("the image's config names %d layers and its manifest %d", len(config.RootFS.DiffIDs), len(manifest.Layers))
	}
	out := &image{config: config}
	for i, l := range manifest.Layers {
		out.size += l.Size
		id := l.Digest.Hex[:layerIDLen]
		s.hold(id)
		out.layers = append(out.layers, id)
		if s.have(id) {
			continue
		}
		// Several replicas that need one layer share the download, and it outlives the one that asked first.
		done := s.flight.DoChan(id, func() (any, error) {
			s.work.Add(1)
			defer s.work.Done()
			img, err := remote.Image(parsed.Context().Digest(desc.Digest.String()), append(options, remote.WithContext(s.rt.ctx))...)
			if err != nil {
				return nil, err
			}
			layer, err := img.LayerByDigest(l.Digest)
			if err != nil {
				return nil, err
			}
			return nil, s.unpack(id, layer, config.RootFS.DiffIDs[i])
		})
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case r := <-done:
			err = r.Err
		}
		if err != nil {
			s.release(out)
			return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	if len(out.layers) == 0 {
		s.hold(emptyLayer)
		out.layers = []string{emptyLayer}
	}
	if _, err := s.prune(s.rt.opt.CacheBytes); err != nil {
		s.rt.log.Warn("cannot bound the layer cache", "error", err)
	}
	return out, nil
}

func (s *imageStore) have(id string) bool {
	dir := filepath.Join(s.rt.dir.layers, id)
	if _, err := os.Stat(filepath.Join(dir, "size")); err != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // the time of last use, for prune; without it the layer only leaves the cache earlier
	return true
}

func (s *imageStore) hold(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used[id]++
}

// release gives the image's layers free for pruning.
func (s *imageStore) release(img *image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range img.layers {
		if s.used[id]--; s.used[id] <= 0 {
			delete(s.used, id)
		}
	}
}

// unpack writes one layer: into a folder beside its place, renamed when it is whole and both digests are right.
func (s *imageStore) unpack(id string, layer v1.Layer, diffID v1.Hash) error {
	tmp := filepath.Join(s.rt.dir.layers, "tmp-"+strconv.FormatUint(s.tmp.next(), 10)+"-"+id)
	tree := filepath.Join(tmp, "fs")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // or by the next New
	content, err := layer.Uncompressed()     // checks the compressed digest as it reads
	if err != nil {
		return err
	}
	defer content.Close()
	sum := &counting{Reader: content, hash: sha256.New()}
	options := s.rt.tarOptions()
	if s.rt.mounts.overlay {
		options.WhiteoutFormat = archive.OverlayWhiteoutFormat
		err = archive.UntarUncompressed(sum, tree, options)
	} else {
		// Copied file systems are made layer by layer from the archives themselves.
		var file *os.File
		if file, err = os.Create(filepath.Join(tmp, "layer.tar")); err == nil {
			_, err = io.Copy(file, sum)
			err = errors.Join(err, file.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("cannot unpack: %w", err)
	}
	// A tar reader stops at the archive's end mark; digests are over all that follows too.
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.hash.Sum(nil)); got != diffID.Hex {
		return fmt.Errorf("the content's digest is sha256:%s and the image says %s", got, diffID)
	}
	if err := os.WriteFile(filepath.Join(tmp, "size"), []byte(strconv.FormatInt(sum.n, 10)), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(s.rt.dir.layers, id)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// tarOptions are how layers are unpacked for this user.
func (rt *Runtime) tarOptions() *archive.TarOptions {
	return &archive.TarOptions{InUserNS: rt.nested, NoLchown: rt.single, BestEffortXattrs: rt.nested}
}

type counting struct {
	io.Reader
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	_, _ = c.hash.Write(p[:n]) // a hash takes everything
	c.n += int64(n)
	return n, err
}

// prune removes the least recently used layers that no image holds until the rest takes at most keep bytes, and returns
// how many bytes went.
func (s *imageStore) prune(keep int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.rt.dir.layers)
	if err != nil {
		return 0, err
	}
	type cached struct {
		id   string
		size int64
		used time.Time
	}
	var list []cached
	var total, freed int64
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "tmp-") || e.Name() == emptyLayer {
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.rt.dir.layers, e.Name(), "size"))
		info, ierr := e.Info()
		if err != nil || ierr != nil {
			continue
		}
		size, _ := strconv.ParseInt(string(data), 10, 64)
		total += size
		if s.used[e.Name()] == 0 {
			list = append(list, cached{e.Name(), size, info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b cached) int { return a.used.Compare(b.used) })
	for _, l := range list {
		if total <= keep {
			break
		}
		// Renamed first: a folder that is half gone must not be taken for a layer.
		gone := filepath.Join(s.rt.dir.layers, "tmp-"+strconv.FormatUint(s.tmp.next(), 10)+"-gone")
		if err := os.Rename(filepath.Join(s.rt.dir.layers, l.id), gone); err != nil {
			return freed, err
		}
		if err := os.RemoveAll(gone); err != nil {
			return freed, err
		}
		total -= l.size
		freed += l.size
	}
	return freed, nil
}
