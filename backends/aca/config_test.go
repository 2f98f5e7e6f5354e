package aca_test

import (
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/backends/aca"
)

const (
	subscription = "5c0c1e55-0000-4000-8000-000000000001"
	group        = "/subscriptions/" + subscription + "/resourceGroups/rg"
)

// load reads a configuration out of variables and arguments, as a program does.
func load(env map[string]string, args ...string) (aca.Config, error) {
	c := aca.DefaultConfig()
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	s := aca.NewSettings(fs)
	c.Settings(s)
	if err := s.Load(func(name string) string { return env[name] }); err != nil {
		return c, err
	}
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func TestSettings(t *testing.T) {
	got, err := load(map[string]string{
		"SOCKERLESS_ACA_SUBSCRIPTION_ID": subscription, "SOCKERLESS_ACA_RESOURCE_GROUP": "rg",
		"SOCKERLESS_ACA_LOCATION": "West Europe", "SOCKERLESS_ACA_MAX_RUNTIME": "90m", "SOCKERLESS_CALLBACK_URL": "https://backend.example/",
		"SOCKERLESS_ACA_ACR": "name.azurecr.io",
	}, "-environment", "mine", "-acr", "localhost:5000")
	if err != nil {
		t.Fatal(err)
	}
	want := aca.DefaultConfig()
	want.Subscription, want.ResourceGroup, want.Location, want.MaxRuntime = subscription, "rg", "westeurope", 90*time.Minute
	want.CallbackURL, want.Registry, want.Environment = "https://backend.example", "localhost:5000", "mine"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for _, c := range []struct{ env, value, want string }{
		{"SOCKERLESS_ACA_SUBSCRIPTION_ID", "", "is not set"},
		{"SOCKERLESS_ACA_SUBSCRIPTION_ID", "mine", "is no GUID"},
		{"SOCKERLESS_ACA_RESOURCE_GROUP", "", "is not set"},
		{"SOCKERLESS_ACA_RESOURCE_GROUP", "a/b", "resource group"},
		{"SOCKERLESS_ACA_ENVIRONMENT", "a b", "managed environment"},
		{"SOCKERLESS_ACA_LOCATION", "west-europe", "region"},
		{"SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE", "logs", "neither a GUID nor the ARM id"},
		{"SOCKERLESS_ACA_STORAGE_ACCOUNT", "UPPER", "storage account"},
		{"SOCKERLESS_ACA_AGENT_IMAGE", "UPPER:x:y", "no reference of an image"},
		{"SOCKERLESS_ACA_IDENTITY", "sockerless-pull", "no ARM id of a user-assigned identity"},
		{"SOCKERLESS_ACA_ACR", "https://name.azurecr.io", "no login server"},
		{"SOCKERLESS_ACA_MAX_RUNTIME", "7 days", "no duration"},
		{"SOCKERLESS_ACA_MAX_RUNTIME", "1ms", "must be between"},
		{"SOCKERLESS_CALLBACK_URL", "host:9100", "no http or https URL"},
		{"SOCKERLESS_CALLBACK_URL", "http://me:secret@host:9100", "must have no user"},
		{"SOCKERLESS_ACA_RESOLVER", "10.0.0.4", "neither host:port"},
		{"SOCKERLESS_ENDPOINT_URL", "http://10.0.0.4:4566", "only https"},
		{"SOCKERLESS_ENDPOINT_URL", "ftp://localhost", "no http or https URL"},
	} {
		t.Run(c.env+"="+c.value, func(t *testing.T) {
			env := map[string]string{"SOCKERLESS_ACA_SUBSCRIPTION_ID": subscription, "SOCKERLESS_ACA_RESOURCE_GROUP": "rg"}
			env[c.env] = c.value
			_, err := load(env)
			var wrong *aca.SettingError
			if !errors.As(err, &wrong) || wrong.Env != c.env || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), c.env) {
				t.Errorf("error is %v, want one of %s that says %q", err, c.env, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error is no single line without secrets: %q", err)
			}
		})
	}
}

func TestGoodSettings(t *testing.T) {
	for env, values := range map[string][]string{
		"SOCKERLESS_ACA_ENVIRONMENT":             {group + "/providers/Microsoft.App/managedEnvironments/env"},
		"SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE": {subscription, group + "/providers/microsoft.operationalinsights/workspaces/logs"},
		"SOCKERLESS_ACA_IDENTITY":                {group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull"},
		"SOCKERLESS_ACA_RESOLVER":                {"127.0.0.1:5353", "system"},
		"SOCKERLESS_ENDPOINT_URL":                {"http://localhost:4566", "https://management.example"},
	} {
		for _, value := range values {
			if _, err := load(map[string]string{"SOCKERLESS_ACA_SUBSCRIPTION_ID": subscription, "SOCKERLESS_ACA_RESOURCE_GROUP": "rg", env: value}); err != nil {
				t.Errorf("%s=%s: %v", env, value, err)
			}
		}
	}
}

func TestOpenTellsWhatIsWrongWithACloud(t *testing.T) {
	open := func(t *testing.T, change func(*aca.Config)) error {
		t.Helper()
		c := aca.DefaultConfig()
		c.Subscription, c.ResourceGroup = subscription, "rg"
		change(&c)
		_, err := aca.Open(t.Context(), c, aca.Options{Instance: "test"})
		return err
	}
	describe := func(t *testing.T, status int, body string) string {
		t.Helper()
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"no cloud":       {404, "", "404"},
		"no JSON":        {200, "<html>", "no description of a cloud"},
		"plain endpoint": {200, `{"resourceManager":"http://management.example","authentication":{"loginEndpoint":"https://login.example","audiences":["https://management.example"]}}`, "only https"},
		"no audience":    {200, `{"resourceManager":"https://management.example","authentication":{"loginEndpoint":"https://login.example"}}`, "audiences"},
	} {
		t.Run(name, func(t *testing.T) {
			err := open(t, func(cfg *aca.Config) { cfg.EndpointURL = describe(t, c.status, c.body) })
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "SOCKERLESS_ENDPOINT_URL") {
				t.Errorf("error is %v, want one of SOCKERLESS_ENDPOINT_URL that says %q", err, c.want)
			}
		})
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".missing"} {
		var wrong *aca.SettingError
		if err := open(t, func(c *aca.Config) { c.CAFile = file }); !errors.As(err, &wrong) || wrong.Env != "SOCKERLESS_CA_FILE" {
			t.Errorf("error for CA file %s is %v, want one of SOCKERLESS_CA_FILE", file, err)
		}
	}
}
