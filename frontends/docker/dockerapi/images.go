package dockerapi

import (
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/storage"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

// createImage is two operations: a pull, and an import of the body.
func (a *api) createImage(w http.ResponseWriter, r *request) error {
	platform := r.query.Get("platform")
	if r.version.before(32) {
		platform = "" // it came with 1.32
	}
	from := r.query.Get("fromImage")
	if from == "" {
		return a.importImage(w, r, platform)
	}
	ref, err := pullRef(from, r.query.Get("tag"))
	if err != nil {
		return err
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	err = progress(w, a.backend.Images.Pull(r.Context(), ref, sockerless.PullOptions{Platform: platform, Auth: auth}))
	if sockerless.ErrorCode(err) == sockerless.EUNAUTHORIZED {
		// A docker CLI answers a 401 by asking its user for a name, and hangs where there is no user.
		return &sockerless.Error{Code: sockerless.EFORBIDDEN, Message: err.Error(), Err: err}
	}
	return err
}

func (a *api) importImage(w http.ResponseWriter, r *request, platform string) error {
	if from := r.query.Get("fromSrc"); from != "-" {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot import from %q: send the archive as the request's body, with fromSrc=-", from)
	}
	ref := ""
	if repo := r.query.Get("repo"); repo != "" {
		named, err := parseRef(repo)
		if err != nil {
			return err
		}
		if tag := r.query.Get("tag"); tag != "" {
			if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
				return sockerless.Errorf(sockerless.EINVALID, "%w", err)
			}
		}
		if _, ok := named.(reference.Digested); ok {
			return sockerless.Errorf(sockerless.EINVALID, "cannot import digest reference")
		}
		ref = reference.FamiliarString(reference.TagNameOnly(named))
	}
	wire.FullDuplex(w)
	tar, err := decompressed(r.Body)
	if err != nil {
		return err
	}
	defer tar.Close()
	return progress(w, a.backend.Images.Import(r.Context(), sockerless.ImportOptions{
		Ref:      ref,
		Message:  r.query.Get("message"),
		Changes:  r.query["changes"],
		Platform: platform,
	}, tar))
}

func (a *api) loadImages(w http.ResponseWriter, r *request) error {
	if len(r.query["platform"]) > 0 {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --platform: an archive's image is loaded as it is")
	}
	wire.FullDuplex(w)
	tar, err := decompressed(r.Body)
	if err != nil {
		return err
	}
	defer tar.Close()
	messages := a.backend.Images.Load(r.Context(), tar)
	if r.flag("quiet") {
		messages = withoutProgress(messages)
	}
	return progress(w, messages)
}

// withoutProgress leaves what a load has done, without the bars on the way.
func withoutProgress(messages iter.Seq2[jsonstream.Message, error]) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		for m, err := range messages {
			if err == nil && m.Progress != nil {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// message is a progress message with the error in the field that older clients read, too.
type message struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// progress answers with messages. An error before the first of them is a status; a later one is the last message.
func progress(w http.ResponseWriter, messages iter.Seq2[jsonstream.Message, error]) error {
	out := newStream(w, "application/json")
	defer out.end()
	send := func(m jsonstream.Message) error {
		text := ""
		if m.Error != nil {
			text = m.Error.Message
		}
		b, err := json.Marshal(message{m, text})
		if err != nil {
			return err
		}
		_, err = out.Write(append(b, "\r\n"...))
		return err
	}
	for m, err := range messages {
		switch {
		case err != nil && !out.hasStarted():
			return err
		case err != nil:
			return send(jsonstream.Message{Error: &jsonstream.Error{Message: err.Error()}})
		default:
			if err := send(m); err != nil {
				return err
			}
		}
	}
	return out.start()
}

func parseRef(text string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "%w", err)
	}
	return named, nil
}

// pullRef joins the two parameters of a pull; the tag may be a digest.
func pullRef(from, tag string) (string, error) {
	if strings.Contains(tag, ":") {
		from += "@" + tag
	} else if tag != "" {
		from += ":" + tag
	}
	named, err := parseRef(from)
	if err != nil {
		return "", err
	}
	if reference.IsNameOnly(named) {
		return "", sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot pull all tags of %s: name one", reference.FamiliarName(named))
	}
	return reference.FamiliarString(named), nil
}

// registryAuth reads the credentials that came along; nil if there are none.
func (r *request) registryAuth() (*registry.AuthConfig, error) {
	text := r.Header.Get(registry.AuthHeader)
	if text == "" {
		return nil, nil
	}
	auth, err := authconfig.Decode(text)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "%w", err)
	}
	if *auth == (registry.AuthConfig{}) {
		return nil, nil
	}
	return auth, nil
}

// imageSummary is an image as `docker images` wants it.
type imageSummary struct {
	image.Summary
	VirtualSize int64 `json:",omitempty"` // below 1.44
}

func (a *api) listImages(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	if name := r.query.Get("filter"); name != "" && r.version.before(41) {
		if filters == nil {
			filters = sockerless.Filters{}
		}
		filters["reference"] = append(filters["reference"], name)
	}
	var sharing map[string]int // images that have a layer
	if r.flag("shared-size") && !r.version.before(42) {
		if sharing, err = a.layers(r); err != nil {
			return err
		}
	}
	out := []*imageSummary{}
	for img, err := range a.backend.Images.List(r.Context(), sockerless.ImageListOptions{All: r.flag("all"), Filters: filters}) {
		if err != nil {
			return err
		}
		s := summarizeImage(img, r.version)
		if !r.version.before(51) {
			s.Containers = int64(img.Containers)
		}
		if sharing != nil {
			s.SharedSize = sharedSize(img.Layers, sharing)
		}
		out = append(out, s)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// layers counts the images that have each layer, whatever the list is that was asked for.
func (a *api) layers(r *request) (map[string]int, error) {
	images := map[string]int{}
	for img, err := range a.backend.Images.List(r.Context(), sockerless.ImageListOptions{All: true}) {
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, l := range img.Layers {
			if !seen[l.Digest] {
				images[l.Digest]++
			}
			seen[l.Digest] = true
		}
	}
	return images, nil
}

// sharedSize is how large those of an image's layers are that other images have too.
func sharedSize(layers []sockerless.Layer, images map[string]int) (size int64) {
	seen := map[string]bool{}
	for _, l := range layers {
		if images[l.Digest] > 1 && !seen[l.Digest] {
			size += l.Size
		}
		seen[l.Digest] = true
	}
	return size
}

func summarizeImage(img *sockerless.Image, v version) *imageSummary {
	s := &imageSummary{Summary: image.Summary{
		ID:          img.ID,
		ParentID:    img.Parent,
		RepoTags:    orEmpty(img.Tags),
		RepoDigests: orEmpty(img.Digests),
		Created:     unixOrZero(img.Created),
		Size:        img.Size,
		SharedSize:  -1,
		Containers:  -1,
		Labels:      map[string]string{},
	}}
	if img.Defaults != nil {
		s.Labels = orEmptyMap(img.Defaults.Labels)
	}
	if v.before(44) {
		s.VirtualSize = img.Size
	}
	if v.before(43) && len(img.Tags) == 0 {
		s.RepoTags = []string{"<none>:<none>"}
		if len(img.Digests) == 0 {
			s.RepoDigests = []string{"<none>@<none>"}
		}
	}
	return s
}

// inspectedImage is an image as `docker image inspect` wants it.
type inspectedImage struct {
	image.InspectResponse
	Config          any
	Author          *string           `json:",omitempty"` // these even when empty below 1.52
	Comment         *string           `json:",omitempty"`
	Parent          *string           `json:",omitempty"`
	DockerVersion   *string           `json:",omitempty"`
	VirtualSize     int64             `json:",omitempty"` // below 1.44
	Container       *string           `json:",omitempty"` // below 1.45
	ContainerConfig *container.Config `json:",omitempty"` // below 1.45
}

// configOf reads what an image's config says, beside the defaults of its containers: the author, the variant, the history.
func configOf(img *sockerless.Image) (whole dockerspec.DockerOCIImage, err error) {
	if len(img.Config) == 0 {
		return whole, nil
	}
	if err := json.Unmarshal(img.Config, &whole); err != nil {
		return whole, sockerless.Errorf(sockerless.EINTERNAL, "cannot read the config of image %s: %w", img.ID, err)
	}
	return whole, nil
}

func (a *api) inspectImage(w http.ResponseWriter, r *request) error {
	// manifests asks for those of every platform: engines that keep one platform of an image leave them out of the answer,
	// and clients (compose, since 1.48) then take the image's own id.
	if r.query.Get("platform") != "" && r.flag("manifests") {
		return sockerless.Errorf(sockerless.EINVALID, "conflicting options: manifests and platform options cannot both be set")
	}
	img, err := a.backend.Images.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	if err := hasPlatform(img, r); err != nil {
		return err
	}
	whole, err := configOf(img)
	if err != nil {
		return err
	}
	out := inspectedImage{
		InspectResponse: image.InspectResponse{
			ID:           img.ID,
			RepoTags:     orEmpty(img.Tags),
			RepoDigests:  orEmpty(img.Digests),
			Architecture: whole.Architecture,
			Variant:      whole.Variant,
			Os:           whole.OS,
			OsVersion:    whole.OSVersion,
			Size:         img.Size,
			GraphDriver:  &storage.DriverData{Name: storageDriver, Data: map[string]string{}},
			RootFS:       image.RootFS{Type: "layers"},
			Metadata:     image.Metadata{LastTagTime: img.LastTagTime},
		},
		Config: &whole.Config,
	}
	comment := ""
	if n := len(whole.History); n > 0 {
		comment = whole.History[n-1].Comment
	}
	for field, value := range map[**string]string{&out.Author: img.Author, &out.Comment: comment, &out.Parent: img.Parent, &out.DockerVersion: ""} {
		if value != "" || r.version.before(52) {
			*field = &value
		}
	}
	if !img.Created.IsZero() {
		out.Created = img.Created.UTC().Format(time.RFC3339Nano)
	}
	for _, l := range img.Layers {
		out.RootFS.Layers = append(out.RootFS.Layers, l.DiffID)
	}
	if r.version.before(44) {
		out.VirtualSize = img.Size
	}
	if r.version.before(45) {
		out.Container, out.ContainerConfig = new(string), &container.Config{}
	}
	if r.version.before(50) && img.Defaults != nil {
		out.Config = img.Defaults // with the fields that no image has, which clients below 1.50 may look for
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) tagImage(w http.ResponseWriter, r *request) error {
	named, err := parseRef(r.query.Get("repo"))
	if err != nil {
		return err
	}
	if tag := r.query.Get("tag"); tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return sockerless.Errorf(sockerless.EINVALID, "%w", err)
		}
	}
	if _, ok := named.(reference.Digested); ok {
		return sockerless.Errorf(sockerless.EINVALID, "refusing to create a tag with a digest reference")
	}
	if err := a.backend.Images.Tag(r.Context(), r.name, reference.FamiliarString(reference.TagNameOnly(named))); err != nil {
		return err
	}
	return writeNothing(w, http.StatusCreated)
}

func (a *api) removeImage(w http.ResponseWriter, r *request) error {
	if len(r.query["platforms"]) > 0 {
		return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot use --platform: an image has one platform here")
	}
	out, err := a.backend.Images.Remove(r.Context(), r.name, r.flag("force"))
	if err != nil {
		return err
	}
	if out == nil {
		out = []image.DeleteResponse{}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (a *api) pruneImages(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	report, err := a.backend.Images.Prune(r.Context(), filters)
	if err != nil {
		return err
	}
	if report.ImagesDeleted == nil {
		report.ImagesDeleted = []image.DeleteResponse{}
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}

// pruneBuilds has nothing to do, for nothing is built here and so nothing is kept of builds. `docker system prune` asks.
func (a *api) pruneBuilds(w http.ResponseWriter, r *request) error {
	if _, err := r.filters(); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, build.CachePruneReport{CachesDeleted: []string{}})
	return nil
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
