package azuresim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// blobStore keeps a registry's content as files, so that it outlives the process:
//
//	blobs/HEX                       content, shared by all repositories
//	repositories/NAME/_blobs/HEX        empty: the repository may read that blob
//	repositories/NAME/_manifests/HEX    the manifest's media type
//	repositories/NAME/_tags/TAG         the digest that it points to
//	uploads/ID                      a blob on its way; ID.repo holds its repository's name
//
// A repository's name has slashes and no component that starts with an underscore.
type blobStore struct {
	dir string
	mu  sync.Mutex // one writer of links and tags at a time; uploads have a file each
	// uploading counts nothing: an upload is used by the one client that was told its random name.
}

var errDigest = errors.New("digest does not match the content")

var uploadName = regexp.MustCompile(`^[0-9a-f]{32}$`)

func openBlobStore(dir string) (*blobStore, error) {
	for _, sub := range []string{"blobs", "repositories", "uploads"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the registry's folder: %w", err)
		}
	}
	// Uploads of an earlier process are lost to their clients.
	old, err := filepath.Glob(filepath.Join(dir, "uploads", "*"))
	for _, f := range old {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot clean the registry's uploads: %w", err)
	}
	return &blobStore{dir: dir}, nil
}

func (b *blobStore) blob(d digest.Digest) string { return filepath.Join(b.dir, "blobs", d.Encoded()) }

func (b *blobStore) link(repo, kind, name string) string {
	return filepath.Join(b.dir, "repositories", filepath.FromSlash(repo), kind, name)
}

func (b *blobStore) open(d digest.Digest) (*os.File, error) { return os.Open(b.blob(d)) }

// blobSize is the size of a blob that the repository has; fs.ErrNotExist if it has it not.
func (b *blobStore) blobSize(repo string, d digest.Digest) (int64, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return 0, fs.ErrNotExist
	}
	if _, err := os.Stat(b.link(repo, "_blobs", d.Encoded())); err != nil {
		return 0, err
	}
	stat, err := os.Stat(b.blob(d))
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

func (b *blobStore) linkBlob(repo string, d digest.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.put(b.link(repo, "_blobs", d.Encoded()), nil)
}

func (b *blobStore) unlinkBlob(repo string, d digest.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return os.Remove(b.link(repo, "_blobs", d.Encoded()))
}

// put writes a small file and the folders above it; b.mu is held.
func (b *blobStore) put(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeFile(path, content)
}

// manifest is the media type of a manifest that the repository has; fs.ErrNotExist if it has it not.
func (b *blobStore) manifest(repo string, d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return "", fs.ErrNotExist
	}
	raw, err := os.ReadFile(b.link(repo, "_manifests", d.Encoded()))
	return string(raw), err
}

// putManifest keeps a manifest, and points tag at it unless tag is empty.
func (b *blobStore) putManifest(repo string, d digest.Digest, mediaType string, content []byte, tag string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.put(b.blob(d), content); err != nil {
		return err
	}
	if err := b.put(b.link(repo, "_manifests", d.Encoded()), []byte(mediaType)); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return b.put(b.link(repo, "_tags", tag), []byte(d))
}

// deleteManifest forgets a manifest and the tags that point to it.
func (b *blobStore) deleteManifest(repo string, d digest.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.Remove(b.link(repo, "_manifests", d.Encoded())); err != nil {
		return err
	}
	tags, err := b.tags(repo)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if to, err := b.tag(repo, tag); err == nil && to == d {
			if err := os.Remove(b.link(repo, "_tags", tag)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *blobStore) tag(repo, tag string) (digest.Digest, error) {
	raw, err := os.ReadFile(b.link(repo, "_tags", tag))
	return digest.Digest(raw), err
}

func (b *blobStore) untag(repo, tag string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return os.Remove(b.link(repo, "_tags", tag))
}

// tags lists a repository's tags in order; fs.ErrNotExist if there is no such repository.
func (b *blobStore) tags(repo string) ([]string, error) {
	if _, err := os.Stat(b.link(repo, "_manifests", "")); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(b.link(repo, "_tags", ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var tags []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".new-") { // being written
			tags = append(tags, e.Name())
		}
	}
	slices.Sort(tags)
	return tags, nil
}

// begin opens an upload.
func (b *blobStore) begin(repo string) (string, error) {
	name := randomHex(16)
	path := filepath.Join(b.dir, "uploads", name)
	return name, errors.Join(os.WriteFile(path+".repo", []byte(repo), 0o600), os.WriteFile(path, nil, 0o600))
}

// upload is the file of an upload into repo; fs.ErrNotExist if there is none.
func (b *blobStore) upload(repo, name string) (string, error) {
	if !uploadName.MatchString(name) {
		return "", fs.ErrNotExist
	}
	path := filepath.Join(b.dir, "uploads", name)
	owner, err := os.ReadFile(path + ".repo")
	if err != nil {
		return "", err
	}
	if string(owner) != repo {
		return "", fs.ErrNotExist
	}
	return path, nil
}

func (b *blobStore) uploadSize(repo, name string) (int64, error) {
	path, err := b.upload(repo, name)
	if err != nil {
		return 0, err
	}
	stat, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return stat.Size(), nil
}

// append adds to an upload and tells its size; what arrived before an error stays.
func (b *blobStore) append(repo, name string, r io.Reader) (int64, error) {
	path, err := b.upload(repo, name)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(f, r)
	size, seekErr := f.Seek(0, io.SeekEnd)
	return size, errors.Join(err, seekErr, f.Close())
}

// finish turns an upload into a blob of its repository if its content has the digest, and ends it in any case.
func (b *blobStore) finish(repo, name string, want digest.Digest) error {
	path, err := b.upload(repo, name)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	have, err := hashOf(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if have != want {
		return errors.Join(errDigest, b.cancel(repo, name))
	}
	if err := errors.Join(os.Rename(path, b.blob(want)), os.Remove(path+".repo")); err != nil {
		return err
	}
	return b.linkBlob(repo, want)
}

func (b *blobStore) cancel(repo, name string) error {
	path, err := b.upload(repo, name)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(path), os.Remove(path+".repo"))
}
