package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
)

// endPatience is how long the agent's end waits for answers that are on their way.
const endPatience = 3 * time.Second

// flushPause is how long the last frames of streams may take from the multiplexer to the link.
const flushPause = 50 * time.Millisecond

// dialPatience is how long one Dial may go on before the reason for its failures is noted.
const dialPatience = 30 * time.Second

// refusedPause is how long an agent whose process runs waits before it asks again a backend that has refused it.
const refusedPause = time.Minute

// Run links to the backend and answers it until the agent's end, and returns the exit code of the process. Nothing that
// was started is alive then.
func (a *Agent) Run() int {
	defer a.stopped()
	stop := a.handleSignals()
	defer stop()
	a.hold(time.Now())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var served sync.WaitGroup
	if a.settings.Callback != "" {
		served.Go(func() { a.dial(ctx) }) // ends with ctx
	} else {
		served.Go(func() { a.listen(ctx) }) // ends with ctx
	}
	<-a.over
	killDescendants()
	a.output.finish()
	a.server.SetKeepAlivesEnabled(false) // each answer is the last on its stream, which then has an end of its own
	a.requests.drain(endPatience)
	cancel() // says goodbye on the links
	served.Wait()
	a.stopped()
	a.tee.close()
	a.tape.spool.close()
	a.reaper.close()
	return a.code
}

// dial keeps a link to the backend.
func (a *Agent) dial(ctx context.Context) {
	id := link.Identity{Role: link.Agent, ID: a.settings.RunID, Secret: a.settings.Secret, Hello: a.hello()}
	opt := a.settings.way()
	opt.Logger = a.log
	for ctx.Err() == nil {
		attempt, enough := context.WithTimeout(ctx, min(dialPatience, a.settings.Hold/2))
		l, err := link.Dial(attempt, link.Target{URL: a.settings.Callback}, id, opt)
		enough()
		a.noteLink(err)
		if err == nil {
			a.serve(ctx, l)
			err = l.Err()
		}
		if !link.Permanent(err) {
			continue
		}
		if a.giveUp(err) {
			return
		}
		select {
		case <-time.After(refusedPause):
		case <-ctx.Done():
		}
	}
}

// way is how the settings say that the backend is reached.
func (s *Settings) way() link.Options {
	var opt link.Options
	switch {
	case len(s.CA) > 0:
		opt.RootCAs = x509.NewCertPool()
		opt.RootCAs.AppendCertsFromPEM(s.CA)
	case strings.HasPrefix(s.Callback, "https:"):
		opt.RootCAs = authorities(x509.SystemCertPool)
	}
	switch {
	case s.Proxy == directProxy:
		opt.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	case s.Proxy != "":
		opt.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(s.Proxy) }
	}
	return opt
}

// noteLink keeps what an agent that gives up will say.
func (a *Agent) noteLink(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unreached = err
}

// giveUp ends an agent that no backend wants before it has started anything. One whose process runs goes on.
func (a *Agent) giveUp(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != protocol.PhaseHeld {
		return false
	}
	a.finish(ExitAgent, err.Error())
	return true
}

// listen serves a hub, for backends that dial the agent.
func (a *Agent) listen(ctx context.Context) {
	if err := a.serveHub(ctx); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.finish(ExitAgent, err.Error())
	}
}

// maxStrangers is how many connections there may be that are not the backend's link: whoever is in the container's network can
// make them.
const maxStrangers = 64

func (a *Agent) serveHub(ctx context.Context) error {
	network, address := "tcp", a.settings.Listen
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("cannot replace the socket that the agent is to listen on: %w", err)
		}
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, network, address)
	if err != nil {
		return fmt.Errorf("cannot listen for a backend: %w", err)
	}
	if network == "unix" {
		if err := os.Chmod(address, 0o600); err != nil {
			_ = l.Close()
			return fmt.Errorf("cannot close the socket to others: %w", err)
		}
	}
	secret := func(id string) ([]byte, bool) { return a.settings.Secret, id == a.settings.RunID }
	hub := link.NewHub(link.Agent, secret, link.Options{Hello: a.hello(), Logger: a.log})
	mux := http.NewServeMux()
	mux.Handle("/agent", hub)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnState:         link.NewStrangers(maxStrangers, nil).State,
		ErrorLog:          log.New(io.Discard, "", 0), // whoever knocks at a port must not fill the container's log
	}
	var listening, links sync.WaitGroup
	listening.Go(func() {
		server.Serve(l) //nolint:errcheck // ends with the Close below
	})
	for {
		one, err := hub.Accept(ctx)
		if err != nil {
			break
		}
		links.Go(func() { a.serve(ctx, one) }) // ends with the link
	}
	links.Wait() // each says goodbye in its own time
	err = errors.Join(hub.Close(), server.Close())
	listening.Wait()
	return err
}

func (a *Agent) hello() link.Hello {
	return link.Hello{Execution: a.settings.Execution, BootID: a.bootID, Version: a.version}
}

// serve answers on a link until it ends, or ctx does; then it says goodbye.
func (a *Agent) serve(ctx context.Context, l *link.Link) {
	stop := context.AfterFunc(ctx, func() {
		// A goodbye ends streams where they are, so the other end gets all of them first. The last frames
		// are in the multiplexer's queue for a moment, which nobody can look into.
		time.Sleep(flushPause)
		for end := time.Now().Add(endPatience); l.Stats().Unacked > 0 && l.Connected() && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		_ = l.Close() // a link that is broken is over all the same
	})
	defer stop()
	a.server.Serve(l) //nolint:errcheck // the link's own error says why it ended
	_ = l.Close()     // as above
}

type linkKey struct{}

func (a *Agent) newServer() *http.Server {
	return &http.Server{
		Handler:           a.requests.count(a.handler()),
		ConnState:         a.requests.state,
		ReadHeaderTimeout: 2 * link.ResumeWindow,
		ErrorLog:          log.New(io.Discard, "", 0), // the link says what there is to say
		BaseContext: func(l net.Listener) context.Context {
			return context.WithValue(context.Background(), linkKey{}, l)
		},
	}
}

// connected returns a function that says whether the link of a request has a carrier now.
func connected(ctx context.Context) func() bool {
	if l, ok := ctx.Value(linkKey{}).(*link.Link); ok {
		return l.Connected
	}
	return func() bool { return true }
}

// requests knows the requests and sessions that are being answered.
type requests struct {
	mu       sync.Mutex
	conns    map[net.Conn]struct{} // have had a request; closed once keep-alives are off and the answer is written
	handlers int                   // those of sessions have taken their connection over
	idle     bell
}

func newRequests() *requests { return &requests{conns: map[net.Conn]struct{}{}} }

// state is the server's hook.
func (r *requests) state(c net.Conn, s http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s {
	case http.StateActive:
		r.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(r.conns, c)
		r.idle.ring()
	}
}

func (r *requests) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.handlers++
		r.mu.Unlock()
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.handlers--
			r.idle.ring()
		}()
		h.ServeHTTP(w, req)
	})
}

// drain waits until none is left, for a bounded time. Keep-alives are off.
func (r *requests) drain(patience time.Duration) {
	late := time.After(patience)
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.handlers > 0 || len(r.conns) > 0 {
		idle := r.idle.wait()
		r.mu.Unlock()
		select {
		case <-idle:
		case <-late:
			r.mu.Lock()
			return
		}
		r.mu.Lock()
	}
}
