package azuresim

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry is the OCI distribution API of a simulated ACR, over a blobStore.
type registry struct {
	sim      *Simulator
	id, name string // of the resource: its ARM id, and the audience of its tokens
	store    *blobStore
}

// Limits of what one request may bring.
const (
	manifestLimit = 4 << 20
	blobLimit     = 32 << 30
)

func openRegistry(s *Simulator, id, dir string) (*registry, error) {
	store, err := openBlobStore(dir)
	if err != nil {
		return nil, err
	}
	return &registry{sim: s, id: id, name: id[strings.LastIndexByte(id, '/')+1:], store: store}, nil
}

// Names and tags as the distribution specification has them.
var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// registryError is an error as the distribution API answers it.
type registryError struct {
	status        int
	code, message string
	detail        any
	header        http.Header
}

func (e *registryError) Error() string { return e.code + ": " + e.message }

func (g *registry) serve(w http.ResponseWriter, r *http.Request, path string) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	err := g.answer(w, r, path)
	if err == nil {
		return
	}
	var re *registryError
	if !errors.As(err, &re) {
		g.sim.log.Error("registry request failed", "method", r.Method, "path", path, "error", err)
		re = &registryError{status: http.StatusInternalServerError, code: "UNKNOWN", message: err.Error()}
	}
	for k, v := range re.header {
		w.Header()[k] = v
	}
	item := map[string]any{"code": re.code, "message": re.message}
	if re.detail != nil {
		item["detail"] = re.detail
	}
	writeJSON(w, re.status, map[string]any{"errors": []any{item}})
}

// registryCall is one authorised call.
type registryCall struct {
	*http.Request
	w    http.ResponseWriter
	repo string
	ref  string // digest, tag or upload, by route
}

func (g *registry) answer(w http.ResponseWriter, r *http.Request, path string) error {
	switch path {
	case "/oauth2/exchange":
		return g.exchange(w, r)
	case "/oauth2/token":
		return g.token(w, r)
	case "/v2", "/v2/":
		if _, err := g.authorize(r, registryAccess{}); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, map[string]any{})
		return nil
	}
	if !registryPath(path) {
		return &registryError{status: http.StatusNotFound, code: "NOT_FOUND", message: "there is nothing at '" + path + "'"}
	}
	rest := strings.TrimPrefix(path, "/v2/")
	for _, route := range []struct {
		marker string
		handle map[string]func(*registryCall) error
	}{
		{"/blobs/uploads/", map[string]func(*registryCall) error{"POST": g.startUpload, "GET": g.uploadStatus, "PATCH": g.patchUpload, "PUT": g.finishUpload, "DELETE": g.cancelUpload}},
		{"/blobs/", map[string]func(*registryCall) error{"GET": g.getBlob, "HEAD": g.getBlob, "DELETE": g.deleteBlob}},
		{"/manifests/", map[string]func(*registryCall) error{"GET": g.getManifest, "HEAD": g.getManifest, "PUT": g.putManifest, "DELETE": g.deleteManifest}},
		{"/tags/list", map[string]func(*registryCall) error{"GET": g.listTags}},
	} {
		if strings.HasSuffix(rest, strings.TrimSuffix(route.marker, "/")) && route.marker == "/blobs/uploads/" {
			rest += "/" // POST .../blobs/uploads works with and without the slash
		}
		i := strings.LastIndex(rest, route.marker)
		if i < 0 {
			continue
		}
		handle := route.handle[r.Method]
		if handle == nil {
			return &registryError{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "the operation is unsupported"}
		}
		call := &registryCall{Request: r, w: w, repo: rest[:i], ref: rest[i+len(route.marker):]}
		if !repositoryName.MatchString(call.repo) || len(call.repo) > 255 {
			return &registryError{status: http.StatusBadRequest, code: "NAME_INVALID", message: "invalid repository name", detail: map[string]string{"name": call.repo}}
		}
		action := map[string]string{"GET": "pull", "HEAD": "pull", "DELETE": "delete"}[r.Method]
		if action == "" || route.marker == "/blobs/uploads/" {
			action = "push"
		}
		who, err := g.authorize(r, registryAccess{Type: "repository", Name: call.repo, Actions: []string{action}})
		if err != nil {
			return err
		}
		noteIdentity(r.Context(), who)
		return handle(call)
	}
	return &registryError{status: http.StatusNotFound, code: "NOT_FOUND", message: "there is nothing at '" + path + "'"}
}

func unknownManifest(repo, ref string) error {
	return &registryError{status: http.StatusNotFound, code: "MANIFEST_UNKNOWN", message: "manifest tagged by \"" + ref + "\" is not found",
		detail: map[string]string{"Name": repo, "Tag": ref}}
}

func unknownBlob(d string) error {
	return &registryError{status: http.StatusNotFound, code: "BLOB_UNKNOWN", message: "blob unknown to registry", detail: map[string]string{"digest": d}}
}

func (g *registry) parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil || d.Algorithm() != digest.SHA256 {
		return "", &registryError{status: http.StatusBadRequest, code: "DIGEST_INVALID", message: "provided digest did not match uploaded content", detail: map[string]string{"digest": s}}
	}
	return d, nil
}

// resolve finds the digest of a tag or digest reference in a repository.
func (g *registry) resolve(repo, ref string) (digest.Digest, error) {
	if strings.Contains(ref, ":") {
		return g.parseDigest(ref)
	}
	if !tagName.MatchString(ref) {
		return "", &registryError{status: http.StatusBadRequest, code: "TAG_INVALID", message: "manifest tag did not match URI"}
	}
	d, err := g.store.tag(repo, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return "", unknownManifest(repo, ref)
	}
	return d, err
}

func (g *registry) getManifest(c *registryCall) error {
	d, err := g.resolve(c.repo, c.ref)
	if err != nil {
		return err
	}
	mediaType, err := g.store.manifest(c.repo, d)
	if errors.Is(err, fs.ErrNotExist) {
		return unknownManifest(c.repo, c.ref)
	}
	if err != nil {
		return err
	}
	f, err := g.store.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if c.Method == http.MethodGet {
		_, _ = c.w.Write(content) // a client that went away is its own business
	}
	return nil
}

func (g *registry) putManifest(c *registryCall) error {
	content, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, manifestLimit))
	if err != nil {
		return &registryError{status: http.StatusRequestEntityTooLarge, code: "SIZE_INVALID", message: "the manifest could not be read or is too large"}
	}
	d := digest.FromBytes(content)
	tag := ""
	if strings.Contains(c.ref, ":") {
		given, err := g.parseDigest(c.ref)
		if err != nil {
			return err
		}
		if given != d {
			return &registryError{status: http.StatusBadRequest, code: "DIGEST_INVALID", message: "provided digest did not match uploaded content"}
		}
	} else if tag = c.ref; !tagName.MatchString(tag) {
		return &registryError{status: http.StatusBadRequest, code: "TAG_INVALID", message: "manifest tag did not match URI"}
	}
	mediaType, err := g.checkManifest(c.repo, c.Header.Get("Content-Type"), content)
	if err != nil {
		return err
	}
	if err := g.store.putManifest(c.repo, d, mediaType, content, tag); err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Location", "/v2/"+c.repo+"/manifests/"+d.String())
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// Docker's media types beside those of OCI.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// checkManifest verifies that all that a manifest refers to is in the repository already, and returns its media type.
func (g *registry) checkManifest(repo, contentType string, content []byte) (string, error) {
	invalid := func(message string) error {
		return &registryError{status: http.StatusBadRequest, code: "MANIFEST_INVALID", message: "manifest invalid: " + message}
	}
	var m struct {
		SchemaVersion int                    `json:"schemaVersion"`
		MediaType     string                 `json:"mediaType"`
		Config        *imagespec.Descriptor  `json:"config"`
		Layers        []imagespec.Descriptor `json:"layers"`
		Manifests     []imagespec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return "", invalid("it is no JSON: " + err.Error())
	}
	mediaType, _, _ := strings.Cut(contentType, ";")
	if mediaType == "" {
		mediaType = m.MediaType
	}
	if m.SchemaVersion != 2 {
		return "", invalid("schemaVersion must be 2")
	}
	if m.MediaType != "" && m.MediaType != mediaType {
		return "", invalid("mediaType '" + m.MediaType + "' is not the Content-Type '" + mediaType + "'")
	}
	switch mediaType {
	case imagespec.MediaTypeImageManifest, dockerManifest:
		if m.Config == nil {
			return "", invalid("it has no config")
		}
		for _, blob := range append([]imagespec.Descriptor{*m.Config}, m.Layers...) {
			if len(blob.URLs) > 0 {
				continue // a foreign layer lives elsewhere
			}
			size, err := g.store.blobSize(repo, blob.Digest)
			if errors.Is(err, fs.ErrNotExist) {
				return "", &registryError{status: http.StatusBadRequest, code: "MANIFEST_BLOB_UNKNOWN", message: "blob unknown to registry", detail: map[string]string{"digest": blob.Digest.String()}}
			}
			if err != nil {
				return "", err
			}
			if size != blob.Size {
				return "", invalid(fmt.Sprintf("blob %s has %d bytes, not %d", blob.Digest, size, blob.Size))
			}
		}
	case imagespec.MediaTypeImageIndex, dockerList:
		for _, child := range m.Manifests {
			if _, err := g.store.manifest(repo, child.Digest); errors.Is(err, fs.ErrNotExist) {
				return "", &registryError{status: http.StatusBadRequest, code: "MANIFEST_BLOB_UNKNOWN", message: "manifest unknown to registry", detail: map[string]string{"digest": child.Digest.String()}}
			} else if err != nil {
				return "", err
			}
		}
	default:
		return "", invalid("media type '" + mediaType + "' is not supported")
	}
	return mediaType, nil
}

// deleteManifest removes a manifest with its tags, or, by a tag, that tag alone.
func (g *registry) deleteManifest(c *registryCall) error {
	d, err := g.resolve(c.repo, c.ref)
	if err != nil {
		return err
	}
	if strings.Contains(c.ref, ":") {
		err = g.store.deleteManifest(c.repo, d)
	} else {
		err = g.store.untag(c.repo, c.ref)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return unknownManifest(c.repo, c.ref)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (g *registry) listTags(c *registryCall) error {
	tags, err := g.store.tags(c.repo)
	if errors.Is(err, fs.ErrNotExist) {
		return &registryError{status: http.StatusNotFound, code: "NAME_UNKNOWN", message: "repository name not known to registry", detail: map[string]string{"name": c.repo}}
	}
	if err != nil {
		return err
	}
	q := c.URL.Query()
	if last := q.Get("last"); last != "" {
		for len(tags) > 0 && tags[0] <= last {
			tags = tags[1:]
		}
	}
	if raw := q.Get("n"); raw != "" {
		n, err := strconv.Atoi(raw)
		if err != nil || n < 0 {
			return &registryError{status: http.StatusBadRequest, code: "PAGINATION_NUMBER_INVALID", message: "invalid number of results requested"}
		}
		if n > 0 && n < len(tags) {
			tags = tags[:n]
			c.w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?last=%s&n=%d>; rel="next"`, c.repo, tags[n-1], n))
		}
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"name": c.repo, "tags": append([]string{}, tags...)})
	return nil
}

func (g *registry) getBlob(c *registryCall) error {
	d, err := g.parseDigest(c.ref)
	if err != nil {
		return err
	}
	if _, err := g.store.blobSize(c.repo, d); errors.Is(err, fs.ErrNotExist) {
		return unknownBlob(d.String())
	} else if err != nil {
		return err
	}
	f, err := g.store.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(c.w, c.Request, "", stat.ModTime(), f)
	return nil
}

func (g *registry) deleteBlob(c *registryCall) error {
	d, err := g.parseDigest(c.ref)
	if err != nil {
		return err
	}
	if err := g.store.unlinkBlob(c.repo, d); errors.Is(err, fs.ErrNotExist) {
		return unknownBlob(d.String())
	} else if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// startUpload mounts a blob of another repository, takes a whole blob, or opens an upload.
func (g *registry) startUpload(c *registryCall) error {
	if c.ref != "" {
		return &registryError{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: "the operation is unsupported"}
	}
	q := c.URL.Query()
	if mount, from := q.Get("mount"), q.Get("from"); mount != "" && repositoryName.MatchString(from) {
		d, err := g.parseDigest(mount)
		if err != nil {
			return err
		}
		if g.mayRead(c.Request, from) {
			if _, err := g.store.blobSize(from, d); err == nil {
				if err := g.store.linkBlob(c.repo, d); err != nil {
					return err
				}
				return c.created(d)
			}
		}
	}
	upload, err := g.store.begin(c.repo)
	if err != nil {
		return err
	}
	if q.Get("digest") != "" {
		c.ref = upload
		return g.finishUpload(c)
	}
	return c.uploadAnswer(http.StatusAccepted, upload, 0)
}

// created answers that a blob is in the repository.
func (c *registryCall) created(d digest.Digest) error {
	c.w.Header().Set("Location", "/v2/"+c.repo+"/blobs/"+d.String())
	c.w.Header().Set("Docker-Content-Digest", d.String())
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func (c *registryCall) uploadAnswer(status int, upload string, size int64) error {
	h := c.w.Header()
	h.Set("Location", "/v2/"+c.repo+"/blobs/uploads/"+upload)
	h.Set("Docker-Upload-Uuid", upload)
	h.Set("Range", fmt.Sprintf("0-%d", max(size-1, 0)))
	c.w.WriteHeader(status)
	return nil
}

func (g *registry) uploadStatus(c *registryCall) error {
	size, err := g.store.uploadSize(c.repo, c.ref)
	if err != nil {
		return uploadError(err, c.ref)
	}
	return c.uploadAnswer(http.StatusNoContent, c.ref, size)
}

func uploadError(err error, upload string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &registryError{status: http.StatusNotFound, code: "BLOB_UPLOAD_UNKNOWN", message: "blob upload unknown to registry", detail: map[string]string{"upload": upload}}
	}
	return err
}

func (g *registry) patchUpload(c *registryCall) error {
	have, err := g.store.uploadSize(c.repo, c.ref)
	if err != nil {
		return uploadError(err, c.ref)
	}
	if cr := c.Header.Get("Content-Range"); cr != "" {
		first, _, _ := strings.Cut(cr, "-")
		if start, err := strconv.ParseInt(first, 10, 64); err != nil || start != have {
			return &registryError{status: http.StatusRequestedRangeNotSatisfiable, code: "BLOB_UPLOAD_INVALID", message: "the chunk does not start where the upload ends",
				header: http.Header{"Range": {fmt.Sprintf("0-%d", max(have-1, 0))}}}
		}
	}
	size, err := g.store.append(c.repo, c.ref, http.MaxBytesReader(c.w, c.Body, blobLimit-have))
	if err != nil {
		return uploadError(err, c.ref)
	}
	return c.uploadAnswer(http.StatusAccepted, c.ref, size)
}

func (g *registry) finishUpload(c *registryCall) error {
	d, err := g.parseDigest(c.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	have, err := g.store.uploadSize(c.repo, c.ref)
	if err != nil {
		return uploadError(err, c.ref)
	}
	if _, err := g.store.append(c.repo, c.ref, http.MaxBytesReader(c.w, c.Body, blobLimit-have)); err != nil {
		return uploadError(err, c.ref)
	}
	switch err := g.store.finish(c.repo, c.ref, d); {
	case errors.Is(err, errDigest):
		return &registryError{status: http.StatusBadRequest, code: "DIGEST_INVALID", message: "provided digest did not match uploaded content", detail: map[string]string{"digest": d.String()}}
	case err != nil:
		return uploadError(err, c.ref)
	}
	return c.created(d)
}

func (g *registry) cancelUpload(c *registryCall) error {
	if err := g.store.cancel(c.repo, c.ref); err != nil {
		return uploadError(err, c.ref)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// hashOf is the sha256 of what r has left.
func hashOf(r io.Reader) (digest.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h), nil
}
