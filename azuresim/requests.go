package azuresim

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

// Request is one call that the simulator answered.
type Request struct {
	Seq      int       `json:"seq"` // counts from 1
	Time     time.Time `json:"time"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Query    string    `json:"query,omitempty"`
	Status   int       `json:"status"`             // 0: the connection was cut without an answer
	Identity string    `json:"identity,omitempty"` // name of the principal, if it showed a valid token
}

// requestLog keeps the newest requests.
type requestLog struct {
	mu   sync.Mutex
	seq  int
	list []Request
}

// requestsKept bounds the log; a soak test asks for some thousand.
const requestsKept = 50_000

func newRequestLog() *requestLog { return &requestLog{} }

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	r.Seq = l.seq
	if len(l.list) >= requestsKept {
		l.list = slices.Delete(l.list, 0, requestsKept/10)
	}
	l.list = append(l.list, r)
}

// Requests lists the calls with a greater number than seq (0: all that are kept), oldest first.
func (s *Simulator) Requests(seq int) []Request {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.requests.list, seq+1, func(r Request, seq int) int { return r.Seq - seq })
	return slices.Clone(s.requests.list[i:])
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController and ReadFrom reach the real writer.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
