package images

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/sockerless/sockerless"
)

// imported is the config of an image that Import makes.
type imported struct {
	Created      time.Time        `json:"created"`
	Architecture string           `json:"architecture"`
	OS           string           `json:"os"`
	Variant      string           `json:"variant,omitempty"`
	Config       container.Config `json:"config"`
	RootFS       v1.RootFS        `json:"rootfs"`
	History      []v1.History     `json:"history"`
}

// Import makes an image of one layer from the archive of a file system, which may be compressed (gzip, bzip2, zstd),
// pushes it into the configured registry and records it. The last message's status is the image's id.
func (s *Service) Import(ctx context.Context, opt sockerless.ImportOptions, archive io.Reader) iter.Seq2[jsonstream.Message, error] {
	return stream(func(say func(jsonstream.Message) error) error { return s.imports(ctx, opt, archive, say) })
}

func (s *Service) imports(ctx context.Context, opt sockerless.ImportOptions, archive io.Reader, say func(jsonstream.Message) error) error {
	p, err := s.newPush(ctx, "import", say)
	if err != nil {
		return err
	}
	var named reference.Named
	var refs []string
	tag := "image"
	if opt.Ref != "" {
		if named, err = parseRef(opt.Ref); err != nil {
			return err
		}
		if _, ok := named.(reference.Canonical); ok {
			return sockerless.Errorf(sockerless.EINVALID, "cannot import digest reference")
		}
		named = reference.TagNameOnly(named)
		tag = named.(reference.Tagged).Tag()
		refs = []string{key(named)}
	}
	platform, err := parsePlatform(orDefault(opt.Platform))
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	comment := opt.Message
	if comment == "" {
		comment = "Imported from -"
	}
	cfg := imported{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant, Created: now,
		History: []v1.History{{Created: v1.Time{Time: now}, Comment: comment}},
	}
	if err := ApplyChanges(&cfg.Config, opt.Changes); err != nil {
		return err
	}

	plain, err := decompress(archive)
	if err != nil {
		return archiveError(err)
	}
	defer plain.Close()
	var l *layer
	var count atomic.Int64
	err = p.watch(ctx, "rootfs", "Reading", 0, &count, func(ctx context.Context) error {
		var err error
		l, err = compressLayer(counted(withContext(ctx, plain), &count), s.opt.SpoolDir, s.opt.SpoolLimit, true)
		return err
	})
	if err != nil {
		return err
	}
	defer l.close()
	if count.Load() == 0 {
		return sockerless.Errorf(sockerless.EINVALID, "cannot import: the archive is empty")
	}
	diffID, err := v1.NewHash(l.diffID.String())
	if err != nil {
		return fmt.Errorf("cannot describe a layer: %w", err)
	}
	cfg.RootFS = v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}}
	raw, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("cannot describe an image: %w", err)
	}
	repo, err := p.home(named, l.diffID.String())
	if err != nil {
		return err
	}
	if err := p.layer(ctx, repo, l); err != nil {
		return err
	}
	rec, err := p.image(ctx, repo, tag, raw, nil, []*layer{l})
	if err != nil {
		return err
	}
	if _, err := s.add(ctx, addition{record: rec, refs: refs}); err != nil {
		return err
	}
	s.event(events.ActionImport, rec.ID, rec.ID, s.labelsOf(rec.ID))
	s.log.Info("image imported", "image", rec.ID, "tags", refs, "source", rec.Sources[0].Name)
	return say(jsonstream.Message{Status: rec.ID})
}
