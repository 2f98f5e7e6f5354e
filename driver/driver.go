// Package driver is what the engine needs of a cloud: start and stop jobs that run one container each.
//
// A driver remembers nothing. What it returns is plain data that the engine stores and hands back, after a restart of
// the backend too. Every driver passes package drivertest.
package driver

import (
	"context"
	"io"
	"iter"
	"net"
	"time"
)

// Driver starts and stops jobs in one cloud. Its methods may be called concurrently. Errors carry one of the root
// package's codes; what the cloud said, its own code included, is in the message.
type Driver interface {
	// Info describes the cloud and where in it jobs run. It makes no call.
	Info() Info

	// Check says whether spec can be run here, without any call: what the cloud cannot do is EUNSUPPORTED and names
	// the option. The warnings tell what will be different, such as memory rounded up to a legal size.
	Check(spec Spec) (warnings []string, err error)

	// Start creates the job of spec.Container, or changes it if it is there, and starts one execution. It returns once
	// the cloud has accepted that execution. After an unclear answer it finds the execution that there is, so at most
	// one runs. On an error nothing runs, and a job that this call created is deleted.
	Start(ctx context.Context, spec Spec) (Run, error)

	// Status says how far an execution is. A run that the cloud does not know is PhaseGone, not an error.
	Status(ctx context.Context, run Run) (Status, error)

	// Stop ends the execution and returns once the cloud has accepted that. Stopping an ended one is not an error.
	Stop(ctx context.Context, run Run) error

	// Remove deletes the job and its executions, and returns once it is gone. Removing what is gone is not an error.
	Remove(ctx context.Context, run Run) error

	// Runs yields the latest run of every job that belongs to this instance: one listing, for recovery and prune.
	// Execution is empty where the cloud knows the job but no execution of it.
	Runs(ctx context.Context) iter.Seq2[Run, error]
}

// Info describes a driver.
type Info struct {
	Name     string            // "aca"
	Cloud    string            // which one: "AzureCloud", or what the simulator calls itself; empty: none
	Instance string            // tags the jobs of this backend; a driver touches no others
	Details  map[string]string // for `docker info`: region, environment...
	// StartGrace is how long the platform may take for a start before something must be wrong.
	StartGrace time.Duration
}

// Spec is one container to run. The process itself (arguments, environment, user) is not in it: the agent gets that
// over the link.
type Spec struct {
	Container string // the container's id
	Name      string // the container's name, for people who look at the cloud's own pages
	ID        string // of this start: 32 hexadecimal digits; the agent links under it
	Secret    []byte // 32 bytes, with which the agent proves that it is this start's
	Previous  string // the execution before this start; it is not taken for this start's, whatever else is unclear
	Image     string // repository@digest
	User      string // the image's USER, for drivers that run the agent themselves

	CPU        float64       // cores; 0: the driver's default
	Memory     int64         // bytes; 0: the driver's default
	MaxRuntime time.Duration // 0: the driver's default
	Orphan     time.Duration // how long the agent stays after an exit that nobody has asked for; 0: the agent's default

	Credential *Credential // of the image's registry, if the user gave one
}

// Credential opens a registry.
type Credential struct{ Server, Username, Password string }

// Run identifies one execution. It is plain data: safe to store, and good after a restart.
type Run struct {
	Container string // the container's id, from the job's tag
	ID        string // Spec.ID
	Job       string // the job's name
	Execution string // the execution's name
}

// Phase is how far an execution is.
type Phase string

// The phases.
const (
	PhaseStarting Phase = "starting" // accepted; the replica is being made
	PhaseRunning  Phase = "running"  // the cloud says so; it keeps saying so for some time after the end
	PhaseEnded    Phase = "ended"
	PhaseGone     Phase = "gone" // the cloud does not know it
)

// Status is what the cloud says of an execution.
type Status struct {
	Phase    Phase
	ExitCode *int   // where the cloud tells
	Reason   string // in the cloud's words, where it tells
	Started  time.Time
	Ended    time.Time
}

// LogReader is a driver whose cloud keeps the output of executions. Find it with [As].
type LogReader interface {
	// Logs yields what the cloud has kept of a run since a time, in order; of one without an execution, what it has of
	// all executions of the job. It may be late and it may have holes.
	Logs(ctx context.Context, run Run, since time.Time) iter.Seq2[Line, error]
}

// Line is one line of an execution's output.
type Line struct {
	Time   time.Time
	Stream string // "stdout" or "stderr"
	Text   string // without a newline
}

// Dialer is a driver whose agents are dialled (forward mode). Without it agents dial the backend. Find it with [As].
type Dialer interface {
	// Dial connects to the agent of a run. While the agent is not up yet the error is EUNAVAILABLE.
	Dial(ctx context.Context, run Run) (net.Conn, error)
}

// Explainer is a driver whose cloud can tell why an execution does not come up. Find it with [As].
type Explainer interface {
	// Explain returns the cloud's reason in one sentence, or "" if it has none yet.
	Explain(ctx context.Context, run Run) (string, error)
}

// Meter is a driver whose cloud tells how much of its quota is in use. Find it with [As].
type Meter interface {
	// Usage lists what has a quota where jobs run. It is one call to the cloud.
	Usage(ctx context.Context) ([]Usage, error)
}

// Usage is how much of one thing is in use, and how much may be.
type Usage struct {
	Name        string // in the cloud's words
	Used, Limit float64
}

// As returns the first driver in d's chain that is a T. Wrappers offer Unwrap() Driver, so that they hide nothing.
func As[T any](d Driver) (T, bool) {
	for d != nil {
		if t, ok := d.(T); ok {
			return t, true
		}
		w, ok := d.(interface{ Unwrap() Driver })
		if !ok {
			break
		}
		d = w.Unwrap()
	}
	var none T
	return none, false
}

// Close closes every driver in d's chain that is an io.Closer, and returns the first error.
func Close(d Driver) error {
	var first error
	for d != nil {
		if c, ok := d.(io.Closer); ok {
			if err := c.Close(); err != nil && first == nil {
				first = err
			}
		}
		w, ok := d.(interface{ Unwrap() Driver })
		if !ok {
			break
		}
		d = w.Unwrap()
	}
	return first
}
