//go:build linux

package transcript

import "slices"

// Known explains the differences between dockerd's answers and ours. The first explanation that covers a difference counts.
var Known = slices.Concat(newer, elsewhere, chosen)

const newerWords = "the words of newer engines; the engine asked is 20.10"

// newer are the differences between 20.10 and the engines that we follow.
var newer = []Explanation{
	{Calls: "*", At: "header Api-Version", Docker: `"1.41"`, Ours: `"1.5*"`, Why: "the newest version that is spoken"},
	{Calls: "*", At: "header Builder-Version|header Swarm", Docker: absent, Why: "newer engines tell it in a ping"},
	{
		Calls: "*: logs*|*: follow the logs*", At: "header Content-Type", Docker: absent, Ours: `"application/vnd.docker.raw-stream"`,
		Why: "newer engines tell the type of logs",
	},
	{Calls: "*", At: "status", Docker: "500", Ours: "400", Why: "20.10 calls its own fault what newer engines call the client's"},
	{Calls: "lists: before none|lists: since none", At: "status", Docker: "500", Ours: "404", Why: "20.10 calls its own fault what newer engines call the client's"},
	{Calls: "life: unpause again", At: "status", Docker: "500", Ours: "409", Why: "the state of the container refuses it, which is no fault of ours"},
	{Calls: "*", At: "body.message", Docker: `"Invalid filter '*`, Ours: `"invalid filter '*`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"*no such image: *`, Ours: `"No such image: *`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"*invalid reference format: *`, Ours: `"invalid reference format: repository name (library/UPPER) must be lowercase"`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"bad parameter: pathcannot be empty"`, Ours: `"bad parameter: path cannot be empty"`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"failed to create shim task: *`, Ours: `"failed to create task for container: failed to create shim task: *`, Why: newerWords},
	{Calls: "exits: inspect one without a program", At: "body.State.Error", Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"*EOF*"`, Ours: `"invalid JSON: *EOF*"`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"json: *"`, Ours: `"invalid JSON: json: *"`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"strconv.Atoi: *"`, Ours: `"invalid value for *"`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"Content-Type specified (*`, Ours: `"unsupported Content-Type header (*`, Why: newerWords},
	{Calls: "*", At: "body.message", Docker: `"Error processing tar file(exit status 1): *`, Why: "20.10 unpacks in a child process and says so"},
	{Calls: "*", At: "body.message", Docker: `"*invalid restart policy 'sometimes'"`, Ours: `"invalid restart policy: *`, Why: newerWords},
	{Calls: "life: create with tries for always", At: "body.message", Why: newerWords},
	{Calls: "life: create with a bad signal", At: "body.message", Ours: `"invalid signal: NOSUCH"`, Why: newerWords},
	{Calls: "life: start on a network that is not there", At: "body.message", Ours: `"failed to set up container networking: network nosuch not found"`, Why: newerWords},
	{Calls: "life: remove a running one", At: "body.message", Why: newerWords},
	{Calls: "life: create with more behind the JSON", At: "status|body.message", Why: "newer engines refuse what stands behind the JSON"},
	{Calls: "system: version too new", At: "body.message", Why: "the newest version that is spoken"},
	{Calls: "life: wait for what is no condition", At: "status|header Length|body", Why: "newer engines refuse it; 20.10 waits"},
	{Calls: "system: events with a filter that is none", At: "status|header Length|body", Why: "newer engines refuse it; 20.10 ignores it"},
	{Calls: "system: version too old", At: "body|header Content-Type", Why: "newer engines refuse it in JSON; the oldest version that is spoken is 1.24"},
	{Calls: "networks: create without a name|networks: create with a driver that is none|networks: list by no boolean|networks: remove while it is used", At: "body.message", Why: newerWords},
	{Calls: "images: remove an image that a container uses by id", At: "body.message", Why: "what state the container is in is not said"},
	{Calls: "images: pull a bad tag", At: "body.message", Ours: `"invalid reference format"`, Why: newerWords},
	{Calls: "exec: inspect it of no program", At: "body.ExitCode", Docker: "126", Ours: "127", Why: "the codes of newer engines"},
	{Calls: "*", At: "body*.HostConfig.NetworkMode", Docker: `"default"`, Ours: `"bridge"`, Why: "newer engines name the network that the default is"},
	{Calls: "*", At: "*.HostConfig.KernelMemory|*.HostConfig.KernelMemoryTCP|body.KernelMemory|body.KernelMemoryTCP", Ours: absent, Why: "newer engines do not have it"},
	{Calls: "*", At: "*.DNSNames|*.GwPriority|*.EnableIPv4|body.CDISpecDirs", Docker: absent, Why: "newer engines tell it to every client"},
	{Calls: "*", At: "*.Actor.Attributes.execDuration", Docker: absent, Why: "newer engines tell it"},
	{Calls: "*", At: "*Config.OnBuild", Docker: "null", Ours: absent, Why: "newer engines leave out what is not there"},
	{Calls: "*", At: "body.Error", Docker: "null", Ours: absent, Why: "newer engines leave out what is not there"},
	{Calls: "*", At: "*.IPAM.Options", Docker: "null", Ours: "{}", Why: "a collection that is empty is there"},
	{Calls: "*", At: "*", Docker: "null", Ours: "[]", Why: "a collection that is empty is there"},
	{Calls: "*", At: "*.Labels|*.Options", Docker: "null", Ours: "{}", Why: "a collection that is empty is there"},
	{Calls: "volumes: create without a name", At: "body.Labels", Ours: `{"com.docker.volume.anonymous":""}`, Why: "newer engines label what they name"},
	{Calls: "life: stats of a created one", At: "*", Why: newerWords},
	{Calls: "system: info", At: "body.RegistryConfig.AllowNondistributable*|body.RuncCommit.Expected|body.InitCommit.Expected|body.ContainerdCommit.Expected", Ours: absent, Why: "newer engines do not have it"},
	{Calls: "images: inspect", At: "body.DockerVersion", Ours: `""`, Why: "newer engines do not say it"},
}

const (
	noFolder    = "a container and its files are in the cloud, and not in a folder here"
	noAddresses = "a container has no address that others could use"
	noBridge    = "there is no bridge"
	listed      = "what has no effect is warned of"
)

// elsewhere are the differences that come from where containers run.
var elsewhere = []Explanation{
	{Calls: "*", At: "header Server", Ours: `"Sockerless/*`, Why: "who answers"},
	{Calls: "*", At: "*.GraphDriver.*|body.Driver", Why: noFolder},
	{Calls: "*", At: "body.HostnamePath|body.HostsPath|body.LogPath|body.ResolvConfPath", Ours: `""`, Why: noFolder},
	{Calls: "*", At: "*Mountpoint", Ours: `""`, Why: noFolder},
	{Calls: "*", At: "*.SandboxID|*.SandboxKey", Ours: `""`, Why: noFolder},
	{Calls: "lists: df", At: "body.Containers[0].SizeRootFs", Ours: absent, Why: "a container takes no space here"},
	{Calls: "*", At: "body.LayersSize", Ours: "0", Why: "images are in their registries and take no space here"},
	{Calls: "*", At: "body.BuilderSize", Ours: absent, Why: "nothing is built here"},
	{Calls: "*", At: "*.HostConfig.CgroupnsMode", Ours: `"private"`, Why: "what a container has in the cloud"},
	{Calls: "*", At: "*.HostConfig.IpcMode|*.HostConfig.ShmSize|*.HostConfig.OomKillDisable|*.HostConfig.MaskedPaths|*.HostConfig.ReadonlyPaths|*.HostConfig.Runtime", Why: "the platform decides it, and does not tell"},
	{Calls: "*", At: "*.Gateway|*.IPAddress|*.IPPrefixLen|*.MacAddress|*.IPv4Address", Why: noAddresses},
	{Calls: "networks: *", At: "*.Aliases[1]", Why: noAddresses},
	{Calls: "networks: *", At: "*.IPAM.Config[0]", Ours: absent, Why: noAddresses},
	{Calls: "networks: *", At: "*.Options.com.docker.network.*", Ours: absent, Why: noBridge},
	{Calls: "networks: create*|lists: create*|events: create*|life: create on a network that is not there", At: "body.Warning|body.Warnings[*", Why: listed},
	{Calls: "networks: create an internal one|networks: remove an internal one", At: "*", Why: "a container always reaches the network of its environment, so --internal is refused"},
	{Calls: "life: create without an image|life: remove one without an image", At: "*", Why: "a container without an image has no files, and none can be brought to the cloud alone"},
	{Calls: "*", At: "body.pids_stats.limit", Docker: absent, Why: "the limit of the platform"},
	{Calls: "system: version", At: "body.BuildTime|body.GitCommit|body.KernelVersion|body.Components*", Why: "the parts are others: engine, driver, frontend"},
	{Calls: "system: info", At: "body.BridgeNf*|body.CgroupVersion|body.Plugins.*|body.RegistryConfig.*|body.Runtimes.*|body.SecurityOptions*|body.Warnings", Why: "the engine is another: no kernel, cgroups, runtimes and registries of a machine are told"},
	{Calls: "images: import from a source that is none", At: "body", Why: "the image is pushed to the registry, which is told"},
	{Calls: "images: remove what was imported", At: "body[2]", Ours: absent, Why: "layers are the registry's"},
	{Calls: "images: list tags", At: "body[0].RepoTags*", Why: "the order of tags says nothing"},
	{Calls: "files: changes", At: "body[*", Why: "a folder counts as changed if something was added to it or removed; dockerd counts what it has copied up"},
	{Calls: "events: events of networks", At: "body[3]*|body[4]", Why: "20.10 tells twice that a running container is disconnected"},
}

// chosen are the differences that are ours.
var chosen = []Explanation{
	{Calls: "*", At: "*mode", Docker: `"*`, Why: "dockerd puts the type of a file into its mode in a tar, where it is in a field of its own, too"},
	{Calls: "*: attach*|*: start it*", At: "header Ostype|header Docker-Experimental|header Api-Version|header Server", Why: "of a connection that was taken over, no client reads it"},
	{
		Calls: "exec: start it again|output: attach with keys that are none|life: attach to none", At: "*",
		Why: "what cannot be is refused by its status, before the connection is taken over",
	},
	{Calls: "exec: inspect it after", At: "body.Pid", Docker: `"N"`, Ours: "0", Why: "a process that has ended has no id"},
	{Calls: "exec: resize after the end|life: resize one that has exited", At: "*", Why: "the size of what has ended is taken for nothing, or kept for the next start"},
	{Calls: "*stats*", At: "header Length", Why: "either way a client learns where it ends"},
	{Calls: "life: inspect a created one|life: inspect with size|life: list all", At: "*.NetworkID", Docker: `""`, Why: "the network of a container is known from its creation on"},
	{Calls: "system: *", At: "header Docker-Experimental|header Ostype|header Api-Version", Docker: absent, Why: "refusals tell it, too"},
	{Calls: "images: pull without a name", At: "*", Why: "the same refusal in words of ours"},
	{Calls: "*", At: "body.message", Docker: `"*strconv.*`, Why: "the same refusal, which names the value"},
	{Calls: "lists: filters*|system: events with filters*", At: "body.message", Ours: `"invalid filter: *`, Why: "the same refusal, which names the value"},
	{Calls: "lists: before none|lists: since none|lists: by no health", At: "body.message", Why: "the same refusal in words of ours"},
	{Calls: "life: exec in a paused one", At: "body.message", Why: "the container is told by its id"},
	{Calls: "networks: create the default's", At: "body.message", Why: "without a blank at the end"},
	{Calls: "networks: create with a bad subnet", At: "body.message", Why: "the same refusal in words of ours"},
}
