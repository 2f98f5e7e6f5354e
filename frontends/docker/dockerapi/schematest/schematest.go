// Package schematest holds the answers of a Docker API to Docker's own specification of the version that is spoken.
//
// A Spec is one version's Swagger file, and checks single answers. Handler and Transport look at everything that passes
// through a server or a client and report what does not conform; a Tap does between two sockets, whatever the client is.
package schematest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-openapi/loads"
	"github.com/go-openapi/spec"
	"github.com/go-openapi/strfmt"
	"github.com/go-openapi/validate"
)

// maxChecked bounds how much of one answer is kept for its check, in bytes; of a longer one the status alone is checked.
const maxChecked = 16 << 20

// Dir returns the folder of Docker's specifications, as v1.51.yaml: $SOCKERLESS_DOCKER_SPECS, else ../shared/docker-api
// beside the module. It is fs.ErrNotExist if neither is there.
func Dir() (string, error) {
	if dir := os.Getenv("SOCKERLESS_DOCKER_SPECS"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("cannot find the module's folder")
		}
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "docker-api")
	_, err = os.Stat(dir)
	return dir, err
}

// Spec is the specification of one version. It is safe for concurrent use.
type Spec struct {
	routes []route
	errors *spec.Schema // what every refusal must look like
}

type route struct {
	method string
	text   string
	path   *regexp.Regexp
	names  int // parameters in the path: the route with the fewest wins
	op     *spec.Operation
}

// Load reads the specification of a version ("1.51") from a folder of them.
func Load(dir, version string) (*Spec, error) {
	doc, err := loads.Spec(filepath.Join(dir, "v"+version+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("cannot read Docker's specification: %w", err)
	}
	if doc, err = doc.Expanded(); err != nil {
		return nil, fmt.Errorf("cannot expand Docker's specification: %w", err)
	}
	s := &Spec{}
	if e, ok := doc.Spec().Definitions["ErrorResponse"]; ok {
		s.errors = &e
	}
	for path, item := range doc.Spec().Paths.Paths {
		// A name may have slashes in it.
		pattern, err := regexp.Compile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(path), ".+") + "$")
		if err != nil {
			return nil, err
		}
		for method, op := range operations(item) {
			s.routes = append(s.routes, route{method, strings.ReplaceAll(path, "{id}", "{name}"), pattern, strings.Count(path, "{"), op})
		}
	}
	return s, nil
}

var parameter = regexp.MustCompile(`\\\{[a-z]+\\\}`)

func operations(item spec.PathItem) map[string]*spec.Operation {
	all := map[string]*spec.Operation{
		http.MethodGet: item.Get, http.MethodHead: item.Head, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete,
	}
	maps.DeleteFunc(all, func(_ string, op *spec.Operation) bool { return op == nil })
	return all
}

// Operations returns "METHOD /path" of all operations; a name in a path is written {name}.
func (s *Spec) Operations() []string {
	var all []string
	for _, r := range s.routes {
		all = append(all, r.method+" "+r.text)
	}
	slices.Sort(all)
	return all
}

// plain makes of a decoded value what the validator knows: numbers that are int64 or float64, and no member that is
// null. Docker's types are Go's, which write an absent one so, whether the specification says x-nullable or not; a
// required one that is null is missed by the validator then.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if member == nil {
				delete(v, key)
				continue
			}
			v[key] = plain(member)
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, _ := v.Float64() // what JSON calls a number is one
		return n
	}
	return v
}

// Check holds one answer to the specification. path may have the version's prefix.
func (s *Spec) Check(method, path string, status int, header http.Header, body []byte) error {
	return s.check(answer{method: method, path: path, status: status, header: header, body: body})
}

// answer is one answer of an API.
type answer struct {
	method, path string
	status       int
	header       http.Header
	body         []byte
	cut          bool // the body did not come to its end, as when a client has seen enough of a stream
}

// Defect is an answer that Docker Engine gives and Docker's specification leaves out.
type Defect struct {
	Operation string // its id
	Status    int
	Why       string
}

// Defects are all that a check lets pass although the specification does not have it. There is nothing of ours here:
// TestDefects asks the newest specification whether each is still missing.
func Defects() []Defect {
	return []Defect{
		{"ExecStart", http.StatusSwitchingProtocols, "with Upgrade: tcp, as for ContainerAttach, where it is listed; every docker exec gets it"},
	}
}

// Lists says whether an operation, by its id, may have a status.
func (s *Spec) Lists(operation string, status int) bool {
	for _, r := range s.routes {
		if _, ok := r.op.Responses.StatusCodeResponses[status]; ok && r.op.ID == operation {
			return true
		}
	}
	return false
}

func (s *Spec) check(a answer) error {
	where := fmt.Sprintf("%s %s: %d", a.method, a.path, a.status)
	if a.status >= 400 {
		if a.method == http.MethodHead {
			return nil
		}
		if err := s.checkBody(s.errors, a); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		return nil
	}
	op := s.find(a.method, withoutVersion(a.path))
	if op == nil {
		return fmt.Errorf("%s: the specification does not have this operation", where)
	}
	response, ok := op.Responses.StatusCodeResponses[a.status]
	if !ok && !slices.ContainsFunc(Defects(), func(d Defect) bool { return d.Operation == op.ID && d.Status == a.status }) {
		return fmt.Errorf("%s: %s does not have this status", where, op.ID)
	}
	if response.Schema == nil || a.method == http.MethodHead {
		return nil
	}
	if len(a.body) == 0 && op.ID == "SystemEvents" {
		return nil // nothing happened
	}
	if err := s.checkBody(response.Schema, a); err != nil {
		return fmt.Errorf("%s: %s: %w\n%s", where, op.ID, err, clip(a.body))
	}
	return nil
}

func (s *Spec) find(method, path string) *spec.Operation {
	var best *route
	for i := range s.routes {
		r := &s.routes[i]
		if r.method == method && r.path.MatchString(path) && (best == nil || r.names < best.names) {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return best.op
}

// checkBody holds a body, or each JSON value of a stream of them, to a schema.
func (s *Spec) checkBody(schema *spec.Schema, a answer) error {
	if schema == nil {
		return nil
	}
	if schema.Type.Contains("string") {
		return nil // an archive, a process's bytes or OK
	}
	kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		return fmt.Errorf("its Content-Type is no type: %w", err)
	}
	switch kind {
	case "application/json", "application/jsonl", "application/x-ndjson", "application/json-seq":
	default:
		return fmt.Errorf("its Content-Type is %s, not JSON", kind)
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.ReplaceAll(a.body, []byte{0x1e}, nil)))
	dec.UseNumber()
	for n := 0; ; n++ {
		var v any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF) && (n > 0 || a.cut), errors.Is(err, io.ErrUnexpectedEOF) && a.cut:
			return nil
		case err != nil:
			return fmt.Errorf("its body is not JSON: %w", err)
		}
		if err := validate.AgainstSchema(schema, plain(v), strfmt.Default); err != nil {
			return err
		}
	}
}

func withoutVersion(path string) string {
	rest, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return path
	}
	version, rest, ok := strings.Cut(rest, "/")
	if _, err := strconv.ParseFloat(version, 64); !ok || err != nil {
		return path
	}
	return "/" + rest
}

func clip(b []byte) []byte { return b[:min(len(b), 2000)] }

// Handler checks every answer of h and reports what does not conform; report is called from the server's goroutines.
// Connections that h hijacks pass unchecked.
func (s *Spec) Handler(h http.Handler, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		h.ServeHTTP(rec, r)
		if rec.status == 0 || rec.long {
			return
		}
		if err := s.Check(r.Method, r.URL.Path, rec.status, w.Header(), rec.body.Bytes()); err != nil {
			report(err)
		}
	})
}

// recorder keeps what a handler answers.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
	long   bool
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.body.Len()+len(b) > maxChecked {
		r.long = true
	} else {
		r.body.Write(b)
	}
	return r.ResponseWriter.Write(b)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Transport checks every answer that comes through rt, once its body has been read to the end, and reports what does
// not conform.
func (s *Spec) Transport(rt http.RoundTripper, report func(error)) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := rt.RoundTrip(r)
		if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
		body := &checkedBody{ReadCloser: resp.Body}
		body.check = sync.OnceFunc(func() {
			if err := s.Check(r.Method, r.URL.Path, resp.StatusCode, resp.Header, body.read.Bytes()); err != nil {
				report(err)
			}
		})
		resp.Body = body
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type checkedBody struct {
	io.ReadCloser
	read  bytes.Buffer
	long  bool
	check func()
}

func (b *checkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read.Len()+n > maxChecked {
		b.long = true
	} else {
		b.read.Write(p[:n])
	}
	if errors.Is(err, io.EOF) && !b.long {
		b.check()
	}
	return n, err
}
