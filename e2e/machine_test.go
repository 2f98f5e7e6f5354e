package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sockerless/sockerless/frontends/docker/dockerapi/schematest"
)

// machine is what one session runs on: three processes, and their folders.
type machine struct {
	bin, dir string
	mode     string   // one of modes
	socket   string   // what clients use: the tap's
	port     int      // of the backend; it stays the same over restarts, since agents come back to it
	mark     int      // the last request that `sim mark` has forgotten
	said     string   // by the last program of `exitcode`
	programs string   // folder of programs that are used before those of bin
	settings []string // further ones of the backend
	trust    string   // PEM file of the authorities that the simulator trusts; empty: the system's

	proxy     *proxy // a bad network; nil: none
	proxyAddr string

	specs  *schematest.Specs          // nil: Docker's specification is not here
	taps   map[string]*schematest.Tap // between clients and a frontend, by the socket that clients use
	report func(error)                // told of answers that are not as specified

	sim               *simulator
	backend, frontend *program
	host              *program    // everything in one process: `host start`
	deployed          *deployment // nil: the backend is a program of this machine
}

// simulator is a running azuresim.
type simulator struct {
	*program
	url string
	env map[string]string // what it printed: the backend's settings
}

// program is one running process. Its log is kept and shown when the session fails.
type program struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

type machineKey struct{}

func machineOf(ts *testscript.TestScript) *machine { return ts.Value(machineKey{}).(*machine) }

// setup prepares a session's environment. The machine is ended when the session is.
func (m *machine) setup(env *testscript.Env) error {
	// The socket's path must stay below 108 bytes, so it is not in $WORK.
	dir, err := os.MkdirTemp("", "sl-e2e-")
	if err != nil {
		return err
	}
	m.dir, m.socket = dir, filepath.Join(dir, "d.sock")
	if m.port, err = freePort(); err != nil {
		return err
	}
	env.Values[machineKey{}] = m
	env.Defer(m.stop)

	// A wrapper notes the exit code, which testscript does not tell.
	docker, err := exec.LookPath("docker")
	if err != nil {
		return err
	}
	wrapped := filepath.Join(dir, "bin")
	code := filepath.Join(dir, "code")
	if err := os.Mkdir(wrapped, 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\ntrap : INT\n%s \"$@\"\nc=$?\necho $c >%s.$$ && mv %s.$$ %s\nexit $c\n", docker, code, code, code)
	if err := os.WriteFile(filepath.Join(wrapped, "docker"), []byte(script), 0o755); err != nil {
		return err
	}
	env.Setenv("PATH", wrapped+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("CODE_FILE", code)
	env.Setenv("HOME", dir)
	env.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker-config"))
	source, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	env.Setenv("SOURCE", source)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS"} { // a session may build; its HOME is empty
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return err
		}
		env.Setenv(name, strings.TrimSpace(string(value)))
	}
	env.Setenv("DOCKER_CLI", docker) // without the wrapper, to be sent signals
	env.Setenv("BIN", m.bin)
	env.Setenv("MODE", m.mode)
	return nil
}

func (m *machine) startSimulator(flags []string) error {
	data := filepath.Join(m.dir, "azure")
	var env []string
	if m.trust != "" {
		env = append(env, "SSL_CERT_FILE="+m.trust)
	}
	p, out, err := m.start("azuresim", append([]string{"-data", data}, flags...), env)
	if err != nil {
		return err
	}
	m.sim = &simulator{program: p, env: map[string]string{}}
	out.SetReadDeadline(time.Now().Add(startTime))
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "export ")
		if line == "" {
			break // the end of the settings
		}
		if k, v, ok := strings.Cut(line, "="); ok {
			m.sim.env[k] = strings.Trim(v, "'\"")
		}
	}
	m.sim.url = m.sim.env["SOCKERLESS_ENDPOINT_URL"]
	if m.sim.url == "" {
		return fmt.Errorf("azuresim ended early, or is silent (%v): %s", lines.Err(), m.log("azuresim"))
	}
	out.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, out) // ends with the simulator
	return nil
}

// simEnv is the environment of a program that uses the session's Azure.
func (m *machine) simEnv() []string {
	var env []string
	for k, v := range m.sim.env {
		env = append(env, k+"="+v)
	}
	return env
}

// resolver is the setting that says who knows the names of executions.
const resolver = "SOCKERLESS_ACA_RESOLVER"

// farBackend is the backend's name for a frontend on another machine, which reaches it through an HTTP proxy alone.
const farBackend = "backend.example:9100"

func (m *machine) startBackend() error {
	env := append(m.simEnv(), "SOCKERLESS_DATA_DIR="+filepath.Join(m.dir, "backend"), "SOCKERLESS_ACA_LINGER=20s")
	addr := fmt.Sprintf("127.0.0.1:%d", m.port)
	callback := addr
	if m.proxy != nil {
		switch m.mode {
		case "reverse":
			callback = m.proxyAddr
		case "forward":
			env = append(env, resolver+"="+m.proxyAddr)
		}
	}
	if m.mode != "forward" {
		_, port, _ := net.SplitHostPort(callback)
		env = append(env, "SOCKERLESS_CALLBACK_URL=http://host.azuresim.internal:"+port)
	}
	p, out, err := m.start("sockerless-backend-aca", []string{"-addr", addr}, append(env, m.settings...))
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, out) // ends with the backend
	m.backend = p
	return m.await(p, "sockerless-backend-aca", "tcp", addr)
}

// tapped puts what holds answers to Docker's specification on a socket, once, and returns the one that it passes on to.
func (m *machine) tapped(socket string) (string, error) {
	if m.specs == nil {
		return socket, nil
	}
	behind := strings.TrimSuffix(socket, ".sock") + "-api.sock"
	if m.taps[socket] != nil {
		return behind, nil
	}
	tap, err := schematest.Listen(m.specs, socket, behind, m.report)
	if err == nil {
		m.taps[socket] = tap
	}
	return behind, err
}

func (m *machine) startFrontend() error {
	addr, err := m.tapped(m.socket)
	if err != nil {
		return err
	}
	env := []string{"SOCKERLESS_DATA_DIR=" + filepath.Join(m.dir, "backend")}
	backend := fmt.Sprintf("localhost:%d", m.port)
	if m.mode == "apart" {
		backend = farBackend
		env = append(env, "HTTP_PROXY=http://"+m.proxyAddr)
	}
	args := []string{"-backend", "http://" + backend, "-addr", "unix://" + addr}
	if d := m.deployed; d != nil { // the simulator stands for public DNS
		args = []string{"-backend", d.url, "-token-file", d.tokenFile, "-ca-file", m.sim.env["SOCKERLESS_CA_FILE"], "-addr", "unix://" + addr}
		env = []string{"HTTPS_PROXY=" + m.sim.url}
	}
	p, out, err := m.start("sockerless-frontend-docker", args, env)
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, out) // ends with the frontend
	m.frontend = p
	return m.await(p, "sockerless-frontend-docker", "unix", addr)
}

func (m *machine) hostData() string { return filepath.Join(m.dir, "host") }

// startHost starts `sockerless up`, with an Azure of its own or on the session's, and returns the two lines that it prints.
func (m *machine) startHost(ownAzure bool) (string, error) {
	socket := filepath.Join(m.dir, "h.sock")
	addr, err := m.tapped(socket)
	if err != nil {
		return "", err
	}
	args := []string{"up", "-addr", "unix://" + addr, "-data", m.hostData()}
	var env []string
	if ownAzure {
		args = append(args, "-sim", "-sim-calm")
	} else {
		port, err := freePort()
		if err != nil {
			return "", err
		}
		args = append(args, "-backend-addr", fmt.Sprintf("127.0.0.1:%d", port))
		env = append(m.simEnv(), fmt.Sprintf("SOCKERLESS_CALLBACK_URL=http://host.azuresim.internal:%d", port))
	}
	p, out, err := m.start("sockerless", args, env)
	if err != nil {
		return "", err
	}
	m.host = p
	var b strings.Builder
	out.SetReadDeadline(time.Now().Add(startTime))
	lines := bufio.NewScanner(out)
	for range 2 {
		if !lines.Scan() {
			return "", fmt.Errorf("sockerless up ended early, or is silent (%v): %s", lines.Err(), m.log("sockerless"))
		}
		b.WriteString(strings.ReplaceAll(lines.Text(), addr, socket) + "\n")
	}
	out.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, out) // ends with the host
	return b.String(), nil
}

// startTime is for what does not start.
const startTime = 2 * time.Minute

// start starts a program of bin/, its standard error in a log file.
func (m *machine) start(name string, args, env []string) (*program, *os.File, error) {
	log, err := os.OpenFile(filepath.Join(m.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	path := filepath.Join(m.bin, name)
	if own := filepath.Join(m.programs, name); m.programs != "" {
		if _, err := os.Stat(own); err == nil {
			path = own
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "TMPDIR=" + os.TempDir()}, env...)
	cmd.Stderr = log
	// If the test dies, what it started dies too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	p := &program{cmd: cmd, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }() // ends with the program
	return p, r, nil
}

// await returns once something accepts connections at addr.
func (m *machine) await(p *program, name, network, addr string) error {
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial(network, addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended early: %s", name, m.log(name))
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w: %s", name, err, m.log(name))
		}
	}
}

func (m *machine) log(name string) string {
	text, err := os.ReadFile(filepath.Join(m.dir, name+".log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8000):])
}

// command serves the session's `backend` and `frontend`.
func (m *machine) command(args []string, p **program, start func() error) error {
	if len(args) != 1 {
		return errors.New("usage: kill|stop|start")
	}
	switch args[0] {
	case "kill":
		return (*p).end(syscall.SIGKILL)
	case "stop":
		return (*p).end(syscall.SIGTERM)
	case "start":
		return start()
	}
	return fmt.Errorf("unknown: %s", args[0])
}

// end sends a signal and waits for the end, which it enforces after half a minute.
func (p *program) end(sig syscall.Signal) error {
	p.cmd.Process.Signal(sig) // an error says that it has ended
	select {
	case <-p.done:
		return nil
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end on signal %v", filepath.Base(p.cmd.Path), sig)
	}
}

func (m *machine) stop() {
	for _, p := range []*program{m.frontend, m.backend, m.host} {
		if p != nil {
			p.end(syscall.SIGTERM)
		}
	}
	if m.sim != nil {
		m.sim.end(syscall.SIGTERM)
	}
	checked, older := 0, 0
	for _, tap := range m.taps {
		if err := tap.Close(); err != nil {
			m.report(err)
		}
		c, o := tap.Checked()
		checked, older = checked+c, older+o
	}
	if len(m.taps) > 0 && checked == 0 || older > 0 {
		m.report(fmt.Errorf("%d answers were held to Docker's specification, %d were in a version that is older than all of them", checked, older))
	}
}

// remove deletes the machine's folder, unless SOCKERLESS_KEEP asks for it.
func (m *machine) remove() {
	if m.dir != "" && os.Getenv("SOCKERLESS_KEEP") == "" {
		os.RemoveAll(m.dir)
	}
}

// logs returns the ends of what the programs logged.
func (m *machine) logs() string {
	var b strings.Builder
	for _, name := range []string{"azuresim", "sockerless-backend-aca", "sockerless-frontend-docker", "sockerless"} {
		if _, err := os.Stat(filepath.Join(m.dir, name+".log")); err != nil {
			continue
		}
		fmt.Fprintf(&b, "\n--- %s\n%s", name, m.log(name))
	}
	return b.String()
}

// ports counts up below the range that the kernel takes outgoing ports from, so that what is free stays so until it is used.
var ports = func() *atomic.Int32 {
	var next atomic.Int32
	next.Store(20000 + rand.Int32N(10000))
	return &next
}()

func freePort() (int, error) {
	var err error
	for range 100 {
		port := int(ports.Add(1))
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}
