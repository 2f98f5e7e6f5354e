package images

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/sockerless/sockerless"
)

// List yields images, the newest first. The filters are those of `docker images`: dangling, label, before, since, until
// and reference.
func (s *Service) List(_ context.Context, opt sockerless.ImageListOptions) iter.Seq2[*sockerless.Image, error] {
	return func(yield func(*sockerless.Image, error) bool) {
		list, err := s.list(opt)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, img := range list {
			if !yield(img, nil) {
				return
			}
		}
	}
}

func (s *Service) list(opt sockerless.ImageListOptions) ([]*sockerless.Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sel, err := s.selection(opt.Filters)
	if err != nil {
		return nil, err
	}
	refs := map[string][]refRecord{}
	for _, r := range s.refs {
		refs[r.value.Image] = append(refs[r.value.Image], r.value)
	}
	var out []*sockerless.Image
	for id, rec := range s.images {
		named := refs[id]
		if len(sel.references) > 0 {
			named = slices.DeleteFunc(named, func(r refRecord) bool { return !sel.matches(r.Ref) })
			if len(named) == 0 {
				continue
			}
		}
		img, err := s.view(id, rec.value.Sources[len(rec.value.Sources)-1].Name, named)
		if err != nil {
			return nil, err
		}
		if sel.takes(img) {
			out = append(out, img)
		}
	}
	slices.SortFunc(out, func(a, b *sockerless.Image) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

// selection is what the filters ask for.
type selection struct {
	references    []string
	dangling      *bool
	labels        [][2]string // key, value; an empty value is any
	before, after time.Time
}

// selection reads filters. s.mu is held.
func (s *Service) selection(filters sockerless.Filters) (selection, error) {
	var sel selection
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		values := filters[name]
		invalid := func(v string) error {
			return sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s=%s'", name, bounded(v))
		}
		for _, v := range values {
			switch name {
			case "dangling":
				b, err := parseBool(v)
				if err != nil || sel.dangling != nil && *sel.dangling != b {
					return sel, invalid(v)
				}
				sel.dangling = &b
			case "label":
				sel.labels = append(sel.labels, labelOf(v))
			case "reference":
				if _, err := reference.FamiliarMatch(v, sample); err != nil {
					return sel, invalid(v)
				}
				sel.references = append(sel.references, v)
			case "before", "since":
				at, err := s.createdAt(v)
				if err != nil {
					return sel, err
				}
				if name == "before" {
					sel.before = earliest(sel.before, at)
				} else if at.After(sel.after) {
					sel.after = at
				}
			case "until":
				at, err := parseTime(v, time.Now())
				if err != nil {
					return sel, invalid(v)
				}
				sel.before = earliest(sel.before, at)
			default:
				return sel, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", bounded(name))
			}
		}
	}
	return sel, nil
}

// sample is any reference, to try a pattern on.
var sample = reference.TagNameOnly(must(reference.ParseNormalizedNamed("sample")))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// matches says whether a stored reference fits one of the patterns.
func (sel *selection) matches(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(sel.references, func(pattern string) bool {
		ok, err := reference.FamiliarMatch(pattern, named)
		return ok && err == nil
	})
}

func (sel *selection) takes(img *sockerless.Image) bool {
	switch {
	case sel.dangling != nil && *sel.dangling != (len(img.Tags) == 0):
		return false
	case !sel.before.IsZero() && !img.Created.Before(sel.before):
		return false
	case !sel.after.IsZero() && !img.Created.After(sel.after):
		return false
	}
	return hasLabels(img.Defaults.Labels, sel.labels)
}

// labelOf reads a label filter: a name, or name=value.
func labelOf(filter string) [2]string {
	key, value, _ := strings.Cut(filter, "=")
	return [2]string{key, value}
}

// hasLabels says whether labels have all that are wanted; an empty value is any.
func hasLabels(labels map[string]string, wanted [][2]string) bool {
	for _, l := range wanted {
		value, ok := labels[l[0]]
		if !ok || l[1] != "" && l[1] != value {
			return false
		}
	}
	return true
}

// createdAt is when an image was made. s.mu is held.
func (s *Service) createdAt(ref string) (time.Time, error) {
	found, err := s.lookup(ref)
	if err != nil {
		return time.Time{}, err
	}
	img, err := s.view(found.Image, found.Source, nil)
	if err != nil {
		return time.Time{}, err
	}
	return img.Created, nil
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// parseBool reads a filter's truth as dockerd does.
func parseBool(v string) (bool, error) {
	switch v {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, strconv.ErrSyntax
}

// parseTime reads the times that `--filter until=` takes: seconds since 1970, a date, or how long ago.
func parseTime(v string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(v); err == nil {
		return now.Add(-d), nil
	}
	if seconds, fraction, _ := strings.Cut(v, "."); seconds != "" {
		if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
			nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
			return time.Unix(n, nanos), err
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, nil
		}
	}
	return time.Time{}, strconv.ErrSyntax
}
