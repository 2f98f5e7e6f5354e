package dockerapi

import (
	"bytes"
	"net/http"
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
	p := logPrinter{frames: !c.Config.Tty, times: r.flag("timestamps"), details: r.flag("details")}
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
	if tail := r.query.Get("tail"); tail != "" && tail != "all" {
		if opt.Tail, err = strconv.Atoi(tail); err != nil {
			return opt, sockerless.Errorf(sockerless.EINVALID, `invalid value for tail: %q is neither a number nor "all"`, tail)
		}
	}
	return opt, nil
}

// logPrinter writes records as Docker does.
type logPrinter struct {
	frames, times, details bool
	within                 [tape.Gap + 1]bool // a line of the stream has begun and goes on
}

// print appends a record. A line has one time, however many records it came in.
func (p *logPrinter) print(b []byte, rec tape.Record) []byte {
	stream, data := stdcopy.StdType(rec.Stream), rec.Data
	if rec.Stream == tape.Gap {
		stream = stdcopy.Stderr
		data = append(append([]byte("[sockerless: "), bytes.TrimRight(data, "\n")...), "]\n"...)
	}
	var prefix []byte
	if !p.within[rec.Stream] {
		if p.times {
			prefix = append(rec.Time.UTC().AppendFormat(prefix, logTime), ' ')
		}
		if p.details {
			prefix = append(prefix, ' ') // of attributes, which no container has here
		}
	}
	p.within[rec.Stream] = rec.Partial
	if !p.frames {
		return append(append(b, prefix...), data...)
	}
	return appendFrame(b, stream, prefix, data)
}

// failure appends what ended the log. dockerd sends it on a stream of its own, which clients turn into an error.
func (p *logPrinter) failure(b []byte, err error) []byte {
	text := []byte("Error grabbing logs: " + err.Error() + "\n")
	if !p.frames {
		return append(b, text...)
	}
	return appendFrame(b, stdcopy.Systemerr, text)
}
