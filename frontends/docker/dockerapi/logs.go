package dockerapi

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/tape"
)

// logTime is RFC 3339 with all nine digits of the nanoseconds, so that lines align.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (a *api) containerLogs(w http.ResponseWriter, r *request) error {
	opt, err := r.logOptions()
	if err != nil {
		return err
	}
	c, err := a.backend.Containers.Find(r.Context(), r.name)
	if err != nil {
		return err
	}
	out := newStream(w, r.streamType(c.Config.Tty))
	defer out.end()
	// A client that follows waits for the headers, however long the container says nothing.
	if opt.Follow {
		if err := out.start(); err != nil {
			return err
		}
	}
	p := logPrinter{frames: !c.Config.Tty, times: r.flag("timestamps")}
	if r.flag("details") {
		p.details = details(c.LogAttributes)
	}
	var buf []byte
	for rec, err := range a.backend.Containers.Logs(r.Context(), c.ID, opt) {
		if err != nil {
			if !out.hasStarted() || r.Context().Err() != nil {
				return err
			}
			buf = p.failure(buf[:0], err)
		} else {
			buf = p.print(buf[:0], rec)
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
	}
	return out.start()
}

func (r *request) logOptions() (sockerless.LogOptions, error) {
	opt := sockerless.LogOptions{Stdout: r.flag("stdout"), Stderr: r.flag("stderr"), Follow: r.flag("follow"), Tail: -1}
	if !opt.Stdout && !opt.Stderr {
		return opt, sockerless.Errorf(sockerless.EINVALID, "Bad parameters: you must choose at least one stream")
	}
	var err error
	if opt.Since, err = r.instant("since"); err != nil {
		return opt, err
	}
	if opt.Until, err = r.instant("until"); err != nil {
		return opt, err
	}
	if n, err := strconv.Atoi(r.query.Get("tail")); err == nil { // "all", and with dockerd whatever else is no number
		opt.Tail = n
	}
	return opt, nil
}

// details gives attributes the form in which clients know them, with the space behind.
func details(attributes map[string]string) []byte {
	var b []byte
	for i, k := range slices.Sorted(maps.Keys(attributes)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, url.QueryEscape(k)+"="+url.QueryEscape(attributes[k])...)
	}
	return append(b, ' ')
}

// logPrinter writes records as Docker does.
type logPrinter struct {
	frames, times bool
	details       []byte // nil: not asked for
}

// print appends a record. As with dockerd, each piece of a long line has what was asked for before it.
func (p *logPrinter) print(b []byte, rec tape.Record) []byte {
	stream := stdcopy.StdType(rec.Stream)
	if rec.Stream == tape.Gap {
		stream = stdcopy.Stderr
		rec.Data = append(append([]byte("[sockerless: "), bytes.TrimRight(rec.Data, "\n")...), "]\n"...)
	}
	start := len(b)
	if p.frames {
		b = append(b, byte(stream), 0, 0, 0, 0, 0, 0, 0)
	}
	if p.times {
		b = append(rec.Time.UTC().AppendFormat(b, logTime), ' ')
	}
	b = append(append(b, p.details...), rec.Data...)
	if p.frames {
		binary.BigEndian.PutUint32(b[start+4:], uint32(len(b)-start-frameHeader))
	}
	return b
}

// failure appends what ended the log. dockerd sends it on a stream of its own, which clients turn into an error.
func (p *logPrinter) failure(b []byte, err error) []byte {
	text := []byte("Error grabbing logs: " + err.Error() + "\n")
	if !p.frames {
		return append(b, text...)
	}
	return appendFrame(b, stdcopy.Systemerr, text)
}
