package doctor

import (
	"strings"
	"testing"
)

// FuzzForeign reads what somebody else writes: a token, and a role's pattern for an action.
func FuzzForeign(f *testing.F) {
	f.Add("a.eyJvaWQiOiJ4In0.c", "Microsoft.App/jobs/write")
	f.Add("Microsoft.App/jobs/*", "Microsoft.App/JOBS/start/action")
	f.Add("*", "")
	f.Add(`(\*[`, "x")
	lower := strings.ToLower // actions are ASCII; other folding would be another rule
	f.Fuzz(func(t *testing.T, foreign, action string) {
		if c, ok := readClaims(foreign); ok && strings.Count(foreign, ".") != 2 {
			t.Errorf("%q is read as %+v", foreign, c)
		}
		got := matchesAny([]string{foreign}, action)
		if strings.Trim(foreign, "*") == "" && foreign != "" && !got {
			t.Errorf("%q does not match %q", foreign, action)
		}
		if !strings.Contains(foreign, "*") && got != (lower(foreign) == lower(action)) {
			t.Errorf("%q matches %q: %v", foreign, action, got)
		}
	})
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "Microsoft.App/jobs/write", true},
		{"*/read", "Microsoft.App/jobs/executions/read", true},
		{"*/read", "Microsoft.App/jobs/write", false},
		{"microsoft.app/jobs/*", "Microsoft.App/jobs/start/action", true},
		{"Microsoft.App/jobs/*/action", "Microsoft.App/jobs/write", false},
		{"Microsoft.App/jobs/read", "Microsoft.App/jobs/read/more", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-c-b", false},
		{"ab*b", "ab", false},
		{"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", true},
	} {
		if got := matchesAny([]string{c.pattern}, c.action); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.action, got)
		}
	}
	all := permissions{}
	all.Value = append(all.Value, struct {
		Actions    []string `json:"actions"`
		NotActions []string `json:"notActions"`
	}{[]string{"*"}, []string{"Microsoft.App/jobs/delete"}})
	if !all.allow("Microsoft.App/jobs/write") || all.allow("Microsoft.App/jobs/delete") {
		t.Error("what is not given is allowed, or what is given is not")
	}
}
