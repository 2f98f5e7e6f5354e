package azuresim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
	"github.com/go-openapi/loads"
	"github.com/go-openapi/spec"
	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/validate"
)

// sharedFile finds a file of the data that lies beside the module; the test is skipped where it does not.
func sharedFile(t *testing.T, name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(dir, "..", "shared", "azure-specs", name)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("the specification is not beside the module: %v", err)
	}
	return raw
}

// openAPI is Microsoft.App's specification of jobs, made strict: a property that it does not have is an error.
type openAPI struct {
	root *spec.Swagger
}

// loadJobsSpec reads the specification. What it refers to in files that are not there has the SDK's shapes.
func loadJobsSpec(t *testing.T) *openAPI {
	t.Helper()
	text := string(sharedFile(t, "Jobs.2026-01-01.json"))
	external := regexp.MustCompile(`"\$ref": "[^"#]+#/(definitions|parameters)/([A-Za-z]+)"`)
	text = external.ReplaceAllString(text, `"$$ref": "#/$1/$2"`)
	examples := regexp.MustCompile(`"\$ref": "\./examples/[^"]+"`)
	text = examples.ReplaceAllString(text, `"example": true`)
	var doc map[string]any
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	definitions := doc["definitions"].(map[string]any)
	for name, v := range map[string]any{
		"Secret": armappcontainers.Secret{}, "IdentitySettings": armappcontainers.IdentitySettings{}, "JobTemplate": armappcontainers.JobTemplate{},
		"ContainerResources": armappcontainers.ContainerResources{}, "EnvironmentVar": armappcontainers.EnvironmentVar{},
		"ScaleRuleAuth": armappcontainers.ScaleRuleAuth{}, "ManagedServiceIdentity": armappcontainers.ManagedServiceIdentity{},
		"DefaultErrorResponse": armappcontainers.DefaultErrorResponse{}, "TrackedResource": armappcontainers.TrackedResource{},
	} {
		definitions[name] = sdkShape(t, reflect.TypeOf(v))
	}
	definitions["WorkloadProfileName"] = map[string]any{"type": "string"}
	// A strict object cannot be made of two by allOf, so the resource's envelope is copied in.
	job := definitions["Job"].(map[string]any)
	delete(job, "allOf")
	for name, p := range definitions["TrackedResource"].(map[string]any)["properties"].(map[string]any) {
		job["properties"].(map[string]any)[name] = p
	}
	parameters, _ := doc["parameters"].(map[string]any)
	for _, p := range []struct{ name, in string }{{"subscriptionId", "path"}, {"resourceGroupName", "path"}, {"api-version", "query"}} {
		key := map[string]string{"subscriptionId": "SubscriptionIdParameter", "resourceGroupName": "ResourceGroupNameParameter", "api-version": "ApiVersionParameter"}[p.name]
		parameters[key] = map[string]any{"name": p.name, "in": p.in, "required": true, "type": "string"}
	}
	makeStrict(doc)
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loads.Analyzed(raw, "2.0")
	if err != nil {
		t.Fatal(err)
	}
	expanded, err := loaded.Expanded()
	if err != nil {
		t.Fatal(err)
	}
	return &openAPI{root: expanded.Spec()}
}

// makeStrict forbids unknown properties in every schema that lists its own.
func makeStrict(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, sub := range v {
			makeStrict(sub)
		}
	case []any:
		for _, sub := range v {
			makeStrict(sub)
		}
	}
}

// sdkShape is the schema of what the SDK writes for a type: it is filled and its JSON looked at, since the JSON names are
// in no tag.
func sdkShape(t *testing.T, typ reflect.Type) map[string]any {
	t.Helper()
	v := reflect.New(typ)
	fill(v.Elem(), 0)
	raw, err := json.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var sample any
	if err := json.Unmarshal(raw, &sample); err != nil {
		t.Fatal(err)
	}
	return shapeOf(sample)
}

func fill(v reflect.Value, depth int) {
	if depth > 12 { // the error's details hold errors
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(0, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), depth+1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, depth+1)
		v.SetMapIndex(reflect.ValueOf("*"), value)
	case reflect.String:
		v.SetString("x")
	case reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	}
}

func shapeOf(sample any) map[string]any {
	switch v := sample.(type) {
	case string:
		return map[string]any{"type": "string"}
	case float64:
		return map[string]any{"type": "number"}
	case bool:
		return map[string]any{"type": "boolean"}
	case []any:
		return map[string]any{"type": "array", "items": shapeOf(v[0])}
	case map[string]any:
		if sub, ok := v["*"]; ok && len(v) == 1 {
			return map[string]any{"type": "object", "additionalProperties": shapeOf(sub)}
		}
		properties := map[string]any{}
		for name, sub := range v {
			properties[name] = shapeOf(sub)
		}
		return map[string]any{"type": "object", "properties": properties}
	}
	return map[string]any{}
}

// operation finds what the specification says of a request.
func (o *openAPI) operation(method, path string) (*spec.Operation, string) {
	for pattern, item := range o.root.Paths.Paths {
		want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
		match := len(want) == len(have)
		for i := 0; match && i < len(want); i++ {
			match = strings.HasPrefix(want[i], "{") || strings.EqualFold(want[i], have[i])
		}
		if match {
			return map[string]*spec.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete}[method], pattern
		}
	}
	return nil, ""
}

func (o *openAPI) check(schema *spec.Schema, raw []byte) error {
	var data any
	if err := json.Unmarshal(raw, &data); err != nil {
		return err
	}
	return validate.NewSchemaValidator(schema, o.root, "", strfmt.Default).Validate(data).AsError()
}

// exchange is one request with its answer.
type exchange struct {
	method, path, query string
	request, response   []byte
	status              int
	header              http.Header
}

// recorder keeps what goes over the wire.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	list []exchange
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	e := exchange{method: req.Method, path: req.URL.Path, query: req.URL.RawQuery}
	if req.Body != nil {
		raw, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		e.request = raw
		req.Body = io.NopCloser(bytes.NewReader(raw))
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err = firstError(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	e.response, e.status, e.header = raw, resp.StatusCode, resp.Header
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
	return resp, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestJobsSpecification holds what the SDK sends and what the simulator answers to Microsoft.App's specification.
func TestJobsSpecification(t *testing.T) {
	api := loadJobsSpec(t)
	for name, delays := range map[string]Delays{"terminal answers": {}, "long-running answers": {Operation: Exactly(15 * time.Millisecond)}} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, WithDelays(delays))
			rec := &recorder{next: s.client.Transport}
			s.client = &http.Client{Transport: rec, Timeout: 30 * time.Second}
			s.everyJobOperation()
			seen := map[string]bool{}
			for _, e := range rec.list {
				op, pattern := api.operation(e.method, e.path)
				if op == nil {
					if !strings.Contains(e.path, "/containerappsjobOperation") {
						t.Errorf("the specification has no %s %s", e.method, e.path)
					}
					continue
				}
				seen[e.method+" "+pattern] = true
				what := fmt.Sprintf("%s %s -> %d", e.method, e.path, e.status)
				if !strings.Contains(e.query, "api-version=") {
					t.Errorf("%s: no api-version", what)
				}
				for _, p := range op.Parameters {
					if p.In != "body" {
						continue
					}
					if len(e.request) == 0 {
						if p.Required {
							t.Errorf("%s: the request has no body", what)
						}
					} else if err := api.check(p.Schema, e.request); err != nil {
						t.Errorf("%s: request: %v\n%s", what, err, e.request)
					}
				}
				answer, declared := op.Responses.StatusCodeResponses[e.status]
				if !declared {
					if e.status < 400 {
						t.Errorf("%s: the specification has no such status", what)
					}
					answer = *op.Responses.Default
				}
				switch {
				case answer.Schema == nil:
				case len(e.response) == 0:
					t.Errorf("%s: the answer has no body", what)
				default:
					if err := api.check(answer.Schema, e.response); err != nil {
						t.Errorf("%s: answer: %v\n%s", what, err, e.response)
					}
				}
			}
			for pattern, item := range api.root.Paths.Paths {
				for method, op := range map[string]*spec.Operation{"GET": item.Get, "PUT": item.Put, "POST": item.Post, "PATCH": item.Patch, "DELETE": item.Delete} {
					if op != nil && !seen[method+" "+pattern] {
						t.Errorf("the test does not send %s %s", method, pattern)
					}
				}
			}
		})
	}
}

// TestSpecificationIsStrict makes sure that TestJobsSpecification can fail.
func TestSpecificationIsStrict(t *testing.T) {
	api := loadJobsSpec(t)
	op, _ := api.operation("GET", "/subscriptions/s/resourceGroups/r/providers/Microsoft.App/jobs/j")
	schema := op.Responses.StatusCodeResponses[200].Schema
	for name, body := range map[string]string{
		"unknown property":        `{"location":"eastus","colour":"red"}`,
		"unknown nested property": `{"location":"eastus","properties":{"template":{"containers":[{"workingDir":"/"}]}}}`,
		"unknown state":           `{"location":"eastus","properties":{"provisioningState":"Done"}}`,
		"wrong type":              `{"location":"eastus","properties":{"configuration":{"triggerType":"Manual","replicaTimeout":"1"}}}`,
		"missing required":        `{"location":"eastus","properties":{"configuration":{"triggerType":"Manual"}}}`,
	} {
		if api.check(schema, []byte(body)) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// everyJobOperation uses each operation of the SDK's clients for jobs once, and some errors.
func (s *stage) everyJobOperation() {
	t, ctx, rg := s.t, s.t.Context(), s.world.ResourceGroup
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	jobs := s.jobs()
	executions, err := armappcontainers.NewJobsExecutionsClient(s.world.Subscription, s.operator(), s.armOptions())
	must(err)
	must(s.sim.Assign(Assignment{s.sim.Operator().ObjectID, "Reader", s.world.SubscriptionID()}))
	s.putSample("whole")
	if _, err := jobs.Get(ctx, rg, "missing", nil); err == nil {
		t.Error("a missing job is found")
	}
	update, err := jobs.BeginUpdate(ctx, rg, "whole", armappcontainers.JobPatchProperties{Tags: map[string]*string{"more": to.Ptr("tags")}}, nil)
	must(err)
	_, err = update.PollUntilDone(ctx, fastPoll)
	must(err)
	_, err = jobs.ListSecrets(ctx, rg, "whole", nil)
	must(err)
	for pager := jobs.NewListByResourceGroupPager(rg, nil); pager.More(); {
		_, err := pager.NextPage(ctx)
		must(err)
	}
	for pager := jobs.NewListBySubscriptionPager(nil); pager.More(); {
		_, err := pager.NextPage(ctx)
		must(err)
	}
	run := func(o *armappcontainers.JobsClientBeginStartOptions) string {
		p, err := jobs.BeginStart(ctx, rg, "whole", o)
		must(err)
		started, err := p.PollUntilDone(ctx, fastPoll)
		must(err)
		return *started.Name
	}
	first := run(nil)
	run(&armappcontainers.JobsClientBeginStartOptions{Template: &armappcontainers.JobExecutionTemplate{
		Containers: []*armappcontainers.JobExecutionContainer{{Name: to.Ptr("main"), Image: to.Ptr("other:1"),
			Resources: &armappcontainers.ContainerResources{CPU: to.Ptr(0.25), Memory: to.Ptr("0.5Gi")}}}}})
	for pager := executions.NewListPager(rg, "whole", nil); pager.More(); {
		_, err := pager.NextPage(ctx)
		must(err)
	}
	s.execution(ctx, "whole", first)
	stop, err := jobs.BeginStopExecution(ctx, rg, "whole", first, nil)
	must(err)
	_, err = stop.PollUntilDone(ctx, fastPoll)
	must(err)
	stopAll, err := jobs.BeginStopMultipleExecutions(ctx, rg, "whole", nil)
	must(err)
	_, err = stopAll.PollUntilDone(ctx, fastPoll)
	must(err)
	del, err := jobs.BeginDelete(ctx, rg, "whole", nil)
	must(err)
	_, err = del.PollUntilDone(ctx, fastPoll)
	must(err)
}

// TestOfficialStartExample sends the body of the specification's own example.
func TestOfficialStartExample(t *testing.T) {
	var example struct {
		Parameters struct {
			Template json.RawMessage `json:"template"`
		} `json:"parameters"`
	}
	if err := json.Unmarshal(sharedFile(t, "examples/Job_Start.2026-01-01.json"), &example); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	s.putSample("example")
	// The example's names have capitals, which Container Apps' own rules refuse.
	body := strings.ReplaceAll(string(example.Parameters.Template), "testinitcontainerAppsJob0", "init")
	path := s.world.GroupID() + "/providers/Microsoft.App/jobs/example/start?api-version=2026-01-01"
	status, _, answer := s.call(s.sim.Operator(), "POST", path, body)
	if status != http.StatusOK || !strings.HasPrefix(fmt.Sprint(answer["name"]), "example-") {
		t.Errorf("answer %d %v", status, answer)
	}
}

// TestDetailedStatus holds an execution of api-version 2026-07-01 to the published definitions.
func TestDetailedStatus(t *testing.T) {
	var definitions map[string]any
	if err := json.Unmarshal(sharedFile(t, "job_execution.2026-07-01.fragment.json"), &definitions); err != nil {
		t.Fatal(err)
	}
	delete(definitions, "_note")
	reference := func(name string) map[string]any {
		return map[string]any{"type": "array", "items": map[string]any{"$ref": "#/definitions/" + name}}
	}
	text, object := map[string]any{"type": "string"}, func(p map[string]any) map[string]any { return map[string]any{"type": "object", "properties": p} }
	definitions["ExecutionStatus"] = object(map[string]any{"replicas": reference("ReplicaExecutionStatus")})
	definitions["ReplicaExecutionStatus"] = object(map[string]any{"name": text, "containers": reference("ContainerExecutionStatus")})
	definitions["JobExecutionRunningState"] = map[string]any{"type": "string", "enum": []string{"Running", "Processing", "Stopped", "Degraded", "Failed", "Unknown", "Succeeded"}}
	definitions["JobExecutionTemplate"] = sdkShape(t, reflect.TypeFor[armappcontainers.JobExecutionTemplate]())
	doc := map[string]any{"swagger": "2.0", "info": map[string]any{"title": "t", "version": "1"}, "paths": map[string]any{}, "definitions": definitions}
	makeStrict(doc)
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loads.Analyzed(raw, "2.0")
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err = loaded.Expanded(); err != nil {
		t.Fatal(err)
	}
	api := &openAPI{root: loaded.Spec()}
	schema := api.root.Definitions["JobExecutionProperties"]

	s := newStage(t)
	s.putSample("web")
	e := s.start("web")
	s.replicaOf(e).exit(9)
	s.awaitStatus("web", e, "Failed")
	_, _, body := s.asOperator("GET", s.jobPath("web/executions/"+e), "")
	properties, err := json.Marshal(body["properties"])
	if err != nil {
		t.Fatal(err)
	}
	if err := api.check(&schema, properties); err != nil || !strings.Contains(string(properties), `"code":9`) {
		t.Errorf("%v\n%s", err, properties)
	}
	if api.check(&schema, []byte(`{"detailedStatus":{"replicas":[{"exitCode":1}]}}`)) == nil {
		t.Error("an unknown property is accepted")
	}
}
