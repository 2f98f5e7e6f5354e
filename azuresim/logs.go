package azuresim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Names of the tables that Container Apps writes.
const (
	consoleTable = "ContainerAppConsoleLogs_CL"
	systemTable  = "ContainerAppSystemLogs_CL"
)

// What a table keeps; the oldest rows go first.
const (
	rowsKept  = 50_000
	bytesKept = 16 << 20 // of lines
)

// fieldLimit is where Log Analytics cuts a text column.
const fieldLimit = 32 << 10

// logStore is what the Log Analytics workspaces have. Tables and columns exist from their first row on, and a row is
// there once its ingestion is over.
type logStore struct {
	sim    *Simulator
	mu     sync.Mutex
	tables map[logTableKey]*logTable
}

type logTableKey struct{ workspace, table string } // workspace: its customer id, in lower case

type logTable struct {
	columns []logColumn
	rows    []logRow
	bytes   int
}

type logColumn struct {
	name  string
	kind  kqlType
	since time.Time // ingestion of the first row with a value
}

type logRow struct {
	ingested time.Time
	cells    []any // by column; those that came later than the row are missing
	bytes    int
}

// standardColumns are in every custom table as soon as it exists.
var standardColumns = []logColumn{
	{name: "TenantId", kind: typeGUID}, {name: "SourceSystem", kind: typeString}, {name: "MG", kind: typeString},
	{name: "ManagementGroupName", kind: typeString}, {name: "TimeGenerated", kind: typeDatetime},
	{name: "Computer", kind: typeString}, {name: "RawData", kind: typeString}, {name: "Type", kind: typeString}, {name: "_ResourceId", kind: typeString},
}

func newLogStore(s *Simulator) *logStore {
	return &logStore{sim: s, tables: map[logTableKey]*logTable{}}
}

// consoleRow is one line of a container.
type consoleRow struct {
	workspace, environment                  string // customer id, and the environment's name as rows have it
	owner                                   owner
	replica, container, image, stream, line string
	time                                    time.Time
}

// systemRow is one event of a replica, or of its owner when replica is empty.
type systemRow struct {
	workspace, environment string
	owner                  owner
	replica                string
	event                  Event
}

// console takes a line; it becomes a row after the ingestion delay. An environment without a workspace drops it.
func (l *logStore) console(r consoleRow) {
	row := map[string]any{
		"Category": "ContainerAppConsoleLogs", "ContainerGroupName_s": r.replica,
		"ContainerImage_s": r.image, "ContainerName_s": r.container, "EnvironmentName_s": r.environment,
		"Log_s": r.line[:min(len(r.line), fieldLimit)], "Stream_s": r.stream, "time_t": ticks(r.time),
		// The batch's time, equal for several lines, as it is live.
		"_timestamp_d": float64(r.time.Truncate(500*time.Millisecond).UnixMilli()) / 1000,
	}
	if r.owner.app != "" {
		row["ContainerAppName_s"], row["RevisionName_s"] = r.owner.app, r.owner.revision
	} else {
		row["ContainerJobName_s"] = r.owner.job
	}
	l.ingest(r.workspace, consoleTable, row)
}

// system takes an event of the system log.
func (l *logStore) system(r systemRow) {
	row := map[string]any{
		"Category": "ContainerAppSystemLogs", "EnvironmentName_s": r.environment,
		"EventSource_s": "ContainerAppController", "Reason_s": r.event.Reason, "Log_s": r.event.Message, "Type_s": r.event.Type,
		"time_s": r.event.Time.UTC().Format(time.RFC3339Nano),
	}
	if r.owner.app != "" {
		row["ContainerAppName_s"], row["RevisionName_s"] = r.owner.app, r.owner.revision
	} else {
		row["JobName_s"], row["ExecutionName_s"] = r.owner.job, r.owner.execution
	}
	if r.replica != "" {
		row["ReplicaName_s"] = r.replica
	}
	if r.event.Container != "" {
		row["ContainerName_s"] = r.event.Container
	}
	l.ingest(r.workspace, systemTable, row)
}

func (l *logStore) ingest(workspace, table string, row map[string]any) {
	if _, ok := l.sim.workspaceOf("/workspaces/" + workspace); !ok {
		return
	}
	at := time.Now().Add(l.sim.dice.in(l.sim.delays.Ingestion))
	row["TenantId"], row["SourceSystem"], row["TimeGenerated"] = workspace, "RestAPI", ticks(at)
	row["Type"] = table
	for _, empty := range []string{"MG", "ManagementGroupName", "Computer", "RawData", "_ResourceId"} {
		row[empty] = ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(workspace, table, at, row)
}

// ticks cuts an instant to the 100 ns that Log Analytics keeps.
func ticks(t time.Time) time.Time { return t.UTC().Truncate(100) }

// add appends a row; l.mu is held.
func (l *logStore) add(workspace, table string, ingested time.Time, row map[string]any) {
	key := logTableKey{strings.ToLower(workspace), table}
	t := l.tables[key]
	if t == nil {
		t = &logTable{columns: slices.Clone(standardColumns)}
		l.tables[key] = t
	}
	r := logRow{ingested: ingested}
	for _, name := range slices.Sorted(maps.Keys(row)) {
		i := slices.IndexFunc(t.columns, func(c logColumn) bool { return c.name == name })
		if i < 0 {
			i = len(t.columns)
			t.columns = append(t.columns, logColumn{name: name, kind: kindOfColumn(name), since: ingested})
		} else if t.columns[i].since.After(ingested) {
			t.columns[i].since = ingested
		}
		for len(r.cells) <= i {
			r.cells = append(r.cells, nil)
		}
		r.cells[i] = row[name]
		if text, ok := row[name].(string); ok && name == "Log_s" {
			r.bytes = len(text)
		}
	}
	t.rows = append(t.rows, r)
	t.bytes += r.bytes
	for len(t.rows) > rowsKept || t.bytes > bytesKept {
		t.bytes -= t.rows[0].bytes
		t.rows[0] = logRow{}
		t.rows = t.rows[1:] // what is before the first row goes when append moves the rest
	}
}

// kindOfColumn tells a column's type from its name, as the suffixes of custom tables do.
func kindOfColumn(name string) kqlType {
	switch {
	case name == "TimeGenerated" || strings.HasSuffix(name, "_t"):
		return typeDatetime
	case name == "TenantId" || strings.HasSuffix(name, "_g"):
		return typeGUID
	case strings.HasSuffix(name, "_d"):
		return typeReal
	case strings.HasSuffix(name, "_b"):
		return typeBool
	}
	return typeString
}

// LoadRows puts recorded rows into the world's workspace, as if they had been ingested already; a value is a string as the
// query API's clients print it, or has its JSON type. The table comes from each row's Type.
func (s *Simulator) LoadRows(rows []map[string]any) error {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	for i, row := range rows {
		table, _ := row["Type"].(string)
		if table == "" {
			return fmt.Errorf("cannot load row %d: it has no Type", i)
		}
		typed := map[string]any{}
		for name, v := range row {
			if name == "TableName" { // the name of the answer's table, which azure-cli adds
				continue
			}
			value, err := parseCell(kindOfColumn(name), v)
			if err != nil {
				return fmt.Errorf("cannot load row %d: column %s: %w", i, name, err)
			}
			typed[name] = value
		}
		s.logs.add(s.world.WorkspaceCustomerID, table, time.Time{}, typed)
	}
	return nil
}

func parseCell(kind kqlType, v any) (any, error) {
	text, ok := v.(string)
	if !ok {
		return v, nil
	}
	switch kind {
	case typeDatetime:
		t, err := time.Parse(time.RFC3339Nano, text)
		return t.UTC(), err
	case typeReal:
		return strconv.ParseFloat(text, 64)
	case typeBool:
		return strconv.ParseBool(text)
	}
	return text, nil
}

// drop forgets what a workspace has.
func (l *logStore) drop(workspace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.tables, func(key logTableKey, _ *logTable) bool { return key.workspace == strings.ToLower(workspace) })
}

// snapshot is the table as a query sees it now; false if it does not exist yet.
func (l *logStore) snapshot(workspace, table string, span timespan, now time.Time) (relation, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tables[logTableKey{strings.ToLower(workspace), table}]
	var rel relation
	if t == nil {
		return rel, false
	}
	var visible []logRow
	for _, r := range t.rows {
		if !r.ingested.After(now) {
			visible = append(visible, r)
		}
	}
	if len(visible) == 0 {
		return rel, false
	}
	var shown []int // indexes of the columns that exist by now
	generated := 0
	for i, c := range t.columns {
		if !c.since.After(now) {
			rel.columns = append(rel.columns, column{c.name, c.kind})
			shown = append(shown, i)
		}
		if c.name == "TimeGenerated" {
			generated = i
		}
	}
	for _, r := range visible {
		if at, ok := r.cell(generated).(time.Time); ok && !span.contains(at) {
			continue
		}
		cells := make([]any, len(shown))
		for i, index := range shown {
			cells[i] = r.cell(index)
		}
		rel.rows = append(rel.rows, cells)
	}
	return rel, true
}

func (r *logRow) cell(i int) any {
	if i < len(r.cells) {
		return r.cells[i]
	}
	return nil
}

func (l *logStore) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.tables)
}

// logsError is an error as the query API answers it.
type logsError struct {
	status        int
	code, message string
	inner         map[string]any
}

func (e *logsError) Error() string { return e.code + ": " + e.message }

// serveLogs answers POST /v1/workspaces/{customerId}/query and /v1{resourceId}/query; path is without /v1.
func (s *Simulator) serveLogs(w http.ResponseWriter, r *http.Request, path string) {
	answer, err := s.queryLogs(w, r, path)
	if err != nil {
		var le *logsError
		if !errors.As(err, &le) {
			le = &logsError{status: http.StatusInternalServerError, code: "InternalServerError", message: err.Error()}
		}
		body := map[string]any{"code": le.code, "message": le.message, "correlationId": newGUID()}
		if le.inner != nil {
			body["innererror"] = le.inner
		}
		writeJSON(w, le.status, map[string]any{"error": body})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

type logsQuery struct {
	Query      string   `json:"query"`
	Timespan   string   `json:"timespan,omitempty"`
	Workspaces []string `json:"workspaces,omitempty"`
}

// queryLimit bounds the body of a query.
const queryLimit = 1 << 20

func (s *Simulator) queryLogs(w http.ResponseWriter, r *http.Request, path string) (map[string]any, error) {
	path, isQuery := strings.CutSuffix(path, "/query")
	if !isQuery {
		return nil, &logsError{status: http.StatusNotFound, code: "PathNotFoundError", message: "The requested path does not exist"}
	}
	if r.Method != http.MethodPost {
		return nil, &logsError{status: http.StatusMethodNotAllowed, code: "MethodNotAllowedError", message: "azuresim answers queries by POST only"}
	}
	who, err := s.authenticateLogs(r)
	if err != nil {
		return nil, err
	}
	noteIdentity(r.Context(), who.Name)
	workspace, ok := s.workspaceOf(path)
	if !ok {
		return nil, &logsError{status: http.StatusNotFound, code: "PathNotFoundError", message: "The workspace could not be found"}
	}
	if !s.access.allowed(who.ObjectID, "Microsoft.OperationalInsights/workspaces/query/read", workspace.id) {
		return nil, &logsError{status: http.StatusForbidden, code: "InsufficientAccessError", message: "The provided credentials have insufficient access to perform the requested operation"}
	}
	if s.dice.chance(s.chance.throttle) {
		w.Header().Set("Retry-After", "1")
		return nil, &logsError{status: http.StatusTooManyRequests, code: "ThrottledError", message: "The query was throttled. Please retry after the time in the Retry-After header."}
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, queryLimit))
	if err != nil {
		return nil, badQuery("The request body could not be read", nil)
	}
	var q logsQuery
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, badQuery("The request body is not valid JSON", nil)
	}
	if strings.TrimSpace(q.Query) == "" {
		return nil, badQuery("A query is required", nil)
	}
	if len(q.Workspaces) > 0 {
		return nil, badQuery("azuresim queries one workspace at a time; 'workspaces' must be empty", nil)
	}
	span, err := parseTimespan(q.Timespan, time.Now())
	if err != nil {
		return nil, badQuery("The timespan '"+q.Timespan+"' is not valid", nil)
	}
	rel, err := s.logs.run(workspace.customerID, q.Query, span)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	if s.faults.take(r.Method, r.URL.Path, FaultPartial) != nil {
		rel.rows = rel.rows[:len(rel.rows)/2]
		answer["error"] = map[string]any{"code": "PartialError", "message": "There were some errors when processing your query.",
			"details": []any{map[string]any{"code": "EngineError", "message": "Something went wrong processing your query on the server.",
				"innererror": map[string]any{"code": "-2133196797", "severity": 2, "severityName": "Error", "message": "The results of this query exceed the set limit."}}}}
	}
	answer["tables"] = []any{rel.table()}
	return answer, nil
}

func badQuery(message string, inner map[string]any) *logsError {
	return &logsError{status: http.StatusBadRequest, code: "BadArgumentError", message: message, inner: inner}
}

func (s *Simulator) authenticateLogs(r *http.Request) (*Principal, error) {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, &logsError{status: http.StatusUnauthorized, code: "AuthorizationRequiredError", message: "Valid authentication was not provided"}
	}
	invalid := &logsError{status: http.StatusForbidden, code: "InvalidTokenError", message: "The provided authentication is not valid for this resource"}
	c, err := s.entra.read(raw, s.entra.issuer())
	if err != nil {
		invalid.inner = map[string]any{"code": "SignatureInvalid", "message": "Could not validate the request: " + err.Error()}
		return nil, invalid
	}
	if !c.hasAudience(audienceLogs) && !s.ownURL(r, c.Audience) {
		invalid.inner = map[string]any{"code": "InvalidAudience", "message": "The audience '" + c.Audience + "' is not valid for this resource"}
		return nil, invalid
	}
	p := s.entra.byObjectID(c.ObjectID)
	if p == nil {
		return nil, invalid
	}
	return p, nil
}

// run evaluates a query. In an unkind simulator rows without an order come in none.
func (l *logStore) run(workspace, query string, span timespan) (relation, error) {
	q, err := parseKQL(query)
	if err != nil {
		return relation{}, err
	}
	now := time.Now()
	rel, ok := l.snapshot(workspace, q.table, span, now)
	if !ok {
		return relation{}, semantic("SEM0100", "'%s' operator: Failed to resolve table or column expression named '%s'", q.firstOperator(), q.table)
	}
	if l.sim.delays.Ingestion.Max > 0 {
		for i := len(rel.rows) - 1; i > 0; i-- {
			j := l.sim.dice.below(i + 1)
			rel.rows[i], rel.rows[j] = rel.rows[j], rel.rows[i]
		}
	}
	return q.eval(rel, now)
}

// timespan is the span of TimeGenerated that a query is about; zero bounds are open.
type timespan struct{ from, to time.Time }

func (t timespan) contains(at time.Time) bool {
	return (t.from.IsZero() || !at.Before(t.from)) && (t.to.IsZero() || !at.After(t.to))
}

// parseTimespan reads an ISO 8601 interval: start/end, start/duration, duration/end or a duration that ends now.
func parseTimespan(s string, now time.Time) (timespan, error) {
	if s == "" {
		return timespan{}, nil
	}
	first, second, interval := strings.Cut(s, "/")
	if !interval {
		d, err := parseISODuration(first)
		return timespan{now.Add(-d), now}, err
	}
	if strings.HasPrefix(first, "P") {
		d, err := parseISODuration(first)
		to, err2 := time.Parse(time.RFC3339Nano, second)
		return timespan{to.Add(-d), to}, errors.Join(err, err2)
	}
	from, err := time.Parse(time.RFC3339Nano, first)
	if strings.HasPrefix(second, "P") {
		d, err2 := parseISODuration(second)
		return timespan{from, from.Add(d)}, errors.Join(err, err2)
	}
	to, err2 := time.Parse(time.RFC3339Nano, second)
	return timespan{from, to}, errors.Join(err, err2)
}

// parseISODuration reads days, hours, minutes and seconds; years and months have no fixed length and are refused.
func parseISODuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("cannot read duration %q", s)
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" {
		return 0, bad
	}
	units := map[byte]time.Duration{'D': 24 * time.Hour}
	var total float64
	for rest != "" {
		if rest[0] == 'T' {
			units = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}
			if rest = rest[1:]; rest == "" {
				return 0, bad
			}
			continue
		}
		i := strings.IndexFunc(rest, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
		if i <= 0 {
			return 0, bad
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		unit, known := units[rest[i]]
		if err != nil || !known {
			return 0, bad
		}
		total += n * float64(unit)
		rest = rest[i+1:]
	}
	if total > math.MaxInt64 {
		return 0, bad
	}
	return time.Duration(total), nil
}
