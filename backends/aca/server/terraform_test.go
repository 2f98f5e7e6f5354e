package server_test

import (
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/server"
)

// TestTerraformBackendEnv reads what the Terraform module tells a backend as the walk-through does, by eval in a shell, and
// as the backend does. The files are the module's output backend_env without and with all that can be set, and with
// deploy_backend: terraform test compares it with them.
func TestTerraformBackendEnv(t *testing.T) {
	for _, file := range []string{"backend_env.sh", "backend_env_all.sh", "backend_env_deployed.sh"} {
		t.Run(file, func(t *testing.T) { checkBackendEnv(t, "../terraform/tests/"+file) })
	}
}

func checkBackendEnv(t *testing.T, file string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `eval "$(cat "$1")" && env`, "sh", file)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "="); strings.HasPrefix(name, "SOCKERLESS_") {
			env[name] = value
		}
	}

	config := server.Config{Azure: aca.DefaultConfig(), Addr: ":9100", DataDir: t.TempDir(), CopyLimit: 1, Linger: 1, StartWait: 1}
	settings, known := settingsOf(&config)
	for name := range env {
		if !slices.Contains(known, name) {
			t.Errorf("the module sets %s, which the backend does not read", name)
		}
	}
	if err := settings.Load(func(name string) string { return env[name] }); err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil { // it knows what is required
		t.Fatal(err)
	}

	// What has a default of its own that is not that of a group made by the module has to be told too.
	for _, name := range []string{"SOCKERLESS_ACA_ENVIRONMENT", "SOCKERLESS_ACA_LOCATION", "SOCKERLESS_ACA_ACR", "SOCKERLESS_ACA_IDENTITY",
		"SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE", "SOCKERLESS_ACA_STORAGE_ACCOUNT"} {
		if env[name] == "" {
			t.Errorf("the module does not set %s", name)
		}
	}
}

// TestTerraformWalkthrough holds the walk-through to the example beside it: the outputs and variables that it names are there.
func TestTerraformWalkthrough(t *testing.T) {
	const example = "../examples/terraform/"
	read := func(name string) string {
		t.Helper()
		raw, err := os.ReadFile(example + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	page := read("README.md")
	for _, tc := range []struct{ used, defined, file string }{
		{`terraform output -raw (\w+)`, `(?m)^output "(\w+)"`, "outputs.tf"},
		{`-var="(\w+)=`, `(?m)^variable "(\w+)"`, "variables.tf"},
	} {
		defined := map[string]bool{}
		for _, m := range regexp.MustCompile(tc.defined).FindAllStringSubmatch(read(tc.file), -1) {
			defined[m[1]] = true
		}
		used := regexp.MustCompile(tc.used).FindAllStringSubmatch(page, -1)
		if len(used) == 0 {
			t.Errorf("the walk-through has nothing like %s", tc.used)
		}
		for _, m := range used {
			if !defined[m[1]] {
				t.Errorf("the walk-through says %s, which is not in %s", m[0], tc.file)
			}
		}
	}
}

// TestConfigurationPage holds docs/configuration.md to the settings of the backend: every one of them, and none that it has not.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## Backend ")
	table, _, _ = strings.Cut(table, "\n## ")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = true
	}
	var config server.Config
	_, known := settingsOf(&config)
	if diff := cmp.Diff(slices.Sorted(slices.Values(known)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("the backend's settings and those of the page differ (-settings +page):\n%s", diff)
	}
}

// settingsOf defines c's settings and returns the names of their variables, which end the usage of their flags.
func settingsOf(c *server.Config) (s *aca.Settings, names []string) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	s = aca.NewSettings(flags)
	c.Settings(s)
	return s, s.Variables()
}
