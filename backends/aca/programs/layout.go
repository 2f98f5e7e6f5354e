package programs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteLayout makes both images of the programs in a folder and puts them into dir as an OCI layout, in place of what was
// there: dir holds the one or the other, never a part. The layout names them by their repositories. A dir that is no layout
// is left alone and is an error.
func WriteLayout(dir, programs string) (err error) {
	agent, err := os.ReadFile(filepath.Join(programs, Agent))
	if err != nil {
		return err
	}
	backend, err := os.ReadFile(filepath.Join(programs, Backend))
	if err != nil {
		return err
	}
	made := map[string]v1.Image{}
	if made[AgentRepository], err = AgentImage(agent); err != nil {
		return err
	}
	if made[BackendRepository], err = BackendImage(backend, agent); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		if _, err := layout.FromPath(dir); err != nil {
			return fmt.Errorf("cannot put images into %s: something else is there", dir)
		}
	}
	next, err := os.MkdirTemp(filepath.Dir(dir), ".images-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(next)) }()
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	to, err := layout.Write(next, empty.Index)
	if err != nil {
		return err
	}
	for _, repository := range []string{AgentRepository, BackendRepository} { // in order: the index has the same bytes every time
		if err := to.AppendImage(made[repository], layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: repository})); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(next, dir)
}

// Named is an image of a layout.
type Named struct {
	Repository string
	Image      v1.Image
}

// ReadLayout returns the images of a layout that WriteLayout has made. What is missing says how it is made.
func ReadLayout(dir string) ([]Named, error) {
	from, err := layout.FromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no images in %s: make images puts them there", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the images in %s: %w", dir, err)
	}
	index, err := from.ImageIndex()
	if err != nil {
		return nil, fmt.Errorf("cannot read the images in %s: %w", dir, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("cannot read the images in %s: %w", dir, err)
	}
	var all []Named
	for _, d := range manifest.Manifests {
		repository := d.Annotations[ocispec.AnnotationRefName]
		if repository != AgentRepository && repository != BackendRepository {
			continue
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("cannot read image %s in %s: %w", repository, dir, err)
		}
		all = append(all, Named{repository, image})
	}
	if len(all) != 2 {
		return nil, fmt.Errorf("in %s there are %d of the images %s and %s: make images puts them there", dir, len(all), AgentRepository, BackendRepository)
	}
	return all, nil
}
