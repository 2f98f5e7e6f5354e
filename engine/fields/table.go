package fields

// Reasons that several rows give.
const (
	noteVolumes   = "volumes and mounts are not offered"
	noteHealth    = "health checks are not run"
	noteHostname  = "Container Apps names the replica, and that is the hostname inside"
	noteNamespace = "Container Apps gives every replica its own namespaces and shares none"
	noteNetwork   = "the container is listed in the network, and does not reach others by it: Container Apps has no networks between jobs"
	noteMode      = "a container has the network of its Container Apps environment, and can neither leave it nor share another's"
	noteLinks     = "Container Apps has no networks between jobs"
	noteAddress   = "Container Apps assigns the addresses"
	noteDNS       = "Container Apps sets the name servers"
	noteHosts     = "/etc/hosts belongs to Container Apps"
	notePorts     = "ports are not published to the client's machine"
	noteDevices   = "Container Apps gives no devices"
	noteShares    = "a replica shares no cores or disks with its neighbours that could be weighed"
	noteLater     = "Docker fills it in once the container runs"
	noteWindows   = "it is for Windows containers"
	noteSwap      = "replicas have no swap"
	noteAlone     = "Container Apps decides how the sandbox is built"
)

// table has one row a field, in the order of Docker's structs. A row also stands for all that is below its path.
var table = []Row{
	{Path: "Name", Flag: "--name", Verdict: Honoured},
	{Path: "Platform", Flag: "--platform", Verdict: Refused, Values: []string{"linux", "linux/amd64"}, Note: "Container Apps runs linux/amd64 only", showValue: true, judge: judgePlatform},

	{Path: "Config.Hostname", Flag: "--hostname", Verdict: Warned, Note: noteHostname},
	{Path: "Config.Domainname", Flag: "--domainname", Verdict: Warned, Note: noteHostname},
	{Path: "Config.User", Flag: "--user", Verdict: Honoured, Note: "the agent runs as the image's USER: only if that is root it can become somebody else, else the start fails and says so"},
	{Path: "Config.AttachStdin", Flag: "--attach", Verdict: Honoured},
	{Path: "Config.AttachStdout", Flag: "--attach", Verdict: Honoured},
	{Path: "Config.AttachStderr", Flag: "--attach", Verdict: Honoured},
	{Path: "Config.ExposedPorts", Flag: "--expose", Verdict: Honoured},
	{Path: "Config.Tty", Flag: "--tty", Verdict: Honoured},
	{Path: "Config.OpenStdin", Flag: "--interactive", Verdict: Honoured},
	{Path: "Config.StdinOnce", Flag: "--interactive", Verdict: Honoured},
	{Path: "Config.Env", Flag: "--env", Verdict: Honoured, Note: "it travels to the agent over the link and never through Azure"},
	{Path: "Config.Cmd", Verdict: Honoured, Note: "the arguments after the image's name"},
	{Path: "Config.Healthcheck.Test", Flag: "--health-cmd", Verdict: Refused, Values: []string{"NONE"}, Note: noteHealth, judge: judgeHealthTest},
	{Path: "Config.Healthcheck.Interval", Flag: "--health-interval", Verdict: Refused, Note: noteHealth},
	{Path: "Config.Healthcheck.Timeout", Flag: "--health-timeout", Verdict: Refused, Note: noteHealth},
	{Path: "Config.Healthcheck.StartPeriod", Flag: "--health-start-period", Verdict: Refused, Note: noteHealth},
	{Path: "Config.Healthcheck.StartInterval", Flag: "--health-start-interval", Verdict: Refused, Note: noteHealth},
	{Path: "Config.Healthcheck.Retries", Flag: "--health-retries", Verdict: Refused, Note: noteHealth},
	{Path: "Config.ArgsEscaped", Verdict: Inert, Note: noteWindows},
	{Path: "Config.Image", Verdict: Honoured, Note: "resolved to a digest at create: a tag that moves later changes nothing"},
	{Path: "Config.Volumes", Flag: "--volume", Verdict: Refused, Note: noteVolumes},
	{Path: "Config.WorkingDir", Flag: "--workdir", Verdict: Honoured},
	{Path: "Config.Entrypoint", Flag: "--entrypoint", Verdict: Honoured},
	{Path: "Config.NetworkDisabled", Verdict: Refused, Note: "Container Apps always gives a network"},
	{Path: "Config.OnBuild", Verdict: Inert, Note: "only builds read it"},
	{Path: "Config.Labels", Flag: "--label", Verdict: Honoured},
	{Path: "Config.StopSignal", Flag: "--stop-signal", Verdict: Honoured},
	{Path: "Config.StopTimeout", Flag: "--stop-timeout", Verdict: Honoured},
	{Path: "Config.Shell", Verdict: Inert, Note: "only builds and health checks read it"},

	{Path: "HostConfig.Binds", Flag: "--volume", Verdict: Refused, Note: noteVolumes},
	{Path: "HostConfig.ContainerIDFile", Flag: "--cidfile", Verdict: Honoured, Note: "the client writes the file"},
	{Path: "HostConfig.LogConfig.Type", Flag: "--log-driver", Verdict: Refused, Values: []string{"json-file", "local"}, Note: "logs are kept by the backend, as json-file and local do", showValue: true},
	{Path: "HostConfig.LogConfig.Config", Flag: "--log-opt", Verdict: Honoured, Note: "those of json-file and local; compress, mode=non-blocking and max-buffer-size are accepted with a warning", judge: judgeLogOpts},
	{Path: "HostConfig.NetworkMode", Flag: "--network", Verdict: Warned, Values: []string{"default", "bridge"}, Note: noteNetwork + "; host, none and container:NAME are refused", showValue: true, judge: judgeNetworkMode},
	{Path: "HostConfig.PortBindings", Flag: "--publish", Verdict: Refused, Note: notePorts},
	{Path: "HostConfig.RestartPolicy.Name", Flag: "--restart", Verdict: Honoured, Note: "by the agent, in place; in a new execution, with a fresh file system, if the platform ends the present one"},
	{Path: "HostConfig.RestartPolicy.MaximumRetryCount", Flag: "--restart", Verdict: Honoured, Note: "for the policy on-failure"},
	{Path: "HostConfig.AutoRemove", Flag: "--rm", Verdict: Honoured},
	{Path: "HostConfig.VolumeDriver", Flag: "--volume-driver", Verdict: Refused, Values: []string{"local"}, Note: noteVolumes},
	{Path: "HostConfig.VolumesFrom", Flag: "--volumes-from", Verdict: Refused, Note: noteVolumes},
	{Path: "HostConfig.ConsoleSize", Verdict: Honoured, Note: "the client sends its terminal's size"},
	{Path: "HostConfig.Annotations", Flag: "--annotation", Verdict: Inert, Note: "for runtimes that read them; Container Apps takes none"},
	{Path: "HostConfig.CapAdd", Flag: "--cap-add", Verdict: Refused, Note: "Container Apps grants no capabilities"},
	{Path: "HostConfig.CapDrop", Flag: "--cap-drop", Verdict: Warned, Note: "the process has the capabilities that Container Apps gives it, and none was dropped"},
	{Path: "HostConfig.CgroupnsMode", Flag: "--cgroupns", Verdict: Refused, Values: []string{"private"}, Note: noteNamespace, showValue: true},
	{Path: "HostConfig.DNS", Flag: "--dns", Verdict: Refused, Note: noteDNS},
	{Path: "HostConfig.DNSOptions", Flag: "--dns-option", Verdict: Refused, Note: noteDNS},
	{Path: "HostConfig.DNSSearch", Flag: "--dns-search", Verdict: Refused, Note: noteDNS},
	{Path: "HostConfig.ExtraHosts", Flag: "--add-host", Verdict: Refused, Note: noteHosts},
	{Path: "HostConfig.GroupAdd", Flag: "--group-add", Verdict: Honoured, Note: "for images that run as root: the agent sets the groups"},
	{Path: "HostConfig.IpcMode", Flag: "--ipc", Verdict: Refused, Values: []string{"private", "shareable"}, Note: noteNamespace, showValue: true},
	{Path: "HostConfig.Cgroup", Verdict: Refused, Note: noteNamespace},
	{Path: "HostConfig.Links", Flag: "--link", Verdict: Refused, Note: noteLinks},
	{Path: "HostConfig.OomScoreAdj", Flag: "--oom-score-adj", Verdict: Warned, Note: "Container Apps decides what is killed when memory is short"},
	{Path: "HostConfig.PidMode", Flag: "--pid", Verdict: Refused, Note: noteNamespace, showValue: true},
	{Path: "HostConfig.Privileged", Flag: "--privileged", Verdict: Refused, Note: "Container Apps runs unprivileged containers only", judge: judgePrivileged},
	{Path: "HostConfig.PublishAllPorts", Flag: "--publish-all", Verdict: Refused, Note: notePorts},
	{Path: "HostConfig.ReadonlyRootfs", Flag: "--read-only", Verdict: Refused, Note: "Container Apps has no read-only root file systems"},
	{Path: "HostConfig.SecurityOpt", Flag: "--security-opt", Verdict: Refused, Note: noteAlone},
	{Path: "HostConfig.StorageOpt", Flag: "--storage-opt", Verdict: Refused, Note: "the size of a replica's file system follows from its CPU"},
	{Path: "HostConfig.Tmpfs", Flag: "--tmpfs", Verdict: Refused, Note: noteVolumes},
	{Path: "HostConfig.UTSMode", Flag: "--uts", Verdict: Refused, Note: noteNamespace, showValue: true},
	{Path: "HostConfig.UsernsMode", Flag: "--userns", Verdict: Refused, Note: noteNamespace, showValue: true},
	{Path: "HostConfig.ShmSize", Flag: "--shm-size", Verdict: Refused, Values: []string{"67108864"}, Note: "Container Apps sets the size of /dev/shm"},
	{Path: "HostConfig.Sysctls", Flag: "--sysctl", Verdict: Refused, Note: "Container Apps sets the kernel's parameters"},
	{Path: "HostConfig.Runtime", Flag: "--runtime", Verdict: Refused, Values: []string{"runc", "io.containerd.runc.v2"}, Note: "Container Apps brings its own runtime", showValue: true},
	{Path: "HostConfig.Umask", Verdict: Refused, Values: []string{"18"}, Note: "processes start with the umask 0022"},
	{Path: "HostConfig.Isolation", Flag: "--isolation", Verdict: Refused, Values: []string{"default"}, Note: noteWindows, showValue: true},

	{Path: "HostConfig.CPUShares", Flag: "--cpu-shares", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.Memory", Flag: "--memory", Verdict: Honoured, Note: "rounded up to a size that Container Apps has, with a warning"},
	{Path: "HostConfig.NanoCPUs", Flag: "--cpus", Verdict: Honoured, Note: "rounded up to a size that Container Apps has, with a warning"},
	{Path: "HostConfig.CgroupParent", Flag: "--cgroup-parent", Verdict: Warned, Note: "there is no host whose control groups could be chosen"},
	{Path: "HostConfig.BlkioWeight", Flag: "--blkio-weight", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.BlkioWeightDevice", Flag: "--blkio-weight-device", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.BlkioDeviceReadBps", Flag: "--device-read-bps", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.BlkioDeviceWriteBps", Flag: "--device-write-bps", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.BlkioDeviceReadIOps", Flag: "--device-read-iops", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.BlkioDeviceWriteIOps", Flag: "--device-write-iops", Verdict: Warned, Note: noteShares},
	{Path: "HostConfig.CPUPeriod", Flag: "--cpu-period", Verdict: Warned, Note: "use --cpus"},
	{Path: "HostConfig.CPUQuota", Flag: "--cpu-quota", Verdict: Warned, Values: []string{"-1"}, Note: "use --cpus"},
	{Path: "HostConfig.CPURealtimePeriod", Flag: "--cpu-rt-period", Verdict: Refused, Note: "Container Apps gives no real-time scheduling"},
	{Path: "HostConfig.CPURealtimeRuntime", Flag: "--cpu-rt-runtime", Verdict: Refused, Note: "Container Apps gives no real-time scheduling"},
	{Path: "HostConfig.CpusetCpus", Flag: "--cpuset-cpus", Verdict: Warned, Note: "Container Apps chooses the cores"},
	{Path: "HostConfig.CpusetMems", Flag: "--cpuset-mems", Verdict: Warned, Note: "Container Apps chooses the memory"},
	{Path: "HostConfig.Devices", Flag: "--device", Verdict: Refused, Note: noteDevices},
	{Path: "HostConfig.DeviceCgroupRules", Flag: "--device-cgroup-rule", Verdict: Refused, Note: noteDevices},
	{Path: "HostConfig.DeviceRequests", Flag: "--gpus", Verdict: Refused, Note: noteDevices},
	{Path: "HostConfig.MemoryReservation", Flag: "--memory-reservation", Verdict: Warned, Note: "Container Apps reserves what --memory asks for"},
	{Path: "HostConfig.MemorySwap", Flag: "--memory-swap", Verdict: Warned, Note: noteSwap, judge: judgeSwap},
	{Path: "HostConfig.MemorySwappiness", Flag: "--memory-swappiness", Verdict: Warned, Values: []string{"-1"}, Note: noteSwap},
	{Path: "HostConfig.OomKillDisable", Flag: "--oom-kill-disable", Verdict: Warned, Note: "Container Apps decides what is killed when memory is short"},
	{Path: "HostConfig.PidsLimit", Flag: "--pids-limit", Verdict: Warned, Values: []string{"-1"}, Note: "Container Apps sets the number of processes"},
	{Path: "HostConfig.Ulimits", Flag: "--ulimit", Verdict: Honoured, Note: "set by the agent, which can raise none above what Container Apps gives: then the start fails and says so"},
	{Path: "HostConfig.CPUCount", Flag: "--cpu-count", Verdict: Warned, Note: noteWindows},
	{Path: "HostConfig.CPUPercent", Flag: "--cpu-percent", Verdict: Warned, Note: noteWindows},
	{Path: "HostConfig.IOMaximumIOps", Flag: "--io-maxiops", Verdict: Warned, Note: noteWindows},
	{Path: "HostConfig.IOMaximumBandwidth", Flag: "--io-maxbandwidth", Verdict: Warned, Note: noteWindows},
	{Path: "HostConfig.Mounts", Flag: "--mount", Verdict: Refused, Note: noteVolumes},
	{Path: "HostConfig.MaskedPaths", Flag: "--security-opt systempaths", Verdict: Refused, Note: noteAlone, judge: judgePaths},
	{Path: "HostConfig.ReadonlyPaths", Flag: "--security-opt systempaths", Verdict: Refused, Note: noteAlone, judge: judgePaths},
	{Path: "HostConfig.Init", Flag: "--init", Verdict: Honoured, Note: "the agent reaps and passes signals on, with or without it"},

	{Path: "NetworkingConfig.EndpointsConfig", Flag: "--network", Verdict: Warned, Values: []string{"default", "bridge"}, Note: noteNetwork, judge: judgeEndpoints},
	{Path: "NetworkingConfig.EndpointsConfig[].IPAMConfig.IPv4Address", Flag: "--ip", Verdict: Refused, Note: noteAddress},
	{Path: "NetworkingConfig.EndpointsConfig[].IPAMConfig.IPv6Address", Flag: "--ip6", Verdict: Refused, Note: noteAddress},
	{Path: "NetworkingConfig.EndpointsConfig[].IPAMConfig.LinkLocalIPs", Flag: "--link-local-ip", Verdict: Refused, Note: noteAddress},
	{Path: "NetworkingConfig.EndpointsConfig[].Links", Flag: "--link", Verdict: Refused, Note: noteLinks},
	{Path: "NetworkingConfig.EndpointsConfig[].Aliases", Flag: "--network-alias", Verdict: Warned, Note: "names are not resolved between containers: " + noteLinks},
	{Path: "NetworkingConfig.EndpointsConfig[].DriverOpts", Flag: "--network driver-opt", Verdict: Warned, Note: "there is no bridge that could be set up"},
	{Path: "NetworkingConfig.EndpointsConfig[].GwPriority", Flag: "--network gw-priority", Verdict: Inert, Note: "there is one way out, whatever networks a container is in"},
	{Path: "NetworkingConfig.EndpointsConfig[].NetworkID", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].EndpointID", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].Gateway", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].IPAddress", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].MacAddress", Flag: "--mac-address", Verdict: Refused, Note: noteAddress},
	{Path: "NetworkingConfig.EndpointsConfig[].IPPrefixLen", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].IPv6Gateway", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].GlobalIPv6Address", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].GlobalIPv6PrefixLen", Verdict: Inert, Note: noteLater},
	{Path: "NetworkingConfig.EndpointsConfig[].DNSNames", Verdict: Inert, Note: noteLater},
}
