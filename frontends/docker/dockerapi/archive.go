package dockerapi

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

const (
	tarType  = "application/x-tar"
	statName = "X-Docker-Container-Path-Stat"
	// copyBuffer is how much of an archive is read at a time.
	copyBuffer = 64 << 10
)

func (r *request) path() (string, error) {
	path := r.query.Get("path")
	if path == "" {
		return "", sockerless.Errorf(sockerless.EINVALID, "bad parameter: path cannot be empty")
	}
	return path, nil
}

func (a *api) statArchive(w http.ResponseWriter, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	stat, err := a.backend.Containers.Stat(r.Context(), r.name, path)
	if err != nil {
		return err
	}
	if err := setStat(w.Header(), stat); err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

func (a *api) readArchive(w http.ResponseWriter, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	stat, tar, err := a.backend.Containers.ReadTree(r.Context(), r.name, path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := setStat(w.Header(), stat); err != nil {
		return err
	}
	return sendArchive(w, tarType, tar)
}

func (a *api) exportContainer(w http.ResponseWriter, r *request) error {
	tar, err := a.backend.Containers.Export(r.Context(), r.name)
	if err != nil {
		return err
	}
	defer tar.Close()
	return sendArchive(w, "application/octet-stream", tar)
}

// sendArchive answers with a tar. After an error the answer must be cut, or the tar would look whole.
func sendArchive(w http.ResponseWriter, kind string, tar io.Reader) error {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	_, err := wire.CopyBulk(w, tar)
	return err
}

func setStat(h http.Header, stat *container.PathStat) error {
	b, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	h.Set(statName, base64.StdEncoding.EncodeToString(b))
	return nil
}

func (a *api) writeArchive(w http.ResponseWriter, r *request) error {
	path, err := r.path()
	if err != nil {
		return err
	}
	tar, err := decompressed(r.Body)
	if err != nil {
		return err
	}
	defer tar.Close()
	err = a.backend.Containers.WriteTree(r.Context(), r.name, path, sockerless.WriteOptions{
		NoOverwriteDirNonDir: r.flag("noOverwriteDirNonDir"),
		CopyUIDGID:           r.flag("copyUIDGID"),
	}, tar)
	if err != nil {
		return err
	}
	return writeNothing(w, http.StatusOK)
}

// decompressed returns the archive in body, which may be compressed in one of the ways that dockerd knows. Closing it
// leaves body open.
func decompressed(body io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(body, copyBuffer)
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
		}
		return z, nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(in)), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, sockerless.Errorf(sockerless.EINVALID, "cannot read the archive: %w", err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot read an archive compressed by xz: use gzip, bzip2 or zstd")
	}
	return io.NopCloser(in), nil
}
