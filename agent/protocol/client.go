package protocol

import (
	"context"
	"io"
	"iter"
	"net"

	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

// Client asks one agent. It is safe for concurrent use.
type Client struct{ wire *wire.Client }

// NewClient returns a client whose connections come from open: a link's Open. Close it to drop idle connections.
func NewClient(open func(context.Context) (net.Conn, error)) *Client {
	return &Client{wire.NewClient(open, nil)}
}

// Close drops idle connections.
func (c *Client) Close() { c.wire.Close() }

// State returns what the agent knows of itself.
func (c *Client) State(ctx context.Context) (State, error) {
	return call[State](ctx, c, PathState, nil)
}

// Start runs the container's process.
func (c *Client) Start(ctx context.Context, req StartRequest) (StartResult, error) {
	return call[StartResult](ctx, c, PathStart, req)
}

// Stop asks the process to end, and kills it after the grace. It does not wait.
func (c *Client) Stop(ctx context.Context, req StopRequest) error {
	return c.wire.Call(ctx, PathStop, req, nil)
}

// Signal sends a signal to the process.
func (c *Client) Signal(ctx context.Context, req SignalRequest) error {
	return c.wire.Call(ctx, PathSignal, req, nil)
}

// SetRestart changes the restart policy.
func (c *Client) SetRestart(ctx context.Context, policy RestartPolicy) error {
	return c.wire.Call(ctx, PathRestart, policy, nil)
}

// Pause stops everything that the container runs.
func (c *Client) Pause(ctx context.Context) error {
	return c.wire.Call(ctx, PathPause, nil, nil)
}

// Unpause lets it go on.
func (c *Client) Unpause(ctx context.Context) error {
	return c.wire.Call(ctx, PathUnpause, nil, nil)
}

// Resize sets the size of a terminal: the container's, or an exec's.
func (c *Client) Resize(ctx context.Context, req ResizeRequest) error {
	return c.wire.Call(ctx, PathResize, req, nil)
}

// Top lists the container's processes, as ps does with these arguments.
func (c *Client) Top(ctx context.Context, args string) (TopResult, error) {
	return call[TopResult](ctx, c, PathTop, TopRequest{args})
}

// Stats measures what the container uses.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return call[Stats](ctx, c, PathStats, nil)
}

// Attach joins the process's streams. ctx bounds the opening; the caller closes the session.
func (c *Client) Attach(ctx context.Context, req AttachRequest) (*wire.Conn, error) {
	return c.wire.Session(ctx, PathAttach, req)
}

// Events yields events as they happen.
func (c *Client) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return wire.Feed[Event](ctx, c.wire, PathEvents, EventsRequest{after}, nil)
}

// Logs yields log records.
func (c *Client) Logs(ctx context.Context, req LogsRequest) iter.Seq2[tape.Record, error] {
	return wire.Feed[tape.Record](ctx, c.wire, PathLogs, req, nil)
}

// Ack says what the backend has stored.
func (c *Client) Ack(ctx context.Context, req AckRequest) error {
	return c.wire.Call(ctx, PathAck, req, nil)
}

// Release ends the agent. What runs is killed.
func (c *Client) Release(ctx context.Context) error {
	return c.wire.Call(ctx, PathRelease, nil, nil)
}

// Exec runs a process and joins its streams. ctx bounds the opening; the caller closes the session.
func (c *Client) Exec(ctx context.Context, req ExecRequest) (*wire.Conn, error) {
	return c.wire.Session(ctx, PathExec, req)
}

// ExecDetached runs a process and returns once it runs.
func (c *Client) ExecDetached(ctx context.Context, req ExecRequest) (ExecState, error) {
	return call[ExecState](ctx, c, PathExecBg, req)
}

// ExecState says what became of an exec.
func (c *Client) ExecState(ctx context.Context, id string) (ExecState, error) {
	return call[ExecState](ctx, c, PathExecGet, ExecRef{id})
}

// Stat describes a path.
func (c *Client) Stat(ctx context.Context, path string) (FileStat, error) {
	return call[FileStat](ctx, c, PathStat, FileRequest{wire.Bytes(path)})
}

// Read returns a path as a tar. The caller closes it.
func (c *Client) Read(ctx context.Context, path string) (FileStat, io.ReadCloser, error) {
	var stat FileStat
	body, err := c.wire.Download(ctx, PathRead, FileRequest{wire.Bytes(path)}, &stat)
	return stat, body, err
}

// Changes yields what has changed, see ChangesRequest.
func (c *Client) Changes(ctx context.Context, req ChangesRequest) iter.Seq2[Change, error] {
	return wire.Feed[Change](ctx, c.wire, PathChanges, req, nil)
}

// Size says how much was written.
func (c *Client) Size(ctx context.Context) (SizeResult, error) {
	return call[SizeResult](ctx, c, PathSize, struct{}{})
}

// Export returns the root file system as a tar. The caller closes it.
func (c *Client) Export(ctx context.Context) (io.ReadCloser, error) {
	return c.wire.Download(ctx, PathExport, struct{}{}, nil)
}

// Pack returns files as a tar, see PackRequest. The caller closes it.
func (c *Client) Pack(ctx context.Context, req PackRequest) (io.ReadCloser, error) {
	return c.wire.Download(ctx, PathPack, req, nil)
}

// Write unpacks a tar into a directory.
func (c *Client) Write(ctx context.Context, req WriteRequest, tar io.Reader) error {
	return c.wire.Upload(ctx, PathWrite, req, tar, nil)
}

func call[Out any](ctx context.Context, c *Client, path string, in any) (Out, error) {
	var out Out
	err := c.wire.Call(ctx, path, in, &out)
	return out, err
}
