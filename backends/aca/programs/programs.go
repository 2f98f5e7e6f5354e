// Package programs makes the images of Sockerless's own programs, without a container engine: the agent's, which every job
// takes its agent from, and the backend's, for a backend that runs in Azure itself.
//
// An image is what its programs are and nothing else: the same programs give the same digest, everywhere and always. All
// are for linux/amd64, since Container Apps runs nothing else.
package programs

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The programs, by the names of their files.
const (
	Agent   = "sockerless-agent"
	Backend = "sockerless-backend-aca"
)

// Where things are: in an image, and in a registry.
const (
	AgentPath         = "/" + Agent
	AgentRepository   = "sockerless/agent"
	BackendRepository = "sockerless/backend"
)

// The backend's image has one folder that its user may write to. A disk that outlives the container belongs there.
const (
	dataDir = "/var/lib/sockerless"
	user    = 65532 // nobody's
	port    = "9100/tcp"
)

// AgentImage makes the agent's image.
func AgentImage(agent []byte) (v1.Image, error) {
	if err := check(Agent, agent); err != nil {
		return nil, err
	}
	l, err := layer(file(Agent, agent))
	if err != nil {
		return nil, err
	}
	return image(v1.Config{Entrypoint: []string{AgentPath}, WorkingDir: "/"}, l)
}

// BackendImage makes the backend's image. The agent is in it too, beside the backend, which so pushes the one that it was
// shipped with.
func BackendImage(backend, agent []byte) (v1.Image, error) {
	for name, program := range map[string][]byte{Backend: backend, Agent: agent} {
		if err := check(name, program); err != nil {
			return nil, err
		}
	}
	below, err := layer(file(Agent, agent)) // the same bytes as in the agent's image: a registry keeps them once
	if err != nil {
		return nil, err
	}
	above, err := layer(
		folder("tmp", 0o1777, 0), folder("var", 0o755, 0), folder("var/lib", 0o755, 0), folder(strings.TrimPrefix(dataDir, "/"), 0o700, user),
		file(Backend, backend))
	if err != nil {
		return nil, err
	}
	return image(v1.Config{
		Entrypoint: []string{"/" + Backend}, WorkingDir: "/", User: fmt.Sprintf("%d:%d", user, user),
		Env: []string{"SOCKERLESS_DATA_DIR=" + dataDir}, ExposedPorts: map[string]struct{}{port: {}},
	}, below, above)
}

// check refuses a program that an image without anything else cannot run: there is no loader and no library in it.
func check(name string, program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil || f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("%s is no program for linux/amd64", name)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not a static program: build it with CGO_ENABLED=0", name)
		}
	}
	return nil
}

// entry is a file or folder of a layer.
type entry struct {
	header  tar.Header
	content []byte
}

func file(name string, content []byte) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}, content}
}

func folder(name string, mode int64, owner int) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: owner, Gid: owner}}
}

func layer(entries ...entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.Format = tar.FormatUSTAR
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}

func image(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	start := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made, err := mutate.AppendLayers(start, layers...)
	if err != nil {
		return nil, err
	}
	was, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	history := make([]v1.History, len(layers))
	for i := range history {
		history[i].CreatedBy = "sockerless"
	}
	return mutate.ConfigFile(made, &v1.ConfigFile{
		Architecture: "amd64", OS: "linux", Config: config,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: was.RootFS.DiffIDs}, History: history,
	})
}
