package doctor_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sockerless/sockerless/azuresim"
	"github.com/sockerless/sockerless/azuresim/runtime"
	"github.com/sockerless/sockerless/backends/aca"
	"github.com/sockerless/sockerless/backends/aca/doctor"
	"github.com/sockerless/sockerless/driver"
)

// newRunningWard is a ward whose jobs really run, with the agent that is built from its sources, once.
func newRunningWard(t *testing.T) *ward {
	t.Helper()
	rt, err := runtime.New(runtime.Options{Dir: filepath.Join(t.TempDir(), "replicas"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skipf("replicas cannot run here: %v", err)
	}
	w := newWard(t, azuresim.WithRuntime(rt))
	w.opt.Quick, w.opt.Azure.AgentBinary = false, ""
	open, err := aca.Open(t.Context(), w.opt.Azure, aca.Options{Instance: "test", Credential: w.opt.Credential})
	if err != nil {
		t.Fatal(err)
	}
	defer driver.Close(open)
	d, _ := driver.As[*aca.Driver](open)
	if err := d.PushAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.opt.Azure.AgentImage, _, err = d.AgentImage(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// closed is an address on which nobody listens, from below those that the kernel gives to whoever asks for any.
func closed(t *testing.T, from int) (addr, port string) {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", from+rand.IntN(6000)))
		if err != nil {
			continue
		}
		defer l.Close()
		_, port, _ = net.SplitHostPort(l.Addr().String())
		return l.Addr().String(), port
	}
	t.Fatal("no port is free")
	return "", ""
}

// A real job finds out whether it reaches the callback URL. It is gone afterwards, and it tells no one else's business.
func TestCallback(t *testing.T) {
	t.Parallel()
	w := newRunningWard(t)
	const host = "http://host.azuresim.internal:"
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	_, otherPort, _ := net.SplitHostPort(other.Listener.Addr().String())
	free, freePort := closed(t, 20000)
	_, nobodysPort := closed(t, 26000)
	const opened = ": start the backend there, and let the environment's subnet through to it (security groups, firewalls), or set SOCKERLESS_CALLBACK_URL to where it is"
	var work sync.WaitGroup // not t.Parallel: each waits for seconds, and is not to keep others from running
	for name, c := range map[string]struct{ url, addr, want string }{
		"nobody yet where the backend will be": {host + freePort, free, "ok   callback: from a job, the doctor, in the backend's place, answers at " + host + freePort},
		"nobody there":                         {host + nobodysPort, "", "FAIL callback: nothing answers a job at " + host + nobodysPort + opened},
		"something else there": {host + otherPort, other.Listener.Addr().String(), "FAIL callback: what answers a job at " + host + otherPort +
			" is no backend that is ready, or a proxy that lets no WebSocket through: start the backend, or see SOCKERLESS_CALLBACK_URL and SOCKERLESS_CALLBACK_PROXY"},
		"no such name": {"http://nosuch.invalid:9100", "", "FAIL callback: the host of http://nosuch.invalid:9100 has no address in the environment: set SOCKERLESS_CALLBACK_URL to a name that its virtual network resolves, or to an address"},
	} {
		work.Go(func() { // ends with its job
			opt := w.opt
			opt.Azure.CallbackURL, opt.Addr = c.url, c.addr
			got := ""
			for f := range doctor.Examine(t.Context(), opt) {
				switch {
				case f.Check == "callback":
					got = f.String()
				case f.Level != doctor.OK:
					t.Errorf("%s: not ok: %s", name, w.plain(f.String()))
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s: finding (-want +got):\n%s", name, diff)
			}
		})
	}
	work.Wait()
	if jobs := w.sim.Jobs(); len(jobs) > 0 {
		t.Errorf("left are %+v", jobs)
	}
}

// What no question about rights shows: the identity on the jobs may not pull.
func TestCallbackWithoutAcrPull(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.opt.Quick = false
	pulls := azuresim.Assignment{Principal: "5c0c1e55-0000-4000-8000-0000000000c1", Role: "AcrPull", Scope: w.sim.World().RegistryID()}
	if !w.sim.Unassign(pulls) {
		t.Fatal("the simulator has other roles than this test thinks")
	}
	want := []string{"FAIL callback: cannot ask from a job: cannot create job JOB: Azure answered 400 InvalidParameterValueInContainerTemplate: The following field(s) are either invalid or missing." +
		" Field 'configuration.registries' is invalid with details: 'unable to pull from registry REGISTRY using Managed identity " + pull + ": UNAUTHORIZED: authentication required, visit https://aka.ms/acr/authorization for more information.';" +
		": give the identity of SOCKERLESS_ACA_IDENTITY the role AcrPull on the registry, and let the environment's subnet through to that; a new role takes some minutes to hold"}
	if diff := cmp.Diff(want, w.lines(false)); diff != "" {
		t.Errorf("findings that are not ok (-want +got):\n%s", diff)
	}
	if jobs := w.sim.Jobs(); len(jobs) > 0 {
		t.Errorf("left are %+v", jobs)
	}
}
