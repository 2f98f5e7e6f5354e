// Package wire carries the three shapes in which one process asks another: call, feed and session.
//
// It is plain HTTP/1.1, so it runs over a unix socket, over loopback and on the streams of a link alike. Packages
// remote (frontend to backend) and agent (backend to container) use it with tables of their own; it knows neither.
//
//	call     POST path, JSON in the body or the Args header; JSON in the answer. Bytes may go along as the body of
//	         the request (then the JSON is in Args) or of the answer (then the JSON is in the Result header).
//	feed     as a call; the answer is frames: [kind 1][length 4, big endian][payload]. Kind 'v' is a record, JSON or,
//	         if its type is an encoding.BinaryAppender, its binary form; 'e' an error, which is the last frame; 'z' the
//	         end. A feed that stops without 'e' or 'z' was cut off: io.ErrUnexpectedEOF. Records go out as they come, but
//	         those of a list, which need not be waited for, go out together.
//	session  POST path with `Upgrade: sockerless` and the JSON in Args, or, if it is long, in the body, which the other end
//	         reads first. 101 says that it is accepted; from there on both directions are raw bytes, half-closed on their
//	         own.
//
// A refusal is a status of 400 or more with {"code", "message"}, and so is the error at the end of a feed.
package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

const (
	argsHeader   = "Sockerless-Args"
	resultHeader = "Sockerless-Result"
	errorTrailer = "Sockerless-Error"
	protocolName = "sockerless"

	// MaxMessage bounds what is read of one JSON message or one record of a feed, in bytes.
	MaxMessage = 16 << 20
	// maxArgs bounds the Args header; net/http refuses more than 1 MiB of headers.
	maxArgs = 512 << 10
	// maxHeader bounds the headers of an answer.
	maxHeader = 1 << 20
)

// Error is a refusal that came from the other end.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ErrorCode returns the code, as the root package's errors do.
func (e *Error) ErrorCode() string { return e.Code }

// Errorf makes an Error.
func Errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError gives err the form in which it crosses: its own code, if any error in its chain has one, and its whole text.
func asError(err error) *Error {
	code := "internal"
	if coded, ok := errors.AsType[interface {
		error
		ErrorCode() string
	}](err); ok {
		code = coded.ErrorCode()
	}
	return &Error{Code: code, Message: err.Error()}
}

func encodeHeader(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if len(b) > maxArgs {
		return "", fmt.Errorf("cannot send %d bytes of arguments beside a stream: at most %d", len(b), maxArgs)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

func decodeHeader(s string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func readJSON(r io.Reader, v any) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return fmt.Errorf("message is larger than %d bytes", MaxMessage)
	}
	if len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, v)
}

func writeError(w http.ResponseWriter, err error) { Refuse(w, http.StatusBadRequest, err) }

// Refuse answers a request with a refusal, for what is decided before a handler is asked. The client reads err from the
// body; the status, 400 or more, is for proxies and people.
func Refuse(w http.ResponseWriter, status int, err error) {
	b, _ := json.Marshal(asError(err)) // two strings always marshal
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) //nolint:errcheck // the peer is gone; nobody is left to tell
}
