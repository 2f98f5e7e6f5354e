package aca

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// FuzzAnswer reads what somebody else's server writes: error bodies, executions, tokens.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"error":{"code":"Conflict","message":"A\nB."}}`)
	f.Add(`{"error":{"code":"BadArgumentError","innererror":{"code":"SemanticError","innererror":{"code":"SEM0100","message":"'where' operator: Failed to resolve table or column expression named 'T'"}}}}`)
	f.Add(`{"code":"x","message":"` + strings.Repeat("é", 400) + `"}`)
	f.Add(`{"properties":{"status":"Failed","detailedStatus":{"replicas":[{"containers":[{"name":"main","code":1}]}]}}}`)
	f.Add("a.eyJleHAiOjF9.c")
	f.Fuzz(func(t *testing.T, body string) {
		refused := &azcore.ResponseError{StatusCode: http.StatusBadRequest, RawResponse: &http.Response{Body: io.NopCloser(strings.NewReader(body))}}
		err := explain(refused, "do it")
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("error is no single line: %q", err)
		}
		if len(err.Error()) > answerLimit+codeLimit+100 {
			t.Errorf("error is longer than it may be: %d bytes", len(err.Error()))
		}
		tableMissing(refused, "T")
		var e execution
		if json.Unmarshal([]byte(body), &e) == nil {
			if s := e.status(); s.ExitCode != nil && s.Phase != "ended" {
				t.Errorf("an exit code before the end: %+v", s)
			}
		}
		if until := expiry(body); until.After(time.Unix(1<<62, 0)) {
			t.Errorf("a token ends at %v", until)
		}
	})
}

func TestMissingTableIsToldFromOtherMistakes(t *testing.T) {
	const named = `'where' operator: Failed to resolve table or column expression named 'T'`
	for name, c := range map[string]struct {
		body string
		want bool
	}{
		"nested, as live":     {`{"error":{"code":"BadArgumentError","message":"The request had some invalid properties","innererror":{"code":"SemanticError","message":"A semantic error occurred.","innererror":{"code":"SEM0100","message":"` + named + `"}}}}`, true},
		"in the message":      {`{"error":{"code":"BadArgumentError","message":"` + named + `"}}`, true},
		"another table":       {`{"error":{"code":"BadArgumentError","message":"Failed to resolve table or column expression named 'U'"}}`, false},
		"a column":            {`{"error":{"code":"BadArgumentError","message":"Failed to resolve scalar expression named 'T'"}}`, false},
		"a syntax error":      {`{"error":{"code":"BadArgumentError","innererror":{"code":"SyntaxError","message":"at 'T'"}}}`, false},
		"no error of Azure's": {`<html>`, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := &azcore.ResponseError{StatusCode: http.StatusBadRequest, RawResponse: &http.Response{Body: io.NopCloser(strings.NewReader(c.body))}}
			if got := tableMissing(err, "T"); got != c.want {
				t.Errorf("tableMissing is %v, want %v", got, c.want)
			}
		})
	}
}
