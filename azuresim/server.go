package azuresim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Listen says where a simulator is to be reached. Every address must be on loopback; port 0 takes a free one.
type Listen struct {
	HTTP  string // default 127.0.0.1:0
	HTTPS string // default 127.0.0.1:0
	DNS   string // default 127.0.0.1:0
}

// Server is a simulator with listeners. Close it before the simulator.
type Server struct {
	URL         string // http://127.0.0.1:PORT
	HTTPSURL    string // https://127.0.0.1:PORT
	CAFile      string // PEM of the authority that signed the https certificate
	LoginServer string // localhost:PORT, the registry's name in image references
	DNSAddr     string // 127.0.0.1:PORT, udp and tcp

	log      *slog.Logger
	mu       sync.Mutex
	servers  []*http.Server
	serving  sync.WaitGroup
	unlisten func() // no further servers come
	closeDNS func()
}

// Serve opens the listeners and answers on them until Server.Close. Call it before the first request, and once.
func (s *Simulator) Serve(l Listen) (*Server, error) {
	for _, addr := range []*string{&l.HTTP, &l.HTTPS, &l.DNS} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
		host, _, err := net.SplitHostPort(*addr)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %q: %w", *addr, err)
		}
		if !isLoopbackName(host) {
			return nil, fmt.Errorf("cannot listen on %s: the simulator is no security boundary and listens on loopback only", *addr)
		}
	}
	authority, err := openAuthority(s.dir, ownName)
	if err != nil {
		return nil, err
	}
	// Listening on loopback does not wait, so there is nothing to cancel.
	var config net.ListenConfig
	plain, err := config.Listen(context.Background(), "tcp", l.HTTP)
	if err != nil {
		return nil, fmt.Errorf("cannot serve http: %w", err)
	}
	secure, err := config.Listen(context.Background(), "tcp", l.HTTPS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot serve https: %w", err), plain.Close())
	}
	srv := &Server{CAFile: authority.file, log: s.log}
	if srv.DNSAddr, srv.closeDNS, err = s.zone.listen(l.DNS); err != nil {
		return nil, errors.Join(err, plain.Close(), secure.Close())
	}
	s.addr.set(plain.Addr().String(), secure.Addr().String())
	srv.URL, srv.HTTPSURL = "http://"+plain.Addr().String(), "https://"+secure.Addr().String()
	srv.LoginServer = "localhost:" + portOf(plain.Addr().String())
	s.logins.serve(srv.serve)
	srv.unlisten = func() { s.logins.serve(nil) }
	srv.serve(s, plain)
	srv.serve(s, tls.NewListener(secure, &tls.Config{GetCertificate: authority.certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}))
	return srv, nil
}

// serve answers on l until the server that it returns is closed, as Close does.
func (srv *Server) serve(h http.Handler, l net.Listener) *http.Server {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 256 << 10,
		ErrorLog: slog.NewLogLogger(srv.log.Handler(), slog.LevelDebug)}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.servers = append(srv.servers, server)
	srv.serving.Go(func() { // ends with the server
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			srv.log.Error("listener ended", "address", l.Addr().String(), "error", err)
		}
	})
	return server
}

// Close ends the listeners: what is being answered has a second to finish.
func (srv *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	srv.unlisten()
	srv.mu.Lock()
	defer srv.mu.Unlock()
	var err error
	for _, server := range srv.servers {
		if server.Shutdown(ctx) != nil {
			err = errors.Join(err, server.Close())
		}
	}
	srv.closeDNS()
	srv.serving.Wait()
	return err
}

// Environ is the environment of a program that uses this Azure: the settings of sockerless-backend-aca, and the
// operator's credentials for azidentity. It holds a secret.
func (s *Simulator) Environ(srv *Server) []string {
	w := s.world
	return []string{
		"SOCKERLESS_ENDPOINT_URL=" + srv.URL,
		"SOCKERLESS_CA_FILE=" + srv.CAFile,
		"SOCKERLESS_ACA_SUBSCRIPTION_ID=" + w.Subscription,
		"SOCKERLESS_ACA_RESOURCE_GROUP=" + w.ResourceGroup,
		"SOCKERLESS_ACA_ENVIRONMENT=" + w.Environment,
		"SOCKERLESS_ACA_LOCATION=" + w.Location,
		"SOCKERLESS_ACA_LOG_ANALYTICS_WORKSPACE=" + w.WorkspaceCustomerID,
		"SOCKERLESS_ACA_STORAGE_ACCOUNT=" + w.StorageAccount,
		"SOCKERLESS_ACA_IDENTITY=" + w.PullIdentityID(),
		"SOCKERLESS_ACA_ACR=" + srv.LoginServer,
		"SOCKERLESS_ACA_RESOLVER=" + srv.DNSAddr,
		"AZURE_TENANT_ID=" + w.Tenant,
		"AZURE_CLIENT_ID=" + s.operator.ClientID,
		"AZURE_CLIENT_SECRET=" + s.operator.Secret,
		"ACR_SERVER=" + srv.LoginServer,
	}
}

// TableURL is the address of a table in the storage account, whether it is there or not. It is https: Azure's clients
// show no token elsewhere.
func (s *Simulator) TableURL(srv *Server, table string) string {
	return srv.HTTPSURL + "/" + s.world.StorageAccount + "/" + table
}

// Push puts an image into the registry as NAME:TAG, with the operator's rights.
func (s *Simulator) Push(ctx context.Context, srv *Server, image string, content v1.Image) error {
	ref, err := name.NewTag(srv.LoginServer+"/"+image, name.Insecure)
	if err != nil {
		return fmt.Errorf("cannot push %s: %w", image, err)
	}
	token, err := s.registry.refreshToken(s.operator)
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	err = remote.Write(ref, content, remote.WithContext(ctx), remote.WithTransport(transport),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: acrTokenUser, Password: token})))
	if err != nil {
		return fmt.Errorf("cannot push %s: %w", image, err)
	}
	return nil
}
