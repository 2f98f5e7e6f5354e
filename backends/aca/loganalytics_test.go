package aca_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
)

// logsOf reads the logs of a run to their end or error.
func logsOf(t *testing.T, d driver.Driver, run driver.Run, since time.Time) ([]driver.Line, error) {
	t.Helper()
	reader, ok := driver.As[driver.LogReader](d)
	if !ok {
		t.Fatal("the driver is no LogReader")
	}
	var lines []driver.Line
	for line, err := range reader.Logs(t.Context(), run, since) {
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// The rows were captured from a live workspace: testdata/README.md.
func TestLogsOfRecordedRows(t *testing.T) {
	t.Parallel()
	for name, workspace := range map[string]func(azuresim.World) string{
		"workspace by GUID":   func(w azuresim.World) string { return w.WorkspaceCustomerID },
		"workspace by ARM id": func(w azuresim.World) string { return w.WorkspaceID() },
	} {
		t.Run(name, func(t *testing.T) {
			tc := calm(t, nil)
			tc.config.Workspace = workspace(tc.sim.World())
			tc.driver = tc.open("test")
			text, err := os.ReadFile("testdata/console-rows.json")
			if err != nil {
				t.Fatal(err)
			}
			var rows []map[string]any
			if err := json.Unmarshal(text, &rows); err != nil {
				t.Fatal(err)
			}
			if err := tc.sim.LoadRows(rows); err != nil {
				t.Fatal(err)
			}
			run := driver.Run{Job: "ca-labkv-b3erju", Execution: "ca-labkv-b3erju--0000001-6bffcf46d6"}
			got, err := logsOf(t, tc.driver, run, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			// Computed from the file, not by the query: rows of the replica, in the order of time_t.
			var want []driver.Line
			for _, r := range rows {
				if !strings.HasPrefix(fmt.Sprint(r["ContainerGroupName_s"]), run.Execution+"-") {
					continue
				}
				at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(r["time_t"]))
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, driver.Line{Time: at, Stream: fmt.Sprint(r["Stream_s"]), Text: fmt.Sprint(r["Log_s"])})
			}
			if len(want) < 4 {
				t.Fatalf("the file has %d rows of the replica", len(want))
			}
			for i := range want {
				for j := i + 1; j < len(want); j++ {
					if want[j].Time.Before(want[i].Time) {
						want[i], want[j] = want[j], want[i]
					}
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			late, err := logsOf(t, tc.driver, run, want[2].Time)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[2:], late); diff != "" {
				t.Errorf("lines since %v (-want +got):\n%s", want[2].Time, diff)
			}
		})
	}
}

// A table exists from its first row on: until then there are no logs, and that is no error. Everything else is one.
func TestLogsThatAreNotThere(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	run := tc.start(tc.spec())
	if lines, err := logsOf(t, tc.driver, run, time.Time{}); err != nil || len(lines) != 0 {
		t.Errorf("before the first row: %v, error %v; want nothing", lines, err)
	}
	if err := tc.sim.Fail(http.MethodPost, "/query$", 1, 400, "BadArgumentError", "The query is too clever."); err != nil {
		t.Fatal(err)
	}
	if _, err := logsOf(t, tc.driver, run, time.Time{}); err == nil || !strings.Contains(err.Error(), "too clever") {
		t.Errorf("error of a refused query is %v, want Azure's words", err)
	}
	if err := tc.sim.Fail(http.MethodPost, "/query$", 1, 403, "InsufficientAccessError", "The provided credentials have insufficient access."); err != nil {
		t.Fatal(err)
	}
	if _, err := logsOf(t, tc.driver, run, time.Time{}); sockerless.ErrorCode(err) != sockerless.EFORBIDDEN {
		t.Errorf("error without the right is %v, want %s", err, sockerless.EFORBIDDEN)
	}
	tc.config.Workspace = ""
	if _, err := logsOf(t, tc.open("test"), run, time.Time{}); sockerless.ErrorCode(err) != sockerless.EUNSUPPORTED || !strings.Contains(err.Error(), "SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE") {
		t.Errorf("error without a workspace is %v, want %s that names the setting", err, sockerless.EUNSUPPORTED)
	}
}

func TestLogsOfARun(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{true, false} {
		t.Run(fmt.Sprintf("plain http %v", plain), func(t *testing.T) {
			tc := calm(t, func(c *aca.Config) {}, azuresim.WithIngestion(azuresim.Exactly(100*time.Millisecond)))
			if !plain {
				tc.config.EndpointURL = tc.srv.HTTPSURL
				tc.driver = tc.open("test")
			}
			run := tc.start(tc.spec())
			tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
			r := tc.replicas.list()[0]
			r.spec.Output("agent", "stdout", []byte("installed"))
			for i := range 5 {
				r.spec.Output("main", []string{"stdout", "stderr"}[i%2], fmt.Appendf(nil, "line %d 'quoted'", i))
				time.Sleep(time.Millisecond) // apart by more than the 100 ns that rows can tell
			}
			var got []driver.Line
			tc.eventually("all lines are there", func() bool {
				var err error
				if got, err = logsOf(t, tc.driver, run, time.Time{}); err != nil {
					t.Fatal(err)
				}
				return len(got) >= 5
			})
			for i, line := range got {
				if want := fmt.Sprintf("line %d 'quoted'", i); line.Text != want || line.Stream != []string{"stdout", "stderr"}[i%2] || time.Since(line.Time) > time.Minute {
					t.Errorf("line %d is %+v", i, line)
				}
			}
			if err := tc.sim.Inject(azuresim.Fault{Kind: azuresim.FaultPartial, Path: "/query$"}); err != nil {
				t.Fatal(err)
			}
			part, err := logsOf(t, tc.driver, run, time.Time{})
			if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.Contains(err.Error(), "PartialError") || len(part) == 0 || len(part) >= 5 {
				t.Errorf("of a partial answer there are %d lines and the error %v", len(part), err)
			}
		})
	}
}

// A container that was started several times has the lines of all its executions, in order, and nobody else's.
func TestLogsOfAJob(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil, azuresim.WithIngestion(azuresim.Exactly(100*time.Millisecond)))
	spec := tc.spec()
	var run driver.Run
	for i, id := range []string{runID, "ffeeddccbbaa99887766554433221100", "0f0e0d0c0b0a09080706050403020100"} {
		spec.ID, spec.Previous = id, run.Execution
		run = tc.start(spec)
		tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == i+1 })
		for _, text := range []string{"begins", "ends"} {
			tc.replicas.list()[i].spec.Output("main", "stdout", fmt.Appendf(nil, "run %d %s", i, text))
			time.Sleep(time.Millisecond) // apart by more than the 100 ns that rows can tell
		}
		if err := tc.driver.Stop(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	other := tc.spec()
	other.Container = strings.Repeat("9", 64)
	other.ID = strings.Repeat("8", 32)
	tc.start(other)
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 4 })
	tc.replicas.list()[3].spec.Output("main", "stdout", []byte("not ours"))
	job := run
	job.Execution = ""
	var got []string
	tc.eventually("all lines are there", func() bool {
		lines, err := logsOf(t, tc.driver, job, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		got = nil
		for _, line := range lines {
			got = append(got, line.Text)
		}
		return len(got) >= 6
	})
	if diff := cmp.Diff([]string{"run 0 begins", "run 0 ends", "run 1 begins", "run 1 ends", "run 2 begins", "run 2 ends"}, got); diff != "" {
		t.Error(diff)
	}
	if last, err := logsOf(t, tc.driver, run, time.Time{}); err != nil || len(last) != 2 {
		t.Errorf("of the last execution: %v, %v", last, err)
	}
}

// Names reach a query, so they must not be able to change it.
func TestLogsOfAWrongName(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	_, err := logsOf(t, tc.driver, driver.Run{Job: "x", Execution: "x' or Text startswith '"}, time.Time{})
	if sockerless.ErrorCode(err) != sockerless.EINVALID {
		t.Errorf("error is %v, want %s", err, sockerless.EINVALID)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	tc := calm(t, nil)
	explainer, ok := driver.As[driver.Explainer](tc.driver)
	if !ok {
		t.Fatal("the driver is no Explainer")
	}
	run := tc.start(tc.spec())
	tc.eventually("the replica is there", func() bool { return len(tc.replicas.list()) == 1 })
	if why, err := explainer.Explain(t.Context(), run); err != nil || why != "" {
		t.Errorf("of a run without trouble: %q, error %v", why, err)
	}
	tc.replicas.list()[0].spec.Events(azuresim.Event{Time: time.Now(), Reason: "ImagePullFailure", Type: "Warning", Container: "main",
		Message: "Failed to pull image 'x':\n not found."})
	tc.eventually("the reason is told", func() bool {
		why, err := explainer.Explain(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return why == "the image cannot be pulled (ImagePullFailure: Failed to pull image 'x': not found)"
	})
	tc.replicas.list()[0].spec.Events(azuresim.Event{Time: time.Now(), Reason: "PulledImage", Type: "Normal", Container: "main", Message: "Pulled image 'x'."})
	tc.eventually("a pull that went well at last is no reason", func() bool {
		why, err := explainer.Explain(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		return why == ""
	})
}
