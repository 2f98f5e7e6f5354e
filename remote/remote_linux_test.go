package remote_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"go.uber.org/goleak"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/backendtest"
	"github.com/sockerless/sockerless/driver/drivertest"
	"github.com/sockerless/sockerless/driver/memdriver"
	"github.com/sockerless/sockerless/engine"
	"github.com/sockerless/sockerless/remote"
)

var agentBinary string

// patience is for what must come, and bounds what hangs.
const patience = 3 * time.Minute

// bound closes a session of a test that hangs, and with the test at the latest.
func bound(t *testing.T, s sockerless.Session) {
	late := time.AfterFunc(patience, func() { s.Close() })
	t.Cleanup(func() { late.Stop(); s.Close() })
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "remote")
	if err == nil {
		agentBinary, err = drivertest.BuildAgent(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// oneImage is the mem driver's images, with a registry that answers what it was asked.
type oneImage struct {
	memdriver.Images
	loaded []byte // by Load
}

func (s *oneImage) Auth(_ context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	return &registry.AuthResponse{Status: "hello " + auth.Username}, nil
}

func (s *oneImage) Pull(_ context.Context, ref string, opt sockerless.PullOptions) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		if yield(jsonstream.Message{Status: ref + " " + opt.Platform + " " + opt.Auth.Username}, nil) {
			yield(jsonstream.Message{}, sockerless.Errorf(sockerless.EUNAVAILABLE, "the registry went away"))
		}
	}
}

func (s *oneImage) Load(_ context.Context, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		if !yield(jsonstream.Message{Status: "begun"}, nil) {
			return
		}
		var err error
		if s.loaded, err = io.ReadAll(tar); err != nil {
			yield(jsonstream.Message{}, err)
			return
		}
		yield(jsonstream.Message{Stream: fmt.Sprintf("loaded %d", len(s.loaded))}, nil)
	}
}

func (s *oneImage) Import(_ context.Context, opt sockerless.ImportOptions, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		b, err := io.ReadAll(tar)
		yield(jsonstream.Message{Stream: fmt.Sprintf("%s %s %q", opt.Ref, b, opt.Changes)}, err)
	}
}

func (s *oneImage) Tag(_ context.Context, ref, target string) error {
	return sockerless.Errorf(sockerless.ECONFLICT, "cannot tag %s as %s", ref, target)
}

func (s *oneImage) Remove(_ context.Context, ref string, force bool) ([]image.DeleteResponse, error) {
	return []image.DeleteResponse{{Untagged: fmt.Sprint(ref, force)}}, nil
}

// newEngine opens an engine over the mem driver.
func newEngine(t *testing.T) (*sockerless.Backend, *oneImage) {
	t.Helper()
	dir := t.TempDir()
	key, err := engine.LoadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, err := memdriver.NewForward(memdriver.Options{Agent: agentBinary})
	if err != nil {
		t.Fatal(err)
	}
	store := &oneImage{}
	e, err := engine.Open(t.Context(), engine.Options{Dir: dir, Driver: d, Key: key, Images: store, Version: "test", Linger: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(e.Close(ctx), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return e.Backend(), store
}

// rig is a Server on one of the ways that lead to it.
type rig struct {
	addr    string
	token   remote.Token
	file    string // the token's
	roots   *x509.CertPool
	netDial func(context.Context) (net.Conn, error)
	server  *remote.Server
	http    *httptest.Server
}

var ways = []string{"unix", "loopback", "link", "link over https"}

func serve(t testing.TB, way string, b *sockerless.Backend) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "remote") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{file: remote.TokenFile(dir)}
	if r.token, err = remote.CreateToken(r.file); err != nil {
		t.Fatal(err)
	}
	r.server = remote.NewServer(b, remote.ServerOptions{Token: r.token, Version: "server"})
	r.http = httptest.NewUnstartedServer(r.server)
	port := func() string { return fmt.Sprint(r.http.Listener.Addr().(*net.TCPAddr).Port) }
	switch way {
	case "unix":
		r.http.Listener.Close()
		path := filepath.Join(dir, "backend.sock")
		if r.http.Listener, err = net.Listen("unix", path); err != nil {
			t.Fatal(err)
		}
		r.addr = "unix://" + path
		r.http.Start()
	case "loopback":
		r.http.Start()
		r.addr = "http://localhost:" + port()
	case "link":
		r.http.Start()
		r.addr = "http://backend.test:9100"
		r.netDial = func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", r.http.Listener.Addr().String())
		}
	case "link over https":
		r.http.StartTLS()
		r.addr = "https://127.0.0.1:" + port()
		r.roots = x509.NewCertPool()
		r.roots.AddCert(r.http.Certificate())
	}
	t.Cleanup(func() {
		r.server.Close()
		r.http.CloseClientConnections()
		r.http.Close()
	})
	return r
}

func (r *rig) dial(t testing.TB) *remote.Client {
	t.Helper()
	c, err := remote.Dial(r.addr, remote.DialOptions{TokenFile: r.file, RootCAs: r.roots, Version: "test", NetDial: r.netDial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestBackend(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("agents run on Linux")
	}
	// The whole contract over plain HTTP, and over all that can be between: in make soak over each of them.
	whole := []string{"loopback", "link over https"}
	if os.Getenv("SOCKERLESS_SOAK") != "" {
		whole = ways
	}
	for _, way := range whole {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			backendtest.Run(t, func(t *testing.T) *backendtest.Target {
				b, _ := newEngine(t)
				return &backendtest.Target{Backend: &serve(t, way, b).dial(t).Backend, Image: "shell", Linger: true}
			})
		})
	}
}

// TestImages: what backendtest cannot ask of an engine without a registry.
func TestImages(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			store := &oneImage{}
			c := serve(t, way, &sockerless.Backend{Images: store}).dial(t)
			ctx := t.Context()
			collect := func(feed iter.Seq2[jsonstream.Message, error]) (all []string, err error) {
				for m, err := range feed {
					if err != nil {
						return all, err
					}
					all = append(all, m.Status+m.Stream)
				}
				return all, nil
			}
			got, err := collect(c.Images.Pull(ctx, "x", sockerless.PullOptions{Platform: "linux/amd64", Auth: &registry.AuthConfig{Username: "u"}}))
			if diff := cmp.Diff([]string{"x linux/amd64 u"}, got); diff != "" || sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || err.Error() != "the registry went away" {
				t.Errorf("pull: %v\n%s", err, diff)
			}
			archive := strings.Repeat("0123456789", 1<<20)
			got, err = collect(c.Images.Load(ctx, strings.NewReader(archive)))
			if diff := cmp.Diff([]string{"begun", "loaded 10485760"}, got); diff != "" || err != nil || string(store.loaded) != archive {
				t.Errorf("load: %v\n%s", err, diff)
			}
			got, err = collect(c.Images.Import(ctx, sockerless.ImportOptions{Ref: "a:b", Changes: []string{"CMD x"}}, strings.NewReader("tar")))
			if diff := cmp.Diff([]string{`a:b tar ["CMD x"]`}, got); diff != "" || err != nil {
				t.Errorf("import: %v\n%s", err, diff)
			}
			img, err := c.Images.Find(ctx, "shell")
			if err != nil || img.ID != memdriver.Shell.ID {
				t.Errorf("find: %+v, %v", img, err)
			}
			if img, err := c.Images.Find(ctx, "nosuch"); img != nil || sockerless.ErrorCode(err) != sockerless.ENOTFOUND || err.Error() != "No such image: nosuch" {
				t.Errorf("find: %+v, %v", img, err)
			}
			listed := 0
			for img, err := range c.Images.List(ctx, sockerless.ImageListOptions{}) {
				listed++
				if err != nil || img.Source != memdriver.Shell.Source {
					t.Errorf("list: %+v, %v", img, err)
				}
			}
			if listed != 1 {
				t.Errorf("%d images are listed", listed)
			}
			if err := c.Images.Tag(ctx, "a", "b"); sockerless.ErrorCode(err) != sockerless.ECONFLICT || err.Error() != "cannot tag a as b" {
				t.Errorf("tag: %v", err)
			}
			if got, err := c.Images.Remove(ctx, "a", true); err != nil || len(got) != 1 || got[0].Untagged != "atrue" {
				t.Errorf("remove: %v, %v", got, err)
			}
			// A service that is not offered there is refused by name.
			if _, err := c.System.Info(ctx); sockerless.ErrorCode(err) != sockerless.EUNSUPPORTED || !strings.Contains(err.Error(), "/v1/system/info") {
				t.Errorf("a service that is not there: %v", err)
			}
		})
	}
}

// TestToken: without the token nothing is answered, and it is taken from this machine alone.
func TestToken(t *testing.T) {
	r := serve(t, "loopback", &sockerless.Backend{Images: &oneImage{}})
	base := "http://" + r.http.Listener.Addr().String()
	for _, c := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"the token", http.Header{"Authorization": {"Bearer " + r.token.String()}}, 200},
		{"none", http.Header{}, 401},
		{"a wrong one", http.Header{"Authorization": {"Bearer " + remote.Token{}.String()}}, 401},
		{"the start of it", http.Header{"Authorization": {"Bearer " + r.token.String()[:32]}}, 401},
		{"an empty one", http.Header{"Authorization": {"Bearer "}}, 401},
		{"another scheme", http.Header{"Authorization": {"Basic " + r.token.String()}}, 401},
		{"from a web page", http.Header{"Authorization": {"Bearer " + r.token.String()}, "Origin": {"https://example.com"}}, 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, _ := http.NewRequest("POST", base+"/v1/images/find", strings.NewReader(`{"Ref":"shell"}`))
			req.Header = c.header
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || strings.Contains(string(b), r.token.String()) {
				t.Errorf("%d %s, want %d", resp.StatusCode, b, c.status)
			}
		})
	}
	t.Run("from another machine", func(t *testing.T) {
		req := httptest.NewRequest("POST", "/v1/images/find", strings.NewReader(`{"Ref":"shell"}`)) // from 192.0.2.1
		req.Header.Set("Authorization", "Bearer "+r.token.String())
		w := httptest.NewRecorder()
		r.server.ServeHTTP(w, req)
		if w.Code != 401 || !strings.Contains(w.Body.String(), "connect by a link") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// Refused requests do not fill the log: anybody can send them.
func TestRefusalsAreLoggedTogether(t *testing.T) {
	var log bytes.Buffer
	s := remote.NewServer(&sockerless.Backend{}, remote.ServerOptions{Token: remote.Token{1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer s.Close()
	for range 100 {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/images/find", nil))
		if w.Code != http.StatusUnauthorized {
			t.Fatalf("%d", w.Code)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "refused a request") || !strings.Contains(got, "remote=192.0.2.1") {
		t.Errorf("the log says\n%s", got)
	}
}

// TestWrongToken: both ways refuse it for good and say where the token came from.
func TestWrongToken(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			r := serve(t, way, &sockerless.Backend{Images: &oneImage{}})
			r.file = filepath.Join(t.TempDir(), "token")
			if _, err := remote.CreateToken(r.file); err != nil {
				t.Fatal(err)
			}
			c := r.dial(t)
			if _, err := c.Images.Find(t.Context(), "shell"); sockerless.ErrorCode(err) != sockerless.EFORBIDDEN {
				t.Errorf("%v", err)
			}
			// The right one is found without a restart.
			if err := os.WriteFile(r.file, []byte(r.token.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Images.Find(t.Context(), "shell"); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAway: a backend that is not there is told at once and by name, and found when it is.
func TestAway(t *testing.T) {
	for _, way := range []string{"unix", "loopback"} {
		t.Run(way, func(t *testing.T) {
			r := serve(t, way, &sockerless.Backend{Images: &oneImage{}})
			r.http.Close()
			c := r.dial(t)
			_, err := c.Images.Find(t.Context(), "shell")
			if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.HasPrefix(err.Error(), "cannot reach the backend at "+r.addr) || !strings.HasSuffix(err.Error(), "is it running?") {
				t.Errorf("%v", err)
			}
			var told []sockerless.Code
			for _, err := range c.Images.List(t.Context(), sockerless.ImageListOptions{}) {
				told = append(told, sockerless.ErrorCode(err))
			}
			if diff := cmp.Diff([]sockerless.Code{sockerless.EUNAVAILABLE}, told); diff != "" {
				t.Errorf("feed: %s", diff)
			}
			if _, err := c.Containers.Attach(t.Context(), "x", sockerless.AttachOptions{}); sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE {
				t.Errorf("session: %v", err)
			}
			if err := os.Remove(r.file); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Images.Find(t.Context(), "shell"); sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.Contains(err.Error(), r.file) {
				t.Errorf("without a token: %v", err)
			}
		})
	}
}

// TestLost: a backend that dies in the middle is EUNAVAILABLE, a caller that gives up is not.
func TestLost(t *testing.T) {
	entered := make(chan bool, 1)
	r := serve(t, "loopback", &sockerless.Backend{Images: &oneImage{}, System: hanging{entered: entered}})
	c := r.dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { <-entered; cancel() }()
	if _, err := c.System.Info(ctx); !errors.Is(err, context.Canceled) || sockerless.ErrorCode(err) != sockerless.EINTERNAL {
		t.Errorf("given up: %v", err)
	}
	go func() { <-entered; r.http.CloseClientConnections() }()
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.System.Info(ctx); sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.Contains(err.Error(), "lost the backend") {
		t.Errorf("lost: %v", err)
	}
}

// hanging is a SystemService whose Info never answers.
type hanging struct {
	sockerless.SystemService
	entered chan bool
}

func (h hanging) Info(ctx context.Context) (*system.Info, error) {
	h.entered <- true
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestLinkComesBack: when the backend was restarted, a request makes a new link, once the end of the old one is known.
func TestLinkComesBack(t *testing.T) {
	r := serve(t, "link", &sockerless.Backend{Images: &oneImage{}})
	var mu sync.Mutex
	current := r.server
	r.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		s := current
		mu.Unlock()
		s.ServeHTTP(w, req)
	})
	c := r.dial(t)
	if _, err := c.Images.Find(t.Context(), "shell"); err != nil {
		t.Fatal(err)
	}
	next := remote.NewServer(&sockerless.Backend{Images: &oneImage{}}, remote.ServerOptions{Token: r.token})
	defer next.Close()
	mu.Lock()
	current = next
	mu.Unlock()
	r.server.Close()
	_, err := c.Images.Find(t.Context(), "shell")
	for deadline := time.Now().Add(patience); sockerless.ErrorCode(err) == sockerless.EUNAVAILABLE && time.Now().Before(deadline); {
		_, err = c.Images.Find(t.Context(), "shell") // the goodbye was on its way
	}
	if err != nil {
		t.Errorf("after the restart: %v", err)
	}
}
