package dockerapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sockerless/sockerless"
)

// pushImage pushes the tag of the query, or all tags of the repository that the path names.
func (a *api) pushImage(w http.ResponseWriter, r *request) error {
	if err := r.onePlatform("push"); err != nil {
		return err
	}
	named, err := parseRef(r.name)
	if err != nil {
		return err
	}
	opt := sockerless.PushOptions{All: true}
	if tag := r.query.Get("tag"); tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return sockerless.Errorf(sockerless.EINVALID, "%w", err)
		}
	}
	if !reference.IsNameOnly(named) {
		opt.All = false
	}
	if opt.Auth, err = r.registryAuth(); err != nil {
		return err
	}
	return progress(w, a.backend.Images.Push(r.Context(), reference.FamiliarString(named), opt))
}

// onePlatform refuses to choose a platform of an image: there is one.
func (r *request) onePlatform(what string) error {
	for _, text := range r.query["platform"] {
		p, err := parsePlatform(text)
		if err != nil {
			return err
		}
		if p.OS != "linux" || p.Architecture != "amd64" {
			return sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot %s platform %s: an image has one platform here, the one that was pulled", what, platformName(p))
		}
	}
	return nil
}

// parsePlatform reads a platform of the query: OCI's JSON.
func parsePlatform(text string) (p ocispec.Platform, err error) {
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.OS == "" || p.Architecture == "" {
		return p, sockerless.Errorf(sockerless.EINVALID, "failed to parse platform: %q is no JSON of a platform with os and architecture", text)
	}
	return p, nil
}

func platformName(p ocispec.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// saveImages answers with the images that the path or the query names.
func (a *api) saveImages(w http.ResponseWriter, r *request) error {
	if err := r.onePlatform("save"); err != nil {
		return err
	}
	names := r.query["names"]
	if r.name != "" {
		names = []string{r.name}
	}
	if len(names) == 0 {
		return sockerless.Errorf(sockerless.EINVALID, "no images to save: names is missing")
	}
	tar, err := a.backend.Images.Save(r.Context(), names)
	if err != nil {
		return err
	}
	defer tar.Close()
	return sendArchive(w, tarType, tar)
}

func (a *api) searchImages(w http.ResponseWriter, r *request) error {
	filters, err := r.filters()
	if err != nil {
		return err
	}
	opt := sockerless.SearchOptions{Filters: filters}
	if opt.Limit, err = r.number("limit", 0); err != nil {
		return err
	}
	if r.query.Get("limit") != "" && opt.Limit == 0 {
		opt.Limit = -1 // 0 that was asked for is out of range, and not the default
	}
	if opt.Auth, err = r.registryAuth(); err != nil {
		return err
	}
	found, err := a.backend.Images.Search(r.Context(), r.query.Get("term"), opt)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

func (a *api) inspectDistribution(w http.ResponseWriter, r *request) error {
	named, err := parseRef(r.name)
	if err != nil {
		return err
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	found, err := a.backend.Images.Resolve(r.Context(), reference.FamiliarString(reference.TagNameOnly(named)), auth)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

// imageHistory tells what an image's config says of how it was made, the latest step first, with the layers' sizes.
func (a *api) imageHistory(w http.ResponseWriter, r *request) error {
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
	out := []image.HistoryResponseItem{}
	layers := img.Layers
	for _, step := range whole.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: step.Comment, CreatedBy: step.CreatedBy}
		if step.Created != nil {
			item.Created = unixOrZero(*step.Created)
		}
		if !step.EmptyLayer {
			if len(layers) == 0 {
				return sockerless.Errorf(sockerless.EINTERNAL, "cannot tell the history of image %s: it has more steps than layers", img.ID)
			}
			item.Size, layers = layers[0].Size, layers[1:]
		}
		out = append([]image.HistoryResponseItem{item}, out...)
	}
	if len(out) > 0 {
		out[0].ID, out[0].Tags = img.ID, img.Tags
	}
	for i := range out {
		out[i].Tags = orEmpty(out[i].Tags)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// hasPlatform refuses what is asked of another platform than the image's.
func hasPlatform(img *sockerless.Image, r *request) error {
	text := r.query.Get("platform")
	if text == "" {
		return nil
	}
	want, err := parsePlatform(text)
	if err != nil {
		return err
	}
	if have := img.Platform; have != platformName(want) && have != want.OS+"/"+want.Architecture {
		return sockerless.Errorf(sockerless.ENOTFOUND, "image with reference %s was found but does not provide the specified platform (%s)", r.name, platformName(want))
	}
	return nil
}

// commitContainer makes an image of a container. The body is the config of the new image; none, or null, is the
// container's.
func (a *api) commitContainer(w http.ResponseWriter, r *request) error {
	opt := sockerless.CommitOptions{
		Comment: r.query.Get("comment"), Author: r.query.Get("author"), Changes: r.query["changes"],
		Pause: r.query.Get("pause") == "" || r.flag("pause"),
	}
	if _, err := r.body(w, &opt.Config); err != nil {
		return err
	}
	if repo := r.query.Get("repo"); repo != "" {
		named, err := parseRef(repo)
		if err != nil {
			return err
		}
		if _, ok := named.(reference.Digested); ok {
			return sockerless.Errorf(sockerless.EINVALID, "refusing to create a tag with a digest reference")
		}
		if tag := r.query.Get("tag"); tag != "" {
			if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
				return sockerless.Errorf(sockerless.EINVALID, "%w", err)
			}
		}
		opt.Ref = reference.FamiliarString(reference.TagNameOnly(named))
	}
	id, err := a.backend.Containers.Commit(r.Context(), r.query.Get("container"), opt)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, container.CommitResponse{ID: id})
	return nil
}

var noAttestations = refusal("attestations are not supported: of an image's index the one manifest that jobs run is recorded; " +
	"docker buildx imagetools inspect reads them in the registry")
