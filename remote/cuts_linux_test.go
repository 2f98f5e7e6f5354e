package remote_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/remote"
)

// network is the way from frontends to a backend, which can be cut.
type network struct {
	mu    sync.Mutex
	dial  func(context.Context) (net.Conn, error)
	conns []*carried
	down  bool
	made  int
}

// between puts a network between r's frontends and its server.
func between(r *rig) *network {
	n := &network{dial: r.netDial}
	r.netDial = n.connect
	return n
}

func (n *network) connect(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errors.New("the network is down")
	}
	conn, err := n.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &carried{TCPConn: conn.(*net.TCPConn)}
	n.conns = append(n.conns, c)
	n.made++
	return c, nil
}

// carried is a connection that knows how many bytes have come over it.
type carried struct {
	*net.TCPConn
	bytes atomic.Int64
}

func (c *carried) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// cut resets every connection and, if down, allows no other until the next cut.
func (n *network) cut(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for _, c := range n.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	n.conns = nil
}

// linked says whether every connection has carried more than a handshake.
func (n *network) linked() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !slices.ContainsFunc(n.conns, func(c *carried) bool { return c.bytes.Load() < 16<<10 })
}

// shaken cuts the network now and then until the test's end. A cut may hit a handshake, but the one after it comes when that
// is over, however slow the machine is, or after some seconds in which nothing is said.
func (n *network) shaken(t *testing.T) {
	stop := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for patience := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(30+rand.IntN(60)) * time.Millisecond):
			}
			linked := n.linked()
			if !linked && time.Now().Before(patience) {
				continue
			}
			n.cut(false)
			patience = time.Now()
			if !linked {
				patience = patience.Add(5 * time.Second)
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		cutter.Wait()
	})
}

// running starts a container that runs until the test's end.
func running(t *testing.T, b *sockerless.Backend, script string) string {
	t.Helper()
	res, err := b.Containers.Create(t.Context(), sockerless.CreateRequest{
		Config:     &docker.Config{Image: "shell", Cmd: []string{"sh", "-c", script}, OpenStdin: true},
		HostConfig: &docker.HostConfig{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Containers.Remove(context.Background(), res.ID, sockerless.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	if err := b.Containers.Start(t.Context(), res.ID); err != nil {
		t.Fatal(err)
	}
	return res.ID
}

// Cuts between frontend and backend are nothing that an exec, a copy, a log or an attach notices; several frontends at a time.
func TestNothingNoticesCuts(t *testing.T) {
	b, _ := newEngine(t)
	r := serve(t, "link", b)
	way := between(r)
	first, second := r.dial(t), r.dial(t)
	const lines = 20000
	id := running(t, b, fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done; exec cat", lines))
	way.shaken(t)
	data := make([]byte, 6<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	sum := sha256.Sum256(data)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	for _, c := range []*remote.Client{first, second} {
		all.Go(func() { // exec, both ways
			for i := range 3 {
				if err := execCat(ctx, c, id, data, sum); err != nil {
					t.Errorf("exec %d: %v", i, err)
				}
			}
		})
		all.Go(func() { // cp, both ways
			dir := t.TempDir()
			for i := range 3 {
				if err := copyBothWays(ctx, c, id, dir, data, sum); err != nil {
					t.Errorf("copy %d: %v", i, err)
				}
			}
		})
		all.Go(func() { // logs -f
			next := 0
			for rec, err := range c.Containers.Logs(ctx, id, sockerless.LogOptions{Stdout: true, Follow: true, Tail: -1}) {
				if want := fmt.Sprintf("line %d\n", next); err != nil || string(rec.Data) != want {
					t.Errorf("record %q, %v; want %q", rec.Data, err, want)
					return
				}
				if next++; next == lines {
					return
				}
			}
		})
	}
	all.Wait()
	// attach: cat gives back what it is sent, on both frontends.
	s, err := first.Containers.Attach(ctx, id, sockerless.AttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	bound(t, s)
	for i := range 200 {
		want := fmt.Sprintf("word %d\n", i)
		if _, err := io.WriteString(s, want); err != nil {
			t.Fatal(err)
		}
		frame := make([]byte, 8+len(want))
		if _, err := io.ReadFull(s, frame); err != nil || string(frame[8:]) != want {
			t.Fatalf("attach gave %q, %v; want %q", frame, err, want)
		}
	}
	way.mu.Lock()
	defer way.mu.Unlock()
	if way.made < 10 {
		t.Errorf("only %d connections: the cuts did not bite", way.made)
	}
}

// execCat sends data through cat, reads it back, and wants its exit code.
func execCat(ctx context.Context, c *remote.Client, id string, data []byte, sum [32]byte) error {
	exec, err := c.Execs.Create(ctx, id, sockerless.ExecConfig{Cmd: []string{"sh", "-c", "cat; exit 7"}, Stdin: true, Stdout: true})
	if err != nil {
		return err
	}
	s, err := c.Execs.Start(ctx, exec, sockerless.ExecStartOptions{})
	if err != nil {
		return err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	go func() { // ends with the session
		_, _ = s.Write(data)
		_ = s.CloseWrite()
	}()
	h := sha256.New()
	for {
		var head [8]byte
		if _, err := io.ReadFull(s, head[:]); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		n := int64(head[4])<<24 | int64(head[5])<<16 | int64(head[6])<<8 | int64(head[7])
		if _, err := io.CopyN(h, s, n); err != nil {
			return err
		}
	}
	found, err := c.Execs.Find(ctx, exec)
	switch {
	case err != nil:
		return err
	case [32]byte(h.Sum(nil)) != sum:
		return errors.New("other bytes came back")
	case found.ExitCode == nil || *found.ExitCode != 7:
		return fmt.Errorf("it ended as %+v", found)
	}
	return nil
}

// copyBothWays copies data into a folder and out of it again.
func copyBothWays(ctx context.Context, c *remote.Client, id, dir string, data []byte, sum [32]byte) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: int64(len(data))}), write(w, data), w.Close()); err != nil {
		return err
	}
	if err := c.Containers.WriteTree(ctx, id, dir, sockerless.WriteOptions{}, &archive); err != nil {
		return err
	}
	_, body, err := c.Containers.ReadTree(ctx, id, dir+"/f")
	if err != nil {
		return err
	}
	defer body.Close()
	back := tar.NewReader(body)
	if _, err := back.Next(); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, back); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != sum {
		return errors.New("other bytes came back")
	}
	return nil
}

func write(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

// While the network is down, what is new is refused within seconds, for all who ask at once and not one after the other;
// what runs goes on when it is back.
func TestNetworkDown(t *testing.T) {
	b, _ := newEngine(t)
	r := serve(t, "link", b)
	way := between(r)
	c := r.dial(t)
	id := running(t, b, "exec cat")
	s, err := c.Containers.Attach(t.Context(), id, sockerless.AttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	bound(t, s)
	way.cut(true)
	if _, err := io.WriteString(s, "hello"); err != nil { // it waits in the link
		t.Fatal(err)
	}
	begin := time.Now()
	var asked sync.WaitGroup
	for range 8 {
		asked.Go(func() {
			_, err := c.Containers.Find(t.Context(), id)
			if sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE || !strings.Contains(err.Error(), "the connection is cut") || !strings.Contains(err.Error(), r.addr) {
				t.Errorf("%v", err)
			}
		})
	}
	asked.Wait()
	if took := time.Since(begin); took > 30*time.Second { // 8 times 5 s if they waited for each other
		t.Errorf("the refusals took %v", took)
	}
	way.cut(false)
	got := make([]byte, 8+len("hello"))
	if _, err := io.ReadFull(s, got); err != nil || string(got[8:]) != "hello" {
		t.Errorf("after the cut: %q, %v", got, err)
	}
	if _, err := c.Containers.Find(t.Context(), id); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

// A backend that is restarted while a session runs ends the session with an error that says so; a frontend that is
// restarted leaves the container alone, and the next one goes on with it.
func TestRestarts(t *testing.T) {
	b, _ := newEngine(t)
	r := serve(t, "link", b)
	var mu sync.Mutex
	current := r.server
	r.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		s := current
		mu.Unlock()
		s.ServeHTTP(w, req)
	})
	between(r)
	c := r.dial(t)
	id := running(t, b, "exec cat")
	attach := func(c *remote.Client) sockerless.Session {
		t.Helper()
		s, err := c.Containers.Attach(t.Context(), id, sockerless.AttachOptions{Stream: true, Stdin: true, Stdout: true})
		if err != nil {
			t.Fatal(err)
		}
		bound(t, s)
		return s
	}
	echo := func(s sockerless.Session, word string) {
		t.Helper()
		got := make([]byte, 8+len(word))
		if _, err := io.WriteString(s, word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, got); err != nil || string(got[8:]) != word {
			t.Fatalf("%q, %v; want %q", got, err, word)
		}
	}
	before := attach(c)
	echo(before, "one")

	next := remote.NewServer(b, remote.ServerOptions{Token: r.token})
	defer next.Close()
	mu.Lock()
	current = next
	mu.Unlock()
	r.server.Close()
	if _, err := before.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the session of the old backend ends with %v, and not with an error", err)
	}
	second := attach(c)
	echo(second, "two")

	if err := c.Close(); err != nil { // the frontend
		t.Error(err)
	}
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("the session of the old frontend goes on")
	}
	again := r.dial(t)
	echo(attach(again), "three")
}

// quiet is a ContainerService whose containers say nothing, and a Session of one of them.
type quiet struct {
	sockerless.ContainerService
	input, gone chan struct{}
	once        *sync.Once
}

func (q quiet) Attach(context.Context, string, sockerless.AttachOptions) (sockerless.Session, error) {
	return q, nil
}

func (q quiet) Read([]byte) (int, error)    { <-q.gone; return 0, io.EOF }
func (q quiet) Write(b []byte) (int, error) { return len(b), nil }
func (q quiet) CloseWrite() error           { close(q.input); return nil }
func (q quiet) Close() error                { q.once.Do(func() { close(q.gone) }); return nil }

// A client that has ended its input and then vanishes is found out over a link too, however silent the container is.
func TestSilentClientGone(t *testing.T) {
	for _, way := range []string{"unix", "link"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			q := quiet{input: make(chan struct{}), gone: make(chan struct{}), once: new(sync.Once)}
			c := serve(t, way, &sockerless.Backend{Containers: q}).dial(t)
			s, err := c.Containers.Attach(t.Context(), "x", sockerless.AttachOptions{Stream: true, Stdin: true, Stdout: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-q.input:
			case <-time.After(patience):
				t.Fatal("the end of the input does not come")
			}
			select {
			case <-q.gone:
				t.Fatal("it ended on a half-close")
			case <-time.After(4 * time.Second):
			}
			_ = s.(interface{ Reset() error }).Reset() // as a frontend does whose client has vanished
			select {
			case <-q.gone:
			case <-time.After(patience):
				t.Error("it goes on")
			}
		})
	}
}
