package aca

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
)

// Dialler is a Driver in forward mode: the backend dials the agents.
//
// Container Apps gives a job execution no name in DNS, so this works only where somebody's resolver knows those names: a
// private zone that is kept up to date, or the simulator. Which one has to be said; without it Check refuses.
type Dialler struct {
	*Driver
	names *names
}

// Unwrap returns the driver that starts the jobs.
func (d *Dialler) Unwrap() driver.Driver { return d.Driver }

// Start asks the resolver whether it is there before it starts anything; see Driver.Start.
func (d *Dialler) Start(ctx context.Context, spec driver.Spec) (driver.Run, error) {
	if _, err := d.Check(spec); err != nil {
		return driver.Run{}, err
	}
	if err := d.names.probe(ctx, jobName(spec.Container)); err != nil {
		return driver.Run{}, sockerless.Errorf(sockerless.EUNAVAILABLE,
			"cannot start container %s: SOCKERLESS_ACA_RESOLVER %s does not answer, so its agent could not be dialled: %w", spec.Container[:12], d.config.Resolver, err)
	}
	return d.Driver.Start(ctx, spec)
}

// Probe says whether the resolver answers at all.
func (d *Dialler) Probe(ctx context.Context) error { return d.names.probe(ctx, "sockerless") }

// dialTimeout bounds one attempt to reach an agent; the engine tries again.
const dialTimeout = 5 * time.Second

// Dial connects to the agent of a run at {execution}:9111.
func (d *Dialler) Dial(ctx context.Context, run driver.Run) (net.Conn, error) {
	if !executionPattern.MatchString(run.Execution) {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot dial the agent of execution %q: no such name", run.Execution)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addresses, err := d.names.lookup(ctx, run.Execution)
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot dial the agent of %s: %w", run.Execution, err)
	}
	var failures []error
	for _, address := range addresses {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(address, agentPort))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, sockerless.Errorf(sockerless.EUNAVAILABLE, "cannot dial the agent of %s: %w", run.Execution, errors.Join(failures...))
}

// names finds the addresses of executions.
type names struct {
	resolver *net.Resolver
	system   bool
	address  string      // of the server, unless it is the system's resolver
	answered atomic.Bool // the resolver has been seen to answer
}

// newNames uses the DNS server at address, or the system's resolver.
func newNames(address string) *names {
	if address == SystemResolver {
		return &names{resolver: net.DefaultResolver, system: true}
	}
	return &names{address: address, resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
}

// lookup returns the addresses of an execution. With a server of our own the name is asked for as it is; with the
// system's resolver its search domains apply.
func (n *names) lookup(ctx context.Context, execution string) ([]string, error) {
	if !n.system {
		execution += "."
	}
	found, err := n.resolver.LookupNetIP(ctx, "ip4", execution)
	if told, ok := errors.AsType[*net.DNSError](err); ok && !n.system {
		told.Server = n.address // net names the system's server, which was not asked
	}
	if err != nil {
		return nil, err
	}
	addresses := make([]string, len(found))
	for i, a := range found {
		addresses[i] = a.Unmap().String()
	}
	return addresses, nil
}

// probe says whether the resolver answers at all: a name that it does not know is an answer too. Once is enough.
func (n *names) probe(ctx context.Context, name string) error {
	if n.answered.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	_, err := n.lookup(ctx, name)
	if unknown, ok := errors.AsType[*net.DNSError](err); err != nil && (!ok || !unknown.IsNotFound) {
		return fmt.Errorf("%s", oneLine(err.Error()))
	}
	n.answered.Store(true)
	return nil
}
