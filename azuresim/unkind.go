package azuresim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Range is a span of durations out of which one is drawn each time.
type Range struct{ Min, Max time.Duration }

// Exactly is the range of one duration.
func Exactly(d time.Duration) Range { return Range{d, d} }

// Delays says how long Azure takes. A zero Range is "at once".
type Delays struct {
	Operation Range // a long-running ARM operation; zero: terminal in its first answer
	Provision Range // from an accepted start to the pull of the first image
	Status    Range // how far an execution's status lags behind what happened
	Ingestion Range // from a line to its row in Log Analytics
}

// chances are the fractions of calls that go wrong by themselves.
type chances struct{ throttle, dropPoll, dropWrite float64 }

// The defaults are on the quick side of what was seen live (a start of 20-30 s, ingestion of 20 s to 3 min), so that
// tests end, and on the slow side of what a naive client expects.
var (
	unkindDelays = Delays{
		Operation: Range{300 * time.Millisecond, 1500 * time.Millisecond},
		Provision: Range{500 * time.Millisecond, 3 * time.Second},
		Status:    Range{500 * time.Millisecond, 2 * time.Second},
		Ingestion: Range{2 * time.Second, 6 * time.Second},
	}
	unkindChances = chances{throttle: 0.05, dropPoll: 0.05, dropWrite: 0.03}
)

// limits are Azure's own.
type limits struct {
	tags, tagName, tagValue int
	page                    int
	history                 int
	cores                   float64 // of an environment; told, and not enforced
}

var azureLimits = limits{tags: 50, tagName: 512, tagValue: 256, page: 100, history: 100, cores: 100}

// dice is the seeded source of every random choice that is not a secret.
type dice struct {
	mu   sync.Mutex
	rand *rand.Rand
}

func newDice(seed uint64) *dice { return &dice{rand: rand.New(rand.NewPCG(seed, seed))} }

func (d *dice) in(r Range) time.Duration {
	if r.Max <= r.Min {
		return r.Min
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return r.Min + time.Duration(d.rand.Int64N(int64(r.Max-r.Min)+1))
}

func (d *dice) chance(fraction float64) bool {
	if fraction <= 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.Float64() < fraction
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

// suffix is what Azure appends to names of executions and replicas.
func (d *dice) suffix(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	d.mu.Lock()
	defer d.mu.Unlock()
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[d.rand.IntN(len(alphabet))]
	}
	return string(b)
}
