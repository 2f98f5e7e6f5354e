package azuresim_test

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sockerless/sockerless/azuresim"
)

// ask sends one request to the Table service, as a principal and for an audience; no audience: without a token.
func ask(t *testing.T, sim *azuresim.Simulator, srv *azuresim.Server, audience, method, path, body string, headers ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/"+sim.World().StorageAccount+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("x-ms-version", "2019-02-02")
	r.Header.Set("Content-Type", "application/json")
	if audience != "" {
		token, err := sim.Token(sim.Operator(), audience)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

const storageAudience = "https://storage.azure.com"

func serveTables(t *testing.T, opts ...azuresim.Option) (*azuresim.Simulator, *azuresim.Server) {
	t.Helper()
	sim, err := azuresim.New(append([]azuresim.Option{azuresim.Calm()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := sim.Serve(azuresim.Listen{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close(); sim.Close() })
	return sim, srv
}

func TestTablesRefuse(t *testing.T) {
	sim, srv := serveTables(t)
	if status, _, body := ask(t, sim, srv, storageAudience, "POST", "/Tables", `{"TableName":"state"}`); status != http.StatusCreated {
		t.Fatalf("the table is not made: %d %s", status, body)
	}
	entity := func(more string) string { return `{"PartitionKey":"p","RowKey":"r"` + more + `}` }
	for name, c := range map[string]struct {
		audience, method, path, body string
		headers                      []string
		status                       int
		code                         string
	}{
		"no token":                {"", "GET", "/state()", "", nil, 401, "NoAuthenticationInformation"},
		"ARM's audience":          {"https://management.azure.com", "GET", "/state()", "", nil, 401, "InvalidAuthenticationInfo"},
		"an account key":          {"", "GET", "/state()", "", []string{"Authorization", "SharedKey a:b"}, 403, "KeyBasedAuthenticationNotPermitted"},
		"no version":              {storageAudience, "GET", "/state()", "", []string{"x-ms-version", ""}, 400, "MissingRequiredHeader"},
		"no table":                {storageAudience, "GET", "/none()", "", nil, 404, "TableNotFound"},
		"no entity":               {storageAudience, "GET", "/state(PartitionKey='p',RowKey='r')", "", nil, 404, "ResourceNotFound"},
		"a table again":           {storageAudience, "POST", "/Tables", `{"TableName":"State"}`, nil, 409, "TableAlreadyExists"},
		"a table's bad name":      {storageAudience, "POST", "/Tables", `{"TableName":"my-state"}`, nil, 400, "InvalidResourceName"},
		"a slash in a key":        {storageAudience, "POST", "/state", `{"PartitionKey":"p","RowKey":"a/b"}`, nil, 400, "OutOfRangeInput"},
		"a long key":              {storageAudience, "POST", "/state", `{"PartitionKey":"p","RowKey":"` + strings.Repeat("k", 513) + `"}`, nil, 400, "KeyValueTooLarge"},
		"no key":                  {storageAudience, "POST", "/state", `{"PartitionKey":"p"}`, nil, 400, "PropertiesNeedValue"},
		"a large property":        {storageAudience, "POST", "/state", entity(`,"A":"` + strings.Repeat("a", 32769) + `"`), nil, 400, "PropertyValueTooLarge"},
		"a large entity":          {storageAudience, "POST", "/state", entity(properties(17, 32000)), nil, 400, "EntityTooLarge"},
		"many properties":         {storageAudience, "POST", "/state", entity(properties(253, 1)), nil, 400, "TooManyProperties"},
		"a property's bad name":   {storageAudience, "POST", "/state", entity(`,"a-b":1`), nil, 400, "PropertyNameInvalid"},
		"an update of nothing":    {storageAudience, "PUT", "/state(PartitionKey='p',RowKey='r')", `{}`, []string{"If-Match", `W/"x"`}, 404, "ResourceNotFound"},
		"a delete without ETag":   {storageAudience, "DELETE", "/state(PartitionKey='p',RowKey='r')", "", nil, 400, "MissingRequiredHeader"},
		"a filter of a property":  {storageAudience, "GET", "/state()?$filter=A%20eq%20'x'", "", nil, 501, "NotImplemented"},
		"more than a page":        {storageAudience, "GET", "/state()?$top=1001", "", nil, 400, "InvalidInput"},
		"what azuresim has not":   {storageAudience, "DELETE", "/Tables('state')", "", nil, 501, "NotImplemented"},
		"a batch that is no such": {storageAudience, "POST", "/$batch", "x", nil, 400, "InvalidInput"},
	} {
		t.Run(name, func(t *testing.T) {
			status, h, body := ask(t, sim, srv, c.audience, c.method, c.path, c.body, c.headers...)
			if status != c.status || h.Get("x-ms-error-code") != c.code || !strings.Contains(body, `"code":"`+c.code+`"`) {
				t.Errorf("answer %d %s %s, want %d %s", status, h.Get("x-ms-error-code"), body, c.status, c.code)
			}
		})
	}
}

func properties(n, size int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"A%03d":%q`, i, strings.Repeat("a", size))
	}
	return b.String()
}

// A role that manages an account may not read what is in its tables; and the data's role is enough.
func TestTablesAskForTheDataRole(t *testing.T) {
	sim, srv := serveTables(t)
	who, account := sim.Operator().ObjectID, sim.World().StorageAccountID()
	ask(t, sim, srv, storageAudience, "POST", "/Tables", `{"TableName":"state"}`)
	if !sim.Unassign(azuresim.Assignment{Principal: who, Role: "Storage Table Data Contributor", Scope: account}) {
		t.Fatal("the operator does not have the role")
	}
	if err := sim.Assign(azuresim.Assignment{Principal: who, Role: "Reader", Scope: account}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, path, body, match string }{
		{"GET", "/state()", "", ""},
		{"POST", "/state", `{"PartitionKey":"p","RowKey":"r"}`, ""},
		{"PUT", "/state(PartitionKey='p',RowKey='r')", "{}", ""},
		{"PATCH", "/state(PartitionKey='p',RowKey='r')", "{}", "*"},
		{"DELETE", "/state(PartitionKey='p',RowKey='r')", "", "*"},
		{"POST", "/Tables", `{"TableName":"other"}`, ""},
	} {
		if status, h, _ := ask(t, sim, srv, storageAudience, c.method, c.path, c.body, "If-Match", c.match); status != http.StatusForbidden || h.Get("x-ms-error-code") != "AuthorizationPermissionMismatch" {
			t.Errorf("%s %s is answered %d %s", c.method, c.path, status, h.Get("x-ms-error-code"))
		}
	}
}

func TestTablesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "azure")
	row := "/state(PartitionKey='p',RowKey='it''s')"
	sim, srv := serveTables(t, azuresim.WithDataDir(dir))
	ask(t, sim, srv, storageAudience, "POST", "/Tables", `{"TableName":"state"}`)
	for _, key := range []string{"it's", "gone"} {
		if status, _, body := ask(t, sim, srv, storageAudience, "POST", "/state", `{"PartitionKey":"p","RowKey":"`+key+`","A":"YQ==","A@odata.type":"Edm.Binary"}`); status != http.StatusCreated {
			t.Fatal(status, body)
		}
	}
	if status, _, body := ask(t, sim, srv, storageAudience, "DELETE", "/state(PartitionKey='p',RowKey='gone')", "", "If-Match", "*"); status != http.StatusNoContent {
		t.Fatal(status, body)
	}
	_, before, _ := ask(t, sim, srv, storageAudience, "GET", row, "")
	srv.Close()
	sim.Close()
	for range 2 { // the file is written anew by the first, and read again by the second
		sim, srv = serveTables(t, azuresim.WithDataDir(dir))
		status, h, body := ask(t, sim, srv, storageAudience, "GET", row, "")
		if status != http.StatusOK || h.Get("ETag") != before.Get("ETag") || !strings.Contains(body, `"A":"YQ=="`) || !strings.Contains(body, `"A@odata.type":"Edm.Binary"`) {
			t.Errorf("after a restart: %d %s %s, want ETag %s", status, h.Get("ETag"), body, before.Get("ETag"))
		}
		if _, _, body := ask(t, sim, srv, storageAudience, "GET", "/state()", ""); strings.Contains(body, "gone") || strings.Count(body, "RowKey") != 1 {
			t.Errorf("after a restart the table is %s", body)
		}
		srv.Close()
		sim.Close()
	}
}
