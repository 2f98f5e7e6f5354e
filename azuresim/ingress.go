package azuresim

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// ownSuffix is that of every name of this cloud: a replica's resolver leads all of them to the simulator.
const ownSuffix = "azuresim.internal"

// ownName tells whether a name is one of the cloud's own, which only the simulator answers for.
func ownName(name string) bool {
	return strings.HasSuffix(strings.ToLower(name), "."+ownSuffix)
}

// ingress is the way to an app from outside.
type ingress struct {
	Fqdn                   string          `json:"fqdn,omitempty"`
	External               bool            `json:"external"`
	TargetPort             int32           `json:"targetPort,omitempty"`
	ExposedPort            int32           `json:"exposedPort,omitempty"`
	Transport              string          `json:"transport,omitempty"`
	AllowInsecure          bool            `json:"allowInsecure"`
	Traffic                []trafficWeight `json:"traffic,omitempty"`
	ClientCertificateMode  string          `json:"clientCertificateMode,omitempty"`
	CustomDomains          json.RawMessage `json:"customDomains,omitempty"`
	IPSecurityRestrictions json.RawMessage `json:"ipSecurityRestrictions,omitempty"`
	AdditionalPortMappings json.RawMessage `json:"additionalPortMappings,omitempty"`
	StickySessions         json.RawMessage `json:"stickySessions,omitempty"`
	CorsPolicy             json.RawMessage `json:"corsPolicy,omitempty"`
}

type trafficWeight struct {
	RevisionName   string `json:"revisionName,omitempty"`
	Weight         int32  `json:"weight,omitempty"`
	LatestRevision bool   `json:"latestRevision,omitempty"`
	Label          string `json:"label,omitempty"`
}

func (i *ingress) check() error {
	i.Fqdn = "" // read-only
	if i.Transport == "" {
		i.Transport = "Auto"
	}
	i.Transport = strings.ToUpper(i.Transport[:1]) + strings.ToLower(i.Transport[1:]) // as Azure answers it
	switch {
	case i.TargetPort < 1 || i.TargetPort > 65535:
		return badRequest("ContainerAppInvalidIngressTargetPort", "The ingress targetPort '%d' is invalid. It must be from 1 to 65535.", i.TargetPort)
	case !i.External:
		return unsupported("ingress that is not external")
	case i.Transport == "Tcp" || i.Transport == "Http2":
		return unsupported("ingress with transport '" + i.Transport + "'")
	case i.Transport != "Auto" && i.Transport != "Http":
		return badRequest("ContainerAppInvalidPropertyValue", "The value '%s' of transport is invalid. Valid values are auto, http, http2, tcp.", i.Transport)
	case i.ExposedPort != 0:
		return badRequest("ContainerAppInvalidPropertyValue", "exposedPort must not be set with transport '%s'.", i.Transport)
	case i.ClientCertificateMode != "" && !strings.EqualFold(i.ClientCertificateMode, "ignore"):
		return unsupported("ingress with client certificates")
	}
	for what, raw := range map[string]json.RawMessage{"customDomains": i.CustomDomains, "ipSecurityRestrictions": i.IPSecurityRestrictions,
		"additionalPortMappings": i.AdditionalPortMappings, "stickySessions": i.StickySessions, "corsPolicy": i.CorsPolicy} {
		if given(raw) {
			return unsupported("ingress with " + what)
		}
	}
	i.CustomDomains, i.IPSecurityRestrictions, i.AdditionalPortMappings, i.StickySessions, i.CorsPolicy = nil, nil, nil, nil, nil
	if len(i.Traffic) == 0 {
		i.Traffic = []trafficWeight{{Weight: 100, LatestRevision: true}}
	}
	if len(i.Traffic) != 1 || i.Traffic[0].Weight != 100 || !i.Traffic[0].LatestRevision {
		return unsupported("traffic to other revisions than the latest")
	}
	return nil
}

// serveIngress answers what is asked of an environment's default domain: the apps there. It tells false if nothing is.
//
// On this machine nobody resolves that domain. So the simulator is also an HTTP proxy that leads there and nowhere else:
// HTTPS_PROXY set to its http address is what public DNS and the environment's static address are in Azure.
func (s *Simulator) serveIngress(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodConnect {
		s.serveTunnel(w, r)
		return true
	}
	app, ok := s.appAt(hostOf(r.Host))
	if !ok {
		return false
	}
	if app == nil {
		http.Error(w, "Error 404 - This Container App is stopped or does not exist.", http.StatusNotFound)
		return true
	}
	s.mu.Lock()
	ingress, proxy := app.body.Properties.Configuration.Ingress, app.serving()
	s.mu.Unlock()
	switch {
	case ingress == nil:
		http.Error(w, "Error 404 - This Container App has no ingress.", http.StatusNotFound)
	case r.TLS == nil && !ingress.AllowInsecure:
		http.Redirect(w, r, "https://"+hostOf(r.Host)+r.URL.RequestURI(), http.StatusMovedPermanently)
	case proxy == nil:
		http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
	default:
		proxy.ServeHTTP(w, r)
	}
	return true
}

// appAt finds the app that a host name names. ok tells that the name is in an environment's domain.
func (s *Simulator) appAt(host string) (a *app, ok bool) {
	name, domain, _ := strings.Cut(strings.ToLower(host), ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, env := range s.environments {
		if domain != env.domain() {
			continue
		}
		ok = true
		for _, a := range s.apps {
			if a.name == name && strings.EqualFold(a.body.Properties.environment(), env.ID) {
				return a, true
			}
		}
	}
	return nil, ok
}

// serveTunnel joins a client with the https listener, for the names of apps.
func (s *Simulator) serveTunnel(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	_, https := s.addr.get()
	if _, ok := s.appAt(host); err != nil || !ok || port != "443" || https == "" {
		http.Error(w, "azuresim is a proxy for port 443 of container apps alone", http.StatusForbidden)
		return
	}
	taken, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "this connection cannot be a tunnel", http.StatusInternalServerError)
		return
	}
	conn, buffered, err := taken.Hijack()
	if err != nil {
		return
	}
	if _, err := fmt.Fprint(conn, "HTTP/1.1 200 Connected\r\n\r\n"); err != nil || buffered.Reader.Buffered() > 0 {
		conn.Close() // a client waits for the answer before it says more
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // ends with the tunnel
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	forward(ctx, conn, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", https) })
}

// newProxy makes what passes requests on to a port of a replica, WebSockets included.
func newProxy(replica Replica, port uint16) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "replica"})
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return replica.DialContext(ctx, port) },
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "upstream connect error or disconnect/reset before headers: "+err.Error(), http.StatusServiceUnavailable)
		},
	}
}
