package agent

import (
	"os"
	"os/signal"
	"syscall"

	mobysignal "github.com/moby/sys/signal"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// parseSignal reads a name with or without SIG, or a number.
func parseSignal(name string) (syscall.Signal, error) {
	sig, err := mobysignal.ParseSignal(name)
	if err != nil || sig <= 0 || sig > 64 {
		return 0, wire.Errorf(protocol.CodeInvalid, "invalid signal: %s", name)
	}
	return sig, nil
}

// forwarded are passed on to the process when the agent gets them. To ask for a signal also makes its action in what
// the agent starts the default one, whatever the agent itself was started with.
var forwarded = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT,
	syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGALRM, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR,
}

// harmless are those that end a Go program which has not asked for them, by whomever they are sent. Any process of the
// container may send them to the agent; Docker's pid 1 the kernel keeps from them. Faults of the agent's own go on to end
// it, and so does ABRT, which makes it tell its goroutines.
var harmless = []os.Signal{
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSTKFLT, syscall.SIGSYS,
	// A platform that closes its end of stdout must not end the agent; ignoring it would be inherited.
	syscall.SIGPIPE,
}

// handleSignals passes signals on until stop is called.
func (a *Agent) handleSignals() (stop func()) {
	got := make(chan os.Signal, 16)
	signal.Notify(got, forwarded...)
	// The platform's way to end a replica. HUP and the like are for the process, which may live on; they wait for a start
	// or a pause that is under way, and must not take the place of this one meanwhile.
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	signal.Notify(make(chan os.Signal, 1), harmless...)
	go func() { // ends with stop
		for range end {
			a.terminate(syscall.SIGTERM)
		}
	}()
	go func() { // ends with stop
		for s := range got {
			_ = a.ask(false, func(i *incarnation) error { // nothing runs: nobody wants it
				a.pass(i, s.(syscall.Signal))
				return nil
			})
		}
	}()
	return func() {
		for _, c := range []chan os.Signal{end, got} {
			signal.Stop(c)
			close(c)
		}
	}
}
