package fields_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/engine/fields"
)

var update = flag.Bool("update", false, "write the golden file")

// TestTableIsWhole walks Docker's structs: every field has a row, and every row has a field.
func TestTableIsWhole(t *testing.T) {
	rows := map[string]fields.Row{}
	for _, r := range fields.Rows() {
		if _, twice := rows[r.Path]; twice {
			t.Errorf("%s has two rows", r.Path)
		}
		rows[r.Path] = r
	}
	below := func(path string) bool {
		for p := range rows {
			if strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[]") {
				return true
			}
		}
		return false
	}
	used := map[string]bool{"Name": true, "Platform": true}
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if _, ok := rows[path]; ok {
			used[path] = true
			if !below(path) {
				return
			}
		}
		switch {
		case typ.Kind() == reflect.Struct && strings.HasPrefix(typ.PkgPath(), "github.com/moby/"):
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Anonymous {
					walk(path, f.Type) // JSON has its fields here
					continue
				}
				walk(path+"."+f.Name, f.Type)
			}
		case (typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice) && below(path):
			walk(path+"[]", typ.Elem())
		case !used[path]:
			t.Errorf("%s has no row in the table", path)
		}
	}
	walk("Config", reflect.TypeFor[container.Config]())
	walk("HostConfig", reflect.TypeFor[container.HostConfig]())
	walk("NetworkingConfig", reflect.TypeFor[network.NetworkingConfig]())
	for path, r := range rows {
		if !used[path] {
			t.Errorf("the row %s has no field", path)
		}
		if r.Note == "" && (r.Verdict == fields.Refused || r.Verdict == fields.Warned) {
			t.Errorf("%s is %s and gives no reason", path, r.Verdict)
		}
	}
}

// TestEveryVerdictIsMeant gives each refused or warned field a value, and wants it named in the answer.
func TestEveryVerdictIsMeant(t *testing.T) {
	for _, r := range fields.Rows() {
		if r.Path == "Platform" || r.Verdict != fields.Refused && r.Verdict != fields.Warned {
			continue
		}
		t.Run(r.Path, func(t *testing.T) {
			req := &sockerless.CreateRequest{
				Config:     &container.Config{},
				HostConfig: &container.HostConfig{},
				NetworkingConfig: &network.NetworkingConfig{
					EndpointsConfig: map[string]*network.EndpointSettings{"default": {}},
				},
			}
			if r.Path == "HostConfig.MemorySwap" {
				req.HostConfig.Memory = 1 << 20 << 10
			}
			root := reflect.ValueOf(req)
			set(t, root, strings.Split(r.Path, "."))
			if strings.HasSuffix(r.Path, "Paths") { // the refused value is the list that is there and empty
				req.HostConfig.MaskedPaths, req.HostConfig.ReadonlyPaths = []string{}, []string{}
			}
			warnings, err := fields.Check(req)
			name := r.Flag
			if name == "" {
				name = r.Path
			}
			if r.Verdict == fields.Warned {
				if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], name) || !strings.Contains(warnings[0], " has no effect: ") {
					t.Fatalf("got %q, %v", warnings, err)
				}
				return
			}
			if sockerless.ErrorCode(err) != sockerless.EUNSUPPORTED {
				t.Fatalf("got %v", err)
			}
			if msg := err.Error(); !strings.HasPrefix(msg, "cannot use "+name) || !strings.Contains(msg, ": ") {
				t.Fatalf("got %q", msg)
			}
		})
	}
}

// set puts some value at a path that no default has.
func set(t *testing.T, v reflect.Value, path []string) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if len(path) > 0 {
		name, each := strings.CutSuffix(path[0], "[]")
		v = v.FieldByName(name)
		if each {
			v = v.MapIndex(reflect.ValueOf("default"))
		}
		set(t, v, path[1:])
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(map[string]string{
			"IpcMode": "host", "PidMode": "host", "UTSMode": "host", "RestartPolicyMode": "always",
		}[v.Type().Name()])
		if v.String() == "" {
			v.SetString("other")
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(7 << 30)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if v.Type().Elem().Kind() == reflect.String {
			v.Index(0).SetString("CMD")
		}
	case reflect.Map:
		key := reflect.New(v.Type().Key()).Elem()
		if key.Kind() == reflect.String {
			key.SetString("other")
		}
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, reflect.New(v.Type().Elem()).Elem())
	case reflect.Struct: // netip.Addr
		if err := json.Unmarshal([]byte(`"10.0.0.9"`), v.Addr().Interface()); err != nil {
			t.Fatal(err)
		}
	default:
		t.Fatalf("cannot set a %s", v.Kind())
	}
}

// What the docker CLI 28.2.2 sends for `docker run --rm alpine true`, recorded.
const plainRun = `{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":["true"],"Image":"alpine","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[24,80],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"","UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],"BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":[],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"","DriverOpts":null,"GwPriority":0,"NetworkID":"","EndpointID":"","Gateway":"","IPAddress":"","IPPrefixLen":0,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}`

// parse makes a request of create's body.
func parse(t *testing.T, body string) *sockerless.CreateRequest {
	t.Helper()
	var c struct {
		container.Config
		HostConfig       *container.HostConfig
		NetworkingConfig *network.NetworkingConfig
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		t.Fatal(err)
	}
	return &sockerless.CreateRequest{Config: &c.Config, HostConfig: c.HostConfig, NetworkingConfig: c.NetworkingConfig, Raw: json.RawMessage(body)}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name     string
		body     string
		platform string
		warnings []string
		code     sockerless.Code
		err      string
	}{
		{name: "what the CLI sends by default", body: plainRun},
		{name: "no HostConfig at all", body: `{"Image":"alpine"}`},
		{name: "network bridge by name", body: `{"HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{}}}}`},
		{
			name: "every refusal at once", code: sockerless.EUNSUPPORTED,
			body: `{"HostConfig":{"Privileged":true,"CapAdd":["NET_ADMIN"],"PidMode":"host","Devices":[{"PathOnHost":"/dev/fuse"}]}}`,
			err: "cannot use --cap-add: Container Apps grants no capabilities; cannot use --pid=host: Container Apps gives every replica its own namespaces and shares none; " +
				"cannot use --privileged: Container Apps runs unprivileged containers only; cannot use --device: Container Apps gives no devices",
		},
		{
			name:     "a network of one's own is named once",
			body:     `{"HostConfig":{"NetworkMode":"foo"},"NetworkingConfig":{"EndpointsConfig":{"foo":{}}}}`,
			warnings: []string{"--network=foo has no effect: the container is listed in the network, and does not reach others by it: Container Apps has no networks between jobs"},
		},
		{
			name: "a second network, with an alias",
			body: `{"HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{},"foo":{"Aliases":["db"]}}}}`,
			warnings: []string{
				"--network has no effect: the container is listed in the network, and does not reach others by it: Container Apps has no networks between jobs",
				"--network-alias has no effect: names are not resolved between containers: Container Apps has no networks between jobs",
			},
		},
		{
			name: "the host's network", body: `{"HostConfig":{"NetworkMode":"host"}}`, code: sockerless.EUNSUPPORTED,
			err: "cannot use --network=host: a container has the network of its Container Apps environment, and can neither leave it nor share another's",
		},
		{
			name: "another container's network", body: `{"HostConfig":{"NetworkMode":"container:db"}}`, code: sockerless.EUNSUPPORTED,
			err: "cannot use --network=container:db: a container has the network of its Container Apps environment, and can neither leave it nor share another's",
		},
		{
			name: "no network, beside another", body: `{"NetworkingConfig":{"EndpointsConfig":{"foo":{},"none":{}}}}`, code: sockerless.EUNSUPPORTED,
			err: "cannot use --network: a container has the network of its Container Apps environment, and can neither leave it nor share another's",
		},
		{
			name: "an address of one's own", body: `{"NetworkingConfig":{"EndpointsConfig":{"foo":{"IPAMConfig":{"IPv4Address":"172.20.0.5"}}}}}`, code: sockerless.EUNSUPPORTED,
			err: "cannot use --ip: Container Apps assigns the addresses",
		},
		{
			name: "the reaper of Testcontainers may be privileged", body: `{"Labels":{"org.testcontainers.ryuk":"true"},"HostConfig":{"Privileged":true}}`,
			warnings: []string{"--privileged has no effect: Container Apps runs unprivileged containers only"},
		},
		{
			name: "the reaper of Testcontainers binds Docker's socket", body: `{"Labels":{"org.testcontainers.ryuk":"true"},"HostConfig":{"Binds":["/var/run/docker.sock:/var/run/docker.sock"]}}`,
			code: sockerless.EUNSUPPORTED, err: "cannot use --volume: volumes and mounts are not offered; Testcontainers does without its reaper if TESTCONTAINERS_RYUK_DISABLED=true",
		},
		{
			name: "hints are warnings", body: `{"Hostname":"web","HostConfig":{"CapDrop":["ALL"],"PidsLimit":100,"CpuShares":512}}`,
			warnings: []string{
				"--hostname has no effect: Container Apps names the replica, and that is the hostname inside",
				"--cap-drop has no effect: the process has the capabilities that Container Apps gives it, and none was dropped",
				"--cpu-shares has no effect: a replica shares no cores or disks with its neighbours that could be weighed",
				"--pids-limit has no effect: Container Apps sets the number of processes",
			},
		},
		{name: "no health check", body: `{"Healthcheck":{"Test":["NONE"]}}`},
		{name: "a health check", body: `{"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000,"Timeout":1000000,"StartPeriod":1000000,"StartInterval":1000000,"Retries":1}}`},
		{name: "a health check of a command", body: `{"Healthcheck":{"Test":["CMD","true"]}}`},
		{name: "a health check's times alone", body: `{"Healthcheck":{"Interval":2000000000}}`},
		{
			name: "a health check of another type", body: `{"Healthcheck":{"Test":["HTTP","/"]}}`,
			warnings: []string{`--health-cmd has no effect: no health check has the type "HTTP"; CMD, CMD-SHELL and NONE are the ones there are`},
		},
		{name: "an interval of 1 ns", body: `{"Healthcheck":{"Test":["CMD","true"],"Interval":1}}`, code: sockerless.EINVALID, err: "Interval in Healthcheck cannot be less than 1ms"},
		{name: "a negative timeout", body: `{"Healthcheck":{"Timeout":-1}}`, code: sockerless.EINVALID, err: "Timeout in Healthcheck cannot be less than 1ms"},
		{name: "a negative start period", body: `{"Healthcheck":{"StartPeriod":-1}}`, code: sockerless.EINVALID, err: "StartPeriod in Healthcheck cannot be less than 1ms"},
		{name: "a start interval too short", body: `{"Healthcheck":{"StartInterval":999999}}`, code: sockerless.EINVALID, err: "StartInterval in Healthcheck cannot be less than 1ms"},
		{name: "negative retries", body: `{"Healthcheck":{"Retries":-1}}`, code: sockerless.EINVALID, err: "Retries in Healthcheck cannot be negative"},
		{name: "no swap asked for, none there", body: `{"HostConfig":{"Memory":1073741824,"MemorySwap":1073741824}}`},
		{name: "unlimited swap", body: `{"HostConfig":{"MemorySwap":-1}}`, warnings: []string{"--memory-swap has no effect: replicas have no swap"}},
		{name: "systempaths unconfined", body: `{"HostConfig":{"MaskedPaths":[],"ReadonlyPaths":[]}}`, code: sockerless.EUNSUPPORTED, err: "cannot use --security-opt systempaths: Container Apps decides how the sandbox is built"},
		{name: "log options", body: `{"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"10m","max-file":"3"}}}}`},
		{
			name: "log options without effect", body: `{"HostConfig":{"LogConfig":{"Config":{"max-size":"1m","max-file":"2","compress":"true","mode":"non-blocking","max-buffer-size":"4m"}}}}`,
			warnings: []string{"--log-opt has no effect: the log has no compress, max-buffer-size, mode"},
		},
		{name: "log options that say what is the case", body: `{"HostConfig":{"LogConfig":{"Config":{"compress":"false","mode":"blocking","labels":"a","env":"b","tag":"c"}}}}`},
		{name: "compress without files", body: `{"HostConfig":{"LogConfig":{"Config":{"compress":"true","max-size":"1m"}}}}`, code: sockerless.EINVALID, err: "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{name: "compress of no boolean", body: `{"HostConfig":{"LogConfig":{"Type":"local","Config":{"compress":"maybe"}}}}`, code: sockerless.EINVALID, err: "invalid boolean value for compress: maybe"},
		{name: "an unknown logging mode", body: `{"HostConfig":{"LogConfig":{"Config":{"mode":"x"}}}}`, code: sockerless.EINVALID, err: "logger: logging mode not supported: x"},
		{name: "a buffer without its mode", body: `{"HostConfig":{"LogConfig":{"Config":{"max-buffer-size":"1m"}}}}`, code: sockerless.EINVALID, err: "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
		{name: "a buffer of no size", body: `{"HostConfig":{"LogConfig":{"Config":{"mode":"non-blocking","max-buffer-size":"x"}}}}`, code: sockerless.EINVALID, err: "error parsing option max-buffer-size: invalid size: 'x'"},
		{name: "labels of local", body: `{"HostConfig":{"LogConfig":{"Type":"local","Config":{"labels":"a"}}}}`, code: sockerless.EINVALID, err: "unknown log opt 'labels' for log driver local"},
		{name: "an unknown option of local", body: `{"HostConfig":{"LogConfig":{"Type":"local","Config":{"x":"a"}}}}`, code: sockerless.EINVALID, err: "unknown log opt 'x' for log driver local"},
		{name: "an unknown log option", body: `{"HostConfig":{"LogConfig":{"Config":{"max-sise":"1m"}}}}`, code: sockerless.EINVALID, err: "unknown log opt 'max-sise' for json-file log driver"},
		{name: "another log driver with its options", body: `{"HostConfig":{"LogConfig":{"Type":"syslog","Config":{"syslog-address":"x"}}}}`, code: sockerless.EUNSUPPORTED, err: "cannot use --log-driver=syslog: logs are kept by the backend, as json-file and local do"},
		{name: "a restart policy", body: `{"HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}}`},
		{name: "a restart policy that nobody has", body: `{"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}`, code: sockerless.EINVALID, err: "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
		{name: "restart and rm", body: `{"HostConfig":{"AutoRemove":true,"RestartPolicy":{"Name":"always"}}}`, code: sockerless.EINVALID, err: "can't create 'AutoRemove' container with restart policy"},
		{name: "a relative folder", body: `{"WorkingDir":"x"}`, code: sockerless.EINVALID, err: "the working directory 'x' is invalid, it needs to be an absolute path"},
		{name: "a nameless variable", body: `{"Env":["=x"]}`, code: sockerless.EINVALID, err: "invalid environment variable: =x"},
		{name: "a signal that there is not", body: `{"StopSignal":"SIGFOO"}`, code: sockerless.EINVALID, err: "invalid signal: SIGFOO"},
		{name: "a CPU period too long", body: `{"HostConfig":{"CpuPeriod":1000001}}`, code: sockerless.EINVALID, err: "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"},
		{name: "a CPU quota too short", body: `{"HostConfig":{"CpuQuota":999}}`, code: sockerless.EINVALID, err: "CPU cfs quota can not be less than 1ms (i.e. 1000)"},
		{name: "half a core", body: `{"HostConfig":{"CpuPeriod":50000,"CpuQuota":25000}}`},
		{name: "too little memory", body: `{"HostConfig":{"Memory":1024}}`, code: sockerless.EINVALID, err: "Minimum memory limit allowed is 6MB"},
		{name: "ulimits", body: `{"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":1024,"Hard":2048}]}}`},
		{name: "an unknown ulimit", body: `{"HostConfig":{"Ulimits":[{"Name":"nofoo","Soft":1,"Hard":1}]}}`, code: sockerless.EINVALID, err: "invalid ulimit type: nofoo"},
		{name: "a ulimit that is null", body: `{"HostConfig":{"Ulimits":[null]}}`, code: sockerless.EINVALID, err: "invalid ulimit: null"},
		{name: "a MAC address as before 1.44", body: `{"MacAddress":"02:42:ac:11:00:02"}`, code: sockerless.EUNSUPPORTED, err: "cannot use --mac-address: Container Apps assigns the addresses"},
		{name: "kernel memory as before 1.42", body: `{"HostConfig":{"KernelMemory":1048576}}`, warnings: []string{"--kernel-memory has no effect: Linux has given it up; --memory covers the kernel's memory"}},
		{name: "the platform that it runs on", body: `{}`, platform: "linux/amd64"},
		{name: "another platform", body: `{}`, platform: "linux/arm64/v8", code: sockerless.EUNSUPPORTED, err: "cannot use --platform=linux/arm64/v8: Container Apps runs linux/amd64 only"},
		{name: "an endless value is cut", body: `{"HostConfig":{"NetworkMode":"container:` + strings.Repeat("x", 5000) + `"}}`, code: sockerless.EUNSUPPORTED,
			err: "cannot use --network=container:" + strings.Repeat("x", 70) + "...: a container has the network of its Container Apps environment, and can neither leave it nor share another's"},
		{name: "an endpoint that is null", body: `{"NetworkingConfig":{"EndpointsConfig":{"bridge":null}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := parse(t, tc.body)
			req.Platform = tc.platform
			warnings, err := fields.Check(req)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || err.Error() != tc.err) {
				t.Fatalf("got error %v, want %q", err, tc.err)
			}
			if got := sockerless.ErrorCode(err); got != tc.code {
				t.Fatalf("got code %q, want %q", got, tc.code)
			}
			if diff := cmp.Diff(tc.warnings, warnings); diff != "" {
				t.Fatal(diff)
			}
		})
	}
	if _, err := fields.Check(&sockerless.CreateRequest{}); sockerless.ErrorCode(err) != sockerless.EINVALID {
		t.Fatalf("a request without Config: %v", err)
	}
}

func TestCheckImage(t *testing.T) {
	img := func(d container.Config) *sockerless.Image {
		return &sockerless.Image{Platform: "linux/amd64", Defaults: &d}
	}
	for _, tc := range []struct {
		name     string
		image    *sockerless.Image
		config   container.Config
		warnings []string
		err      string
	}{
		{name: "a plain image", image: img(container.Config{Cmd: []string{"sh"}})},
		{name: "an image for another platform", image: &sockerless.Image{Platform: "linux/arm64/v8"}, err: "cannot run x: the image is made for linux/arm64/v8, and Container Apps runs linux/amd64 only"},
		{name: "HEALTHCHECK", image: img(container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}}})},
		{
			name: "VOLUME", image: img(container.Config{Volumes: map[string]struct{}{"/var/lib/b": {}, "/a": {}}}),
			warnings: []string{"the image's VOLUME /a /var/lib/b is an ordinary folder: what is written there goes with the container's file system"},
		},
		{
			name: "s6-overlay", image: img(container.Config{Entrypoint: []string{"/init"}, Cmd: []string{"nginx"}}),
			err: "cannot run x: /init must be process 1, and that is the agent; use --entrypoint to run a program of the image",
		},
		{name: "s6-overlay with another entrypoint", image: img(container.Config{Entrypoint: []string{"/init"}}), config: container.Config{Entrypoint: []string{"nginx"}}},
		{
			name: "systemd asked for by the user", image: img(container.Config{Cmd: []string{"sh"}}), config: container.Config{Cmd: []string{"/lib/systemd/systemd"}},
			err: "cannot run x: /lib/systemd/systemd must be process 1, and that is the agent; use --entrypoint to run a program of the image",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.config.Image = "x"
			warnings, err := fields.CheckImage(tc.image, &sockerless.CreateRequest{Config: &tc.config})
			if tc.err == "" && err != nil || tc.err != "" && (sockerless.ErrorCode(err) != sockerless.EUNSUPPORTED || err.Error() != tc.err) {
				t.Fatalf("got error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.warnings, warnings); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestMarkdown(t *testing.T) {
	golden := filepath.Join("..", "..", "docs", "commands", "options.md")
	if *update {
		if err := os.WriteFile(golden, []byte(fields.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), fields.Markdown()); diff != "" {
		t.Fatalf("%s is stale (go test ./engine/fields -run TestMarkdown -update):\n%s", golden, diff)
	}
	// The table is for flags that users know: each is one of `docker run --help`, or an option of one.
	for _, r := range fields.Rows() {
		if flag, _, _ := strings.Cut(r.Flag, " "); flag != "" && !slices.Contains(runFlags, flag) {
			t.Errorf("%s: docker run has no %s", r.Path, r.Flag)
		}
	}
}

// runFlags is what `docker run --help` of 28.2.2 lists.
var runFlags = strings.Fields(`--add-host --annotation --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop
--cgroup-parent --cgroupns --cidfile --cpu-count --cpu-percent --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime
--cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops
--device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint --env --expose --gpus
--group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout
--hostname --init --interactive --io-maxbandwidth --io-maxiops --ip --ip6 --ipc --isolation --label --link --link-local-ip
--log-driver --log-opt --mac-address --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network
--network-alias --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged --publish --publish-all
--read-only --restart --rm --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs
--tty --ulimit --user --userns --uts --volume --volume-driver --volumes-from --workdir`)

// FuzzCheck wants an answer, and no panic, for any body that is JSON of the right shape.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(plainRun))
	f.Add([]byte(`{"HostConfig":{"LogConfig":{"Config":{"max-file":"3"}},"BlkioWeightDevice":[null],"Ulimits":[{}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var c struct {
			container.Config
			HostConfig       *container.HostConfig
			NetworkingConfig *network.NetworkingConfig
		}
		if json.Unmarshal(body, &c) != nil {
			return
		}
		_, err := fields.Check(&sockerless.CreateRequest{Config: &c.Config, HostConfig: c.HostConfig, NetworkingConfig: c.NetworkingConfig, Raw: body})
		if code := sockerless.ErrorCode(err); err != nil && code != sockerless.EUNSUPPORTED && code != sockerless.EINVALID {
			t.Fatalf("%v is %s", err, code)
		}
	})
}

func TestUpdate(t *testing.T) {
	swappiness := int64(-1)
	always := container.RestartPolicy{Name: container.RestartPolicyAlways}
	for _, c := range []struct {
		name     string
		now      container.HostConfig
		update   container.UpdateConfig
		code     sockerless.Code
		err      string
		warnings []string
		want     container.HostConfig
	}{
		{name: "nothing", now: container.HostConfig{RestartPolicy: always}, want: container.HostConfig{RestartPolicy: always}},
		{name: "a policy", update: container.UpdateConfig{RestartPolicy: always}, want: container.HostConfig{RestartPolicy: always}},
		{
			name:   "what is zero stays",
			now:    container.HostConfig{RestartPolicy: always, Resources: container.Resources{Memory: 1 << 30, NanoCPUs: 1e9}},
			update: container.UpdateConfig{Resources: container.Resources{Memory: 2 << 30, MemorySwappiness: &swappiness}},
			want:   container.HostConfig{RestartPolicy: always, Resources: container.Resources{Memory: 2 << 30, NanoCPUs: 1e9}},
		},
		{
			name: "what has no effect", update: container.UpdateConfig{Resources: container.Resources{CPUShares: 5}},
			want:     container.HostConfig{Resources: container.Resources{CPUShares: 5}},
			warnings: []string{"--cpu-shares has no effect: a replica shares no cores or disks with its neighbours that could be weighed"},
		},
		{
			name: "what Docker would ignore", update: container.UpdateConfig{Resources: container.Resources{DeviceCgroupRules: []string{"x"}}},
			code: sockerless.EUNSUPPORTED, err: "cannot update --device-cgroup-rule: it can be set at create only",
		},
		{
			name: "what create refuses", update: container.UpdateConfig{Resources: container.Resources{CPURealtimePeriod: 1}},
			code: sockerless.EUNSUPPORTED, err: "cannot use --cpu-rt-period: Container Apps gives no real-time scheduling",
		},
		{
			name: "a policy with --rm", now: container.HostConfig{AutoRemove: true}, update: container.UpdateConfig{RestartPolicy: always},
			code: sockerless.ECONFLICT, err: "Restart policy cannot be updated because AutoRemove is enabled for the container",
		},
		{
			name: "a policy that nobody has", update: container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "sometimes"}},
			code: sockerless.EINVALID, err: "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
		},
		{
			name: "two ways to say CPU", now: container.HostConfig{Resources: container.Resources{NanoCPUs: 1}},
			update: container.UpdateConfig{Resources: container.Resources{CPUQuota: 1000}},
			code:   sockerless.ECONFLICT, err: "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
		},
		{
			name: "too little memory", update: container.UpdateConfig{Resources: container.Resources{Memory: 1}},
			code: sockerless.EINVALID, err: "Minimum memory limit allowed is 6MB",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.now
			got, warnings, err := fields.Update(&c.now, c.update)
			if sockerless.ErrorCode(err) != c.code || err != nil && err.Error() != c.err {
				t.Fatalf("%v", err)
			}
			if diff := cmp.Diff(before, c.now); diff != "" {
				t.Errorf("what is now was changed:\n%s", diff)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(&c.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if diff := cmp.Diff(c.warnings, warnings); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}
