package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/link"
)

// errandTime bounds the job: a start takes half a minute where nothing is wrong, and an image may be pulled for minutes.
const errandTime = 5 * time.Minute

// dials says whether the backend dials its agents.
func dials(o *Options) bool { return o.Azure.CallbackURL == "" }

func isDialled(o *Options) bool { return !dials(o) }

// checkCallback runs a job that finds out whether it reaches the backend. If nothing listens where the backend would, the
// doctor does meanwhile.
func checkCallback(ctx context.Context, p *patient) Finding {
	url := p.config.CallbackURL
	stop, asked, err := p.standIn(ctx)
	if err != nil {
		return fail("%v", err)
	}
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, errandTime)
	defer cancel()
	result, err := p.aca.Errand(ctx, p.probe, protocol.ReachCommand)
	where := "the backend"
	if asked.Load() {
		where = "the doctor, in the backend's place,"
	}
	_, code := status(err)
	switch {
	case code == badTemplate, errors.Is(err, aca.ErrNotBegun):
		return fail("cannot ask from a job: %v: %s", err, pulled)
	case err != nil:
		return fail("cannot ask from a job: %v", err)
	case result.ExitCode == nil && result.Succeeded:
		return ok("from a job, %s answers at %s", where, url)
	case result.ExitCode == nil:
		return fail("a job does not reach %s, and this cloud does not tell why%s: %s", url, because(result), opened)
	}
	switch code := *result.ExitCode; code {
	case protocol.Reached:
		return ok("from a job, %s answers at %s", where, url)
	case protocol.ReachNoName:
		return fail("the host of %s has no address in the environment: set SOCKERLESS_CALLBACK_URL to a name that its virtual network resolves, or to an address", url)
	case protocol.ReachNoAnswer:
		return fail("nothing answers a job at %s: %s", url, opened)
	case protocol.ReachUntrusted:
		if p.config.CallbackCAFile == "" {
			return fail("a job reaches %s, and no public authority vouches for its certificate: set SOCKERLESS_CALLBACK_CA_FILE to the one that does", url)
		}
		return fail("a job reaches %s, and the authorities of SOCKERLESS_CALLBACK_CA_FILE do not vouch for its certificate: set it to those that do", url)
	case protocol.ReachNoHub:
		return fail("what answers a job at %s is no backend that is ready, or a proxy that lets no WebSocket through: start the backend, or see SOCKERLESS_CALLBACK_URL and SOCKERLESS_CALLBACK_PROXY", url)
	case protocol.ReachOtherAgent:
		return fail("the backend at %s is of another version than this program: use one version of both", url)
	default:
		return fail("the job ended with code %d%s", code, because(result))
	}
}

// badTemplate is how Azure says, when a job is made, that its image cannot be pulled.
const badTemplate = "InvalidParameterValueInContainerTemplate"

// pulled is what lets a job pull its image.
const pulled = "give the identity of SOCKERLESS_ACA_IDENTITY the role AcrPull on the registry, and let the environment's subnet through to that" + newRole

// opened is what lets a job through to the callback URL.
const opened = "start the backend there, and let the environment's subnet through to it (security groups, firewalls), or set SOCKERLESS_CALLBACK_URL to where it is"

func because(r aca.ErrandResult) string {
	if r.Reason == "" {
		return ""
	}
	return " (" + r.Reason + ")"
}

// checkResolver is for a backend that dials its agents. That its resolver knows the names of executions only a start shows.
func checkResolver(ctx context.Context, p *patient) Finding {
	dialler, is := driver.As[*aca.Dialler](p.driver)
	if !is {
		return fail("agents are not dialled")
	}
	if err := dialler.Probe(ctx); err != nil {
		return fail("SOCKERLESS_ACA_RESOLVER %s does not answer: %v: set SOCKERLESS_CALLBACK_URL, so that agents dial the backend", p.config.Resolver, err)
	}
	return ok("%s answers; whether it knows the names of executions, a start shows", p.config.Resolver)
}

// standIn answers agents where the backend would, if nobody does. asked says whether one has come.
func (p *patient) standIn(ctx context.Context) (stop func(), asked *atomic.Bool, err error) {
	asked = &atomic.Bool{}
	if p.opt.Addr == "" {
		return func() {}, asked, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.opt.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return func() {}, asked, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %s, as the backend would: %w", p.opt.Addr, innermost(err))
	}
	hub := link.NewHub(link.Backend, func(string) ([]byte, bool) { return nil, false }, link.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc(aca.AgentRoute, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		hub.ServeHTTP(w, r)
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ConnState: link.NewStrangers(maxStrangers, nil).State}
	ended := make(chan struct{})
	go func() { // ends with srv
		defer close(ended)
		_ = srv.Serve(l) // a job that is not answered says so itself
	}()
	return func() {
		_ = errors.Join(hub.Close(), srv.Close())
		<-ended
	}, asked, nil
}

// maxStrangers is how many connections the doctor takes at a time: it waits for one.
const maxStrangers = 16
