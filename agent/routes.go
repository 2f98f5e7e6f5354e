package agent

import (
	"context"
	"io"
	"iter"
	"net/http"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/tape"
	"github.com/sockerless/sockerless/wire"
)

// handler is the route table. Package protocol says what each route is for.
func (a *Agent) handler() http.Handler {
	m := http.NewServeMux()
	wire.HandleCall(m, protocol.PathState, a.state)
	wire.HandleCall(m, protocol.PathStart, a.start)
	wire.HandleCall(m, protocol.PathStop, a.stop)
	wire.HandleCall(m, protocol.PathSignal, a.signal)
	wire.HandleCall(m, protocol.PathResize, a.resize)
	wire.HandleCall(m, protocol.PathPause, a.pause)
	wire.HandleCall(m, protocol.PathUnpause, a.unpause)
	wire.HandleCall(m, protocol.PathTop, a.top)
	wire.HandleCall(m, protocol.PathRestart, a.setRestart)
	wire.HandleCall(m, protocol.PathStats, a.stats)
	wire.HandleSession(m, protocol.PathAttach, a.attach)
	wire.HandleFeed(m, protocol.PathEvents, a.eventFeed)
	wire.HandleFeed(m, protocol.PathLogs, a.logFeed)
	wire.HandleCall(m, protocol.PathAck, a.ack)
	wire.HandleCall(m, protocol.PathRelease, a.release)
	wire.HandleSession(m, protocol.PathExec, a.exec)
	wire.HandleCall(m, protocol.PathExecBg, a.execDetached)
	wire.HandleCall(m, protocol.PathExecGet, a.execState)
	files := http.NewServeMux()
	wire.HandleCall(files, protocol.PathStat, a.stat)
	wire.HandleDownload(files, protocol.PathRead, a.read)
	wire.HandleUpload(files, protocol.PathWrite, a.write)
	wire.HandleDownload(files, protocol.PathExport, a.export)
	wire.HandleDownload(files, protocol.PathPack, a.pack)
	wire.HandleFeed(files, protocol.PathChanges, a.changes)
	wire.HandleCall(files, protocol.PathSize, a.size)
	m.Handle("POST /", make(turns, fileTurns).handle(files)) // all that is not above
	return m
}

func (a *Agent) eventFeed(ctx context.Context, req protocol.EventsRequest, _ io.Reader) iter.Seq2[protocol.Event, error] {
	return a.events.read(ctx, req.After, a.over)
}

func (a *Agent) logFeed(ctx context.Context, req protocol.LogsRequest, _ io.Reader) iter.Seq2[tape.Record, error] {
	return a.tape.read(ctx, req.After, req.Follow, a.over, connected(ctx))
}
