//go:build linux

package memdriver

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Images is the image service beside this driver: it knows one image, "shell", which is this machine, since that is where
// the driver's processes run. There is no registry; what needs one is EUNSUPPORTED.
type Images struct{}

// Shell is the image that Images knows.
var Shell = sockerless.Image{
	ID: "sha256:" + strings.Repeat("5e", 32), Tags: []string{"shell:latest"}, Source: "registry.test/shell@sha256:" + strings.Repeat("5e", 32),
	Platform: "linux/amd64", Config: json.RawMessage(`{"architecture":"amd64","os":"linux"}`), Created: time.Unix(1700000000, 0),
	Defaults: &container.Config{
		Env: []string{"PATH=" + os.Getenv("PATH"), "FROM_IMAGE=yes"}, Cmd: []string{"sh"}, Labels: map[string]string{"from": "image"},
	},
}

// Find returns a copy of Shell.
func (Images) Find(_ context.Context, ref string) (*sockerless.Image, error) {
	if ref != "shell" && ref != "shell:latest" && ref != Shell.ID {
		return nil, sockerless.Errorf(sockerless.ENOTFOUND, "No such image: %s", ref)
	}
	img := Shell
	return &img, nil
}

// List yields Shell.
func (Images) List(context.Context, sockerless.ImageListOptions) iter.Seq2[*sockerless.Image, error] {
	return func(yield func(*sockerless.Image, error) bool) {
		img := Shell
		yield(&img, nil)
	}
}

// Credential returns nil: nobody gave one.
func (Images) Credential(string) *driver.Credential { return nil }

// SetInUse takes the engine's function; no image is ever removed.
func (Images) SetInUse(func(imageID string) []string) {}

// SetTell takes the engine's function; nothing happens to Shell.
func (Images) SetTell(func(action events.Action, actor string, attributes map[string]string)) {}

// Pull is ENOTFOUND: what is not known is nowhere.
func (Images) Pull(_ context.Context, ref string, _ sockerless.PullOptions) iter.Seq2[jsonstream.Message, error] {
	return failed(sockerless.Errorf(sockerless.ENOTFOUND, "pull access denied for %s, repository does not exist", ref))
}

// Load is EUNSUPPORTED.
func (Images) Load(context.Context, io.Reader) iter.Seq2[jsonstream.Message, error] {
	return failed(errNoRegistry)
}

// Import is EUNSUPPORTED.
func (Images) Import(context.Context, sockerless.ImportOptions, io.Reader) iter.Seq2[jsonstream.Message, error] {
	return failed(errNoRegistry)
}

// Push is EUNSUPPORTED.
func (Images) Push(context.Context, string, sockerless.PushOptions) iter.Seq2[jsonstream.Message, error] {
	return failed(errNoRegistry)
}

// Save is EUNSUPPORTED.
func (Images) Save(context.Context, []string) (io.ReadCloser, error) { return nil, errNoRegistry }

// Search is EUNSUPPORTED.
func (Images) Search(context.Context, string, sockerless.SearchOptions) ([]registry.SearchResult, error) {
	return nil, errNoRegistry
}

// Resolve is EUNSUPPORTED.
func (Images) Resolve(context.Context, string, *registry.AuthConfig) (*registry.DistributionInspect, error) {
	return nil, errNoRegistry
}

// Commit is EUNSUPPORTED.
func (Images) Commit(context.Context, *sockerless.Container, sockerless.CommitOptions, io.Reader) (string, error) {
	return "", errNoRegistry
}

// Tag is EUNSUPPORTED.
func (Images) Tag(context.Context, string, string) error { return errNoRegistry }

// Remove is EUNSUPPORTED.
func (Images) Remove(context.Context, string, bool) ([]image.DeleteResponse, error) {
	return nil, errNoRegistry
}

// Prune leaves Shell alone.
func (Images) Prune(context.Context, sockerless.Filters) (*image.PruneReport, error) {
	return &image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}, nil
}

// Files is EUNSUPPORTED.
func (Images) Files(context.Context, string) iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) { yield(nil, errNoRegistry) }
}

// ReadTree is EUNSUPPORTED.
func (Images) ReadTree(context.Context, string, string, string) (io.ReadCloser, error) {
	return nil, errNoRegistry
}

// Auth is EUNSUPPORTED.
func (Images) Auth(context.Context, registry.AuthConfig) (*registry.AuthResponse, error) {
	return nil, errNoRegistry
}

var errNoRegistry = sockerless.Errorf(sockerless.EUNSUPPORTED, "there is no registry beside the mem driver")

func failed(err error) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) { yield(jsonstream.Message{}, err) }
}
