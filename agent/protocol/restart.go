package protocol

import "time"

// RestartPolicy says when a process that has ended is run again, in Docker's names: no, on-failure, always and
// unless-stopped. The empty name is no. The agent obeys it where the process ends, the engine where the execution does.
type RestartPolicy struct {
	Name string
	Max  int // restarts of on-failure; 0: no limit
}

// Restart is a restart to come.
type Restart struct {
	Count int           // of restarts, this one included
	Pause time.Duration // before it
}

// The pauses of dockerd's restart manager: doubled with each restart, and from the beginning again after a run that has
// lasted.
const (
	pauseFirst = 100 * time.Millisecond
	pauseMost  = time.Minute
	lasted     = 10 * time.Second
)

// After says what follows an exit, if nobody has asked for that: nil is nothing. count is how often the process was
// restarted before, pause the pause before the last time, ran how long it has run.
func (p RestartPolicy) After(code, count int, pause, ran time.Duration) *Restart {
	switch p.Name {
	case "always", "unless-stopped":
	case "on-failure":
		if code == 0 || p.Max > 0 && count >= p.Max {
			return nil
		}
	default:
		return nil
	}
	next := min(max(2*pause, pauseFirst), pauseMost)
	if ran >= lasted {
		next = pauseFirst
	}
	return &Restart{Count: count + 1, Pause: next}
}
