package images

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"github.com/sockerless/sockerless"
)

// Prune forgets the images that nobody needs: those without a tag that no container uses, or, with dangling=false, all
// that none uses. It gives no bytes back, for the layers stay in their registries.
func (s *Service) Prune(ctx context.Context, filters sockerless.Filters) (*image.PruneReport, error) {
	sel, err := pruneSelection(filters)
	if err != nil {
		return nil, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	ids, inUse, tell := slices.Sorted(maps.Keys(s.images)), s.inUse, s.tell
	s.mu.RUnlock()
	report := &image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.RLock()
		refs := s.refsOf(id)
		rec := s.images[id]
		img, err := s.view(id, rec.value.Sources[len(rec.value.Sources)-1].Name, nil)
		s.mu.RUnlock()
		if err != nil {
			return nil, err
		}
		if sel.dangling && slices.ContainsFunc(refs, isTag) || !sel.takes(img) || len(inUse(id)) > 0 {
			continue
		}
		gone, err := s.erase(context.WithoutCancel(ctx), id, refs, img.Defaults.Labels)
		report.ImagesDeleted = append(report.ImagesDeleted, gone...)
		if err != nil {
			return nil, err
		}
	}
	tell(events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return report, nil
}

// erase takes all references from an image that no container uses, and forgets it. s.change is held.
func (s *Service) erase(ctx context.Context, id string, refs []string, labels map[string]string) (done []image.DeleteResponse, err error) {
	for _, ref := range refs {
		if err := remove(ctx, s, tableRefs, s.refs, ref); err != nil {
			return done, err
		}
		done = append(done, image.DeleteResponse{Untagged: familiar(ref)})
		s.event(events.ActionUnTag, id, id, labels)
	}
	if err := s.forget(ctx, id, false); err != nil {
		return done, err
	}
	s.event(events.ActionDelete, id, id, labels)
	return append(done, image.DeleteResponse{Deleted: id}), nil
}

// pruned is what a prune takes.
type pruned struct {
	dangling      bool // those without a tag only
	until         time.Time
	with, without [][2]string // labels
}

func pruneSelection(filters sockerless.Filters) (pruned, error) {
	sel := pruned{dangling: true}
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		values := filters[name]
		invalid := func(v string) error {
			return sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s=%s'", name, bounded(v))
		}
		switch name {
		case "dangling", "until":
			if len(values) > 1 {
				return sel, sockerless.Errorf(sockerless.EINVALID, "more than one %s filter specified", name)
			}
		case "label", "label!":
		default:
			return sel, sockerless.Errorf(sockerless.EINVALID, "invalid filter '%s'", bounded(name))
		}
		for _, v := range values {
			var err error
			switch name {
			case "dangling":
				sel.dangling, err = parseBool(v)
			case "until":
				sel.until, err = parseTime(v, time.Now())
			case "label":
				sel.with = append(sel.with, labelOf(v))
			case "label!":
				sel.without = append(sel.without, labelOf(v))
			}
			if err != nil {
				return sel, invalid(v)
			}
		}
	}
	return sel, nil
}

func (p *pruned) takes(img *sockerless.Image) bool {
	labels := img.Defaults.Labels
	return (p.until.IsZero() || img.Created.Before(p.until)) &&
		hasLabels(labels, p.with) && (len(p.without) == 0 || !hasLabels(labels, p.without))
}
