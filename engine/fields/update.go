package fields

import (
	"reflect"
	"slices"

	"github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
)

// updatable are the resources that `docker update` changes in Docker. It ignores the others of its request.
var updatable = []string{
	"BlkioWeight", "CPUShares", "NanoCPUs", "CPUPeriod", "CPUQuota", "CPURealtimePeriod", "CPURealtimeRuntime", "CpusetCpus",
	"CpusetMems", "Memory", "MemoryReservation", "MemorySwap", "PidsLimit",
}

// Update returns what `docker update` makes of a container's settings. What create refuses or warns of is refused or
// warned of here too; what Docker would ignore is refused by its flag's name.
func Update(now *container.HostConfig, config container.UpdateConfig) (next *container.HostConfig, warnings []string, err error) {
	if err := mayUpdate(now, config); err != nil {
		return nil, nil, err
	}
	host := &container.HostConfig{Resources: config.Resources, RestartPolicy: config.RestartPolicy}
	if host.Memory == 0 {
		host.Memory = now.Memory // what is said of swap depends on it
	}
	if host.MemorySwap == 0 && config.Memory != 0 {
		host.MemorySwap = now.MemorySwap
	}
	warnings, err = Check(&sockerless.CreateRequest{Config: &container.Config{}, HostConfig: host})
	if err != nil {
		return nil, nil, err
	}
	changed := *now
	from, to := reflect.ValueOf(config.Resources), reflect.ValueOf(&changed.Resources).Elem()
	for _, name := range updatable {
		if v := from.FieldByName(name); !v.IsZero() {
			to.FieldByName(name).Set(v)
		}
	}
	if config.RestartPolicy.Name != "" {
		changed.RestartPolicy = config.RestartPolicy
	}
	return &changed, warnings, nil
}

// mayUpdate refuses, in dockerd's words, what dockerd refuses, and what it would ignore.
func mayUpdate(now *container.HostConfig, config container.UpdateConfig) error {
	conflict := func(text string) error { return sockerless.Errorf(sockerless.ECONFLICT, "%s", text) }
	switch r := config.Resources; {
	case r.NanoCPUs > 0 && now.CPUPeriod > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case r.NanoCPUs > 0 && now.CPUQuota > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case r.CPUPeriod > 0 && now.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case r.CPUQuota > 0 && now.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case r.Memory != 0 && r.MemorySwap == 0 && now.MemorySwap > 0 && r.Memory > now.MemorySwap:
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	case config.RestartPolicy.Name != "" && now.AutoRemove && !config.RestartPolicy.IsNone():
		return conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	var refusals []string
	resources := reflect.ValueOf(config.Resources)
	for _, f := range reflect.VisibleFields(resources.Type()) {
		if slices.Contains(updatable, f.Name) || empty(resources.FieldByIndex(f.Index)) {
			continue
		}
		if n := config.MemorySwappiness; f.Name == "MemorySwappiness" && *n == -1 {
			continue // how older clients say nothing
		}
		refusals = append(refusals, "cannot update "+flagOf(f.Name)+": it can be set at create only")
	}
	return refuse(refusals)
}

// flagOf names a resource as a user would.
func flagOf(field string) string {
	for _, row := range table {
		if row.Path == "HostConfig."+field && row.Flag != "" {
			return row.Flag
		}
	}
	return field
}
