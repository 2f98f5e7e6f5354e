// Package attempt mends what a retry of the Azure SDK does to a request's body.
package attempt

import (
	"bytes"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// OwnBody is for azcore.ClientOptions.PerRetryPolicies: it gives each attempt a copy of the request's body. Without it, an
// attempt that was answered before its body was read, as by a storage account that is busy, may go on reading the body that
// the next attempt rewinds: azcore 1.24 has one reader for all attempts, whose Close does nothing. What is sent here is small.
type OwnBody struct{}

// Do implements policy.Policy.
func (OwnBody) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	if raw.Body == nil || raw.Body == http.NoBody {
		return req.Next()
	}
	b, err := io.ReadAll(raw.Body)
	if err != nil {
		return nil, err
	}
	raw.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	raw.Body = io.NopCloser(bytes.NewReader(b))
	return req.Next()
}
