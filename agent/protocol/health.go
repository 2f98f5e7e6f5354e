package protocol

import "time"

// HealthCheck is how the agent finds out how the container's process is, by Docker's rules: a probe is run in each
// Interval, counted from the end of the last one, and the first one after one. Nothing is left open: Docker's defaults
// are filled in.
type HealthCheck struct {
	Process       Process // without a terminal
	Interval      time.Duration
	Timeout       time.Duration // what runs longer is killed, and has failed
	StartPeriod   time.Duration // since the start; failures within it do not count before the first success
	StartInterval time.Duration // in place of Interval in the start period, before the first success
	Retries       int           // how many failures in a row make it unhealthy
}

// HealthStatus is Docker's word for how the process is.
type HealthStatus string

// The statuses.
const (
	HealthStarting  HealthStatus = "starting"
	HealthHealthy   HealthStatus = "healthy"
	HealthUnhealthy HealthStatus = "unhealthy"
)

// Health is how the process of an incarnation is. Each event with one holds all that there is to know, so of the events
// that a backend has missed only those are kept that changed the status, at most some dozens, and the last one in any
// case: acknowledged too, it is given to a backend that asks for events before it.
type Health struct {
	Status        HealthStatus
	FailingStreak int
	Probes        uint64        // how many have ended
	Log           []ProbeResult // of the last of them, at most five, the oldest first
	Stopped       bool          // the process is paused and nothing probes it; then Status is HealthUnhealthy, as in Docker
}

// ProbeResult is what came of one probe. Late and Refused are failures without an exit code.
type ProbeResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string // the beginning, at most 4096 bytes; if it could not be started, why
	Truncated  bool   // there was more output
	Late       bool   // it was killed after the timeout
	Refused    string // it could not be started: a code
}

// Healthy says whether the probe has found the process well.
func (r ProbeResult) Healthy() bool { return r.ExitCode == 0 && !r.Late && r.Refused == "" }
