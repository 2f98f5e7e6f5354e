package azuresim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Simulator is a subscription of simulated Azure. It is an http.Handler for every API at once; Listen gives it addresses.
// Create it with New and end it with Close.
type Simulator struct {
	world   World
	dir     string
	runtime Runtime
	log     *slog.Logger
	delays  Delays
	chance  chances
	limits  limits
	dice    *dice

	entra    *entra
	access   *access
	faults   *faults
	requests *requestLog
	logs     *logStore
	registry *registry // the world's
	logins   *logins   // the others
	zone     *zone
	tables   map[string]*tableService // by account; mu guards it
	lock     *dirLock

	operator    *Principal
	operatorMSI string
	addr        addresses
	anonymous   bool
	accounts    map[string]string
	temporary   bool

	clock        func() time.Time // of the cloud
	storageClock func() time.Time // nil: the cloud's

	mu           sync.Mutex
	closed       bool
	done         chan struct{}              // closed by Close
	jobs         map[string]*job            // by lower-case ARM id
	apps         map[string]*app            // by lower-case ARM id
	environments map[string]*environment    // by lower-case ARM id
	resources    map[string]*resource       // by lower-case ARM id: all others
	assignments  map[string]*roleAssignment // by lower-case ARM id: those that ARM made
	operations   map[string]*operation      // by GUID
	timers       map[*time.Timer]struct{}   // of operations and executions to come
	running      sync.WaitGroup             // one for each execution that is not over, and for each revision that is active
}

// Option configures New.
type Option func(*Simulator)

// WithRuntime says what runs the replicas. Without one, POST start answers an error that says so.
// The simulator closes it, unless New fails.
func WithRuntime(r Runtime) Option { return func(s *Simulator) { s.runtime = r } }

// WithDataDir keeps registry content, jobs, keys and shares in dir, over restarts too. Without it they live in a
// temporary folder that Close removes.
func WithDataDir(dir string) Option { return func(s *Simulator) { s.dir = dir } }

// WithLogger sets where the simulator tells what it does; the default is nowhere.
func WithLogger(l *slog.Logger) Option { return func(s *Simulator) { s.log = l } }

// WithWorld names the resources that exist from the start.
func WithWorld(w World) Option { return func(s *Simulator) { s.world = w } }

// WithSeed seeds delays, throttling and dropped polls; tests print it when they fail.
func WithSeed(seed uint64) Option { return func(s *Simulator) { s.dice = newDice(seed) } }

// WithDelays replaces how long things take.
func WithDelays(d Delays) Option { return func(s *Simulator) { s.delays = d } }

// WithProvisioning sets how long a replica waits before its first image is pulled, whatever else is calm.
func WithProvisioning(r Range) Option { return func(s *Simulator) { s.delays.Provision = r } }

// WithIngestion sets how long a line takes to become a row in Log Analytics.
func WithIngestion(r Range) Option { return func(s *Simulator) { s.delays.Ingestion = r } }

// WithThrottling sets the fraction (0 to 1) of ARM calls that are answered 429.
func WithThrottling(fraction float64) Option {
	return func(s *Simulator) { s.chance.throttle = fraction }
}

// WithDroppedPolls sets the fraction (0 to 1) of polls of an operation whose connection is cut without an answer.
func WithDroppedPolls(fraction float64) Option {
	return func(s *Simulator) { s.chance.dropPoll = fraction }
}

// WithLostAnswers sets the fraction (0 to 1) of calls of the Table service that are done and whose connection is cut
// before the answer. Above 0, lists come in small pages, of which some are empty.
func WithLostAnswers(fraction float64) Option {
	return func(s *Simulator) { s.chance.dropWrite = fraction }
}

// WithClock sets the cloud's clock: what its tokens and the Date of its answers go by. The default is the machine's.
func WithClock(now func() time.Time) Option { return func(s *Simulator) { s.clock = now } }

// WithCores sets how many cores an environment's quota has. It is told, and not enforced.
func WithCores(n float64) Option { return func(s *Simulator) { s.limits.cores = n } }

// WithStorageClock sets the clock of the storage account.
func WithStorageClock(now func() time.Time) Option {
	return func(s *Simulator) { s.storageClock = now }
}

// Calm switches delays and random faults off: operations are terminal in their first answer.
// Options after it may set single delays again.
func Calm() Option {
	return func(s *Simulator) { s.delays, s.chance = Delays{}, chances{} }
}

// WithAnonymousPull lets anybody pull from the registry, as ACR's anonymousPullEnabled does.
func WithAnonymousPull() Option { return func(s *Simulator) { s.anonymous = true } }

// WithRegistryAccount makes a user with a password that may pull and push, as a registry other than ACR has them.
func WithRegistryAccount(user, password string) Option {
	return func(s *Simulator) { s.accounts[user] = password }
}

// New makes a subscription with one resource group, environment, workspace, registry and pulling identity, named by
// World. The "operator" principal holds the roles that a backend needs, the pulling identity holds AcrPull.
func New(opts ...Option) (*Simulator, error) {
	s := &Simulator{
		log: slog.New(slog.DiscardHandler), clock: time.Now, dice: newDice(1), delays: unkindDelays, chance: unkindChances, limits: azureLimits,
		access: &access{}, requests: newRequestLog(), faults: &faults{}, logins: newLogins(), tables: map[string]*tableService{},
		accounts: map[string]string{},
		jobs:     map[string]*job{}, apps: map[string]*app{}, environments: map[string]*environment{},
		resources: map[string]*resource{}, assignments: map[string]*roleAssignment{}, operations: map[string]*operation{},
		timers: map[*time.Timer]struct{}{}, done: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(s)
	}
	s.world = s.world.withDefaults()
	if err := s.openDir(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeDir())
	}
	return s, nil
}

func (s *Simulator) open() error {
	keys, err := loadKeys(s.dir)
	if err != nil {
		return err
	}
	s.entra = &entra{tenant: s.world.Tenant, key: keys.signing, now: s.clock, headers: map[string]msiGrant{}}
	s.logs = newLogStore(s)
	s.zone = newZone(s.log)
	if err := os.RemoveAll(filepath.Join(s.dir, "secrets")); err != nil { // of replicas that died with their simulator
		return fmt.Errorf("cannot forget the secrets of earlier replicas: %w", err)
	}
	s.found(keys)
	if s.registry, err = openRegistry(s, s.world.RegistryID(), filepath.Join(s.dir, "registry")); err != nil {
		return err
	}
	if s.tables[s.world.StorageAccount], err = openTables(s, s.world.StorageAccountID(), filepath.Join(s.dir, "tables")); err != nil {
		return err
	}
	return s.loadState()
}

// found makes the principals and resources of the world.
func (s *Simulator) found(keys *keys) {
	w := s.world
	s.operator = &Principal{Name: "operator", ObjectID: "5c0c1e55-0000-4000-8000-0000000000b1",
		ClientID: "5c0c1e55-0000-4000-8000-0000000000b2", Secret: keys.OperatorSecret}
	s.entra.add(s.operator)
	s.operatorMSI = keys.OperatorHeader
	s.entra.setHeader(keys.OperatorHeader, msiGrant{identities: []*Principal{s.operator}, fallback: s.operator})
	s.entra.add(&Principal{Name: w.PullIdentity, ObjectID: "5c0c1e55-0000-4000-8000-0000000000c1",
		ClientID: "5c0c1e55-0000-4000-8000-0000000000c2", ResourceID: w.PullIdentityID()})

	s.environments[strings.ToLower(w.EnvironmentID())] = newEnvironment(w.EnvironmentID(), w.Environment, w.Location, w.WorkspaceCustomerID)
	s.seed(resourceGroups, w.GroupID(), nil, &groupProperties{})
	s.seed(workspaces, w.WorkspaceID(), nil, &workspace{CustomerID: w.WorkspaceCustomerID, RetentionInDays: 30}, newKey(), newKey())
	s.adopt(s.entra.byResourceID(w.PullIdentityID()))

	for _, as := range []Assignment{
		{s.operator.ObjectID, "Container Apps Jobs Contributor", w.GroupID()},
		{s.operator.ObjectID, "Container Apps ManagedEnvironments Contributor", w.EnvironmentID()},
		{s.operator.ObjectID, "Managed Identity Operator", w.PullIdentityID()},
		{s.operator.ObjectID, "Log Analytics Reader", w.WorkspaceID()},
		{s.operator.ObjectID, "AcrPush", w.RegistryID()},
		{s.operator.ObjectID, "AcrDelete", w.RegistryID()},
		{s.operator.ObjectID, tableContributor, w.StorageAccountID()},
		{"5c0c1e55-0000-4000-8000-0000000000c1", "AcrPull", w.RegistryID()},
	} {
		s.access.assign(as)
	}
}

// World is what the simulator was made with, defaults filled in.
func (s *Simulator) World() World { return s.world }

// Operator is the service principal that holds the backend's roles, with its secret.
func (s *Simulator) Operator() Principal { return *s.operator }

// OperatorHeader is the X-IDENTITY-HEADER value with which /msi/token hands out the operator's tokens.
func (s *Simulator) OperatorHeader() string { return s.operatorMSI }

// Machine stands for a machine that has the identity of that ARM id, and no other: with the X-IDENTITY-HEADER value that
// it returns, /msi/token hands out the identity's tokens.
func (s *Simulator) Machine(identity string) (header string, err error) {
	p := s.entra.byResourceID(identity)
	if p == nil {
		return "", fmt.Errorf("cannot give a machine the identity %s: there is none", identity)
	}
	return s.entra.grantHeader(msiGrant{identities: []*Principal{p}, fallback: p}), nil
}

// AddIdentity makes a user-assigned managed identity in the resource group, without any role.
func (s *Simulator) AddIdentity(name string) Principal {
	p := &Principal{Name: name, ObjectID: newGUID(), ClientID: newGUID(), ResourceID: s.world.identityID(name)}
	s.entra.add(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adopt(p)
	return *p
}

// AddServicePrincipal makes an application with a client secret, without any role.
func (s *Simulator) AddServicePrincipal(name string) Principal {
	p := &Principal{Name: name, ObjectID: newGUID(), ClientID: newGUID(), Secret: randomHex(20)}
	s.entra.add(p)
	return *p
}

// ExpireSecret ends the life of a service principal's client secret. Tokens that were had with it go on.
func (s *Simulator) ExpireSecret(p Principal) {
	s.entra.mu.Lock()
	defer s.entra.mu.Unlock()
	for _, known := range s.entra.principals {
		known.expired = known.expired || known.ObjectID == p.ObjectID
	}
}

// Token signs an access token of the principal for audience, without asking for its secret; for tests.
func (s *Simulator) Token(p Principal, audience string) (string, error) {
	return s.entra.token(&p, audience)
}

// Assign adds a role assignment. A role that the simulator does not know is an error.
func (s *Simulator) Assign(as Assignment) error {
	if !s.access.assign(as) {
		return fmt.Errorf("cannot assign role %q: it is none of the built-in roles that azuresim knows", as.Role)
	}
	return nil
}

// Unassign removes a role assignment and tells whether it was there.
func (s *Simulator) Unassign(as Assignment) bool { return s.access.unassign(as) }

// Assignments lists the role assignments.
func (s *Simulator) Assignments() []Assignment { return s.access.list() }

// Close ends every replica (SIGTERM, then SIGKILL after two seconds), closes the runtime and releases the data folder.
// Requests that come later are answered 503.
func (s *Simulator) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for t := range s.timers {
		t.Stop()
	}
	for _, j := range s.jobs {
		for _, e := range j.executions {
			e.endWith(statusFailed, "SimulatorClosed", "The simulator was closed while the execution ran.", closeGrace)
		}
	}
	for _, a := range s.apps {
		a.end(closeGrace)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() { s.running.Wait(); close(ended) }() // ends when every replica has, at the latest by the runtime's Close
	select {
	case <-ended:
	case <-time.After(closeGrace + 5*time.Second):
		s.log.Warn("replicas did not end in time and are killed")
	}
	var err error
	if s.runtime != nil {
		err = s.runtime.Close()
	}
	<-ended
	s.zone.close()
	s.logs.close()
	return errors.Join(err, s.logins.close(), s.closeDir())
}

// closeGrace is how long replicas have when the simulator itself ends.
const closeGrace = 2 * time.Second

func (s *Simulator) openDir() error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "azuresim-")
		if err != nil {
			return fmt.Errorf("cannot make the simulator's folder: %w", err)
		}
		s.dir, s.temporary = dir, true
		return nil
	}
	dir, err := filepath.Abs(s.dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("cannot make the simulator's folder: %w", err)
	}
	s.dir = dir
	lock, err := lockDir(s.dir)
	s.lock = lock
	return err
}

func (s *Simulator) closeDir() error {
	if s.temporary {
		return os.RemoveAll(s.dir)
	}
	return s.lock.release()
}

// after runs f in d with s.mu held, unless the simulator is closed by then. s.mu is held by the caller;
// f runs at once when d is zero.
func (s *Simulator) after(d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.timers, t)
		if !s.closed {
			f()
		}
	})
	s.timers[t] = struct{}{}
}

// ServeHTTP answers every API. What is called is told by the path alone, so one address serves all of them.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	for strings.HasPrefix(path, "//") { // Terraform's login client asks for //TENANT/oauth2/v2.0/token
		path = path[1:]
	}
	if strings.HasPrefix(path, "/_sim/") {
		s.serveAdmin(w, r)
		return
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		http.Error(w, "the simulator is closed", http.StatusServiceUnavailable)
		return
	}
	if s.serveIngress(w, r) {
		return
	}
	note := &identityNote{}
	r = r.WithContext(context.WithValue(r.Context(), identityNoteKey{}, note))
	rec := &statusRecorder{ResponseWriter: w}
	start := time.Now()
	defer func() { // in a defer, because a dropped connection is a panic
		s.requests.add(Request{Time: start, Method: r.Method, Path: path, Query: r.URL.RawQuery, Status: rec.status, Identity: note.name})
	}()
	s.faults.serve(rec, r, path, func(w http.ResponseWriter) { s.route(w, r, path) })
}

func (s *Simulator) route(w http.ResponseWriter, r *http.Request, path string) {
	if g := s.logins.at(r); g != nil {
		g.serve(w, r, path)
		return
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if t, rest := s.tablesAt(r, path); t != nil {
		t.serve(w, r, rest)
		return
	}
	switch {
	case path == "/metadata/endpoints":
		s.serveMetadata(w, r)
	case path == "/msi/token":
		s.serveManagedIdentity(w, r)
	case strings.EqualFold(first, "subscriptions"):
		s.serveARM(w, r, path)
	case first == "v1":
		s.serveLogs(w, r, "/"+rest)
	case registryPath(path):
		s.registry.serve(w, r, path)
	case strings.HasPrefix(rest, "oauth2/") || strings.HasPrefix(rest, "v2.0/") || strings.HasPrefix(rest, "discovery/"):
		s.serveLogin(w, r, first, rest)
	default:
		writeARMError(w, http.StatusNotFound, "NotFound", "azuresim serves nothing at '"+path+"'.")
	}
}

// serveMetadata answers the cloud's description of itself, the document that ARM_METADATA_HOSTNAME users read.
func (s *Simulator) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if v := r.URL.Query().Get("api-version"); v != "2022-09-01" {
		writeARMError(w, http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '"+v+"' is invalid. The supported versions are '2022-09-01'.")
		return
	}
	base := s.baseURL(r)
	secure := base // login and log queries refuse plain http in Azure's own clients
	if _, https := s.addr.get(); https != "" && r.TLS == nil {
		secure = "https://" + https
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"name": "AzureSim", "portal": base, "resourceManager": base,
		"microsoftGraphResourceId": base, "graph": base, "graphAudience": base,
		"authentication": map[string]any{"loginEndpoint": secure, "audiences": []string{legacyARM + "/", audienceARM + "/"},
			"tenant": "common", "identityProvider": "AAD"},
		"logAnalyticsResourceId":                secure,
		"activeDirectoryDataLake":               base,
		"batch":                                 base,
		"media":                                 base,
		"sqlManagement":                         base,
		"ossrDbmsResourceId":                    base,
		"appInsightsResourceId":                 base,
		"appInsightsTelemetryChannelResourceId": base,
		"attestationResourceId":                 base,
		"synapseAnalyticsResourceId":            base,
		"gallery":                               base,
		"suffixes": map[string]any{
			"acrLoginServer": s.loginServer(r), "storage": storageSuffix, "keyVaultDns": "vault.azuresim.internal",
			"azureFrontDoorEndpointSuffix": "azurefd.azuresim.internal", "sqlServerHostname": "database.azuresim.internal",
		},
	})
}

// baseURL is scheme and authority under which the client reached the simulator.
func (s *Simulator) baseURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// ownURL tells whether raw is an address of this simulator.
func (s *Simulator) ownURL(r *http.Request, raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && (u.Host == r.Host || s.ownHost(u.Host))
}

// addresses are the listeners of the simulator, as host:port; empty: there is none.
type addresses struct {
	mu          sync.RWMutex
	http, https string
}

func (a *addresses) set(http, https string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.http, a.https = http, https
}

func (a *addresses) get() (http, https string) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.http, a.https
}

// ownHost tells whether host (with port) is a listener of this simulator, under any name of loopback or that of replicas.
func (s *Simulator) ownHost(host string) bool {
	if host == cloudName { // port 443 of it, which replicas find this simulator at
		return true
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || !isLoopbackName(name) && name != cloudName {
		return false
	}
	plain, secure := s.addr.get()
	return port == portOf(plain) || port == portOf(secure)
}

// portOf is the port of host:port; a missing address has one that nothing equals.
func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "none"
	}
	return port
}

// loginServer is the registry's name in image references: the plain http listener, which docker and ggcr accept on loopback.
func (s *Simulator) loginServer(r *http.Request) string {
	if plain, _ := s.addr.get(); plain != "" {
		return "localhost:" + portOf(plain)
	}
	return r.Host
}

func isLoopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only our own structs come here
		panic(fmt.Sprintf("cannot encode an answer: %v", err))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is its own business
}
