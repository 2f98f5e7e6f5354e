package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	shipped "github.com/sockerless/sockerless/backends/aca/programs"
)

// leadImage replaces the backend's image in dir, where make images has left it, by one that finds the simulator, of which the
// module tells its app nothing. It trusts the authorities.
func leadImage(dir string, authorities []byte) error {
	images, err := shipped.ReadLayout(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(images, func(n shipped.Named) bool { return n.Repository == shipped.BackendRepository })
	led, err := ledImage(images[i].Image, authorities)
	if err != nil {
		return err
	}
	made, err := layout.FromPath(dir)
	if err != nil {
		return err
	}
	named := match.Name(shipped.BackendRepository)
	return made.ReplaceImage(led, named, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: shipped.BackendRepository}))
}

// ledImage is an image with the address of this cloud, and the authorities of it and of its Docker Hub.
func ledImage(image v1.Image, authorities []byte) (v1.Image, error) {
	const file = "authorities.pem"
	var b bytes.Buffer
	tape := tar.NewWriter(&b)
	err := tape.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(authorities))})
	if err == nil {
		_, err = tape.Write(authorities)
	}
	if err = errors.Join(err, tape.Close()); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Config.Env = append(config.Config.Env, "SOCKERLESS_ENDPOINT_URL=https://host.azuresim.internal",
		"SOCKERLESS_CA_FILE=/"+file, "SOCKERLESS_CALLBACK_CA_FILE=/"+file)
	return mutate.Config(image, config.Config)
}
