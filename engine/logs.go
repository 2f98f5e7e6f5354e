package engine

import (
	"context"
	"iter"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/engine/logstore"
	"github.com/sockerless/sockerless/tape"
)

// Logs yields the records of the container's output: what the engine has stored, brought up to date by the agent if
// there is one, else what the cloud has kept.
func (s containerService) Logs(ctx context.Context, ref string, opt sockerless.LogOptions) iter.Seq2[sockerless.LogRecord, error] {
	return func(yield func(sockerless.LogRecord, error) bool) {
		if !opt.Stdout && !opt.Stderr {
			yield(tape.Record{}, sockerless.Errorf(sockerless.EINVALID, "Bad parameters: you must choose at least one stream"))
			return
		}
		c, err := s.locked(ref)
		if err != nil {
			yield(tape.Record{}, err)
			return
		}
		rec := c.rec
		running := c.running() && !c.restarting() // a follower ends with each run, as with dockerd
		w := c.await(false)
		c.mu.Unlock()
		defer c.forget(w)
		logs, err := s.logs.Log(c.id, rec.Limits)
		if err != nil {
			yield(tape.Record{}, err)
			return
		}
		s.upToDate(ctx, c, logs)
		if logs.Last() == 0 && rec.Run != nil && (!opt.Follow || !running) {
			if r, ok := driver.As[driver.LogReader](s.opt.Driver); ok {
				s.archived(ctx, r, rec, opt, yield)
				return
			}
		}
		if logs.Last() == 0 {
			for _, gap := range s.lostLog(rec) {
				if !yield(gap, nil) {
					return
				}
			}
		}
		q := logstore.Query{Tail: opt.Tail, Since: opt.Since, Until: opt.Until}
		if opt.Follow && running {
			ended := make(chan struct{})
			q.Follow = ended
			stop := make(chan struct{})
			defer close(stop)
			go func() { // ends with the container, the reader or the engine
				defer close(ended)
				select {
				case <-w.told: // the last records are stored before the exit is told
				case <-stop:
				case <-s.ctx.Done():
				}
			}()
		}
		for r, err := range logs.Records(ctx, q) {
			if err != nil {
				yield(tape.Record{}, err)
				return
			}
			if wanted(r.Stream, opt) && !yield(r, nil) {
				return
			}
		}
		if opt.Follow && s.ctx.Err() != nil {
			yield(tape.Record{}, closing())
		}
	}
}

// wanted: a gap belongs to no stream; it is told on stderr, or where there is only that.
func wanted(s tape.Stream, opt sockerless.LogOptions) bool {
	switch s {
	case tape.Stdout:
		return opt.Stdout
	case tape.Stderr:
		return opt.Stderr
	}
	return true
}

// lostLog is what is told in place of a log that went with an earlier data folder: a Gap record, or nothing for a container
// that has not run under it.
func (e *Engine) lostLog(rec record) []tape.Record {
	if rec.State.StartedAt.IsZero() || rec.State.StartedAt.After(e.opt.Lost) {
		return nil
	}
	return []tape.Record{{Seq: 1, Time: e.opt.Lost, Stream: tape.Gap,
		Data: []byte("what the container wrote was in a data folder that the backend does not have any more\n")}}
}

// archived yields what the cloud has kept of the container's executions, one after the other.
func (e *Engine) archived(ctx context.Context, r driver.LogReader, rec record, opt sockerless.LogOptions, yield func(tape.Record, error) bool) {
	var records []tape.Record
	all := rec.Run.Run
	all.Execution = ""
	if all.Job == "" {
		return // the cloud has never heard of it
	}
	for line, err := range r.Logs(ctx, all, rec.Created) {
		if err != nil {
			yield(tape.Record{}, err)
			return
		}
		stream := tape.Stdout
		if line.Stream == "stderr" {
			stream = tape.Stderr
		}
		records = append(records, tape.Record{
			Seq: uint64(len(records) + 1), Time: line.Time, Stream: stream, Data: append([]byte(line.Text), '\n'),
		})
	}
	if len(records) == 0 {
		records = e.lostLog(rec)
	}
	if opt.Tail >= 0 {
		records = records[max(0, len(records)-opt.Tail):]
	}
	for _, rec := range records {
		if !wanted(rec.Stream, opt) || rec.Time.Before(opt.Since) || !opt.Until.IsZero() && rec.Time.After(opt.Until) {
			continue
		}
		if !yield(rec, nil) {
			return
		}
	}
}
