package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are what a session may say beside testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"up":         cmdUp,
	"backend":    cmdBackend,
	"frontend":   cmdFrontend,
	"sim":        cmdSim,
	"eventually": cmdEventually,
	"code":       cmdCode,
	"sleep":      cmdSleep,
	"cmpsum":     cmdCompareSum,
	"ticks":      cmdTicks,
	"capture":    cmdCapture,
	"api":        cmdAPI,
}

// up [simulator flags]: starts simulator, backend and frontend, and sets DOCKER_HOST and ACR_SERVER.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	ts.Check(m.startSimulator(args))
	ts.Check(m.startBackend())
	ts.Check(m.startFrontend())
	for k, v := range m.sim.env {
		ts.Setenv(k, v)
	}
	ts.Setenv("DOCKER_HOST", "unix://"+m.socket)
	ts.Setenv("SOCKET", m.socket)
}

// backend kill|stop|start: kill is SIGKILL.
func cmdBackend(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	ts.Check(m.command(args, &m.backend, m.startBackend))
}

// frontend kill|stop|start: kill is SIGKILL.
func cmdFrontend(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	ts.Check(m.command(args, &m.frontend, m.startFrontend))
}

// [!] sim jobs: there are (no) jobs in the simulator; prints their names.
// sim requests: prints "METHOD PATH STATUS" of every request since the last mark.
// sim mark: forgets what was before.
// sim fault JSON: injects a fault, see azuresim.Fault.
func cmdSim(ts *testscript.TestScript, neg bool, args []string) {
	out, err := runSim(machineOf(ts), args)
	fmt.Fprint(ts.Stdout(), out)
	if neg {
		if err == nil {
			ts.Fatalf("sim %s: there are: %s", strings.Join(args, " "), out)
		}
		return
	}
	ts.Check(err)
}

var errNone = fmt.Errorf("there are none")

func runSim(m *machine, args []string) (string, error) {
	if len(args) == 0 {
		return "", fmt.Errorf("usage: sim jobs|requests|mark|fault JSON")
	}
	switch args[0] {
	case "jobs":
		var jobs []struct{ Name string }
		if err := m.sim.get("/_sim/jobs", &jobs); err != nil {
			return "", err
		}
		var b strings.Builder
		for _, j := range jobs {
			fmt.Fprintln(&b, j.Name)
		}
		if len(jobs) == 0 {
			return "", errNone
		}
		return b.String(), nil
	case "executions":
		var jobs []struct {
			Name       string
			Executions []struct{ Name, Status string }
		}
		if err := m.sim.get("/_sim/jobs", &jobs); err != nil {
			return "", err
		}
		var b strings.Builder
		for _, j := range jobs {
			for _, e := range j.Executions {
				fmt.Fprintln(&b, e.Name, e.Status)
			}
		}
		return b.String(), nil
	case "requests", "mark":
		var list []struct {
			Seq, Status  int
			Method, Path string
		}
		if err := m.sim.get("/_sim/requests?after="+strconv.Itoa(m.mark), &list); err != nil {
			return "", err
		}
		var b strings.Builder
		for _, r := range list {
			fmt.Fprintln(&b, r.Method, r.Path, r.Status)
			if args[0] == "mark" {
				m.mark = r.Seq
			}
		}
		return b.String(), nil
	case "fault":
		return "", m.sim.post("/_sim/faults", strings.Join(args[1:], " "))
	case "clear":
		return "", m.sim.delete("/_sim/faults")
	}
	return "", fmt.Errorf("unknown: sim %s", args[0])
}

// eventually DURATION [!] sim jobs | docker ...: repeats until it is so.
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually DURATION [!] command...")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	args = args[1:]
	want := true
	if args[0] == "!" {
		want, args = false, args[1:]
	}
	m := machineOf(ts)
	var out string
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		if args[0] == "sim" {
			out, err = runSim(m, args[1:])
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+ts.Getenv("DOCKER_HOST"), "HOME="+ts.Getenv("HOME"), "DOCKER_CONFIG="+ts.Getenv("DOCKER_CONFIG"))
			var b []byte
			b, err = cmd.CombinedOutput()
			out = string(b)
			cancel()
		}
		if (err == nil) == want {
			fmt.Fprint(ts.Stdout(), out)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %s: %s: %v\n%s", limit, strings.Join(args, " "), err, out)
		}
	}
}

// code N: the exit code of the exec before. testscript keeps no code, so sessions run docker through the wrapper that
// setup puts first on PATH; it writes the code beside the session.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: code N")
	}
	if got := strings.TrimSpace(ts.ReadFile(ts.Getenv("CODE_FILE"))); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func cmdSleep(ts *testscript.TestScript, neg bool, args []string) {
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(d)
}

// cmpsum A B: the first words of two files, sha256 sums, are equal.
func cmdCompareSum(ts *testscript.TestScript, neg bool, args []string) {
	a, b := strings.Fields(ts.ReadFile(args[0])), strings.Fields(ts.ReadFile(args[1]))
	if len(a) == 0 || len(b) == 0 || a[0] != b[0] {
		ts.Fatalf("%v is not %v", a, b)
	}
}

var tick = regexp.MustCompile(`(?m)^tick (\d+)$`)

// ticks FILE: the lines "tick N" count from 1 without a hole or a repetition.
func cmdTicks(ts *testscript.TestScript, neg bool, args []string) {
	found := tick.FindAllStringSubmatch(ts.ReadFile(args[0]), -1)
	if len(found) < 5 {
		ts.Fatalf("only %d ticks", len(found))
	}
	for i, m := range found {
		if m[1] != strconv.Itoa(i+1) {
			ts.Fatalf("tick %s where %d was due", m[1], i+1)
		}
	}
}

// capture NAME: sets NAME to the standard output of the command before.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// api METHOD PATH [BODY]: asks the Docker API itself; prints the status and the answer.
func cmdAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: api METHOD PATH [BODY]")
	}
	socket := machineOf(ts).socket
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequest(args[0], "http://docker"+args[1], strings.NewReader(strings.Join(args[2:], " ")))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", resp.StatusCode, text)
}

// get, post and delete ask the simulator's own small API.
func (s *simulator) get(path string, out any) error {
	return s.do(http.MethodGet, path, "", out)
}

func (s *simulator) post(path, body string) error {
	return s.do(http.MethodPost, path, body, nil)
}

func (s *simulator) delete(path string) error {
	return s.do(http.MethodDelete, path, "", nil)
}

func (s *simulator) do(method, path, body string, out any) error {
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
