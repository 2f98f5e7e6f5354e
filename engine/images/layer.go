package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/sockerless/sockerless"
)

// layer is a blob that is ready to be pushed, with the digests of it and of what is in it.
type layer struct {
	digest, diffID digest.Digest
	media          types.MediaType
	size           int64
	open           func() io.Reader
	close          func() // gives the space back, if it has some of its own
}

// counted adds up the bytes of r in count as they are read.
func counted(r io.Reader, count *atomic.Int64) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		count.Add(int64(n))
		return n, err
	})
}

// readyLayer looks at a layer in an archive: one that is compressed, or that a manifest describes, stays as it is, another
// is compressed. want is the digest of what is inside, as the image's config says; anything else is EINVALID.
func readyLayer(ctx context.Context, sp *spool, from savedLayer, want digest.Digest, dir string, limit int64, count *atomic.Int64) (*layer, error) {
	head := make([]byte, len(magicXz))
	n, err := sp.open(from.at).ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, archiveError(err)
	}
	content := counted(withContext(ctx, sp.open(from.at)), count)
	kind := compression(head[:n])
	if kind == "" && from.blob == nil {
		l, err := compressLayer(content, dir, limit, false)
		if err == nil && l.diffID != want {
			l.close()
			err = wrongLayer(l.diffID, want)
		}
		return l, err
	}
	outer, inner := digest.SHA256.Digester(), digest.SHA256.Digester()
	plain, err := decompress(io.TeeReader(content, outer.Hash()))
	if err != nil {
		return nil, archiveError(err)
	}
	defer plain.Close()
	if _, err := io.Copy(&bounder{w: inner.Hash(), left: limit, limit: limit}, plain); err != nil {
		return nil, archiveError(err)
	}
	// What the decompressor has not asked for belongs to the blob too.
	if _, err := io.Copy(outer.Hash(), content); err != nil {
		return nil, archiveError(err)
	}
	l := &layer{
		digest: outer.Digest(), diffID: inner.Digest(), media: types.DockerLayer, size: from.at.size,
		open: func() io.Reader { return sp.open(from.at) }, close: func() {},
	}
	if kind == "zstd" {
		l.media = types.OCILayerZStd
	}
	if l.diffID != want {
		return nil, wrongLayer(l.diffID, want)
	}
	if from.blob != nil && from.blob.Digest.String() != l.digest.String() {
		return nil, wrongLayer(l.digest, digest.Digest(from.blob.Digest.String()))
	}
	return l, nil
}

func wrongLayer(have, want digest.Digest) error {
	return sockerless.Errorf(sockerless.EINVALID, "cannot load: a layer is not what its digest says: it is %s, not %s", have, want)
}

// compressLayer packs a tar into a file of its own. If check is set it is read as a tar on the way, and whatever is none
// is EINVALID.
func compressLayer(r io.Reader, dir string, limit int64, check bool) (*layer, error) {
	file, err := tempFile(dir)
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			file.Close()
		}
	}()
	outer, inner := digest.SHA256.Digester(), digest.SHA256.Digester()
	out := &bounder{w: file, left: limit, limit: limit, dir: dir}
	// Layers are read far less often than people wait for this: speed before size.
	gz, err := gzip.NewWriterLevel(io.MultiWriter(out, outer.Hash()), gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("cannot compress a layer: %w", err)
	}
	in := io.TeeReader(r, &bounder{w: io.MultiWriter(inner.Hash(), gz), left: limit, limit: limit, dir: dir})
	if check {
		if err := readTar(in); err != nil {
			return nil, archiveError(err)
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, archiveError(err)
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	size := limit - out.left
	done = true
	return &layer{
		digest: outer.Digest(), diffID: inner.Digest(), media: types.DockerLayer, size: size,
		open:  func() io.Reader { return io.NewSectionReader(file, 0, size) },
		close: func() { file.Close() },
	}, nil
}

// readTar reads a tar's headers to its end mark.
func readTar(r io.Reader) error {
	for tr, n := tar.NewReader(r), 0; ; n++ {
		switch _, err := tr.Next(); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader) && n == 0:
			return sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: it is no tar")
		case err != nil:
			return err
		}
	}
}

// blob makes go-containerregistry's kind of layer of l; count counts what is sent of it.
func (l *layer) blob(ctx context.Context, count *atomic.Int64) (v1.Layer, error) {
	return partial.CompressedToLayer(&sending{l, ctx, count})
}

// sending is a layer on its way to a registry.
type sending struct {
	*layer
	ctx   context.Context // of the push: go-containerregistry's layers take none
	count *atomic.Int64
}

// Digest implements partial.CompressedLayer.
func (s *sending) Digest() (v1.Hash, error) { return v1.NewHash(s.digest.String()) }

// Size implements partial.CompressedLayer.
func (s *sending) Size() (int64, error) { return s.size, nil }

// MediaType implements partial.CompressedLayer.
func (s *sending) MediaType() (types.MediaType, error) { return s.media, nil }

// Compressed implements partial.CompressedLayer. It starts again each time, for the library's retries.
func (s *sending) Compressed() (io.ReadCloser, error) {
	s.count.Store(0)
	return io.NopCloser(counted(withContext(s.ctx, s.layer.open()), s.count)), nil
}
