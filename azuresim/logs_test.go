package azuresim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/query/azlogs"
)

// evidence loads the rows that were recorded from a live workspace.
func (s *stage) evidence() []map[string]any {
	s.t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal(sharedFile(s.t, "evidence/log-analytics-ContainerAppConsoleLogs_CL.rows.json"), &rows); err != nil {
		s.t.Fatal(err)
	}
	if err := s.sim.LoadRows(rows); err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// query sends a query as the operator and answers the status and the decoded body.
func (s *stage) query(kql, timespan string) (int, map[string]any) {
	s.t.Helper()
	token, err := s.sim.Token(s.sim.Operator(), audienceLogs)
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(logsQuery{Query: kql, Timespan: timespan})
	if err != nil {
		s.t.Fatal(err)
	}
	status, _, answer := s.send("POST", s.srv.URL+"/v1/workspaces/"+s.world.WorkspaceCustomerID+"/query", "Bearer "+token, string(body))
	return status, answer
}

// rows are the cells of the answer's table.
func rows(answer map[string]any) [][]any {
	var out [][]any
	for _, r := range at(answer, "tables", 0, "rows").([]any) {
		out = append(out, r.([]any))
	}
	return out
}

func columns(answer map[string]any) []string {
	var out []string
	for _, c := range at(answer, "tables", 0, "columns").([]any) {
		out = append(out, at(c, "name").(string)+":"+at(c, "type").(string))
	}
	return out
}

// innermost is the deepest innererror's code and message.
func innermost(answer map[string]any) (string, string) {
	e, _ := answer["error"].(map[string]any)
	for {
		inner, ok := e["innererror"].(map[string]any)
		if !ok {
			break
		}
		e = inner
	}
	code, _ := e["code"].(string)
	message, _ := e["message"].(string)
	return code, message
}

func TestRecordedRowsThroughSDK(t *testing.T) {
	s := newStage(t)
	recorded := s.evidence()
	options := s.armOptions().ClientOptions
	options.Cloud.Services[azlogs.ServiceName] = cloud.ServiceConfiguration{Endpoint: s.srv.HTTPSURL + "/v1", Audience: audienceLogs}
	c, err := azlogs.NewClient(s.operator(), &azlogs.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	kql := consoleTable + "\n| where ContainerGroupName_s startswith 'CA-labkv-b3erju--0000001-'" +
		"\n| extend at = column_ifexists('time_t', TimeGenerated), gone = column_ifexists('ContainerJobName_s', '')" +
		"\n| order by at asc\n| project at, Stream_s, Log_s, gone\n| take 3"
	byID, err := c.QueryWorkspace(t.Context(), s.world.WorkspaceCustomerID, azlogs.QueryBody{Query: &kql}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(byID.Tables[0].Rows); n != 3 {
		t.Fatalf("%d rows of %d", n, len(recorded))
	}
	var previous time.Time
	for _, r := range byID.Tables[0].Rows {
		at, err := time.Parse(time.RFC3339Nano, r[0].(string))
		if err != nil || at.Before(previous) {
			t.Errorf("row %v after %v (%v)", r, previous, err)
		}
		previous = at
		if r[3] != "" {
			t.Errorf("a column that is not there has the value %v", r[3])
		}
	}
	if _, err := c.QueryResource(t.Context(), s.world.WorkspaceID(), azlogs.QueryBody{Query: &kql}, nil); err != nil {
		t.Errorf("by ARM id: %v", err)
	}
	if _, err := c.QueryWorkspace(t.Context(), newGUID(), azlogs.QueryBody{Query: &kql}, nil); err == nil {
		t.Error("another workspace is queried")
	}
}

func TestKQL(t *testing.T) {
	s := newStage(t)
	if err := s.sim.LoadRows([]map[string]any{
		{"Type": "T_CL", "Name_s": "alpha-1", "N_d": 1.0, "time_t": "2026-01-01T00:00:01.0000001Z", "TimeGenerated": "2026-01-01T00:00:05Z", "Id_g": "00000000-0000-0000-0000-000000000001"},
		{"Type": "T_CL", "Name_s": "Beta-2", "N_d": 2.0, "time_t": "2026-01-01T00:00:02Z", "TimeGenerated": "2026-01-01T00:00:05Z", "Id_g": "00000000-0000-0000-0000-000000000002"},
		{"Type": "T_CL", "Name_s": "alpha-3", "time_t": "2026-01-01T00:00:03Z", "TimeGenerated": "2026-01-02T00:00:00Z", "Ok_b": true},
	}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kql, want string // want: the rows' cells, or the columns after @
	}{
		{`T_CL | where Name_s == "alpha-1" | project Name_s`, "[[alpha-1]]"},
		{`T_CL | where Name_s startswith "ALPHA-" | project Name_s | sort by Name_s`, "[[alpha-3] [alpha-1]]"},
		{`T_CL | where Name_s startswith_cs "ALPHA-" | count`, "[[0]]"},
		{`T_CL | where Name_s !startswith 'alpha' | project Name_s`, "[[Beta-2]]"},
		{`T_CL | where Name_s has "beta" | count`, "[[1]]"},
		{`T_CL | where Name_s has "bet" | count`, "[[0]]"},
		{`T_CL | where Name_s contains "ET" | count`, "[[1]]"},
		{`T_CL | where Name_s =~ "BETA-2" | count`, "[[1]]"},
		{`T_CL | where Name_s in ("alpha-1", "beta-2") | count`, "[[1]]"},
		{`T_CL | where Name_s in~ ("alpha-1", "beta-2") | count`, "[[2]]"},
		{`T_CL | where Name_s !in ("alpha-1") | count`, "[[2]]"},
		{`T_CL | where not(Name_s == "alpha-1") and N_d >= 2 or N_d < 1.5 | count`, "[[2]]"},
		{`T_CL | where N_d != 1 | count`, "[[2]]"},
		{`T_CL | where isnull(N_d) | project Name_s`, "[[alpha-3]]"},
		{`T_CL | where time_t > datetime(2026-01-01T00:00:01.0000001Z) | count`, "[[2]]"},
		{`T_CL | where time_t >= datetime(2026-01-01T00:00:01.0000001Z) | count`, "[[3]]"},
		{`T_CL | where time_t > datetime("2026-01-01 00:00:02") | count`, "[[1]]"},
		{`T_CL | where time_t > datetime(2026-01-01) + 2s | count`, "[[1]]"},
		{`T_CL | where TimeGenerated > ago(1m) | count`, "[[0]]"},
		{`T_CL | where Id_g == "00000000-0000-0000-0000-000000000002" | project N_d`, "[[2]]"},
		{`T_CL | top 1 by time_t | project Name_s`, "[[alpha-3]]"},
		{`T_CL | order by N_d asc nulls last, Name_s | project N_d | take 2`, "[[1] [2]]"},
		{`T_CL | order by N_d desc nulls first | project N_d`, "[[<nil>] [2] [1]]"},
		{`T_CL | extend a = coalesce(column_ifexists("Nope_s", ""), Name_s), b = N_d + 1 | where Name_s == 'Beta-2' | project a, b, Name_s`, "[[Beta-2 3 Beta-2]]"},
		{`T_CL | where Name_s == "alpha-1" | project t = tostring(time_t), d = todatetime("2026-01-01") == datetime(2026-01-01)`, "[[2026-01-01T00:00:01.0000001Z true]]"},
		{`T_CL | where Name_s == @"a\b" | count // a comment`, "[[0]]"},
		{"T_CL\n| project Name_s, N_d, time_t, Id_g, Ok_b\n| limit 0", "@Name_s:string N_d:real time_t:datetime Id_g:guid Ok_b:bool"},
		{`T_CL | where isempty(column_ifexists("Nope_s", "")) | where isnotempty(Name_s) and isnotnull(time_t) | count;`, "[[3]]"},
	} {
		status, answer := s.query(tc.kql, "")
		if status != http.StatusOK {
			t.Errorf("%s: %d %v", tc.kql, status, answer)
			continue
		}
		got := fmt.Sprint(rows(answer))
		if strings.HasPrefix(tc.want, "@") {
			got = "@" + strings.Join(columns(answer), " ")
		}
		if got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.kql, got, tc.want)
		}
	}
	for _, tc := range []struct{ kql, code, message string }{
		{`Nope_CL | take 1`, "SEM0100", "'take' operator: Failed to resolve table or column expression named 'Nope_CL'"},
		{`T_CL | where Nope_s == "x"`, "SEM0100", "'where' operator: Failed to resolve column or scalar expression named 'Nope_s'"},
		{`T_CL | project Nope_s`, "SEM0100", "'project' operator: Failed to resolve column or scalar expression named 'Nope_s'"},
		{`T_CL | where Nope(Name_s)`, "SEM0260", "Unknown function: 'Nope'."},
		{`T_CL | where Name_s == 1`, "SEM0064", "'where' operator: Cannot compare values of types string and long. Try adding explicit casts"},
		{`T_CL | where time_t > "2026-01-01"`, "SEM0064", "'where' operator: Cannot compare values of types datetime and string. Try adding explicit casts"},
		{`T_CL | where Name_s`, "SEM0061", ""},
		{`T_CL | summarize count()`, "UnsupportedBySimulator", "azuresim does not evaluate the operator 'summarize'"},
		{`T_CL | mv-expand x`, "UnsupportedBySimulator", "azuresim does not evaluate the operator 'mv-expand'"},
		{`T_CL | wear Name_s`, "SYN0002", "Query could not be parsed at 'wear' on line [1,8]"},
		{`T_CL | where Name_s == `, "SYN0002", ""},
		{`T_CL | where (Name_s == "x"`, "SYN0002", ""},
		{`T_CL where Name_s == "x"`, "SYN0002", ""},
		{`T_CL | where Name_s == "x`, "SYN0002", ""},
		{`T_CL | where time_t > datetime(tomorrow)`, "SYN0002", ""},
		{`T_CL | where Name_s == 'it''s'`, "SYN0002", ""},
		{`T_CL | take`, "SYN0002", ""},
		{"T_CL | where Name_s == \"x\" §", "SYN0002", ""},
	} {
		status, answer := s.query(tc.kql, "")
		code, message := innermost(answer)
		if status != http.StatusBadRequest || errorCode(answer) != "BadArgumentError" || code != tc.code || tc.message != "" && message != tc.message {
			t.Errorf("%s: %d %v", tc.kql, status, answer)
		}
	}
	for timespan, want := range map[string]string{"": "[[3]]", "2026-01-01T00:00:00Z/2026-01-01T12:00:00Z": "[[2]]", "2026-01-01T12:00:00Z/P1D": "[[1]]",
		"PT6H/2026-01-01T01:00:00Z": "[[2]]", "PT1H": "[[0]]"} {
		if status, answer := s.query("T_CL | count", timespan); status != http.StatusOK || fmt.Sprint(rows(answer)) != want {
			t.Errorf("timespan %q: %d %v", timespan, status, answer)
		}
	}
	for _, timespan := range []string{"yesterday", "P1Y", "PT", "P", "2026/2027", "PT1H/PT1H"} {
		if status, answer := s.query("T_CL | count", timespan); status != http.StatusBadRequest {
			t.Errorf("timespan %q: %d %v", timespan, status, answer)
		}
	}
}

func TestLogQueryRights(t *testing.T) {
	s := newStage(t)
	s.evidence()
	url := s.srv.URL + "/v1/workspaces/" + s.world.WorkspaceCustomerID + "/query"
	body := `{"query":"` + consoleTable + ` | take 1"}`
	token := func(p Principal, audience string) string {
		tok, err := s.sim.Token(p, audience)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + tok
	}
	for _, tc := range []struct {
		name, authorization string
		status              int
		code                string
	}{
		{"no token", "", 401, "AuthorizationRequiredError"},
		{"ARM's token", token(s.sim.Operator(), audienceARM), 403, "InvalidTokenError"},
		{"nobody", token(s.sim.AddIdentity("nobody"), audienceLogs), 403, "InsufficientAccessError"},
		{"operator", token(s.sim.Operator(), audienceLogs), 200, ""},
	} {
		if status, _, answer := s.send("POST", url, tc.authorization, body); status != tc.status || errorCode(answer) != tc.code {
			t.Errorf("%s: %d %v", tc.name, status, answer)
		}
	}
	if status, _, answer := s.send("POST", s.srv.URL+"/v1/workspaces"+s.world.WorkspaceID()+"/query", token(s.sim.Operator(), audienceLogs), body); status != 404 {
		t.Errorf("an ARM id where the GUID belongs: %d %v", status, answer)
	}
}

func TestReplicasWriteLogs(t *testing.T) {
	s := newStage(t, WithIngestion(Exactly(200*time.Millisecond)))
	s.putSample("web")
	if status, answer := s.query(consoleTable+" | take 1", ""); status != http.StatusBadRequest {
		t.Fatalf("a table without rows: %d %v", status, answer)
	}
	e := s.start("web")
	r := s.replica(0)
	written := time.Now()
	for i := range 5 {
		r.spec.Output("main", "stdout", fmt.Appendf(nil, "line %d", i))
	}
	r.spec.Output("main", "stderr", []byte("oops"))
	r.spec.Events(Event{Time: time.Now(), Reason: "PulledImage", Message: "pulled", Container: "main", Type: "Normal"})
	if status, _ := s.query(consoleTable+" | take 1", ""); status != http.StatusBadRequest && time.Since(written) < 150*time.Millisecond {
		t.Error("rows are there before their ingestion")
	}
	kql := consoleTable + ` | where ContainerGroupName_s startswith "` + e + `-" and ContainerJobName_s == "web" | order by time_t asc, Log_s asc | project Stream_s, Log_s, ContainerName_s, ContainerImage_s`
	var got [][]any
	eventually(t, "the rows are ingested", func() bool {
		status, answer := s.query(kql, "")
		if status == http.StatusOK {
			got = rows(answer)
		}
		return len(got) == 6
	})
	if got[0][1] != "line 0" || got[5][0] != "stderr" || got[5][3] != s.srv.LoginServer+"/minibox:latest" {
		t.Errorf("rows: %v", got)
	}
	r.exit(0)
	var reasons []string
	eventually(t, "the system log tells the end", func() bool {
		status, answer := s.query(systemTable+` | where ExecutionName_s == "`+e+`" | order by TimeGenerated asc | project Reason_s`, "")
		reasons = nil
		if status == http.StatusOK {
			for _, r := range rows(answer) {
				reasons = append(reasons, r[0].(string))
			}
		}
		return slices.Contains(reasons, "Completed")
	})
	if !slices.Contains(reasons, "SuccessfulCreate") || !slices.Contains(reasons, "PulledImage") {
		t.Errorf("reasons: %v", reasons)
	}
}

func TestTableIsBounded(t *testing.T) {
	l := newLogStore(nil)
	for i := range rowsKept + 10 {
		l.add("w", "T_CL", time.Time{}, map[string]any{"Log_s": "x", "N_d": float64(i)})
	}
	table := l.tables[logTableKey{"w", "T_CL"}]
	if n := len(table.rows); n != rowsKept || table.bytes != rowsKept {
		t.Errorf("%d rows of %d bytes", n, table.bytes)
	}
	long := strings.Repeat("y", bytesKept/4)
	for range 6 {
		l.add("w", "T_CL", time.Time{}, map[string]any{"Log_s": long})
	}
	if table.bytes > bytesKept || len(table.rows) > 4 {
		t.Errorf("%d rows of %d bytes", len(table.rows), table.bytes)
	}
}

func TestPartialAnswer(t *testing.T) {
	s := newStage(t)
	recorded := s.evidence()
	if err := s.sim.Inject(Fault{Kind: FaultPartial}); err != nil {
		t.Fatal(err)
	}
	status, answer := s.query(consoleTable, "")
	if status != http.StatusOK || errorCode(answer) != "PartialError" || len(rows(answer)) != len(recorded)/2 {
		t.Errorf("answer %d %v", status, answer["error"])
	}
	if status, answer := s.query(consoleTable, ""); status != http.StatusOK || errorCode(answer) != "" || len(rows(answer)) != len(recorded) {
		t.Errorf("the next answer: %d %v", status, answer["error"])
	}
}

func FuzzKQL(f *testing.F) {
	for _, q := range []string{"T | where a == 'x' and b > datetime(2026-01-01) | project a | take 3", "T | extend x = -1 + 2s", "T | top 1 by a desc nulls last",
		"T | where a in~ ('x')", "T|where((((((", "T | where a == @'\\'", "T | where datetime(", "T | mv-"} {
		f.Add(q)
	}
	rel := relation{columns: []column{{"a", typeString}, {"b", typeDatetime}, {"c", typeReal}}, rows: [][]any{{"x", ticks(time.Unix(0, 0)), 1.5}, {nil, nil, nil}}}
	f.Fuzz(func(t *testing.T, src string) {
		q, err := parseKQL(src)
		if err != nil {
			return
		}
		out, err := q.eval(relation{columns: rel.columns, rows: slices.Clone(rel.rows)}, time.Unix(0, 0))
		if err != nil {
			return
		}
		for _, r := range out.rows {
			if len(r) != len(out.columns) {
				t.Errorf("%q: %d cells in %d columns", src, len(r), len(out.columns))
			}
		}
		out.table()
	})
}
