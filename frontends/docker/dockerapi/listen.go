package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// maxSocketPath is what the systems' sockaddr_un holds: 108 bytes on Linux, 104 on macOS, one of them for the end.
const maxSocketPath = 103

// Listen listens on a Docker host's address: unix:///path, tcp://host:port or, on Windows, npipe:////./pipe/name.
// Nobody is asked for a password there, so tcp is for loopback addresses only, and a socket's file is for its owner and
// group (0660). A socket file that nobody answers on is replaced; closing the listener removes it.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		return nil, fmt.Errorf("cannot listen on %q: it must be unix:///path, tcp://host:port or npipe:////./pipe/name", addr)
	}
	switch scheme {
	case "unix":
		return listenUnix(ctx, rest)
	case "tcp":
		return listenTCP(ctx, addr)
	case "npipe":
		return listenPipe(strings.ReplaceAll(rest, "/", `\`))
	}
	return nil, fmt.Errorf("cannot listen on %q: %s is none of unix, tcp and npipe", addr, scheme)
}

func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	u, err := url.Parse(addr)
	if err != nil || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("cannot listen on %q: it must be tcp://host:port", addr)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("cannot listen on %s: the Docker API has no password, so it is served on loopback only: use tcp://127.0.0.1:%s", addr, u.Port())
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if path == "" {
		return nil, errors.New("cannot listen on unix://: it has no path")
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot listen on unix://%s: the path has %d bytes, a socket's may have %d", path, len(path), maxSocketPath)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	l, err := listenPrivately(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, errors.Join(err, l.Close()))
	}
	return l, nil
}

// clearStale removes a socket's file that nobody listens on.
func clearStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is a file of that name, and it is no socket")
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another program answers on it")
	case errors.Is(err, errRefused):
		return os.Remove(path)
	}
	return fmt.Errorf("cannot tell whether another program answers on it: %w", err)
}
