package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sockerless/sockerless/driver/drivertest"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
	"github.com/sockerless/sockerless/remote"
)

// TestSessions runs sessions of the real docker CLI against the whole chain but for a cloud: this program, a backend's
// server, the engine and agents, which the mem driver runs as child processes.
func TestSessions(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("agents run on Linux")
	}
	cli, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("there is no docker CLI in PATH; `make setup-test` installs one")
	}
	agent, err := drivertest.BuildAgent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	specs, err := schematest.Open()
	if err != nil {
		t.Logf("answers are not held to Docker's specification: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			socket, stop, err := startChain(agent)
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
			if specs != nil {
				if socket, err = tap(t, env, specs, socket); err != nil {
					return err
				}
			}
			env.Setenv("DOCKER_HOST", "unix://"+socket)
			env.Setenv("SOCKET", socket)
			env.Setenv("PATH", filepath.Dir(cli)+string(filepath.ListSeparator)+os.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"code": exitCode},
	})
}

// tap puts Docker's specification between the CLI and a socket: every answer of the session is held to it.
func tap(t *testing.T, env *testscript.Env, specs *schematest.Specs, to string) (string, error) {
	socket := filepath.Join(filepath.Dir(to), "tap.sock")
	session := filepath.Base(env.WorkDir)
	tap, err := schematest.Listen(specs, socket, to, func(err error) { t.Errorf("%s: not as specified: %v", session, err) })
	if err != nil {
		return "", err
	}
	env.Defer(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
		if checked, older := tap.Checked(); checked == 0 || older > 0 {
			t.Errorf("%s: %d answers were held to Docker's specification, %d were in a version that is older than all of them", session, checked, older)
		}
	})
	return socket, nil
}

// code N command...: the command's exit code is N.
func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// startChain starts backend and frontend and returns the frontend's socket.
func startChain(agent string) (socket string, stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var all error
		for i := len(stops) - 1; i >= 0; i-- {
			all = errors.Join(all, stops[i]())
		}
		return all
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		return "", nil, err
	}
	stops = append(stops, func() error { return os.RemoveAll(dir) })
	key, err := engine.LoadKey(dir)
	if err != nil {
		return "", nil, err
	}
	d, err := memdriver.NewForward(memdriver.Options{Agent: agent})
	if err != nil {
		return "", nil, err
	}
	stops = append(stops, d.Close)
	e, err := engine.Open(context.Background(), engine.Options{Dir: dir, Driver: d, Key: key, Images: memdriver.Images{}, Version: "test", Linger: time.Minute})
	if err != nil {
		return "", nil, err
	}
	stops = append(stops, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return e.Close(ctx)
	})
	token, err := remote.CreateToken(remote.TokenFile(dir))
	if err != nil {
		return "", nil, err
	}
	server := remote.NewServer(e.Backend(), remote.ServerOptions{Token: token})
	backend := httptest.NewServer(server)
	stops = append(stops, func() error { backend.CloseClientConnections(); backend.Close(); return server.Close() })

	socket = filepath.Join(dir, "docker.sock")
	ctx, end := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan int, 1)
	var log locked
	m := Main{
		Args:   []string{"-backend", backend.URL, "-addr", "unix://" + socket, "-token-file", remote.TokenFile(dir)},
		Stdout: io.Discard, Stderr: &log,
		Ready: func(addr string) { ready <- addr },
	}
	go func() { ended <- m.Run(ctx) }() // ends with stop
	stops = append(stops, func() error {
		end()
		if code := <-ended; code != 0 {
			return fmt.Errorf("the frontend ended with %d: %s", code, &log)
		}
		return nil
	})
	select {
	case <-ready:
		return socket, stop, nil
	case code := <-ended:
		ended <- code
		return "", nil, errors.New("the frontend did not start")
	}
}

// TestAnswers holds what the engine makes of a container's life, as the API tells it, to Docker's specification.
func TestAnswers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("agents run on Linux")
	}
	dir, err := schematest.Dir()
	if err != nil {
		t.Skipf("Docker's specification is not here: %v", err)
	}
	agent, err := drivertest.BuildAgent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.44", "1.50", "1.51", "1.52", "1.56"} {
		t.Run(version, func(t *testing.T) {
			spec, err := schematest.Load(dir, version)
			if err != nil {
				t.Fatal(err)
			}
			testAnswers(t, agent, version, spec)
		})
	}
}

func testAnswers(t *testing.T, agent, version string, spec *schematest.Spec) {
	socket, stop, err := startChain(agent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	plain := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}
	defer plain.CloseIdleConnections()
	client := &http.Client{Transport: spec.Transport(plain, func(err error) { t.Errorf("not as specified: %v", err) })}
	do := func(method, path, body string, want int) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://docker/v"+version+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s %s: %d %s, %v, want %d", method, path, resp.StatusCode, b, err, want)
		}
		return b
	}
	do("POST", "/containers/create?name=box", `{"Image":"shell","Cmd":["sleep","1000"],"Future":1,"Labels":{"a":"b"},"ExposedPorts":{"80/tcp":{}}}`, 201)
	do("GET", "/containers/box/json", "", 200)
	do("POST", "/containers/box/start", "", 204)
	do("POST", "/containers/box/start", "", 304)
	do("GET", "/containers/json", "", 200)
	do("GET", "/containers/json?all=1&size=1&limit=5", "", 200)
	do("GET", "/containers/box/json?size=1", "", 200)
	var e struct{ ID string }
	if err := json.Unmarshal(do("POST", "/containers/box/exec", `{"Cmd":["true"]}`, 201), &e); err != nil {
		t.Fatal(err)
	}
	do("GET", "/exec/"+e.ID+"/json", "", 200)
	do("POST", "/exec/"+e.ID+"/start", `{"Detach":true}`, 200)
	do("GET", "/exec/"+e.ID+"/json", "", 200)
	do("GET", "/containers/box/top", "", 200)
	do("GET", "/containers/box/stats?stream=0", "", 200)
	do("GET", "/containers/box/stats?stream=0&one-shot=1", "", 200)
	do("GET", "/containers/box/stats?one-shot=1", "", 400)
	do("POST", "/containers/box/pause", "", 204)
	do("POST", "/containers/box/pause", "", 409)
	do("GET", "/containers/box/json", "", 200)
	do("GET", "/containers/json", "", 200)
	do("POST", "/containers/box/unpause", "", 204)
	do("POST", "/containers/box/rename?name=case", "", 204)
	do("POST", "/containers/case/kill", "", 204)
	do("POST", "/containers/case/wait", "", 200)
	do("GET", "/containers/case/json", "", 200)
	do("GET", "/containers/case/stats?stream=0", "", 200)
	do("GET", "/containers/case/logs?stdout=1", "", 200)
	do("HEAD", "/containers/case/archive?path=/etc", "", 200)
	do("POST", "/networks/create", `{"Name":"mynet","Labels":{"a":"b"},"IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]}}`, 201)
	do("POST", "/networks/create", `{"Name":"mynet"}`, 409)
	do("POST", "/containers/create?name=two", `{"Image":"shell","Cmd":["sleep","1000"],"NetworkingConfig":{"EndpointsConfig":{"mynet":{"Aliases":["x"]},"bridge":{}}}}`, 201)
	do("POST", "/containers/two/start", "", 204)
	do("GET", "/containers/two/json", "", 200)
	do("GET", "/networks", "", 200)
	do("GET", "/networks/mynet", "", 200)
	do("GET", "/networks/bridge", "", 200)
	do("DELETE", "/networks/mynet", "", 403)
	do("DELETE", "/networks/bridge", "", 403)
	do("POST", "/networks/mynet/connect", `{"Container":"two"}`, 403)
	do("POST", "/networks/mynet/disconnect", `{"Container":"two"}`, 200)
	do("POST", "/networks/mynet/connect", `{"Container":"two"}`, 200)
	do("DELETE", "/containers/two?force=1", "", 204)
	do("POST", "/networks/prune", "", 200)
	do("GET", "/networks/mynet", "", 404)
	do("POST", "/volumes/create", `{"Name":"data"}`, 201)
	do("POST", "/volumes/create", `{}`, 201)
	do("GET", "/volumes", "", 200)
	do("GET", "/volumes/data", "", 200)
	do("GET", "/system/df", "", 200)
	do("GET", "/system/df?verbose=1", "", 200)
	do("GET", "/system/df?type=image&type=build-cache", "", 200)
	do("DELETE", "/volumes/data", "", 204)
	do("DELETE", "/volumes/data", "", 404)
	do("POST", "/volumes/prune", "", 200)
	do("POST", "/images/prune", "", 200)
	do("POST", "/build/prune", "", 200)
	do("GET", "/plugins", "", 200)
	do("GET", "/events?since=1&until="+fmt.Sprint(time.Now().Unix()), "", 200)
	do("GET", "/images/json", "", 200)
	do("GET", "/images/shell/json", "", 200)
	do("GET", "/info", "", 200)
	do("GET", "/version", "", 200)
	do("POST", "/containers/create?name=well", `{"Image":"shell","Cmd":["sleep","1000"],"Healthcheck":{"Test":["CMD","true"],"Interval":10000000}}`, 201)
	do("POST", "/containers/create?name=not", `{"Image":"shell","Healthcheck":{"Test":["CMD","true"],"Retries":-1}}`, 400)
	do("POST", "/containers/well/start", "", 204)
	var healthy struct {
		State struct{ Health container.Health }
	}
	for end := time.Now().Add(time.Minute); healthy.State.Health.Status != container.Healthy && time.Now().Before(end); {
		if err := json.Unmarshal(do("GET", "/containers/well/json", "", 200), &healthy); err != nil {
			t.Fatal(err)
		}
	}
	if h := healthy.State.Health; h.Status != container.Healthy || len(h.Log) == 0 || h.Log[0].ExitCode != 0 {
		t.Errorf("health %+v", h)
	}
	do("GET", "/containers/json?filters=%7B%22health%22%3A%5B%22healthy%22%5D%7D", "", 200)
	do("DELETE", "/containers/well?force=1", "", 204)
	do("POST", "/containers/prune", "", 200)
	do("DELETE", "/containers/case", "", 404)
}
