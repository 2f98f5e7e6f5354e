package azuresim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// pod is what one replica is made of, whether a job's execution or an app's revision runs it. Its fields are constant.
type pod struct {
	sim       *Simulator
	env       *environment
	workspace string // customer id of the one that the environment logs to; empty: none
	owner     owner
	identity  *jobIdentity
	access    *podAccess
	template  *jobTemplate
	platform  []string // variables of the platform's own, beside those that every replica has
	loopback  []uint16 // see ReplicaSpec
}

// owner is who runs a replica, as rows of logs name it: an execution of a job, or a revision of an app.
type owner struct{ job, execution, app, revision string }

// podAccess is what a pod gets at: secrets, registries, tokens of identities.
type podAccess struct {
	Secrets          []jobSecret       `json:"secrets,omitempty"`
	Registries       []jobRegistry     `json:"registries,omitempty"`
	IdentitySettings []identitySetting `json:"identitySettings,omitempty"`
}

// event writes a row of the system log.
func (p *pod) event(ev Event, replica string) {
	p.sim.logs.system(systemRow{workspace: p.workspace, environment: domainPrefix(p.env.Name), owner: p.owner, replica: replica, event: ev})
}

// spec is the order to the runtime; release takes back what the replica was given.
func (p *pod) spec(name string) (spec ReplicaSpec, release func(), err error) {
	s := p.sim
	_, secure := s.addr.get()
	spec = ReplicaSpec{Name: name, Hostname: name, Shares: map[string]string{}, HTTPS: portNumber(secure), Loopback: p.loopback,
		Pull:     podKeychain{p},
		Insecure: func(registry string) bool { return isLoopbackName(hostOf(registry)) },
		Output: func(container, stream string, line []byte) {
			s.log.Debug("console", "replica", name, "stream", stream, "line", string(line))
			s.logs.console(consoleRow{workspace: p.workspace, environment: domainPrefix(p.env.Name), owner: p.owner, replica: name, container: container,
				image: p.template.image(container), stream: stream, line: string(line), time: time.Now()})
		},
		Events: func(ev Event) { p.event(ev, name) },
	}
	readOnly := map[string]bool{}
	var undo []func()
	giveBack := func() {
		for _, f := range undo {
			f()
		}
	}
	defer func() {
		if err != nil {
			giveBack()
		}
	}()
	for _, v := range p.template.Volumes {
		if v.StorageType == secretVolume {
			folder := filepath.Join(s.dir, "secrets", name, v.Name)
			undo = append(undo, func() { _ = os.RemoveAll(filepath.Dir(folder)) }) // what stays is the simulator's folder's
			if err := v.writeSecrets(folder, p.access); err != nil {
				return spec, nil, fmt.Errorf("cannot mount volume '%s': %w", v.Name, err)
			}
			spec.Shares[v.Name], readOnly[v.Name] = folder, true
			continue
		}
		if v.StorageName == "" {
			spec.EmptyDirs = append(spec.EmptyDirs, v.Name)
			continue
		}
		s.mu.Lock()
		st := p.env.Storages[v.StorageName]
		s.mu.Unlock()
		if st == nil {
			return spec, nil, fmt.Errorf("cannot mount volume '%s': managed environment storage '%s' was deleted", v.Name, v.StorageName)
		}
		folder := filepath.Join(s.dir, st.folder())
		if err := errors.Join(os.MkdirAll(folder, 0o777), os.Chmod(folder, 0o777)); err != nil {
			return spec, nil, fmt.Errorf("cannot mount volume '%s': %w", v.Name, err)
		}
		spec.Shares[v.Name], readOnly[v.Name] = folder, st.readOnly()
	}
	base := append(slices.Clone(p.platform), "CONTAINER_APP_REPLICA_NAME="+name, "CONTAINER_APP_ENV_DNS_SUFFIX="+p.env.domain())
	for _, kind := range []struct {
		lifecycle  string
		containers []jobContainer
		to         *[]ContainerSpec
	}{{"Init", p.template.InitContainers, &spec.Init}, {"Main", p.template.Containers, &spec.Containers}} {
		env := base
		if ids := p.identitiesFor(kind.lifecycle); len(ids) > 0 && len(kind.containers) > 0 {
			header := s.entra.grantHeader(msiGrant{identities: ids})
			undo = append(undo, func() { s.entra.revokeHeader(header) })
			plain, _ := s.addr.get()
			endpoint := "http://" + cloudName + ":" + portOf(plain) + "/msi/token"
			env = append(env[:len(env):len(env)], "IDENTITY_ENDPOINT="+endpoint, "IDENTITY_HEADER="+header,
				"MSI_ENDPOINT="+endpoint, "MSI_SECRET="+header)
		}
		for _, ct := range kind.containers {
			cs, err := p.container(ct, env, &spec, readOnly)
			if err != nil {
				return spec, nil, err
			}
			*kind.to = append(*kind.to, cs)
		}
	}
	for _, cs := range spec.Containers {
		spec.Resources.CPU += cs.Resources.CPU
		spec.Resources.MemoryBytes += cs.Resources.MemoryBytes
	}
	return spec, giveBack, nil
}

func (p *pod) container(ct jobContainer, platform []string, spec *ReplicaSpec, readOnly map[string]bool) (ContainerSpec, error) {
	gi, _ := ct.Resources.memory()
	cs := ContainerSpec{Name: ct.Name, Image: ct.Image, Command: ct.Command, Args: ct.Args,
		Resources: Resources{CPU: ct.Resources.CPU, MemoryBytes: int64(gi * (1 << 30))}}
	cs.Env = append(cs.Env, platform...)
	for _, e := range ct.Env {
		value := e.Value
		if e.SecretRef != "" {
			value, _ = p.access.secret(e.SecretRef) // checked when it was put
		}
		cs.Env = append(cs.Env, e.Name+"="+value)
	}
	for _, m := range ct.VolumeMounts {
		volume := m.VolumeName
		if m.SubPath != "" { // the runtime knows whole volumes only: a folder of a share is one of its own
			folder, err := makeSubPath(spec.Shares[volume], m.SubPath)
			if err != nil {
				return cs, fmt.Errorf("cannot mount volume '%s': %w", m.VolumeName, err)
			}
			volume += "/" + m.SubPath
			spec.Shares[volume] = folder
		}
		cs.Mounts = append(cs.Mounts, Mount{Volume: volume, Path: m.MountPath, ReadOnly: readOnly[m.VolumeName]})
	}
	return cs, nil
}

// makeSubPath makes a folder of a share. A link that a container left there must not lead out of it, so os.Root walks it.
func makeSubPath(share, subPath string) (string, error) {
	root, err := os.OpenRoot(share)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := root.MkdirAll(subPath, 0o777); err != nil {
		return "", err
	}
	info, err := root.Stat(subPath)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no folder", subPath)
	}
	return filepath.Join(share, subPath), nil
}

// image is what the container of that name runs.
func (t *jobTemplate) image(container string) string {
	for _, list := range [][]jobContainer{t.Containers, t.InitContainers} {
		for _, c := range list {
			if c.Name == container {
				return c.Image
			}
		}
	}
	return ""
}

// identitiesFor lists the identities whose tokens containers of a kind ("Init" or "Main") may have.
func (p *pod) identitiesFor(lifecycle string) []*Principal {
	var out []*Principal
	if p.identity == nil {
		return nil
	}
	for rid := range p.identity.UserAssignedIdentities {
		allowed := true
		for _, is := range p.access.IdentitySettings {
			if strings.EqualFold(is.Identity, rid) {
				allowed = is.Lifecycle == "" || is.Lifecycle == "All" || is.Lifecycle == lifecycle
			}
		}
		if who := p.sim.entra.byResourceID(rid); who != nil && allowed {
			out = append(out, who)
		}
	}
	return out
}

// podKeychain has the credentials of a pod's registries.
type podKeychain struct{ pod *pod }

// Resolve mints an ACR refresh token for a registry with an identity, as Container Apps does, and hands out the secret of others.
func (k podKeychain) Resolve(resource authn.Resource) (authn.Authenticator, error) {
	s := k.pod.sim
	for _, reg := range k.pod.access.Registries {
		if reg.Server != resource.RegistryStr() {
			continue
		}
		if reg.Identity == "" {
			password, _ := k.pod.access.secret(reg.PasswordSecretRef)
			return authn.FromConfig(authn.AuthConfig{Username: reg.Username, Password: password}), nil
		}
		registry := s.registryOf(reg.Server)
		if registry == nil {
			return nil, fmt.Errorf("the registry %s does not exist", reg.Server)
		}
		token, err := registry.refreshToken(s.entra.byResourceID(reg.Identity))
		if err != nil {
			return nil, err
		}
		return authn.FromConfig(authn.AuthConfig{Username: acrTokenUser, Password: token}), nil
	}
	return authn.Anonymous, nil
}

// secretVolume is the storage type of a volume whose files are secrets.
const secretVolume = "Secret"

// writeSecrets makes the files of a volume of secrets: the ones that it names, or all.
func (v *jobVolume) writeSecrets(folder string, a *podAccess) error {
	files := v.Secrets
	if len(files) == 0 {
		for _, s := range a.Secrets {
			files = append(files, volumeSecret{SecretRef: s.Name})
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		value, ok := a.secret(f.SecretRef)
		if !ok {
			return fmt.Errorf("the secret '%s' was removed", f.SecretRef)
		}
		path := f.Path
		if path == "" {
			path = f.SecretRef
		}
		if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(path, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// await waits for a replica that was told to stop, and makes it quick when the simulator is closed meanwhile.
func (s *Simulator) await(replica Replica) {
	select {
	case <-replica.Done():
	case <-s.done:
		replica.Stop(closeGrace)
		<-replica.Done()
	}
}

// cloudName is the name under which replicas reach the simulator.
const cloudName = "host.azuresim.internal"

// portNumber is the port of host:port, or 0.
func portNumber(addr string) uint16 {
	n, err := strconv.ParseUint(portOf(addr), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

func hostOf(registry string) string {
	if host, _, err := net.SplitHostPort(registry); err == nil {
		return host
	}
	return registry
}
