package remote

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
)

// TestPacked: a container is the same at the other end, whatever of it is set, and what is not set is not sent.
func TestPacked(t *testing.T) {
	yes, size := true, int64(5)
	for name, c := range map[string]*sockerless.Container{
		"nothing":  {},
		"no field": {Config: &container.Config{}, HostConfig: &container.HostConfig{}},
		"many": {
			ID: "i", Name: "n", Raw: json.RawMessage(`{"x":1}`), Execs: []string{"e"}, Created: time.Unix(1, 2).UTC(), Run: &sockerless.Run{Job: "j"},
			State: sockerless.State{Pid: 3, Health: &container.Health{Log: []*container.HealthcheckResult{{ExitCode: 1}}}},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
				"a\"b": {IPAddress: netip.MustParseAddr("1.1.1.1"), DriverOpts: map[string]string{}, IPAMConfig: &network.EndpointIPAMConfig{}}, "none": nil,
			}},
			Config: &container.Config{Image: "a", Env: []string{}, Tty: true, ExposedPorts: network.PortSet{network.MustParsePort("80/tcp"): {}}},
			HostConfig: &container.HostConfig{
				ContainerIDFile: "f", Init: &yes, Sysctls: map[string]string{}, ConsoleSize: [2]uint{1, 2}, DNS: []netip.Addr{netip.MustParseAddr("1.1.1.1")},
				RestartPolicy: container.RestartPolicy{Name: "always"},
				Resources:     container.Resources{Memory: 7, PidsLimit: &size, NanoCPUs: 9, Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1}}},
			},
		},
	} {
		b, err := packed{c}.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "BlkioWeight") {
			t.Errorf("%s: what is not set is sent: %s", name, b)
		}
		got := new(sockerless.Container)
		if err := json.Unmarshal(b, got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got, cmp.Comparer(func(a, b network.PortSet) bool { return reflect.DeepEqual(a, b) }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if b, err := (packed{(*sockerless.Container)(nil)}).AppendJSON(nil); string(b) != "null" || err != nil {
		t.Errorf("no container is %s, %v", b, err)
	}
}

// TestPackedNames: the fields have the names that encoding/json gives them.
func TestPackedNames(t *testing.T) {
	for _, v := range []any{
		sockerless.Container{}, sockerless.State{}, container.Health{}, container.Config{}, container.HostConfig{}, network.NetworkingConfig{}, network.EndpointSettings{},
		sockerless.Image{}, network.Inspect{}, network.IPAM{}, volume.Volume{}, volume.UsageData{},
	} {
		ours := map[string]bool{}
		for _, f := range fieldsOf(reflect.TypeOf(v)) {
			ours[strings.Trim(f.key, `":`)] = true
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var theirs map[string]any
		if err := json.Unmarshal(b, &theirs); err != nil {
			t.Fatal(err)
		}
		for name := range theirs { // without those that it leaves out when they are empty
			if !ours[name] {
				t.Errorf("%T: %s is not among ours", v, name)
			}
		}
	}
}
