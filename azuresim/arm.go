package azuresim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// armError is an error as ARM answers it.
type armError struct {
	Status  int
	Code    string
	Message string
	header  http.Header
}

func (e *armError) Error() string { return e.Code + ": " + e.Message }

func armErrorf(status int, code, format string, args ...any) *armError {
	return &armError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func writeARMError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": code, "message": message}})
}

// The api-versions that Azure serves (stable ones), by resource provider.
var (
	appVersions       = []string{"2023-05-01", "2024-03-01", "2025-01-01", "2025-07-01", "2026-01-01", "2026-07-01"}
	usageVersions     = appVersions[1:] // 2023-05-01 does not have them
	workspaceVersions = []string{"2020-08-01", "2022-10-01", "2023-09-01", "2025-02-01", "2025-07-01"}
	identityVersions  = []string{"2018-11-30", "2023-01-31", "2024-11-30"}
	groupVersions     = []string{"2020-06-01", "2021-04-01", "2022-09-01", "2022-12-01", "2023-07-01", "2024-03-01", "2025-04-01"}
)

// detailedStatusSince is the first stable version with exit codes in an execution.
const detailedStatusSince = "2026-07-01"

// armRequest is one authorised call of ARM.
type armRequest struct {
	*http.Request
	w       http.ResponseWriter
	sim     *Simulator
	who     *Principal
	version string            // api-version
	vars    map[string]string // by the names in the route's pattern
	path    string            // as the client wrote it
	scope   string            // ARM id that the action is asked for

	status int // of the answer
	body   []byte
}

// armRoute is one operation of ARM. The pattern's first word in braces names a variable; other segments compare
// without case. The scope of the right is the pattern up to scopeLen segments.
type armRoute struct {
	method, pattern string
	action          string
	scopeLen        int
	versions        []string // nil: any
	handle          func(*armRequest) error
}

const (
	groupPattern = "subscriptions/{sub}/resourceGroups/{rg}"
	jobPattern   = groupPattern + "/providers/Microsoft.App/jobs/{job}"
	envPattern   = groupPattern + "/providers/Microsoft.App/managedEnvironments/{env}"
)

// armRoutes is every ARM operation that the simulator answers.
var armRoutes = slices.Concat(appRoutes, containerAppRoutes, groupRoutes, providerRoutes,
	virtualNetworks.routes(), subnets.routes(), securityGroups.routes(), zoneRoutes, privateZones.routes(), zoneLinks.routes(),
	workspaceRoutes, workspaces.routes(), identities.routes(), accountRoutes, storageAccounts.routes(), fileShares.routes(),
	registryRoutes, registries.routes(), authorizationRoutes())

// appRoutes are those of Container Apps, and the polls of everybody.
var appRoutes = []armRoute{
	{"GET", envPattern, "Microsoft.App/managedEnvironments/read", 8, appVersions, getEnvironment},
	{"PUT", envPattern, "Microsoft.App/managedEnvironments/write", 8, appVersions, putEnvironment},
	{"DELETE", envPattern, "Microsoft.App/managedEnvironments/delete", 8, appVersions, deleteEnvironment},
	{"GET", groupPattern + "/providers/Microsoft.App/managedEnvironments", "Microsoft.App/managedEnvironments/read", 4, appVersions, listEnvironments},
	{"GET", "subscriptions/{sub}/providers/Microsoft.App/managedEnvironments", "Microsoft.App/managedEnvironments/read", 2, appVersions, listEnvironments},
	{"GET", envPattern + "/usages", "Microsoft.App/managedEnvironments/usages/read", 8, usageVersions, listUsages},
	{"GET", envPattern + "/storages", "Microsoft.App/managedEnvironments/storages/read", 8, appVersions, listStorages},
	{"GET", envPattern + "/storages/{storage}", "Microsoft.App/managedEnvironments/storages/read", 10, appVersions, getStorage},
	{"PUT", envPattern + "/storages/{storage}", "Microsoft.App/managedEnvironments/storages/write", 10, appVersions, putStorage},
	{"DELETE", envPattern + "/storages/{storage}", "Microsoft.App/managedEnvironments/storages/delete", 10, appVersions, deleteStorage},

	{"GET", "subscriptions/{sub}/providers/Microsoft.App/jobs", "Microsoft.App/jobs/read", 2, appVersions, listJobs},
	{"GET", groupPattern + "/providers/Microsoft.App/jobs", "Microsoft.App/jobs/read", 4, appVersions, listJobs},
	{"GET", jobPattern, "Microsoft.App/jobs/read", 8, appVersions, getJob},
	{"PUT", jobPattern, "Microsoft.App/jobs/write", 8, appVersions, putJob},
	{"PATCH", jobPattern, "Microsoft.App/jobs/write", 8, appVersions, patchJob},
	{"DELETE", jobPattern, "Microsoft.App/jobs/delete", 8, appVersions, deleteJob},
	{"POST", jobPattern + "/listSecrets", "Microsoft.App/jobs/listSecrets/action", 8, appVersions, listJobSecrets},
	{"POST", jobPattern + "/start", "Microsoft.App/jobs/start/action", 8, appVersions, startJob},
	{"POST", jobPattern + "/stop", "Microsoft.App/jobs/stop/action", 8, appVersions, stopJob},
	{"GET", jobPattern + "/executions", "Microsoft.App/jobs/executions/read", 8, appVersions, listExecutions},
	{"GET", jobPattern + "/executions/{execution}", "Microsoft.App/jobs/execution/read", 10, appVersions, getExecution},
	{"POST", jobPattern + "/executions/{execution}/stop", "Microsoft.App/jobs/stop/execution/action", 10, appVersions, stopExecution},

	// Polls carry no right of their own: who started the operation may ask for it.
	{"GET", "subscriptions/{sub}/providers/Microsoft.App/locations/{location}/containerappsjobOperationStatuses/{operation}", "", 2, appVersions, getOperationStatus},
	{"GET", "subscriptions/{sub}/providers/Microsoft.App/locations/{location}/containerappsjobOperationResults/{operation}", "", 2, appVersions, getOperationResult},
	{"GET", "subscriptions/{sub}/providers/{provider}/locations/{location}/operationStatuses/{operation}", "", 2, nil, getOperationStatus},
	{"GET", "subscriptions/{sub}/providers/{provider}/locations/{location}/operationResults/{operation}", "", 2, nil, getOperationResult},
}

// serveARM authenticates, throttles, routes and authorises, in the order in which Azure Resource Manager does.
func (s *Simulator) serveARM(w http.ResponseWriter, r *http.Request, path string) {
	h := w.Header()
	h.Set("Date", s.clock().UTC().Format(http.TimeFormat))
	h.Set("X-Ms-Request-Id", newGUID())
	h.Set("X-Ms-Correlation-Request-Id", newGUID())
	h.Set("Cache-Control", "no-cache")
	err := s.answerARM(w, r, path)
	var ae *armError
	switch {
	case err == nil:
	case errors.As(err, &ae):
		for k, v := range ae.header {
			h[k] = v
		}
		writeARMError(w, ae.Status, ae.Code, ae.Message)
	default:
		s.log.Error("request failed", "method", r.Method, "path", path, "error", err)
		writeARMError(w, http.StatusInternalServerError, "InternalServerError", err.Error())
	}
}

func (s *Simulator) answerARM(w http.ResponseWriter, r *http.Request, path string) error {
	who, err := s.authenticate(r)
	if err != nil {
		return err
	}
	noteIdentity(r.Context(), who.Name)
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if len(segments) > 1 && !strings.EqualFold(segments[1], s.world.Subscription) {
		return armErrorf(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", segments[1])
	}
	q := r.URL.Query()
	version := q.Get("api-version")
	if version == "" {
		return armErrorf(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	route, vars, err := findRoute(r.Method, segments)
	if err != nil {
		return err
	}
	if route.versions != nil && !slices.Contains(route.versions, version) {
		return armErrorf(http.StatusBadRequest, "NoRegisteredProviderFound",
			"No registered resource provider found for location '%s' and API version '%s' for the type of '%s'. The supported api-versions are '%s'. The supported locations are '%s'.",
			s.world.Location, version, path, strings.Join(route.versions, ", "), s.world.Location)
	}
	if err := s.throttle(w, r.Method, route.action == ""); err != nil {
		return err
	}
	req := &armRequest{Request: r, w: w, sim: s, who: who, version: version, vars: vars, path: path,
		scope: "/" + strings.Join(segments[:route.scopeLen], "/")}
	if route.action != "" {
		if err := req.require(route.action, req.scope); err != nil {
			return err
		}
	}
	if _, ok := vars["rg"]; ok && route.pattern != groupPattern && !req.hasGroup() {
		return req.noGroup()
	}
	if err := route.handle(req); err != nil {
		return err
	}
	req.send()
	return nil
}

// findRoute matches method and path against the table.
func findRoute(method string, segments []string) (*armRoute, map[string]string, error) {
	var allowed []string
	for i := range armRoutes {
		route := &armRoutes[i]
		vars, ok := matchPattern(route.pattern, segments)
		if !ok {
			continue
		}
		if route.method == method {
			return route, vars, nil
		}
		allowed = append(allowed, route.method)
	}
	path := "/" + strings.Join(segments, "/")
	if len(allowed) > 0 {
		err := armErrorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The requested resource does not support http method '%s'.", method)
		err.header = http.Header{"Allow": {strings.Join(allowed, ", ")}}
		return nil, nil, err
	}
	return nil, nil, armErrorf(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found for the path '%s'.", path)
}

func matchPattern(pattern string, segments []string) (map[string]string, bool) {
	want := strings.Split(pattern, "/")
	if len(want) != len(segments) {
		return nil, false
	}
	vars := map[string]string{}
	for i, p := range want {
		if name, ok := strings.CutPrefix(p, "{"); ok {
			if segments[i] == "" {
				return nil, false
			}
			vars[strings.TrimSuffix(name, "}")] = segments[i]
		} else if !strings.EqualFold(p, segments[i]) {
			return nil, false
		}
	}
	return vars, true
}

// authenticate reads the bearer token of an ARM call.
func (s *Simulator) authenticate(r *http.Request) (*Principal, error) {
	challenge := http.Header{"Www-Authenticate": {fmt.Sprintf(
		`Bearer authorization_uri="%s/%s", error="invalid_token", error_description="The access token is missing or invalid."`, s.baseURL(r), s.world.Tenant)}}
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, &armError{http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.", challenge}
	}
	c, err := s.entra.read(raw, s.entra.issuer())
	if err != nil {
		return nil, &armError{http.StatusUnauthorized, tokenErrorCode(err), "The access token is invalid: " + err.Error() + ".", challenge}
	}
	if !c.hasAudience(audienceARM, legacyARM) && !s.ownURL(r, c.Audience) {
		return nil, &armError{http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", fmt.Sprintf(
			"The access token has been obtained for wrong audience or resource '%s'. It should exactly match with one of the allowed audiences '%s/','%s/'.",
			c.Audience, legacyARM, audienceARM), challenge}
	}
	p := s.entra.byObjectID(c.ObjectID)
	if p == nil {
		return nil, &armError{http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token's principal does not exist.", challenge}
	}
	return p, nil
}

// require answers 403 when the caller lacks the right.
func (r *armRequest) require(action, scope string) error {
	if r.sim.access.allowed(r.who.ObjectID, action, scope) {
		return nil
	}
	return armErrorf(http.StatusForbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your credentials.",
		r.who.ClientID, r.who.ObjectID, action, scope)
}

// requireLinked answers 403 when the caller lacks a right on another resource that the request names.
func (r *armRequest) requireLinked(action, linkedAction, linkedScope string) error {
	if r.sim.access.allowed(r.who.ObjectID, linkedAction, linkedScope) {
		return nil
	}
	return armErrorf(http.StatusForbidden, "LinkedAuthorizationFailed",
		"The client '%s' with object id '%s' has permission to perform action '%s' on scope '%s'; however, it does not have permission to perform action(s) '%s' on the linked scope(s) '%s' (respectively) or the linked scope(s) are invalid.",
		r.who.ClientID, r.who.ObjectID, action, r.scope, linkedAction, linkedScope)
}

// throttle refuses a fraction of the calls before they have an effect, and cuts some polls.
func (s *Simulator) throttle(w http.ResponseWriter, method string, poll bool) error {
	if poll && s.dice.chance(s.chance.dropPoll) {
		dropConnection()
	}
	kind := map[string]string{"GET": "reads", "DELETE": "deletes"}[method]
	if kind == "" {
		kind = "writes"
	}
	w.Header().Set("X-Ms-Ratelimit-Remaining-Subscription-"+kind, strconv.Itoa(150+s.dice.below(50)))
	if !s.dice.chance(s.chance.throttle) {
		return nil
	}
	err := armErrorf(http.StatusTooManyRequests, "SubscriptionRequestsThrottled",
		"Number of '%s' requests for subscription '%s' exceeded. Please try again after '1' seconds after additional tokens are available. Refer to https://aka.ms/arm-throttling for additional information.",
		strings.TrimSuffix(kind, "s"), s.world.Subscription)
	err.header = http.Header{"Retry-After": {"1"}}
	return err
}

// answer sets the answer; v is encoded now and sent once the handler has returned, so that a client that does not
// read holds no lock. A nil v is an empty body.
func (r *armRequest) answer(status int, v any) error {
	r.status = status
	if v == nil {
		return nil
	}
	body, err := json.Marshal(v)
	r.body = body
	return err
}

func (r *armRequest) send() {
	if r.body != nil {
		r.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	r.w.WriteHeader(r.status)
	_, _ = r.w.Write(r.body) // a client that went away is its own business
}

// bodyLimit is ARM's limit for a request body.
const bodyLimit = 4 << 20

// decode reads the body strictly into v: a property that Azure does not know is refused, as is anything after the object.
// An empty body leaves v alone and is told by false.
func (r *armRequest) decode(v any) (bool, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, bodyLimit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return false, armErrorf(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request entity is larger than the maximum of %d bytes.", bodyLimit)
		}
		return false, armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content could not be read: '%v'.", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return false, nil
	}
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
		return false, armErrorf(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The content media type '%s' is not supported. Only 'application/json' is supported.", ct)
	}
	return true, decodeStrict(raw, v)
}

// decodeStrict decodes one JSON value into v.
func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is content after the JSON value")
		}
	}
	if err == nil {
		return nil
	}
	message := err.Error()
	if field, ok := strings.CutPrefix(message, "json: unknown field "); ok {
		message = "Could not find member " + strings.ReplaceAll(field, `"`, "'") + " on the object"
	}
	return armErrorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%s'.", message)
}

// page answers one page of a list, with Azure's nextLink.
func page[T any](r *armRequest, all []T) error {
	start := 0
	if token := r.URL.Query().Get("$skiptoken"); token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > len(all) {
			return armErrorf(http.StatusBadRequest, "InvalidSkipToken", "The skip token '%s' is invalid.", token)
		}
		start = n
	}
	if f := r.URL.Query().Get("$filter"); f != "" {
		return armErrorf(http.StatusBadRequest, "InvalidFilterInQueryString", "azuresim evaluates no $filter; '%s' was sent.", f)
	}
	end := min(start+r.sim.limits.page, len(all))
	answer := map[string]any{"value": append([]T{}, all[start:end]...)}
	if end < len(all) {
		next := url.URL{Path: r.path, RawQuery: url.Values{"api-version": {r.version}, "$skiptoken": {strconv.Itoa(end)}}.Encode()}
		answer["nextLink"] = r.sim.baseURL(r.Request) + next.String()
	}
	return r.answer(http.StatusOK, answer)
}

// notFound is ARM's answer for a resource that is not there.
func (r *armRequest) notFound(kind, name string) error {
	return armErrorf(http.StatusNotFound, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", kind, name, r.vars["rg"])
}

// operation is one long-running operation. s.mu guards it.
type operation struct {
	id       string
	owner    string // object id of who started it
	started  time.Time
	due      time.Time
	done     bool
	failure  *armError
	result   any        // body of the Location poll when done; nil: 204
	resultOf func() any // instead of result, when it is known only at the end
}

// begin registers an operation that runs finish with s.mu held once its time has come; finish may fail it.
// s.mu is held. With no delay it is done on return.
func (r *armRequest) begin(result any, finish func(failure *armError)) *operation {
	op := &operation{id: newGUID(), owner: r.who.ObjectID, started: time.Now(), result: result}
	r.sim.forgetOperations()
	r.sim.operations[op.id] = op
	if f := r.sim.faults.take(r.Method, r.path, FaultOperation); f != nil {
		op.failure = &armError{Status: http.StatusConflict, Code: f.Code, Message: f.Message}
	}
	delay := r.sim.dice.in(r.sim.delays.Operation)
	op.due = op.started.Add(delay)
	r.sim.after(delay, func() {
		op.done = true
		finish(op.failure)
	})
	return op
}

// operationsKept and operationLife bound the memory of operations that are over.
const (
	operationsKept = 1000
	operationLife  = time.Hour
)

// forgetOperations drops old operations when there are many; s.mu is held.
func (s *Simulator) forgetOperations() {
	if len(s.operations) < operationsKept {
		return
	}
	for id, op := range s.operations {
		if op.done && time.Since(op.started) > operationLife {
			delete(s.operations, id)
		}
	}
}

// pollHeaders name the URL at which the operation can be asked for.
func (r *armRequest) pollHeaders(op *operation, header, collection string) {
	u := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.App/locations/%s/%s/%s?api-version=%s", r.sim.baseURL(r.Request),
		r.sim.world.Subscription, r.sim.world.Location, collection, op.id, r.version)
	r.w.Header().Set(header, u)
	r.w.Header().Set("Retry-After", op.retryAfter())
}

// retryAfter is the whole seconds until the operation is over, at most five; 0 leaves the pace to the client.
func (op *operation) retryAfter() string {
	return strconv.Itoa(int(min(max(time.Until(op.due), 0), 5*time.Second).Seconds()))
}

func (r *armRequest) asyncOperation(op *operation) {
	r.pollHeaders(op, "Azure-AsyncOperation", "containerappsjobOperationStatuses")
}

func (r *armRequest) location(op *operation) {
	r.pollHeaders(op, "Location", "containerappsjobOperationResults")
}

func (r *armRequest) findOperation() (*operation, error) {
	op := r.sim.operations[r.vars["operation"]]
	if op == nil || op.owner != r.who.ObjectID {
		return nil, armErrorf(http.StatusNotFound, "OperationNotFound", "The operation '%s' was not found.", r.vars["operation"])
	}
	return op, nil
}

// getOperationStatus answers a poll of Azure-AsyncOperation: 200 whatever the state, which is in the body.
func getOperationStatus(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	op, err := r.findOperation()
	if err != nil {
		return err
	}
	body := map[string]any{"id": r.path, "name": op.id, "status": "InProgress", "startTime": armTime(op.started)}
	switch {
	case !op.done:
		r.w.Header().Set("Retry-After", op.retryAfter())
	case op.failure != nil:
		body["status"] = "Failed"
		body["error"] = map[string]any{"code": op.failure.Code, "message": op.failure.Message}
	default:
		body["status"] = "Succeeded"
	}
	return r.answer(http.StatusOK, body)
}

// getOperationResult answers a poll of Location: 202 until the operation is over, then its result.
func getOperationResult(r *armRequest) error {
	r.sim.mu.Lock()
	defer r.sim.mu.Unlock()
	op, err := r.findOperation()
	switch {
	case err != nil:
		return err
	case !op.done:
		r.location(op)
		return r.answer(http.StatusAccepted, nil)
	case op.failure != nil:
		return op.failure
	case op.resultOf != nil:
		return r.answer(http.StatusOK, op.resultOf())
	case op.result == nil:
		return r.answer(http.StatusNoContent, nil)
	}
	return r.answer(http.StatusOK, op.result)
}

// armTime writes an instant as Microsoft.App does.
func armTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

// tokenErrorCode is ARM's code for a token that cannot be used.
func tokenErrorCode(err error) string {
	if errors.Is(err, jwt.ErrTokenExpired) {
		return "ExpiredAuthenticationToken"
	}
	return "InvalidAuthenticationToken"
}
