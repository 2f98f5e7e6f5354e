package aca

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/monitor/query/azlogs"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// logs is the Log Analytics workspace into which the environment writes.
type logs struct {
	endpoint  string // up to and with /v1; empty: this cloud has none
	path      string // of the workspace; empty: none is configured
	pipeline  runtime.Pipeline
	diagnosed atomic.Bool // the environment writes through diagnostic settings: the other tables
}

// openLogs makes the client. azlogs has one too, but that sends no token over plain http, and so could not ask a
// simulator on loopback; its request and result types and its list of clouds are used.
func openLogs(a *azure, workspace string) *logs {
	l := &logs{}
	service, ok := a.cloud.Services[azlogs.ServiceName]
	if !ok || workspace == "" {
		return l
	}
	l.endpoint = service.Endpoint
	if strings.HasPrefix(workspace, "/") {
		l.path = workspace
	} else {
		l.path = "/workspaces/" + workspace
	}
	o := a.options()
	o.Retry.TryTimeout = queryTimeout
	auth := runtime.NewBearerTokenPolicy(a.credential, []string{service.Audience + "/.default"},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: o.InsecureAllowCredentialWithHTTP})
	l.pipeline = runtime.NewPipeline("sockerless", "v1.0.0", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &o)
	return l
}

// queryTimeout is above the three minutes after which Log Analytics itself gives a query up.
const queryTimeout = 200 * time.Second

// logTable is one of the two forms in which Container Apps writes a log: a custom table, whose columns exist from their
// first value on, and with diagnostic settings a resource log. Columns are asked for by column_ifexists, always.
type logTable struct{ name, columns string }

var (
	consoleTables = [2]logTable{
		{"ContainerAppConsoleLogs_CL", `Group = column_ifexists('ContainerGroupName_s', ''), Container = column_ifexists('ContainerName_s', ''),` +
			` Stream = column_ifexists('Stream_s', ''), Text = column_ifexists('Log_s', ''), At = column_ifexists('time_t', TimeGenerated)`},
		{"ContainerAppConsoleLogs", `Group = column_ifexists('ContainerGroupName', ''), Container = column_ifexists('ContainerName', ''),` +
			` Stream = column_ifexists('Stream', ''), Text = column_ifexists('Log', ''), At = TimeGenerated`},
	}
	systemTables = [2]logTable{
		{"ContainerAppSystemLogs_CL", `Execution = column_ifexists('ExecutionName_s', ''), Replica = column_ifexists('ReplicaName_s', ''),` +
			` Reason = column_ifexists('Reason_s', ''), Kind = column_ifexists('Type_s', ''), Text = column_ifexists('Log_s', ''), At = TimeGenerated`},
		{"ContainerAppSystemLogs", `Execution = column_ifexists('ExecutionName', ''), Replica = column_ifexists('ReplicaName', ''),` +
			` Reason = column_ifexists('Reason', ''), Kind = column_ifexists('Type', ''), Text = column_ifexists('Log', ''), At = TimeGenerated`},
	}
)

// pageSize is how many lines one query may give: well under the 500,000 rows and 100 MB of Log Analytics.
const pageSize = 20_000

// Logs yields what Log Analytics has of a run, or of a job's executions, since a time. There is nothing before the first row has arrived, some
// minutes after it was written at the worst; what is missing then is no error.
func (d *Driver) Logs(ctx context.Context, run driver.Run, since time.Time) iter.Seq2[driver.Line, error] {
	return func(yield func(driver.Line, error) bool) {
		of := run.Execution
		if of == "" {
			of = run.Job // which executions are named after, as replicas are after them
		}
		fail := func(err error) { yield(driver.Line{}, explain(err, "read the logs of %s", of)) }
		if !executionPattern.MatchString(of) {
			fail(sockerless.Errorf(sockerless.EINVALID, "%q is no name of an execution or a job", of))
			return
		}
		from, seen := since, 0 // seen lines of the instant from were yielded already
		for {
			rows, err := d.logs.query(ctx, &consoleTables, from, func(t logTable) string { return consoleQuery(t, of, from) })
			for i, row := range rows {
				line, at, err := consoleLine(row)
				if err != nil {
					fail(err)
					return
				}
				if i < seen { // they come again in the same order
					continue
				}
				if row["Container"] == initContainer {
					continue
				}
				line.Time = at
				if !yield(line, nil) {
					return
				}
			}
			if err != nil {
				fail(err)
				return
			}
			if len(rows) < pageSize {
				return
			}
			if from, seen, err = nextPage(rows); err != nil {
				fail(err)
				return
			}
		}
	}
}

// consoleQuery asks for the lines of replicas, which are named after their execution, as that is after its job. Several lines can have the same
// instant: the further keys make the order, and so the pages, certain.
func consoleQuery(t logTable, of string, from time.Time) string {
	q := t.name + "\n| extend " + t.columns + "\n| where Group startswith '" + of + "-'"
	if !from.IsZero() {
		q += "\n| where At >= datetime(" + from.UTC().Format(logTime) + ")"
	}
	return q + "\n| project At, Stream, Text, Container, Group\n| order by At asc, Stream asc, Text asc, Group asc" +
		fmt.Sprintf("\n| take %d", pageSize)
}

// logTime has the 100 ns of Log Analytics.
const logTime = "2006-01-02T15:04:05.0000000Z"

func consoleLine(row row) (driver.Line, time.Time, error) {
	at, err := row.time("At")
	if err != nil {
		return driver.Line{}, at, err
	}
	line := driver.Line{Stream: row["Stream"], Text: strings.TrimRight(row["Text"], "\r\n")}
	if line.Stream != "stderr" {
		line.Stream = "stdout"
	}
	return line, at, nil
}

// nextPage says where the next page begins: at the last instant of this one, and how many of its rows are of it.
func nextPage(rows []row) (from time.Time, seen int, err error) {
	last, err := rows[len(rows)-1].time("At")
	if err != nil {
		return last, 0, err
	}
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i]["At"] != rows[len(rows)-1]["At"] {
			return last, seen, nil
		}
		seen++
	}
	return last, 0, fmt.Errorf("more than %d lines have the same instant %s", pageSize, rows[0]["At"])
}

// troubles are the reasons of the system log that say why an execution does not come up, and a word for people.
// Container Apps lets such an execution run until its timeout (microsoft/azure-container-apps#1023, #1163).
var troubles = map[string]string{
	"ImagePullFailure":       "the image cannot be pulled",
	"ErrImagePull":           "the image cannot be pulled",
	"ImagePullBackOff":       "the image cannot be pulled",
	"ContainerCreateFailure": "the container cannot be created",
	"ContainerStartFailure":  "the container cannot be started",
	"FailedMount":            "a volume cannot be mounted",
	"AssigningReplicaFailed": "no node has room for it",
	"FailedScheduling":       "no node has room for it",
}

// recovered are the reasons after which an earlier trouble is over: a pull that went wrong once is tried again.
var recovered = map[string]bool{"PulledImage": true, "ContainerStarted": true}

// Explain returns why a run does not come up, out of the system log; "" if that tells nothing, yet or at all.
func (d *Driver) Explain(ctx context.Context, run driver.Run) (string, error) {
	if d.logs.path == "" || d.logs.endpoint == "" || !executionPattern.MatchString(run.Execution) {
		return "", nil
	}
	rows, err := d.logs.query(ctx, &systemTables, time.Time{}, func(t logTable) string {
		return t.name + "\n| extend " + t.columns +
			"\n| where Execution == '" + run.Execution + "' or Replica startswith '" + run.Execution + "-'" +
			"\n| project At, Reason, Kind, Text\n| order by At desc\n| take 200"
	})
	if err != nil {
		return "", explain(err, "read the system log of execution %s", run.Execution)
	}
	for _, row := range rows { // the newest first
		if recovered[row["Reason"]] {
			return "", nil
		}
		if trouble, ok := troubles[row["Reason"]]; ok {
			return fmt.Sprintf("%s (%s: %s)", trouble, row["Reason"], strings.TrimSuffix(shorten(row["Text"], answerLimit), ".")), nil
		}
	}
	return "", nil
}

// row is one row of an answer, by the query's own column names.
type row map[string]string

func (r row) time(column string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, r[column])
	if err != nil {
		return at, fmt.Errorf("cannot read the time %q of a line: %w", r[column], err)
	}
	return at, nil
}

// query runs what text makes of the environment's table. A table is not there before its first row: that is an empty
// answer. Rows come with an error too, if the answer is partial.
func (l *logs) query(ctx context.Context, tables *[2]logTable, from time.Time, text func(logTable) string) ([]row, error) {
	switch {
	case l.path == "" && l.endpoint == "":
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "no Log Analytics workspace is known: set SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE")
	case l.endpoint == "":
		return nil, sockerless.Errorf(sockerless.EUNSUPPORTED, "this cloud has no Log Analytics")
	}
	first := 0
	if l.diagnosed.Load() {
		first = 1
	}
	for _, i := range []int{first, 1 - first} {
		rows, err := l.ask(ctx, text(tables[i]), from)
		if tableMissing(err, tables[i].name) {
			continue
		}
		if err == nil {
			l.diagnosed.Store(i == 1)
		}
		return rows, err
	}
	return nil, nil
}

// ask posts one query. from bounds TimeGenerated, which is later than the line's own time.
func (l *logs) ask(ctx context.Context, query string, from time.Time) ([]row, error) {
	req, err := runtime.NewRequest(ctx, http.MethodPost, runtime.JoinPaths(l.endpoint, l.path, "query"))
	if err != nil {
		return nil, err
	}
	body := azlogs.QueryBody{Query: &query}
	if !from.IsZero() {
		span := azlogs.NewTimeInterval(from.UTC().Add(-skew), time.Now().UTC().Add(24*time.Hour))
		body.Timespan = &span
	}
	if err := runtime.MarshalAsJSON(req, body); err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := l.pipeline.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return nil, runtime.NewResponseError(resp)
	}
	var results azlogs.QueryResults
	if err := runtime.UnmarshalAsJSON(resp, &results); err != nil {
		return nil, fmt.Errorf("cannot read Log Analytics' answer: %w", err)
	}
	var rows []row
	if len(results.Tables) > 0 {
		rows = readTable(results.Tables[0])
	}
	if results.Error != nil {
		return rows, sockerless.Errorf(sockerless.EUNAVAILABLE, "Log Analytics answered in part only (%s)", results.Error.Code)
	}
	return rows, nil
}

func readTable(t azlogs.Table) []row {
	rows := make([]row, 0, len(t.Rows))
	for _, cells := range t.Rows {
		r := row{}
		for i, c := range t.Columns {
			if i < len(cells) && c.Name != nil && cells[i] != nil {
				r[*c.Name] = fmt.Sprint(cells[i])
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// tableMissing says whether a query was refused because its table is not there yet. The code SEM0100 means any name that
// cannot be resolved, so the table's name has to be in the message (microsoft/azure-container-apps#1211); a query that is
// wrong otherwise stays an error.
func tableMissing(err error, table string) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || refused.StatusCode != http.StatusBadRequest {
		return false
	}
	parsed := parseError(refused)
	for e := &parsed; e != nil; e = e.Inner {
		if (e.Code == "SEM0100" || e.Code == "BadArgumentError") && strings.Contains(e.Message, "'"+table+"'") && strings.Contains(e.Message, "resolve table") {
			return true
		}
	}
	return false
}
