package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/sockerless/sockerless"
)

// pruneFilter reads the filters that every prune has, and more, which the caller reads: what a thing with these labels,
// made at that time, must be to go.
func pruneFilter(f sockerless.Filters, more ...string) (func(labels map[string]string, made time.Time) bool, error) {
	if err := known(f, append(more, "label", "label!", "until")...); err != nil {
		return nil, err
	}
	until, err := pruneUntil(f["until"])
	if err != nil {
		return nil, err
	}
	return func(labels map[string]string, made time.Time) bool {
		return labelled(f, "label", labels) &&
			(len(f["label!"]) == 0 || !labelled(f, "label!", labels)) &&
			(until.IsZero() || made.Before(until))
	}, nil
}

// pruneUntil reads Docker's until: a duration back from now, a Unix time, or a date.
func pruneUntil(values []string) (time.Time, error) {
	if len(values) == 0 {
		return time.Time{}, nil
	}
	if len(values) > 1 {
		return time.Time{}, sockerless.Errorf(sockerless.EINVALID, "more than one until filter specified")
	}
	v := values[0]
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	if sec, frac, _ := strings.Cut(v, "."); sec != "" {
		if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
			ns, _ := strconv.ParseInt((frac + "000000000")[:9], 10, 64) // without a fraction: 0
			return time.Unix(n, ns), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, sockerless.Errorf(sockerless.EINVALID, "invalid filter 'until=%s'", v)
}

// pruned tells that things of one kind were pruned, and how many bytes that gave back.
func (e *Engine) pruned(kind events.Type, reclaimed uint64) {
	e.tell(kind, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(reclaimed, 10)})
}

// Prune removes all containers that do not run. It gives no bytes back: an exited container has no disk here.
func (s containerService) Prune(ctx context.Context, filters sockerless.Filters) (*docker.PruneReport, error) {
	match, err := pruneFilter(filters)
	if err != nil {
		return nil, err
	}
	report := &docker.PruneReport{ContainersDeleted: []string{}}
	for _, v := range s.all() {
		if !match(v.Config.Labels, v.Created) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		switch err := s.Remove(ctx, v.ID, sockerless.RemoveOptions{}); sockerless.ErrorCode(err) {
		case "":
			report.ContainersDeleted = append(report.ContainersDeleted, v.ID)
		case sockerless.ECONFLICT, sockerless.ENOTFOUND: // it runs, or somebody was faster
		default:
			return nil, err
		}
	}
	s.pruned(events.ContainerEventType, report.SpaceReclaimed)
	return report, nil
}
