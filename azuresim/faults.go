package azuresim

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Fault is something that goes wrong for the next Times matching calls. Its JSON is the body of POST /_sim/faults.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Method string    `json:"method,omitempty"` // empty: any
	Path   string    `json:"path,omitempty"`   // regular expression over the path, case ignored; empty: any
	Times  int       `json:"times,omitempty"`  // 0 is once; negative is for ever

	// Of an answer and of a failing operation:
	Status     int    `json:"status,omitempty"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
	RetryAfter int    `json:"retryAfter,omitempty"` // seconds; a header when it is positive

	Seconds int `json:"seconds,omitempty"` // that an answer is late

	pattern *regexp.Regexp
}

// FaultKind says what goes wrong.
type FaultKind string

// The kinds of faults.
const (
	// FaultAnswer answers Status with an error of Code and Message; the call has no effect.
	FaultAnswer FaultKind = "answer"
	// FaultDrop cuts the connection before the call has an effect.
	FaultDrop FaultKind = "drop"
	// FaultDropAnswer lets the call have its effect and cuts the connection before the answer.
	FaultDropAnswer FaultKind = "drop-answer"
	// FaultLateAnswer lets the call have its effect and answers Seconds later.
	FaultLateAnswer FaultKind = "late-answer"
	// FaultOperation lets the long-running operation that the call starts end as Failed with Code and Message.
	FaultOperation FaultKind = "operation"
	// FaultPartial makes a log query answer 200 with half of its rows and a PartialError.
	FaultPartial FaultKind = "partial"
)

// faults are the injected ones, oldest first.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Inject adds a fault. An unknown kind or a bad expression is an error.
func (s *Simulator) Inject(f Fault) error {
	switch f.Kind {
	case FaultAnswer:
		if f.Status < 400 || f.Status > 599 {
			return fmt.Errorf("cannot inject fault: status %d is no error", f.Status)
		}
	case FaultDrop, FaultDropAnswer, FaultLateAnswer, FaultOperation, FaultPartial:
	default:
		return fmt.Errorf("cannot inject fault: unknown kind %q", f.Kind)
	}
	pattern, err := regexp.Compile("(?i)" + f.Path)
	if err != nil {
		return fmt.Errorf("cannot inject fault: %w", err)
	}
	f.pattern = pattern
	if f.Times == 0 {
		f.Times = 1
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &f)
	return nil
}

// Fail answers the next n calls of method whose path matches the expression with status and an error of code and message.
func (s *Simulator) Fail(method, path string, n, status int, code, message string) error {
	return s.Inject(Fault{Kind: FaultAnswer, Method: method, Path: path, Times: n, Status: status, Code: code, Message: message})
}

// DropAnswer lets the next n matching calls happen and cuts their connections before the answer.
func (s *Simulator) DropAnswer(method, path string, n int) error {
	return s.Inject(Fault{Kind: FaultDropAnswer, Method: method, Path: path, Times: n})
}

// FailOperation lets the long-running operations of the next n matching calls end as Failed.
func (s *Simulator) FailOperation(method, path string, n int, code, message string) error {
	return s.Inject(Fault{Kind: FaultOperation, Method: method, Path: path, Times: n, Code: code, Message: message})
}

// ClearFaults forgets every injected fault.
func (s *Simulator) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

// take uses up one matching fault of one of the kinds; nil if there is none.
func (f *faults) take(method, path string, kinds ...FaultKind) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if !fault.matches(method, path, kinds) {
			continue
		}
		if fault.Times > 0 {
			if fault.Times--; fault.Times == 0 {
				f.list = append(f.list[:i:i], f.list[i+1:]...)
			}
		}
		return fault
	}
	return nil
}

// giveBack undoes a take.
func (f *faults) giveBack(fault *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fault.Times < 0 {
		return
	}
	if fault.Times++; fault.Times == 1 {
		f.list = append(f.list, fault)
	}
}

func (f *Fault) matches(method, path string, kinds []FaultKind) bool {
	if f.Method != "" && f.Method != method || !f.pattern.MatchString(path) {
		return false
	}
	for _, k := range kinds {
		if f.Kind == k {
			return true
		}
	}
	return false
}

// serve answers the request by next, or as a fault says.
func (f *faults) serve(w http.ResponseWriter, r *http.Request, path string, next func(http.ResponseWriter)) {
	fault := f.take(r.Method, path, FaultAnswer, FaultDrop, FaultDropAnswer, FaultLateAnswer)
	if fault == nil {
		next(w)
		return
	}
	switch fault.Kind {
	case FaultDrop:
		dropConnection()
	case FaultDropAnswer:
		next(&keptAnswer{header: http.Header{}})
		dropConnection()
	case FaultLateAnswer:
		kept := &keptAnswer{header: http.Header{}}
		next(kept)
		if kept.status >= http.StatusBadRequest { // it had no effect, as when the simulator is unkind: the fault waits for one that has
			f.giveBack(fault)
			kept.send(w)
			return
		}
		late := time.NewTimer(time.Duration(fault.Seconds) * time.Second)
		defer late.Stop()
		select {
		case <-late.C:
			kept.send(w)
		case <-r.Context().Done(): // nobody waits for it any more
			dropConnection()
		}
	default:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		writeARMError(w, fault.Status, fault.Code, fault.Message)
	}
}

// dropConnection ends the request without an answer: net/http closes the connection on this panic.
func dropConnection() { panic(http.ErrAbortHandler) }

// keptAnswer takes an answer that nobody sees, or sees later.
type keptAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (k *keptAnswer) Header() http.Header { return k.header }

func (k *keptAnswer) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
}

func (k *keptAnswer) Write(p []byte) (int, error) {
	k.WriteHeader(http.StatusOK)
	k.body = append(k.body, p...)
	return len(p), nil
}

func (k *keptAnswer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), k.header)
	k.WriteHeader(http.StatusOK)
	w.WriteHeader(k.status)
	w.Write(k.body) //nolint:errcheck // the client may have gone
}
