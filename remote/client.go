package remote

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/wire"
)

// Client is a Backend in another process. Close it to drop its connections.
type Client struct {
	sockerless.Backend

	wire *wire.Client
	link *linked // nil where none is used
}

// NewClient returns a client of the Server that dial connects to; header, which may be nil, is asked for every request
// what goes with it. A failure of the connection itself is EUNAVAILABLE.
func NewClient(dial func(context.Context) (net.Conn, error), header func() (http.Header, error)) *Client {
	w := wire.NewClient(dial, header)
	c := client{w}
	return &Client{
		Backend: sockerless.Backend{
			Containers: containers{c}, Execs: execs{c}, Images: images{c}, Networks: networks{c}, Volumes: volumes{c}, System: systems{c},
		},
		wire: w,
	}
}

// Close drops the connections that nothing runs on, and the link if there is one.
func (c *Client) Close() error {
	c.wire.Close()
	if c.link != nil {
		return c.link.Close()
	}
	return nil
}

// client asks in the name of a service.
type client struct{ wire *wire.Client }

// containers is the ContainerService of a Server.
type containers struct{ client }

func (s containers) Create(ctx context.Context, req sockerless.CreateRequest) (*sockerless.CreateResult, error) {
	return call[*sockerless.CreateResult](ctx, s.client, pathContainerCreate, req)
}

func (s containers) Find(ctx context.Context, name string) (*sockerless.Container, error) {
	return call[*sockerless.Container](ctx, s.client, pathContainerFind, ref{name})
}

func (s containers) List(ctx context.Context, opt sockerless.ListOptions) iter.Seq2[*sockerless.Container, error] {
	return feed[*sockerless.Container](ctx, s.client, pathContainerList, opt, nil)
}

func (s containers) Start(ctx context.Context, name string) error {
	return s.do(ctx, pathContainerStart, ref{name})
}

func (s containers) Stop(ctx context.Context, name string, opt sockerless.StopOptions) error {
	return s.do(ctx, pathContainerStop, stopArgs{name, opt})
}

func (s containers) Restart(ctx context.Context, name string, opt sockerless.StopOptions) error {
	return s.do(ctx, pathContainerRestart, stopArgs{name, opt})
}

func (s containers) Signal(ctx context.Context, name, signal string) error {
	return s.do(ctx, pathContainerSignal, signalArgs{name, signal})
}

func (s containers) Pause(ctx context.Context, name string) error {
	return s.do(ctx, pathContainerPause, ref{name})
}

func (s containers) Unpause(ctx context.Context, name string) error {
	return s.do(ctx, pathContainerUnpause, ref{name})
}

func (s containers) Rename(ctx context.Context, name, to string) error {
	return s.do(ctx, pathContainerRename, renameArgs{name, to})
}

func (s containers) Update(ctx context.Context, name string, config container.UpdateConfig) ([]string, error) {
	return call[[]string](ctx, s.client, pathContainerUpdate, updateArgs{name, config})
}

func (s containers) Remove(ctx context.Context, name string, opt sockerless.RemoveOptions) error {
	return s.do(ctx, pathContainerRemove, removeArgs{name, opt})
}

func (s containers) Prune(ctx context.Context, filters sockerless.Filters) (*container.PruneReport, error) {
	return call[*container.PruneReport](ctx, s.client, pathContainerPrune, filters)
}

func (s containers) Wait(ctx context.Context, name string, condition container.WaitCondition) iter.Seq2[sockerless.WaitUpdate, error] {
	return feed[sockerless.WaitUpdate](ctx, s.client, pathContainerWait, waitArgs{name, condition}, nil)
}

func (s containers) Resize(ctx context.Context, name string, size sockerless.TerminalSize) error {
	return s.do(ctx, pathContainerResize, resizeArgs{name, size})
}

func (s containers) Top(ctx context.Context, name, psArgs string) (*container.TopResponse, error) {
	return call[*container.TopResponse](ctx, s.client, pathContainerTop, topArgs{name, psArgs})
}

func (s containers) Stats(ctx context.Context, name string, opt sockerless.StatsOptions) iter.Seq2[*container.StatsResponse, error] {
	return feed[*container.StatsResponse](ctx, s.client, pathContainerStats, statsArgs{name, opt}, nil)
}

func (s containers) Logs(ctx context.Context, name string, opt sockerless.LogOptions) iter.Seq2[sockerless.LogRecord, error] {
	return feed[sockerless.LogRecord](ctx, s.client, pathContainerLogs, logsArgs{name, opt}, nil)
}

func (s containers) Attach(ctx context.Context, name string, opt sockerless.AttachOptions) (sockerless.Session, error) {
	return s.session(ctx, pathContainerAttach, attachArgs{name, opt})
}

func (s containers) Stat(ctx context.Context, name, path string) (*container.PathStat, error) {
	return call[*container.PathStat](ctx, s.client, pathContainerStat, fileArgs{name, wire.Bytes(path)})
}

func (s containers) ReadTree(ctx context.Context, name, path string) (*container.PathStat, io.ReadCloser, error) {
	stat := new(container.PathStat)
	body, err := s.wire.Download(ctx, pathContainerReadTree, fileArgs{name, wire.Bytes(path)}, stat)
	if err != nil {
		return nil, nil, told(ctx, err)
	}
	return stat, body, nil
}

func (s containers) WriteTree(ctx context.Context, name, path string, opt sockerless.WriteOptions, tar io.Reader) error {
	return told(ctx, s.wire.Upload(ctx, pathContainerWriteTree, writeArgs{name, wire.Bytes(path), opt}, tar, nil))
}

func (s containers) Changes(ctx context.Context, name string) iter.Seq2[container.FilesystemChange, error] {
	return feed[container.FilesystemChange](ctx, s.client, pathContainerChanges, ref{name}, nil)
}

func (s containers) Size(ctx context.Context, name string) (*sockerless.ContainerSize, error) {
	return call[*sockerless.ContainerSize](ctx, s.client, pathContainerSize, ref{name})
}

func (s containers) Export(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := s.wire.Download(ctx, pathContainerExport, ref{name}, nil)
	return body, told(ctx, err)
}

func (s containers) Commit(ctx context.Context, name string, opt sockerless.CommitOptions) (string, error) {
	return call[string](ctx, s.client, pathContainerCommit, commitArgs{name, opt})
}

// execs is the ExecService of a Server.
type execs struct{ client }

func (s execs) Create(ctx context.Context, name string, config sockerless.ExecConfig) (string, error) {
	return call[string](ctx, s.client, pathExecCreate, execArgs{name, config})
}

func (s execs) Start(ctx context.Context, id string, opt sockerless.ExecStartOptions) (sockerless.Session, error) {
	if opt.Detach {
		return nil, s.do(ctx, pathExecDetach, execStartArgs{id, opt})
	}
	return s.session(ctx, pathExecStart, execStartArgs{id, opt})
}

func (s execs) Find(ctx context.Context, id string) (*sockerless.Exec, error) {
	return call[*sockerless.Exec](ctx, s.client, pathExecFind, ref{id})
}

func (s execs) Resize(ctx context.Context, id string, size sockerless.TerminalSize) error {
	return s.do(ctx, pathExecResize, resizeArgs{id, size})
}

// images is the ImageService of a Server.
type images struct{ client }

func (s images) Pull(ctx context.Context, name string, opt sockerless.PullOptions) iter.Seq2[jsonstream.Message, error] {
	return feed[jsonstream.Message](ctx, s.client, pathImagePull, pullArgs{name, opt}, nil)
}

func (s images) Load(ctx context.Context, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return feed[jsonstream.Message](ctx, s.client, pathImageLoad, nothing{}, tar)
}

func (s images) Import(ctx context.Context, opt sockerless.ImportOptions, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
	return feed[jsonstream.Message](ctx, s.client, pathImageImport, opt, tar)
}

func (s images) Push(ctx context.Context, name string, opt sockerless.PushOptions) iter.Seq2[jsonstream.Message, error] {
	return feed[jsonstream.Message](ctx, s.client, pathImagePush, pushArgs{name, opt}, nil)
}

func (s images) Save(ctx context.Context, names []string) (io.ReadCloser, error) {
	body, err := s.wire.Download(ctx, pathImageSave, names, nil)
	return body, told(ctx, err)
}

func (s images) Search(ctx context.Context, term string, opt sockerless.SearchOptions) ([]registry.SearchResult, error) {
	return call[[]registry.SearchResult](ctx, s.client, pathImageSearch, searchArgs{term, opt})
}

func (s images) Resolve(ctx context.Context, name string, auth *registry.AuthConfig) (*registry.DistributionInspect, error) {
	return call[*registry.DistributionInspect](ctx, s.client, pathImageResolve, resolveArgs{name, auth})
}

func (s images) Find(ctx context.Context, name string) (*sockerless.Image, error) {
	return call[*sockerless.Image](ctx, s.client, pathImageFind, ref{name})
}

func (s images) List(ctx context.Context, opt sockerless.ImageListOptions) iter.Seq2[*sockerless.Image, error] {
	return feed[*sockerless.Image](ctx, s.client, pathImageList, opt, nil)
}

func (s images) Tag(ctx context.Context, name, target string) error {
	return s.do(ctx, pathImageTag, tagArgs{name, target})
}

func (s images) Remove(ctx context.Context, name string, force bool) ([]image.DeleteResponse, error) {
	return call[[]image.DeleteResponse](ctx, s.client, pathImageRemove, removeArgs{name, sockerless.RemoveOptions{Force: force}})
}

func (s images) Prune(ctx context.Context, filters sockerless.Filters) (*image.PruneReport, error) {
	return call[*image.PruneReport](ctx, s.client, pathImagePrune, filters)
}

// networks is the NetworkService of a Server.
type networks struct{ client }

func (s networks) Create(ctx context.Context, req network.CreateRequest) (*network.CreateResponse, error) {
	return call[*network.CreateResponse](ctx, s.client, pathNetworkCreate, req)
}

func (s networks) Find(ctx context.Context, name string) (*network.Inspect, error) {
	return call[*network.Inspect](ctx, s.client, pathNetworkFind, ref{name})
}

func (s networks) List(ctx context.Context, filters sockerless.Filters) iter.Seq2[*network.Inspect, error] {
	return feed[*network.Inspect](ctx, s.client, pathNetworkList, filters, nil)
}

func (s networks) Connect(ctx context.Context, name, container string, endpoint *network.EndpointSettings) error {
	return s.do(ctx, pathNetworkConnect, connectArgs{name, container, endpoint})
}

func (s networks) Disconnect(ctx context.Context, name, container string, force bool) error {
	return s.do(ctx, pathNetworkDisconnect, disconnectArgs{name, container, force})
}

func (s networks) Remove(ctx context.Context, name string) error {
	return s.do(ctx, pathNetworkRemove, ref{name})
}

func (s networks) Prune(ctx context.Context, filters sockerless.Filters) (*network.PruneReport, error) {
	return call[*network.PruneReport](ctx, s.client, pathNetworkPrune, filters)
}

// volumes is the VolumeService of a Server.
type volumes struct{ client }

func (s volumes) Create(ctx context.Context, req volume.CreateRequest) (*volume.Volume, error) {
	return call[*volume.Volume](ctx, s.client, pathVolumeCreate, req)
}

func (s volumes) Find(ctx context.Context, name string) (*volume.Volume, error) {
	return call[*volume.Volume](ctx, s.client, pathVolumeFind, ref{name})
}

func (s volumes) List(ctx context.Context, filters sockerless.Filters) iter.Seq2[*volume.Volume, error] {
	return feed[*volume.Volume](ctx, s.client, pathVolumeList, filters, nil)
}

func (s volumes) Remove(ctx context.Context, name string, force bool) error {
	return s.do(ctx, pathVolumeRemove, removeArgs{name, sockerless.RemoveOptions{Force: force}})
}

func (s volumes) Prune(ctx context.Context, filters sockerless.Filters) (*volume.PruneReport, error) {
	return call[*volume.PruneReport](ctx, s.client, pathVolumePrune, filters)
}

// systems is the SystemService of a Server.
type systems struct{ client }

func (s systems) Info(ctx context.Context) (*system.Info, error) {
	return call[*system.Info](ctx, s.client, pathSystemInfo, nothing{})
}

func (s systems) Version(ctx context.Context) (*system.VersionResponse, error) {
	return call[*system.VersionResponse](ctx, s.client, pathSystemVersion, nothing{})
}

func (s systems) Auth(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	return call[*registry.AuthResponse](ctx, s.client, pathSystemAuth, auth)
}

func (s systems) Events(ctx context.Context, opt sockerless.EventOptions) iter.Seq2[events.Message, error] {
	return each(feed[event](ctx, s.client, pathSystemEvents, opt, nil), func(e event) events.Message { return events.Message(e) })
}

func call[Out any](ctx context.Context, c client, path string, in any) (Out, error) {
	var out Out
	if err := c.wire.Call(ctx, path, in, &out); err != nil {
		var none Out
		return none, told(ctx, err)
	}
	return out, nil
}

func (c client) do(ctx context.Context, path string, in any) error {
	return told(ctx, c.wire.Call(ctx, path, in, nil))
}

func (c client) session(ctx context.Context, path string, in any) (sockerless.Session, error) {
	s, err := c.wire.Session(ctx, path, in)
	if err != nil {
		return nil, told(ctx, err)
	}
	return s, nil
}

func feed[T any](ctx context.Context, c client, path string, in any, body io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range wire.Feed[T](ctx, c.wire, path, in, body) {
			if !yield(v, told(ctx, err)) {
				return
			}
		}
	}
}

// told gives an error of the connection itself its code. Refusals have theirs; what the caller's ctx did is its own.
func told(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || sockerless.ErrorCode(err) != sockerless.EINTERNAL {
		return err
	}
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return err // an EINTERNAL of the backend's
	}
	return sockerless.Errorf(sockerless.EUNAVAILABLE, "lost the backend: %w", err)
}
