package server

import (
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/remote"
)

// TestGivenToken: a token that is given is that of the folder from then on, and is shown nowhere if it is none.
func TestGivenToken(t *testing.T) {
	given, other := remote.Token{1, 2, 3}, remote.Token{4}
	dir := t.TempDir()
	var s state
	if err := s.openFolder(&Config{DataDir: dir}); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.openSecrets(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		given string
		want  remote.Token
	}{{given.String() + "\n", given}, {"", given}, {other.String(), other}, {"", other}} {
		if err := s.openSecrets(t.Context(), dir, c.given); err != nil {
			t.Fatal(err)
		}
		if kept, err := remote.ReadToken(remote.TokenFile(dir)); err != nil || kept != c.want || s.token != c.want {
			t.Errorf("given %q, the token is %v and its file holds %v (%v), want %v", c.given, s.token, kept, err, c.want)
		}
	}

	c := Config{Azure: aca.DefaultConfig(), Addr: ":9100", DataDir: dir, CopyLimit: 1, Linger: 1, StartWait: 1}
	c.Azure.Subscription, c.Azure.ResourceGroup = "00000000-0000-4000-8000-000000000001", "group"
	settings := aca.NewSettings(flag.NewFlagSet("", flag.ContinueOnError))
	c.Settings(settings)
	if err := settings.Load(func(name string) string { return map[string]string{"SOCKERLESS_TOKEN": "my-secret"}[name] }); err != nil {
		t.Fatal(err)
	}
	var wrong *aca.SettingError
	if err := c.Validate(); !errors.As(err, &wrong) || strings.Contains(err.Error(), "secret") || err.Error() != "SOCKERLESS_TOKEN is not 64 hexadecimal digits" {
		t.Errorf("error is %v", err)
	}
}
