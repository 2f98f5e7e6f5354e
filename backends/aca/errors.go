package aca

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/sockerless/sockerless"
)

// Explain gives an error of the Azure SDK its code and one sentence, as the driver's own errors have them; doing is what
// was wanted, like "read environment staging".
func Explain(err error, doing string, args ...any) error { return explain(err, doing, args...) }

// explain gives an error of the SDK its code and one sentence: what we wanted, Azure's code, Azure's message.
// doing is like "create job sl-0123". Errors that have a code keep it; nil stays nil.
func explain(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	doing = fmt.Sprintf(doing, args...)
	if coded, ok := errors.AsType[*sockerless.Error](err); ok {
		return sockerless.Errorf(coded.Code, "cannot %s: %w", doing, err)
	}
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok {
		code, message := answer(refused)
		if message != "" {
			message = ": " + message
		}
		return &sockerless.Error{Code: codeOf(refused.StatusCode, code), Err: err,
			Message: fmt.Sprintf("cannot %s: Azure answered %s%s", doing, status(refused.StatusCode, code), message)}
	}
	reason, code := shorten(err.Error(), answerLimit), sockerless.EINTERNAL
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		reason = "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		reason, code = "Azure did not answer in time", sockerless.ETIMEOUT
	case signInFailed(err):
		reason, code = "cannot sign in to Azure: "+signInReason(err), sockerless.EUNAUTHORIZED
	case errors.As(err, &network):
		reason, code = "Azure cannot be reached: "+reason, sockerless.EUNAVAILABLE
	}
	return &sockerless.Error{Code: code, Err: err, Message: fmt.Sprintf("cannot %s: %s", doing, reason)}
}

// signInFailed says whether the credential, and not the call, went wrong.
func signInFailed(err error) bool {
	var failed *azidentity.AuthenticationFailedError
	var required *azidentity.AuthenticationRequiredError
	if errors.As(err, &failed) || errors.As(err, &required) {
		return true
	}
	// azidentity's error for "no credential is configured" has no exported type; it marks itself as not worth a retry,
	// and so does nothing else that carries no response.
	var final interface{ NonRetriable() }
	return errors.As(err, &final)
}

// signInReason is what Entra says, "AADSTS7000215: Invalid client secret...", where it says something.
func signInReason(err error) string {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		body, payloadErr := runtime.Payload(failed.RawResponse)
		var told struct {
			Description string `json:"error_description"`
		}
		if payloadErr == nil && json.Unmarshal(body, &told) == nil && told.Description != "" {
			return strings.TrimSuffix(shorten(told.Description, answerLimit), ".")
		}
	}
	return shorten(err.Error(), answerLimit)
}

// codeOf decides what Azure's answer means. A failed long-running operation is told with a status of 200.
func codeOf(httpStatus int, code string) sockerless.Code {
	if outOfQuota(code) {
		return sockerless.EUNAVAILABLE
	}
	switch {
	case httpStatus == http.StatusBadRequest:
		return sockerless.EINVALID
	case httpStatus == http.StatusUnauthorized:
		return sockerless.EUNAUTHORIZED
	case httpStatus == http.StatusForbidden:
		return sockerless.EFORBIDDEN
	case httpStatus == http.StatusNotFound:
		return sockerless.ENOTFOUND
	case httpStatus == http.StatusConflict:
		return sockerless.ECONFLICT
	case httpStatus == http.StatusTooManyRequests, httpStatus == http.StatusRequestTimeout, httpStatus >= 500:
		return sockerless.EUNAVAILABLE
	}
	return sockerless.EINTERNAL
}

// outOfQuota says whether a code of Azure's is about a limit of the subscription or the environment: later, or with
// another quota, the same request works.
func outOfQuota(code string) bool {
	return strings.Contains(code, "Quota") || strings.HasSuffix(code, "Exceeded") || strings.HasPrefix(code, "MaximumAllowedCores")
}

// status is "403 AuthorizationFailed", or less where less is known.
func status(httpStatus int, code string) string {
	switch {
	case httpStatus == http.StatusOK && code != "": // of an operation that failed after it was accepted
		return code
	case code == "":
		return fmt.Sprintf("%d %s", httpStatus, http.StatusText(httpStatus))
	}
	return fmt.Sprintf("%d %s", httpStatus, code)
}

// cloudError is an error as Azure writes it: ARM's, and that of the query API.
type cloudError struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Inner   *cloudError `json:"innererror"`
}

// How much of Azure's code and message is passed on.
const (
	codeLimit   = 100
	answerLimit = 1000 // a linked scope that may not be used comes last, behind three ARM ids
)

// answer returns Azure's code and message. ARM wraps them in "error"; the status of an operation has them there too.
func answer(refused *azcore.ResponseError) (code, message string) {
	code = refused.ErrorCode
	parsed := parseError(refused)
	if code == "" {
		code = parsed.Code
	}
	return shorten(code, codeLimit), shorten(strings.TrimSuffix(oneLine(parsed.Message), "."), answerLimit)
}

// shorten puts a text on one line of at most limit bytes.
func shorten(s string, limit int) string {
	s = oneLine(s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

func parseError(refused *azcore.ResponseError) cloudError {
	if refused.RawResponse == nil {
		return cloudError{}
	}
	body, err := runtime.Payload(refused.RawResponse) // the SDK keeps it: reading it again is allowed
	if err != nil {
		return cloudError{}
	}
	var wrapped struct {
		Error  *cloudError  `json:"error"`
		Errors []cloudError `json:"errors"` // a registry's
		cloudError
	}
	if json.Unmarshal(body, &wrapped) != nil {
		return cloudError{}
	}
	if wrapped.Error != nil {
		return *wrapped.Error
	}
	if len(wrapped.Errors) > 0 {
		return wrapped.Errors[0]
	}
	return wrapped.cloudError
}

// hasStatus says whether err is an answer of Azure with one of these statuses.
func hasStatus(err error, statuses ...int) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && slices.Contains(statuses, refused.StatusCode)
}

// gone says whether a 404 means that the job or execution is not there. A missing resource group or subscription is a
// wrong setting, and must not look like containers that are gone.
func gone(err error) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && refused.StatusCode == http.StatusNotFound &&
		refused.ErrorCode != "ResourceGroupNotFound" && refused.ErrorCode != "SubscriptionNotFound"
}

// oneLine puts a text on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
