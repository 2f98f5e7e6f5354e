//go:build linux

package runtime

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"

	runc "github.com/containerd/go-runc"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sockerless/sockerless/azuresim"
)

// probe runs a container that does nothing. Reading settings is not enough: some systems let each step succeed and the last
// one fail (Ubuntu 24.04's AppArmor refuses mounts in namespaces that it let a user make).
func (rt *Runtime) probe() error {
	scratch := filepath.Join(rt.dir.replicas, ".probe") // swept by the next New in any case
	defer func() { _ = os.RemoveAll(scratch) }()
	if err := rt.mounts.probeOverlay(rt.dir.layers, scratch, rt.nested); err != nil {
		return fmt.Errorf("cannot use data folder %s: %w", rt.dir.root, err)
	}
	if !rt.mounts.overlay {
		rt.log.Warn("this machine cannot mount overlays on the data folder: images are copied for each container", "folder", rt.dir.root)
	}
	limited := rt.tryContainer(filepath.Join(scratch, "limited"), true)
	if limited == nil {
		rt.cgroups.limits = true
		return nil
	}
	if err := rt.tryContainer(filepath.Join(scratch, "unlimited"), false); err != nil {
		return fmt.Errorf("cannot run containers on this machine: %w (%s)", err, rt.advice())
	}
	rt.log.Warn("CPU, memory and process limits are not enforced: control groups cannot be used here", "error", limited)
	return nil
}

// advice is what usually helps, by what is around.
func (rt *Runtime) advice() string {
	if _, err := os.Stat("/.dockerenv"); err == nil {
		return "this is a container: run it with --privileged"
	}
	if rt.nested {
		return userNamespaceAdvice() + ", or run as root"
	}
	return "it needs root with CAP_SYS_ADMIN and CAP_NET_ADMIN, and runc 1.1 or newer: apt-get install runc"
}

func (rt *Runtime) tryContainer(dir string, limits bool) error {
	program, err := idleProgram()
	if err != nil {
		return err
	}
	rootDir := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(rootDir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(rootDir, "idle"), program, 0o755); err != nil {
		return err
	}
	space, err := rt.net.attach(0)
	if err != nil {
		return err
	}
	defer space.leave(0)
	process := &specs.Process{
		Args: []string{"/idle"}, Cwd: "/", Env: []string{defaultPath},
		Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
	}
	id := "probe"
	group, res := "", (*specs.LinuxResources)(nil)
	if limits {
		id = "probe-limited"
		group, res = rt.cgroups.path(id), newLimits(azuresim.Resources{CPU: 0.5, MemoryBytes: 64 << 20}, rt.cgroups.swap)
	}
	data, err := json.Marshal(rt.newSpec(process, "probe", rootDir, space.path(), group, nil, res))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		return err
	}
	stdio, err := runc.NewNullIO()
	if err != nil {
		return err
	}
	defer stdio.Close()
	client := *rt.runc
	client.Log = filepath.Join(dir, "runc.log")
	return rt.mounts.run("/", func() error {
		status, err := client.Run(context.Background(), id, dir, &runc.CreateOpts{IO: stdio})
		if err != nil {
			// What it left, if anything; the error above is the one to tell.
			_ = rt.runc.Delete(context.Background(), id, &runc.DeleteOpts{Force: true})
			var exit *runc.ExitError
			if errors.As(err, &exit) {
				return errors.New(complaint(client.Log, status))
			}
		}
		return err
	})
}

// idleProgram is the smallest static program that exits with status 0.
func idleProgram() ([]byte, error) {
	var machine elf.Machine
	var code []byte
	switch goruntime.GOARCH {
	case "amd64": // mov $60,%eax; xor %edi,%edi; syscall
		machine, code = elf.EM_X86_64, []byte{0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05}
	case "arm64": // mov x8,#93; mov x0,#0; svc #0
		machine, code = elf.EM_AARCH64, []byte{0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4}
	default:
		return nil, fmt.Errorf("cannot run containers on %s: only amd64 and arm64 are supported", goruntime.GOARCH)
	}
	return staticProgram(machine, code)
}

// staticProgram puts code behind the headers of an ELF executable.
func staticProgram(machine elf.Machine, code []byte) ([]byte, error) {
	const base, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Entry: base + headers,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
	}
	segment := elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x1000,
	}
	var b bytes.Buffer
	for _, part := range []any{header, segment, code} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
