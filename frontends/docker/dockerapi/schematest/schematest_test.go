package schematest_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestCheck: what conforms passes, and what does not is found; a check that finds nothing would prove nothing.
func TestCheck(t *testing.T) {
	specs, err := specs()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	spec, err := specs.For("1.50")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path string
		status             int
		kind, body, want   string
	}{
		{"a good answer", "POST", "/containers/create", 201, "application/json", `{"Id":"x","Warnings":[]}`, ""},
		{"with a version", "POST", "/v1.50/containers/create", 201, "application/json", `{"Id":"x","Warnings":[]}`, ""},
		{"a field too few", "POST", "/containers/create", 201, "application/json", `{"Id":"x"}`, "Warnings in body is required"},
		{"a required null", "POST", "/containers/create", 201, "application/json", `{"Id":"x","Warnings":null}`, "Warnings in body is required"},
		{"a wrong type", "POST", "/containers/create", 201, "application/json", `{"Id":3,"Warnings":[]}`, "Id in body must be of type string"},
		{"a word outside an enum", "GET", "/containers/json", 200, "application/json", `[{"State":"sleeping"}]`, "State in body should be one of"},
		{"another status", "POST", "/containers/create", 200, "application/json", `{}`, "does not have this status"},
		{"another operation", "GET", "/nosuch", 200, "application/json", `{}`, "does not have this operation"},
		{"not JSON", "GET", "/containers/json", 200, "application/json", `[`, "its body is not JSON"},
		{"another type of body", "GET", "/containers/json", 200, "text/plain", `[]`, "its Content-Type is text/plain"},
		{"a refusal", "GET", "/containers/x/json", 404, "application/json", `{"message":"No such container: x"}`, ""},
		{"a refusal without words", "GET", "/containers/x/json", 404, "application/json", `{"error":"x"}`, "message in body is required"},
		{"a name with slashes", "GET", "/images/a/b/c/json", 200, "application/json", `{"Id":"sha256:x"}`, ""},
		{"a stream", "GET", "/events", 200, "application/json", "{\"Type\":\"container\"}\n{\"Type\":\"image\"}\n", ""},
		{"a stream that goes wrong", "GET", "/events", 200, "application/json", "{\"Type\":\"container\"}\n{\"Type\":3}\n", "Type in body must be of type string"},
		{"an archive", "GET", "/containers/x/archive", 200, "application/x-tar", "anything", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := spec.Check(c.method, c.path, c.status, http.Header{"Content-Type": {c.kind}}, []byte(c.body))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
