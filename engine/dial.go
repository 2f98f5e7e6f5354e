package engine

import (
	"context"
	"net"

	"github.com/sockerless/sockerless"
	"github.com/sockerless/sockerless/driver"
	"github.com/sockerless/sockerless/link"
)

// target is the agent of a run, for link.Dial, which tries again by itself.
func (r *run) target(d driver.Dialer, run driver.Run) link.Target {
	return link.Target{
		URL: "http://agent/agent", // the route of the agent's hub; the host is NetDial's to know
		NetDial: func(ctx context.Context) (net.Conn, error) {
			conn, err := d.Dial(ctx, run)
			if err != nil && sockerless.ErrorCode(err) != sockerless.EUNAVAILABLE {
				r.askSoon() // it may never be up
			}
			return conn, err
		},
	}
}
