package engine

import (
	"archive/tar"
	"context"
	"iter"
	"os"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/engine/images"
	"github.com/sockerless/sockerless/wire"
)

// Changes yields what has changed in the container's file system since it was made of its image.
//
// Two lists are read side by side, both in the order of a walk, so neither is ever in memory: the image's files, which are
// kept here by the layers' digests, and what the agent says of files that were touched since it began. The agent's crosses
// the link, since it is as long as the changes are; the image's would be as long as the image at every call.
func (s containerService) Changes(ctx context.Context, ref string) iter.Seq2[docker.FilesystemChange, error] {
	return func(yield func(docker.FilesystemChange, error) bool) {
		if err := s.changes(ctx, ref, func(c docker.FilesystemChange) bool { return yield(c, nil) }); err != nil {
			yield(docker.FilesystemChange{}, err)
		}
	}
}

func (s containerService) changes(ctx context.Context, ref string, yield func(docker.FilesystemChange) bool) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	unborn, err := c.unborn(ctx)
	if err != nil {
		return err
	}
	if unborn {
		files, err := s.copies.of(c.id)
		if err == nil && len(files) > 0 {
			err = sockerless.Errorf(sockerless.EUNSUPPORTED,
				"cannot list the changes of container %s: it was never started, and what was copied into it is put in place then", c.id[:12])
		}
		return err
	}
	a, err := c.filesAgent(ctx)
	if err != nil {
		return err
	}
	a.open.Add(1)
	defer a.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	image, stopImage := iter.Pull2(s.opt.Images.Files(ctx, c.view.Load().ImageRef))
	defer stopImage()
	found, stopFound := iter.Pull2(a.client.Changes(ctx, protocol.ChangesRequest{Path: "/"}))
	defer stopFound()
	d := &diff{yield: yield, below: func(path string) iter.Seq2[protocol.Change, error] {
		return a.client.Changes(ctx, protocol.ChangesRequest{Path: wire.Bytes("/" + path), All: true})
	}}
	if err := d.run(image, found); err != nil {
		return fileError(err, "/", ref)
	}
	return nil
}

// diff compares an image's files with what an agent has found. Paths have no slash in front here.
type diff struct {
	yield func(docker.FilesystemChange) bool
	below func(path string) iter.Seq2[protocol.Change, error] // all that is in a directory
	dirs  []foundDir                                          // those above the present path that the agent has told of
	whole string                                              // of this directory everything is told
	left  bool                                                // the asker has
}

// foundDir is a directory that the agent has told of.
type foundDir struct {
	path    string
	touched bool // else nothing in it can have come or gone
	added   bool
	told    bool // it is among the changes already, or is the root, which never is
}

func (d *diff) run(image func() (*tar.Header, error, bool), found func() (protocol.Change, error, bool)) error {
	was, err, someWas := image()
	if err != nil {
		return err
	}
	is, err, someIs := found()
	for (someWas || someIs) && err == nil && !d.left {
		order := 1
		switch {
		case !someIs:
			order = -1
		case someWas:
			order = images.WalkOrder(was.Name, pathOf(is))
		}
		if order < 0 {
			d.gone(was)
			was, err, someWas = image()
			continue
		}
		var before *tar.Header
		if order == 0 {
			before = was
		}
		if err = d.there(before, is); err != nil {
			break
		}
		if order == 0 {
			if was, err, someWas = image(); err != nil {
				break
			}
		}
		is, err, someIs = found()
	}
	return err
}

// gone is told of a file of the image's that the agent has said nothing of.
func (d *diff) gone(was *tar.Header) {
	if dir := d.parent(was.Name); dir != nil && dir.touched {
		d.tell(was.Name, docker.ChangeDelete)
	}
}

// there is told of a file that the agent has told of, with what the image has in its place, or nil.
func (d *diff) there(was *tar.Header, is protocol.Change) error {
	path, mode := pathOf(is), os.FileMode(is.Mode)
	if d.whole != "" && strings.HasPrefix(path, d.whole+"/") {
		return nil
	}
	dir := d.parent(path)
	now := foundDir{path: path, touched: is.Touched, told: path == ""}
	switch {
	case path == "" || is.Mounted:
	case was == nil:
		// What was there before the process and is not the image's is the platform's, but in a directory that was moved.
		if is.Touched || dir != nil && dir.added {
			d.tell(path, docker.ChangeAdd)
			now.added, now.told = true, true
		}
	case is.Touched && changed(was, is):
		d.tell(path, docker.ChangeModify)
		now.told = true
	}
	if !mode.IsDir() || d.left {
		return nil
	}
	d.dirs = append(d.dirs, now)
	if now.added && !is.Touched {
		d.whole = path
		for c, err := range d.below(path) {
			if err != nil {
				return err
			}
			if rest := pathOf(c); rest != "" && !d.left {
				d.tell(path+"/"+rest, docker.ChangeAdd)
			}
		}
	}
	return nil
}

// changed says whether dockerd would call a touched file changed: a directory is only if it is not what it was.
func changed(was *tar.Header, is protocol.Change) bool {
	mode := os.FileMode(is.Mode)
	if !mode.IsDir() || was.Typeflag != tar.TypeDir {
		return true
	}
	if was.FileInfo().Mode() != mode || was.Uid != is.Uid || was.Gid != is.Gid {
		return !was.ModTime.IsZero() // else no layer has said what it is to be
	}
	if was.ModTime.IsZero() {
		return false
	}
	// Layers may have whole seconds alone.
	return was.ModTime.Unix() != is.ModTime.Unix() || was.ModTime.Nanosecond() != 0 && was.ModTime.Nanosecond() != is.ModTime.Nanosecond()
}

// parent returns the directory that a path is in, if the agent has told of it.
func (d *diff) parent(path string) *foundDir {
	for n := len(d.dirs); n > 0; n = len(d.dirs) {
		if top := d.dirs[n-1].path; top == "" || strings.HasPrefix(path, top+"/") {
			break
		}
		d.dirs = d.dirs[:n-1]
	}
	if len(d.dirs) == 0 {
		return nil
	}
	top := &d.dirs[len(d.dirs)-1]
	rest := strings.TrimPrefix(strings.TrimPrefix(path, top.path), "/")
	if strings.Contains(rest, "/") || rest == "" {
		return nil
	}
	return top
}

// tell yields a change, and before it that of the directory that something has come into or gone from.
func (d *diff) tell(path string, kind docker.ChangeType) {
	if dir := d.parent(path); dir != nil && kind != docker.ChangeModify && !dir.told {
		dir.told = true
		d.left = d.left || !d.yield(docker.FilesystemChange{Path: "/" + dir.path, Kind: docker.ChangeModify})
	}
	d.left = d.left || !d.yield(docker.FilesystemChange{Path: "/" + path, Kind: kind})
}

func pathOf(c protocol.Change) string { return strings.TrimPrefix(string(c.Path), "/") }
