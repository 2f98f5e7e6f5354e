package sockerless

import (
	"errors"
	"fmt"
)

// Code says what kind of failure an error is, for programs. The message beside it is for people.
type Code string

// The codes. A frontend maps each to one answer of its protocol (Docker's: an HTTP status).
const (
	EINVALID      Code = "invalid"      // the request itself is wrong
	EUNAUTHORIZED Code = "unauthorized" // credentials are missing or wrong
	EFORBIDDEN    Code = "forbidden"    // the credentials are good, the right is missing
	ENOTFOUND     Code = "not-found"    // no such container, image, path...
	ECONFLICT     Code = "conflict"     // not in this state, or the name is taken
	ENOTMODIFIED  Code = "not-modified" // it is so already: start of a running container, stop of a stopped one
	EUNSUPPORTED  Code = "unsupported"  // understood, and cannot be done here; the message says why
	EUNAVAILABLE  Code = "unavailable"  // a peer is away, busy or out of quota; the same request may work later
	ETIMEOUT      Code = "timeout"      // it took longer than it may
	EINTERNAL     Code = "internal"     // everything else; what errors without a code mean
)

// Error is a code for programs and a message for people.
type Error struct {
	Code    Code
	Message string
	Err     error // the cause, or nil; its text is not part of Message
}

// Errorf makes an Error. A %w among the arguments becomes its cause, as with fmt.Errorf.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// ErrorCode returns the code as a string. It is how a code crosses packages that do not know this one: see wire.Error.
func (e *Error) ErrorCode() string { return string(e.Code) }

// ErrorCode returns the outermost code in err's chain: an *Error's, or that of an error that came over the wire.
// It is EINTERNAL if there is none and empty if err is nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	if coded, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		return Code(coded.ErrorCode())
	}
	return EINTERNAL
}
