package azuresim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

// tableService is the Table service of a storage account. Azure serves it at ACCOUNT.table.SUFFIX; here, as in other
// simulators, the account may be the first word of the path instead: /ACCOUNT/TABLE. Only what a store of entities needs is
// served: tables are made, entities got, listed, inserted, updated, merged and deleted, alone or in a transaction.
type tableService struct {
	sim *Simulator
	id  string           // ARM id of the account
	dir string           // where the tables outlive the simulator; empty: nowhere
	now func() time.Time // the storage's own clock

	mu     sync.Mutex
	tables map[string]*entityTable // by lower-case name
	last   time.Time               // of the newest Timestamp: no two writes have the same
}

// entityTable is one table. Its rows are by PartitionKey, a zero byte, and RowKey.
type entityTable struct {
	Name string
	rows map[string]*entityRow
}

type entityRow struct {
	Properties map[string]json.RawMessage `json:"p"` // as they were sent, types included
	Timestamp  time.Time                  `json:"t"`
}

// Limits of the Table service.
const (
	tableKeyUnits      = 512 // UTF-16 units of a key: 1 KiB
	tableProperty      = 64 << 10
	tableEntity        = 1 << 20
	tableProperties    = 252
	tableBatch         = 100
	tableBatchBytes    = 4 << 20
	tablePage          = 1000
	tableContributor   = "Storage Table Data Contributor"
	tableActions       = "Microsoft.Storage/storageAccounts/tableServices/tables/"
	tableVersionHeader = "X-Ms-Version"
)

var (
	tableName         = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,62}$`)
	tablePropertyName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_]{0,254}$`)
	tableEntityPath   = regexp.MustCompile(`^([A-Za-z0-9]+)\(PartitionKey='((?:[^']|'')*)',RowKey='((?:[^']|'')*)'\)$`)
)

// tableError is a refusal in the service's words.
type tableError struct {
	status  int
	code    string
	message string
}

func (e *tableError) Error() string { return e.code + ": " + e.message }

func refuseTable(status int, code, format string, args ...any) error {
	return &tableError{status, code, fmt.Sprintf(format, args...)}
}

var (
	errNoTable    = refuseTable(http.StatusNotFound, "TableNotFound", "The table specified does not exist.")
	errNoEntity   = refuseTable(http.StatusNotFound, "ResourceNotFound", "The specified resource does not exist.")
	errEntity     = refuseTable(http.StatusConflict, "EntityAlreadyExists", "The specified entity already exists.")
	errCondition  = refuseTable(http.StatusPreconditionFailed, "UpdateConditionNotSatisfied", "The update condition specified in the request was not satisfied.")
	errTableInput = refuseTable(http.StatusBadRequest, "InvalidInput", "One of the request inputs is not valid.")
)

// openTables reads what is in dir, unless that is empty.
func openTables(s *Simulator, account, dir string) (*tableService, error) {
	t := &tableService{sim: s, id: account, dir: dir, now: s.clock, tables: map[string]*entityTable{}}
	if s.storageClock != nil {
		t.now = s.storageClock
	}
	if s.temporary {
		t.dir = "" // nobody will read it
	}
	return t, t.load()
}

// tablesAt finds the Table service that a request is for, and the path below its account. There is none if it is for another
// service.
func (s *Simulator) tablesAt(r *http.Request, path string) (t *tableService, rest string) {
	rest = strings.TrimPrefix(path, "/")
	account, byName := strings.CutSuffix(strings.ToLower(hostOf(r.Host)), ".table."+storageSuffix)
	if !byName {
		account, rest, _ = strings.Cut(rest, "/")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[account], rest
}

// serve answers one request below /ACCOUNT/.
func (t *tableService) serve(w http.ResponseWriter, r *http.Request, rest string) {
	w.Header().Set("Date", t.now().UTC().Format(http.TimeFormat))
	w.Header().Set("X-Ms-Version", r.Header.Get(tableVersionHeader))
	w.Header().Set("X-Ms-Request-Id", newGUID())
	who, err := t.authenticate(r)
	if err != nil {
		w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/"+t.sim.world.Tenant+"/oauth2/authorize resource_id="+audienceStorage)
		writeTableError(w, err)
		return
	}
	if t.sim.dice.chance(t.sim.chance.throttle) {
		writeTableError(w, refuseTable(http.StatusServiceUnavailable, "ServerBusy", "The server is currently unable to receive requests. Please retry your request."))
		return
	}
	if t.sim.dice.chance(t.sim.chance.dropWrite) { // what a client must live with: it is done, and nobody says so
		t.answer(&keptAnswer{header: http.Header{}}, r, rest, who)
		dropConnection()
	}
	t.answer(w, r, rest, who)
}

// authenticate takes Entra's tokens for the storage's audience. There are no account keys for tables here.
func (t *tableService) authenticate(r *http.Request) (*Principal, error) {
	if r.Header.Get(tableVersionHeader) == "" {
		return nil, refuseTable(http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: x-ms-version.")
	}
	raw, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		if r.Header.Get("Authorization") != "" {
			return nil, refuseTable(http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.")
		}
		return nil, refuseTable(http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	}
	c, err := t.sim.entra.read(raw, t.sim.entra.issuer())
	if err != nil || !c.hasAudience(audienceStorage) {
		return nil, refuseTable(http.StatusUnauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	}
	who := t.sim.entra.byObjectID(c.ObjectID)
	if who == nil {
		return nil, refuseTable(http.StatusUnauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
	}
	noteIdentity(r.Context(), who.Name)
	return who, nil
}

// permit asks for one of the actions on a table. Those on its entities are of the data plane.
func (t *tableService) permit(who *Principal, table string, actions ...string) error {
	scope := t.id + "/tableServices/default/tables/" + table
	for _, a := range actions {
		allowed := t.sim.access.allowed
		if strings.HasPrefix(a, "entities/") {
			allowed = t.sim.access.allowedData
		}
		if allowed(who.ObjectID, tableActions+a, scope) {
			return nil
		}
	}
	return refuseTable(http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
}

func (t *tableService) answer(w http.ResponseWriter, r *http.Request, rest string, who *Principal) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, tableBatchBytes+1))
	if err != nil {
		writeTableError(w, refuseTable(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit."))
		return
	}
	full := strings.Contains(r.URL.Query().Get("$format")+r.Header.Get("Accept"), "odata=fullmetadata")
	switch {
	case rest == "Tables" && r.Method == http.MethodPost:
		err = t.create(w, body, who)
	case rest == "$batch" && r.Method == http.MethodPost:
		err = t.batch(w, r, body, who)
	case strings.HasSuffix(rest, "()") && r.Method == http.MethodGet:
		err = t.list(w, r.URL.Query(), strings.TrimSuffix(rest, "()"), full, who)
	case tableEntityPath.MatchString(rest) && r.Method == http.MethodGet:
		err = t.get(w, rest, full, who)
	default:
		var op *entityOperation
		if op, err = t.operation(r.Method, rest, r.Header, body); err == nil {
			err = t.single(w, op, r.Header.Get("Prefer") == "return-no-content", full, who)
		}
	}
	if err != nil {
		writeTableError(w, err)
	}
}

func (t *tableService) create(w http.ResponseWriter, body []byte, who *Principal) error {
	var in struct{ TableName string }
	if json.Unmarshal(body, &in) != nil || !tableName.MatchString(in.TableName) {
		return refuseTable(http.StatusBadRequest, "InvalidResourceName", "The specified resource name contains invalid characters.")
	}
	if err := t.permit(who, in.TableName, "write"); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tables[strings.ToLower(in.TableName)] != nil {
		return refuseTable(http.StatusConflict, "TableAlreadyExists", "The table specified already exists.")
	}
	table := &entityTable{Name: in.TableName, rows: map[string]*entityRow{}}
	if err := t.save(table, nil); err != nil {
		return err
	}
	t.tables[strings.ToLower(in.TableName)] = table
	writeJSON(w, http.StatusCreated, map[string]any{"TableName": in.TableName})
	return nil
}

func (t *tableService) get(w http.ResponseWriter, path string, full bool, who *Principal) error {
	m := tableEntityPath.FindStringSubmatch(path)
	if err := t.permit(who, m[1], "entities/read"); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.tables[strings.ToLower(m[1])]
	if table == nil {
		return errNoTable
	}
	row := table.rows[entityKey(unquote(m[2]), unquote(m[3]))]
	if row == nil {
		return errNoEntity
	}
	w.Header().Set("ETag", row.etag())
	writeJSON(w, http.StatusOK, row.show(full))
	return nil
}

// list answers a page of the entities that the filter selects, in the order of their keys.
func (t *tableService) list(w http.ResponseWriter, q url.Values, name string, full bool, who *Principal) error {
	if err := t.permit(who, name, "entities/read"); err != nil {
		return err
	}
	selects, err := parseTableFilter(q.Get("$filter"))
	if err != nil {
		return err
	}
	size := tablePage
	if top := q.Get("$top"); top != "" {
		if size, err = strconv.Atoi(top); err != nil || size < 1 || size > tablePage {
			return errTableInput
		}
	}
	if t.sim.chance.dropWrite > 0 { // unkind: Azure ends a page where it likes, before the first entity even
		size = min(size, []int{0, 1, 50, size}[t.sim.dice.below(4)])
		if q.Get("NextRowKey") != "" {
			size = max(size, 1)
		}
	}
	from := entityKey(q.Get("NextPartitionKey"), q.Get("NextRowKey"))
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.tables[strings.ToLower(name)]
	if table == nil {
		return errNoTable
	}
	value := []any{}
	for _, key := range slices.Sorted(maps.Keys(table.rows)) {
		pk, rk, _ := strings.Cut(key, "\x00")
		if key < from || !selects(pk, rk) {
			continue
		}
		if len(value) >= size {
			w.Header().Set("X-Ms-Continuation-NextPartitionKey", pk)
			w.Header().Set("X-Ms-Continuation-NextRowKey", rk)
			break
		}
		value = append(value, table.rows[key].show(full))
	}
	writeJSON(w, http.StatusOK, map[string]any{"odata.metadata": "$metadata#" + name, "value": value})
	return nil
}

// entityOperation is one write.
type entityOperation struct {
	method     string
	table      string
	pk, rk     string
	ifMatch    string
	properties map[string]json.RawMessage
}

// operation reads a write, and refuses what no entity can be.
func (t *tableService) operation(method, path string, h http.Header, body []byte) (*entityOperation, error) {
	op := &entityOperation{method: method, ifMatch: h.Get("If-Match")}
	switch m := tableEntityPath.FindStringSubmatch(path); {
	case m != nil && (method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete):
		op.table, op.pk, op.rk = m[1], unquote(m[2]), unquote(m[3])
	case m == nil && method == http.MethodPost && tableName.MatchString(path):
		op.table = path
	default:
		return nil, refuseTable(http.StatusNotImplemented, "NotImplemented", "The requested operation is not implemented on the specified resource.")
	}
	if method == http.MethodDelete {
		if op.ifMatch == "" {
			return nil, refuseTable(http.StatusBadRequest, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified: If-Match.")
		}
		return op, checkEntityKeys(op.pk, op.rk)
	}
	if json.Unmarshal(body, &op.properties) != nil {
		return nil, errTableInput
	}
	var pk, rk *string
	for name, to := range map[string]**string{"PartitionKey": &pk, "RowKey": &rk} {
		if raw, ok := op.properties[name]; ok && json.Unmarshal(raw, to) != nil {
			return nil, errTableInput
		}
	}
	if method == http.MethodPost {
		if pk == nil || rk == nil {
			return nil, refuseTable(http.StatusBadRequest, "PropertiesNeedValue", "The values are not specified for all properties in the entity.")
		}
		op.pk, op.rk = *pk, *rk
	} else if pk != nil && *pk != op.pk || rk != nil && *rk != op.rk {
		return nil, errTableInput
	}
	if err := checkEntityKeys(op.pk, op.rk); err != nil {
		return nil, err
	}
	for _, system := range []string{"PartitionKey", "RowKey", "Timestamp", "odata.metadata", "odata.etag", "odata.type", "odata.id", "odata.editLink"} {
		delete(op.properties, system)
	}
	return op, checkProperties(op.pk, op.rk, op.properties)
}

func checkEntityKeys(keys ...string) error {
	for _, k := range keys {
		if len(utf16.Encode([]rune(k))) > tableKeyUnits {
			return refuseTable(http.StatusBadRequest, "KeyValueTooLarge", "The key property value is too large: it must be at most 1 KiB.")
		}
		if strings.ContainsFunc(k, func(r rune) bool {
			return r < 0x20 || r >= 0x7f && r <= 0x9f || strings.ContainsRune(`/\#?`, r)
		}) {
			return refuseTable(http.StatusBadRequest, "OutOfRangeInput", "The key property value contains characters that are not allowed in keys.")
		}
	}
	return nil
}

// checkProperties holds an entity to the service's limits.
func checkProperties(pk, rk string, properties map[string]json.RawMessage) error {
	units := func(s string) int { return 2 * len(utf16.Encode([]rune(s))) }
	size, n := 4+units(pk)+units(rk), 0
	for name, raw := range properties {
		if strings.HasSuffix(name, "@odata.type") {
			continue
		}
		if !tablePropertyName.MatchString(name) {
			return refuseTable(http.StatusBadRequest, "PropertyNameInvalid", "The property name is invalid.")
		}
		n++
		size += 8 + units(name)
		var text string
		if json.Unmarshal(raw, &text) != nil {
			size += 8
			continue
		}
		length := 4 + units(text)
		if string(properties[name+"@odata.type"]) == `"Edm.Binary"` {
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return errTableInput
			}
			length = 4 + len(b)
		}
		if length-4 > tableProperty {
			return refuseTable(http.StatusBadRequest, "PropertyValueTooLarge", "The property value exceeds the maximum allowed size (64KB). If the property value is a string, it is UTF-16 encoded and the maximum number of characters should be 32K or less.")
		}
		size += length
	}
	switch {
	case n > tableProperties:
		return refuseTable(http.StatusBadRequest, "TooManyProperties", "The entity contains more properties than allowed. Each entity can include up to 252 properties to store data.")
	case size > tableEntity:
		return refuseTable(http.StatusBadRequest, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).")
	}
	return nil
}

// action is what an operation asks for: any of these.
func (op *entityOperation) actions() []string {
	switch {
	case op.method == http.MethodPost:
		return []string{"entities/write", "entities/add/action"}
	case op.method == http.MethodDelete:
		return []string{"entities/delete"}
	case op.ifMatch == "":
		return []string{"entities/write"}
	}
	return []string{"entities/write", "entities/update/action"}
}

// single makes one write.
func (t *tableService) single(w http.ResponseWriter, op *entityOperation, quiet, full bool, who *Principal) error {
	if err := t.permit(who, op.table, op.actions()...); err != nil {
		return err
	}
	rows, _, err := t.apply([]*entityOperation{op})
	if err != nil {
		return err
	}
	if row := rows[0]; row != nil {
		w.Header().Set("ETag", row.etag())
		if op.method == http.MethodPost && !quiet {
			writeJSON(w, http.StatusCreated, row.show(full))
			return nil
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// apply makes all the writes or none; i is the one that is refused.
func (t *tableService) apply(ops []*entityOperation) (rows []*entityRow, i int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.tables[strings.ToLower(ops[0].table)]
	if table == nil {
		return nil, 0, errNoTable
	}
	changes := map[string]*entityRow{}
	for i, op := range ops {
		key := entityKey(op.pk, op.rk)
		row, err := t.change(table.rows[key], op)
		if err != nil {
			return nil, i, err
		}
		changes[key] = row
		rows = append(rows, row)
	}
	if err := t.save(table, changes); err != nil {
		return nil, 0, err
	}
	table.change(changes)
	return rows, 0, nil
}

// change is what an operation makes of a row; nil: it is gone. t.mu is held.
func (t *tableService) change(old *entityRow, op *entityOperation) (*entityRow, error) {
	switch {
	case op.method == http.MethodPost && old != nil:
		return nil, errEntity
	case op.method != http.MethodPost && op.ifMatch != "" && old == nil:
		return nil, errNoEntity
	case op.ifMatch != "" && op.ifMatch != "*" && old.etag() != op.ifMatch:
		return nil, errCondition
	case op.method == http.MethodDelete:
		return nil, nil
	}
	row := &entityRow{Properties: map[string]json.RawMessage{}, Timestamp: t.tick()}
	if op.method == http.MethodPatch && old != nil {
		maps.Copy(row.Properties, old.Properties)
	}
	maps.Copy(row.Properties, op.properties)
	for name, value := range map[string]string{"PartitionKey": op.pk, "RowKey": op.rk} {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		row.Properties[name] = raw
	}
	return row, nil
}

func (e *entityTable) change(rows map[string]*entityRow) {
	for key, row := range rows {
		if row == nil {
			delete(e.rows, key)
		} else {
			e.rows[key] = row
		}
	}
}

// tick is a new Timestamp; t.mu is held.
func (t *tableService) tick() time.Time {
	now := t.now().UTC().Truncate(100)
	if !now.After(t.last) && t.last.Sub(now) < time.Second { // within one tick, not a clock that was set
		now = t.last.Add(100)
	}
	t.last = now
	return now
}

const tableTime = "2006-01-02T15:04:05.0000000Z"

func (r *entityRow) etag() string {
	return `W/"datetime'` + url.QueryEscape(r.Timestamp.Format(tableTime)) + `'"`
}

// show is the entity as an answer has it. Only full metadata tells the ETag in the body.
func (r *entityRow) show(full bool) map[string]any {
	out := map[string]any{"Timestamp": r.Timestamp.Format(tableTime)}
	for name, raw := range r.Properties {
		out[name] = raw
	}
	if full {
		out["odata.etag"], out["Timestamp@odata.type"] = r.etag(), "Edm.DateTime"
	}
	return out
}

func entityKey(pk, rk string) string { return pk + "\x00" + rk }

func unquote(s string) string { return strings.ReplaceAll(s, "''", "'") }

var tableComparison = regexp.MustCompile(`^\s*\(?\s*(PartitionKey|RowKey) (eq|ge|gt|le|lt) '((?:[^']|'')*)'\s*\)?\s*$`)

// parseTableFilter reads comparisons of keys, joined by and.
func parseTableFilter(filter string) (func(pk, rk string) bool, error) {
	var tests []func(pk, rk string) bool
	for part := range strings.SplitSeq(filter, " and ") {
		if filter == "" {
			break
		}
		m := tableComparison.FindStringSubmatch(part)
		if m == nil {
			return nil, refuseTable(http.StatusNotImplemented, "NotImplemented", "azuresim knows no filter but comparisons of PartitionKey and RowKey, joined by and.")
		}
		value := unquote(m[3])
		tests = append(tests, func(pk, rk string) bool {
			key := pk
			if m[1] == "RowKey" {
				key = rk
			}
			c := strings.Compare(key, value)
			return map[string]bool{"eq": c == 0, "ge": c >= 0, "gt": c > 0, "le": c <= 0, "lt": c < 0}[m[2]]
		})
	}
	return func(pk, rk string) bool {
		return !slices.ContainsFunc(tests, func(test func(pk, rk string) bool) bool { return !test(pk, rk) })
	}, nil
}

func writeTableError(w http.ResponseWriter, err error) {
	e := asTableError(err)
	w.Header().Set("X-Ms-Error-Code", e.code)
	writeJSON(w, e.status, e.body(""))
}

func asTableError(err error) *tableError {
	var e *tableError
	if errors.As(err, &e) {
		return e
	}
	return &tableError{http.StatusInternalServerError, "InternalError", err.Error()}
}

// body is the error as JSON; prefix is the number of the operation in a transaction.
func (e *tableError) body(prefix string) map[string]any {
	return map[string]any{"odata.error": map[string]any{"code": e.code, "message": map[string]any{"lang": "en-US",
		"value": prefix + e.message + "\nRequestId:" + newGUID() + "\nTime:" + time.Now().UTC().Format(tableTime)}}}
}

// jsonLine is v without a newline.
func jsonLine(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil { // only our own structs come here
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	return bytes.TrimSpace(raw)
}
