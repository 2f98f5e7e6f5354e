package images

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"github.com/sockerless/sockerless"
)

// Tag adds a reference to an image; another image that had it loses it. Nothing is pushed anywhere.
func (s *Service) Tag(ctx context.Context, ref, target string) error {
	named, err := parseRef(target)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Canonical); ok {
		return sockerless.Errorf(sockerless.EINVALID, "refusing to create a tag with a digest reference")
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.RLock()
	found, err := s.lookup(ref)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	_, err = s.point(ctx, refRecord{Ref: key(named), Image: found.Image, Source: found.Source, Time: time.Now().UTC()})
	if err != nil {
		return err
	}
	s.event(events.ActionTag, found.Image, familiar(key(named)), s.labelsOf(found.Image))
	return nil
}

// Remove takes a reference from an image, and forgets the image with its last one, by dockerd's rules: an id removes
// everything that means it if that is one tag, and needs force otherwise; so does an image that containers use.
func (s *Service) Remove(ctx context.Context, ref string, force bool) ([]image.DeleteResponse, error) {
	ctx = context.WithoutCancel(ctx) // half a removal would be worse than a late one
	s.change.Lock()
	defer s.change.Unlock()

	s.mu.RLock()
	found, err := s.lookup(ref)
	refs := s.refsOf(found.Image)
	inUse := s.inUse
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	users := inUse(found.Image)
	labels := s.labelsOf(found.Image)
	var done []image.DeleteResponse
	untag := func(ref string) error {
		if err := remove(ctx, s, tableRefs, s.refs, ref); err != nil {
			return err
		}
		done = append(done, image.DeleteResponse{Untagged: familiar(ref)})
		s.event(events.ActionUnTag, found.Image, found.Image, labels)
		return nil
	}

	byName := found.Ref != ""
	if byName {
		if !force && single(refs) && len(users) > 0 {
			return nil, sockerless.Errorf(sockerless.ECONFLICT,
				"conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				ref, shortID(users[0]), shortDigest(found.Image))
		}
		if err := untag(found.Ref); err != nil {
			return nil, err
		}
		refs = slices.DeleteFunc(refs, func(r string) bool { return r == found.Ref })
		// Digests of a repository go with its last tag.
		repo := repositoryOf(found.Ref)
		lastTag := isTag(found.Ref) && !slices.ContainsFunc(refs, func(r string) bool { return isTag(r) && repositoryOf(r) == repo })
		var rest []string
		for _, r := range refs {
			if !lastTag || isTag(r) || repositoryOf(r) != repo {
				rest = append(rest, r)
				continue
			}
			if err := untag(r); err != nil {
				return done, err
			}
		}
		if len(rest) > 0 {
			return done, nil
		}
		if len(users) > 0 {
			return done, nil // forced: the name is gone, the image stays for its containers
		}
	} else {
		conflict := func(why string) error {
			return sockerless.Errorf(sockerless.ECONFLICT, "conflict: unable to delete %s (must be forced) - %s", shortDigest(found.Image), why)
		}
		switch {
		case force:
		case !single(refs):
			return nil, conflict("image is referenced in multiple repositories")
		case len(users) > 0:
			return nil, conflict("image is being used by container " + shortID(users[0]))
		}
		for _, r := range refs {
			if err := untag(r); err != nil {
				return done, err
			}
		}
	}
	if err := s.forget(ctx, found.Image, len(users) > 0); err != nil {
		return done, err
	}
	s.event(events.ActionDelete, found.Image, found.Image, labels)
	return append(done, image.DeleteResponse{Deleted: found.Image}), nil
}

// forget deletes an image and, unless containers may still pull with them, the credentials that only it needed.
// s.change is held.
func (s *Service) forget(ctx context.Context, id string, used bool) error {
	s.mu.RLock()
	rec := s.images[id]
	needed := map[string]bool{}
	for other, img := range s.images {
		for _, src := range img.value.Sources {
			if other != id {
				needed[repositoryOf(src.Name)] = true
			}
		}
	}
	s.mu.RUnlock()
	if rec == nil {
		return fmt.Errorf("cannot find image %s, which a name in the store means", id)
	}
	for _, src := range rec.value.Sources {
		if repo := repositoryOf(src.Name); !used && !needed[repo] {
			if err := remove(ctx, s, tableLogins, s.logins, repo); err != nil {
				return err
			}
		}
	}
	return remove(ctx, s, tableImages, s.images, id)
}

// refsOf returns the references to an image, sorted, tags before digests. s.mu is held.
func (s *Service) refsOf(id string) []string {
	var tags, digests []string
	for ref, r := range s.refs {
		switch {
		case r.value.Image != id:
		case isTag(ref):
			tags = append(tags, ref)
		default:
			digests = append(digests, ref)
		}
	}
	slices.Sort(tags)
	slices.Sort(digests)
	return append(tags, digests...)
}

// single says whether refs amount to one name: at most one tag, and digests of its repository only.
func single(refs []string) bool {
	tags := 0
	repos := map[string]bool{}
	for _, r := range refs {
		repos[repositoryOf(r)] = true
		if isTag(r) {
			tags++
		}
	}
	return tags <= 1 && len(repos) <= 1
}

// repositoryOf returns the full repository name of a stored reference.
func repositoryOf(ref string) string {
	if repo, _, ok := strings.Cut(ref, "@"); ok {
		return repo
	}
	return ref[:strings.LastIndex(ref, ":")]
}

func shortID(id string) string { return id[:min(12, len(id))] }
