package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/sockerless/sockerless/agent/protocol"
	"github.com/sockerless/sockerless/link"
)

// reachTime is how long Reach tries. A replica's network may be some seconds late.
const reachTime = 10 * time.Second

// Reach dials the backend as an agent does, with the same settings, and says whether one answers: one of the exit
// codes of protocol.ReachCommand, and what went wrong. The proof of a run that the backend does not know is refused by
// the backend, and by nothing else.
func Reach(ctx context.Context, s Settings) (code int, reason error) {
	if s.Callback == "" {
		return protocol.ReachSettings, errors.New("SOCKERLESS_CALLBACK_URL is not set")
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	l, err := link.Dial(ctx, link.Target{URL: s.Callback}, link.Identity{Role: link.Agent, ID: s.RunID, Secret: s.Secret}, s.way())
	if err == nil {
		return protocol.Reached, l.Close()
	}
	return reached(err), err
}

// reached is the exit code of an error of Dial.
func reached(err error) int {
	var noName *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, link.ErrRefused):
		return protocol.Reached
	case errors.Is(err, link.ErrVersion):
		return protocol.ReachOtherAgent
	case errors.Is(err, link.ErrNoHub):
		return protocol.ReachNoHub
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return protocol.ReachUntrusted
	case errors.As(err, &noName):
		return protocol.ReachNoName
	}
	return protocol.ReachNoAnswer
}
