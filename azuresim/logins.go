package azuresim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// logins are the registries that ARM made. Each has a name of its own, as in Azure, and so a port of its own: what has
// another name must not have the content, or the rights, of this one.
type logins struct {
	mu     sync.RWMutex
	listen func(http.Handler, net.Listener) *http.Server // nil: the simulator has no addresses
	byPort map[string]*login
}

type login struct {
	registry *registry
	server   *http.Server
}

func newLogins() *logins { return &logins{byPort: map[string]*login{}} }

// serve lets registries have addresses: listen serves on a listener until the server that it returns is closed.
func (l *logins) serve(listen func(http.Handler, net.Listener) *http.Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listen = listen
}

// open makes the registry of a new resource and returns its login server.
func (l *logins) open(s *Simulator, id string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listen == nil {
		return "", armErrorf(http.StatusNotImplemented, "UnsupportedBySimulator", "azuresim has no further registries unless it listens on addresses of its own.")
	}
	dir := filepath.Join(s.dir, "registries", strings.ToLower(id[strings.LastIndexByte(id, '/')+1:]))
	if err := os.RemoveAll(dir); err != nil { // an earlier process's: its resources are gone
		return "", fmt.Errorf("cannot empty the registry's folder: %w", err)
	}
	g, err := openRegistry(s, id, dir)
	if err != nil {
		return "", err
	}
	// Listening on loopback does not wait, so there is nothing to cancel.
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot serve the registry: %w", err)
	}
	port := portOf(listener.Addr().String())
	l.byPort[port] = &login{g, l.listen(s, listener)}
	return "localhost:" + port, nil
}

// at is the registry at the address to which the request came, or nil if that is another service's.
func (l *logins) at(r *http.Request) *registry {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return nil
	}
	return l.byAddress(addr.String())
}

// byAddress is the registry of host:port, or nil.
func (l *logins) byAddress(address string) *registry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if found := l.byPort[portOf(address)]; found != nil {
		return found.registry
	}
	return nil
}

// forget ends the registry of a resource that is deleted. Its content is deleted when the simulator ends: there may be
// readers.
func (l *logins) forget(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for port, found := range l.byPort {
		if strings.EqualFold(found.registry.id, id) {
			delete(l.byPort, port)
			return found.server.Close()
		}
	}
	return nil
}

func (l *logins) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for port, found := range l.byPort {
		delete(l.byPort, port)
		err = errors.Join(err, found.server.Close(), os.RemoveAll(found.registry.store.dir))
	}
	return err
}

// registryOf is the registry whose login server it is, or nil if it is none of this subscription's.
func (s *Simulator) registryOf(server string) *registry {
	if !isLoopbackName(hostOf(server)) {
		return nil
	}
	if plain, _ := s.addr.get(); portOf(server) == portOf(plain) {
		return s.registry
	}
	return s.logins.byAddress(server)
}

// registryPorts are the ports of all registries' login servers.
func (s *Simulator) registryPorts() (ports []uint16) {
	if plain, _ := s.addr.get(); plain != "" {
		ports = append(ports, portNumber(plain))
	}
	s.logins.mu.RLock()
	defer s.logins.mu.RUnlock()
	for port := range s.logins.byPort {
		ports = append(ports, portNumber(":"+port))
	}
	return ports
}

// registryPath tells whether a path is one of a registry's.
func registryPath(path string) bool {
	return path == "/v2" || strings.HasPrefix(path, "/v2/") || path == "/oauth2/exchange" || path == "/oauth2/token"
}
