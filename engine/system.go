package engine

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/sockerless/sockerless"
)

// What one container can have at most on the Consumption plan. Clients branch on these not being zero.
const (
	maxCPU    = 4
	maxMemory = 8 << 30
)

// systemService is the engine's SystemService.
type systemService struct{ *Engine }

// Info describes the engine, the cloud it runs jobs in, and what it holds.
func (s systemService) Info(ctx context.Context) (*system.Info, error) {
	d := s.opt.Driver.Info()
	info := &system.Info{
		ID:     s.id,
		Driver: d.Name,
		Plugins: system.PluginsInfo{
			Volume: []string{}, Network: []string{}, Authorization: []string{}, Log: []string{"sockerless"},
		},
		MemoryLimit: true, CPUCfsQuota: true, CPUCfsPeriod: true,
		NGoroutines: runtime.NumGoroutine(), NEventsListener: s.events.count(),
		SystemTime:    time.Now().UTC().Format(time.RFC3339Nano),
		LoggingDriver: "sockerless", CgroupDriver: "none",
		OperatingSystem: "Sockerless on " + d.Name, OSType: "linux", Architecture: "x86_64",
		NCPU: maxCPU, MemTotal: maxMemory,
		IndexServerAddress: "https://index.docker.io/v1/",
		RegistryConfig:     &registry.ServiceConfig{IndexConfigs: map[string]*registry.IndexInfo{}},
		DockerRootDir:      s.opt.Dir,
		Name:               d.Instance,
		ServerVersion:      s.opt.Version,
		Runtimes:           map[string]system.RuntimeWithStatus{d.Name: {}},
		DefaultRuntime:     d.Name,
		Swarm:              swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		Labels:             []string{}, SecurityOptions: []string{},
		Warnings: []string{
			"NCPU and MemTotal are what one container can have at most: the platform has no fixed size",
		},
	}
	info.DriverStatus = append(info.DriverStatus, [2]string{"Instance", d.Instance})
	for _, k := range slices.Sorted(maps.Keys(d.Details)) {
		info.DriverStatus = append(info.DriverStatus, [2]string{k, d.Details[k]})
	}
	info.DriverStatus = append(info.DriverStatus, s.usage(ctx)...)
	if s.opt.Links != nil {
		l := s.opt.Links.Stats()
		info.DriverStatus = append(info.DriverStatus, [2]string{"Agent links", fmt.Sprintf(
			"%d now, %d resumed, %d refused, %d without proof, %d too busy", l.Links, l.Resumed, l.Refused+l.Unknown, l.Failed, l.Busy)})
	}
	for _, c := range s.all() {
		info.Containers++
		switch c.State.Status {
		case docker.StateRunning, docker.StateRestarting:
			info.ContainersRunning++
		case docker.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
	for _, err := range s.opt.Images.List(ctx, sockerless.ImageListOptions{All: true}) {
		if err != nil {
			return nil, err
		}
		info.Images++
	}
	return info, nil
}

// Version names the engine, its driver, and the cloud or what stands in for it.
func (s systemService) Version(context.Context) (*system.VersionResponse, error) {
	d := s.opt.Driver.Info()
	v := &system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Sockerless"},
		Version:  s.opt.Version, Os: "linux", Arch: "amd64", GoVersion: runtime.Version(),
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: s.opt.Version, Details: map[string]string{
				"Os": "linux", "Arch": "amd64", "GoVersion": runtime.Version(),
			}},
			{Name: "Driver " + d.Name, Version: s.opt.Version, Details: d.Details},
		},
	}
	if d.Cloud != "" {
		v.Components = append(v.Components, system.ComponentVersion{Name: "Cloud", Version: d.Cloud, Details: map[string]string{}})
	}
	return v, nil
}

// Auth tries credentials against their registry.
func (s systemService) Auth(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	return s.opt.Images.Auth(ctx, auth)
}
