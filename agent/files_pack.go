package agent

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/wire"
)

// pack returns the named files as a tar, each as export would have it, a directory without what is in it. What has
// vanished meanwhile is left out.
func (a *Agent) pack(ctx context.Context, req protocol.PackRequest) (struct{}, wire.Body, error) {
	root, err := openTop("/")
	if err != nil {
		return struct{}{}, nil, err
	}
	r, w := io.Pipe()
	done := a.busy()
	go func() { // ends with the list, or when r is closed
		defer done()
		defer root.close()
		p := &packer{walk: a.walk(root, true), open: []step{{fd: root.at}}}
		defer p.shut(1)
		w.CloseWithError(p.write(ctx, w, req.Paths))
	}()
	return struct{}{}, wire.NewBody(r), nil
}

// packer goes to files by their paths, from directory to directory: a link that a process puts in the way leads nowhere.
type packer struct {
	walk *walk
	open []step // the directories on the way to the present file, the root first
}

// step is an opened directory.
type step struct {
	path  string // clean, without a leading slash; "" is the root
	fd    int
	inode inode
}

func (p *packer) write(ctx context.Context, w io.Writer, paths []wire.Bytes) error {
	out := bufio.NewWriterSize(w, copySize)
	x := &treeWriter{tar: tar.NewWriter(out), walk: p.walk, links: map[inode]*linkName{}, buf: make([]byte, copySize)}
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := checkPath(string(path)); err != nil {
			return err
		}
		at, f, err := p.find(strings.TrimPrefix(string(path), "/"))
		if err != nil {
			return fileError(string(path), err)
		}
		if f == nil {
			continue
		}
		if err := x.add(at, f); err != nil {
			return err
		}
	}
	if err := x.tar.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// find returns the file at a path and the directory that has it; nil if there is none, or it is not the container's.
func (p *packer) find(path string) (at int, f *file, err error) {
	dir, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	for n := len(p.open); n > 1 && dir != p.open[n-1].path && !strings.HasPrefix(dir, p.open[n-1].path+"/"); n = len(p.open) {
		p.shut(n - 1)
	}
	for top := p.open[len(p.open)-1]; top.path != dir; top = p.open[len(p.open)-1] {
		name, _, _ := strings.Cut(strings.TrimPrefix(dir[len(top.path):], "/"), "/")
		f, err := p.look(top, name)
		if f == nil || err != nil {
			return 0, nil, err
		}
		fd, err := openDir(top.fd, name)
		if err != nil {
			return 0, nil, missing(err)
		}
		p.open = append(p.open, step{strings.TrimPrefix(top.path+"/"+name, "/"), fd, f.inode})
	}
	top := p.open[len(p.open)-1]
	if f, err = p.look(top, base); f != nil {
		f.rel = "/" + path
	}
	return top.fd, f, err
}

// look describes a name in an open directory; nil if there is nothing, or what belongs to Sockerless, or a mount.
func (p *packer) look(in step, name string) (*file, error) {
	if name == "" || name == "." || name == ".." {
		return nil, nil
	}
	f, err := lookup(in.fd, name)
	if err != nil {
		return nil, missing(err)
	}
	if !f.mountKnown {
		f.mount = f.isDir() && in.path != "" && f.inode.dev != in.inode.dev
	}
	if f.mount || f.inode == p.walk.own {
		return nil, nil
	}
	return f, nil
}

// shut closes the directories on the way but the first n.
func (p *packer) shut(n int) {
	for _, s := range p.open[n:] {
		closeFD(s.fd)
	}
	p.open = p.open[:n]
}

// missing takes the error away from what is not there, or is something else by now.
func missing(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	return err
}
