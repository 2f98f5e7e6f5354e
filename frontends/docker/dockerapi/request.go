package dockerapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sockerless/sockerless"
)

// maxBody bounds a JSON body, in bytes.
const maxBody = 4 << 20

// request is a request for one operation.
type request struct {
	*http.Request
	query   url.Values
	name    string // what the path names, as the client wrote it
	version version
	bodyBy  time.Duration // how long the client may take to send a body
}

// flag reads a boolean of the query as Docker does: anything is true but nothing, 0, no, false and none.
func (r *request) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.query.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number reads an integer of the query; absent means the default.
func (r *request) number(key string, absent int) (int, error) {
	text := r.query.Get(key)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, sockerless.Errorf(sockerless.EINVALID, "invalid value for %s: %w", key, err)
	}
	return n, nil
}

// size reads the h and w of a resize.
func (r *request) size() (sockerless.TerminalSize, error) {
	rows, err := strconv.ParseUint(r.query.Get("h"), 10, 16)
	if err != nil {
		return sockerless.TerminalSize{}, sockerless.Errorf(sockerless.EINVALID, "invalid resize height %q", r.query.Get("h"))
	}
	cols, err := strconv.ParseUint(r.query.Get("w"), 10, 16)
	if err != nil {
		return sockerless.TerminalSize{}, sockerless.Errorf(sockerless.EINVALID, "invalid resize width %q", r.query.Get("w"))
	}
	return sockerless.TerminalSize{Rows: uint16(rows), Cols: uint16(cols)}, nil
}

// consoleSize reads Docker's [height, width] of a body.
func consoleSize(size *[2]uint) (*sockerless.TerminalSize, error) {
	if size == nil {
		return nil, nil
	}
	if size[0] > math.MaxUint16 || size[1] > math.MaxUint16 {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid ConsoleSize %v", *size)
	}
	return &sockerless.TerminalSize{Rows: uint16(size[0]), Cols: uint16(size[1])}, nil
}

// instant reads Docker's unix seconds with up to nine digits of fraction; absent, and 0, mean no bound.
func (r *request) instant(key string) (time.Time, error) {
	text := r.query.Get(key)
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	t, err := parseInstant(text)
	if err != nil {
		return t, sockerless.Errorf(sockerless.EINVALID, "invalid value for %s: %q is not a unix time", key, text)
	}
	return t, nil
}

func parseInstant(text string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	var ns uint64
	if fraction != "" {
		digits := (fraction + "000000000")[:9]
		if ns, err = strconv.ParseUint(digits, 10, 32); err != nil {
			return time.Time{}, err
		}
	}
	return time.Unix(s, int64(ns)), nil
}

// filters reads the filters of the query, in Docker's encoding or the one before it.
func (r *request) filters() (sockerless.Filters, error) { return parseFilters(r.query.Get("filters")) }

func parseFilters(text string) (sockerless.Filters, error) {
	if text == "" {
		return nil, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		f := make(sockerless.Filters, len(sets))
		for key, set := range sets {
			values := make([]string, 0, len(set))
			for v := range set {
				values = append(values, v)
			}
			slices.Sort(values)
			f[key] = values
		}
		return f, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(text), &lists); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid filter: %s", text)
	}
	return lists, nil
}

// body reads the JSON body into v and returns it as it came. No body leaves v as it is.
func (r *request) body(w http.ResponseWriter, v any) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "malformed Content-Type header (%s): %w", r.Header.Get("Content-Type"), err)
	}
	if kind != "application/json" {
		return nil, sockerless.Errorf(sockerless.EINVALID, "unsupported Content-Type header (%s): must be 'application/json'", r.Header.Get("Content-Type"))
	}
	raw, err := r.read(w)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid JSON: got EOF while reading request body")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(v); err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid JSON: %w", err)
	}
	if dec.More() {
		return nil, sockerless.Errorf(sockerless.EINVALID, "unexpected content after JSON")
	}
	return raw, nil
}

// required is body for a request that must have one.
func (r *request) required(w http.ResponseWriter, v any) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, sockerless.Errorf(sockerless.EINVALID, "invalid JSON: got EOF while reading request body")
	}
	return r.body(w, v)
}

// read reads the body, of which a client may not make too much in size or time.
func (r *request) read(w http.ResponseWriter) ([]byte, error) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(r.bodyBy)) //nolint:errcheck // a writer without deadlines is a test's
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	control.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, sockerless.Errorf(sockerless.EINVALID, "the request's body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return nil, sockerless.Errorf(sockerless.EINVALID, "cannot read the request's body: %w", err)
	}
	return raw, nil
}
