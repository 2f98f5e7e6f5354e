package remote

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/link"
	"github.com/sockerless/sockerless/wire"
)

// ServerOptions are the settings of a server.
type ServerOptions struct {
	Token   Token        // what clients must know; required
	Version string       // of the program, told to the other end of a link
	Logger  *slog.Logger // gets refusals and what links tell; nil discards
}

// Server serves a Backend: an http.Handler for the routes /v1/... and LinkPath. An http.Server that it is given to
// needs an IdleTimeout above a minute, for that long clients keep their connections.
type Server struct {
	routes *http.ServeMux
	token  string
	hub    *link.Hub
	links  *http.Server
	log    *slog.Logger
	done   chan struct{} // closed when no link is accepted any more

	mu       sync.Mutex
	warned   time.Time // when a refusal was last logged
	unlogged int       // refusals since then
}

// warnEvery is how often refusals are logged: anybody can be refused as often as he likes.
const warnEvery = 10 * time.Second

// maxFrontends is how many links there may be at a time, those included whose frontends died within the resume window.
const maxFrontends = 1024

// NewServer returns a server of backend. Close it to end the links.
func NewServer(backend *sockerless.Backend, opt ServerOptions) *Server {
	log := opt.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		routes: routes(backend),
		token:  opt.Token.String(),
		log:    log,
		done:   make(chan struct{}),
	}
	s.hub = link.NewHub(link.Backend, func(id string) ([]byte, bool) {
		return opt.Token[:], id == linkID
	}, link.Options{Peer: link.Frontend, MaxLinks: maxFrontends, Hello: link.Hello{Version: opt.Version}, Logger: log})
	// Who is on a link has proved the token in the handshake.
	s.links = &http.Server{Handler: s.routes, ReadHeaderTimeout: 2 * link.ResumeWindow, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go s.accept() // ends when the hub is closed
	return s
}

// Close ends the links and what is asked on them. Requests that came otherwise go on.
func (s *Server) Close() error {
	err := s.hub.Close()
	<-s.done
	return errors.Join(err, s.links.Close())
}

func (s *Server) accept() {
	defer close(s.done)
	for {
		l, err := s.hub.Accept(context.Background()) // Close ends it
		if err != nil {
			return
		}
		go func() { // ends with the link
			if err := s.links.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				s.log.Debug("a frontend's link has ended", "reason", err)
			}
			l.Close() // it has ended
		}()
	}
}

// ServeHTTP serves who shows the token, and passes the handshakes of links on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == LinkPath {
		s.hub.ServeHTTP(w, r)
		return
	}
	// The code is not EUNAUTHORIZED, which a docker CLI that pulls takes for the registry's and answers with a login.
	if err := s.authorize(r); err != nil {
		if count := s.refused(); count > 0 {
			s.log.Warn("refused a request", "remote", r.RemoteAddr, "path", r.URL.Path, "reason", err, "count", count)
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		wire.Refuse(w, http.StatusUnauthorized, err)
		return
	}
	s.routes.ServeHTTP(w, r)
}

// refused counts a refusal and returns how many are to be logged now.
func (s *Server) refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlogged++
	now := time.Now()
	if !s.warned.IsZero() && now.Sub(s.warned) < warnEvery {
		return 0
	}
	defer func() { s.warned, s.unlogged = now, 0 }()
	return s.unlogged
}

func (s *Server) authorize(r *http.Request) error {
	if !local(r) {
		return sockerless.Errorf(sockerless.EFORBIDDEN, "a token is taken from this machine alone: connect by a link")
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		return sockerless.Errorf(sockerless.EFORBIDDEN, "the backend's token is missing or wrong")
	}
	return nil
}

// local says whether r came over a unix socket or loopback. A browser on this machine, which a foreign page may drive,
// is none of ours.
func local(r *http.Request) bool {
	if r.Header.Get("Origin") != "" {
		return false
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && a.Network() == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func routes(b *sockerless.Backend) *http.ServeMux {
	m := http.NewServeMux()
	if b.Containers != nil {
		containerRoutes(m, b.Containers)
	}
	if b.Execs != nil {
		execRoutes(m, b.Execs)
	}
	if b.Images != nil {
		imageRoutes(m, b.Images)
	}
	if b.Networks != nil {
		networkRoutes(m, b.Networks)
	}
	if b.Volumes != nil {
		volumeRoutes(m, b.Volumes)
	}
	if b.System != nil {
		systemRoutes(m, b.System)
	}
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		wire.Refuse(w, http.StatusNotFound, sockerless.Errorf(sockerless.EUNSUPPORTED, "not supported: this backend does not offer %s", r.URL.Path))
	})
	return m
}

func containerRoutes(m *http.ServeMux, s sockerless.ContainerService) {
	wire.HandleCall(m, pathContainerCreate, func(ctx context.Context, in sockerless.CreateRequest) (*sockerless.CreateResult, error) {
		in.Raw = rawOf(in.Raw)
		return s.Create(ctx, in)
	})
	wire.HandleCall(m, pathContainerFind, func(ctx context.Context, in ref) (packed, error) {
		c, err := s.Find(ctx, in.Ref)
		return packed{c}, err
	})
	handleList(m, pathContainerList, s.List)
	handleDo(m, pathContainerStart, func(ctx context.Context, in ref) error { return s.Start(ctx, in.Ref) })
	handleDo(m, pathContainerStop, func(ctx context.Context, in stopArgs) error { return s.Stop(ctx, in.Ref, in.Options) })
	handleDo(m, pathContainerRestart, func(ctx context.Context, in stopArgs) error { return s.Restart(ctx, in.Ref, in.Options) })
	handleDo(m, pathContainerSignal, func(ctx context.Context, in signalArgs) error { return s.Signal(ctx, in.Ref, in.Signal) })
	wire.HandleCall(m, pathContainerUpdate, func(ctx context.Context, in updateArgs) ([]string, error) {
		return s.Update(ctx, in.Ref, in.Config)
	})
	handleDo(m, pathContainerPause, func(ctx context.Context, in ref) error { return s.Pause(ctx, in.Ref) })
	handleDo(m, pathContainerUnpause, func(ctx context.Context, in ref) error { return s.Unpause(ctx, in.Ref) })
	handleDo(m, pathContainerRename, func(ctx context.Context, in renameArgs) error { return s.Rename(ctx, in.Ref, in.Name) })
	handleDo(m, pathContainerRemove, func(ctx context.Context, in removeArgs) error { return s.Remove(ctx, in.Ref, in.Options) })
	wire.HandleCall(m, pathContainerPrune, func(ctx context.Context, in sockerless.Filters) (*container.PruneReport, error) {
		return s.Prune(ctx, in)
	})
	wire.HandleFeed(m, pathContainerWait, func(ctx context.Context, in waitArgs, _ io.Reader) iter.Seq2[sockerless.WaitUpdate, error] {
		return s.Wait(ctx, in.Ref, in.Condition)
	})
	handleDo(m, pathContainerResize, func(ctx context.Context, in resizeArgs) error { return s.Resize(ctx, in.Ref, in.Size) })
	wire.HandleCall(m, pathContainerTop, func(ctx context.Context, in topArgs) (*container.TopResponse, error) {
		return s.Top(ctx, in.Ref, in.PsArgs)
	})
	wire.HandleFeed(m, pathContainerStats, func(ctx context.Context, in statsArgs, _ io.Reader) iter.Seq2[*container.StatsResponse, error] {
		return s.Stats(ctx, in.Ref, in.Options)
	})
	wire.HandleFeed(m, pathContainerLogs, func(ctx context.Context, in logsArgs, _ io.Reader) iter.Seq2[sockerless.LogRecord, error] {
		return s.Logs(ctx, in.Ref, in.Options)
	})
	handleSession(m, pathContainerAttach, func(ctx context.Context, in attachArgs) (sockerless.Session, error) {
		return s.Attach(ctx, in.Ref, in.Options)
	})
	wire.HandleCall(m, pathContainerStat, func(ctx context.Context, in fileArgs) (*container.PathStat, error) {
		return s.Stat(ctx, in.Ref, string(in.Path))
	})
	wire.HandleDownload(m, pathContainerReadTree, func(ctx context.Context, in fileArgs) (*container.PathStat, wire.Body, error) {
		stat, tar, err := s.ReadTree(ctx, in.Ref, string(in.Path))
		return stat, wire.NewBody(tar), err
	})
	wire.HandleUpload(m, pathContainerWriteTree, func(ctx context.Context, in writeArgs, tar io.Reader) (nothing, error) {
		return nothing{}, s.WriteTree(ctx, in.Ref, string(in.Path), in.Options, tar)
	})
	wire.HandleFeed(m, pathContainerChanges, func(ctx context.Context, in ref, _ io.Reader) iter.Seq2[container.FilesystemChange, error] {
		return s.Changes(ctx, in.Ref)
	})
	wire.HandleCall(m, pathContainerSize, func(ctx context.Context, in ref) (*sockerless.ContainerSize, error) {
		return s.Size(ctx, in.Ref)
	})
	wire.HandleDownload(m, pathContainerExport, func(ctx context.Context, in ref) (nothing, wire.Body, error) {
		tar, err := s.Export(ctx, in.Ref)
		return nothing{}, wire.NewBody(tar), err
	})
	wire.HandleCall(m, pathContainerCommit, func(ctx context.Context, in commitArgs) (string, error) {
		return s.Commit(ctx, in.Ref, in.Options)
	})
}

func execRoutes(m *http.ServeMux, s sockerless.ExecService) {
	wire.HandleCall(m, pathExecCreate, func(ctx context.Context, in execArgs) (string, error) {
		return s.Create(ctx, in.Ref, in.Config)
	})
	handleSession(m, pathExecStart, func(ctx context.Context, in execStartArgs) (sockerless.Session, error) {
		return s.Start(ctx, in.ID, in.Options)
	})
	handleDo(m, pathExecDetach, func(ctx context.Context, in execStartArgs) error {
		_, err := s.Start(ctx, in.ID, in.Options)
		return err
	})
	wire.HandleCall(m, pathExecFind, func(ctx context.Context, in ref) (*sockerless.Exec, error) {
		return s.Find(ctx, in.Ref)
	})
	handleDo(m, pathExecResize, func(ctx context.Context, in resizeArgs) error { return s.Resize(ctx, in.Ref, in.Size) })
}

func imageRoutes(m *http.ServeMux, s sockerless.ImageService) {
	wire.HandleFeed(m, pathImagePull, func(ctx context.Context, in pullArgs, _ io.Reader) iter.Seq2[jsonstream.Message, error] {
		return s.Pull(ctx, in.Ref, in.Options)
	})
	wire.HandleFeed(m, pathImageLoad, func(ctx context.Context, _ nothing, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
		return s.Load(ctx, tar)
	})
	wire.HandleFeed(m, pathImageImport, func(ctx context.Context, in sockerless.ImportOptions, tar io.Reader) iter.Seq2[jsonstream.Message, error] {
		return s.Import(ctx, in, tar)
	})
	wire.HandleFeed(m, pathImagePush, func(ctx context.Context, in pushArgs, _ io.Reader) iter.Seq2[jsonstream.Message, error] {
		return s.Push(ctx, in.Ref, in.Options)
	})
	wire.HandleDownload(m, pathImageSave, func(ctx context.Context, in []string) (nothing, wire.Body, error) {
		tar, err := s.Save(ctx, in)
		return nothing{}, wire.NewBody(tar), err
	})
	wire.HandleCall(m, pathImageSearch, func(ctx context.Context, in searchArgs) ([]registry.SearchResult, error) {
		return s.Search(ctx, in.Term, in.Options)
	})
	wire.HandleCall(m, pathImageResolve, func(ctx context.Context, in resolveArgs) (*registry.DistributionInspect, error) {
		return s.Resolve(ctx, in.Ref, in.Auth)
	})
	wire.HandleCall(m, pathImageFind, func(ctx context.Context, in ref) (*sockerless.Image, error) {
		return s.Find(ctx, in.Ref)
	})
	handleList(m, pathImageList, s.List)
	handleDo(m, pathImageTag, func(ctx context.Context, in tagArgs) error { return s.Tag(ctx, in.Ref, in.Target) })
	wire.HandleCall(m, pathImageRemove, func(ctx context.Context, in removeArgs) ([]image.DeleteResponse, error) {
		return s.Remove(ctx, in.Ref, in.Options.Force)
	})
	wire.HandleCall(m, pathImagePrune, func(ctx context.Context, in sockerless.Filters) (*image.PruneReport, error) {
		return s.Prune(ctx, in)
	})
}

func networkRoutes(m *http.ServeMux, s sockerless.NetworkService) {
	wire.HandleCall(m, pathNetworkCreate, func(ctx context.Context, in network.CreateRequest) (*network.CreateResponse, error) {
		return s.Create(ctx, in)
	})
	wire.HandleCall(m, pathNetworkFind, func(ctx context.Context, in ref) (*network.Inspect, error) {
		return s.Find(ctx, in.Ref)
	})
	handleList(m, pathNetworkList, s.List)
	handleDo(m, pathNetworkConnect, func(ctx context.Context, in connectArgs) error {
		return s.Connect(ctx, in.Ref, in.Container, in.Endpoint)
	})
	handleDo(m, pathNetworkDisconnect, func(ctx context.Context, in disconnectArgs) error {
		return s.Disconnect(ctx, in.Ref, in.Container, in.Force)
	})
	handleDo(m, pathNetworkRemove, func(ctx context.Context, in ref) error { return s.Remove(ctx, in.Ref) })
	wire.HandleCall(m, pathNetworkPrune, func(ctx context.Context, in sockerless.Filters) (*network.PruneReport, error) {
		return s.Prune(ctx, in)
	})
}

func volumeRoutes(m *http.ServeMux, s sockerless.VolumeService) {
	wire.HandleCall(m, pathVolumeCreate, func(ctx context.Context, in volume.CreateRequest) (*volume.Volume, error) {
		return s.Create(ctx, in)
	})
	wire.HandleCall(m, pathVolumeFind, func(ctx context.Context, in ref) (*volume.Volume, error) {
		return s.Find(ctx, in.Ref)
	})
	handleList(m, pathVolumeList, s.List)
	handleDo(m, pathVolumeRemove, func(ctx context.Context, in removeArgs) error { return s.Remove(ctx, in.Ref, in.Options.Force) })
	wire.HandleCall(m, pathVolumePrune, func(ctx context.Context, in sockerless.Filters) (*volume.PruneReport, error) {
		return s.Prune(ctx, in)
	})
}

func systemRoutes(m *http.ServeMux, s sockerless.SystemService) {
	wire.HandleCall(m, pathSystemInfo, func(ctx context.Context, _ nothing) (*system.Info, error) { return s.Info(ctx) })
	wire.HandleCall(m, pathSystemVersion, func(ctx context.Context, _ nothing) (*system.VersionResponse, error) { return s.Version(ctx) })
	wire.HandleCall(m, pathSystemAuth, func(ctx context.Context, in registry.AuthConfig) (*registry.AuthResponse, error) {
		return s.Auth(ctx, in)
	})
	wire.HandleFeed(m, pathSystemEvents, func(ctx context.Context, in sockerless.EventOptions, _ io.Reader) iter.Seq2[event, error] {
		return each(s.Events(ctx, in), func(m events.Message) event { return event(m) })
	})
}

// handleDo serves a call that answers nothing.
func handleDo[In any](m *http.ServeMux, path string, f func(context.Context, In) error) {
	wire.HandleCall(m, path, func(ctx context.Context, in In) (nothing, error) { return nothing{}, f(ctx, in) })
}

// handleList serves a feed of nouns that are all there.
func handleList[In, T any](m *http.ServeMux, path string, list func(context.Context, In) iter.Seq2[*T, error]) {
	wire.HandleList(m, path, func(ctx context.Context, in In) iter.Seq2[packed, error] {
		return each(list(ctx, in), func(v *T) packed { return packed{v} })
	})
}

// handleSession serves a session: it is accepted once the backend's own has been opened.
func handleSession[In any](m *http.ServeMux, path string, open func(context.Context, In) (sockerless.Session, error)) {
	wire.HandleSession(m, path, func(ctx context.Context, in In, accept func() (*wire.Conn, error)) error {
		process, err := open(ctx, in)
		if err != nil {
			return err
		}
		client, err := accept()
		if err != nil {
			process.Close()
			return err
		}
		// A server that is shut down ends its requests' contexts, and no more of a session than this.
		defer context.AfterFunc(ctx, func() { client.Close(); process.Close() })()
		return wire.Splice(client, process)
	})
}
