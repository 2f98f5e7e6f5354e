package aca

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sockerless/sockerless"
)

// agentImage is the image whose agent a job's init container installs. Unless one is configured, it is made of the agent
// program and pushed into the configured registry, tagged by its digest: a backend always runs the agent that it was
// shipped with.
type agentImage struct {
	reference string // configured; empty: our own
	binary    string // configured; empty: it is looked for
	registry  *Registry
	log       *slog.Logger

	turn  chan struct{}          // holds a token while somebody pushes, so that who waits can give up
	ready atomic.Pointer[string] // the reference, once it is known to be in the registry
}

func newAgentImage(c *Config, registry *Registry, log *slog.Logger) *agentImage {
	return &agentImage{reference: c.AgentImage, binary: c.AgentBinary, registry: registry, log: log, turn: make(chan struct{}, 1)}
}

// agentRepository is where in the registry the agent's images are.
const agentRepository = "sockerless/agent"

// PushAgent puts the agent's image into the registry if it is not there. Start does so itself when it is first called;
// a backend that does it before saves its first container some seconds.
func (d *Driver) PushAgent(ctx context.Context) error {
	_, err := d.agent.pushed(ctx)
	return err
}

// pushed returns the image's reference; it is in the registry then. What went wrong is tried again by the next call.
func (a *agentImage) pushed(ctx context.Context) (string, error) {
	if a.reference != "" {
		return a.reference, nil
	}
	if ready := a.ready.Load(); ready != nil {
		return *ready, nil
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", explain(ctx.Err(), "push the agent to %s", a.registry.server)
	}
	if ready := a.ready.Load(); ready != nil {
		return *ready, nil
	}
	if a.registry.server == "" {
		return "", sockerless.Errorf(sockerless.EUNSUPPORTED, "cannot push the agent: SOCKERLESS_ACA_ACR is not set")
	}
	program, err := readAgent(ctx, a.binary)
	if err == nil {
		err = checkAgent(program)
	}
	if err != nil {
		return "", sockerless.Errorf(sockerless.EINTERNAL, "cannot push the agent to %s: %w", a.registry.server, err)
	}
	image, err := packAgent(program)
	if err != nil {
		return "", sockerless.Errorf(sockerless.EINTERNAL, "cannot push the agent to %s: %w", a.registry.server, err)
	}
	reference, err := a.push(ctx, image)
	if err != nil {
		return "", pushFailed(a.registry.server, err)
	}
	a.ready.Store(&reference)
	return reference, nil
}

// push writes the image if its tag is not there, and returns its reference by digest.
func (a *agentImage) push(ctx context.Context, image v1.Image) (string, error) {
	digest, err := image.Digest()
	if err != nil {
		return "", err
	}
	var options []name.Option
	if insecure(a.registry.server) {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(a.registry.server+"/"+agentRepository, options...)
	if err != nil {
		return "", err
	}
	to := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(a.registry), remote.WithTransport(a.registry.Transport())}
	tag := repository.Tag(strings.Replace(digest.String(), ":", "-", 1))
	there, err := remote.Head(tag, to...)
	if err != nil && !registryStatus(err, http.StatusNotFound) {
		return "", err
	}
	if err != nil || there.Digest != digest {
		if err := remote.Write(tag, image, to...); err != nil {
			return "", err
		}
		a.log.Info("pushed the agent", "image", tag.String())
	}
	return repository.Digest(digest.String()).String(), nil
}

func pushFailed(server string, err error) error {
	code := sockerless.ErrorCode(err)
	hint := ""
	switch {
	case registryStatus(err, http.StatusUnauthorized, http.StatusForbidden), hasStatus(err, http.StatusUnauthorized): // at the sign-in
		code, hint = sockerless.EFORBIDDEN, "; the backend needs the role AcrPush there, or SOCKERLESS_ACA_AGENT_IMAGE"
	case code == sockerless.EINTERNAL:
		code = sockerless.EUNAVAILABLE
	}
	return &sockerless.Error{Code: code, Err: err, Message: fmt.Sprintf("cannot push the agent to %s: %s%s", server, oneLine(err.Error()), hint)}
}

// registryStatus says whether a registry answered with one of these statuses.
func registryStatus(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return false
	}
	for _, s := range statuses {
		if refused.StatusCode == s {
			return true
		}
	}
	return false
}

// packAgent makes the image: one layer with one file. The same program gives the same digest, everywhere and always.
func packAgent(program []byte) (v1.Image, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(agentInImage, "/"), Mode: 0o755, Size: int64(len(program)), Format: tar.FormatUSTAR}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	content, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux",
		Config:  v1.Config{Entrypoint: []string{agentInImage}, WorkingDir: "/"},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: diffIDs(image)},
		History: []v1.History{{CreatedBy: "sockerless"}},
	})
}

func diffIDs(image v1.Image) []v1.Hash {
	config, err := image.ConfigFile()
	if err != nil { // an image in memory has one
		panic(err)
	}
	return config.RootFS.DiffIDs
}

// agentProgram is the program's name.
const agentProgram = "sockerless-agent"

// readAgent finds the agent program: as configured, beside this program, in PATH, or built by the go tool from the
// sources that this program was built from, if they are still there.
func readAgent(ctx context.Context, configured string) ([]byte, error) {
	if configured != "" {
		program, err := os.ReadFile(configured)
		if err != nil {
			return nil, &SettingError{"SOCKERLESS_AGENT_BINARY", "agent-binary", "cannot be read: " + err.Error()}
		}
		return program, nil
	}
	var places []string
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Join(filepath.Dir(self), agentProgram))
	}
	if found, err := exec.LookPath(agentProgram); err == nil {
		places = append(places, found)
	}
	for _, place := range places {
		program, err := os.ReadFile(place)
		if err == nil {
			return program, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	source, ok := agentSource()
	if !ok {
		return nil, fmt.Errorf("there is no %s beside this program or in PATH: build it (make build), or set SOCKERLESS_AGENT_BINARY or SOCKERLESS_ACA_AGENT_IMAGE", agentProgram)
	}
	return buildAgent(ctx, source)
}

// checkAgent refuses a program that no job could run: in the user's image there is no loader and no library for it.
func checkAgent(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil || f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is no program for linux/amd64", agentProgram)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not a static program: build it with CGO_ENABLED=0", agentProgram)
		}
	}
	return nil
}

// agentSource is the folder of the module that this program was built from. It is unknown to a program built with -trimpath.
func agentSource() (string, bool) {
	_, file, _, ok := goruntime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", false
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	_, err := os.Stat(filepath.Join(root, "agent", "cmd", agentProgram))
	return root, err == nil
}

// buildAgent builds the agent as make does. Go's build cache makes a repetition quick.
func buildAgent(ctx context.Context, source string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "sockerless-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // what stays is in the temporary folder
	out := filepath.Join(dir, agentProgram)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./agent/cmd/"+agentProgram)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build %s from %s: %w: %s", agentProgram, source, err, oneLine(string(text)))
	}
	return os.ReadFile(out)
}
