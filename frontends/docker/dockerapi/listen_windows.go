package dockerapi

import (
	"context"
	"fmt"
	"net"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// errRefused is how a socket answers that nobody listens on.
const errRefused = windows.WSAECONNREFUSED

// listenPrivately: the access to a socket's file follows its folder's on Windows.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "unix", path)
}

// listenPipe listens on a named pipe that its owner, administrators and the system may open.
func listenPipe(path string) (net.Listener, error) {
	l, err := winio.ListenPipe(path, &winio.PipeConfig{
		SecurityDescriptor: "D:P(A;;GA;;;OW)(A;;GA;;;BA)(A;;GA;;;SY)",
		MessageMode:        true, // in it a zero-byte message is a half-close
		InputBufferSize:    64 << 10,
		OutputBufferSize:   64 << 10,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, nil
}
