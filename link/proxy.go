package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxProxyAnswer bounds what is read of a proxy's answer.
const maxProxyAnswer = 64 << 10

// proxyError is the answer of a proxy that did not connect.
type proxyError struct {
	proxy, to string // without users and passwords
	status    int
	text      string
}

func (e *proxyError) Error() string {
	text := fmt.Sprintf("the proxy at %s does not connect to %s: it answers %s", e.proxy, e.to, e.text)
	if e.status == http.StatusProxyAuthRequired {
		text += "; its URL needs the right user and password"
	}
	return text
}

// turnedAway reports whether a proxy wants other credentials or has a rule against the hub. On the first connection that is
// a wrong setting; later it may pass.
func turnedAway(err error) bool {
	e, ok := errors.AsType[*proxyError](err)
	return ok && (e.status == http.StatusProxyAuthRequired || e.status == http.StatusForbidden)
}

// reach connects to addr, through a proxy if there is one for the hub's URL.
func (d *dialler) reach(ctx context.Context, addr string) (net.Conn, error) {
	proxy, err := d.proxy()
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostPort(proxy))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the proxy: %w", err)
	}
	// What is too slow is closed: nothing below has a deadline of its own.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	tunnel, err := d.tunnel(ctx, conn, proxy, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

// proxy returns the proxy for the hub's URL, or nil.
func (d *dialler) proxy() (*url.URL, error) {
	u, err := url.Parse(d.url)
	if err != nil {
		return nil, err
	}
	// Settings know http and https.
	u.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	proxy, err := d.opt.Proxy(&http.Request{URL: u})
	switch {
	case err != nil:
		// The error repeats the setting, which may hold a password.
		return nil, &configError{errors.New("the URL of the proxy cannot be parsed")}
	case proxy == nil:
		return nil, nil
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return nil, &configError{fmt.Errorf("cannot use the proxy at %s: its scheme is %q, and only http and https are known", proxy.Host, proxy.Scheme)}
	}
	return proxy, nil
}

// tunnel has the proxy at the other end of conn connect to addr. The caller closes conn after an error.
func (d *dialler) tunnel(ctx context.Context, conn net.Conn, proxy *url.URL, addr string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		secured := tls.Client(conn, &tls.Config{RootCAs: d.opt.RootCAs, ServerName: proxy.Hostname(), NextProtos: []string{"http/1.1"}})
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("cannot trust the proxy at %s: %w", proxy.Host, err)
		}
		conn = secured
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("cannot ask the proxy at %s: %w", proxy.Host, err)
	}
	br := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	resp, err := http.ReadResponse(br, req) //nolint:bodyclose // a tunnel has none, and after a refusal the connection is closed
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of the proxy at %s: %w", proxy.Host, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &proxyError{proxy: proxy.Host, to: addr, status: resp.StatusCode, text: resp.Status}
	}
	if br.Buffered() > 0 {
		// The hub speaks when it is spoken to, so this is not the hub.
		return nil, fmt.Errorf("the proxy at %s says more than its answer", proxy.Host)
	}
	return conn, nil
}

// hostPort is the address of a proxy.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}
