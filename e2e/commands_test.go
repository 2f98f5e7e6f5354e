package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
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
	"figure":     cmdFigure,
	"grown":      cmdGrown,
	"exitcode":   cmdExitCode,
	"oneline":    cmdOneLine,
	"host":       cmdHost,
	"programs":   cmdPrograms,
	"savedimage": cmdSavedImage,
	"hub":        cmdHub,
	"proxied":    cmdProxied,
	"network":    cmdNetwork,
	"azure":      cmdAzure,
	"deploy":     cmdDeploy,
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
	ts.Setenv("BACKEND_PORT", strconv.Itoa(m.port))
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

// programs FOLDER: the programs there are used instead of those in bin.
func cmdPrograms(ts *testscript.TestScript, neg bool, args []string) {
	machineOf(ts).programs = args[0]
}

// host start [azure]|stop|kill: `sockerless up -sim -sim-calm`, or `sockerless up` on the Azure of the session; prints what
// it prints. stop wants exit code 0.
func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	m := machineOf(ts)
	switch args[0] {
	case "start":
		out, err := m.startHost(len(args) == 1)
		ts.Check(err)
		fmt.Fprint(ts.Stdout(), out)
		for line := range strings.Lines(out) {
			k, v, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
			ts.Setenv(k, v)
		}
		ts.Setenv("HOST_DATA", m.hostData())
	case "stop":
		ts.Check(m.host.end(syscall.SIGTERM))
		if code := m.host.cmd.ProcessState.ExitCode(); code != 0 {
			ts.Fatalf("sockerless up exited with %d: %s", code, m.log("sockerless"))
		}
	case "kill":
		ts.Check(m.host.end(syscall.SIGKILL))
	}
}

// exitcode N PROGRAM ARGS...: runs a program that is to exit with N; oneline looks at what it said.
func cmdExitCode(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(ts.Getenv("BIN"), args[1]), args[2:]...)
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "SOCKERLESS_ACA_SUBSCRIPTION_ID=" + ts.Getenv("SOCKERLESS_ACA_SUBSCRIPTION_ID")}
	out, err := cmd.CombinedOutput()
	fmt.Fprintf(ts.Stdout(), "%s", out)
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s (%v), want %s: %s", got, err, args[0], out)
	}
	machineOf(ts).said = string(out)
}

// oneline TEXT: what the program of exitcode said is one line with TEXT in it.
func cmdOneLine(ts *testscript.TestScript, neg bool, args []string) {
	if said := machineOf(ts).said; strings.Count(said, "\n") != 1 || !strings.Contains(said, args[0]) {
		ts.Fatalf("not one line with %q: %s", args[0], said)
	}
}

// savedimage FILE TAG: writes minibox as `docker save` would.
func cmdSavedImage(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(saveMinibox(ts.Getenv("BIN"), ts.MkAbs(args[0]), args[1]))
}

// hub: starts a registry of somebody else's, which has a search, and sets HUB to it.
func cmdHub(ts *testscript.TestScript, neg bool, args []string) {
	m := http.NewServeMux()
	m.Handle("/v2/", registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	m.HandleFunc("GET /v1/search", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"results":[{"name":%q,"star_count":7,"is_official":true},{"name":"other","star_count":1}]}`, r.FormValue("q")+" of "+r.FormValue("n"))
	})
	hub := httptest.NewServer(m)
	ts.Defer(hub.Close)
	ts.Setenv("HUB", hub.Listener.Addr().String())
}

// [!] sim jobs: there are (no) jobs in the simulator; prints their names.
// [!] sim executions [CONTAINER]: there are (no) executions; prints their names and states.
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
		if errors.Is(err, errNone) {
			return
		}
	}
	ts.Check(err)
}

// errNone is the only error of runSim that says that there are none: a simulator that does not answer says nothing.
var errNone = fmt.Errorf("there are none")

func runSim(m *machine, args []string) (string, error) {
	if len(args) == 0 {
		return "", fmt.Errorf("usage: sim jobs|executions|requests|mark|preempt|fault JSON|clear")
	}
	switch args[0] {
	case "jobs":
		jobs, err := m.sim.jobs()
		if err != nil {
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
		jobs, err := m.sim.jobs()
		if err != nil {
			return "", err
		}
		var b strings.Builder
		for _, j := range jobs {
			if len(args) == 2 && j.Tags["sockerless-name"] != args[1] {
				continue
			}
			for _, e := range j.Executions {
				fmt.Fprintln(&b, e.Name, e.Status)
			}
		}
		if b.Len() == 0 {
			return "", errNone
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
	case "preempt":
		jobs, err := m.sim.jobs()
		if err != nil {
			return "", err
		}
		for _, j := range jobs {
			if j.Tags["sockerless-name"] != args[1] {
				continue
			}
			for _, e := range j.Executions {
				return "", m.sim.post("/_sim/preempt", fmt.Sprintf(`{"execution":%q}`, e.Name))
			}
		}
		return "", fmt.Errorf("no execution of %s", args[1])
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
		var told bool // what is wanted, or its opposite
		if args[0] == "sim" {
			out, err = runSim(m, args[1:])
			told = err == nil || errors.Is(err, errNone)
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+ts.Getenv("DOCKER_HOST"), "HOME="+ts.Getenv("HOME"), "DOCKER_CONFIG="+ts.Getenv("DOCKER_CONFIG"))
			cmd.WaitDelay = time.Second // what a killed shell has left may have the output
			var b []byte
			b, err = cmd.CombinedOutput()
			out = string(b)
			told = ctx.Err() == nil
			cancel()
		}
		if told && (err == nil) == want {
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
	status, text, err := ask(machineOf(ts).socket, args[0], args[1], strings.Join(args[2:], " "))
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", status, text)
}

// ask asks the Docker API on a socket.
func ask(socket, method, path, body string) (status int, text []byte, err error) {
	c := http.Client{Timeout: answerTime, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequest(method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// job is one job as the simulator lists it.
type job struct {
	Name       string
	Tags       map[string]string
	Executions []struct{ Name, Status string }
}

func (s *simulator) jobs() ([]job, error) {
	var jobs []job
	err := s.get("/_sim/jobs", &jobs)
	return jobs, err
}

// secureURL is the simulator's https address, which its description of the cloud tells.
func (s *simulator) secureURL() (string, error) {
	var cloud struct {
		Authentication struct{ LoginEndpoint string }
	}
	err := s.get("/metadata/endpoints?api-version=2022-09-01", &cloud)
	if err == nil && cloud.Authentication.LoginEndpoint == "" {
		err = errors.New("the simulator's description of the cloud tells no address")
	}
	return cloud.Authentication.LoginEndpoint, err
}

// answerTime is for who never answers.
const answerTime = 2 * time.Minute

// web asks the simulator.
var web = &http.Client{Timeout: answerTime}

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
	resp, err := web.Do(req)
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
