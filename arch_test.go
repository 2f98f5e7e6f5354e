package sockerless_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/sockerless/sockerless"

// rules say who may import what of this module, and which foreign packages some may not. A rule holds for a package and
// all below it; the longest match counts. Test files are free.
var rules = []struct {
	pkg    string
	may    []string // of this module; nil: anything
	never  []string // prefixes of any import path
	only   []string // if set, the only foreign prefixes beside the standard library
	reason string
}{
	{
		pkg: "", may: []string{"tape"}, only: []string{"github.com/moby/moby/api/types"},
		reason: "the root is the vocabulary: it must drag nothing into who speaks it",
	},
	{
		pkg: "tape", may: []string{}, only: []string{},
		reason: "agent, engine and frontend share this form; it belongs to none of them",
	},
	{
		pkg: "wire", may: []string{}, only: []string{},
		reason: "the shapes know no routes and no domain, so both hops can use them",
	},
	{
		pkg: "link", may: []string{}, never: []string{"github.com/moby"},
		reason: "a link carries bytes; who dialled and what for is forgotten in it",
	},
	{
		pkg: "agent", may: []string{"agent", "agent/protocol", "link", "wire", "tape"},
		only: []string{
			"golang.org/x/sys", "github.com/moby/sys/user", "github.com/moby/sys/signal", "golang.org/x/crypto/x509roots/fallback/bundle",
		},
		reason: "the agent is a small static binary inside other people's images",
	},
	{
		pkg: "agent/protocol", may: []string{"wire", "tape"}, only: []string{},
		reason: "the engine speaks it without becoming an agent",
	},
	{
		pkg: "driver", may: []string{""}, never: []string{"github.com/Azure"},
		reason: "what the engine needs of any cloud names no cloud",
	},
	{
		pkg: "driver/drivertest", may: []string{"", "driver", "agent/protocol", "link", "wire", "tape"}, never: []string{"github.com/Azure"},
		reason: "the obligations of every driver name no cloud",
	},
	{
		pkg: "driver/memdriver", may: []string{"", "driver", "agent/protocol", "link"}, never: []string{"github.com/Azure"},
		reason: "the driver of the fast tests runs children, not clouds",
	},
	{
		pkg:    "engine",
		may:    []string{"", "driver", "agent/protocol", "link", "wire", "tape", "engine/store", "engine/images", "engine/fields", "engine/logstore"},
		never:  []string{"github.com/Azure", "net/http/httputil"},
		reason: "Docker's rules are the same over any cloud",
	},
	{
		pkg: "engine/store/storetest", may: []string{"engine/store"}, never: []string{"github.com/Azure"},
		reason: "the obligations of every store name no cloud",
	},
	{
		pkg:    "remote",
		may:    []string{"", "wire", "link", "tape"},
		never:  []string{"github.com/Azure"},
		reason: "the wire has no opinions: it passes a Backend on",
	},
	{
		pkg:    "frontends/docker/dockerapi",
		may:    []string{"", "wire", "tape"},
		never:  []string{"github.com/Azure"},
		reason: "the Docker API is spoken over any Backend",
	},
	{
		pkg:    "frontends/docker",
		may:    []string{"", "wire", "tape", "remote", "link", "frontends/docker/dockerapi"},
		never:  []string{"github.com/Azure"},
		reason: "laptops need no cloud SDK",
	},
	{
		pkg:    "backends/aca",
		may:    []string{"", "driver", "backends/aca/attempt", "backends/aca/programs"},
		reason: "a driver knows the cloud and nothing of Docker's rules",
	},
	{
		pkg: "backends/aca/programs", may: []string{},
		reason: "an image is what its programs are, wherever it goes",
	},
	{
		pkg: "backends/aca/tablestore", may: []string{"engine/store"},
		reason: "a store in Azure knows the store's interface and nothing of who uses it",
	},
	{
		pkg: "backends/aca/doctor", may: []string{"", "driver", "backends/aca", "backends/aca/tablestore", "agent/protocol", "link"},
		reason: "the doctor sees a backend from outside: its settings, its cloud, its driver and its table",
	},
	{
		pkg:    "conformance",
		may:    []string{"conformance/host", "conformance/transcript"},
		reason: "a Docker host is asked from outside, whoever made it",
	},
	{
		pkg:    "azuresim",
		may:    []string{"azuresim", "azuresim/runtime", "azuresim/minibox"},
		reason: "a simulator that shares code with the driver shares its mistakes",
	},
}

// TestImports holds every package to the rule with the longest matching path.
func TestImports(t *testing.T) {
	held := make([]bool, len(rules))
	for _, p := range listPackages(t) {
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		best := -1
		for i, r := range rules {
			within := r.pkg == rel || r.pkg != "" && strings.HasPrefix(rel, r.pkg+"/")
			if within && (best < 0 || len(r.pkg) > len(rules[best].pkg)) {
				best = i
			}
		}
		if best < 0 || wires(rel) {
			continue
		}
		held[best] = true
		r := rules[best]
		for _, imp := range p.Imports {
			if own, ok := strings.CutPrefix(imp, module); ok {
				own = strings.TrimPrefix(own, "/")
				if r.may != nil && !contains(r.may, own) && own != rel {
					t.Errorf("%s imports %s: %s", rel, own, r.reason)
				}
				continue
			}
			for _, n := range r.never {
				if imp == n || strings.HasPrefix(imp, n+"/") {
					t.Errorf("%s imports %s: %s", rel, imp, r.reason)
				}
			}
			if r.only != nil && strings.Contains(strings.Split(imp, "/")[0], ".") && !hasPrefix(r.only, imp) {
				t.Errorf("%s imports %s: %s", rel, imp, r.reason)
			}
		}
	}
	for i, r := range rules {
		if !held[i] {
			t.Errorf("the rule for %q holds no package", r.pkg)
		}
	}
}

// wires says whether a package wires parts together by hand: programs may import anything.
func wires(rel string) bool {
	return strings.Contains("/"+rel+"/", "/cmd/") || rel == "backends/aca/server"
}

type listed struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func hasPrefix(list []string, s string) bool {
	for _, v := range list {
		if s == v || strings.HasPrefix(s, v+"/") {
			return true
		}
	}
	return false
}
