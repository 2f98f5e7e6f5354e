package dockerapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/common"

	"github.com/sockerless/sockerless"
)

var errNoPage = sockerless.Errorf(sockerless.ENOTFOUND, "page not found")

// statuses says which HTTP status stands for a code.
var statuses = map[sockerless.Code]int{
	sockerless.EINVALID:      http.StatusBadRequest,
	sockerless.EUNAUTHORIZED: http.StatusUnauthorized,
	sockerless.EFORBIDDEN:    http.StatusForbidden,
	sockerless.ENOTFOUND:     http.StatusNotFound,
	sockerless.ECONFLICT:     http.StatusConflict,
	sockerless.ENOTMODIFIED:  http.StatusNotModified,
	sockerless.EUNSUPPORTED:  http.StatusNotImplemented,
	sockerless.EUNAVAILABLE:  http.StatusServiceUnavailable,
	sockerless.ETIMEOUT:      http.StatusGatewayTimeout,
	sockerless.EINTERNAL:     http.StatusInternalServerError,
}

// writeError answers with err: its code as the status, its words in Docker's JSON.
func writeError(w http.ResponseWriter, err error) {
	status, ok := statuses[sockerless.ErrorCode(err)]
	if !ok {
		status = http.StatusInternalServerError
	}
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, common.ErrorResponse{Message: err.Error()})
}

// writeJSON answers with v, which must marshal.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		status = http.StatusInternalServerError
		b.Reset()
		json.NewEncoder(&b).Encode(common.ErrorResponse{Message: "cannot write the answer: " + err.Error()}) //nolint:errcheck // a string marshals
	}
	// The CLI prints an error's JSON as it is unless the type is this one.
	w.Header().Set("Content-Type", "application/json")
	if r, ok := w.(*response); ok {
		// The server sends the last of it after the handler, so nobody takes this back before the connection's next request.
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(r.answerBy)) //nolint:errcheck // a writer without deadlines is a test's
	}
	w.WriteHeader(status)
	w.Write(b.Bytes()) //nolint:errcheck // the client is gone; nobody is left to tell
}

// writeNothing answers with a status alone.
func writeNothing(w http.ResponseWriter, status int) error {
	w.WriteHeader(status)
	return nil
}
