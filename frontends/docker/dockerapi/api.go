// Package dockerapi speaks Docker's Engine API over any Backend.
//
// New returns the http.Handler; the table in this file is the whole API, what is served and what is refused alike. There
// is one file a noun, and what Docker decides about containers is not here but behind the Backend: this package knows
// encodings, statuses and the differences between API versions, and nothing of clouds. NewServer and Listen are the
// socket that it is served on.
package dockerapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sockerless/sockerless"
)

// Options are the settings of the API. The zero value is good.
type Options struct {
	Version string       // of the program, for /version and the Server header
	Logger  *slog.Logger // gets requests at debug level, and panics; nil discards
}

// New returns a handler that serves the Engine API over backend. The routes of a service that is nil answer 501.
func New(backend *sockerless.Backend, opt Options) http.Handler { return newAPI(backend, opt) }

func newAPI(backend *sockerless.Backend, opt Options) *api {
	a := &api{backend: backend, version: opt.Version, log: opt.Logger, patience: usual, fixed: map[string]*route{}}
	if a.version == "" {
		a.version = "devel"
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	for i := range table {
		r := &table[i]
		before, after, hasName := strings.Cut(r.path, "{name}")
		if !hasName {
			a.fixed[r.method+" "+r.path] = r
			continue
		}
		a.named = append(a.named, namedRoute{r, before, after})
	}
	return a
}

type api struct {
	backend *sockerless.Backend
	version string
	log     *slog.Logger
	patience
	fixed map[string]*route // by method and path
	named []namedRoute      // in the table's order
	cut   cutExecs
}

// namedRoute is a route with a name in its path, which may have slashes in it.
type namedRoute struct {
	*route
	before, after string
}

type handler func(*api, http.ResponseWriter, *request) error

// route is one operation of the Engine API.
type route struct {
	method, path string
	asks         service // the service that it is answered from
	serve        handler
}

// service is a part of a Backend that may be absent.
type service int

const (
	noService service = iota
	containers
	execs
	images
	networks
	volumes
	systems
)

// offered says whether the backend has the service.
func (s service) offered(b *sockerless.Backend) bool {
	switch s {
	case containers:
		return b.Containers != nil
	case execs:
		return b.Execs != nil && b.Containers != nil
	case images:
		return b.Images != nil
	case networks:
		return b.Networks != nil
	case volumes:
		return b.Volumes != nil
	case systems:
		return b.System != nil
	}
	return true
}

func (s service) String() string {
	return [...]string{"", "containers", "execs", "images", "networks", "volumes", "information about itself"}[s]
}

// table is the Engine API: all operations of v1.56, and POST /grpc, which no specification lists.
var table = []route{
	{"GET", "/_ping", noService, (*api).ping},
	{"HEAD", "/_ping", noService, (*api).ping},
	{"GET", "/version", systems, (*api).showVersion},
	{"GET", "/info", systems, (*api).info},
	{"POST", "/auth", systems, (*api).auth},
	{"GET", "/events", systems, (*api).events},
	{"GET", "/system/df", systems, (*api).diskUsage},

	{"GET", "/containers/json", containers, (*api).listContainers},
	{"POST", "/containers/create", containers, (*api).createContainer},
	{"POST", "/containers/prune", containers, (*api).pruneContainers},
	{"GET", "/containers/{name}/json", containers, (*api).inspectContainer},
	{"GET", "/containers/{name}/top", containers, (*api).topContainer},
	{"GET", "/containers/{name}/logs", containers, (*api).containerLogs},
	{"GET", "/containers/{name}/changes", containers, (*api).containerChanges},
	{"GET", "/containers/{name}/export", containers, (*api).exportContainer},
	{"GET", "/containers/{name}/stats", containers, (*api).containerStats},
	{"POST", "/containers/{name}/resize", containers, (*api).resizeContainer},
	{"POST", "/containers/{name}/start", containers, (*api).startContainer},
	{"POST", "/containers/{name}/stop", containers, (*api).stopContainer},
	{"POST", "/containers/{name}/restart", containers, (*api).restartContainer},
	{"POST", "/containers/{name}/kill", containers, (*api).killContainer},
	{"POST", "/containers/{name}/update", containers, (*api).updateContainer},
	{"POST", "/containers/{name}/rename", containers, (*api).renameContainer},
	{"POST", "/containers/{name}/pause", containers, (*api).pauseContainer},
	{"POST", "/containers/{name}/unpause", containers, (*api).unpauseContainer},
	{"POST", "/containers/{name}/attach", containers, (*api).attach},
	{"GET", "/containers/{name}/attach/ws", containers, (*api).attachWebSocket},
	{"POST", "/containers/{name}/wait", containers, (*api).waitContainer},
	{"HEAD", "/containers/{name}/archive", containers, (*api).statArchive},
	{"GET", "/containers/{name}/archive", containers, (*api).readArchive},
	{"PUT", "/containers/{name}/archive", containers, (*api).writeArchive},
	{"DELETE", "/containers/{name}", containers, (*api).removeContainer},

	{"POST", "/containers/{name}/exec", execs, (*api).createExec},
	{"POST", "/exec/{name}/start", execs, (*api).startExec},
	{"POST", "/exec/{name}/resize", execs, (*api).resizeExec},
	{"GET", "/exec/{name}/json", execs, (*api).inspectExec},

	{"GET", "/images/json", images, (*api).listImages},
	{"POST", "/images/create", images, (*api).createImage},
	{"POST", "/images/load", images, (*api).loadImages},
	{"POST", "/images/prune", images, (*api).pruneImages},
	{"GET", "/images/search", images, (*api).searchImages},
	{"GET", "/images/get", images, (*api).saveImages},
	{"GET", "/images/{name}/json", images, (*api).inspectImage},
	{"GET", "/images/{name}/attestations", images, noAttestations},
	{"GET", "/images/{name}/history", images, (*api).imageHistory},
	{"GET", "/images/{name}/get", images, (*api).saveImages},
	{"POST", "/images/{name}/push", images, (*api).pushImage},
	{"POST", "/images/{name}/tag", images, (*api).tagImage},
	{"DELETE", "/images/{name}", images, (*api).removeImage},
	{"GET", "/distribution/{name}/json", images, (*api).inspectDistribution},
	{"POST", "/commit", containers, (*api).commitContainer},
	{"POST", "/build", images, noBuilder},
	{"POST", "/build/prune", images, (*api).pruneBuilds},
	{"POST", "/build/cancel", images, noBuilder},
	{"POST", "/session", images, noBuilder},
	{"POST", "/grpc", images, (*api).refuseBuildKit},

	{"GET", "/networks", networks, (*api).listNetworks},
	{"POST", "/networks/create", networks, (*api).createNetwork},
	{"POST", "/networks/prune", networks, (*api).pruneNetworks},
	{"GET", "/networks/{name}", networks, (*api).inspectNetwork},
	{"POST", "/networks/{name}/connect", networks, (*api).connectNetwork},
	{"POST", "/networks/{name}/disconnect", networks, (*api).disconnectNetwork},
	{"DELETE", "/networks/{name}", networks, (*api).removeNetwork},

	{"GET", "/volumes", volumes, (*api).listVolumes},
	{"POST", "/volumes/create", volumes, (*api).createVolume},
	{"POST", "/volumes/prune", volumes, (*api).pruneVolumes},
	{"GET", "/volumes/{name}", volumes, (*api).inspectVolume},
	{"PUT", "/volumes/{name}", noService, noManager},
	{"DELETE", "/volumes/{name}", volumes, (*api).removeVolume},

	{"GET", "/plugins", noService, (*api).listPlugins},
	{"GET", "/plugins/privileges", noService, noPlugins},
	{"POST", "/plugins/pull", noService, noPlugins},
	{"POST", "/plugins/create", noService, noPlugins},
	{"GET", "/plugins/{name}/json", noService, noPlugin},
	{"POST", "/plugins/{name}/enable", noService, noPlugin},
	{"POST", "/plugins/{name}/disable", noService, noPlugin},
	{"POST", "/plugins/{name}/upgrade", noService, noPlugin},
	{"POST", "/plugins/{name}/push", noService, noPlugin},
	{"POST", "/plugins/{name}/set", noService, noPlugin},
	{"DELETE", "/plugins/{name}", noService, noPlugin},

	{"GET", "/swarm", noService, noManager},
	{"POST", "/swarm/init", noService, noNodes},
	{"POST", "/swarm/join", noService, noNodes},
	{"POST", "/swarm/leave", noService, noSwarm},
	{"POST", "/swarm/update", noService, noManager},
	{"GET", "/swarm/unlockkey", noService, noManager},
	{"POST", "/swarm/unlock", noService, noManager},
	{"GET", "/nodes", noService, noManager},
	{"GET", "/nodes/{name}", noService, noManager},
	{"POST", "/nodes/{name}/update", noService, noManager},
	{"DELETE", "/nodes/{name}", noService, noManager},
	{"GET", "/services", noService, noManager},
	{"POST", "/services/create", noService, noManager},
	{"GET", "/services/{name}/logs", noService, noManager},
	{"GET", "/services/{name}", noService, noManager},
	{"POST", "/services/{name}/update", noService, noManager},
	{"DELETE", "/services/{name}", noService, noManager},
	{"GET", "/tasks", noService, noManager},
	{"GET", "/tasks/{name}/logs", noService, noManager},
	{"GET", "/tasks/{name}", noService, noManager},
	{"GET", "/secrets", noService, noManager},
	{"POST", "/secrets/create", noService, noManager},
	{"GET", "/secrets/{name}", noService, noManager},
	{"POST", "/secrets/{name}/update", noService, noManager},
	{"DELETE", "/secrets/{name}", noService, noManager},
	{"GET", "/configs", noService, noManager},
	{"POST", "/configs/create", noService, noManager},
	{"GET", "/configs/{name}", noService, noManager},
	{"POST", "/configs/{name}/update", noService, noManager},
	{"DELETE", "/configs/{name}", noService, noManager},
}

// refusal refuses an operation with the reason. The docker CLI looks for "not supported" in it when it tries out what kind
// of object a name is (docker/cli cli/command/system/inspect.go).
func refusal(reason string) handler {
	err := sockerless.Errorf(sockerless.EUNSUPPORTED, "%s", reason)
	return func(*api, http.ResponseWriter, *request) error { return err }
}

var (
	noBuilder = refusal(noBuild)
	noPlugins = refusal("plugins are not supported: there is no Docker Engine here that they could be plugged into")
	noNodes   = refusal("a swarm is not supported: containers run as jobs in the cloud and on no nodes")
)

func noManager(*api, http.ResponseWriter, *request) error {
	return sockerless.Errorf(sockerless.EUNAVAILABLE,
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

func noSwarm(*api, http.ResponseWriter, *request) error {
	return sockerless.Errorf(sockerless.EUNAVAILABLE, "This node is not part of a swarm")
}

// ServeHTTP finds the operation and serves it.
func (a *api) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &response{ResponseWriter: rw, answerBy: a.answer}
	control := http.NewResponseController(rw)
	control.SetWriteDeadline(time.Time{}) //nolint:errcheck // that of the connection's last answer; a test's writer has none
	// The server reads what is left of a body before it answers.
	defer func() { control.SetReadDeadline(time.Now().Add(a.body)) }() //nolint:errcheck // as above
	defer func() {
		if p := recover(); p != nil {
			a.recovered(w, r, p)
		}
	}()
	path, asked, err := splitVersion(r.URL.Path)
	route, name := a.find(r.Method, path)
	if route == nil {
		writeError(w, errNoPage)
		return
	}
	h := w.Header()
	h.Set("Api-Version", maxVersion.String())
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux")
	h.Set("Server", "Sockerless/"+a.version+" (linux)")
	if err == nil {
		err = asked.supported()
	}
	if err == nil && !route.asks.offered(a.backend) {
		err = sockerless.Errorf(sockerless.EUNSUPPORTED, "not supported: this backend offers no %s", route.asks)
	}
	if err == nil {
		err = route.serve(a, w, &request{Request: r, query: r.URL.Query(), name: name, version: asked, bodyBy: a.body})
	}
	switch {
	case err == nil:
	case r.Context().Err() != nil && errors.Is(err, r.Context().Err()):
		a.log.Debug("a client has gone", "method", r.Method, "path", r.URL.Path)
		panic(http.ErrAbortHandler)
	case w.wrote:
		// The status is out, so the connection has to tell that the answer is not whole.
		a.log.Debug("cut an answer", "method", r.Method, "path", r.URL.Path, "reason", err)
		panic(http.ErrAbortHandler)
	default:
		a.log.Debug("refused", "method", r.Method, "path", r.URL.Path, "reason", err)
		writeError(w, err)
	}
}

// find returns the route of a path without its version, and the name in it; nil if there is none.
func (a *api) find(method, path string) (*route, string) {
	if r := a.fixed[method+" "+path]; r != nil {
		return r, ""
	}
	for _, r := range a.named {
		if r.method != method || !strings.HasPrefix(path, r.before) || !strings.HasSuffix(path, r.after) {
			continue
		}
		if len(path) <= len(r.before)+len(r.after) {
			continue
		}
		// Older clients put the slash of a container's name into the path.
		if name := strings.TrimPrefix(path[len(r.before):len(path)-len(r.after)], "/"); name != "" {
			return r.route, name
		}
	}
	return nil, ""
}

func (a *api) recovered(w *response, r *http.Request, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	a.log.Error("panic", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.wrote {
		panic(http.ErrAbortHandler)
	}
	writeError(w, sockerless.Errorf(sockerless.EINTERNAL, "internal error: %v", p))
}

// response knows whether the status is out.
type response struct {
	http.ResponseWriter
	wrote    bool
	answerBy time.Duration // how long the client may take to take an answer in JSON
}

// WriteHeader remembers that the status is out.
func (w *response) WriteHeader(status int) {
	w.wrote = true
	w.ResponseWriter.WriteHeader(status)
}

// Write writes and remembers that the status is out.
func (w *response) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// Unwrap leads http.ResponseController to the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
