package sockerless

import (
	"time"

	"github.com/sockerless/sockerless/tape"
)

// LogRecord is one line that a container wrote, or a part of a long one.
type LogRecord = tape.Record

// LogOptions selects log records. At least one stream must be asked for.
type LogOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time // zero: no bound
	Tail           int       // the last n lines; negative: all
}
