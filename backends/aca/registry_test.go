package aca_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// program is the smallest thing that has the form of a static program for linux/amd64.
func program(t *testing.T, segments ...elf.Prog64) []byte {
	t.Helper()
	var b bytes.Buffer
	h := elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Phoff: 64, Phentsize: 56, Phnum: uint16(len(segments)), Shentsize: 64}
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	if err := binary.Write(&b, binary.LittleEndian, segments); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ownAgent is a configuration whose agent is pushed.
func ownAgent(t *testing.T) func(*aca.Config) {
	t.Helper()
	return agentFile(t, program(t))
}

func agentFile(t *testing.T, content []byte) func(*aca.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(c *aca.Config) { c.AgentImage, c.AgentBinary = "", file }
}

func driverOf(t *testing.T, tc *testCloud) *aca.Driver {
	t.Helper()
	d, ok := driver.As[*aca.Driver](tc.driver)
	if !ok {
		t.Fatal("there is no aca.Driver in the chain")
	}
	return d
}

// agentOf is the agent's image in the job, pulled from the registry.
func agentOf(t *testing.T, tc *testCloud) (string, v1.Image) {
	t.Helper()
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) > 0 })
	reference := tc.replicas.list()[0].spec.Init[0].Image
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(ref, remote.WithAuthFromKeychain(driverOf(t, tc).Registry()))
	if err != nil {
		t.Fatal(err)
	}
	return reference, image
}

func TestAgentIsPushedOnce(t *testing.T) {
	t.Parallel()
	tc := calm(t, ownAgent(t))
	tc.start(tc.spec())
	reference, image := agentOf(t, tc)
	if !strings.HasPrefix(reference, tc.srv.LoginServer+"/sockerless/agent@sha256:") {
		t.Errorf("the job's agent is %s, want one by digest in the registry", reference)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("the image has %d layers, error %v; want one", len(layers), err)
	}
	layer, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	files := tar.NewReader(layer)
	h, err := files.Next()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(files)
	if err != nil || h.Name != "sockerless-agent" || h.Mode != 0o755 || !bytes.Equal(content, program(t)) || !h.ModTime.Equal(h.ModTime.Truncate(0)) {
		t.Errorf("the layer has %+v with %q, error %v", h, content, err)
	}
	if _, err := files.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the layer has more than the agent: %v", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/sockerless-agent"}, config.Config.Entrypoint); diff != "" || config.OS+"/"+config.Architecture != "linux/amd64" || config.Config.User != "" {
		t.Errorf("config is %+v", config)
	}

	pushes := func(seq int) (n int) {
		for _, r := range tc.sim.Requests(seq) {
			if strings.HasPrefix(r.Path, "/v2/") && r.Method != http.MethodGet && r.Method != http.MethodHead {
				n++
			}
		}
		return n
	}
	if pushes(0) == 0 {
		t.Error("nothing was pushed")
	}
	before := tc.seq()
	second := tc.open("another backend with the same agent")
	spec := tc.spec()
	spec.Container = otherID
	if _, err := second.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if n := pushes(before); n != 0 {
		t.Errorf("%d uploads for an agent that is there", n)
	}
}

func TestAgentCannotBePushed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*aca.Config)
		before func(*azuresim.Simulator)
		code   sockerless.Code
		want   string
	}{
		"no right": {ownAgent(t), func(s *azuresim.Simulator) {
			for _, as := range s.Assignments() {
				if as.Role == "AcrPush" {
					s.Unassign(as)
				}
			}
		}, sockerless.EFORBIDDEN, "AcrPush"},
		"no role": {ownAgent(t), func(s *azuresim.Simulator) {
			for _, as := range s.Assignments() {
				if strings.HasPrefix(as.Role, "Acr") {
					s.Unassign(as)
				}
			}
		}, sockerless.EFORBIDDEN, "Azure answered 401 UNAUTHORIZED: authentication required, visit https://aka.ms/acr/authorization for more information; that takes the role AcrPush there"},
		"no program":                {func(c *aca.Config) { c.AgentImage, c.AgentBinary = "", "/nowhere/sockerless-agent" }, nil, sockerless.EINTERNAL, "SOCKERLESS_AGENT_BINARY"},
		"another machine's program": {agentFile(t, []byte("#!/bin/sh")), nil, sockerless.EINTERNAL, "no program for linux/amd64"},
		"a program with libraries":  {agentFile(t, program(t, elf.Prog64{Type: uint32(elf.PT_INTERP)})), nil, sockerless.EINTERNAL, "not a static program"},
		"registry away":             {func(c *aca.Config) { ownAgent(t)(c); c.Registry = "127.0.0.1:1" }, nil, sockerless.EUNAVAILABLE, "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc := calm(t, c.change)
			if c.before != nil {
				c.before(tc.sim)
			}
			_, err := tc.driver.Start(t.Context(), tc.spec())
			if sockerless.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %v (%s), want %s with %q", err, sockerless.ErrorCode(err), c.code, c.want)
			}
			if calls := tc.arm(0); len(calls) > 0 {
				t.Errorf("calls %v were made for a job without an agent", calls)
			}
		})
	}
}

// The token for the registry goes to the registry alone, and is asked for once.
func TestKeychain(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	keychain := driverOf(t, tc).Registry()
	exchanges := func() (n int) {
		for _, r := range tc.sim.Requests(0) {
			if r.Path == "/oauth2/exchange" {
				n++
			}
		}
		return n
	}
	foreign, err := name.NewRegistry("ghcr.io")
	if err != nil {
		t.Fatal(err)
	}
	if auth, err := keychain.Resolve(foreign); err != nil || auth != authn.Anonymous || exchanges() != 0 {
		t.Errorf("credentials for another registry: %v, error %v, %d exchanges", auth, err, exchanges())
	}
	own, err := name.NewRegistry(tc.srv.LoginServer)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		auth, err := keychain.Resolve(own)
		if err != nil {
			t.Fatal(err)
		}
		config, err := auth.Authorization()
		if err != nil || config.Username != "00000000-0000-0000-0000-000000000000" || strings.Count(config.Password, ".") != 2 {
			t.Errorf("credentials are %+v, error %v", config, err)
		}
	}
	if n := exchanges(); n != 1 {
		t.Errorf("%d exchanges for three uses, want 1", n)
	}
}
