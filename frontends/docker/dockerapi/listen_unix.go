//go:build !windows

package dockerapi

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// errRefused is how a socket answers that nobody listens on.
const errRefused = syscall.ECONNREFUSED

// listenPrivately makes a socket that only its owner may connect to until its mode is set: the umask, which is the whole
// process's, is what bind obeys.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o077))
	var config net.ListenConfig
	return config.Listen(ctx, "unix", path)
}

func listenPipe(string) (net.Listener, error) {
	return nil, errors.New("cannot listen on a named pipe: they are Windows'; use unix:///path")
}
