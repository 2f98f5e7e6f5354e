package memdriver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/driver/drivertest"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/link"
)

var agent string

func TestMain(m *testing.M) {
	if path := os.Getenv("MEMDRIVER_TEST_AGENT"); path != "" {
		startAndHang(path)
	}
	dir, err := os.MkdirTemp("", "memdriver")
	if err == nil {
		agent, err = drivertest.BuildAgent(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func TestForward(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) *drivertest.Target {
		d, err := memdriver.NewForward(memdriver.Options{Agent: agent})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return &drivertest.Target{Driver: d, Image: "ignored@sha256:0"}
	})
}

// callers is a hub for the agents of tests, which know their secrets.
type callers struct {
	hub *link.Hub

	mu      sync.Mutex
	secrets map[string][]byte
	links   map[string]chan *link.Link
}

// spying registers the secret of each start before its agent can dial.
type spying struct {
	driver.Driver
	c *callers
}

func (s spying) Unwrap() driver.Driver { return s.Driver }

func (s spying) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	s.c.mu.Lock()
	s.c.secrets[spec.ID] = spec.Secret
	s.c.links[spec.ID] = make(chan *link.Link, 4)
	s.c.mu.Unlock()
	return s.Driver.Start(ctx, spec)
}

func TestReverse(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) *drivertest.Target {
		c := &callers{secrets: map[string][]byte{}, links: map[string]chan *link.Link{}}
		c.hub = link.NewHub(link.Backend, func(id string) ([]byte, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			s, ok := c.secrets[id]
			return s, ok
		}, link.Options{})
		server := httptest.NewServer(http.Handler(c.hub))
		go func() { // ends with the hub
			for {
				l, err := c.hub.Accept(context.Background())
				if err != nil {
					return
				}
				c.mu.Lock()
				waiting := c.links[l.ID()]
				c.mu.Unlock()
				waiting <- l
			}
		}()
		d, err := memdriver.New(memdriver.Options{Agent: agent, CallbackURL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			d.Close()
			c.hub.Close()
			server.CloseClientConnections()
			server.Close()
		})
		return &drivertest.Target{Driver: spying{d, c}, Image: "ignored@sha256:0", Link: func(ctx context.Context, spec driver.Spec) (*link.Link, error) {
			c.mu.Lock()
			waiting := c.links[spec.ID]
			c.mu.Unlock()
			select {
			case l := <-waiting:
				return l, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}
	})
}

// TestAgentsDieWithTheProcess kills a process that has a driver, and looks for what it has started.
func TestAgentsDieWithTheProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MEMDRIVER_TEST_AGENT="+agent)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // again, for a test that failed before it did
	var dir string
	if _, err := fmt.Fscanln(out, &dir); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if alive(dir) == 0 {
		t.Fatal("no agent runs")
	}
	cmd.Process.Kill()
	cmd.Wait()
	for end := time.Now().Add(time.Minute); alive(dir) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the agent has outlived the process")
		}
	}
}

// alive counts the processes whose working folder is in dir.
func alive(dir string) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && strings.HasPrefix(cwd, dir+"/") {
			n++
		}
	}
	return n
}

func startAndHang(agent string) {
	tmp, err := os.MkdirTemp("", "mem-hang")
	if err != nil {
		panic(err)
	}
	os.Setenv("TMPDIR", tmp)
	d, err := memdriver.NewForward(memdriver.Options{Agent: agent})
	if err != nil {
		panic(err)
	}
	spec := driver.Spec{Container: strings.Repeat("ab", 32), ID: strings.Repeat("cd", 16), Secret: make([]byte, 32)}
	if _, err := d.Start(context.Background(), spec); err != nil {
		panic(err)
	}
	fmt.Println(tmp)
	select {}
}
