package aca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backends/aca/programs"
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

// PushAgent puts the agent's image into the registry if it is not there. Start does so itself when it is first called;
// a backend that does it before saves its first container some seconds.
func (d *Driver) PushAgent(ctx context.Context) error {
	_, err := d.agent.pushed(ctx)
	return err
}

// AgentImage returns the reference of the image with the agent, and whether it is in its registry. One of our own that is not
// there yet is pushed by PushAgent, which this does not do.
func (d *Driver) AgentImage(ctx context.Context) (reference string, there bool, err error) {
	a := d.agent
	reference = a.reference
	if reference == "" {
		own, err := a.own(ctx)
		if err != nil {
			return "", false, err
		}
		digest, err := own.Digest()
		if err != nil {
			return "", false, err
		}
		reference = a.registry.server + "/" + programs.AgentRepository + "@" + digest.String()
	}
	image, err := name.ParseReference(reference) // which knows that registries on loopback have plain http
	if err != nil {
		return reference, false, err
	}
	_, err = remote.Head(image, remote.WithContext(ctx), remote.WithAuthFromKeychain(a.registry), remote.WithTransport(a.registry.Transport()))
	if registryStatus(err, http.StatusNotFound) {
		return reference, false, nil
	}
	return reference, err == nil, err
}

// own is the image that is made of the agent program.
func (a *agentImage) own(ctx context.Context) (v1.Image, error) {
	program, err := readAgent(ctx, a.binary)
	if err != nil {
		return nil, err
	}
	return programs.AgentImage(program)
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
	image, err := a.own(ctx)
	if err != nil {
		return "", sockerless.Errorf(sockerless.EINTERNAL, "cannot push the agent to %s: %w", a.registry.server, err)
	}
	reference, pushed, err := a.registry.Push(ctx, programs.AgentRepository, image)
	if err != nil {
		hint := ""
		if sockerless.ErrorCode(err) == sockerless.EFORBIDDEN {
			hint = ", or SOCKERLESS_ACA_AGENT_IMAGE"
		}
		return "", sockerless.Errorf(sockerless.ErrorCode(err), "%w%s", err, hint)
	}
	if pushed {
		a.log.Info("pushed the agent", "image", reference)
	}
	a.ready.Store(&reference)
	return reference, nil
}

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
		places = append(places, filepath.Join(filepath.Dir(self), programs.Agent))
	}
	if found, err := exec.LookPath(programs.Agent); err == nil {
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
		return nil, fmt.Errorf("there is no %s beside this program or in PATH: build it (make build), or set SOCKERLESS_AGENT_BINARY or SOCKERLESS_ACA_AGENT_IMAGE", programs.Agent)
	}
	return buildAgent(ctx, source)
}

// agentSource is the folder of the module that this program was built from. It is unknown to a program built with -trimpath.
func agentSource() (string, bool) {
	_, file, _, ok := goruntime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", false
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	_, err := os.Stat(filepath.Join(root, "agent", "cmd", programs.Agent))
	return root, err == nil
}

// buildAgent builds the agent as make does. Go's build cache makes a repetition quick.
func buildAgent(ctx context.Context, source string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "sockerless-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // what stays is in the temporary folder
	out := filepath.Join(dir, programs.Agent)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./agent/cmd/"+programs.Agent)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build %s from %s: %w: %s", programs.Agent, source, err, oneLine(string(text)))
	}
	return os.ReadFile(out)
}
