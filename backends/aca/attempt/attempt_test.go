package attempt_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/sockerless/sockerless/backends/aca/attempt"
)

// TestOwnBody: a server that is busy answers before it has read the body. The race detector sees two attempts at one reader.
func TestOwnBody(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 400_000)
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%4 != 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d of %d bytes came, or others: %v", len(got), len(body), err)
		}
	}))
	defer s.Close()
	client := s.Client()
	defer client.CloseIdleConnections()
	p := runtime.NewPipeline("test", "1", runtime.PipelineOptions{}, &policy.ClientOptions{
		Transport:        client,
		Retry:            policy.RetryOptions{MaxRetries: 100, RetryDelay: time.Millisecond, MaxRetryDelay: time.Millisecond},
		PerRetryPolicies: []policy.Policy{attempt.OwnBody{}},
	})
	for range 4 {
		req, err := runtime.NewRequest(t.Context(), http.MethodPut, s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.SetBody(streaming.NopCloser(bytes.NewReader(body)), "text/plain"); err != nil {
			t.Fatal(err)
		}
		resp, err := p.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}
